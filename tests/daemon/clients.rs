//! The formats of others, sent by their own clients: `PagerDuty`, `CloudEvents`, Alerta, Opsgenie.

use crate::http;
use crate::support::{BY_SERVICE, Daemon, Options, PROGRAM, SOON, eventually, run, source};
use crate::tools::{Receivers, alertmanager_with};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Where `tests/run` installs the clients: beside the folder of the program under test.
fn python() -> PathBuf {
    let target = Path::new(PROGRAM).ancestors().nth(2).unwrap();
    let python = target.join("clients/bin/python");
    assert!(
        python.exists(),
        "the clients of tests/clients/requirements.txt are not installed in `{}`: run tests/run, \
         or `tests/run --clients` to install them and no more",
        target.join("clients").display()
    );
    python
}

/// Runs a script of `tests/clients` against a daemon; gives what it printed.
pub(crate) fn client(daemon: &Daemon, script: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(python());
    command.arg(source().join("tests/clients").join(script));
    command.arg(format!("http://{}", daemon.address)).args(arguments);
    let printed = run(&mut command);
    assert_eq!(printed.code, 0, "{script} {arguments:?}: {}", printed.stderr);
    printed.stdout.trim().to_owned()
}

fn the_alert(daemon: &Daemon, state: &str) -> Value {
    eventually(&format!("the alert is {state}"), SOON, || {
        let found = daemon.items("/api/v1/alerts");
        assert!(found.len() <= 1, "one thing is one alert: {found:?}");
        found.into_iter().find(|it| it["state"] == state)
    })
}

#[test]
fn pdpyras_triggers_acknowledges_and_resolves() {
    let daemon = Daemon::start(BY_SERVICE);
    client(&daemon, "pagerduty.py", &["mistake"]);
    assert!(daemon.items("/api/v1/alerts").is_empty());
    let key = client(&daemon, "pagerduty.py", &["trigger"]);
    let alert = the_alert(&daemon, "firing");
    let labels = &alert["labels"];
    assert_eq!(labels["alertname"], "Disk full on db-1");
    assert_eq!((&labels["instance"], &labels["severity"]), (&json!("db-1"), &json!("critical")));
    assert_eq!(alert["sources"], json!(["pagerduty_events"]));
    let incident = daemon.incident_becomes("open", SOON);
    assert_eq!((&incident["alert_count"], &incident["severity"]), (&json!(1), &json!("critical")));
    client(&daemon, "pagerduty.py", &["acknowledge", &key]);
    daemon.incident_becomes("acknowledged", SOON);
    client(&daemon, "pagerduty.py", &["acknowledge", "nobody knows this"]);
    client(&daemon, "pagerduty.py", &["resolve", &key]);
    let over = the_alert(&daemon, "resolved");
    assert_eq!(over["annotations"]["summary"], "Disk full on db-1", "an end tells no texts");
    daemon.incident_becomes("resolved", SOON);
}

#[test]
fn an_alertmanager_pages_us_beside_its_webhook() {
    let daemon = Daemon::start(BY_SERVICE);
    let receivers = Receivers {
        webhook: format!("http://{}/ingest/alertmanager", daemon.address),
        pagerduty: Some(format!("http://{}/v2/enqueue", daemon.address)),
    };
    let neighbour = alertmanager_with(daemon.folder.path(), &receivers);
    let ends =
        |minutes| (jiff::Timestamp::now() + jiff::SignedDuration::from_mins(minutes)).to_string();
    let post = |end: String| {
        let labels = json!({"alertname": "ShopDown", "service": "shop", "severity": "critical"});
        let body = json!([{"labels": labels, "endsAt": end}]).to_string();
        let headers = [("content-type", "application/json")];
        let path = "/api/v2/alerts";
        let reply = http::send(neighbour.address, "POST", path, &headers, body.as_bytes());
        assert_eq!(reply.unwrap().status, 200);
    };
    let both_are = |state: &str| {
        eventually(&format!("both alerts are {state}"), SOON, || {
            let found = daemon.items("/api/v1/alerts");
            assert!(found.len() <= 2, "a page and a webhook: {found:?}");
            let all = found.len() == 2 && found.iter().all(|it| it["state"] == state);
            all.then_some(found)
        })
    };
    post(ends(10));
    let found = both_are("firing");
    let page = found.iter().find(|it| it["sources"] == json!(["pagerduty_events"])).unwrap();
    let hook = found.iter().find(|it| it["sources"] == json!(["alertmanager"])).unwrap();
    assert!(page["labels"]["alertname"].as_str().unwrap().contains("ShopDown"), "{page}");
    assert_eq!(hook["labels"]["alertname"], "ShopDown");
    assert_eq!(page["annotations"]["num_firing"], "1", "{page}");
    post(ends(0));
    both_are("resolved");
}

#[test]
fn a_routing_key_is_a_token_or_that_of_a_source() {
    let folder = TempDir::new().unwrap();
    let secret = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (admin, team) = (secret("admin", ADMIN), secret("team", "the-key-of-the-shop-team"));
    let viewer = secret("viewer", "viewer-0123456789abcdef0123456789abcdef");
    let daemon = Daemon::start_with(Options {
        rules: format!(
            "sources: [{{name: shop-team, like: pagerduty, token: {{file: '{team}'}}, \
             quota: {{count: 1, per: 1h}}}}]\n"
        ),
        settings: format!(
            "auth: {{tokens: [{{name: a, role: admin, token: {{file: '{admin}'}}}}, \
             {{name: v, role: viewer, token: {{file: '{viewer}'}}}}]}}\n"
        ),
        token: Some(ADMIN.to_owned()),
        ..Options::default()
    });
    let trigger = |key: &str| {
        let payload = json!({"summary": "Down", "source": "web-1", "severity": "critical"});
        let body = json!({"routing_key": key, "event_action": "trigger", "dedup_key": "one",
            "payload": payload});
        let json = [("content-type", "application/json")];
        http::send(daemon.address, "POST", "/v2/enqueue", &json, body.to_string().as_bytes())
            .unwrap()
    };
    for wrong in ["no such key", "viewer-0123456789abcdef0123456789abcdef"] {
        let reply = trigger(wrong);
        assert_eq!(reply.status, 401, "{}", reply.body);
        assert_eq!(reply.json()["errors"], json!(["'routing_key' is not known here"]));
    }
    let reply = trigger(ADMIN);
    assert_eq!((reply.status, &reply.json()["dedup_key"]), (202, &json!("one")));
    assert_eq!(trigger("the-key-of-the-shop-team").status, 202);
    assert_eq!(trigger("the-key-of-the-shop-team").status, 429);
    let mut sources = eventually("both senders' alerts are there", SOON, || {
        let found = daemon.items("/api/v1/alerts");
        (found.len() == 2)
            .then(|| found.iter().map(|it| it["sources"].to_string()).collect::<Vec<_>>())
    });
    sources.sort();
    assert_eq!(sources, [r#"["pagerduty_events"]"#, r#"["shop-team"]"#]);
}

#[test]
fn cloudevents_come_in_each_mode_and_once() {
    let daemon = Daemon::start(BY_SERVICE);
    client(&daemon, "cloud_events.py", &["fire"]);
    let alert = the_alert(&daemon, "firing");
    assert_eq!(alert["labels"]["alertname"], "db-1: Disk almost full");
    assert_eq!(
        (&alert["labels"]["host"], &alert["labels"]["severity"]),
        (&json!("db-1"), &json!("error"))
    );
    assert_eq!(alert["annotations"]["event_subject"], "db-1 \u{e4}");
    assert_eq!(alert["sources"], json!(["cloudevents"]));
    daemon.incident_becomes("open", SOON);
    let daemon = Daemon::start(BY_SERVICE);
    client(&daemon, "cloud_events.py", &["resolve"]);
    let alert = the_alert(&daemon, "resolved");
    assert_eq!(alert["count"], 1);
}

#[test]
fn a_declared_source_says_what_cloudevents_mean() {
    let rules = "
sources:
  - name: cloudevents
    map:
      status: \"body.type == 'up' ? 'resolved' : 'firing'\"
      title: body.data.what
      fingerprint: [body.source, body.subject]
";
    let daemon = Daemon::start(rules);
    let send = |kind: &str| {
        let event = json!({"specversion": "1.0", "id": kind, "source": "s", "subject": "x",
            "type": kind, "data": {"what": "Shop"}});
        let headers = [("content-type", "application/cloudevents+json")];
        let body = event.to_string();
        let reply = daemon.send("POST", "/ingest/cloudevents", &headers, body.as_bytes());
        assert_eq!(reply.status, 200, "{}", reply.body);
    };
    send("down");
    assert_eq!(the_alert(&daemon, "firing")["labels"], json!({"alertname": "Shop"}));
    send("up");
    the_alert(&daemon, "resolved");
}

#[test]
fn a_delivery_that_comes_again_is_taken_once() {
    let daemon = Daemon::start(BY_SERVICE);
    let send = |number: &str, state: &str| {
        let body = json!({"monitor": "Checkout", "severity": "major", "state": state}).to_string();
        let headers = [("content-type", "application/json"), ("idempotency-key", number)];
        let reply = daemon.send("POST", "/ingest/guess", &headers, body.as_bytes());
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.json()
    };
    assert_eq!(send("1", "triggered")["alerts"], 1);
    assert_eq!(send("2", "resolved")["alerts"], 1);
    assert_eq!(send("1", "triggered")["duplicate"], true);
    assert_eq!(the_alert(&daemon, "resolved")["count"], 1);
    assert_eq!(send("3", "triggered")["alerts"], 1);
    assert_eq!(the_alert(&daemon, "firing")["count"], 2);
}

const ADMIN: &str = "admin-0123456789abcdef0123456789abcdef";

/// A daemon that lets in nobody without the token of an administrator, or `SENDER` to deliver.
fn with_tokens(folder: &Path) -> Daemon {
    let token = |name: &str, role: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        format!("{{name: {name}, role: {role}, token: {{file: '{}'}}}}", path.display())
    };
    let tokens = [token("ada", "admin", ADMIN), token("sender", "ingest", SENDER)].join(", ");
    Daemon::start_with(Options {
        rules: BY_SERVICE.to_owned(),
        settings: format!("auth: {{tokens: [{tokens}]}}\n"),
        token: Some(ADMIN.to_owned()),
        ..Options::default()
    })
}

const SENDER: &str = "sender-0123456789abcdef0123456789abcdef";

#[test]
fn alerta_sends_and_acknowledges() {
    let folder = TempDir::new().unwrap();
    let daemon = with_tokens(folder.path());
    let id = client(&daemon, "alerta_send.py", &["fire", SENDER]);
    let alert = the_alert(&daemon, "firing");
    assert_eq!(alert["fingerprint"], json!(id));
    let labels = json!({"alertname": "NodeDown", "resource": "web-1", "service": "shop",
        "environment": "Production", "region": "eu-1", "severity": "critical"});
    assert_eq!(alert["labels"], labels);
    assert_eq!(alert["annotations"]["description"], "does not answer");
    daemon.incident_becomes("open", SOON);
    client(&daemon, "alerta_send.py", &["ack", ADMIN, &id]);
    daemon.incident_becomes("acknowledged", SOON);
    client(&daemon, "alerta_send.py", &["resolve", SENDER]);
    the_alert(&daemon, "resolved");
    let told = client(&daemon, "alerta_send.py", &["mistake", SENDER]);
    assert!(told.contains("Severity (bad) is not one of") && told.contains("timeout"), "{told}");
    let told = client(&daemon, "alerta_send.py", &["mistake", "no such key"]);
    assert!(told.contains("the token is not known"), "{told}");
}

#[test]
fn the_command_line_of_alerta_sends() {
    let daemon = Daemon::start(BY_SERVICE);
    let told = client(&daemon, "alerta_send.py", &["cli"]);
    let alert = the_alert(&daemon, "firing");
    let id = alert["fingerprint"].as_str().unwrap();
    assert!(told.contains(id) && told.contains("indeterminate -> major"), "{told}");
    assert!(alert["ends_at"].is_string(), "its timeout is an end: {alert}");
}

#[test]
fn the_sdk_of_opsgenie_creates_works_on_and_closes() {
    let folder = TempDir::new().unwrap();
    let daemon = with_tokens(folder.path());
    let opsgenie = |step: &str| client(&daemon, "opsgenie.py", &[step, ADMIN]);
    opsgenie("create");
    let alert = the_alert(&daemon, "firing");
    let labels = json!({"alertname": "Disk full on db-1", "entity": "db-1", "priority": "P2",
        "service": "shop", "severity": "error"});
    assert_eq!(alert["labels"], labels);
    daemon.incident_becomes("open", SOON);
    opsgenie("work");
    let incident = daemon.incident_becomes("acknowledged", SOON);
    assert_eq!(incident["owner"], "ada");
    opsgenie("close");
    the_alert(&daemon, "resolved");
    let incident = daemon.incident_becomes("resolved", SOON);
    let id = incident["id"].as_str().unwrap();
    let timeline = daemon.get(&format!("/api/v1/incidents/{id}"))["timeline"].to_string();
    for note in ["looking at the logs", "cleaned up"] {
        assert!(timeline.contains(note), "{timeline}");
    }
    client(&daemon, "opsgenie.py", &["mistake", SENDER, "422"]);
    client(&daemon, "opsgenie.py", &["mistake", "no such key", "401"]);
}

#[test]
fn the_sdk_of_opsgenie_pings() {
    let daemon = Daemon::start("heartbeats: [{name: backup, every: 10m}]\n");
    client(&daemon, "opsgenie.py", &["ping", "any"]);
    let found = daemon.get("/api/v1/heartbeats/backup");
    assert_eq!(found["state"], "up", "{found}");
}

#[test]
fn cloudevents_may_need_a_proof_and_no_mapping() {
    let folder = TempDir::new().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "a-key").unwrap();
    let daemon = Daemon::start(&format!(
        "sources: [{{name: cloudevents, token: {{file: '{}'}}}}]\n",
        secret.display()
    ));
    let event = json!({"specversion": "1.0", "id": "1", "source": "s", "type": "alert.fired"});
    let send = |token: &str| {
        let headers = [("content-type", "application/cloudevents+json"), ("authorization", token)];
        let body = event.to_string();
        daemon.send("POST", "/ingest/cloudevents", &headers, body.as_bytes()).status
    };
    assert_eq!((send("Bearer other"), send("Bearer a-key")), (401, 200));
    the_alert(&daemon, "firing");
}

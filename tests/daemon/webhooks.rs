//! Webhooks of any tool: built-in and declared mappings, the general mapper, proofs and quotas.

use crate::http;
use crate::support::{BY_SERVICE, Daemon, Options, SOON, eventually, program};
use serde_json::{Value, json};
use std::fs;
use tempfile::TempDir;

fn alerts(daemon: &Daemon) -> Vec<Value> {
    daemon.items("/api/v1/alerts")
}

fn becomes(daemon: &Daemon, state: &str) -> Value {
    eventually("the alert changes its state", SOON, || {
        let found = alerts(daemon);
        assert!(found.len() <= 1, "one thing is one alert: {found:?}");
        found.into_iter().find(|it| it["state"] == state)
    })
}

#[test]
fn the_resolved_body_ends_what_the_fired_body_began() {
    let daemon = Daemon::start(BY_SERVICE);
    let check = |state: &str, level: &str| {
        json!({"check_id": 7, "check_name": "shop", "check_type": "HTTP", "current_state": state,
            "importance_level": level, "state_changed_timestamp": 1_795_341_600,
            "check_params": {"hostname": "shop.example.org"}})
    };
    let reply = daemon.done("/ingest/pingdom", &check("DOWN", "LOW"));
    assert_eq!(reply, json!({"status": "ok", "alerts": 1, "changes": 0, "left_out": 0}));
    let alert = becomes(&daemon, "firing");
    assert_eq!(alert["labels"]["severity"], "warning");
    assert_eq!(alert["sources"], json!(["pingdom"]));
    let incident = daemon.incident_becomes("open", SOON);
    assert_eq!((&incident["alert_count"], &incident["severity"]), (&json!(1), &json!("warning")));
    // Another severity does not make it another alert, but the incident is as bad as that.
    daemon.done("/ingest/pingdom", &check("DOWN", "HIGH"));
    let incident = daemon.incident_becomes("open", SOON);
    assert_eq!((&incident["alert_count"], &incident["severity"]), (&json!(1), &json!("critical")));
    assert_eq!(becomes(&daemon, "firing")["labels"]["severity"], "critical");
    daemon.done("/ingest/pingdom", &check("UP", "LOW"));
    becomes(&daemon, "resolved");
    daemon.incident_becomes("resolved", SOON);
}

#[test]
fn a_body_of_an_unknown_tool_is_guessed_and_kept() {
    let daemon = Daemon::start(BY_SERVICE);
    let body = |state: &str| {
        json!({"monitor": {"id": 9, "name": "Checkout is slow"}, "severity": "major",
            "state": state, "host": "web-1"})
    };
    daemon.done("/ingest/guess", &body("triggered"));
    let alert = becomes(&daemon, "firing");
    assert_eq!(alert["labels"]["mapped_by"], "guess");
    assert_eq!(alert["labels"]["severity"], "error");
    assert_eq!(alert["labels"]["alertname"], "Checkout is slow");
    let raw: Value = serde_json::from_str(alert["annotations"]["raw"].as_str().unwrap()).unwrap();
    assert_eq!(raw, body("triggered"));
    daemon.done("/ingest/guess", &body("recovered"));
    becomes(&daemon, "resolved");
    let push = json!({"repository": {"name": "a"}, "commits": [], "pusher": {"name": "b"}});
    let reply = daemon.post("/ingest/guess", &push);
    assert!(reply.status == 200 || reply.status == 400, "{}", reply.body);
    assert_eq!(alerts(&daemon).len(), 1, "a push is no alert");
    for body in ["", "nonsense", "[]", "7"] {
        let json = ("content-type", "application/json");
        let reply = daemon.send("POST", "/ingest/guess", &[json], body.as_bytes());
        assert_eq!(reply.status, 400, "`{body}`: {}", reply.body);
        assert!(reply.json()["error"]["message"].as_str().unwrap().len() > 10);
    }
}

#[test]
fn forms_and_wrapped_bodies_are_read() {
    let daemon = Daemon::start(BY_SERVICE);
    let form = ("content-type", "application/x-www-form-urlencoded");
    let body = "payload=%7B%22alert_name%22%3A%22Queue%22%2C%22status%22%3A%22open%22%7D";
    let reply = daemon.send("POST", "/ingest/guess", &[form], body.as_bytes());
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(becomes(&daemon, "firing")["labels"]["alertname"], "Queue");
}

#[test]
fn plain_texts_are_guessed_and_markup_is_refused() {
    let daemon = Daemon::start(BY_SERVICE);
    let send = |kind: &str, body: &str| {
        daemon.send("POST", "/ingest/guess", &[("content-type", kind)], body.as_bytes())
    };
    let reply = send("text/plain; charset=utf-8", "CRITICAL: Queue of web-1 is down\n");
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(becomes(&daemon, "firing")["labels"]["mapped_by"], "guess");
    let reply = send("application/x-www-form-urlencoded", "RESOLVED: Queue of web-1 is up");
    assert_eq!(reply.status, 200, "{}", reply.body);
    becomes(&daemon, "resolved");
    let reply = send("application/xml", "<alarm><name>Queue</name></alarm>");
    assert_eq!(reply.status, 400);
    assert!(reply.body.contains("XML or HTML"), "{}", reply.body);
    assert_eq!(alerts(&daemon).len(), 1);
}

#[test]
fn a_deployment_of_an_unknown_tool_is_a_change() {
    let daemon = Daemon::start(BY_SERVICE);
    let body = |event: &str| {
        json!({"event": event, "deployment": {"id": 812, "service": "shop", "version": "1.4.2",
            "user": "ann"}})
    };
    for (event, state) in [("deployment.started", "running"), ("deployment.finished", "done")] {
        let reply = daemon.post("/ingest/guess", &body(event));
        assert_eq!((reply.status, &reply.json()["changes"]), (200, &json!(1)), "{}", reply.body);
        let listing = daemon.get("/api/v1/changes");
        let changes = listing["items"].as_array().unwrap();
        assert_eq!(changes.len(), 1, "{listing}");
        assert_eq!((&changes[0]["state"], &changes[0]["service"]), (&json!(state), &json!("shop")));
        assert_eq!(
            (&changes[0]["version"], &changes[0]["author"]),
            (&json!("1.4.2"), &json!("ann"))
        );
    }
    assert_eq!(alerts(&daemon).len(), 0);
}

const DECLARED: &str = "
sources:
  - name: shop
    hmac: {style: github, secret: {file: 'SECRET'}}
    quota: {count: 3, per: 1h}
    map:
      each: body.list
      status: \"item.ok ? 'resolved' : 'firing'\"
      fingerprint: item.id
      labels: {alertname: item.name, service: \"headers['x-service']\"}
";

/// `{\"list\": …}` signed with `key`, by `openssl dgst -sha256 -hmac key`.
const BODY: &str = r#"{"list":[{"id":1,"name":"Down","ok":false},{"id":2,"ok":true}]}"#;
const SIGNATURE: &str = "sha256=fca311cd7fa7552a1a26f1a25dda7a0269b3ca5a26b54d2caf69c9f45abe5609";

#[test]
fn a_declared_source_needs_its_proof_and_no_token() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("secret"), "key\n").unwrap();
    fs::write(path("token"), "admin-0123456789abcdef0123456789abcdef").unwrap();
    let token = path("token").display().to_string();
    let daemon = Daemon::start_with(Options {
        rules: DECLARED.replace("SECRET", &path("secret").display().to_string()),
        settings: format!(
            "auth: {{tokens: [{{name: a, role: admin, token: {{file: '{token}'}}}}]}}\n"
        ),
        token: Some("admin-0123456789abcdef0123456789abcdef".to_owned()),
        ..Options::default()
    });
    let send = |path: &str, signature: Option<&str>| {
        let mut headers = vec![("content-type", "application/json"), ("x-service", "shop")];
        headers.extend(signature.map(|it| ("x-hub-signature-256", it)));
        http::send(daemon.address, "POST", path, &headers, BODY.as_bytes()).unwrap()
    };
    assert_eq!(send("/ingest/shop", None).status, 401);
    let wrong = SIGNATURE.replace('4', "5");
    assert_eq!(send("/ingest/shop", Some(&wrong)).status, 401);
    assert_eq!(send("/ingest/guess", Some(SIGNATURE)).status, 401, "others need a token");
    assert!(alerts(&daemon).is_empty());
    // The second entry has no name: it is refused, and the first one kept.
    let reply = send("/ingest/shop", Some(SIGNATURE));
    assert_eq!(reply.status, 400, "{}", reply.body);
    assert!(reply.body.contains("alert 1: nothing names it"), "{}", reply.body);
    assert_eq!(
        becomes(&daemon, "firing")["labels"],
        json!({"alertname": "Down", "service": "shop"})
    );
    for _ in 0..2 {
        assert_eq!(send("/ingest/shop", Some(SIGNATURE)).status, 400);
    }
    let reply = send("/ingest/shop", Some(SIGNATURE));
    assert_eq!(reply.status, 429, "{}", reply.body);
    let wait: u64 = reply.headers["retry-after"].parse().unwrap();
    assert!((1..=3600).contains(&wait), "{wait}");
}

#[test]
fn a_body_is_tried_without_a_daemon() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("body.json");
    fs::write(
        &file,
        r#"{"monitor_name": "Shop", "status": "down", "url": "https://x.example.org/1"}"#,
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let rules = folder.path().join("rules").display().to_string();
    let printed = program(&["source", "try", file, "--guess", "--rules", &rules, "-o", "json"]);
    assert_eq!(printed.code, 0, "{}", printed.stderr);
    let found: Value = serde_json::from_str(&printed.stdout).unwrap();
    let item = &found["items"][0];
    assert_eq!((&item["kind"], &item["state"]), (&json!("alert"), &json!("firing")));
    assert_eq!((&item["title"], &item["severity"]), (&json!("Shop"), &json!("warning")));
    assert_eq!(item["fingerprint"].as_str().unwrap().len(), 16);
    let printed = program(&["source", "suggest", file, "--name", "mine"]);
    fs::create_dir(&rules).unwrap();
    fs::write(format!("{rules}/mine.yaml"), &printed.stdout).unwrap();
    let printed = program(&["source", "try", file, "--source", "mine", "--rules", &rules]);
    assert_eq!(printed.code, 0, "{}", printed.stderr);
    assert!(
        printed.stdout.contains("alert  Shop") && printed.stdout.contains("firing"),
        "{}",
        printed.stdout
    );
    let printed = program(&["source", "list", "--rules", &rules]);
    assert!(
        printed.stdout.contains("mine") && printed.stdout.contains("pagerduty"),
        "{}",
        printed.stdout
    );
    fs::write(file, "{}").unwrap();
    let printed = program(&["source", "try", file]);
    assert_eq!(printed.code, 1);
    assert!(printed.stderr.contains("nothing in the body names an alert"), "{}", printed.stderr);
    assert_eq!(program(&["source", "try", file, "--source", "no-such"]).code, 2);
}

#[test]
fn a_signed_body_that_somebody_repeats_is_taken_once() {
    let folder = TempDir::new().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "key").unwrap();
    let daemon = Daemon::start(&format!(
        "sources: [{{name: pingdom, hmac: {{style: standard, secret: {{file: '{}'}}}}}}]\n",
        secret.display()
    ));
    let now = jiff::Timestamp::now().as_second();
    let count = std::cell::Cell::new(0);
    let send = |id: &str, time: i64, state: &str| {
        // What is not signed can be changed by whoever repeats.
        count.set(count.get() + 1);
        let other = count.get().to_string();
        let body = json!({"check_id": 7, "check_name": "shop", "check_type": "HTTP",
            "current_state": state, "importance_level": "LOW", "check_params": {"hostname": "x"},
            "state_changed_timestamp": 1_795_341_600});
        let body = body.to_string();
        let hex = crate::changes::sign("key", &format!("{id}.{time}.{body}"));
        let bytes = hex
            .trim_start_matches("sha256=")
            .as_bytes()
            .chunks(2)
            .map(|it| u8::from_str_radix(std::str::from_utf8(it).unwrap(), 16).unwrap());
        let signature = format!("v1,{}", base64(&bytes.collect::<Vec<_>>()));
        let time = time.to_string();
        let headers = [
            ("content-type", "application/json"),
            ("webhook-id", id),
            ("webhook-timestamp", time.as_str()),
            ("webhook-signature", signature.as_str()),
            ("idempotency-key", other.as_str()),
        ];
        daemon.send("POST", "/ingest/pingdom", &headers, body.as_bytes())
    };
    assert_eq!(send("one", now, "DOWN").json()["alerts"], 1);
    assert_eq!(send("two", now, "UP").json()["alerts"], 1);
    assert_eq!(send("one", now, "DOWN").json()["duplicate"], true);
    assert_eq!(send("three", now - 400, "DOWN").status, 401);
    assert_eq!(becomes(&daemon, "resolved")["count"], 1);
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for part in bytes.chunks(3) {
        let bits = part.iter().fold(0_u32, |bits, it| bits << 8 | u32::from(*it));
        let bits = bits << (8 * (3 - part.len()));
        for place in 0..=part.len() {
            text.push(char::from(LETTERS[(bits >> (18 - 6 * place)) as usize & 63]));
        }
    }
    text + &"=".repeat((3 - bytes.len() % 3) % 3)
}

#[test]
fn what_is_not_understood_is_kept_until_its_mapping_is_mended() {
    let rules = |title: &str| {
        format!(
            "sources: [{{name: shop, map: {{each: body.list, status: \"'firing'\", \
             title: {title}}}}}]\n"
        )
    };
    let mut daemon = Daemon::start(&rules("item.title"));
    let body = json!({"list": [{"name": "Queue\u{9b}2J"}, {"name": "Disk", "title": "Disk"}]});
    let reply = daemon.post("/ingest/shop", &body);
    assert_eq!(reply.status, 400, "{}", reply.body);
    assert_eq!(alerts(&daemon).len(), 1, "its neighbour is taken");
    let id = reply.json()["error"]["quarantined"].as_str().unwrap().to_owned();
    daemon.post("/ingest/shop", &body);
    let strange = daemon.post("/ingest/guess", &json!({"colour": 7}));
    assert_eq!(strange.status, 400);
    for broken in ["", "{", "nonsense"] {
        let json = ("content-type", "application/json");
        let reply = daemon.send("POST", "/ingest/shop", &[json], broken.as_bytes());
        assert_eq!((reply.status, reply.json()["error"].get("quarantined")), (400, None));
    }
    let kept = daemon.items("/api/v1/quarantine");
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert_eq!((&kept[1]["id"], &kept[1]["count"]), (&json!(id), &json!(2)));
    assert!(kept[1]["reason"].as_str().unwrap().contains("no `title`"), "{kept:?}");
    assert!(kept[1].get("body").is_none());
    let counted = |source| daemon.metric("watchkeeper_bodies_quarantined_total", &[source]);
    assert!((counted(("source", "shop")) - 2.0).abs() < 1e-9);
    assert!((counted(("source", "guess")) - 1.0).abs() < 1e-9);

    daemon.kill_9();
    daemon.restart();
    let printed = daemon.cli(&["source", "quarantine", "list"]);
    assert!(printed.stdout.contains(&id) && printed.stdout.contains("shop"), "{printed:?}");
    let printed = daemon.cli(&["source", "quarantine", "show", &id]);
    assert!(printed.stdout.contains("Queue") && !printed.stdout.contains('\u{9b}'), "{printed:?}");
    let shown = daemon.get(&format!("/api/v1/quarantine/{id}"));
    assert_eq!(shown["body"], json!(body.to_string()));
    for id in ["nobody", "..%2f..%2flisten"] {
        let reply = daemon.send("GET", &format!("/api/v1/quarantine/{id}"), &[], b"");
        assert_eq!(reply.status, 404, "{}", reply.body);
    }

    let folder = daemon.rules().display().to_string();
    let again = ["source", "try", "--quarantined", &id, "--rules", &folder, "-o", "json"];
    assert_eq!(daemon.cli(&again).code, 1, "not mended yet");
    daemon.write_rules(&rules("item.name"));
    let printed = daemon.cli(&again);
    assert_eq!(printed.code, 0, "{printed:?}");
    let found: Value = serde_json::from_str(&printed.stdout).unwrap();
    assert_eq!(found["items"].as_array().unwrap().len(), 2);
}

#[test]
fn bodies_for_other_services_are_tried_as_their_doors_read_them() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("body.json");
    let title = |source: &str, body: &Value| {
        fs::write(&file, body.to_string()).unwrap();
        let file = file.to_str().unwrap();
        let printed = program(&["source", "try", file, "--source", source, "-o", "json"]);
        assert_eq!(printed.code, 0, "{source}: {}", printed.stderr);
        let found: Value = serde_json::from_str(&printed.stdout).unwrap();
        let item = &found["items"][0];
        ["kind", "title", "state", "severity"].map(|it| item[it].as_str().unwrap().to_owned())
    };
    let payload = json!({"summary": "Disk full", "source": "web-1", "severity": "critical"});
    let trigger = json!({"routing_key": "k", "event_action": "trigger", "dedup_key": "d",
        "payload": payload});
    assert_eq!(title("pagerduty_events", &trigger), ["alert", "Disk full", "firing", "critical"]);
    let known =
        |action: &str| json!({"routing_key": "k", "event_action": action, "dedup_key": "d"});
    assert_eq!(title("pagerduty_events", &known("resolve"))[2], "resolved");
    assert_eq!(title("pagerduty_events", &known("acknowledge"))[2], "firing");
    let change = json!({"routing_key": "k", "payload": {"summary": "Deployed 7"}});
    assert_eq!(title("pagerduty_events", &change)[..2], ["change", "Deployed 7"]);
    let alerta = json!({"resource": "web-1", "event": "HttpDown", "severity": "major"});
    assert_eq!(title("alerta", &alerta), ["alert", "HttpDown", "firing", "error"]);
    let opsgenie = json!({"message": "Queue is long", "priority": "P1"});
    assert_eq!(title("opsgenie_api", &opsgenie), ["alert", "Queue is long", "firing", "critical"]);
    let event = json!({"specversion": "1.0", "id": "1", "source": "/shop", "type": "shop.alert.fired",
        "data": {"title": "Queue is long", "severity": "critical"}});
    for body in [&event, &json!([event])] {
        assert_eq!(title("cloudevents", body), ["alert", "Queue is long", "firing", "critical"]);
    }
    fs::write(&file, "{}").unwrap();
    for source in ["pagerduty_events", "alerta", "opsgenie_api", "cloudevents"] {
        let printed = program(&["source", "try", file.to_str().unwrap(), "--source", source]);
        assert_eq!(printed.code, 1, "{source}: {printed:?}");
    }
}

#[test]
fn sources_that_nobody_declared_have_quotas_as_well() {
    let sources = ["guess", "datadog", "cloudevents", "prometheus", "alerta"];
    let quotas = sources.map(|it| format!("{it}: {{count: 1, per: 1h}}")).join(", ");
    let daemon = Daemon::start_with(Options {
        rules: BY_SERVICE.to_owned(),
        settings: format!("server: {{quotas: {{{quotas}}}}}\n"),
        ..Options::default()
    });
    let event = json!({"specversion": "1.0", "id": "1", "source": "/shop", "type": "shop.sold"});
    let guess = json!({"monitor_name": "Shop", "status": "down"});
    let alert = json!([{"labels": {"alertname": "Down"}}]);
    let alerta = json!({"resource": "web-1", "event": "HttpDown"});
    for (path, body, (first, second)) in [
        ("/ingest/guess", &guess, (200, 429)),
        // What is used up is used up, whatever came of it.
        ("/ingest/datadog", &json!({}), (400, 429)),
        ("/ingest/cloudevents", &event, (200, 429)),
        ("/api/v2/alerts", &alert, (200, 503)),
        ("/alert", &alerta, (201, 503)),
        ("/ingest/pagerduty", &json!({}), (400, 400)),
    ] {
        let kind = if path.ends_with("cloudevents") { "cloudevents+json" } else { "json" };
        let kind = format!("application/{kind}");
        let send = || {
            let headers = [("content-type", kind.as_str())];
            daemon.send("POST", path, &headers, body.to_string().as_bytes())
        };
        let replies = [send(), send()];
        assert_eq!((replies[0].status, replies[1].status), (first, second), "{path}: {replies:?}");
        if second != 400 {
            assert!(replies[1].headers.contains_key("retry-after"), "{path}");
        }
    }
}

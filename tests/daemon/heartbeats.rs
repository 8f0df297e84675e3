//! Heartbeats by plain HTTP: pings as cron jobs and healthchecks' clients send them, and Opsgenie's.

use crate::http;
use crate::support::{BY_SERVICE, Daemon, Options, SOON, eventually, program};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;
use tempfile::TempDir;

const RUN: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";

fn rules(extra: &str) -> String {
    format!(
        "{BY_SERVICE}
heartbeats:
  - {{name: backup, every: 1h, grace: 10m, labels: {{service: backup}}}}
  - {{name: quick, every: 1s, grace: 1s, severity: critical, labels: {{service: quick}}}}
{extra}"
    )
}

fn show(daemon: &Daemon, name: &str) -> Value {
    daemon.send("GET", &format!("/api/v1/heartbeats/{name}"), &[], b"").json()
}

fn alerts(daemon: &Daemon, name: &str) -> Vec<Value> {
    let mut alerts = daemon.items("/api/v1/alerts");
    alerts.retain(|it| it["labels"]["heartbeat"] == name);
    alerts
}

fn becomes(daemon: &Daemon, name: &str, state: &str) -> Value {
    eventually(&format!("{name} is {state}"), SOON, || {
        let heartbeat = show(daemon, name);
        (heartbeat["state"] == state).then_some(heartbeat)
    })
}

#[test]
fn a_job_pings_as_it_would_ping_healthchecks() {
    let mut daemon = Daemon::start(&rules(""));
    assert_eq!(show(&daemon, "backup")["state"], "new");
    let ping = |daemon: &Daemon, method: &str, path: &str, body: &[u8]| {
        http::send(daemon.address, method, path, &[], body).unwrap()
    };
    let reply = ping(&daemon, "GET", "/heartbeat/backup/start", b"");
    assert_eq!((reply.status, reply.body.as_str()), (200, "OK"));
    assert_eq!(reply.headers["ping-body-limit"], "8192");
    assert_eq!(show(&daemon, "backup")["state"], "started");
    assert_eq!(ping(&daemon, "HEAD", "/heartbeat/backup", b"").status, 200);
    let heartbeat = show(&daemon, "backup");
    assert_eq!(
        (&heartbeat["state"], &heartbeat["last_duration_seconds"]),
        (&json!("up"), &json!(0))
    );
    // A failure keeps the first part of what the job wrote, and no control character of it.
    let output = [b"no space\x1b[31m left\n".as_slice(), &vec![b'x'; 100_000]].concat();
    let path = format!("/heartbeat/backup/3?rid={RUN}");
    assert_eq!(ping(&daemon, "POST", &path, &output).status, 200);
    let heartbeat = show(&daemon, "backup");
    assert_eq!((&heartbeat["state"], &heartbeat["reason"]), (&json!("down"), &json!("failed")));
    let alert = alerts(&daemon, "backup").remove(0);
    assert_eq!(alert["fingerprint"], heartbeat["alert"]);
    assert_eq!(alert["annotations"]["exit_code"], "3");
    let kept = alert["annotations"]["output"].as_str().unwrap();
    assert!(
        kept.starts_with("no space\u{fffd}[31m left\n") && kept.len() <= 8192,
        "{}",
        kept.len()
    );
    let incident = daemon.incident_becomes("open", SOON);
    assert_eq!(incident["title"], "HeartbeatDown on backup");
    // It is on disk, as everything that got its 200.
    daemon.kill_9();
    daemon.restart();
    assert_eq!(show(&daemon, "backup")["state"], "down");
    assert_eq!(ping(&daemon, "GET", "/heartbeat/backup/0", b"").status, 200);
    daemon.incident_becomes("resolved", SOON);
    for (path, status) in [
        ("/heartbeat/nobody", 404),
        ("/heartbeat/backup/stop", 400),
        ("/heartbeat/backup/256", 400),
        ("/heartbeat/backup?rid=7", 400),
    ] {
        let reply = ping(&daemon, "POST", path, b"");
        assert_eq!(reply.status, status, "{path}: {}", reply.body);
        assert!(reply.json()["error"]["hint"].as_str().unwrap().len() > 10, "{}", reply.body);
    }
    let page = daemon.send("GET", "/metrics", &[], b"").body;
    for line in [
        "watchkeeper_heartbeats{state=\"up\"} 1",
        "watchkeeper_heartbeat_pings_total{signal=\"success\"} 1",
    ] {
        assert!(page.lines().any(|it| it == line), "{line} is not in\n{page}");
    }
}

#[test]
fn what_is_missed_is_an_incident_until_it_is_heard_from() {
    let daemon = Daemon::start(&rules(""));
    assert_eq!(daemon.send("GET", "/heartbeat/quick", &[], b"").status, 200);
    let heartbeat = becomes(&daemon, "quick", "down");
    assert_eq!(heartbeat["reason"], "missed");
    let incident = daemon.incident_becomes("open", SOON);
    assert_eq!((&incident["severity"], &incident["alert_count"]), (&json!("critical"), &json!(1)));
    let url = format!("http://{}", daemon.address);
    let printed = program(&["heartbeat", "list", "--server", &url]);
    assert!(printed.stdout.contains("quick") && printed.stdout.contains("missed"), "{printed:?}");
    let printed = program(&["heartbeat", "pause", "quick", "--by", "ann", "--server", &url]);
    assert_eq!(printed.code, 0, "{}", printed.stderr);
    daemon.incident_becomes("resolved", SOON);
    let printed = program(&["heartbeat", "show", "quick", "-o", "json", "--server", &url]);
    let shown: Value = serde_json::from_str(&printed.stdout).unwrap();
    assert_eq!(shown["state"], "paused", "{shown}");
    assert_eq!(program(&["heartbeat", "show", "x", "--server", &url]).code, 1);
}

#[test]
fn curl_and_opsgenies_clients_are_understood() {
    let daemon = Daemon::start(&rules(""));
    let url = |path: &str| format!("http://{}{path}", daemon.address);
    let curl = |arguments: &[&str]| {
        let output = Command::new("curl").args(["-fsS", "-m", "10"]).args(arguments).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    // The line that healthchecks.io recommends.
    assert_eq!(curl(&["--retry", "5", &url("/heartbeat/backup")]), "OK");
    assert_eq!(curl(&["--data-raw", "some output", &url("/heartbeat/backup/1")]), "OK");
    assert_eq!(alerts(&daemon, "backup")[0]["annotations"]["output"], "some output");
    for method in ["GET", "POST", "PUT", "PATCH"] {
        let reply = daemon.send(method, "/v2/heartbeats/backup/ping", &[], b"");
        assert_eq!(reply.status, 202, "{method}: {}", reply.body);
        let body = reply.json();
        assert_eq!(body["result"], "PONG - Heartbeat received");
        assert!(body["requestId"].as_str().unwrap().len() == 36 && body["took"].is_number());
    }
    assert_eq!(show(&daemon, "backup")["state"], "up");
    let reply = daemon.send("POST", "/v2/heartbeats/nobody/ping", &[], b"");
    assert_eq!(reply.status, 404, "{}", reply.body);
    assert!(reply.json()["requestId"].is_string());
}

#[test]
fn a_ping_needs_what_its_heartbeat_asks_for_and_no_page_sends_it() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let tokens = ["admin", "ingest"].map(|role| format!("{role}-0123456789abcdef0123456789abcdef"));
    fs::write(path("key"), "sesame\n").unwrap();
    for (role, token) in ["admin", "ingest"].iter().zip(&tokens) {
        fs::write(path(role), token).unwrap();
    }
    let own = format!("  - {{name: own, every: 1h, token: {{file: '{}'}}}}\n", path("key"));
    let token =
        |role: &str| format!("{{name: {role}, role: {role}, token: {{file: '{}'}}}}", path(role));
    let daemon = Daemon::start_with(Options {
        rules: rules(&own),
        settings: format!("auth: {{tokens: [{}, {}]}}\n", token("admin"), token("ingest")),
        token: Some(tokens[0].clone()),
        ..Options::default()
    });
    let send = |path: &str, header: (&str, &str)| {
        http::send(daemon.address, "GET", path, &[header], b"").unwrap().status
    };
    let none = ("accept", "*/*");
    let bearer = format!("Bearer {}", tokens[1]);
    let by_token = format!("/ping/{}/backup", tokens[1]);
    for (path, header, status) in [
        ("/heartbeat/backup", none, 401),
        ("/heartbeat/backup", ("authorization", bearer.as_str()), 200),
        ("/heartbeat/nobody", none, 401),
        ("/heartbeat/own", none, 401),
        ("/heartbeat/own/start", ("authorization", "Bearer sesame"), 200),
        ("/heartbeat/own?key=sesame", none, 200),
        ("/heartbeat/own?key=other", none, 401),
        // As healthchecks.io has it.
        ("/ping/sesame/own", none, 200),
        ("/ping/sesame/own/start", none, 200),
        ("/ping/sesame/own/stop", none, 400),
        ("/ping/other/own", none, 404),
        ("/ping/sesame/backup", none, 404),
        ("/ping/sesame", none, 404),
        (by_token.as_str(), none, 200),
        ("/ping/sesame/own", ("sec-fetch-site", "cross-site"), 403),
        ("/ping/sesame/own", ("origin", "http://evil.example"), 403),
        ("/v2/heartbeats/own/ping", ("authorization", "GenieKey sesame"), 202),
        ("/v2/heartbeats/own/ping", ("authorization", "GenieKey other"), 401),
        // An image on a foreign page asks without an `Origin`.
        ("/heartbeat/own?key=sesame", ("sec-fetch-site", "cross-site"), 403),
        ("/heartbeat/own?key=sesame", ("origin", "http://evil.example"), 403),
    ] {
        assert_eq!(send(path, header), status, "{path} {header:?}");
    }
    assert_eq!(show(&daemon, "own")["pings"], 5);
    assert_eq!(show(&daemon, "backup")["pings"], 2);
}

#[test]
fn an_alert_and_a_source_feed_heartbeats_though_they_repeat_themselves() {
    let daemon = Daemon::start(&rules(
        "  - {name: watchdog, every: 3s, grace: 2s, from: {matchers: ['alertname=\"Watchdog\"']}}
  - {name: speaks, every: 3s, grace: 2s, from: {source: alertmanager}}
",
    ));
    let quiet = json!({"version": "4", "groupKey": "{}", "truncatedAlerts": 0, "status": "firing",
        "receiver": "next", "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {},
        "externalURL": "http://alertmanager.example", "alerts": []});
    let speak = || {
        // The same bytes again and again.
        daemon.deliver(&[json!({"labels": {"alertname": "Watchdog"}, "annotations": {},
            "startsAt": "2026-01-01T00:00:00Z", "endsAt": "2030-01-01T00:00:00Z"})]);
        daemon.done("/ingest/alertmanager", &quiet);
    };
    let began = std::time::Instant::now();
    eventually("it was heard from for longer than its period and grace", SOON, || {
        speak();
        for name in ["watchdog", "speaks"] {
            let heartbeat = show(&daemon, name);
            assert_ne!(heartbeat["state"], "down", "{heartbeat}");
        }
        (began.elapsed().as_secs() >= 7).then_some(())
    });
    assert!(daemon.items("/api/v1/incidents").is_empty(), "the watchdog is no incident");
    becomes(&daemon, "watchdog", "down");
    becomes(&daemon, "speaks", "down");
    let watchdog = &daemon.items("/api/v1/alerts?disposition=silenced")[0];
    assert_eq!(watchdog["silenced_by"], json!(["heartbeat/watchdog"]));
    speak();
    becomes(&daemon, "watchdog", "up");
    becomes(&daemon, "speaks", "up");
}

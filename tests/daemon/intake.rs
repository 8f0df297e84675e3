//! What comes in: bad alerts are refused one by one, big and odd bodies at once.

use crate::support::{BY_SERVICE, Daemon, SOON, eventually, firing};
use serde_json::{Value, json};

const ALERTS: &str = "/api/v2/alerts";

#[test]
fn bad_alerts_are_refused_and_their_neighbours_kept() {
    let daemon = Daemon::start(BY_SERVICE);
    let good = firing(&[("alertname", "Good"), ("service", "shop")]);
    let bad = [
        json!({"labels": {}}),
        json!({"labels": {"1bad": "x"}}),
        json!({"labels": {"alertname": "x"}, "startsAt": "2026-01-02T00:00:00Z",
            "endsAt": "2026-01-01T00:00:00Z"}),
    ];
    for (index, bad) in bad.iter().enumerate() {
        let reply = daemon.post(ALERTS, &json!([good, bad]));
        assert_eq!(reply.status, 400, "{bad}: {}", reply.body);
        assert!(reply.body.len() > 10, "a reason: {}", reply.body);
        let refused = f64::from(u32::try_from(index).unwrap() + 1);
        daemon.metric_becomes("watchkeeper_alerts_total", &[("disposition", "rejected")], refused);
    }
    let alerts = daemon.items("/api/v1/alerts");
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!(alerts[0]["labels"]["alertname"], "Good");
}

#[test]
fn odd_bodies_get_their_status() {
    let daemon = Daemon::start(BY_SERVICE);
    let json = ("content-type", "application/json");
    let deep = "[".repeat(200_000);
    let text = ("content-type", "text/plain");
    let cases = [
        (json, "[]", 200),
        (json, "{}", 400),
        (json, "nonsense", 400),
        (json, "", 422),
        (json, deep.as_str(), 400),
        (json, "[{\"labels\": {\"a\": 1}}]", 400),
        (text, "[]", 415),
    ];
    for (header, body, status) in cases {
        let reply = daemon.send("POST", ALERTS, &[header], body.as_bytes());
        let start: String = body.chars().take(20).collect();
        assert_eq!(reply.status, status, "`{start}`: {}", reply.body);
    }
    assert!(daemon.items("/api/v1/alerts").is_empty());
    let reply = daemon.send("DELETE", ALERTS, &[], b"");
    assert_eq!(reply.status, 405);
    assert_eq!(daemon.send("GET", "/no/such/page", &[], b"").status, 404);
}

#[test]
fn a_body_that_is_too_large_is_refused() {
    let daemon = Daemon::start(BY_SERVICE);
    let body = vec![b' '; 64 << 20];
    for path in [ALERTS, "/ingest/alertmanager"] {
        let reply = daemon.send("POST", path, &[("content-type", "application/json")], &body);
        assert_eq!(reply.status, 413, "{path}: {}", reply.body);
    }
    daemon.deliver(&[firing(&[("alertname", "Good"), ("service", "shop")])]);
    assert_eq!(daemon.items("/api/v1/alerts").len(), 1);
}

#[test]
fn the_same_alert_again_changes_nothing() {
    let daemon = Daemon::start(BY_SERVICE);
    let alert = firing(&[("alertname", "Down"), ("service", "shop")]);
    for _ in 0..50 {
        daemon.deliver(std::slice::from_ref(&alert));
    }
    let incident = daemon.incident_becomes("open", SOON);
    assert_eq!(incident["alert_count"], 1);
    let alerts = daemon.items("/api/v1/alerts");
    assert_eq!((alerts.len(), &alerts[0]["count"]), (1, &json!(1)), "{alerts:?}");
    let received = daemon.metric("watchkeeper_alerts_received_total", &[]);
    assert!((received - 50.0).abs() < 0.5, "each one is counted: {received}");
}

#[test]
fn an_alertmanager_webhook_is_taken() {
    let daemon = Daemon::start(BY_SERVICE);
    let alert = |name: &str, status: &str, ends: &str| {
        json!({"status": status, "labels": {"alertname": name, "service": "shop"},
            "annotations": {"summary": "text"}, "startsAt": "2026-01-01T00:00:00Z",
            "endsAt": ends, "generatorURL": "http://x.example/g", "fingerprint": "0"})
    };
    let body = |alerts: Value| {
        json!({"version": "4", "groupKey": "{}", "truncatedAlerts": 0, "status": "firing",
            "receiver": "next", "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {},
            "externalURL": "http://alertmanager.example", "alerts": alerts})
    };
    let never = "0001-01-01T00:00:00Z";
    let two = body(json!([alert("A", "firing", never), alert("B", "firing", never)]));
    daemon.done("/ingest/alertmanager", &two);
    let incident = daemon.incident_becomes("open", SOON);
    assert_eq!(incident["alert_count"], 2);
    let over = "2026-01-01T01:00:00Z";
    let ended = body(json!([alert("A", "resolved", over), alert("B", "resolved", over)]));
    daemon.done("/ingest/alertmanager", &ended);
    daemon.incident_becomes("resolved", SOON);
    let received =
        daemon.metric("watchkeeper_alerts_received_total", &[("source", "alertmanager")]);
    assert!((received - 4.0).abs() < 0.5, "{received}");
    let none = daemon.post("/ingest/no-such-source", &two);
    assert_eq!(none.status, 404, "{}", none.body);
}

#[test]
fn an_alert_without_an_end_expires() {
    let daemon = Daemon::start(BY_SERVICE);
    let ends = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(2);
    let alert = json!({"labels": {"alertname": "Down", "service": "shop"},
        "endsAt": ends.to_string()});
    daemon.deliver(&[alert]);
    daemon.incident_becomes("open", SOON);
    let alert = eventually("the alert is over", SOON, || {
        let alerts = daemon.items("/api/v1/alerts");
        alerts.into_iter().find(|it| it["state"] != "firing")
    });
    assert_eq!(alert["state"], "expired", "its source never said that it is over: {alert}");
    assert_eq!(alert["disposition"], "expired");
    daemon.incident_becomes("resolved", SOON);
}

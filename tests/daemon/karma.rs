//! Karma takes us for an Alertmanager: the version that it asks for, and the shapes that it knows.

use crate::http;
use crate::support::{Daemon, Options, SOON, eventually, firing};
use serde_json::{Value, json};

/// What newer Alertmanagers tell besides, and we too.
const NEWER: [&str; 1] = ["routeLabels"];

const RULES: &str = "
inhibitions:
  - {name: parent, source_matchers: ['alertname=Parent'], target_matchers: ['alertname=Child'], equal: []}
maintenance:
  - name: disks
    matchers: ['alertname=Disk']
    owner: ann
    reason: new disks
    starts_at: 2026-01-01T00:00:00Z
    ends_at: 2099-01-01T00:00:00Z
";

/// Panics unless a value has the shape that is written down, and nothing more but what is newer.
fn assert_shape(shape: &Value, value: &Value, place: &str) {
    match (shape, value) {
        (Value::Object(shape), Value::Object(value)) if shape.is_empty() => {
            assert!(value.values().all(Value::is_string), "{place}: {value:?}");
        }
        (Value::Object(shape), Value::Object(value)) => {
            for (key, shape) in shape {
                let value = value.get(key).unwrap_or_else(|| panic!("{place} has no {key}"));
                assert_shape(shape, value, &format!("{place}.{key}"));
            }
            for key in value.keys() {
                let known = shape.contains_key(key) || NEWER.contains(&&**key);
                assert!(known, "{place}.{key} is not Alertmanager's");
            }
        }
        (Value::Array(shape), Value::Array(values)) => {
            for it in values {
                assert_shape(&shape[0], it, place);
            }
        }
        (Value::String(kind), Value::String(text)) if kind == "time" => {
            let is_time = text.len() == 24 && text.ends_with('Z') && text[..19].contains('T');
            assert!(is_time, "{place}: {text}");
        }
        (Value::String(_), Value::String(_)) | (Value::Bool(_), Value::Bool(_)) => {}
        _ => panic!("{place}: {value} has not the shape {shape}"),
    }
}

#[test]
fn answers_have_the_shapes_that_karma_knows() {
    let daemon = Daemon::start_with(Options {
        rules: RULES.to_owned(),
        settings: "server: {alertmanager_version: 0.27.0}\n".to_owned(),
        ..Options::default()
    });
    let names = ["Parent", "Child", "Disk", "Muted", "Plain"];
    let alerts: Vec<Value> = (names.iter())
        .map(|it| {
            let mut alert = firing(&[("alertname", it)]);
            alert["generatorURL"] = json!("http://127.0.0.1/graph");
            alert
        })
        .collect();
    let headers = [("content-type", "application/json")];
    let send = |path: &str, body: &Value| {
        let body = body.to_string();
        let reply = http::send(daemon.address, "POST", path, &headers, body.as_bytes()).unwrap();
        assert_eq!(reply.status, 200, "{}", reply.body);
    };
    let silence = json!({
        "matchers": [{"name": "alertname", "value": "Muted", "isRegex": false, "isEqual": true}],
        "startsAt": "2026-01-01T00:00:00Z", "endsAt": "2099-01-01T00:00:00Z",
        "createdBy": "ann", "comment": "work",
    });
    send("/api/v2/silences", &silence);
    send("/api/v2/alerts", &json!(alerts));

    let shapes = include_str!("../golden/alertmanager_shapes.json");
    let shapes: Value = serde_json::from_str(shapes).unwrap();
    for path in ["/api/v2/alerts/groups", "/api/v2/silences"] {
        let answer = daemon.get(path);
        assert!(!answer.as_array().unwrap().is_empty(), "{path} is empty");
        assert_shape(&shapes[path], &answer, path);
    }

    let status = |name: &str| {
        let alerts = daemon.get(&format!("/api/v2/alerts?filter=alertname={name}"));
        alerts[0]["status"].clone()
    };
    let parent = daemon.get("/api/v2/alerts?filter=alertname=Parent")[0]["fingerprint"].clone();
    assert_eq!(status("Child")["inhibitedBy"], json!([parent]));
    assert_eq!(status("Disk")["mutedBy"], json!(["disks"]));
    assert_eq!(status("Muted")["silencedBy"].as_array().map(Vec::len), Some(1));
    for (name, state) in [("Child", "suppressed"), ("Disk", "suppressed"), ("Plain", "active")] {
        assert_eq!(status(name)["state"], state, "{name}");
    }
}

#[test]
fn the_version_is_told_where_karma_looks() {
    let daemon = Daemon::start_with(Options {
        settings: "server: {alertmanager_version: 0.27.0}\n".to_owned(),
        ..Options::default()
    });
    eventually("the metric is there", SOON, || {
        let text = http::send(daemon.address, "GET", "/metrics", &[], b"").unwrap().body;
        let line = text.lines().find(|it| it.starts_with("alertmanager_build_info{"))?;
        assert!(line.contains("version=\"0.27.0\"") && line.ends_with(" 1"), "{line}");
        Some(())
    });
    assert_eq!(daemon.get("/api/v2/status")["versionInfo"]["version"], "0.27.0");
}

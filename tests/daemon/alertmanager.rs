//! The Alertmanager API beside a real Alertmanager: the same alerts must look the same.

use crate::http;
use crate::support::{Daemon, SOON, eventually, firing};
use crate::tools::{alertmanager, alertmanager_inhibiting};
use serde_json::{Value, json};

fn sets() -> Vec<Value> {
    vec![
        firing(&[("alertname", "bar"), ("instance", "a"), ("severity", "critical")]),
        firing(&[("alertname", "Disk full"), ("mount", "/var/lib"), ("env", "prod")]),
        firing(&[("alertname", "Umlaut"), ("owner", "Jörg"), ("empty", "")]),
        firing(&[("a", "1"), ("alertname", "Quote"), ("text", "say \"hi\"\\n")]),
    ]
}

/// What must be equal between the two.
fn essence(alerts: &Value) -> Vec<Value> {
    let mut all: Vec<Value> = alerts
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            json!({"fingerprint": it["fingerprint"], "labels": it["labels"],
                "annotations": it["annotations"], "silencedBy": it["status"]["silencedBy"],
                "inhibitedBy": it["status"]["inhibitedBy"]})
        })
        .collect();
    all.sort_by_key(|it| it["fingerprint"].as_str().unwrap().to_owned());
    all
}

#[test]
fn alerts_look_as_in_a_real_alertmanager() {
    let daemon = Daemon::start("");
    let real = alertmanager(daemon.folder.path(), "http://127.0.0.1:9/");
    let body = json!(sets()).to_string();
    let headers = [("content-type", "application/json")];
    for address in [daemon.address, real.address] {
        let path = "/api/v2/alerts";
        let reply = http::send(address, "POST", path, &headers, body.as_bytes()).unwrap();
        assert_eq!((reply.status, reply.body.as_str()), (200, ""), "{address}");
    }
    let ours = daemon.get("/api/v2/alerts");
    let theirs = real.get("/api/v2/alerts");
    assert_eq!(essence(&ours), essence(&theirs));
    assert_eq!(essence(&ours).len(), 4);
    let known = ours.as_array().unwrap().iter().any(|it| it["fingerprint"] == "732b30836e261245");
    assert!(known, "{ours}");
    for alert in ours.as_array().unwrap() {
        assert_eq!(alert["status"]["state"], "active", "{alert}");
        for key in ["startsAt", "endsAt", "updatedAt", "receivers"] {
            assert!(!alert[key].is_null(), "{key}: {alert}");
        }
    }
    for filter in ["alertname=%22bar%22", "env=~%22pr.%2A%22", "alertname!=%22bar%22", "env=%22%22"]
    {
        let path = format!("/api/v2/alerts?filter={filter}");
        assert_eq!(essence(&daemon.get(&path)), essence(&real.get(&path)), "{filter}");
    }
}

#[test]
fn silences_behave_as_in_a_real_alertmanager() {
    let daemon = Daemon::start("");
    let real = alertmanager(daemon.folder.path(), "http://127.0.0.1:9/");
    let matcher = |value: &str| json!([{"name": "a", "value": value, "isRegex": false}]);
    let silence = |matchers: Value, starts: &str, ends: &str| {
        json!({"matchers": matchers, "startsAt": starts, "endsAt": ends,
            "createdBy": "ann", "comment": "work"})
    };
    let future = "2099-01-01T00:00:00Z";
    let cases = [
        silence(matcher("b"), "2026-01-01T00:00:00Z", future),
        silence(matcher("b"), "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
        silence(matcher("b"), future, "2098-01-01T00:00:00Z"),
        silence(json!([]), "2026-01-01T00:00:00Z", future),
        silence(matcher(""), "2026-01-01T00:00:00Z", future),
    ];
    let headers = [("content-type", "application/json")];
    for case in cases {
        let body = case.to_string();
        let post = |address| {
            let path = "/api/v2/silences";
            http::send(address, "POST", path, &headers, body.as_bytes()).unwrap()
        };
        let (ours, theirs) = (post(daemon.address), post(real.address));
        assert_eq!(ours.status, theirs.status, "{body}: {} / {}", ours.body, theirs.body);
    }
    let path = "/api/v2/silence/2f3f4a5c-0000-4000-8000-000000000000";
    let ours = http::send(daemon.address, "GET", path, &[], b"").unwrap();
    let theirs = http::send(real.address, "GET", path, &[], b"").unwrap();
    assert_eq!((ours.status, theirs.status), (404, 404));
}

const INHIBITIONS: &str = "
  - {name: severity, source_matchers: ['severity=critical'], target_matchers: ['severity=~\"warning|critical\"'], equal: [alertname, cluster]}
  - {name: parent, source_matchers: ['alertname=~\"Parent.*\"'], target_matchers: ['layer=host'], equal: [cluster, zone]}
  - {name: absent, source_matchers: ['alertname=Down'], target_matchers: ['alertname=Slow'], equal: [nobody_has_this]}
";

#[test]
fn inhibition_is_as_in_a_real_alertmanager() {
    let daemon = Daemon::start(&format!("inhibitions: {INHIBITIONS}"));
    let rules = INHIBITIONS.replace("- {name: ", "# ").replace(", source", "\n  - {source");
    let real = alertmanager_inhibiting(daemon.folder.path(), &rules);
    let mut alerts = Vec::new();
    for name in ["ParentOne", "Down", "Slow"] {
        for severity in ["critical", "warning", ""] {
            for (cluster, zone) in [("a", ""), ("a", "1"), ("b", ""), ("", "")] {
                let layer = if name == "Down" { "host" } else { "" };
                alerts.push(firing(&[
                    ("alertname", name),
                    ("severity", severity),
                    ("cluster", cluster),
                    ("zone", zone),
                    ("layer", layer),
                ]));
            }
        }
    }
    let headers = [("content-type", "application/json")];
    let everything = (0..alerts.len()).collect::<Vec<usize>>();
    // Whatever fires: all, and each second, third, fifth, and seventh only.
    for step in [1, 2, 3, 5, 7] {
        let body: Vec<Value> = (everything.iter())
            .map(|it| {
                let mut alert = alerts[*it].clone();
                if it % step != 0 {
                    alert["endsAt"] = json!(jiff::Timestamp::now().to_string());
                }
                alert
            })
            .collect();
        let body = json!(body).to_string();
        for address in [daemon.address, real.address] {
            let path = "/api/v2/alerts";
            let reply = http::send(address, "POST", path, &headers, body.as_bytes()).unwrap();
            assert_eq!(reply.status, 200, "{address}: {}", reply.body);
        }
        let inhibited = |alerts: &Value| {
            let mut all: Vec<(String, bool)> = (alerts.as_array().unwrap().iter())
                .map(|it| {
                    let by = it["status"]["inhibitedBy"].as_array().unwrap();
                    (it["fingerprint"].as_str().unwrap().to_owned(), !by.is_empty())
                })
                .collect();
            all.sort();
            all
        };
        eventually("both say the same", SOON, || {
            let ours = inhibited(&daemon.get("/api/v2/alerts"));
            let theirs = inhibited(&real.get("/api/v2/alerts"));
            (ours == theirs && !ours.is_empty()).then_some(())
        });
    }
}

/// What becomes of silences that are changed, step by step: whether the id stays, and the states.
fn history_of_changes(address: std::net::SocketAddr) -> Vec<String> {
    let headers = [("content-type", "application/json")];
    let now = jiff::Timestamp::now();
    let hours = |it: i64| format!("{:.3}", now + jiff::SignedDuration::from_hours(it));
    let mut history = Vec::new();
    let post = |silence: &Value| -> (u16, String) {
        let body = silence.to_string();
        let path = "/api/v2/silences";
        let reply = http::send(address, "POST", path, &headers, body.as_bytes()).unwrap();
        let id = serde_json::from_str::<Value>(&reply.body).ok();
        let id = id.and_then(|it| it["silenceID"].as_str().map(str::to_owned));
        (reply.status, id.unwrap_or_default())
    };
    let get = |id: &str| -> Value {
        let path = format!("/api/v2/silence/{id}");
        let reply = http::send(address, "GET", &path, &[], b"").unwrap();
        serde_json::from_str(&reply.body).unwrap_or_default()
    };
    let end = |id: &str| -> u16 {
        let path = format!("/api/v2/silence/{id}");
        http::send(address, "DELETE", &path, &[], b"").unwrap().status
    };
    let changes: [(&str, &str, Value); 6] = [
        ("a longer end", "endsAt", json!(hours(5))),
        ("another comment", "comment", json!("other")),
        ("another start", "startsAt", json!(hours(2))),
        ("a start in the past", "startsAt", json!(hours(-2))),
        ("an end in the past", "endsAt", json!(hours(-1))),
        ("other matchers", "matchers", json!([{"name": "a", "value": "z", "isRegex": false}])),
    ];
    for (kind, starts) in [("active", hours(-1)), ("pending", hours(1)), ("expired", hours(-1))] {
        for (what, field, value) in &changes {
            let mut silence = json!({
                "matchers": [{"name": "a", "value": "b", "isRegex": false, "isEqual": true}],
                "startsAt": starts, "endsAt": hours(4), "createdBy": "ann", "comment": "work",
            });
            let (code, id) = post(&silence);
            assert_eq!(code, 200);
            if kind == "expired" {
                history.push(format!("ended: {}", end(&id)));
            }
            silence = get(&id);
            silence[*field] = value.clone();
            let (code, new_id) = post(&silence);
            let same = new_id == id;
            let states = [&id, &new_id].map(|it| get(it)["status"]["state"].clone());
            history.push(format!("{kind}, {what}: {code}, same {same}, {states:?}"));
        }
    }
    let unknown = "2f3f4a5c-0000-4000-8000-000000000000";
    let foreign = json!({
        "id": unknown, "matchers": [{"name": "a", "value": "b", "isRegex": false}],
        "startsAt": hours(0), "endsAt": hours(1), "createdBy": "ann", "comment": "",
    });
    history.push(format!("unknown: {}", post(&foreign).0));
    history
}

#[test]
fn changed_silences_are_as_in_a_real_alertmanager() {
    let daemon = Daemon::start("");
    let real = alertmanager(daemon.folder.path(), "http://127.0.0.1:9/");
    assert_eq!(history_of_changes(daemon.address), history_of_changes(real.address));
}

/// Numbers that look like chance and are the same each time (xorshift64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn text(&mut self, letters: &[char], most: u64) -> String {
        let count = 1 + self.below(most);
        let letter = |chance: &mut Self| {
            let index = usize::try_from(chance.below(letters.len() as u64)).unwrap();
            letters[index]
        };
        (0..count).map(|_| letter(self)).collect()
    }
}

#[test]
fn fingerprints_of_ten_thousand_random_label_sets_are_those_of_a_real_alertmanager() {
    const SETS: usize = 10_000;
    let names: Vec<char> = ('a'..='z').chain(['_', 'A', 'Z']).collect();
    let values: Vec<char> = "aZ0 9-_/.:{}=\"\\\n,äß字🦀\u{ff}".chars().collect();
    let folder = tempfile::TempDir::new().unwrap();
    let real = alertmanager(folder.path(), "http://127.0.0.1:9/");
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let headers = [("content-type", "application/json")];
    for part in 0..SETS / 1000 {
        let set = |number: usize| {
            let mut labels: std::collections::BTreeMap<String, String> = (0..=chance.below(8))
                .map(|_| (chance.text(&names, 12), chance.text(&values, 20)))
                .collect();
            labels.insert("number".to_owned(), (part * 1000 + number).to_string());
            json!({"labels": labels, "annotations": {}})
        };
        let body = Value::from((0..1000).map(set).collect::<Vec<_>>()).to_string();
        let reply =
            http::send(real.address, "POST", "/api/v2/alerts", &headers, body.as_bytes()).unwrap();
        assert_eq!(reply.status, 200, "{}", reply.body);
    }
    let theirs = real.get("/api/v2/alerts");
    let theirs = theirs.as_array().unwrap();
    assert_eq!(theirs.len(), SETS);
    for alert in theirs {
        let pairs = alert["labels"].as_object().unwrap().iter();
        let labels = watchkeeper::domain::label::Labels::from_pairs(
            pairs.map(|(name, value)| (name, value.as_str().unwrap())),
        );
        assert_eq!(alert["fingerprint"], labels.fingerprint().to_string(), "{labels}");
    }
}

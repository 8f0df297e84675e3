//! Every decision can be asked for its reason, and the reason names the rule and its place.

use crate::support::{BY_SERVICE, Daemon, SOON, eventually, firing};
use serde_json::Value;

/// Where `by-service` stands in the rules of these tests.
const LINE: u64 = 3;

fn rules() -> String {
    format!(
        "{BY_SERVICE}
runbooks:
  - name: hint
    mode: suggest
    triggers: [{{event: incident_opened, matchers: []}}]
    steps: [{{id: a, command: {{argv: ['true']}}}}]
"
    )
}

fn names_the_rule(explanation: &Value) -> bool {
    explanation["stages"].as_array().unwrap().iter().any(|it| {
        it["rule"] == "by-service"
            && it["file"].as_str().is_some_and(|it| it.ends_with("test.yaml"))
            && it["line"] == LINE
    })
}

#[test]
fn explain_names_the_rule_and_its_place() {
    let daemon = Daemon::start(&rules());
    daemon.deliver(&[firing(&[("alertname", "Down"), ("service", "shop")])]);
    daemon.deliver(&[firing(&[("alertname", "Slow"), ("service", "shop")])]);
    let incident = daemon.items("/api/v1/incidents").remove(0);
    assert_eq!(incident["alert_count"], 2);
    let mut ids = vec![incident["id"].as_str().unwrap().to_owned()];
    for alert in daemon.items("/api/v1/alerts") {
        ids.push(alert["fingerprint"].as_str().unwrap().to_owned());
    }
    assert_eq!(ids.len(), 3);
    for id in &ids {
        let explanation = daemon.get(&format!("/api/v1/explain/{id}"));
        assert_eq!(explanation["id"], *id);
        assert!(names_the_rule(&explanation), "{explanation}");
        let printed = daemon.cli(&["explain", id]);
        assert_eq!(printed.code, 0, "{printed:?}");
        assert!(printed.stdout.contains(&format!("test.yaml:{LINE}")), "{}", printed.stdout);
        let printed = daemon.cli(&["explain", id, "-o", "json"]);
        assert!(names_the_rule(&serde_json::from_str(&printed.stdout).unwrap()));
    }
    let execution = eventually("the runbook is proposed", SOON, || {
        daemon.items("/api/v1/executions").into_iter().next()
    });
    let id = execution["id"].as_str().unwrap();
    let explanation = daemon.get(&format!("/api/v1/explain/{id}"));
    assert!(explanation.to_string().contains("hint"), "{explanation}");
}

#[test]
fn a_silenced_alert_names_its_silence() {
    let daemon = Daemon::start(&format!(
        "{BY_SERVICE}
silences:
  - name: planned-work
    matchers: ['service=\"shop\"']
    owner: ann
    reason: new disks
    starts_at: 2020-01-01T00:00:00Z
    ends_at: 2099-01-01T00:00:00Z
"
    ));
    daemon.deliver(&[firing(&[("alertname", "Down"), ("service", "shop")])]);
    let alert = daemon.items("/api/v1/alerts").remove(0);
    assert_eq!(alert["disposition"], "silenced", "{alert}");
    assert_eq!(alert["incident"], Value::Null);
    assert!(daemon.items("/api/v1/incidents").is_empty());
    let id = alert["fingerprint"].as_str().unwrap();
    let explanation = daemon.get(&format!("/api/v1/explain/{id}"));
    assert!(explanation.to_string().contains("planned-work"), "{explanation}");
    daemon.metric_becomes("watchkeeper_alerts_total", &[("disposition", "silenced")], 1.0);
}

#[test]
fn what_is_not_there_is_not_explained() {
    let daemon = Daemon::start("");
    for id in ["INC-7", "EXE-7", "PRB-7", "0123456789abcdef", "nonsense"] {
        let reply = daemon.send("GET", &format!("/api/v1/explain/{id}"), &[], b"");
        assert!(matches!(reply.status, 400 | 404), "{id}: {reply:?}");
        let error = &reply.json()["error"];
        assert!(error["code"].is_string() && error["message"].is_string(), "{error}");
    }
    assert_ne!(daemon.cli(&["explain", "INC-7"]).code, 0);
}

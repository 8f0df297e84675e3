//! The account of promises: acknowledgements, breaches, MTTA and MTTR, and what recurs.

use crate::http::Receiver;
use crate::support::{BY_SERVICE, Daemon, SOON, eventually, firing, over};
use serde_json::json;

fn rules(receiver: &Receiver, acknowledge: &str, resolve: &str) -> String {
    let targets: Vec<String> = (1..=5)
        .map(|it| format!("P{it}: {{acknowledge: {acknowledge}, resolve: {resolve}}}"))
        .collect();
    format!(
        "{BY_SERVICE}
sla_policies:
  - {{name: gold, matchers: [], calendar: always, warn_at: [50], targets: {{{}}}}}
receivers: [{{name: hook, webhook: {{url: '{}'}}}}]
routes: [{{matchers: [], on: [opened, resolved, breached], receiver: hook}}]
",
        targets.join(", "),
        receiver.url("/hook")
    )
}

#[test]
fn a_missed_promise_is_told_and_counted() {
    let receiver = Receiver::start();
    let daemon = Daemon::start(&rules(&receiver, "2s", "1h"));
    daemon.deliver(&[firing(&[("alertname", "Down"), ("service", "shop")])]);
    let incident = daemon.incident_becomes("open", SOON);
    let target = |incident: &serde_json::Value, name: &str| {
        let sla = incident["sla"].as_array().unwrap();
        sla.iter().find(|it| it["target"] == name).unwrap().clone()
    };
    assert_eq!(target(&incident, "resolve")["state"], "running");
    let told = eventually("the breach is told", SOON, || receiver.told("breached").pop());
    assert_eq!(told.incident(), incident["id"]);
    let labels = [("policy", "gold"), ("target", "acknowledge")];
    daemon.metric_becomes("watchkeeper_sla_breaches_total", &labels, 1.0);
    let incident = daemon.items("/api/v1/incidents").remove(0);
    assert_eq!(target(&incident, "acknowledge")["state"], "breached", "{incident}");
    let labels = [("policy", "gold"), ("target", "acknowledge"), ("state", "breached")];
    daemon.metric_becomes("watchkeeper_sla_clocks", &labels, 1.0);
    assert_eq!(receiver.told("breached").len(), 1, "told once");
}

#[test]
fn a_kept_promise_is_counted_too() {
    let receiver = Receiver::start();
    let daemon = Daemon::start(&rules(&receiver, "1h", "2h"));
    let labels = [("alertname", "Down"), ("service", "shop")];
    daemon.deliver(&[firing(&labels)]);
    let incident = daemon.incident_becomes("open", SOON);
    let id = incident["id"].as_str().unwrap();
    let acknowledged = daemon.done(&format!("/api/v1/incidents/{id}/ack"), &json!({"by": "ann"}));
    assert_eq!(acknowledged["state"], "acknowledged");
    assert!(acknowledged["acknowledged_at"].is_string(), "{acknowledged}");
    daemon.metric_becomes("watchkeeper_incident_acknowledge_seconds_count", &[], 1.0);
    daemon.deliver(&[over(&labels)]);
    let resolved = daemon.incident_becomes("resolved", SOON);
    assert!(resolved["resolved_at"].is_string());
    daemon.metric_becomes("watchkeeper_incident_resolve_seconds_count", &[], 1.0);
    let breaches = daemon.metric("watchkeeper_sla_breaches_total", &[]);
    assert!(breaches.abs() < 0.5, "{breaches}");
    for sla in resolved["sla"].as_array().unwrap() {
        assert_eq!(sla["state"], "met", "{resolved}");
    }
}

#[test]
fn an_incident_goes_through_its_states_and_no_others() {
    let daemon = Daemon::start(BY_SERVICE);
    for service in ["shop", "bank"] {
        daemon.deliver(&[firing(&[("alertname", "Down"), ("service", service)])]);
    }
    let incidents = daemon.items("/api/v1/incidents");
    let id = incidents[0]["id"].as_str().unwrap();
    let other = incidents[1]["id"].as_str().unwrap();
    let path = |verb: &str| format!("/api/v1/incidents/{id}/{verb}");
    let incident = daemon.done(&path("assign"), &json!({"by": "ann", "owner": "bob"}));
    assert_eq!(incident["owner"], "bob");
    let incident = daemon.done(&path("note"), &json!({"by": "ann", "text": "a look at the disk"}));
    assert!(incident["timeline"].to_string().contains("a look at the disk"), "{incident}");
    let merged = daemon.done(&path("merge"), &json!({"by": "ann", "from": [other]}));
    assert_eq!(merged["alert_count"], 2, "{merged}");
    let alert = merged["alerts"].as_array().unwrap().last().unwrap().clone();
    let fingerprint = alert["fingerprint"].as_str().or_else(|| alert.as_str()).unwrap();
    let split = daemon.done(&path("split"), &json!({"by": "ann", "alerts": [fingerprint]}));
    assert_ne!(split["id"], serde_json::Value::Null);
    daemon.done(&path("resolve"), &json!({"by": "ann", "reason": "it was a test"}));
    let again = daemon.post(&path("resolve"), &json!({"by": "ann", "reason": "again"}));
    assert_eq!(again.status, 409, "{}", again.body);
    assert!(again.json()["error"]["code"].is_string());
    let incident = daemon.done(&path("reopen"), &json!({"by": "ann", "reason": "it is not"}));
    assert!(matches!(incident["state"].as_str(), Some("open" | "acknowledged")), "{incident}");
    let none = daemon.post("/api/v1/incidents/INC-999/ack", &json!({"by": "ann"}));
    assert_eq!(none.status, 404, "{}", none.body);
}

const BY_POD: &str =
    "correlations: [{name: pods, matchers: [], group_by: [pod], window: {gap: 5m, max: 4h}}]\n";

fn pod(number: u32) -> String {
    format!("database-6d4cf56db6-x{number}v4k")
}

/// What comes back after it was over is a problem, whichever pod it strikes.
#[test]
fn what_recurs_becomes_a_problem() {
    let daemon = Daemon::start(BY_POD);
    for number in 1..=5 {
        let pod = pod(number);
        let labels = [("alertname", "DiskFull"), ("service", "database"), ("pod", pod.as_str())];
        daemon.deliver(&[firing(&labels)]);
        daemon.deliver(&[over(&labels)]);
    }
    for (name, service) in [("CertificateExpires", "edge"), ("QueueGrows", "mailer")] {
        daemon.deliver(&[firing(&[("alertname", name), ("service", service), ("pod", name)])]);
    }
    assert_eq!(daemon.items("/api/v1/incidents").len(), 7);
    let printed = daemon.cli(&["problem", "detect", "-o", "json"]);
    assert_eq!(printed.code, 0, "{printed:?}");
    let listing: serde_json::Value = serde_json::from_str(&printed.stdout).unwrap();
    let [problem] = listing["items"].as_array().unwrap().as_slice() else {
        panic!("not one problem: {listing}")
    };
    assert_eq!(problem["state"], "proposed");
    assert!(problem["title"].to_string().contains("DiskFull"), "{problem}");
    assert_eq!(problem["incidents"].as_array().unwrap().len(), 5, "{problem}");
    daemon.metric_becomes("watchkeeper_problems", &[("state", "proposed")], 1.0);
    let id = problem["id"].as_str().unwrap();
    let accepted = daemon.done(&format!("/api/v1/problems/{id}/accept"), &json!({"by": "ann"}));
    assert_eq!(accepted["state"], "accepted");
    daemon.metric_becomes("watchkeeper_problems", &[("state", "accepted")], 1.0);
}

/// What comes at once is one storm.
#[test]
fn a_storm_is_no_problem() {
    let daemon = Daemon::start(BY_POD);
    for number in 1..=5 {
        let pod = pod(number);
        let labels = [("alertname", "DiskFull"), ("service", "database"), ("pod", pod.as_str())];
        daemon.deliver(&[firing(&labels)]);
    }
    assert_eq!(daemon.items("/api/v1/incidents").len(), 5);
    let printed = daemon.cli(&["problem", "detect", "-o", "json"]);
    assert_eq!(printed.code, 0, "{printed:?}");
    let listing: serde_json::Value = serde_json::from_str(&printed.stdout).unwrap();
    assert_eq!(listing["items"], json!([]));
    let proposed = daemon.metric("watchkeeper_problems", &[("state", "proposed")]);
    assert!(proposed.abs() < 0.5, "{proposed}");
    daemon.metric_becomes("watchkeeper_problem_detection_seconds_count", &[], 1.0);
    let none = daemon.post("/api/v1/problems/PRB-1/accept", &json!({"by": "ann"}));
    assert_eq!(none.status, 404, "{}", none.body);
}

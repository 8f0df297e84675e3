//! The main job on real input: a shop dies, Prometheus sees it, the runbook brings it back.

use crate::http::Receiver;
use crate::support::{BY_SERVICE, Daemon, SOON, eventually};
use crate::tools::{Neighbour, Shop, alertmanager, prometheus, wait_for_up};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::time::Duration;

/// Prometheus looks each second, but two cores have more to do than this test.
const MINUTE: Duration = Duration::from_mins(1);

fn rules(shop: &Shop, receiver: &Receiver, idempotency: &str) -> String {
    format!(
        "{BY_SERVICE}
receivers: [{{name: hook, webhook: {{url: '{}'}}}}]
routes: [{{matchers: [], on: [opened, resolved, breached, approval_needed], receiver: hook}}]
runbooks:
  - name: restart-shop
    mode: auto
    triggers: [{{event: incident_opened, matchers: ['alertname=\"ShopDown\"']}}]
    steps:
      - {{id: restart, command: {{argv: ['{}']}}, timeout: 20s, idempotency: {idempotency}}}
    verify: {{settle: 0s, within: 1m, alerts_resolved: true}}
",
        receiver.url("/hook"),
        shop.script.display(),
    )
}

struct Scene {
    shop: Shop,
    receiver: Receiver,
    daemon: Daemon,
    prometheus: Neighbour,
}

/// Everything is up and quiet.
fn quiet_scene(step_seconds: u32, idempotency: &str) -> Scene {
    let shop = Shop::start(step_seconds);
    let receiver = Receiver::start();
    let daemon = Daemon::start(&rules(&shop, &receiver, idempotency));
    let prometheus = prometheus(daemon.folder.path(), &shop, &[daemon.address]);
    wait_for_up(&prometheus, "1");
    Scene { shop, receiver, daemon, prometheus }
}

fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap_or_else(|| panic!("not a time: {value}")).parse().unwrap()
}

fn incidents_open(daemon: &Daemon) -> f64 {
    daemon.metric("watchkeeper_incidents_open", &[("state", "open")])
        + daemon.metric("watchkeeper_incidents_open", &[("state", "acknowledged")])
}

/// What holds whenever the story has ended well.
fn assert_all_well(scene: &Scene) {
    let daemon = &scene.daemon;
    let execution = daemon.execution_becomes("succeeded", MINUTE);
    assert_eq!(execution["steps"][0]["state"], "succeeded", "{execution}");
    let incident = daemon.incident_becomes("resolved", SOON);
    assert_eq!(incident["alert_count"], 1, "{incident}");
    assert_eq!(execution["incident"], incident["id"]);
    assert!(scene.shop.is_ready());
    wait_for_up(&scene.prometheus, "1");
    eventually("the receiver hears that it is over", SOON, || {
        let told = scene.receiver.told("resolved");
        told.first().filter(|it| it.incident() == incident["id"]).map(drop)
    });
    daemon.metric_becomes("watchkeeper_alerts_active", &[], 0.0);
    assert!(incidents_open(daemon).abs() < 0.5);
    let outcome = [("runbook", "restart-shop"), ("outcome", "succeeded")];
    daemon.metric_becomes("watchkeeper_executions_total", &outcome, 1.0);
}

#[test]
fn a_real_alert_becomes_a_verified_fix() {
    let scene = quiet_scene(2, "idempotent");
    let daemon = &scene.daemon;
    assert!(daemon.items("/api/v1/incidents").is_empty());
    assert!(incidents_open(daemon).abs() < 0.5);
    assert!(daemon.metric("watchkeeper_alerts_active", &[]).abs() < 0.5);

    scene.shop.kill();
    let alert = eventually("the alert arrives", MINUTE, || {
        daemon.items("/api/v1/alerts").into_iter().next()
    });
    let incident = daemon.incident_becomes("open", SOON);
    let told = eventually("the receiver is told", SOON, || scene.receiver.told("opened").pop());
    let received_at = time(&alert["received_at"]);
    let second = SignedDuration::from_secs(1);
    assert!(time(&incident["opened_at"]).duration_since(received_at) < second, "{incident}");
    assert!(told.at.duration_since(received_at) < second, "told at {}: {alert}", told.at);
    assert_eq!(told.incident(), incident["id"]);
    assert_eq!(alert["labels"]["alertname"], "ShopDown");
    assert_eq!(alert["disposition"], "opened");
    assert_eq!(alert["incident"], incident["id"]);
    assert_eq!(incident["title"], "ShopDown on shop");
    assert_eq!(incident["priority"], "P3", "{incident}");

    // The step takes two seconds, so that it can be seen from outside.
    daemon.execution_becomes("running", SOON);
    assert!((incidents_open(daemon) - 1.0).abs() < 0.5);
    assert!((daemon.metric("watchkeeper_alerts_active", &[]) - 1.0).abs() < 0.5);
    let opened = daemon.metric("watchkeeper_alerts_total", &[("disposition", "opened")]);
    assert!((opened - 1.0).abs() < 0.5);

    assert_all_well(&scene);
    assert_eq!(scene.shop.journal("begun"), 1);
    daemon.metric_becomes("watchkeeper_alerts_total", &[("disposition", "resolved")], 1.0);
    daemon.metric_becomes("watchkeeper_incidents_opened_total", &[("priority", "P3")], 1.0);
    assert_eq!(scene.receiver.told("opened").len(), 1);
}

#[test]
fn after_a_crash_in_the_middle_an_idempotent_step_runs_again() {
    let mut scene = quiet_scene(3, "idempotent");
    scene.shop.kill();
    eventually("the step has begun", MINUTE, || (scene.shop.journal("begun") == 1).then_some(()));
    scene.daemon.kill_9();
    scene.daemon.restart();
    eventually("the step runs again", SOON, || (scene.shop.journal("begun") == 2).then_some(()));
    assert_all_well(&scene);
    assert_eq!(scene.shop.journal("begun"), 2);
    let keys: std::collections::BTreeSet<String> =
        scene.receiver.told("opened").iter().map(|it| it.key().to_owned()).collect();
    assert_eq!(keys.len(), 1, "one notification, whatever happened: {keys:?}");
}

#[test]
fn after_a_crash_in_the_middle_a_once_step_waits_for_a_person() {
    let mut scene = quiet_scene(3, "once");
    scene.shop.kill();
    eventually("the step has begun", MINUTE, || (scene.shop.journal("begun") == 1).then_some(()));
    scene.daemon.kill_9();
    scene.daemon.restart();
    let daemon = &scene.daemon;
    let execution = daemon.execution_becomes("unknown", SOON);
    assert_eq!(execution["steps"][0]["state"], "unknown", "{execution}");
    eventually("a person is asked", SOON, || {
        (scene.receiver.told("approval_needed").len() == 1).then_some(())
    });
    let id = execution["id"].as_str().unwrap();
    let path = format!("/api/v1/executions/{id}/abort");
    let aborted = daemon.done(&path, &json!({"by": "ann", "reason": "I have looked"}));
    assert_eq!(aborted["state"], "aborted", "{aborted}");
    assert_eq!(scene.shop.journal("begun"), 1, "it was done at most once");
    let outcome = [("runbook", "restart-shop"), ("outcome", "aborted")];
    daemon.metric_becomes("watchkeeper_executions_total", &outcome, 1.0);
}

#[test]
fn two_ways_to_the_same_alert_make_one_incident() {
    let shop = Shop::start(0);
    let daemon = Daemon::start(BY_SERVICE);
    let webhook = format!("http://{}/ingest/alertmanager", daemon.address);
    let alertmanager = alertmanager(daemon.folder.path(), &webhook);
    let targets = [daemon.address, alertmanager.address];
    let prometheus = prometheus(daemon.folder.path(), &shop, &targets);
    wait_for_up(&prometheus, "1");
    shop.kill();
    let both = |alert: &Value| {
        let sources = alert["sources"].to_string();
        sources.contains("prometheus") && sources.contains("alertmanager")
    };
    eventually("both sources told of the one alert", MINUTE, || {
        let alerts = daemon.items("/api/v1/alerts");
        assert!(alerts.len() <= 1, "more than one alert: {alerts:?}");
        alerts.first().filter(|it| both(it)).map(drop)
    });
    let incident = daemon.incident_becomes("open", SOON);
    assert_eq!(incident["alert_count"], 1, "{incident}");
    assert!(std::process::Command::new(&shop.script).status().unwrap().success());
    let resolved = daemon.incident_becomes("resolved", MINUTE);
    assert_eq!(resolved["id"], incident["id"]);
    assert_eq!(daemon.items("/api/v1/incidents").len(), 1);
}

#[test]
fn the_last_source_decides_when_an_alert_is_over() {
    let daemon = Daemon::start(BY_SERVICE);
    let labels = [("alertname", "Down"), ("service", "shop"), ("severity", "error")];
    daemon.deliver(&[crate::support::firing(&labels)]);
    let webhook = |status: &str, ends: &str| {
        let alert = json!({"status": status, "labels": {"alertname": "Down", "service": "shop",
            "severity": "error"}, "annotations": {}, "startsAt": "2026-01-01T00:00:00Z",
            "endsAt": ends, "generatorURL": "", "fingerprint": ""});
        json!({"version": "4", "groupKey": "{}", "truncatedAlerts": 0, "status": status,
            "receiver": "next", "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {},
            "externalURL": "http://alertmanager.example", "alerts": [alert]})
    };
    daemon.done("/ingest/alertmanager", &webhook("firing", "0001-01-01T00:00:00Z"));
    daemon.deliver(&[crate::support::over(&labels)]);
    let alert = daemon.items("/api/v1/alerts").remove(0);
    assert_eq!(alert["state"], "firing", "Alertmanager has not spoken: {alert}");
    assert_eq!(daemon.items("/api/v1/incidents")[0]["state"], "open");
    daemon.done("/ingest/alertmanager", &webhook("resolved", "2026-01-01T01:00:00Z"));
    daemon.incident_becomes("resolved", SOON);
}

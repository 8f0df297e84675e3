//! Runbooks that nobody orders: a change, an alert and the clock start them, also after a crash.

use crate::support::{Daemon, Options, SOON, eventually, firing};
use serde_json::{Value, json};
use std::time::Duration;

const RULES: &str = "
runbooks:
  - name: smoke
    mode: auto
    triggers: [{event: change, matchers: ['service=\"cart\"', 'state=\"done\"']}]
    parameters: {version: {value: '{{ labels.version }}', pattern: 'v[0-9]+'}, by: {value: '{{ trigger.id }}', pattern: '.+'}}
    steps: [{id: a, command: {argv: [echo, '{{ parameters.by }} {{ parameters.version }}']}}]
  - name: each
    mode: auto
    triggers: [{event: alert_firing, matchers: ['alertname=\"DiskFull\"'], quota: {count: 2, per: 1h}}]
    steps: [{id: a, command: {argv: ['true']}}]
  - name: worse
    mode: shadow
    triggers: [{event: incident_changed, when: \"trigger.changed.contains('owner')\"}]
    steps: [{id: a, command: {argv: ['true']}}]
  - name: by-the-minute
    mode: auto
    triggers: [{event: schedule, schedule: '* * * * *', time_zone: Asia/Kolkata}]
    steps: [{id: a, command: {argv: [echo, '{{ trigger.event }}']}}]
";

fn runs(daemon: &Daemon, runbook: &str) -> Vec<Value> {
    let all = daemon.items("/api/v1/executions");
    all.into_iter().filter(|it| it["runbook"] == runbook).collect()
}

fn disk_full(daemon: &Daemon, host: &str) {
    daemon.deliver(&[firing(&[("alertname", "DiskFull"), ("service", "db"), ("host", host)])]);
}

#[test]
fn what_happens_starts_runbooks_and_a_crash_forgets_none_of_it() {
    let mut daemon = Daemon::start_with(Options { rules: RULES.to_owned(), ..Options::default() });
    let change =
        json!({"by": "ci", "title": "deploy", "service": "cart", "version": "v7", "state": "done"});
    daemon.done("/api/v1/changes", &change);
    let run = eventually("the change starts a run", SOON, || {
        runs(&daemon, "smoke").into_iter().find(|it| it["state"] == "succeeded")
    });
    assert_eq!(run["steps"][0]["output_tail"], "CHG-1 v7\n", "{run}");
    assert_eq!((&run["trigger"]["event"], &run["incident"]), (&json!("change"), &Value::Null));
    let told = daemon.cli(&["explain", run["id"].as_str().unwrap()]).stdout;
    assert!(told.contains("its trigger `change` of CHG-1 asked for it"), "{told}");
    disk_full(&daemon, "a");
    eventually("the alert starts a run", SOON, || (runs(&daemon, "each").len() == 1).then_some(()));
    daemon.done("/api/v1/incidents/INC-1/ack", &json!({"by": "ann"}));
    eventually("the new owner starts a run", SOON, || {
        (runs(&daemon, "worse").len() == 1).then_some(())
    });
    // What the quota has counted, and what was seen of the incident, is there again.
    daemon.kill_9();
    daemon.restart();
    for host in ["b", "c", "d"] {
        disk_full(&daemon, host);
    }
    let blocked = eventually("the quota is used up", SOON, || {
        runs(&daemon, "each").into_iter().find(|it| it["blocked_by"] == "quota")
    });
    let reason = blocked["blocked_reason"].as_str().unwrap();
    assert!(reason.contains("`alert_firing` started it 2 times within 3600 s"), "{reason}");
    daemon.metric_becomes("watchkeeper_runbook_blocked_total", &[("guard", "quota")], 2.0);
    assert_eq!(runs(&daemon, "each").len(), 3);
    assert_eq!(runs(&daemon, "worse").len(), 1);
    let run = eventually("it is time", Duration::from_secs(90), || {
        runs(&daemon, "by-the-minute").into_iter().find(|it| it["state"] == "succeeded")
    });
    assert_eq!(run["steps"][0]["output_tail"], "schedule\n", "{run}");
    let at: jiff::Timestamp = run["trigger"]["time"].as_str().unwrap().parse().unwrap();
    assert_eq!(at.as_second() % 60, 0, "{run}");
}

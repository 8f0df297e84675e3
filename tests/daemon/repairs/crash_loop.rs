//! A real process dies again and again: it is started twice, and then a person is paged instead.

use super::{MINUTE, Plan, Scene, Service, in_background, script, write_program};
use crate::support::{eventually, free_port};
use crate::tools::local;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// After so many answers to Prometheus it dies.
const ANSWERS: &str = "5";

/// Writes a script that starts the service, and leaves a line each time.
fn write_starter(folder: &Path, port: u16) -> String {
    let service = script("service.py", port, &["fragile", ANSWERS]);
    let text = format!(
        "#!/bin/sh\ncd '{}' || exit 1\necho start >> starts\n{}\n",
        folder.display(),
        in_background(&service)
    );
    let file = folder.join("start-service");
    write_program(&file, &text);
    file.to_str().unwrap().to_owned()
}

fn starts(folder: &Path) -> usize {
    fs::read_to_string(folder.join("starts")).unwrap_or_default().lines().count()
}

#[test]
fn the_third_useless_restart_is_a_page_instead() {
    let folder = TempDir::new().unwrap();
    let port = free_port();
    let starter = write_starter(folder.path(), port);
    assert!(Command::new(&starter).status().unwrap().success());
    let _service = Service(folder.path());
    let rules = format!(
        "
correlations:
  - {{name: all, matchers: [], group_by: [alertname], window: {{gap: 5m, max: 4h}}, incident: {{reopen_within: 0s}}}}
runbooks:
  - name: start-service
    mode: auto
    triggers: [{{event: incident_opened, matchers: ['alertname=\"ServiceDown\"']}}]
    lock: service
    guards: {{max_runs: {{count: 9, per: 1h}}}}
    steps: [{{id: start, command: {{argv: ['{starter}']}}}}]
    verify: {{within: 30s, every: 1s, alerts_resolved: true, query: {{source: prod, promql: 'up == 1'}}}}
"
    );
    let scene = Scene::start(Plan {
        rules,
        alert: "alert: ServiceDown, expr: 'up == 0', labels: {severity: critical}",
        target: Some(local(port)),
        ..Plan::default()
    });
    let blocked = scene.run_becomes("blocked");
    assert_eq!(blocked["blocked_by"], "breaker", "{blocked}");
    assert_eq!(starts(folder.path()), 3, "by the test, and twice by the runbook");
    let page = eventually("a person is paged", MINUTE, || {
        let told = scene.pager.told("escalated").into_iter();
        told.map(|it| it.body.to_string()).find(|it| it.contains("is not run again"))
    });
    assert!(page.contains("2 runs for `service`"), "{page}");
    let runs = scene.daemon.items("/api/v1/executions");
    let states: Vec<&Value> = runs.iter().map(|it| &it["state"]).collect();
    assert_eq!(states, ["blocked", "succeeded", "succeeded"], "it helped, and not for long");
    let guard = [("guard", "breaker")];
    scene.daemon.metric_becomes("watchkeeper_runbook_blocked_total", &guard, 1.0);
    // It did come back each time, and is down now.
    scene.prometheus_says("up == 0");
    assert!(scene.asks("changes(up[5m])").unwrap() >= 5.0);
    assert_eq!(starts(folder.path()), 3, "nobody starts it any more");
}

//! Freezes from the command line: they hold runbooks back, also after a crash, and mark changes.

use crate::support::Daemon;
use serde_json::{Value, json};

const RULES: &str = "
freezes:
  - {name: audit, starts_at: 2098-01-01T00:00:00Z, ends_at: 2099-01-01T00:00:00Z, items: [bank]}
runbooks:
  - name: restart
    lock: '{{ parameters.unit }}'
    guards: {cooldown: 0s, max_runs: {count: 9, per: 1h}}
    parameters: {unit: {value: '', pattern: '.*'}}
    steps: [{id: a, command: {argv: ['true']}, idempotency: idempotent}]
";

/// Runs the runbook by hand; gives the state of the run, and what held it back.
fn run(daemon: &Daemon, unit: &str, more: &[&str]) -> (String, String) {
    let unit = format!("unit={unit}");
    let words = ["runbook", "run", "restart", "-p", &unit, "-o", "json"];
    let printed = daemon.cli(&[&words, more].concat());
    assert_eq!(printed.code, 0, "{printed:?}");
    let execution: Value = serde_json::from_str(&printed.stdout).unwrap();
    let state = execution["state"].as_str().unwrap();
    (state.to_owned(), execution["why"].to_string())
}

#[test]
fn a_freeze_holds_runbooks_back_until_it_is_ended() {
    let mut daemon = Daemon::start(RULES);
    assert_ne!(run(&daemon, "a", &[]).0, "blocked");
    let words = ["freeze", "add", "--duration", "1h", "--allow", "emergency", "--reason", "sale"];
    let printed = daemon.cli(&words);
    assert_eq!(printed.code, 0, "{printed:?}");
    assert!(printed.stdout.starts_with("FRZ-1  active"), "{printed:?}");
    daemon.kill_9();
    daemon.restart();
    let (state, reason) = run(&daemon, "b", &[]);
    assert_eq!(state, "blocked");
    assert!(reason.contains("FRZ-1") && reason.contains("sale"), "{reason}");
    assert_ne!(run(&daemon, "c", &["--emergency"]).0, "blocked");
    daemon.metric_becomes("watchkeeper_runbook_blocked_total", &[("guard", "freeze")], 1.0);

    let change = ["change", "add", "shop 1.2", "--service", "shop", "-o", "json"];
    let change: Value = serde_json::from_str(&daemon.cli(&change).stdout).unwrap();
    assert_eq!(change["freezes"], json!([{"freeze": "FRZ-1", "allowed": false}]));
    let kind = [("kind", "normal")];
    daemon.metric_becomes("watchkeeper_changes_in_freeze_total", &kind, 1.0);
    assert!(daemon.cli(&["change", "list", "--forbidden"]).stdout.contains("FRZ-1!"));
    // Runs are changes, too, so that this is not the first.
    let told = daemon.cli(&["explain", change["id"].as_str().unwrap()]).stdout;
    assert!(told.contains("does not allow normal changes"), "{told}");

    let printed = daemon.cli(&["freeze", "list"]);
    assert!(printed.stdout.contains("audit") && printed.stdout.contains("bank"), "{printed:?}");
    assert_eq!(daemon.cli(&["freeze", "end", "FRZ-1", "--by", "ann"]).code, 0);
    let printed = daemon.cli(&["freeze", "end", "audit"]);
    assert!(printed.code == 1 && printed.stderr.contains("written in a file"), "{printed:?}");
    assert_ne!(run(&daemon, "d", &[]).0, "blocked");
    assert_eq!(daemon.get("/api/v1/freezes/FRZ-1")["ended_by"], "ann");
    let printed = daemon.cli(&["freeze", "show", "audit"]).stdout;
    assert!(printed.contains("written in") && printed.contains(":3"), "{printed}");
}

//! Rules change while the daemon runs: taken whole, or not at all.

use crate::support::{BY_SERVICE, Daemon, SOON, eventually};
use std::fs;
use std::os::unix::fs::symlink;

fn with_runbook(name: &str) -> String {
    format!(
        "{BY_SERVICE}
runbooks: [{{name: {name}, mode: suggest, steps: [{{id: a, command: {{argv: ['true']}}}}]}}]
"
    )
}

fn runbooks(daemon: &Daemon) -> Vec<String> {
    let items = daemon.items("/api/v1/runbooks");
    items.iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
}

fn assert_becomes(daemon: &Daemon, name: &str) {
    eventually(&format!("the rules with `{name}` are taken"), SOON, || {
        (runbooks(daemon) == [name]).then_some(())
    });
}

const SUCCESSFUL: &str = "watchkeeper_config_last_reload_successful";

#[test]
fn a_good_change_is_taken_and_a_bad_one_is_not() {
    let daemon = Daemon::start(&with_runbook("first"));
    assert_eq!(runbooks(&daemon), ["first"]);
    daemon.metric_becomes(SUCCESSFUL, &[], 1.0);
    daemon.write_rules(&with_runbook("second"));
    assert_becomes(&daemon, "second");

    daemon.write_rules("runbooks: [{name: third, steeps: []}]\n");
    daemon.metric_becomes(SUCCESSFUL, &[], 0.0);
    assert_eq!(runbooks(&daemon), ["second"]);
    let log = daemon.log();
    assert!(log.contains("test.yaml") && log.contains("steeps"), "the log says where: {log}");
    let reply = daemon.send("POST", "/-/reload", &[("content-type", "application/json")], b"");
    assert!(reply.status >= 400, "{reply:?}");

    daemon.write_rules(&with_runbook("fourth"));
    assert_becomes(&daemon, "fourth");
    daemon.metric_becomes(SUCCESSFUL, &[], 1.0);
}

#[test]
fn an_editor_that_renames_is_seen() {
    let daemon = Daemon::start(&with_runbook("first"));
    let temporary = daemon.rules().join(".test.yaml.swp");
    fs::write(&temporary, with_runbook("second")).unwrap();
    fs::rename(&temporary, daemon.rules().join("test.yaml")).unwrap();
    assert_becomes(&daemon, "second");
    fs::rename(daemon.rules().join("test.yaml"), daemon.rules().join("test.yaml~")).unwrap();
    fs::write(daemon.rules().join("test.yaml"), with_runbook("third")).unwrap();
    assert_becomes(&daemon, "third");
    fs::remove_file(daemon.rules().join("test.yaml")).unwrap();
    eventually("a removed file is gone", SOON, || runbooks(&daemon).is_empty().then_some(()));
}

/// Kubernetes swaps the symlink `..data`; the files themselves are symlinks through it.
#[test]
fn a_swapped_config_map_is_seen() {
    let mut daemon = Daemon::start("");
    daemon.terminate();
    let rules = daemon.rules();
    fs::remove_file(rules.join("test.yaml")).unwrap();
    for (version, name) in [("..v1", "first"), ("..v2", "second")] {
        fs::create_dir(rules.join(version)).unwrap();
        fs::write(rules.join(version).join("test.yaml"), with_runbook(name)).unwrap();
    }
    symlink("..v1", rules.join("..data")).unwrap();
    symlink("..data/test.yaml", rules.join("test.yaml")).unwrap();
    daemon.restart();
    assert_eq!(runbooks(&daemon), ["first"]);
    symlink("..v2", rules.join("..data_tmp")).unwrap();
    fs::rename(rules.join("..data_tmp"), rules.join("..data")).unwrap();
    assert_becomes(&daemon, "second");
}

#[test]
fn what_is_open_lives_on_under_new_rules() {
    let daemon = Daemon::start(BY_SERVICE);
    let labels = [("alertname", "Down"), ("service", "shop")];
    daemon.deliver(&[crate::support::firing(&labels)]);
    let before = daemon.items("/api/v1/incidents").remove(0);
    daemon.write_rules(&with_runbook("second"));
    assert_becomes(&daemon, "second");
    let after = daemon.items("/api/v1/incidents").remove(0);
    assert_eq!(before["id"], after["id"]);
    assert!(daemon.items("/api/v1/executions").is_empty(), "a new rule does not act on old news");
    daemon.deliver(&[crate::support::over(&labels)]);
    daemon.incident_becomes("resolved", SOON);
}

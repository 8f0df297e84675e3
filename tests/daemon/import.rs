//! `import`: the rules made of an Alertmanager's configuration do what that Alertmanager does.

use crate::http;
use crate::support::{Daemon, Options, PROGRAM, SOON, eventually, firing, run};
use crate::tools::alertmanager_configured;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

fn configuration(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/alertmanager").join(name)
}

fn watchkeeper(arguments: &[&str]) -> crate::support::Printed {
    run(Command::new(PROGRAM).args(arguments))
}

/// By fingerprint: who is told, and whether another alert inhibits it.
type Told = BTreeMap<String, (BTreeSet<String>, bool)>;

fn told(alerts: &Value, known: &BTreeSet<String>) -> Told {
    let entry = |alert: &Value| {
        let names = alert["receivers"].as_array().unwrap().iter();
        let names = names.map(|it| it["name"].as_str().unwrap().replace('/', "-"));
        let mut names: BTreeSet<String> = names.filter(|it| known.contains(it)).collect();
        if names.is_empty() {
            names.insert("nobody".to_owned());
        }
        let is_inhibited = !alert["status"]["inhibitedBy"].as_array().unwrap().is_empty();
        (alert["fingerprint"].as_str().unwrap().to_owned(), (names, is_inhibited))
    };
    alerts.as_array().unwrap().iter().map(entry).collect()
}

/// Imports a configuration, sends alerts with all of these labels to both, and compares.
fn compare(name: &str, values: &[(&str, &[&str])]) {
    let text = std::fs::read_to_string(configuration(name)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules");
    let (file, out) = (configuration(name), rules.to_str().unwrap());
    let imported = watchkeeper(&["import", file.to_str().unwrap(), "--out", out]);
    assert_eq!(imported.code, 0, "{imported:?}");
    let checked = watchkeeper(&["check", out]);
    let is_good = checked.stdout.contains("0 errors, 0 warnings");
    assert!(checked.code == 0 && is_good, "{checked:?}");

    let daemon =
        Daemon::start_with(Options { rules_folder: Some(rules.clone()), ..Options::default() });
    let real = alertmanager_configured(folder.path(), &text);
    let mut all: Vec<Vec<(&str, &str)>> = vec![Vec::new()];
    for (label, values) in values {
        all = (all.iter())
            .flat_map(|it| values.iter().map(move |value| [&it[..], &[(*label, *value)]].concat()))
            .collect();
    }
    let alerts: Vec<Value> = all.iter().map(|it| firing(it)).collect();
    let body = json!(alerts).to_string();
    let headers = [("content-type", "application/json")];
    for address in [daemon.address, real.address] {
        let path = "/api/v2/alerts";
        let reply = http::send(address, "POST", path, &headers, body.as_bytes()).unwrap();
        assert_eq!(reply.status, 200, "{address}: {}", reply.body);
    }
    let receivers = daemon.get("/api/v2/receivers");
    let known = receivers.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap());
    let known: BTreeSet<String> = known.filter(|it| *it != "default").map(str::to_owned).collect();
    eventually(&format!("{name}: all alerts are told as there"), SOON, || {
        let ours = told(&daemon.get("/api/v2/alerts"), &known);
        let theirs = told(&real.get("/api/v2/alerts"), &known);
        (ours == theirs && ours.len() == all.len()).then_some(())
    });
}

#[test]
fn branches_and_inhibition_are_as_in_a_real_alertmanager() {
    let alertname = ("alertname", &["Down", "ClusterDown"][..]);
    compare(
        "teams.yml",
        &[
            alertname,
            ("team", &["", "web", "db", "x"]),
            ("severity", &["critical", "warning", ""]),
            ("env", &["prod", "test"]),
            ("service", &["", "backup", "web"]),
        ],
    );
}

#[test]
fn a_clusters_configuration_is_taken_over() {
    compare(
        "cluster.yml",
        &[
            ("alertname", &["Watchdog", "InfoInhibitor", "Down"]),
            ("namespace", &["", "monitoring", "shop"]),
            ("severity", &["critical", "warning", "info", "none"]),
        ],
    );
}

#[test]
fn the_old_syntax_is_taken_over() {
    compare(
        "old.yml",
        &[
            ("alertname", &["Down", "ClusterDown"]),
            ("team", &["", "web"]),
            ("env", &["prod", "production"]),
            ("service", &["", "api1", "db", "cache"]),
            ("severity", &["critical", "warning"]),
        ],
    );
}

#[test]
fn what_is_not_carried_over_is_told_and_nothing_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("rules");
    let (file, out) = (configuration("teams.yml"), out.to_str().unwrap());
    let file = file.to_str().unwrap();
    let dry = watchkeeper(&["import", file, "--out", out, "--dry-run"]);
    assert!(dry.code == 0 && dry.stdout.contains("inhibitions:"), "{dry:?}");
    assert!(!Path::new(out).exists());
    for note in [
        "teams.yml:4: not carried over: `global: smtp_smarthost`",
        "teams.yml:9: not carried over: `group_wait`",
        "teams.yml:45: not carried over: `max_alerts` of a webhook of `web-pager`",
        "teams.yml:50: not carried over: `email_configs` of the receiver `db`",
        "teams.yml:54: not carried over: `http_config` of a webhook of `db-pager`",
    ] {
        assert!(dry.stderr.contains(note), "{note} is not in {}", dry.stderr);
    }
    assert_eq!(watchkeeper(&["import", file, "--out", out]).code, 0);
    let again = watchkeeper(&["import", file, "--out", out]);
    assert!(again.code == 2 && again.stderr.contains("--force"), "{again:?}");
    assert_eq!(watchkeeper(&["import", file, "--out", out, "--force"]).code, 0);
    let json = watchkeeper(&["import", file, "--out", out, "--force", "-o", "json"]);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert!(json["notes"].as_array().unwrap().len() > 5, "{json}");
    let bad = folder.path().join("bad.yml");
    std::fs::write(&bad, "groups: []\n").unwrap();
    let refused = watchkeeper(&["import", bad.to_str().unwrap()]);
    assert!(refused.code == 2 && refused.stderr.contains("no `route`"), "{refused:?}");
}

//! A store that is damaged while the daemon is down, and the commands that look after one.

use crate::support::{BY_SERVICE, Daemon, SOON, eventually, firing, program};
use serde_json::{Value, json};
use std::fs;

fn store(data: &str, arguments: &[&str]) -> (i32, Value) {
    let printed = program(&[&["store", "--data", data, "-o", "json"], arguments].concat());
    (printed.code, serde_json::from_str(&printed.stdout).unwrap_or(Value::Null))
}

#[test]
fn a_damaged_store_is_set_aside_healed_and_told() {
    let mut daemon = Daemon::start(BY_SERVICE);
    let alert = [("alertname", "Down"), ("service", "shop"), ("severity", "critical")];
    daemon.deliver(&[firing(&alert)]);
    let id = daemon.incident_becomes("open", SOON)["id"].as_str().unwrap().to_owned();
    daemon.done(&format!("/api/v1/incidents/{id}/ack"), &json!({"by": "ann"}));
    daemon.terminate();

    let data = daemon.data();
    let database = data.join("store/redb/db");
    let mut bytes = fs::read(&database).unwrap();
    let middle = bytes.len() / 16;
    bytes[..middle].fill(b'x');
    fs::write(&database, bytes).unwrap();
    let (code, told) = store(data.to_str().unwrap(), &["verify"]);
    assert_eq!((code, &told["good"]), (1, &json!(false)), "{told}");

    daemon.restart();
    let about_us = eventually("an incident about ourselves", SOON, || {
        let incidents = daemon.items("/api/v1/incidents");
        incidents.into_iter().find(|it| it["id"] != id.as_str())
    });
    assert_eq!(about_us["services"], json!(["watchkeeper"]), "{about_us}");
    let number = about_us["id"].as_str().unwrap().strip_prefix("INC-").unwrap().to_owned();
    assert!(number.parse::<u64>().unwrap() > 10_000, "a number may be given twice: {number}");
    let old = daemon.get(&format!("/api/v1/incidents/{id}"));
    assert_eq!((&old["state"], &old["owner"]), (&json!("acknowledged"), &json!("ann")));
    let alerts = daemon.items("/api/v1/alerts");
    let told = alerts.iter().find(|it| it["labels"]["alertname"] == "WatchkeeperStoreHealed");
    let summary = told.unwrap()["annotations"]["summary"].as_str().unwrap();
    let aside = summary.split_whitespace().find(|it| it.contains("store.corrupt-")).unwrap();
    assert!(fs::exists(aside.trim_end_matches(':')).unwrap(), "{summary}");
    let metrics = daemon.metrics();
    assert!(metrics.contains("\nwatchkeeper_store_healed_total 1\n"), "{metrics}");
}

#[test]
fn a_store_is_backed_up_restored_moved_over_and_compacted_by_command() {
    let mut daemon = Daemon::start(BY_SERVICE);
    daemon.deliver(&[firing(&[("alertname", "Down"), ("service", "shop")])]);
    daemon.incident_becomes("open", SOON);
    let folder = daemon.folder.path().to_owned();
    let data = daemon.data();
    let data = data.to_str().unwrap();
    let refused = program(&["store", "--data", data, "stats"]);
    assert!(refused.code == 1 && refused.stderr.contains("stop it"), "{refused:?}");
    daemon.terminate();

    let (code, stats) = store(data, &["stats"]);
    assert_eq!(
        (code, &stats["engine"], &stats["open"]["incident"]),
        (0, &json!("redb"), &json!(1))
    );
    let backup = folder.join("backup");
    let backup = backup.to_str().unwrap();
    assert_eq!(store(data, &["backup", backup]).0, 0);
    assert_eq!(store(data, &["restore", backup]).0, 1, "over a store that is there");
    let restored = folder.join("restored");
    assert_eq!(store(restored.to_str().unwrap(), &["restore", backup, "--engine", "sled"]).0, 0);
    let (code, stats) = store(restored.to_str().unwrap(), &["stats"]);
    assert_eq!(
        (code, &stats["engine"], &stats["open"]["incident"]),
        (0, &json!("sled"), &json!(1))
    );

    assert_eq!(store(data, &["compact"]).0, 0);
    for engine in ["sled", "redb", "sled"] {
        assert_eq!(store(data, &["migrate", "--to", engine]).0, 0);
    }
    assert_eq!(store(data, &["verify"]), (0, json!({"good": true, "findings": []})));
    daemon.restart();
    assert_eq!(daemon.incident_becomes("open", SOON)["id"], "INC-1");
    assert_eq!(daemon.get("/api/v1/status")["store"]["engine"], "sled", "it stays what it is");
}

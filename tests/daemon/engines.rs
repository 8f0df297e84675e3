//! The daemon on the engine of the store that its settings name.

use crate::support::{BY_SERVICE, Daemon, Options, SOON, firing, over, program};
use serde_json::json;

#[test]
fn on_sled_everything_is_there_after_kill_9_and_another_engine_is_refused() {
    let settings = "store: {engine: sled, retention: 7d}\n".to_owned();
    let rules = BY_SERVICE.to_owned();
    let mut daemon = Daemon::start_with(Options { rules, settings, ..Options::default() });
    assert_eq!(daemon.get("/api/v1/status")["store"]["engine"], "sled");
    let alert = [("alertname", "Down"), ("service", "shop"), ("severity", "critical")];
    daemon.deliver(&[firing(&alert)]);
    let id = daemon.incident_becomes("open", SOON)["id"].as_str().unwrap().to_owned();
    daemon.done(&format!("/api/v1/incidents/{id}/ack"), &json!({"by": "ann"}));
    let path = format!("/api/v1/incidents/{id}");
    let before = daemon.get(&path);

    daemon.kill_9();
    daemon.restart();
    assert_eq!(daemon.get("/api/v1/status")["store"]["engine"], "sled");
    let after = daemon.get(&path);
    assert_eq!(after["state"], "acknowledged");
    for key in ["id", "owner", "opened_at", "acknowledged_at", "alerts", "timeline"] {
        assert_eq!(after[key], before[key], "{key}");
    }
    daemon.deliver(&[over(&alert)]);
    daemon.incident_becomes("resolved", SOON);

    daemon.kill_9();
    let data = daemon.data();
    let other = daemon.folder.path().join("other.yaml");
    std::fs::write(&other, "store: {engine: redb}").unwrap();
    let paths = [other.to_str().unwrap(), data.to_str().unwrap()];
    let arguments = ["serve", "--config", paths[0], "--data", paths[1], "--listen", "127.0.0.1:0"];
    let refused = program(&arguments);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("watchkeeper store migrate --to redb"), "{refused:?}");
    daemon.restart();
    daemon.incident_becomes("resolved", SOON);
}

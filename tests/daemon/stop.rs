//! The end of the daemon: quick, clean, and taken up again.

use crate::http;
use crate::support::{BY_SERVICE, Daemon, SOON, eventually, firing};
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

#[test]
fn it_stops_within_five_seconds_whatever_goes_on() {
    let folder = tempfile::TempDir::new().unwrap();
    let script = folder.path().join("step");
    let text = format!(
        "#!/bin/sh\ntrap '' TERM\necho $$ > '{}/pid'\nwhile true; do sleep 1; done\n",
        folder.path().display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let mut daemon = Daemon::start(&format!(
        "{BY_SERVICE}
runbooks:
  - name: endless
    mode: auto
    triggers: [{{event: incident_opened, matchers: []}}]
    steps: [{{id: a, command: {{argv: ['{}']}}, timeout: 10m, idempotency: once}}]
",
        script.display()
    ));
    let (status, mut stream) = http::open_stream(daemon.address, "/api/v1/stream").unwrap();
    assert_eq!(status, 200);
    daemon.deliver(&[firing(&[("alertname", "Down"), ("service", "shop")])]);
    let pid = eventually("the step runs", SOON, || {
        fs::read_to_string(folder.path().join("pid")).ok().filter(|it| it.ends_with('\n'))
    });
    let mut first = [0_u8; 1];
    stream.read_exact(&mut first).unwrap();

    let (status, took) = daemon.terminate();
    assert!(status.success(), "{status}");
    assert!(took < Duration::from_secs(5), "it took {took:?}");
    let state = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    let running = !state.is_empty() && !state.contains(") Z ");
    assert!(!running, "the step was left behind: {state}");

    daemon.restart();
    let execution = daemon.items("/api/v1/executions").remove(0);
    assert_ne!(execution["state"], "running", "a `once` step is not begun again: {execution}");
    assert_eq!(daemon.items("/api/v1/incidents").len(), 1);
}

#[test]
fn what_was_delivered_just_before_is_there_after() {
    let mut daemon = Daemon::start(BY_SERVICE);
    daemon.deliver(&[firing(&[("alertname", "Down"), ("service", "shop")])]);
    let (status, _) = daemon.terminate();
    assert!(status.success(), "{status}");
    daemon.restart();
    let incident = daemon.incident_becomes("open", SOON);
    assert_eq!(incident["alert_count"], 1, "{incident}");
}

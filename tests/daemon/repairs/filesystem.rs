//! A real file system fills up with old logs: they are removed, and Prometheus sees the space.

use super::{Plan, Scene, exporter};
use crate::disk_full::SmallDisk;
use crate::support::SOON;
use std::fs;
use std::path::Path;

/// Writes logs as a service that rotates them and removes none, until there is no room.
fn fill(folder: &Path) -> usize {
    let is_written = |number: &usize| {
        fs::write(folder.join(format!("shop.log.{number}")), vec![b'x'; 1 << 20]).is_ok()
    };
    (1..1000).take_while(is_written).count()
}

#[test]
fn a_full_file_system_is_cleaned() {
    let disk = SmallDisk::mount();
    let folder = disk.folder.path();
    fs::write(folder.join("shop.log"), "today\n").unwrap();
    let told = tempfile::TempDir::new().unwrap();
    let exporter = exporter(told.path(), &["filesystem", folder.to_str().unwrap()]);
    let scene = Scene::start(Plan {
        rules: "
runbooks:
  - name: remove-old-logs
    mode: auto
    triggers: [{event: incident_opened, matchers: ['alertname=\"HostOutOfDiskSpace\"']}]
    parameters: {mountpoint: {value: '{{ labels.mountpoint }}', pattern: '/tmp/[A-Za-z0-9._-]+'}}
    lock: 'disk/{{ parameters.mountpoint }}'
    steps:
      - {id: look, command: {argv: [du, -x, -m, -s, '{{ parameters.mountpoint }}']}, idempotency: idempotent}
      - {id: clean, command: {argv: [find, '{{ parameters.mountpoint }}', -xdev, -type, f, -name, 'shop.log.*', -delete]}, idempotency: idempotent}
    verify:
      within: 50s
      every: 1s
      alerts_resolved: true
      query: {source: prod, promql: 'node_filesystem_avail_bytes{mountpoint=\"{{ parameters.mountpoint }}\"} / node_filesystem_size_bytes > 0.9'}
"
        .to_owned(),
        alert: "alert: HostOutOfDiskSpace, labels: {severity: critical},
                expr: 'node_filesystem_avail_bytes / node_filesystem_size_bytes < 0.1'",
        target: Some(exporter.address),
        ..Plan::default()
    });
    scene.prometheus_says("node_filesystem_avail_bytes / node_filesystem_size_bytes > 0.9");
    assert!(scene.daemon.items("/api/v1/executions").is_empty());

    assert!(fill(folder) >= 20);
    assert!(fs::write(folder.join("order"), vec![0; 1 << 20]).is_err(), "the service cannot work");
    scene.prometheus_says("node_filesystem_avail_bytes / node_filesystem_size_bytes < 0.1");
    let run = scene.run_becomes("succeeded");
    assert_eq!(run["why"], "verified: all alerts are over, query", "{run}");
    scene.prometheus_says("node_filesystem_avail_bytes / node_filesystem_size_bytes > 0.9");
    fs::write(folder.join("order"), vec![0; 1 << 20]).unwrap();
    assert_eq!(fs::read_to_string(folder.join("shop.log")).unwrap(), "today\n");
    scene.daemon.incident_becomes("resolved", SOON);
}

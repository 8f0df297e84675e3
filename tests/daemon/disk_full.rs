//! A full disk: 503 at once, reading goes on, and it ends by itself.

use crate::http::Receiver;
use crate::support::{BY_SERVICE, Daemon, Options, SOON, eventually, firing};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A file system of 24 MiB in memory; unmounted at the end of the test.
pub(crate) struct SmallDisk {
    pub(crate) folder: TempDir,
}

impl SmallDisk {
    pub(crate) fn mount() -> Self {
        let folder = TempDir::new().unwrap();
        let options = ["-t", "tmpfs", "-o", "size=24m,mode=0777", "tmpfs"];
        let status = as_root("mount").args(options).arg(folder.path()).status().unwrap();
        assert!(status.success(), "cannot mount a tmpfs; this test needs root or `sudo -n`");
        Self { folder }
    }

    fn filler(&self) -> PathBuf {
        self.folder.path().join("filler")
    }

    /// Takes every byte that is left.
    fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.filler()).unwrap();
        for size in [1 << 16, 1 << 12, 1] {
            while file.write_all(&vec![b'x'; size]).is_ok() {}
        }
    }

    fn make_space(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(as_root("umount").arg("-l").arg(self.folder.path()).status());
    }
}

fn as_root(program: &str) -> Command {
    if rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["-n", program]);
    command
}

fn post(daemon: &Daemon, number: u32) -> crate::http::Reply {
    let instance = number.to_string();
    let labels = [("alertname", "Load"), ("service", "shop"), ("instance", instance.as_str())];
    daemon.post("/api/v2/alerts", &json!([firing(&labels)]))
}

fn instances(daemon: &Daemon) -> BTreeSet<u32> {
    let alerts = daemon.get("/api/v2/alerts");
    let alerts = alerts.as_array().unwrap();
    alerts.iter().map(|it| it["labels"]["instance"].as_str().unwrap().parse().unwrap()).collect()
}

#[test]
fn a_full_disk_stops_the_intake_and_nothing_else() {
    let disk = SmallDisk::mount();
    let data = disk.folder.path().join("data");
    let options =
        Options { rules: BY_SERVICE.to_owned(), data: Some(data.clone()), ..Options::default() };
    let mut daemon = Daemon::start_with(options);
    let mut acknowledged = BTreeSet::new();
    for number in 0..100 {
        assert_eq!(post(&daemon, number).status, 200);
        acknowledged.insert(number);
    }
    let next = fill_until_refused(&daemon, &disk, &mut acknowledged);

    assert!(instances(&daemon).is_superset(&acknowledged), "reading goes on");
    assert_eq!(daemon.items("/api/v1/incidents").len(), 1);
    assert!(daemon.metrics().contains("watchkeeper_alerts_total"));
    assert_eq!(daemon.send("GET", "/-/healthy", &[], b"").status, 200);
    assert_eq!(daemon.send("GET", "/-/ready", &[], b"").status, 503);

    for _ in 0..2 {
        daemon.kill_9();
        fs::remove_file(data.join("listen")).unwrap_or_default();
        disk.fill();
        daemon.restart_unready();
        disk.fill();
        assert_nothing_lost(&daemon, &acknowledged);
        assert_eq!(daemon.items("/api/v1/incidents").len(), 1);
        assert_eq!(post(&daemon, next).status, 503);
    }

    disk.make_space();
    let mut number = next;
    eventually("it takes alerts again by itself", Duration::from_secs(5), || {
        number += 1;
        (post(&daemon, number).status == 200).then_some(())
    });
    acknowledged.insert(number);
    assert_nothing_lost(&daemon, &acknowledged);
    eventually("it is ready again", Duration::from_secs(5), || {
        (daemon.send("GET", "/-/ready", &[], b"").status == 200).then_some(())
    });
    daemon.kill_9();
    daemon.restart();
    assert_nothing_lost(&daemon, &acknowledged);
    drop(daemon);
    assert!(Path::new(&data).exists());
}

/// Whoever watches over this watch hears nothing while no record becomes durable, so that he raises the
/// alarm, and hears again by itself when there is space.
#[test]
fn the_watch_outside_is_not_told_while_the_disk_is_full() {
    let receiver = Receiver::start();
    let disk = SmallDisk::mount();
    let daemon = Daemon::start_with(Options {
        rules: BY_SERVICE.to_owned(),
        settings: format!("heartbeat_out: {{url: '{}', every: 1s}}\n", receiver.url("/alive")),
        data: Some(disk.folder.path().join("data")),
        ..Options::default()
    });
    eventually("it is told", SOON, || receiver.received_at("/alive").pop());
    fill_until_refused(&daemon, &disk, &mut BTreeSet::new());
    let count = |outcome| daemon.metric("watchkeeper_heartbeat_out_total", &[("outcome", outcome)]);
    eventually("it is withheld", SOON, || (count("withheld") > 0.5).then_some(()));
    let (told, withheld) = (receiver.received_at("/alive").len(), count("withheld"));
    eventually("it is withheld again and again", SOON, || {
        disk.fill();
        (count("withheld") > withheld + 2.5).then_some(())
    });
    assert_eq!(receiver.received_at("/alive").len(), told, "told although nothing is durable");
    assert!(daemon.log().contains("the outer watch was not told that we live"));
    disk.make_space();
    eventually("it is told again by itself", SOON, || {
        (receiver.received_at("/alive").len() > told).then_some(())
    });
}

/// A step is under way while the disk becomes full, and ends while it is: its result waits in
/// memory, and is written down when there is space. Meanwhile the daemon is calm and readable.
#[test]
fn what_is_under_way_when_the_disk_becomes_full_is_not_lost() {
    let receiver = Receiver::start();
    receiver.answer_after(Duration::from_secs(3));
    let rules = format!(
        "{BY_SERVICE}
runbooks:
  - name: slow
    mode: auto
    triggers: [{{event: incident_opened, matchers: []}}]
    steps:
      - {{id: a, http: {{method: POST, url: '{}', body: 'x'}}, timeout: 10s, idempotency: once}}
",
        receiver.url("/once")
    );
    let disk = SmallDisk::mount();
    let settings = format!("http_allow: ['{}']\n", receiver.address);
    let data = Some(disk.folder.path().join("data"));
    let daemon = Daemon::start_with(Options { rules, settings, data, ..Options::default() });
    assert_eq!(post(&daemon, 0).status, 200);
    eventually("the step begins", SOON, || receiver.received_at("/once").pop());
    fill_until_refused(&daemon, &disk, &mut BTreeSet::new());

    let cpu = || daemon.metric("process_cpu_seconds_total", &[]);
    let (begun, used) = (Instant::now(), cpu());
    while begun.elapsed() < Duration::from_secs(5) {
        let asked = Instant::now();
        assert_eq!(daemon.execution_becomes("running", SOON)["runbook"], "slow");
        assert_eq!(daemon.items("/api/v1/incidents").len(), 1);
        assert!(asked.elapsed() < Duration::from_secs(2), "reads take {:?}", asked.elapsed());
        std::thread::sleep(Duration::from_millis(250));
    }
    let used = cpu() - used;
    assert!(used < 2.5, "it used {used} s of a processor in {:?}", begun.elapsed());

    disk.make_space();
    daemon.execution_becomes("succeeded", Duration::from_secs(5));
    assert_eq!(receiver.received_at("/once").len(), 1, "done twice");
}

/// The store may have space of its own left; so it goes on until the first refusal.
fn fill_until_refused(daemon: &Daemon, disk: &SmallDisk, acknowledged: &mut BTreeSet<u32>) -> u32 {
    let mut number = 1000;
    eventually("the full disk is noticed", Duration::from_mins(1), || {
        disk.fill();
        number += 1;
        let begun = Instant::now();
        let reply = post(daemon, number);
        if reply.status == 200 {
            acknowledged.insert(number);
            return None;
        }
        assert_eq!(reply.status, 503, "{}", reply.body);
        assert!(reply.headers.contains_key("retry-after"), "{reply:?}");
        assert!(begun.elapsed() < Duration::from_secs(2), "503 took {:?}", begun.elapsed());
        Some(())
    });
    number
}

fn assert_nothing_lost(daemon: &Daemon, acknowledged: &BTreeSet<u32>) {
    let there = instances(daemon);
    let lost: Vec<&u32> = acknowledged.difference(&there).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
}

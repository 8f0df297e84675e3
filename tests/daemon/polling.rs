//! Polled Prometheus servers, the gap, and the watch outside: beside a real Prometheus.

use crate::support::{BY_SERVICE, Daemon, Options, SOON, eventually, free_port};
use crate::tools::{Neighbour, prometheus_at};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const MINUTE: Duration = Duration::from_mins(1);

/// A page that tells what the test wants, and counts who asks.
pub(crate) struct Page {
    pub(crate) address: SocketAddr,
    pub(crate) text: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

impl Page {
    pub(crate) fn serve() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let page = Self {
            address: listener.local_addr().unwrap(),
            text: Arc::default(),
            asked: Arc::default(),
        };
        let (text, asked) = (page.text.clone(), page.asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let mut request = [0; 4096];
                let Ok(_) = stream.read(&mut request) else { continue };
                asked.fetch_add(1, Ordering::Relaxed);
                let body = text.lock().unwrap().clone();
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\nconnection: close";
                drop(write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
            }
        });
        page
    }

    /// These things are broken, the others are not.
    fn broken(&self, things: &[&str]) {
        let line =
            |it: &str| format!("broken{{thing=\"{it}\"}} {}\n", u8::from(things.contains(&it)));
        *self.text.lock().unwrap() = ["a", "b", "c"].map(line).concat();
    }
}

/// A Prometheus that looks at a page.
struct Rig {
    folder: TempDir,
    page: Page,
    address: SocketAddr,
    rules: String,
    prometheus: Option<Neighbour>,
}

impl Rig {
    fn new(pending: &str) -> Self {
        let rules = format!(
            "
groups:
  - name: things
    rules:
      - alert: Broken
        expr: broken == 1
        for: {pending}
        labels: {{severity: critical, service: shop}}
        annotations: {{summary: 'it is broken: {{{{ $labels.thing }}}}'}}
"
        );
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (folder, page) = (TempDir::new().unwrap(), Page::serve());
        page.broken(&[]);
        Self { folder, page, address, rules, prometheus: None }
    }

    /// Starts it, so that it sends to `targets`.
    fn start(&mut self, targets: &[SocketAddr]) {
        let targets: Vec<String> = targets.iter().map(|it| format!("'{it}'")).collect();
        let configuration = format!(
            "
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s, external_labels: {{cluster: eu}}}}
rule_files: [alerts.yml]
scrape_configs: [{{job_name: things, static_configs: [{{targets: ['{}']}}]}}]
alerting: {{alertmanagers: [{{static_configs: [{{targets: [{}]}}]}}]}}
",
            self.page.address,
            targets.join(", ")
        );
        let folder = self.folder.path();
        let started = prometheus_at(self.address, folder, &configuration, &self.rules);
        self.prometheus = Some(started);
    }

    fn stop(&mut self) {
        drop(self.prometheus.take());
    }

    /// What it says of its alerts: thing and state.
    fn says(&self) -> BTreeSet<(String, String)> {
        let answer = self.prometheus.as_ref().unwrap().get("/api/v1/alerts");
        let alerts = answer["data"]["alerts"].as_array().cloned().unwrap_or_default();
        let text = |it: &Value| it.as_str().unwrap_or_default().to_owned();
        alerts.iter().map(|it| (text(&it["labels"]["thing"]), text(&it["state"]))).collect()
    }

    /// Waits until it says that exactly these fire.
    fn fires(&self, things: &[&str]) {
        let expected = things.iter().map(|it| ((*it).to_owned(), "firing".to_owned())).collect();
        eventually("Prometheus sees it", MINUTE, || (self.says() == expected).then_some(()));
    }
}

fn daemon(rig: &Rig, rules: &str) -> Daemon {
    let url = format!("http://{}", rig.address);
    Daemon::start_with(Options {
        rules: format!("{BY_SERVICE}{rules}"),
        settings: format!("prometheus: [{{name: prod, url: '{url}', poll_every: 2s}}]\n"),
        ..Options::default()
    })
}

/// The alerts of things that fire here.
fn firing(daemon: &Daemon) -> BTreeSet<String> {
    let alerts = daemon.items("/api/v1/alerts?state=firing");
    let things = alerts.iter().filter_map(|it| it["labels"]["thing"].as_str());
    things.map(str::to_owned).collect()
}

fn becomes(daemon: &Daemon, things: &[&str]) {
    let expected: BTreeSet<String> = things.iter().map(|it| (*it).to_owned()).collect();
    eventually(&format!("{things:?} fire here"), MINUTE, || {
        (firing(daemon) == expected).then_some(())
    });
}

fn alert(daemon: &Daemon, thing: &str) -> Value {
    let alerts = daemon.items("/api/v1/alerts");
    let mut found: Vec<_> =
        alerts.into_iter().filter(|it| it["labels"]["thing"] == thing).collect();
    assert_eq!(found.len(), 1, "one thing is one alert: {found:?}");
    found.remove(0)
}

#[test]
fn pushed_and_polled_alerts_are_one() {
    let mut rig = Rig::new("0s");
    let daemon = daemon(&rig, "");
    rig.start(&[daemon.address]);
    rig.page.broken(&["a"]);
    let both = json!(["prometheus", "prod"]);
    let found = eventually("both ways told of it", MINUTE, || {
        let found =
            daemon.items("/api/v1/alerts").into_iter().find(|it| it["labels"]["thing"] == "a");
        found.filter(|it| it["sources"].as_array().is_some_and(|it| it.len() == 2))
    });
    assert_eq!(found["labels"]["cluster"], "eu", "its external label was asked for: {found}");
    let sources: BTreeSet<String> =
        found["sources"].as_array().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(sources, both.as_array().unwrap().iter().map(ToString::to_string).collect());
    assert!(found["generator_url"].as_str().unwrap().contains("/graph"), "{found}");
    rig.page.broken(&[]);
    becomes(&daemon, &[]);
    assert_eq!(alert(&daemon, "a")["state"], "resolved");
    assert_eq!(alert(&daemon, "a")["count"], 1);
    let expired = daemon.metric("watchkeeper_alerts_total", &[("disposition", "expired")]);
    assert!(expired.abs() < 0.5, "{expired}");
    let status = daemon.send("GET", "/api/v1/status", &[], b"").json();
    assert_eq!(status["prometheus"][0]["name"], "prod");
    assert_eq!(status["prometheus"][0]["error"], Value::Null, "{status}");
    assert!((daemon.metric("watchkeeper_prometheus_up", &[("server", "prod")]) - 1.0).abs() < 0.5);
}

#[test]
fn after_a_gap_the_state_is_that_of_prometheus() {
    let mut rig = Rig::new("0s");
    rig.start(&[]);
    let promises =
        "sla_policies: [{name: gold, matchers: [], targets: {P3: {acknowledge: 20s}}}]\n";
    let mut daemon = daemon(&rig, promises);
    rig.page.broken(&["a", "b"]);
    becomes(&daemon, &["a", "b"]);
    let opened = Instant::now();
    // As Prometheus would have sent it, a moment before it could not any more.
    let pushed = alert(&daemon, "a");
    let ends = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(4);
    daemon.deliver(&[json!({"labels": pushed["labels"], "annotations": pushed["annotations"],
        "endsAt": ends.to_string()})]);
    let incident = daemon.incident_becomes("open", SOON);
    daemon.kill_9();
    rig.page.broken(&["b", "c"]);
    rig.fires(&["b", "c"]);
    eventually("the promise would be broken", MINUTE, || {
        (opened.elapsed() > Duration::from_secs(22)).then_some(())
    });
    daemon.restart();
    becomes(&daemon, &["b", "c"]);
    let told = alert(&daemon, "a");
    assert_eq!(told["state"], "resolved", "its own server says so: {told}");
    assert_eq!(
        (&alert(&daemon, "b")["count"], &alert(&daemon, "c")["count"]),
        (&json!(1), &json!(1))
    );
    let incidents = daemon.items("/api/v1/incidents");
    assert_eq!(incidents.len(), 1, "{incidents:?}");
    assert_eq!((&incidents[0]["id"], &incidents[0]["alert_count"]), (&incident["id"], &json!(3)));
    for (name, labels) in [
        ("watchkeeper_alerts_total", &[("disposition", "expired")][..]),
        ("watchkeeper_sla_breaches_total", &[]),
    ] {
        let count = daemon.metric(name, labels);
        assert!(count.abs() < 0.5, "{name}: {count}");
    }
}

#[test]
fn a_prometheus_that_starts_anew_ends_nothing() {
    let mut rig = Rig::new("6s");
    rig.page.broken(&["a"]);
    rig.start(&[]);
    let daemon = daemon(&rig, "");
    becomes(&daemon, &["a"]);
    rig.stop();
    let failed = [("server", "prod"), ("outcome", "failed")];
    eventually("a poll fails", MINUTE, || {
        (daemon.metric("watchkeeper_prometheus_polls_total", &failed) > 0.5).then_some(())
    });
    rig.start(&[]);
    let pending: BTreeSet<_> = [("a".to_owned(), "pending".to_owned())].into();
    let mut was_pending = false;
    eventually("it fires there again", MINUTE, || {
        assert_eq!(alert(&daemon, "a")["state"], "firing");
        let says = rig.says();
        was_pending |= says == pending;
        says.contains(&("a".to_owned(), "firing".to_owned())).then_some(())
    });
    assert!(was_pending, "the test shows nothing");
    let polls = || daemon.metric("watchkeeper_prometheus_polls_total", &[("outcome", "ok")]);
    let before = polls();
    eventually("two more polls", MINUTE, || (polls() > before + 1.5).then_some(()));
    let found = alert(&daemon, "a");
    assert_eq!((&found["state"], &found["count"]), (&json!("firing"), &json!(1)), "{found}");
    // What it sees end after that ends here.
    rig.page.broken(&[]);
    becomes(&daemon, &[]);
    assert_eq!(alert(&daemon, "a")["state"], "resolved");
}

#[test]
fn the_watch_outside_is_told_while_ours_goes_round() {
    let page = Page::serve();
    let daemon = Daemon::start_with(Options {
        rules: BY_SERVICE.to_owned(),
        settings: format!("heartbeat_out: {{url: 'http://{}/ping', every: 1s}}\n", page.address),
        ..Options::default()
    });
    eventually("it was told three times", SOON, || {
        (page.asked.load(Ordering::Relaxed) >= 3).then_some(())
    });
    assert!(daemon.metric("watchkeeper_heartbeat_out_total", &[("outcome", "sent")]) > 2.5);
    let withheld = daemon.metric("watchkeeper_heartbeat_out_total", &[("outcome", "withheld")]);
    assert!(withheld.abs() < 0.5);
}

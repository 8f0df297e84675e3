//! `kill -9` again and again under load: nothing acknowledged is lost, nothing is done twice.

use crate::http::{self, Receiver};
use crate::support::{BY_SERVICE, Daemon, Options, eventually};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How often the daemon is killed; `WATCHKEEPER_KILLS` says otherwise.
const KILLS: u32 = 100;

fn kills() -> u32 {
    std::env::var("WATCHKEEPER_KILLS").ok().map_or(KILLS, |it| it.parse().unwrap())
}

fn rules(receiver: &Receiver) -> String {
    format!(
        "{BY_SERVICE}
receivers: [{{name: hook, webhook: {{url: '{}'}}}}]
routes: [{{matchers: [], on: [opened], receiver: hook}}]
runbooks:
  - name: two-steps
    mode: auto
    triggers: [{{event: incident_opened, matchers: []}}]
    lock: '{{{{ incident.id }}}}'
    guards: {{max_runs: {{count: 1000, per: 1m}}}}
    steps:
      - {{id: again, http: {{method: POST, url: '{}', body: '{{{{ incident.id }}}}'}}, timeout: 10s, idempotency: idempotent}}
      - {{id: once, http: {{method: POST, url: '{}', body: '\"{{{{ incident.id }}}}\"'}}, timeout: 10s, idempotency: once}}
",
        receiver.url("/hook"),
        receiver.url("/idempotent"),
        receiver.url("/once"),
    )
}

/// Senders that deliver unique alerts without a break, and remember what got its 200.
struct Load {
    acknowledged: Arc<Mutex<BTreeSet<String>>>,
    stopped: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    fn start(address: SocketAddr) -> Self {
        let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
        let stopped = Arc::new(AtomicBool::new(false));
        let counter = Arc::new(AtomicU64::new(0));
        let threads = (0..3)
            .map(|_| {
                let (acknowledged, stopped) = (acknowledged.clone(), stopped.clone());
                let counter = counter.clone();
                std::thread::spawn(move || {
                    while !stopped.load(Ordering::SeqCst) {
                        let number = counter.fetch_add(1, Ordering::SeqCst);
                        let (names, body) = batch(number);
                        let headers = [("content-type", "application/json")];
                        let body = body.to_string();
                        let path = "/api/v2/alerts";
                        let sent = http::send(address, "POST", path, &headers, body.as_bytes());
                        if sent.is_ok_and(|it| it.status == 200) {
                            acknowledged.lock().unwrap().extend(names);
                        }
                        // The pace of the senders, so that two cores keep up with a thousand kills.
                        std::thread::sleep(Duration::from_millis(50));
                    }
                })
            })
            .collect();
        Self { acknowledged, stopped, threads }
    }

    fn stop(self) -> BTreeSet<String> {
        self.stopped.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().unwrap();
        }
        Arc::into_inner(self.acknowledged).unwrap().into_inner().unwrap()
    }
}

/// Three new alerts; eight batches share a service, and with it an incident.
fn batch(number: u64) -> (Vec<String>, Value) {
    let names: Vec<String> = (0..3).map(|it| format!("{number}-{it}")).collect();
    let ends = Timestamp::now() + SignedDuration::from_hours(24);
    let alerts: Vec<Value> = names
        .iter()
        .map(|it| {
            let service = format!("service-{}", number / 8);
            json!({"labels": {"alertname": "Load", "service": service, "instance": it},
                "endsAt": ends.to_string()})
        })
        .collect();
    (names, json!(alerts))
}

/// Kills and starts again, each time after another short while.
fn kill_again_and_again(daemon: &mut Daemon, kills: u32) {
    let mut lot: u64 = 42;
    for _ in 0..kills {
        lot = lot.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        std::thread::sleep(Duration::from_millis(20 + (lot >> 33) % 180));
        daemon.kill_9();
        daemon.restart();
    }
}

#[test]
fn kill_9_under_load_loses_nothing_and_repeats_nothing() {
    let receiver = Receiver::start();
    // Slow enough that kills fall between claim and result.
    receiver.answer_after(Duration::from_millis(10));
    let settings = format!("http_allow: ['{}']\n", receiver.address);
    let options = Options { rules: rules(&receiver), settings, ..Options::default() };
    let mut daemon = Daemon::start_with(options);
    let load = Load::start(daemon.address);
    kill_again_and_again(&mut daemon, kills());
    let acknowledged = load.stop();
    assert!(!acknowledged.is_empty());

    assert_nothing_lost(&daemon, &acknowledged);
    daemon.kill_9();
    daemon.restart();
    assert_nothing_lost(&daemon, &acknowledged);
    let incidents = assert_one_incident_a_group(&daemon);
    assert_executions_end(&daemon, incidents.len());
    assert_nothing_twice(&receiver);
    assert_everybody_told(&receiver, &incidents);
}

fn assert_nothing_lost(daemon: &Daemon, acknowledged: &BTreeSet<String>) {
    let alerts = daemon.get("/api/v2/alerts");
    let there: BTreeSet<&str> = alerts
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|it| it["labels"]["instance"].as_str())
        .collect();
    let lost: Vec<&String> =
        acknowledged.iter().filter(|it| !there.contains(it.as_str())).collect();
    assert!(lost.is_empty(), "{} of {} lost: {lost:?}", lost.len(), acknowledged.len());
}

fn assert_one_incident_a_group(daemon: &Daemon) -> BTreeSet<String> {
    let mut groups = BTreeMap::new();
    for incident in daemon.all_items("/api/v1/incidents") {
        let id = incident["id"].as_str().unwrap().to_owned();
        let group = incident["services"].to_string();
        if let Some(other) = groups.insert(group.clone(), id.clone()) {
            panic!("{group} has two incidents: {other} and {id}");
        }
    }
    groups.into_values().collect()
}

fn assert_executions_end(daemon: &Daemon, incidents: usize) {
    let count = |executions: &[Value], state: &str| {
        executions.iter().filter(|it| it["state"] == state).count()
    };
    let executions = eventually("all executions end", Duration::from_mins(2), || {
        let executions = daemon.all_items("/api/v1/executions");
        let ended = count(&executions, "succeeded") + count(&executions, "unknown");
        (ended == executions.len()).then_some(executions)
    });
    assert_eq!(executions.len(), incidents, "one execution for each incident");
    assert!(count(&executions, "succeeded") > 0);
}

fn assert_nothing_twice(receiver: &Receiver) {
    let mut keys = BTreeSet::new();
    let mut incidents = BTreeSet::new();
    for request in receiver.received_at("/once") {
        assert!(!request.key().is_empty(), "no idempotency key: {request:?}");
        assert!(keys.insert(request.key().to_owned()), "done twice: {}", request.key());
        let incident = request.body.as_str().unwrap().to_owned();
        assert!(incidents.insert(incident), "done twice: {request:?}");
    }
}

fn assert_everybody_told(receiver: &Receiver, incidents: &BTreeSet<String>) {
    eventually("every incident was told", Duration::from_mins(2), || {
        let told = receiver.told("opened");
        let told: BTreeSet<&str> = told.iter().map(http::Received::incident).collect();
        incidents.iter().all(|it| told.contains(it.as_str())).then_some(())
    });
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for told in receiver.told("opened") {
        // The key is the notification's name, whatever the attempt.
        let name = told.key().to_owned();
        assert!(!name.is_empty(), "no idempotency key: {told:?}");
        let first = names.entry(told.incident().to_owned()).or_insert_with(|| name.clone());
        assert_eq!(*first, name, "told twice under two names: {told:?}");
    }
}

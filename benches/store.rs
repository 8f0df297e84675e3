//! How fast each engine of the store writes, how large it gets, and how soon it opens again.
//!
//! Each write appends one record with some alerts; each eighth also commits the turns of the last
//! eight, the pages of their alerts, an incident and its timeline, as the watch does under load.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]
#![expect(clippy::cast_precision_loss, reason = "figures are rounded for reading")]

use jiff::Timestamp;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use watchkeeper::domain::event::{AlertBatch, CorrelationDomain, Ends, Event, ReceivedAlert};
use watchkeeper::domain::incident::TimelineEntry;
use watchkeeper::domain::label::Labels;
use watchkeeper::store::{Batch, Commit, Engine, Kind, Object, Options, Record, Store, Turn, open};

/// How often each cell is measured; `WATCHKEEPER_ROUNDS` says otherwise.
const ROUNDS: usize = 5;
/// How long one cell is measured.
const CELL: Duration = Duration::from_secs(3);
/// How many alerts a sender puts into one request.
const SIZES: [u64; 3] = [1, 10, 64];
/// How many writes are decided in one commit.
const WRITES_PER_COMMIT: u64 = 8;
/// How many alerts are on a page.
const PAGE_ALERTS: u64 = 32;

/// What was seen in one cell.
struct Figures {
    writes_per_second: f64,
    bytes_per_alert: f64,
    open: Duration,
    open_after_crash: Duration,
}

fn main() {
    // `cargo test --benches` only wants to see that it runs.
    let is_test = !std::env::args().any(|it| it == "--bench");
    let rounds = std::env::var("WATCHKEEPER_ROUNDS").map_or(ROUNDS, |it| it.parse().unwrap());
    let (rounds, cell) = if is_test { (1, CELL / 100) } else { (rounds, CELL) };
    println!("median of {rounds} rounds of {cell:?} each, lowest to highest in brackets\n");
    println!(
        "| alerts a write | engine | writes/s | alerts/s | bytes an alert | open, ms \
         | after a crash, ms |"
    );
    println!("|---|---|---|---|---|---|---|");
    for size in SIZES {
        let mut seen = Engine::ALL.map(|engine| (engine, Vec::new()));
        // The engines take turns, so that what else the machine does meets both.
        for _ in 0..rounds {
            for (engine, figures) in &mut seen {
                figures.push(measure(*engine, size, cell));
            }
        }
        for (engine, figures) in &seen {
            let of = |look: fn(&Figures) -> f64| Spread::of(figures.iter().map(look).collect());
            let writes = of(|it| it.writes_per_second);
            println!(
                "| {size} | {} | {writes} | {:.0} | {} | {} | {} |",
                engine.name(),
                writes.median * size as f64,
                of(|it| it.bytes_per_alert),
                of(|it| it.open.as_secs_f64() * 1000.0),
                of(|it| it.open_after_crash.as_secs_f64() * 1000.0),
            );
        }
    }
}

/// A median, and between what it lies.
struct Spread {
    low: f64,
    median: f64,
    high: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied().unwrap_or_default();
        Self { low: at(0), median: at(values.len() / 2), high: at(values.len() - 1) }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{:.0} [{:.0}–{:.0}]", self.median, self.low, self.high)
    }
}

fn measure(engine: Engine, size: u64, cell: Duration) -> Figures {
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let folder = place.path().join("store");
    let store = open(engine, &folder, Options::default()).unwrap();
    // What is written is made beforehand, so that only the store is measured.
    let made: Vec<Vec<ReceivedAlert>> =
        (0..2000).map(|n| (n * size..(n + 1) * size).map(alert).collect()).collect();
    let (mut seq, mut spent) = (0, Duration::ZERO);
    while spent < cell {
        let batch = batch(seq + 1, size, &made);
        let begun = Instant::now();
        store.write(&batch).unwrap();
        spent += begun.elapsed();
        seq += 1;
    }
    let disk_bytes = store.health().disk_bytes;
    // What is in the files now is what `kill -9` would leave.
    let crashed = place.path().join("crashed");
    copy_folder(&folder, &crashed);
    let (open_after_crash, found) = timed_open(engine, &crashed);
    assert_eq!(found, seq);
    drop(store);
    Figures {
        writes_per_second: seq as f64 / spent.as_secs_f64(),
        bytes_per_alert: disk_bytes as f64 / (seq * size) as f64,
        open: timed_open(engine, &folder).0,
        open_after_crash,
    }
}

/// How long it takes until everything that a start needs is there, and the last record's `seq`.
fn timed_open(engine: Engine, folder: &Path) -> (Duration, u64) {
    let begun = Instant::now();
    let store = open(engine, folder, Options::default()).unwrap();
    let loaded = store.load().unwrap();
    (begun.elapsed(), loaded.last_seq)
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// An alert as Prometheus sends it.
fn alert(number: u64) -> ReceivedAlert {
    let lot = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let instance = format!("10.{}.{}.{}:9100", number >> 16 & 255, number >> 8 & 255, number & 255);
    let pod = format!("checkout-{:08x}-{:05x}", lot >> 32, lot & 0xf_ffff);
    let labels = [
        ("alertname", "PodCrashLooping"),
        ("cluster", "eu-central-1"),
        ("namespace", "shop"),
        ("service", "checkout"),
        ("severity", "critical"),
        ("job", "kube-state-metrics"),
        ("instance", instance.as_str()),
        ("pod", pod.as_str()),
    ];
    let summary = format!("Pod {pod} restarts again and again");
    let text = format!("Pod shop/{pod} restarted {} times within ten minutes.", 2 + lot % 9);
    ReceivedAlert {
        labels: Labels::from_pairs(labels),
        annotations: Labels::from_pairs([
            ("summary", summary.as_str()),
            ("description", text.as_str()),
            ("runbook_url", "https://runbooks.example.org/pod-crash-looping"),
        ]),
        starts_at: Some(at(number)),
        ends: Ends::At(at(number + 240)),
        generator_url: "http://prometheus.example.org/graph?g0.expr=rate%28restarts%5B5m%5D%29"
            .into(),
        identity: None,
    }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + i64::try_from(seconds).unwrap()).unwrap()
}

fn batch(seq: u64, size: u64, made: &[Vec<ReceivedAlert>]) -> Batch {
    let alerts_of = |seq: u64| made.iter().cycle().nth(usize::try_from(seq).unwrap() % made.len());
    let alerts = alerts_of(seq).unwrap().clone();
    let batch = AlertBatch { source: "prometheus".into(), alerts, rejected: Vec::new() };
    let events = vec![Event::AlertsReceived(batch)];
    let record = Record { seq, correlation_domain: CorrelationDomain(0), events };
    let mut batch = Batch { appends: vec![record], ..Batch::default() };
    if seq.is_multiple_of(WRITES_PER_COMMIT) {
        let decided = seq - WRITES_PER_COMMIT..seq;
        let alerts: Vec<_> = decided.clone().filter_map(alerts_of).flatten().collect();
        let mut commit = Commit::default();
        let seqs = decided.filter(|it| *it > 0);
        commit.turns =
            seqs.map(|it| Turn { now: at(it), seq: Some(it), poisoned: false }).collect();
        let first = (seq - WRITES_PER_COMMIT) * size / PAGE_ALERTS;
        for (page, alerts) in (first..).zip(alerts.chunks(usize::try_from(PAGE_ALERTS).unwrap())) {
            let body = serde_json::to_vec(alerts).unwrap();
            commit.puts.push(Object { kind: Kind::AlertPage, id: page.to_string(), body });
        }
        let id = format!("INC-{}", seq / 64);
        let body = serde_json::to_vec(&alerts.first()).unwrap();
        commit.puts.push(Object { kind: Kind::Incident, id: id.clone(), body });
        commit.timeline.push((id, entry(seq)));
        batch.commit = Some(commit);
    }
    batch
}

fn entry(seq: u64) -> TimelineEntry {
    TimelineEntry {
        at: at(seq),
        kind: "joined".to_owned(),
        by: "watchkeeper".to_owned(),
        text: format!("{seq} alerts joined by the rule web"),
        alerts: Vec::new(),
    }
}

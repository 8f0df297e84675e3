//! Asks the server each second how it is while it is under load, and afterwards what it knows.

use super::Notifier;
use crate::connection::{Connection, Target};
use crate::process;
use anyhow::{Context as _, bail};
use serde::Deserialize;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How often memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How many looks at memory go on one look at the answers: one each second.
const LOOKS_A_QUESTION: u64 = 5;

/// What was seen.
#[derive(Default)]
pub(super) struct Watched {
    /// How often the server was asked.
    pub(super) looks: u64,
    /// How often it did not answer with 200.
    pub(super) failures: u64,
    /// The longest that `/-/ready` took.
    pub(super) longest_ready: Duration,
    /// The longest that `/metrics` took.
    pub(super) longest_metrics: Duration,
    /// The most memory that it had.
    pub(super) resident_bytes_max: f64,
    /// The CPU time that it took.
    pub(super) cpu_seconds: f64,
}

/// Watches until everything is sent.
pub(super) async fn watch(target: Target, pid: u32, notifier: Rc<RefCell<Notifier>>) -> Watched {
    let before = process::usage(pid).cpu_seconds;
    let mut watched = Watched::default();
    let mut connection = Connection::new(target);
    let mut tick = tokio::time::interval(LOOK_EVERY);
    let mut number = 0;
    while !(notifier.borrow().is_over && notifier.borrow().queue.is_empty()) {
        tick.tick().await;
        let usage = process::usage(pid);
        watched.resident_bytes_max = watched.resident_bytes_max.max(usage.resident_bytes);
        watched.cpu_seconds = usage.cpu_seconds - before;
        if number % LOOKS_A_QUESTION == 0 {
            let ready = watched.ask(&mut connection, "/-/ready").await;
            let metrics = watched.ask(&mut connection, "/metrics").await;
            watched.longest_ready = watched.longest_ready.max(ready);
            watched.longest_metrics = watched.longest_metrics.max(metrics);
        }
        number += 1;
    }
    watched
}

impl Watched {
    async fn ask(&mut self, connection: &mut Connection, path: &str) -> Duration {
        connection.turn_to(path);
        let begin = Instant::now();
        let answer = connection.read(|_| {}).await;
        self.looks += 1;
        self.failures += u64::from(!answer.is_ok_and(|it| it.as_u16() == 200));
        begin.elapsed()
    }
}

/// An alert as the server knows it.
pub(super) struct Found {
    /// `firing`, `resolved` or `expired`.
    pub(super) state: String,
    /// When it began, as RFC 3339 without zeros at the end of its fraction.
    pub(super) starts_at: String,
}

#[derive(Deserialize)]
struct Page {
    items: Vec<Item>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Item {
    annotations: BTreeMap<String, String>,
    state: String,
    starts_at: String,
}

/// Reads all alerts by `GET /api/v1/alerts`, which tells of resolved ones too, by series.
pub(super) async fn read_alerts(target: &Target) -> anyhow::Result<BTreeMap<u64, Found>> {
    let mut connection = Connection::new(target.clone());
    let mut found = BTreeMap::new();
    let mut cursor = String::new();
    loop {
        connection.turn_to(&format!("/api/v1/alerts?limit=1000{cursor}"));
        let mut text = Vec::new();
        let status = connection.read(|piece| text.extend_from_slice(piece)).await?;
        if !status.is_success() {
            bail!("the alerts cannot be read: `{status}`");
        }
        let page: Page = serde_json::from_slice(&text)?;
        for item in page.items {
            let series = item.annotations.get("loadgen").and_then(|it| it.split('-').next());
            let series = series.and_then(|it| it.parse().ok()).context("not an alert of ours")?;
            found.insert(series, Found { state: item.state, starts_at: item.starts_at });
        }
        match page.next_cursor {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(found),
        }
    }
}

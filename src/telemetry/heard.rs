//! What is counted of those who must be heard from, and of those who must hear from us.

use super::metrics::{Metrics, register};
use crate::domain::heartbeat::Signal;
use jiff::Timestamp;
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// How polling a server went last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PollHealth {
    /// When it last went well.
    pub last_success_at: Option<Timestamp>,
    /// Why the last poll failed; `None` = it did not.
    pub error: Option<String>,
    /// How many alerts fired there when it last went well.
    pub alerts: usize,
}

/// Signs of life, polls, and what is told to the outer watch.
pub(super) struct Heard {
    pings: IntCounterVec,
    polls: IntCounterVec,
    up: IntGaugeVec,
    out: IntCounterVec,
    subscriptions: IntCounterVec,
    quarantined: IntCounterVec,
    executor: IntGaugeVec,
    health: Mutex<BTreeMap<String, PollHealth>>,
}

impl Heard {
    pub(super) fn new(registry: &Registry) -> Self {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            register(registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let pings = counter(
            "watchkeeper_heartbeat_pings_total",
            "Signs of life, by what they say",
            &["signal"],
        );
        for signal in Signal::WORDS {
            pings.with_label_values(&[signal]).inc_by(0);
        }
        let polls = counter(
            "watchkeeper_prometheus_polls_total",
            "Questions to polled servers",
            &["server", "outcome"],
        );
        let up = Opts::new("watchkeeper_prometheus_up", "1 if the last poll of it went well");
        let up = register(registry, IntGaugeVec::new(up, &["server"]));
        let out = counter(
            "watchkeeper_heartbeat_out_total",
            "Words to the outer watch, and those that were withheld because ours did not go round",
            &["outcome"],
        );
        for outcome in ["sent", "failed", "withheld"] {
            out.with_label_values(&[outcome]).inc_by(0);
        }
        let subscriptions = counter(
            "watchkeeper_sns_subscriptions_total",
            "Subscriptions that SNS asked to confirm",
            &["outcome"],
        );
        for outcome in ["confirmed", "failed", "refused"] {
            subscriptions.with_label_values(&[outcome]).inc_by(0);
        }
        let quarantined = counter(
            "watchkeeper_bodies_quarantined_total",
            "Well-formed bodies that were not understood, or not wholly",
            &["source"],
        );
        let executor = Opts::new("watchkeeper_executor_up", "1 if the executor answers");
        let executor = register(registry, IntGaugeVec::new(executor, &[]));
        let health = Mutex::default();
        Self { pings, polls, up, out, subscriptions, quarantined, executor, health }
    }

    /// Counts a sign of life.
    pub(super) fn pinged(&self, signal: Signal) {
        self.pings.with_label_values(&[signal.as_str()]).inc();
    }
}

impl Metrics {
    /// Notes how polling a server went: how many alerts fire there, or why it failed.
    pub fn polled(&self, server: &str, result: Result<usize, String>) {
        let heard = self.heard();
        let outcome = if result.is_ok() { "ok" } else { "failed" };
        heard.polls.with_label_values(&[server, outcome]).inc();
        heard.up.with_label_values(&[server]).set(i64::from(result.is_ok()));
        let mut health = heard.health.lock().unwrap_or_else(PoisonError::into_inner);
        let health = health.entry(server.to_owned()).or_default();
        match result {
            Ok(alerts) => {
                *health =
                    PollHealth { last_success_at: Some(Timestamp::now()), error: None, alerts };
            }
            Err(error) => health.error = Some(error),
        }
    }

    /// How polling goes, by server.
    pub fn polls(&self) -> BTreeMap<String, PollHealth> {
        self.heard().health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a body of a source that was not understood.
    pub fn quarantined(&self, source: &str) {
        let source = self.bounded("source", source);
        self.heard().quarantined.with_label_values(&[source]).inc();
    }

    /// Counts a subscription that SNS asked to confirm: `confirmed`, `failed` or `refused`.
    pub fn subscription(&self, outcome: &str) {
        self.heard().subscriptions.with_label_values(&[outcome]).inc();
    }

    /// Notes whether the executor answers; where there is none nothing is shown of it.
    pub fn executor_up(&self, is_up: bool) {
        self.heard().executor.with_label_values::<&str>(&[]).set(i64::from(is_up));
    }

    /// Counts a word to the outer watch: `sent`, `failed` or `withheld`.
    pub fn told_outer_watch(&self, outcome: &str) {
        self.heard().out.with_label_values(&[outcome]).inc();
    }
}

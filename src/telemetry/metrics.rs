//! The one list of metric names: what is counted, and what is looked up when it is asked for.

mod changes;
mod suppression;

use changes::Changes;
pub use suppression::Silences;

use super::Gauges;
use super::forecasts::Forecasts;
use super::heard::Heard;
use crate::domain::Count;
use crate::domain::alert::Disposition;
use crate::domain::execution::ExecutionState;
use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// The priorities, as metric labels.
pub const PRIORITIES: [&str; 5] = ["P1", "P2", "P3", "P4", "P5"];

/// How many values a label may take that senders or rules choose; further ones count as `other`.
const LABEL_VALUES_MAX: usize = 200;

/// Buckets for what people do, in seconds: 10 s to 7 days.
const PEOPLE_BUCKETS: [f64; 14] = [
    10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 14_400.0, 28_800.0, 86_400.0,
    259_200.0, 604_800.0,
];
/// Buckets for runs of runbooks, in seconds: 0.1 s to a day.
const EXECUTION_BUCKETS: [f64; 12] =
    [0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0];
/// Buckets for a write that is made durable, in seconds: 0.1 ms to 5 s.
const APPEND_BUCKETS: [f64; 14] =
    [0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
/// Buckets for a detection run, in seconds: 1 ms to 5 min.
const DETECTION_BUCKETS: [f64; 11] =
    [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0];

/// Counts what happens. Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    alerts_received: IntCounterVec,
    alerts: IntCounterVec,
    incidents_opened: IntCounterVec,
    sla_breaches: IntCounterVec,
    times: Times,
    executions: IntCounterVec,
    runbook_blocked: IntCounterVec,
    notifications: IntCounterVec,
    changes: Changes,
    heard: Heard,
    forecasts: Forecasts,
    effects_dead: IntGauge,
    records_set_aside: IntCounter,
    store_healed: IntCounter,
    last_reload_successful: IntGauge,
    /// The label values that were seen, by metric name.
    seen: Mutex<BTreeMap<&'static str, BTreeSet<String>>>,
}

/// How long things took, in seconds.
struct Times {
    acknowledge: Histogram,
    resolve: Histogram,
    detection: Histogram,
    execution: Histogram,
    log_append: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Makes a set in which everything whose labels are known beforehand stands at 0.
    pub fn new() -> Self {
        let registry = Registry::new();
        let inner = Inner::new(registry);
        for disposition in Disposition::ALL {
            inner.alerts.with_label_values(&[disposition.as_str()]).inc_by(0);
        }
        for priority in PRIORITIES {
            inner.incidents_opened.with_label_values(&[priority]).inc_by(0);
        }
        for guard in [
            "stopped",
            "lock",
            "by_hand",
            "breaker",
            "cooldown",
            "max_runs",
            "at_once",
            "parameter",
            "template",
        ] {
            inner.runbook_blocked.with_label_values(&[guard]).inc_by(0);
        }
        for outcome in ["delivered", "dead", "muted"] {
            inner.notifications.with_label_values(&[outcome]).inc_by(0);
        }
        Self { inner: Arc::new(inner) }
    }

    /// Counts what a turn did.
    pub fn count(&self, count: &Count) {
        let inner = &self.inner;
        match count {
            Count::Alert(disposition) => {
                inner.alerts.with_label_values(&[disposition.as_str()]).inc();
            }
            Count::IncidentOpened(priority) => {
                inner.incidents_opened.with_label_values(&[priority.as_str()]).inc();
            }
            Count::IncidentAcknowledged(after) => {
                inner.times.acknowledge.observe(seconds(*after));
            }
            Count::IncidentResolved(after) => inner.times.resolve.observe(seconds(*after)),
            Count::SlaBreached { policy, target } => {
                let policy = inner.bounded("sla", policy);
                inner.sla_breaches.with_label_values(&[policy, target.as_str()]).inc();
            }
            Count::ExecutionEnded { runbook, outcome, seconds: after } => {
                let runbook = inner.bounded("runbook", runbook);
                inner.executions.with_label_values(&[runbook, outcome.as_str()]).inc();
                if has_run(*outcome) {
                    inner.times.execution.observe(seconds(*after));
                }
            }
            Count::RunbookBlocked(guard) => {
                let guard = inner.bounded("guard", guard);
                inner.runbook_blocked.with_label_values(&[guard]).inc();
            }
            Count::ChangeRecorded(kind) => inner.changes.told(*kind),
            Count::ChangeInFreeze(kind) => inner.changes.in_freeze(*kind),
            Count::NotificationDelivered => {
                inner.notifications.with_label_values(&["delivered"]).inc();
            }
            Count::NotificationDead => {
                inner.notifications.with_label_values(&["dead"]).inc();
                inner.effects_dead.inc();
            }
            Count::NotificationMuted => {
                inner.notifications.with_label_values(&["muted"]).inc();
            }
            Count::NotificationWouldSend => {
                inner.notifications.with_label_values(&["would_send"]).inc();
            }
            Count::HeartbeatPinged(signal) => inner.heard.pinged(*signal),
            Count::RecordPoisoned => inner.records_set_aside.inc(),
            Count::StoreHealed => inner.store_healed.inc(),
        }
    }

    /// See [`Inner::bounded`].
    pub(super) fn bounded<'a>(&self, label: &'static str, value: &'a str) -> &'a str {
        self.inner.bounded(label, value)
    }

    pub(super) fn heard(&self) -> &Heard {
        &self.inner.heard
    }

    pub(super) fn forecasts(&self) -> &Forecasts {
        &self.inner.forecasts
    }

    /// Counts alerts that a source delivered.
    pub fn alerts_received(&self, source: &str, count: u64) {
        let source = self.inner.bounded("source", source);
        self.inner.alerts_received.with_label_values(&[source]).inc_by(count);
    }

    /// Notes how long making a batch durable took, in seconds.
    pub fn log_append_seconds(&self, seconds: f64) {
        self.inner.times.log_append.observe(seconds);
    }

    /// Notes how long a detection run took, in seconds.
    pub fn detection_seconds(&self, seconds: f64) {
        self.inner.times.detection.observe(seconds);
    }

    /// Notes whether the last reading of the rules went well.
    pub fn reload(&self, successful: bool) {
        self.inner.last_reload_successful.set(i64::from(successful));
    }

    /// Whether it did.
    pub fn rules_are_good(&self) -> bool {
        self.inner.last_reload_successful.get() == 1
    }

    /// The exposition in Prometheus' text format.
    pub fn render(&self, gauges: &Gauges) -> String {
        let mut families = self.inner.registry.gather();
        families.extend(gauges.families());
        families.extend(super::process::gather());
        families.sort_by(|left, right| left.name().cmp(right.name()));
        TextEncoder::new().encode_to_string(&families).unwrap_or_else(|error| {
            tracing::error!("the metrics cannot be written: {error}");
            String::new()
        })
    }
}

/// Whether an execution with this end did, or may have done, a step.
fn has_run(outcome: ExecutionState) -> bool {
    matches!(
        outcome,
        ExecutionState::Succeeded
            | ExecutionState::Ineffective
            | ExecutionState::Failed
            | ExecutionState::Undone
            | ExecutionState::Aborted
            | ExecutionState::Unknown
    )
}

#[expect(clippy::cast_precision_loss, reason = "2^53 seconds are long enough")]
fn seconds(whole: u64) -> f64 {
    whole as f64
}

impl Inner {
    fn new(registry: Registry) -> Self {
        let counter = |name, help, labels: &[&str]| {
            register(&registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let plain = |name, help| register(&registry, IntCounter::new(name, help));
        let gauge = |name, help| register(&registry, IntGauge::new(name, help));
        tell_build(&registry);
        let last_reload_successful = gauge(
            "watchkeeper_config_last_reload_successful",
            "1 if the last reading of the rules went well",
        );
        last_reload_successful.set(1);
        Self {
            alerts_received: counter(
                "watchkeeper_alerts_received_total",
                "Alerts delivered, before anything is decided",
                &["source"],
            ),
            alerts: counter(
                "watchkeeper_alerts_total",
                "Alerts by what became of them",
                &["disposition"],
            ),
            incidents_opened: counter(
                "watchkeeper_incidents_opened_total",
                "Incidents opened or opened again",
                &["priority"],
            ),
            sla_breaches: counter(
                "watchkeeper_sla_breaches_total",
                "Promises missed",
                &["policy", "target"],
            ),
            executions: counter(
                "watchkeeper_executions_total",
                "Runs of runbooks that ended",
                &["runbook", "outcome"],
            ),
            runbook_blocked: counter(
                "watchkeeper_runbook_blocked_total",
                "Runs that a guard held back",
                &["guard"],
            ),
            notifications: counter(
                "watchkeeper_notifications_total",
                "Notifications that reached their end",
                &["outcome"],
            ),
            heard: Heard::new(&registry),
            forecasts: Forecasts::new(&registry),
            changes: Changes::new(&registry),
            records_set_aside: plain(
                "watchkeeper_records_set_aside_total",
                "Records of the log that could not be decided about",
            ),
            store_healed: plain("watchkeeper_store_healed_total", "How often the store was healed"),
            effects_dead: gauge(
                "watchkeeper_effects_dead",
                "Effects that were given up since the start",
            ),
            last_reload_successful,
            times: Times::new(&registry),
            seen: Mutex::default(),
            registry,
        }
    }

    /// The value itself, or `other` once a label has too many values: what senders write must not
    /// fill our memory or Prometheus'.
    fn bounded<'a>(&self, label: &'static str, value: &'a str) -> &'a str {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let values = seen.entry(label).or_default();
        if values.contains(value) {
            value
        } else if values.len() < LABEL_VALUES_MAX && value.len() <= 128 {
            values.insert(value.to_owned());
            value
        } else {
            "other"
        }
    }
}

/// The metric that tells what runs.
fn tell_build(registry: &Registry) {
    let options = Opts::new("watchkeeper_build_info", "Always 1; the labels tell what runs");
    let build = register(registry, IntGaugeVec::new(options, &["version"]));
    build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
}

/// Registers a metric. Names and labels are constants of this file and each is used once, so
/// neither making nor registering can fail; the tests make the whole list.
pub(super) fn register<T: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<T>,
) -> T {
    let metric = metric.expect("metric names in this file are well-formed");
    registry.register(Box::new(metric.clone())).expect("each name stands once in this file");
    metric
}

impl Times {
    fn new(registry: &Registry) -> Self {
        let histogram = |name, help, buckets: &[f64]| {
            let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            register(registry, Histogram::with_opts(options))
        };
        Self {
            acknowledge: histogram(
                "watchkeeper_incident_acknowledge_seconds",
                "From the opening of an incident to its acknowledgement",
                &PEOPLE_BUCKETS,
            ),
            resolve: histogram(
                "watchkeeper_incident_resolve_seconds",
                "From the opening of an incident to its resolution",
                &PEOPLE_BUCKETS,
            ),
            detection: histogram(
                "watchkeeper_problem_detection_seconds",
                "How long looking for recurring problems took",
                &DETECTION_BUCKETS,
            ),
            execution: histogram(
                "watchkeeper_execution_seconds",
                "From the request for a run to its end, for runs that did something",
                &EXECUTION_BUCKETS,
            ),
            log_append: histogram(
                "watchkeeper_log_append_seconds",
                "How long making facts durable took",
                &APPEND_BUCKETS,
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::incident::Priority;
    use crate::domain::service_level::{ClockState, TargetKind};

    fn line<'a>(text: &'a str, start: &str) -> Option<&'a str> {
        text.lines().find(|it| it.starts_with(start)).and_then(|it| it.rsplit(' ').next())
    }

    #[test]
    fn every_metric_of_the_contract_is_there_from_the_start() {
        let text = Metrics::new().render(&Gauges::default());
        for (start, value) in [
            ("watchkeeper_alerts_total{disposition=\"opened\"}", "0"),
            ("watchkeeper_alerts_active", "0"),
            ("watchkeeper_incidents_opened_total{priority=\"P5\"}", "0"),
            ("watchkeeper_incidents_open{priority=\"P1\",state=\"acknowledged\"}", "0"),
            ("watchkeeper_incident_acknowledge_seconds_count", "0"),
            ("watchkeeper_incident_resolve_seconds_count", "0"),
            ("watchkeeper_problems{state=\"known_error\"}", "0"),
            ("watchkeeper_problem_detection_seconds_count", "0"),
            ("watchkeeper_execution_seconds_count", "0"),
            ("watchkeeper_runbook_blocked_total{guard=\"cooldown\"}", "0"),
            ("watchkeeper_log_append_seconds_count", "0"),
            ("watchkeeper_log_bytes", "0"),
            ("watchkeeper_effects_pending", "0"),
            ("watchkeeper_effects_dead", "0"),
            ("watchkeeper_heartbeats{state=\"down\"}", "0"),
            ("watchkeeper_heartbeat_pings_total{signal=\"fail\"}", "0"),
            ("watchkeeper_store_healed_total", "0"),
            ("watchkeeper_config_last_reload_successful", "1"),
            ("watchkeeper_build_info{", "1"),
        ] {
            assert_eq!(line(&text, start), Some(value), "{start} in\n{text}");
        }
        let mut names: Vec<&str> =
            text.lines().filter_map(|it| it.strip_prefix("# TYPE ")).collect();
        let before = names.len();
        names.dedup();
        assert_eq!(names.len(), before, "a name stands twice");
    }

    #[test]
    fn what_happens_is_counted() {
        let metrics = Metrics::new();
        metrics.alerts_received("prometheus", 3);
        metrics.count(&Count::Alert(Disposition::Opened));
        metrics.count(&Count::IncidentOpened(Priority::new(2, 1)));
        metrics.count(&Count::IncidentAcknowledged(45));
        metrics.count(&Count::NotificationDead);
        let policy: Arc<str> = Arc::from("gold");
        metrics.count(&Count::SlaBreached { policy: policy.clone(), target: TargetKind::Resolve });
        let (runbook, outcome) = ("restart".to_owned(), ExecutionState::Succeeded);
        metrics.count(&Count::ExecutionEnded { runbook, outcome, seconds: 7 });
        metrics.reload(false);
        let gauges = Gauges {
            sla_clocks: BTreeMap::from([((policy, TargetKind::Resolve, ClockState::Running), 2)]),
            ..Gauges::default()
        };
        let text = metrics.clone().render(&gauges);
        for (start, value) in [
            ("watchkeeper_alerts_received_total{source=\"prometheus\"}", "3"),
            ("watchkeeper_alerts_total{disposition=\"opened\"}", "1"),
            ("watchkeeper_incidents_opened_total{priority=\"P2\"}", "1"),
            ("watchkeeper_incident_acknowledge_seconds_bucket{le=\"30\"}", "0"),
            ("watchkeeper_incident_acknowledge_seconds_bucket{le=\"60\"}", "1"),
            ("watchkeeper_effects_dead", "1"),
            ("watchkeeper_sla_breaches_total{policy=\"gold\",target=\"resolve\"}", "1"),
            ("watchkeeper_executions_total{outcome=\"succeeded\",runbook=\"restart\"}", "1"),
            ("watchkeeper_execution_seconds_sum", "7"),
            ("watchkeeper_config_last_reload_successful", "0"),
            ("watchkeeper_sla_clocks{policy=\"gold\",state=\"running\",target=\"resolve\"}", "2"),
            ("watchkeeper_sla_clocks{policy=\"gold\",state=\"met\",target=\"resolve\"}", "0"),
        ] {
            assert_eq!(line(&text, start), Some(value), "{start} in\n{text}");
        }
    }

    #[test]
    fn a_sender_cannot_make_label_values_without_end() {
        let metrics = Metrics::new();
        for number in 0..LABEL_VALUES_MAX + 50 {
            metrics.alerts_received(&format!("source-{number}"), 1);
        }
        let text = metrics.render(&Gauges::default());
        let series = text.matches("\nwatchkeeper_alerts_received_total{").count();
        assert_eq!(series, LABEL_VALUES_MAX + 1);
        assert_eq!(line(&text, "watchkeeper_alerts_received_total{source=\"other\"}"), Some("50"));
    }
}

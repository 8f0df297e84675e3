//! What a replay came to, in figures.

use crate::cli::output::field;
use crate::domain::alert::Disposition;
use crate::domain::execution::ExecutionState;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// The figures.
#[derive(Default)]
pub(super) struct Summary {
    /// Words about alerts.
    pub(super) events: u64,
    /// How often a series began to fire.
    pub(super) alerts: u64,
    /// How the ways of all words ended.
    pub(super) dispositions: BTreeMap<Disposition, u64>,
    /// Incidents without those that were merged into another.
    pub(super) incidents: u64,
    /// Those.
    pub(super) merged: u64,
    /// Problems that were proposed.
    pub(super) problems: u64,
    /// Runs of runbooks by what would have become of them.
    pub(super) executions: BTreeMap<ExecutionState, u64>,
    /// What receivers would have been told.
    pub(super) notifications: u64,
    /// Lines that could not be used.
    pub(super) refused: u64,
    /// How long it took.
    pub(super) elapsed: Duration,
}

impl Summary {
    /// For programs.
    pub(super) fn as_json(&self) -> Value {
        let dispositions: Map<String, Value> = (self.dispositions.iter())
            .map(|(it, count)| (it.as_str().to_owned(), json!(count)))
            .collect();
        let executions: Map<String, Value> = (self.executions.iter())
            .map(|(it, count)| (it.as_str().to_owned(), json!(count)))
            .collect();
        let seconds = self.elapsed.as_secs_f64();
        let rate = |count: u64| as_f64(count) / seconds.max(1e-9);
        json!({
            "events": self.events,
            "refused": self.refused,
            "alerts": self.alerts,
            "dispositions": dispositions,
            "incidents": self.incidents,
            "merged": self.merged,
            "alerts_per_incident": to_tenths(as_f64(self.alerts) / as_f64(self.incidents.max(1))),
            "problems": self.problems,
            "executions": executions,
            "notifications": self.notifications,
            "seconds": (seconds * 1000.0).round() / 1000.0,
            "events_per_second": rate(self.events).round(),
        })
    }
}

/// For people.
pub(super) fn text(summary: &Value, _: Timestamp) -> String {
    let of = |name: &str| field(summary, name);
    let counts = |name: &str| {
        let counts = summary.get(name).and_then(Value::as_object);
        let told = counts.into_iter().flatten().map(|(name, count)| format!("{name} {count}"));
        let told: Vec<String> = told.collect();
        if told.is_empty() { "none".to_owned() } else { told.join(", ") }
    };
    let merged = match summary.get("merged").and_then(Value::as_u64) {
        None | Some(0) => String::new(),
        Some(count) => format!(", {count} more merged into others"),
    };
    let refused = match summary.get("refused").and_then(Value::as_u64) {
        None | Some(0) => String::new(),
        Some(count) => format!(", {count} lines refused"),
    };
    [
        format!("events         {}{refused}", of("events")),
        format!("dispositions   {}", counts("dispositions")),
        format!("alerts         {} (series that began to fire)", of("alerts")),
        format!("incidents      {}{merged}", of("incidents")),
        format!("compression    {} alerts an incident", of("alerts_per_incident")),
        format!("problems       {}", of("problems")),
        format!("executions     {}", counts("executions")),
        format!("notifications  {}", of("notifications")),
        format!("time           {} s, {} events a second", of("seconds"), of("events_per_second")),
    ]
    .join("\n")
}

#[expect(clippy::cast_precision_loss, reason = "these are figures for people")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

fn to_tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

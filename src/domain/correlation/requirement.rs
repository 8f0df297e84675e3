//! `require` of a grouping rule: CEL over an incident with an alert in it.

use crate::domain::alert::Alert;
use crate::domain::incident::{Incident, Severity};
use crate::domain::label::{Fingerprint, Labels};
use crate::domain::seconds_between;
use cel::objects::Key;
use cel::{Context as Scope, ExecutionError, Program, Value};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The names that such a condition may use.
pub const NAMES: [&str; 5] = ["incident", "alert", "alerts", "labels", "annotations"];

/// So many members of an incident are looked at, in the order of their fingerprints.
const ALERTS_MAX: usize = 200;

/// What it is told of an incident.
#[derive(Serialize)]
struct IncidentScope<'a> {
    id: String,
    title: &'a str,
    severity: &'a str,
    priority: &'a str,
    impact: i64,
    alert_count: i64,
    firing_count: i64,
    services: BTreeSet<&'a str>,
    age_seconds: i64,
    gap_seconds: i64,
    labels: &'a Labels,
}

/// What it is told of an alert.
#[derive(Serialize)]
struct AlertScope<'a> {
    fingerprint: Fingerprint,
    severity: &'a str,
    labels: &'a Labels,
    annotations: &'a Labels,
}

fn told(alert: &Alert) -> AlertScope<'_> {
    AlertScope {
        fingerprint: alert.fingerprint,
        severity: Severity::from_label(alert.labels.get("severity")).as_str(),
        labels: &alert.labels,
        annotations: &alert.annotations,
    }
}

/// Whether it holds of an incident, its services with the alert's, and an alert that would join the
/// members. Fails when it cannot be decided: then the alert does not join.
pub(super) fn holds<'a>(
    condition: &str,
    now: Timestamp,
    (incident, service): (&'a Incident, Option<&'a str>),
    (alert, members): (&'a Alert, impl Iterator<Item = &'a Alert>),
) -> Result<bool, String> {
    let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let services = incident.services.iter().map(String::as_str).chain(service).collect();
    let scope = IncidentScope {
        id: incident.id.to_string(),
        title: &incident.title,
        severity: incident.severity.as_str(),
        priority: incident.priority.as_str(),
        impact: i64::from(incident.impact),
        alert_count: signed(incident.alert_count + 1),
        firing_count: signed(incident.firing_count + 1),
        services,
        age_seconds: signed(seconds_between(incident.opened_at, now)),
        gap_seconds: signed(seconds_between(incident.last_joined_at, now)),
        labels: &incident.labels,
    };
    let mut alerts: Vec<AlertScope<'_>> = members.take(ALERTS_MAX).map(told).collect();
    alerts.push(told(alert));
    match decide(condition, &scope, &told(alert), &alerts) {
        Ok(Value::Bool(answer)) => Ok(answer),
        Ok(other) => Err(format!("it gives {:?}, not true or false", other.type_of())),
        Err(Undecided::Compiled(error)) => Err(error),
        Err(Undecided::Executed(error)) => Err(error.to_string()),
    }
}

/// Tries a condition on an incident of two alerts that were made up. What only looks for a label that
/// these do not have may be right; all else that cannot be decided is wrong.
pub fn check(condition: &str) -> Result<(), String> {
    let labels = [("alertname", "Down"), ("service", "web"), ("severity", "critical")];
    let labels = Labels::from_pairs(labels);
    let annotations = Labels::from_pairs([("summary", "it is down")]);
    let incident = IncidentScope {
        id: "INC-1".to_owned(),
        title: "Down on web",
        severity: "critical",
        priority: "P1",
        impact: 1,
        alert_count: 2,
        firing_count: 2,
        services: BTreeSet::from(["web"]),
        age_seconds: 60,
        gap_seconds: 60,
        labels: &labels,
    };
    let alert = |number| AlertScope {
        fingerprint: Fingerprint(number),
        severity: "critical",
        labels: &labels,
        annotations: &annotations,
    };
    match decide(condition, &incident, &alert(1), &[alert(2), alert(1)]) {
        Ok(Value::Bool(_)) | Err(Undecided::Executed(ExecutionError::NoSuchKey(_))) => Ok(()),
        Ok(other) => Err(format!("it gives {:?}, not true or false", other.type_of())),
        Err(Undecided::Compiled(error)) => Err(error),
        Err(Undecided::Executed(error)) => Err(error.to_string()),
    }
}

/// Why there is no answer.
enum Undecided {
    Compiled(String),
    Executed(ExecutionError),
}

fn decide(
    condition: &str,
    incident: &IncidentScope<'_>,
    alert: &AlertScope<'_>,
    alerts: &[AlertScope<'_>],
) -> Result<Value, Undecided> {
    let failed = |error: &dyn std::fmt::Display| {
        let text = error.to_string();
        let line = text.lines().find(|it| !it.trim().is_empty()).unwrap_or_default();
        Undecided::Compiled(line.trim().to_owned())
    };
    let program = Program::compile(condition).map_err(|error| failed(&error))?;
    let mut scope = Scope::default();
    scope.add_variable("incident", incident).map_err(|error| failed(&error))?;
    scope.add_variable("alert", alert).map_err(|error| failed(&error))?;
    scope.add_variable("labels", alert.labels).map_err(|error| failed(&error))?;
    scope.add_variable("annotations", alert.annotations).map_err(|error| failed(&error))?;
    scope.add_variable("alerts", alerts).map_err(|error| failed(&error))?;
    scope.add_function("distinct", distinct).map_err(|error| failed(&error))?;
    program.execute(&scope).map_err(Undecided::Executed)
}

/// `distinct(alerts, 'service')`: the values of a label, each once, in order.
#[expect(clippy::needless_pass_by_value, reason = "cel hands its arguments over")]
fn distinct(alerts: Arc<Vec<Value>>, label: Arc<String>) -> Arc<Vec<Value>> {
    let (labels, label) = (Key::String(Arc::new("labels".to_owned())), Key::String(label));
    let value = |alert: &Value| {
        let Value::Map(alert) = alert else { return None };
        let Value::Map(labels) = alert.map.get(&labels)? else { return None };
        if let Value::String(text) = labels.map.get(&label)? { Some(text.clone()) } else { None }
    };
    let values: BTreeSet<Arc<String>> = alerts.iter().filter_map(value).collect();
    Arc::new(values.into_iter().map(Value::String).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_tried_before_it_is_used() {
        for (condition, right) in [
            ("distinct(alerts, 'service').size() >= 2", true),
            ("distinct(alerts.filter(it, it.severity == 'critical'), 'service').size() > 1", true),
            ("incident.alert_count > 2 && alert.severity != 'info'", true),
            ("labels.team == 'a'", true),
            ("incident.age_seconds < 60 * 60", true),
            ("'web' in incident.services", true),
            ("alerts.exists(it, it.labels.alertname == 'Up')", true),
            ("incident.alert_count", false),
            ("incident.title > 2", false),
            ("distinct(alerts)", false),
            ("unique(alerts, 'service').size() > 1", false),
            ("incident.alert_count = 2", false),
            ("labels.service + 1 > 2", false),
        ] {
            assert_eq!(check(condition).is_ok(), right, "{condition}: {:?}", check(condition));
        }
    }
}

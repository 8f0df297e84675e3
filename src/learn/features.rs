//! What an incident is like, in fields that are weighed against each other: what its alerts tell of
//! the place where it began, that place, the alerts' names, texts, labels, a change before it.

use super::mask::{mask, words};
use crate::domain::incident::{Incident, Symptom};
use std::collections::BTreeSet;

/// Labels that say nothing about the cause, how bad it is and who scraped it, and those that name
/// the alert or its place, which are fields of their own.
const LABELS_IGNORED: [&str; 19] = [
    "alertname",
    "app",
    "application",
    "component",
    "container",
    "host",
    "hostname",
    "instance",
    "job",
    "node",
    "nodename",
    "pod",
    "priority",
    "prometheus",
    "prometheus_replica",
    "replica",
    "service",
    "severity",
    "uid",
];
/// Labels that name a service where no symptom does, the plainest first.
const SERVICE_LABELS: [&str; 5] = ["service", "app", "application", "component", "job"];
/// Labels that name a machine where no symptom does, the plainest first.
const HOST_LABELS: [&str; 5] = ["host", "hostname", "node", "nodename", "instance"];
/// A place may be where it began if its score as a root is so near to that of the first.
const ROOT_NEAR: u64 = 150;
/// A change is suspect enough to count from this score on.
const CHANGE_SCORE_MIN: u64 = 500;
/// The most effects elsewhere that are kept of an incident.
const EFFECTS_MAX: usize = 24;

/// What is kept of an incident to compare it by.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Features {
    /// Where it began, as far as is known; empty if nothing is.
    pub(super) place: String,
    /// The names of the alerts that speak of that place.
    pub(super) alerts: BTreeSet<String>,
    /// Its title, masked.
    pub(super) title: String,
    /// The words of its title and of the summary of its first alert, masked.
    pub(super) text: BTreeSet<String>,
    /// Labels of the first alert, `name=value`, masked.
    pub(super) labels: BTreeSet<String>,
    /// Whether something was changed shortly before.
    pub(super) changed: bool,
    /// What its first alert tells of.
    pub(super) opening: Symptom,
    /// What its alerts tell of other places.
    pub(super) effects: Vec<Symptom>,
}

impl Features {
    /// Looks at an incident.
    pub(super) fn of(incident: &Incident) -> Self {
        let told = if incident.symptoms.is_empty() {
            vec![symptom_of_labels(incident)]
        } else {
            incident.symptoms.clone()
        };
        let place = began_at(incident, &told);
        let is_here = |it: &&Symptom| it.place == place;
        let names = told.iter().filter(is_here).map(|it| it.alertname.clone());
        let alerts = names.filter(|it| !it.is_empty()).collect();
        let effects = told.iter().filter(|it| !is_here(it)).take(EFFECTS_MAX).cloned();
        let title = mask(&incident.title);
        let summary = mask(incident.annotations.get("summary").unwrap_or_default());
        let labels = incident.labels.iter().filter(|(name, _)| !LABELS_IGNORED.contains(name));
        Self {
            alerts,
            text: words(&title).chain(words(&summary)).collect(),
            title,
            labels: labels.map(|(name, value)| format!("{name}={}", mask(value))).collect(),
            changed: incident.suspect_changes.iter().any(|it| it.score >= CHANGE_SCORE_MIN),
            effects: effects.collect(),
            opening: told
                .into_iter()
                .next()
                .unwrap_or(Symptom { alertname: String::new(), place: String::new() }),
            place,
        }
    }
}

/// The place where it began: of the likeliest roots the one that was heard of first.
fn began_at(incident: &Incident, told: &[Symptom]) -> String {
    let best = incident.root_causes.first().map_or(0, |it| it.score);
    let near = incident.root_causes.iter().filter(|it| it.score + ROOT_NEAR >= best);
    let near: Vec<&str> = near.map(|it| it.item.as_str()).collect();
    let heard = told.iter().map(|it| it.place.as_str());
    let first = heard.clone().find(|it| near.contains(it));
    first.or_else(|| heard.clone().find(|it| !it.is_empty())).unwrap_or_default().to_owned()
}

/// What the labels of the first alert tell, for incidents that were stored without symptoms.
fn symptom_of_labels(incident: &Incident) -> Symptom {
    let of = |names: &[&str]| names.iter().find_map(|it| incident.labels.get(it));
    let host = || {
        of(&HOST_LABELS).map(|it| match it.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|it| it.is_ascii_digit()) => host,
            _ => it,
        })
    };
    let service = of(&SERVICE_LABELS[..4]).or(incident.services.first().map(String::as_str));
    let place = service.or_else(host).or_else(|| of(&SERVICE_LABELS));
    Symptom {
        alertname: incident.labels.get("alertname").unwrap_or_default().to_owned(),
        place: place.unwrap_or_default().to_owned(),
    }
}

//! Which service an alert is counted for, and which alerts speak of nothing known.

use super::{Bindings, Catalog};
use crate::domain::State;
use crate::domain::alert::Alert;
use crate::domain::label::{Fingerprint, Labels};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// The labels that name a service by themselves, the surest first.
const LABELS: [&str; 3] = ["service", "app", "job"];
/// So many names of alerts are told apart among those that speak of nothing known.
const NAMES_MAX: usize = 100;

impl Catalog {
    /// The service that labels speak of: the item's name where they are bound to one, else what
    /// `service`, `app` or `job` says. An alert about a host is not counted for the `job` that watches
    /// hosts.
    pub fn service_of<'a>(&'a self, labels: &'a Labels) -> Option<&'a str> {
        self.service_bound(&self.bind(labels), labels)
    }

    /// [`Self::service_of`] for labels that are bound already.
    pub(in crate::domain) fn service_bound<'a>(
        &'a self,
        bindings: &Bindings<'a>,
        labels: &'a Labels,
    ) -> Option<&'a str> {
        if let Some(service) = bindings.service() {
            return Some(self.name(service.item));
        }
        let told = if bindings.is_empty() { LABELS.as_slice() } else { &["service", "app"] };
        told.iter().find_map(|it| labels.get(it))
    }
}

/// Alerts that joined an incident and spoke of no item of the catalog, since it was loaded or the
/// daemon started.
#[derive(Clone, Debug, Default)]
pub struct UnboundAlerts {
    /// By the alert's name.
    pub by_name: BTreeMap<String, UnboundName>,
    /// How many had further names.
    pub others: u64,
}

/// The alerts of one name that spoke of no item.
#[derive(Clone, Debug)]
pub struct UnboundName {
    /// How many there were.
    pub count: u64,
    /// When the last one began.
    pub last_at: Timestamp,
    /// Its labels.
    pub labels: Labels,
}

impl UnboundAlerts {
    /// How many there were.
    pub fn count(&self) -> u64 {
        self.others + self.by_name.values().map(|it| it.count).sum::<u64>()
    }

    fn note(&mut self, now: Timestamp, labels: &Labels) {
        let name = labels.get("alertname").unwrap_or_default();
        if let Some(known) = self.by_name.get_mut(name) {
            known.count += 1;
            known.last_at = now;
            known.labels = labels.clone();
        } else if self.by_name.len() < NAMES_MAX {
            let new = UnboundName { count: 1, last_at: now, labels: labels.clone() };
            self.by_name.insert(name.to_owned(), new);
        } else {
            self.others += 1;
        }
    }
}

impl State {
    /// The service that an alert is counted for.
    pub(in crate::domain) fn service_of<'a>(&'a self, alert: &'a Alert) -> Option<&'a str> {
        self.rules.catalog.service_of(&alert.labels)
    }

    /// Notes an alert that joins an incident and speaks of nothing that is known.
    pub(in crate::domain) fn note_unbound(&mut self, now: Timestamp, fingerprint: Fingerprint) {
        if let Some(alert) = self.alerts.get(&fingerprint) {
            self.unbound.note(now, &alert.labels);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_unbound_alerts_are_bounded() {
        let mut unbound = UnboundAlerts::default();
        for number in 0..NAMES_MAX + 5 {
            for _ in 0..2 {
                let labels = Labels::from_pairs([("alertname", format!("a{number}"))]);
                unbound.note(Timestamp::UNIX_EPOCH, &labels);
            }
        }
        assert_eq!((unbound.by_name.len(), unbound.others), (NAMES_MAX, 10));
        assert_eq!(unbound.count(), 2 * (NAMES_MAX as u64 + 5));
    }
}

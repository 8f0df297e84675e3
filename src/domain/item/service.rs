//! Which service an alert is counted for.

use super::Catalog;
use crate::domain::State;
use crate::domain::alert::Alert;
use crate::domain::label::Labels;

/// The labels that name a service by themselves, the surest first.
const LABELS: [&str; 3] = ["service", "app", "job"];

impl Catalog {
    /// The service that labels speak of: the item's name where they are bound to one, else what
    /// `service`, `app` or `job` says. An alert about a host is not counted for the `job` that watches
    /// hosts.
    pub fn service_of<'a>(&'a self, labels: &'a Labels) -> Option<&'a str> {
        let bindings = self.bind(labels);
        if let Some(service) = bindings.service() {
            return Some(self.name(service.item));
        }
        let told = if bindings.is_empty() { LABELS.as_slice() } else { &["service", "app"] };
        told.iter().find_map(|it| labels.get(it))
    }
}

impl State {
    /// The service that an alert is counted for.
    pub(in crate::domain) fn service_of<'a>(&'a self, alert: &'a Alert) -> Option<&'a str> {
        self.rules.catalog.service_of(&alert.labels)
    }
}

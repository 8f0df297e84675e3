//! What incidents looked like after the last turn, so that runbooks start by what became of them.

use super::Occurrence;
use crate::domain::State;
use crate::domain::incident::{Incident, IncidentId, IncidentState, Priority, Severity};
use crate::domain::rules::TriggerEvent;
use std::collections::{BTreeMap, BTreeSet};

/// What is watched of the incidents, while a runbook waits for their changes. It is worked out from
/// them after a start, and so is not stored.
#[derive(Default)]
pub(in crate::domain) struct Watched {
    /// Whether a runbook waits.
    is_on: bool,
    seen: BTreeMap<IncidentId, Seen>,
    /// Those that something happened to in the turn under way.
    touched: BTreeSet<IncidentId>,
}

/// What is watched of an incident.
#[derive(Clone, PartialEq)]
struct Seen {
    state: IncidentState,
    priority: Priority,
    severity: Severity,
    owner: Option<String>,
    services: BTreeSet<String>,
}

impl Seen {
    fn of(incident: &Incident) -> Self {
        Self {
            state: incident.state,
            priority: incident.priority,
            severity: incident.severity,
            owner: incident.owner.clone(),
            services: incident.services.clone(),
        }
    }

    /// The words for what differs.
    fn changed(&self, before: &Self) -> Vec<&'static str> {
        let differs = [
            ("state", self.state != before.state),
            ("priority", self.priority != before.priority),
            ("severity", self.severity != before.severity),
            ("owner", self.owner != before.owner),
            ("services", self.services != before.services),
        ];
        differs.into_iter().filter(|(_, differs)| *differs).map(|(word, _)| word).collect()
    }
}

impl Watched {
    /// Something happened to an incident.
    pub(in crate::domain) fn touch(&mut self, id: IncidentId) {
        if self.is_on {
            self.touched.insert(id);
        }
    }
}

impl State {
    /// Begins or ends to watch, as the rules want it. Nothing changed by that.
    pub(in crate::domain) fn watch_incidents(&mut self) {
        let mut triggers = self.rules.runbooks.iter().flat_map(|it| &it.triggers);
        let is_on = triggers.any(|it| it.event == TriggerEvent::IncidentChanged);
        if is_on == self.watched.is_on {
            return;
        }
        self.watched = Watched { is_on, ..Watched::default() };
        if is_on {
            let seen = self.incidents.iter().map(|(id, it)| (*id, Seen::of(it)));
            self.watched.seen = seen.collect();
        }
    }

    /// Tells of the incidents that are not as they were after the last turn.
    pub(in crate::domain) fn notice_changed_incidents(&mut self) {
        for id in std::mem::take(&mut self.watched.touched) {
            let Some(incident) = self.incidents.get(&id) else {
                self.watched.seen.remove(&id);
                continue;
            };
            let seen = Seen::of(incident);
            let changed = match self.watched.seen.insert(id, seen.clone()) {
                Some(before) => seen.changed(&before),
                // That it was opened is told by itself.
                None => Vec::new(),
            };
            if !changed.is_empty() {
                self.occurred(&Occurrence::IncidentChanged(id, changed));
            }
        }
    }
}

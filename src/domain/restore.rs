//! Bringing a state back from what the store holds of it.

use super::alert::Alert;
use super::execution::Execution;
use super::incident::Incident;
use super::notification::Notification;
use super::problem::Problem;
use super::rules::RuleSet;
use super::silence::Silence;
use super::{Changes, Memory, State};
use jiff::Timestamp;
use std::sync::Arc;

/// An open object, as it was stored.
#[derive(Clone, Debug)]
pub enum Stored {
    /// An alert.
    Alert(Box<Alert>),
    /// An incident.
    Incident(Box<Incident>),
    /// An execution.
    Execution(Box<Execution>),
    /// A problem.
    Problem(Box<Problem>),
    /// A silence.
    Silence(Box<Silence>),
    /// A notification.
    Notification(Box<Notification>),
    /// Small things.
    Memory(Box<Memory>),
    /// The rules in force.
    Rules(Arc<RuleSet>),
}

impl State {
    /// Builds the state from all open objects, as of the last turn that was stored.
    pub fn restore(objects: impl IntoIterator<Item = Stored>, last_turn_at: Timestamp) -> Self {
        let mut state = Self::default();
        for object in objects {
            state.put_back(object);
        }
        state.rebuild_groups();
        state.rebuild_timers(last_turn_at);
        state.changes = Changes::default();
        state
    }

    fn put_back(&mut self, object: Stored) {
        match object {
            Stored::Alert(alert) => {
                let fingerprint = alert.fingerprint;
                self.pages.entry(alert.page).or_default().insert(fingerprint);
                if let Some(incident) = alert.incident {
                    self.members.entry(incident).or_default().insert(fingerprint);
                }
                self.alerts.insert(fingerprint, *alert);
            }
            Stored::Incident(it) => drop(self.incidents.insert(it.id, *it)),
            Stored::Execution(it) => drop(self.executions.insert(it.id, *it)),
            Stored::Problem(it) => drop(self.problems.insert(it.id, *it)),
            Stored::Silence(it) => drop(self.silences.insert(it.id.clone(), *it)),
            Stored::Notification(it) => drop(self.notifications.insert(it.id, *it)),
            Stored::Memory(it) => self.memory = *it,
            Stored::Rules(it) => self.rules = it,
        }
    }
}

//! A locked incident: people hold it as it is, so that what comes late does not make it larger.

use super::{IncidentId, TimelineEntry};
use crate::domain::{Refusal, Reply, State};
use jiff::Timestamp;

impl State {
    /// Lets no alert join an incident any more. Its own alerts stay, and come back to it.
    pub(in crate::domain) fn lock_incident(
        &mut self,
        now: Timestamp,
        by: &str,
        id: IncidentId,
        reason: &str,
    ) -> Reply {
        if let Some(name) = &self.known_incident(id)?.locked_by {
            return Err(Refusal::WrongState(format!("{id} is locked by {name} already")));
        }
        let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        self.set_lock(id, Some(by.to_owned()));
        let text = format!("no more alerts join it{why}");
        Ok(self.note_change(id, TimelineEntry::new(now, "locked", by, text)))
    }

    /// Lets alerts join it again.
    pub(in crate::domain) fn unlock_incident(
        &mut self,
        now: Timestamp,
        by: &str,
        id: IncidentId,
    ) -> Reply {
        if self.known_incident(id)?.locked_by.is_none() {
            return Err(Refusal::WrongState(format!("{id} is not locked")));
        }
        self.set_lock(id, None);
        let text = "alerts join it again".to_owned();
        Ok(self.note_change(id, TimelineEntry::new(now, "unlocked", by, text)))
    }

    fn set_lock(&mut self, id: IncidentId, locked_by: Option<String>) {
        if let Some(incident) = self.incidents.get_mut(&id) {
            incident.locked_by = locked_by;
        }
    }

    /// Whether it takes no alerts but its own.
    pub(in crate::domain) fn is_locked(&self, id: IncidentId) -> bool {
        self.incidents.get(&id).is_some_and(|it| it.locked_by.is_some())
    }
}

//! Major incidents: incidents of incidents. One stands over others that people found to belong to it;
//! each keeps its alerts, its owner and its clocks.

use super::{Incident, IncidentId, TimelineEntry};
use crate::domain::{Accepted, ObjectKey, Refusal, Reply, State};
use jiff::Timestamp;

impl State {
    /// Puts an incident under another one, and takes it away from the one that it was under.
    pub(in crate::domain) fn link_incident(
        &mut self,
        now: Timestamp,
        by: &str,
        child: IncidentId,
        parent: IncidentId,
    ) -> Reply {
        let refuse = |text: String| Err(Refusal::Invalid(text));
        if child == parent {
            return refuse(format!("{child} cannot stand under itself"));
        }
        let known = self.known_incident(child)?;
        let before = known.parent;
        if !known.children.is_empty() {
            return refuse(format!("{child} is a major incident itself: link what is under it"));
        }
        if let Some(above) = self.known_incident(parent)?.parent {
            return refuse(format!("{parent} is under {above}: link to that one"));
        }
        if before == Some(parent) {
            return Err(Refusal::WrongState(format!("{child} is under {parent} already")));
        }
        self.leave_parent(now, by, child);
        if let Some(incident) = self.incidents.get_mut(&child) {
            incident.parent = Some(parent);
        }
        if let Some(incident) = self.incidents.get_mut(&parent) {
            incident.children.insert(child);
        }
        self.tell_link(now, by, child, format!("it is part of the major incident {parent}"));
        self.tell_link(now, by, parent, format!("{child} is part of it"));
        Ok(Accepted::Object(ObjectKey::Incident(child)))
    }

    /// Takes an incident away from the one that it is under.
    pub(in crate::domain) fn unlink_incident(
        &mut self,
        now: Timestamp,
        by: &str,
        child: IncidentId,
    ) -> Reply {
        if self.known_incident(child)?.parent.is_none() {
            return Err(Refusal::WrongState(format!("{child} is under no other incident")));
        }
        self.leave_parent(now, by, child);
        Ok(Accepted::Object(ObjectKey::Incident(child)))
    }

    fn leave_parent(&mut self, now: Timestamp, by: &str, child: IncidentId) {
        let Some(parent) = self.incidents.get_mut(&child).and_then(|it| it.parent.take()) else {
            return;
        };
        self.tell_link(now, by, child, format!("it is no longer part of {parent}"));
        // One that is closed keeps what was under it.
        if let Some(incident) = self.incidents.get_mut(&parent) {
            incident.children.remove(&child);
            self.tell_link(now, by, parent, format!("{child} is no longer part of it"));
        }
    }

    /// What was under an incident that was merged away comes under the one that took its alerts, or
    /// under whom that one is under.
    pub(super) fn move_children(
        &mut self,
        now: Timestamp,
        by: &str,
        merged: &Incident,
        into: IncidentId,
    ) {
        if merged.parent == Some(into) {
            self.forget_child(into, merged.id);
        }
        for child in &merged.children {
            if let Some(incident) = self.incidents.get_mut(child) {
                incident.parent = None;
            }
        }
        let over = self.incidents.get(&into).and_then(|it| it.parent).unwrap_or(into);
        for child in merged.children.iter().filter(|it| **it != over) {
            // What is closed stays where it was.
            if self.incidents.contains_key(child) {
                self.link_incident(now, by, *child, over).map(drop).unwrap_or_default();
            }
        }
    }

    fn forget_child(&mut self, parent: IncidentId, child: IncidentId) {
        if let Some(incident) = self.incidents.get_mut(&parent) {
            incident.children.remove(&child);
            self.changes.objects.insert(ObjectKey::Incident(parent));
        }
    }

    fn tell_link(&mut self, now: Timestamp, by: &str, id: IncidentId, text: String) {
        self.log(ObjectKey::Incident(id), TimelineEntry::new(now, "linked", by, text));
        self.touch(now, ObjectKey::Incident(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{AlertBatch, Command, Ends, Event, ReceivedAlert};
    use crate::domain::label::Labels;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    /// A state with some incidents, INC-1 and on.
    fn state(count: usize) -> State {
        let mut state = State::default();
        for number in 0..count {
            let alert = ReceivedAlert {
                labels: Labels::from_pairs([("alertname", format!("A{number}"))]),
                annotations: Labels::default(),
                starts_at: None,
                ends: Ends::WhenTold,
                generator_url: "".into(),
                identity: None,
            };
            let batch = AlertBatch { source: "x".into(), alerts: vec![alert], rejected: vec![] };
            drop(state.apply(NOW, &Event::AlertsReceived(batch)));
        }
        state
    }

    fn order(state: &mut State, command: Command) -> Reply {
        let event = Event::CommandGiven { by: "ann".to_owned(), command };
        state.apply(NOW, &event).reply.unwrap()
    }

    fn link(state: &mut State, child: u64, parent: u64) -> Reply {
        let (incident, parent) = (IncidentId(child), IncidentId(parent));
        order(state, Command::LinkIncident { incident, parent })
    }

    /// Who is under whom, by number; both sides must say the same.
    fn links(state: &State) -> Vec<(u64, u64)> {
        let up = state.incidents.values().filter_map(|it| Some((it.id.0, it.parent?.0)));
        let up: Vec<(u64, u64)> = up.collect();
        let down =
            |it: &Incident| it.children.iter().map(move |child| (child.0, it.id.0)).collect();
        let mut down: Vec<(u64, u64)> =
            state.incidents.values().flat_map(|it| -> Vec<(u64, u64)> { down(it) }).collect();
        down.sort_unstable();
        assert_eq!(up, down);
        up
    }

    #[test]
    fn incidents_stand_under_one_that_stands_under_none() {
        let mut state = state(4);
        assert!(link(&mut state, 2, 1).is_ok());
        assert!(link(&mut state, 3, 1).is_ok());
        for (child, parent) in [(1, 1), (2, 1), (1, 4), (4, 2), (9, 1), (4, 9)] {
            assert!(link(&mut state, child, parent).is_err(), "{child} under {parent}");
        }
        assert_eq!(links(&state), [(2, 1), (3, 1)]);
        assert!(link(&mut state, 3, 4).is_ok(), "it changes its parent");
        assert_eq!(links(&state), [(2, 1), (3, 4)]);
        let unlink = Command::UnlinkIncident { incident: IncidentId(2) };
        assert!(order(&mut state, unlink.clone()).is_ok());
        assert!(order(&mut state, unlink).is_err());
        assert_eq!(links(&state), [(3, 4)]);
        let incident = &state.incidents[&IncidentId(3)];
        let stored = serde_json::to_value(incident).unwrap();
        assert_eq!(serde_json::from_value::<Incident>(stored).unwrap(), *incident);
    }

    #[test]
    fn a_merge_takes_along_what_is_under_it() {
        let merge = |state: &mut State, into: u64, from: u64| {
            let (into, from) = (IncidentId(into), vec![IncidentId(from)]);
            assert!(order(state, Command::MergeIncidents { into, from }).is_ok());
        };
        let mut one = state(5);
        assert!(link(&mut one, 2, 1).is_ok() && link(&mut one, 3, 1).is_ok());
        merge(&mut one, 4, 1);
        assert_eq!(links(&one), [(2, 4), (3, 4)]);
        let mut other = state(5);
        assert!(link(&mut other, 2, 1).is_ok() && link(&mut other, 3, 1).is_ok());
        merge(&mut other, 2, 1);
        assert_eq!(links(&other), [(3, 2)], "a child that takes its parent stands over the rest");
        assert!(link(&mut other, 4, 2).is_ok());
        merge(&mut other, 2, 4);
        assert_eq!(links(&other), [(3, 2)], "and a parent that takes its child");
    }
}

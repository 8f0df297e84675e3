//! Bringing a state back from what the store holds of it.

use super::alert::Alert;
use super::change::Change;
use super::correlation::{Experience, LearnedPlace};
use super::event::{AlertBatch, Healing};
use super::execution::Execution;
use super::freeze::Freeze;
use super::heartbeat::Heartbeat;
use super::incident::Incident;
use super::knowledge::{Feedback, MadeArticle};
use super::noise;
use super::notification::Notification;
use super::planted::{self, Bug};
use super::problem::Problem;
use super::rate::Habit;
use super::rules::RuleSet;
use super::silence::Silence;
use super::{Changes, Count, Memory, ObjectKey, State};
use jiff::Timestamp;
use std::sync::Arc;

/// So many numbers of each kind are left out after a damaged store was healed: those that were
/// given after the snapshot must not be given again, as people and receivers know them.
const NUMBERS_LEFT_OUT: u64 = 10_000;

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
    /// A change.
    Change(Box<Change>),
    /// A freeze.
    Freeze(Box<Freeze>),
    /// An article that somebody made.
    Article(Box<MadeArticle>),
    /// What people said of something.
    Feedback(Box<Feedback>),
    /// A notification.
    Notification(Box<Notification>),
    /// A heartbeat.
    Heartbeat(Box<Heartbeat>),
    /// An account of noise.
    Noise(Box<noise::Account>),
    /// What was learned of alerts of a name.
    Experience(Box<Experience>),
    /// What was learned of a place.
    LearnedPlace(Box<LearnedPlace>),
    /// How often something usually begins.
    Habit(Box<Habit>),
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
        state.rebuild_sightings();
        state.rebuild_inhibitions();
        state.rebuild_openings();
        state.watch_incidents();
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
                self.alerts.insert(fingerprint, alert);
            }
            Stored::Incident(it) => drop(self.incidents.insert(it.id, *it)),
            Stored::Execution(it) => drop(self.executions.insert(it.id, *it)),
            Stored::Problem(it) => drop(self.problems.insert(it.id, *it)),
            Stored::Silence(_) if planted::is(Bug::SilenceIgnoredAfterRestart) => {}
            Stored::Silence(it) => drop(self.silences.insert(it.id.clone(), *it)),
            Stored::Change(it) => self.change_log.put(*it),
            Stored::Freeze(it) => drop(self.freezes.insert(it.id, *it)),
            Stored::Article(it) => {
                self.articles.insert(it.article.rule.name.as_str().into(), *it);
            }
            Stored::Feedback(it) => drop(self.feedback.insert(it.subject.clone(), *it)),
            Stored::Notification(it) => drop(self.notifications.insert(it.id, *it)),
            Stored::Heartbeat(it) => drop(self.heartbeats.insert(it.name.clone(), *it)),
            Stored::Noise(it) => self.noise.put(*it),
            Stored::Experience(it) => drop(self.experiences.insert(it.name.clone(), *it)),
            Stored::LearnedPlace(it) => self.learned.put(*it),
            Stored::Habit(it) => self.habits.put(*it),
            Stored::Memory(it) => self.memory = *it,
            Stored::Rules(it) => self.rules = it,
        }
    }
}

impl State {
    /// The store was made anew from a snapshot: people learn what may be missing.
    pub(super) fn store_healed(&mut self, now: Timestamp, healing: &Healing) {
        self.turn.counts.push(Count::StoreHealed);
        let memory = &mut self.memory;
        for last in [
            &mut memory.incident,
            &mut memory.execution,
            &mut memory.problem,
            &mut memory.notification,
            &mut memory.change,
            &mut memory.freeze,
            &mut memory.detection,
        ] {
            *last = last.saturating_add(NUMBERS_LEFT_OUT);
        }
        self.audit_lost(NUMBERS_LEFT_OUT);
        self.changes.objects.insert(ObjectKey::Memory);
        // Senders were not heard since the snapshot; nothing expires before they could speak.
        self.hold(now);
        self.excuse_heartbeats(now, healing.snapshot_at.unwrap_or(Timestamp::MIN));
        let missing = match healing.snapshot_at {
            Some(at) => format!("what became known from {at:.0} to {:.0}", healing.healed_at),
            None => format!("everything before {:.0}: there was no snapshot", healing.healed_at),
        };
        let text = format!(
            "the store was damaged and was made anew; {} open objects came back, missing may be \
             {missing}, and what was closed; the damaged store lies in {}: {}",
            healing.objects, healing.aside, healing.damage
        );
        let batch = AlertBatch::about_ourselves("WatchkeeperStoreHealed", &text);
        self.receive_batch(now, &batch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::Event;

    #[test]
    fn a_healed_store_is_told_and_no_number_is_given_twice() {
        let mut state = State::default();
        state.memory.incident = 7;
        let healing = Healing {
            damage: "a bad page".to_owned(),
            aside: "data/store.corrupt-1".to_owned(),
            snapshot_at: Some(Timestamp::UNIX_EPOCH),
            healed_at: Timestamp::from_second(3600).unwrap(),
            objects: 12,
        };
        let turn = state.apply(Timestamp::from_second(3601).unwrap(), &Event::StoreHealed(healing));
        assert!(turn.counts.contains(&Count::StoreHealed));
        let incident = state.incidents.values().next().unwrap();
        assert_eq!(incident.id.0, 10_008);
        let alert = state.alerts.values().next().unwrap();
        let summary = alert.annotations.get("summary").unwrap();
        for part in ["12 open objects", "1970-01-01T00:00:00Z to 1970-01-01T01:00:00Z", "corrupt-1"]
        {
            assert!(summary.contains(part), "{part} in {summary}");
        }
        assert!(state.memory.hold_until.is_some());
    }
}

//! Changes: what was altered in production, by whom and when, as whoever altered it tells.

use super::event::ChangeBatch;
use super::execution::ExecutionId;
use super::freeze::InFreeze;
use super::incident::TimelineEntry;
use super::timer::TimerKey;
use super::{Closed, Count, ObjectKey, State, later, seconds_between};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

super::numbered_id!(
    /// The number of a change; printed `CHG-3`.
    ChangeId,
    "CHG"
);

/// How much of a decision stood before a change.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// Decided once for all of its kind, for example the run of a runbook.
    Standard,
    /// Decided for itself; a deployment is one.
    #[default]
    Normal,
    /// Decided in haste.
    Emergency,
}

impl ChangeKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Standard, Self::Normal, Self::Emergency];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Normal => "normal",
            Self::Emergency => "emergency",
        }
    }
}

/// Whether a change is made.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum ChangeState {
    /// It is being made.
    Running,
    /// It is made.
    #[default]
    Done,
    /// It could not be made, or not wholly.
    Failed,
}

impl ChangeState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Running, Self::Done, Self::Failed];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// A change as a source told it. Texts may be empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReceivedChange {
    /// The source's own name for it, by which later words about it are known; empty = none will come.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub external_id: String,
    /// When it was made; `None` = when we heard of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// What people call it.
    pub title: String,
    /// What was changed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub service: String,
    /// Where, for example `production`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub environment: String,
    /// To what.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// By whom.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// How it was decided.
    #[serde(default)]
    pub kind: ChangeKind,
    /// Whether it is made.
    #[serde(default)]
    pub state: ChangeState,
    /// Where it can be looked at.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub link: String,
}

/// A change that we know of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Its number.
    pub id: ChangeId,
    /// Who told it.
    pub source: Arc<str>,
    /// When we heard of it first.
    pub received_at: Timestamp,
    /// When something about it last changed.
    pub updated_at: Timestamp,
    /// When it was last told of, to the hour.
    #[serde(default)]
    pub heard_at: Timestamp,
    /// The freezes in which it began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub freezes: Vec<InFreeze>,
    /// What was told; its time is always there.
    #[serde(flatten)]
    pub told: ReceivedChange,
}

/// The source of the changes that runs of runbooks are.
pub(super) const RUNS: &str = "runbook";

impl Change {
    /// The run of a runbook that it is, or was made by.
    pub fn run(&self) -> Option<ExecutionId> {
        let name = self.told.external_id.split('/').next().filter(|_| &*self.source == RUNS)?;
        name.parse().ok()
    }

    /// Whether it began in a freeze that does not allow its kind.
    pub fn is_forbidden(&self) -> bool {
        self.freezes.iter().any(|it| !it.allowed)
    }
}

/// The changes that may still change, or be the cause of what happens now.
#[derive(Default)]
pub struct ChangeLog {
    /// By number.
    pub open: BTreeMap<ChangeId, Change>,
    /// By the names that their sources gave them.
    known: BTreeMap<(Arc<str>, String), ChangeId>,
    /// By the time when they were made.
    by_time: BTreeSet<(Timestamp, ChangeId)>,
}

/// How long a change stays at hand after the last word about it, in seconds.
const KEPT_SECONDS: i64 = 24 * 3600;
/// A word that tells nothing new is noted once in so many seconds.
const HEARD_SECONDS: u64 = 3600;
/// How many stay at hand; the oldest make room.
const KEPT_MAX: usize = 10_000;

impl ChangeLog {
    /// Takes a change in, as it was stored.
    pub(super) fn put(&mut self, change: Change) {
        if !change.told.external_id.is_empty() {
            let name = (change.source.clone(), change.told.external_id.clone());
            self.known.insert(name, change.id);
        }
        self.by_time.extend(change.told.time.map(|it| (it, change.id)));
        self.open.insert(change.id, change);
    }

    fn take(&mut self, id: ChangeId) -> Option<Change> {
        let change = self.open.remove(&id)?;
        self.known.remove(&(change.source.clone(), change.told.external_id.clone()));
        if let Some(at) = change.told.time {
            self.by_time.remove(&(at, id));
        }
        Some(change)
    }

    /// The changes that were made between two times, the latest first.
    pub(super) fn between(
        &self,
        from: Timestamp,
        until: Timestamp,
    ) -> impl Iterator<Item = &Change> {
        let range = (from, ChangeId(0))..=(until, ChangeId(u64::MAX));
        let range = if from <= until { range } else { (until, ChangeId(0))..=(until, ChangeId(0)) };
        self.by_time.range(range).rev().filter_map(|(_, id)| self.open.get(id))
    }
}

impl State {
    /// Takes in what a source tells of changes.
    pub(super) fn receive_changes(&mut self, now: Timestamp, batch: &ChangeBatch) {
        for told in &batch.changes {
            self.receive_change(now, &batch.source, told);
        }
    }

    /// Takes in what is told of one change; gives its number.
    pub(super) fn receive_change(
        &mut self,
        now: Timestamp,
        source: &Arc<str>,
        told: &ReceivedChange,
    ) -> ChangeId {
        let name = (source.clone(), told.external_id.clone());
        match self.change_log.known.get(&name).copied() {
            Some(id) => {
                self.tell_more(now, id, told);
                id
            }
            None => self.record_change(now, source, told),
        }
    }

    fn record_change(
        &mut self,
        now: Timestamp,
        source: &Arc<str>,
        told: &ReceivedChange,
    ) -> ChangeId {
        self.memory.change += 1;
        self.changes.objects.insert(ObjectKey::Memory);
        let id = ChangeId(self.memory.change);
        let told_at = told.time.unwrap_or(now);
        let told = ReceivedChange { time: Some(told_at), ..told.clone() };
        self.turn.counts.push(Count::ChangeRecorded(told.kind));
        let text = format!("{} told of it: it is {}", source, told.state.as_str());
        self.log(ObjectKey::Change(id), TimelineEntry::new(now, "recorded", "", text));
        let freezes = Vec::new();
        let source = source.clone();
        let change =
            Change { id, source, received_at: now, updated_at: now, heard_at: now, freezes, told };
        self.change_log.put(change);
        self.mark_freezes(now, id);
        self.touch(now, ObjectKey::Change(id));
        self.change_may_be_cause(told_at);
        self.change_occurred(id);
        if self.change_log.open.len() > KEPT_MAX
            && let Some(oldest) = self.change_log.open.keys().next().copied()
        {
            self.close_change(now, oldest);
        }
        id
    }

    /// A further word about a change: what is told counts, what is left out stays. What is over is not
    /// begun again, since words overtake each other on their way.
    fn tell_more(&mut self, now: Timestamp, id: ChangeId, told: &ReceivedChange) {
        let Some(change) = self.change_log.open.get_mut(&id) else { return };
        let before = change.told.clone();
        let known = &mut change.told;
        if let (Some(later), Some(time)) = (known.time, told.time)
            && time < later
        {
            known.time = Some(time);
            self.change_log.by_time.remove(&(later, id));
            self.change_log.by_time.insert((time, id));
        }
        for (known, told) in [
            (&mut known.title, &told.title),
            (&mut known.service, &told.service),
            (&mut known.environment, &told.environment),
            (&mut known.version, &told.version),
            (&mut known.author, &told.author),
            (&mut known.link, &told.link),
        ] {
            if !told.is_empty() {
                known.clone_from(told);
            }
        }
        known.kind = told.kind;
        if told.state != ChangeState::Running {
            known.state = told.state;
        }
        let is_same = change.told == before;
        if is_same && seconds_between(change.heard_at, now) < HEARD_SECONDS {
            return;
        }
        change.heard_at = now;
        if is_same {
            self.touch(now, ObjectKey::Change(id));
            return;
        }
        change.updated_at = now;
        let text = format!("it is {}", change.told.state.as_str());
        let is_new_state = change.told.state != before.state;
        self.log(ObjectKey::Change(id), TimelineEntry::new(now, "updated", "", text));
        self.mark_freezes(now, id);
        self.touch(now, ObjectKey::Change(id));
        if is_new_state {
            self.change_occurred(id);
        }
    }

    /// Marks a change with the freezes in which it began.
    fn mark_freezes(&mut self, now: Timestamp, id: ChangeId) {
        let Some(change) = self.change_log.open.get(&id) else { return };
        let freezes = self.freezes_of_change(&change.source, &change.told);
        let Some(change) = self.change_log.open.get_mut(&id) else { return };
        if change.freezes == freezes {
            return;
        }
        let kind = change.told.kind;
        let was_forbidden = change.is_forbidden();
        change.freezes = freezes;
        if change.is_forbidden() && !was_forbidden {
            self.turn.counts.push(Count::ChangeInFreeze(kind));
        }
        let entries: Vec<TimelineEntry> = (change.freezes.iter())
            .map(|it| TimelineEntry::new(now, "in_freeze", "", it.text(kind)))
            .collect();
        for entry in entries {
            self.log(ObjectKey::Change(id), entry);
        }
    }

    /// When a change need not be at hand any more.
    pub(super) fn change_wants(&self, id: ChangeId) -> Option<Timestamp> {
        self.change_log.open.get(&id).map(|it| later(it.heard_at.max(it.updated_at), KEPT_SECONDS))
    }

    /// Moves a change out of the state; views find it in the store.
    pub(super) fn close_change(&mut self, now: Timestamp, id: ChangeId) {
        if let Some(change) = self.change_log.take(id) {
            self.changes.closed.push(Closed::Change(Box::new(change)));
            self.set_timer(now, TimerKey::Change(id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::Event;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_348_800 + second).unwrap()
    }

    fn told(external_id: &str, state: ChangeState) -> ReceivedChange {
        ReceivedChange {
            external_id: external_id.to_owned(),
            title: "deployment of shop".to_owned(),
            service: "shop".to_owned(),
            state,
            ..ReceivedChange::default()
        }
    }

    fn receive(state: &mut State, now: Timestamp, source: &str, told: ReceivedChange) {
        let batch = ChangeBatch { source: source.into(), changes: vec![told] };
        drop(state.apply(now, &Event::ChangesReceived(batch)));
    }

    #[test]
    fn a_change_is_one_however_often_it_is_told() {
        let mut state = State::default();
        receive(&mut state, at(0), "github", told("1", ChangeState::Running));
        let more = ReceivedChange {
            time: Some(at(-60)),
            version: "1.2".to_owned(),
            service: String::new(),
            ..told("1", ChangeState::Done)
        };
        receive(&mut state, at(9), "github", more);
        receive(&mut state, at(10), "github", told("1", ChangeState::Running));
        receive(&mut state, at(11), "gitlab", told("1", ChangeState::Failed));
        receive(&mut state, at(12), "github", told("", ChangeState::Done));
        receive(&mut state, at(12), "github", told("", ChangeState::Done));
        let open: Vec<&Change> = state.change_log.open.values().collect();
        assert_eq!(open.len(), 4, "those without a name are not one");
        assert_eq!(open[0].id.to_string(), "CHG-1");
        let told = &open[0].told;
        assert_eq!((told.state, told.time), (ChangeState::Done, Some(at(-60))));
        assert_eq!((told.version.as_str(), told.service.as_str()), ("1.2", "shop"));
        assert_eq!((open[0].received_at, open[0].updated_at), (at(0), at(9)));
        assert_eq!(open[1].told.time, Some(at(11)), "not told: when we heard of it");
    }

    #[test]
    fn what_is_told_again_stays_at_hand() {
        let mut state = State::default();
        receive(&mut state, at(0), "github", told("1", ChangeState::Running));
        receive(&mut state, at(KEPT_SECONDS - 1), "github", told("1", ChangeState::Running));
        drop(state.apply(at(KEPT_SECONDS), &Event::Woken));
        receive(&mut state, at(KEPT_SECONDS + 9), "github", told("1", ChangeState::Done));
        let open: Vec<&Change> = state.change_log.open.values().collect();
        assert_eq!((open.len(), open[0].received_at), (1, at(0)));
    }

    #[test]
    fn what_is_old_makes_room() {
        let mut state = State::default();
        receive(&mut state, at(0), "github", told("1", ChangeState::Done));
        assert_eq!(state.next_wakeup(), Some(at(KEPT_SECONDS)));
        drop(state.take_changes());
        drop(state.apply(at(KEPT_SECONDS), &Event::Woken));
        assert!(state.change_log.open.is_empty() && state.change_log.known.is_empty());
        assert!(matches!(state.take_changes().closed.as_slice(), [Closed::Change(_)]));
        assert_eq!(state.next_wakeup(), None);
        for number in 0..=KEPT_MAX {
            receive(
                &mut state,
                at(KEPT_SECONDS),
                "x",
                told(&number.to_string(), ChangeState::Done),
            );
        }
        assert_eq!(state.change_log.open.len(), KEPT_MAX);
        assert_eq!(state.change_log.known.len(), KEPT_MAX);
    }

    #[test]
    fn a_change_comes_back_from_the_store() {
        let mut state = State::default();
        receive(&mut state, at(0), "github", told("1", ChangeState::Running));
        let stored = serde_json::to_string(&state.change_log.open[&ChangeId(1)]).unwrap();
        let change: Change = serde_json::from_str(&stored).unwrap();
        let stored = crate::domain::restore::Stored::Change(Box::new(change));
        let mut state = State::restore([stored], at(1));
        receive(&mut state, at(2), "github", told("1", ChangeState::Failed));
        let change = &state.change_log.open[&ChangeId(1)];
        assert_eq!((change.told.state, state.change_log.open.len()), (ChangeState::Failed, 1));
    }
}

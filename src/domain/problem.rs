//! Problems: the causes behind incidents that keep coming back.

mod detection;
mod identity;

pub use detection::{Algorithm, FieldWeights, ProblemDetection};
pub(super) use identity::Found;

use super::effect::{Effect, EffectKey, PlannedEffect};
use super::incident::{IncidentId, TimelineEntry};
use super::rules::Occasion;
use super::{Accepted, ObjectKey, Refusal, Reply, State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

super::numbered_id!(
    /// The number of a problem; printed `PRB-7`.
    ProblemId,
    "PRB"
);

/// Where a problem is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemState {
    /// Found by detection; nobody has looked at it.
    Proposed,
    /// A person says that it is one.
    Accepted,
    /// A person says that it is none; not proposed again.
    Rejected,
    /// The cause and a workaround are known.
    KnownError,
    /// A change that removes the cause is planned.
    FixPlanned,
    /// The cause is gone.
    Resolved,
}

impl ProblemState {
    /// All of them, for metrics.
    pub const ALL: [Self; 6] = [
        Self::Proposed,
        Self::Accepted,
        Self::Rejected,
        Self::KnownError,
        Self::FixPlanned,
        Self::Resolved,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::KnownError => "known_error",
            Self::FixPlanned => "fix_planned",
            Self::Resolved => "resolved",
        }
    }
}

/// A group of incidents that detection found alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recurrence {
    /// What the group is called, from what its members share.
    pub title: String,
    /// The members; at least two.
    pub incidents: BTreeSet<IncidentId>,
    /// When the first of them was opened.
    pub first_seen: Timestamp,
    /// When the last of them was opened.
    pub last_seen: Timestamp,
    /// The usual time from one to the next, if there is one.
    pub period_seconds: Option<u64>,
    /// When the next is expected.
    pub next_expected_at: Option<Timestamp>,
    /// How alike the members are and how unlike the rest, 0 to 1000.
    pub confidence: u16,
    /// Whether it comes no more often than chance would bring its alert and its place together.
    #[serde(default)]
    pub by_chance: bool,
    /// Why these belong together: what they share, with figures.
    pub why: Vec<String>,
}

/// The cause behind one or more incidents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// Its number.
    pub id: ProblemId,
    /// What it is called.
    pub title: String,
    /// Where it is in its life.
    pub state: ProblemState,
    /// Its incidents.
    pub incidents: BTreeSet<IncidentId>,
    /// Those of them that people added; no detection takes them away.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub linked: BTreeSet<IncidentId>,
    /// When its first incident was opened.
    pub first_seen: Timestamp,
    /// When its last incident was opened.
    pub last_seen: Timestamp,
    /// When it was first proposed.
    pub detected_at: Timestamp,
    /// When something about it last changed.
    pub updated_at: Timestamp,
    /// The usual time from one incident to the next.
    pub period_seconds: Option<u64>,
    /// When the next is expected.
    pub next_expected_at: Option<Timestamp>,
    /// 0 to 1000.
    pub confidence: u16,
    /// Whether it comes no more often than chance would bring its alert and its place together.
    /// Nobody is told of such a proposal.
    #[serde(default)]
    pub by_chance: bool,
    /// Why its incidents belong together.
    pub why: Vec<String>,
    /// The detection that found it.
    pub detection: String,
    /// Why it was rejected or closed.
    pub reason: String,
    /// The problem that took its incidents, when a later detection found the two to be one.
    #[serde(default)]
    pub merged_into: Option<ProblemId>,
}

impl State {
    /// A detection's time has come.
    pub(super) fn detection_due(&mut self, now: Timestamp, name: &str) {
        drop(self.plan_detection(now, name));
    }

    /// Looks for recurring problems at once, with the first detection.
    pub(super) fn detect_now(&mut self, now: Timestamp) -> Reply {
        let first = self.rules.problem_detection.first().map(|it| it.rule.name.clone());
        let name = first.ok_or_else(|| {
            Refusal::WrongState("no `problem_detection` is declared in models/".to_owned())
        })?;
        Ok(Accepted::AfterEffect(self.plan_detection(now, &name)))
    }

    fn plan_detection(&mut self, now: Timestamp, name: &str) -> EffectKey {
        self.memory.detected_at.insert(name.to_owned(), now);
        self.memory.detection += 1;
        self.changes.objects.insert(ObjectKey::Memory);
        let key = EffectKey(format!("DET-{}", self.memory.detection).into());
        self.turn.effects.push(PlannedEffect {
            key: key.clone(),
            idempotent: true,
            effect: Effect::DetectProblems { detection: name.to_owned() },
        });
        key
    }

    /// Detections count from the hour in which they were first declared.
    pub(super) fn note_new_detections(&mut self, now: Timestamp) {
        let rules = self.rules.clone();
        for detection in &rules.problem_detection {
            self.memory.detected_at.entry(detection.rule.name.clone()).or_insert(now);
        }
        self.memory
            .detected_at
            .retain(|name, _| rules.problem_detection.iter().any(|it| it.rule.name == *name));
        self.changes.objects.insert(ObjectKey::Memory);
    }

    fn propose_problem(
        &mut self,
        now: Timestamp,
        detection: &str,
        found: &Recurrence,
    ) -> ProblemId {
        self.memory.problem += 1;
        let id = ProblemId(self.memory.problem);
        let problem = Problem {
            id,
            title: found.title.clone(),
            state: ProblemState::Proposed,
            incidents: found.incidents.clone(),
            first_seen: found.first_seen,
            last_seen: found.last_seen,
            detected_at: now,
            updated_at: now,
            period_seconds: found.period_seconds,
            next_expected_at: found.next_expected_at,
            confidence: found.confidence,
            by_chance: found.by_chance,
            why: found.why.clone(),
            detection: detection.to_owned(),
            reason: String::new(),
            linked: BTreeSet::new(),
            merged_into: None,
        };
        let count = problem.incidents.len();
        let text = format!("{id} proposed: {} ({count} incidents)", problem.title);
        let body = serde_json::json!({
            "version": "1",
            "occasion": Occasion::ProblemProposed.as_str(),
            "text": text,
            "at": now,
            "problem": {
                "id": id,
                "title": problem.title,
                "count": count,
                "first_seen": problem.first_seen,
                "last_seen": problem.last_seen,
                "next_expected_at": problem.next_expected_at,
                "why": problem.why,
            },
        });
        self.problems.insert(id, problem);
        self.changes.objects.insert(ObjectKey::Memory);
        self.log(ObjectKey::Problem(id), TimelineEntry::new(now, "proposed", "", text));
        if !found.by_chance {
            self.notify_plainly(now, Occasion::ProblemProposed, &body);
        }
        self.name_problem(now, id);
        id
    }

    /// Writes the problem's id into those of its incidents that are not closed.
    fn name_problem(&mut self, now: Timestamp, id: ProblemId) {
        let incidents = self.problems.get(&id).map(|it| it.incidents.clone()).unwrap_or_default();
        for incident in incidents {
            if let Some(known) = self.incidents.get_mut(&incident)
                && known.problem != Some(id)
            {
                known.problem = Some(id);
                self.touch(now, ObjectKey::Incident(incident));
            }
        }
        self.touch(now, ObjectKey::Problem(id));
    }

    /// A person says that it is a problem.
    pub(super) fn accept_problem(&mut self, now: Timestamp, by: &str, id: ProblemId) -> Reply {
        self.move_problem(now, by, id, (ProblemState::Accepted, "accepted", ""))
    }

    /// A person says that it is none.
    pub(super) fn reject_problem(
        &mut self,
        now: Timestamp,
        by: &str,
        id: ProblemId,
        reason: &str,
    ) -> Reply {
        self.move_problem(now, by, id, (ProblemState::Rejected, "rejected", reason))
    }

    /// A person says that its cause is gone.
    pub(super) fn close_problem(
        &mut self,
        now: Timestamp,
        by: &str,
        id: ProblemId,
        reason: &str,
    ) -> Reply {
        self.move_problem(now, by, id, (ProblemState::Resolved, "resolved", reason))
    }

    fn move_problem(
        &mut self,
        now: Timestamp,
        by: &str,
        id: ProblemId,
        to: (ProblemState, &str, &str),
    ) -> Reply {
        let (state, kind, reason) = to;
        let problem = self.problems.get_mut(&id).ok_or_else(|| no_problem(id))?;
        let allowed = match state {
            ProblemState::Accepted => problem.state == ProblemState::Proposed,
            ProblemState::Rejected => {
                matches!(problem.state, ProblemState::Proposed | ProblemState::Accepted)
            }
            ProblemState::Proposed
            | ProblemState::KnownError
            | ProblemState::FixPlanned
            | ProblemState::Resolved => {
                !matches!(problem.state, ProblemState::Resolved | ProblemState::Rejected)
            }
        };
        if !allowed {
            return Err(Refusal::WrongState(format!("{id} is {}", problem.state.as_str())));
        }
        problem.state = state;
        problem.updated_at = now;
        reason.clone_into(&mut problem.reason);
        let text = if reason.is_empty() { kind.to_owned() } else { format!("{kind}: {reason}") };
        self.log(ObjectKey::Problem(id), TimelineEntry::new(now, kind, by, text));
        self.touch(now, ObjectKey::Problem(id));
        Ok(Accepted::Object(ObjectKey::Problem(id)))
    }

    /// A person says that an incident belongs to it.
    pub(super) fn link_problem(
        &mut self,
        now: Timestamp,
        by: &str,
        id: ProblemId,
        incident: IncidentId,
    ) -> Reply {
        if incident.0 == 0 || incident.0 > self.memory.incident {
            return Err(Refusal::NotFound(format!("there is no incident {incident}")));
        }
        let opened = self.incidents.get(&incident).map(|it| it.opened_at);
        let problem = self.problems.get_mut(&id).ok_or_else(|| no_problem(id))?;
        problem.incidents.insert(incident);
        problem.linked.insert(incident);
        problem.last_seen = opened.map_or(problem.last_seen, |it| problem.last_seen.max(it));
        problem.updated_at = now;
        self.log(
            ObjectKey::Problem(id),
            TimelineEntry::new(now, "linked", by, format!("{incident} belongs to it")),
        );
        self.name_problem(now, id);
        Ok(Accepted::Object(ObjectKey::Problem(id)))
    }
}

fn no_problem(id: ProblemId) -> Refusal {
    Refusal::NotFound(format!("there is no problem {id}"))
}

#[cfg(test)]
mod tests {
    use super::super::event::{Command, Event};
    use super::super::rules::{ProblemDetection, RuleSet};
    use super::*;
    use std::sync::Arc;

    const NONE: [u64; 0] = [];

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn state_with_detection(now: Timestamp) -> State {
        let detection = ProblemDetection {
            rule: Arc::default(),
            cron: "0 */6 * * *".to_owned(),
            time_zone: "Europe/Berlin".to_owned(),
            look_back_seconds: 86_400,
            algorithm: Algorithm::Dbscan,
            incidents_min: 3,
            tolerance_thousandths: None,
            weights: FieldWeights::default(),
            seed: 7,
        };
        let rules = RuleSet { problem_detection: vec![detection], ..RuleSet::default() };
        let mut state = State::default();
        drop(state.apply(now, &Event::RulesLoaded(Arc::new(rules))));
        state
    }

    #[test]
    fn problems_are_looked_for_on_schedule_and_a_missed_slot_is_made_up_for_once() {
        let mut state = state_with_detection(at("2026-11-22T10:30:00Z"));
        // Noon in Berlin.
        assert_eq!(state.next_wakeup(), Some(at("2026-11-22T11:00:00Z")));
        let turn = state.apply(at("2026-11-22T11:00:00Z"), &Event::Woken);
        let [planned] = turn.effects.as_slice() else { panic!("{:?}", turn.effects) };
        assert!(matches!(planned.effect, Effect::DetectProblems { .. }) && planned.idempotent);
        assert_eq!(state.next_wakeup(), Some(at("2026-11-22T17:00:00Z")));
        // Nobody watched for a day.
        let turn = state.apply(at("2026-11-23T18:00:00Z"), &Event::Woken);
        assert_eq!(turn.effects.len(), 1);
        assert_eq!(state.next_wakeup(), Some(at("2026-11-23T23:00:00Z")));
    }

    fn recurrence(incidents: impl IntoIterator<Item = u64>) -> Recurrence {
        let seen = at("2026-11-22T10:00:00Z");
        Recurrence {
            title: "DiskFull on database".to_owned(),
            incidents: incidents.into_iter().map(IncidentId).collect(),
            first_seen: seen,
            last_seen: seen,
            period_seconds: None,
            next_expected_at: None,
            confidence: 500,
            by_chance: false,
            why: Vec::new(),
        }
    }

    fn found(incidents: impl IntoIterator<Item = u64>) -> Event {
        all_found(None, vec![recurrence(incidents)])
    }

    fn all_found(looked_at: Option<(u64, u64)>, recurrences: Vec<Recurrence>) -> Event {
        Event::RecurrencesFound {
            detection: "default".to_owned(),
            incidents_seen: 10,
            looked_at: looked_at.map(|(first, last)| (IncidentId(first), IncidentId(last))),
            recurrences,
        }
    }

    fn members(state: &State, problem: u64) -> Vec<u64> {
        state.problems[&ProblemId(problem)].incidents.iter().map(|it| it.0).collect()
    }

    #[test]
    fn a_later_detection_takes_incidents_away_but_for_those_that_people_added() {
        let now = at("2026-11-22T10:30:00Z");
        let mut state = state_with_detection(now);
        state.memory.incident = 20;
        drop(state.apply(now, &all_found(Some((1, 9)), vec![recurrence([1, 2, 3, 4])])));
        let link = Command::LinkProblem { problem: ProblemId(1), incident: IncidentId(7) };
        drop(state.apply(now, &Event::CommandGiven { by: "ann".to_owned(), command: link }));
        // The look-back has moved on to 2, and 4 is something else now.
        drop(state.apply(now, &all_found(Some((2, 12)), vec![recurrence([2, 3, 11])])));
        assert_eq!(members(&state, 1), [1, 2, 3, 7, 11]);
    }

    #[test]
    fn a_problem_keeps_its_number_while_others_are_born_merge_part_and_end() {
        let now = at("2026-11-22T10:30:00Z");
        let mut state = state_with_detection(now);
        let groups = |groups: &[&[u64]]| {
            let groups = groups.iter().map(|it| recurrence(it.iter().copied())).collect();
            all_found(Some((1, 99)), groups)
        };
        drop(state.apply(now, &groups(&[&[1, 2, 3, 4, 5], &[10, 11, 12], &[20, 21, 22]])));
        // The first has parted; the third has taken the second's; 30 to 32 are new.
        let turn = state.apply(
            now,
            &groups(&[&[4, 5, 6], &[1, 2, 3, 7], &[10, 11, 12, 20, 21, 22, 23], &[30, 31, 32]]),
        );
        let told: Vec<String> = turn
            .timeline
            .iter()
            .map(|(key, it)| format!("{key:?} {}: {}", it.kind, it.text))
            .collect();
        assert_eq!(members(&state, 1), [1, 2, 3, 7]);
        assert_eq!(members(&state, 2), [10, 11, 12, 20, 21, 22, 23]);
        let third = &state.problems[&ProblemId(3)];
        assert_eq!((third.state, third.merged_into), (ProblemState::Resolved, Some(ProblemId(2))));
        assert_eq!((members(&state, 3), members(&state, 4)), (vec![], vec![4, 5, 6]));
        for part in ["split: PRB-4 was split off", "merged: merged into PRB-2", "merged: PRB-3 was"]
        {
            assert!(told.iter().any(|it| it.contains(part)), "{part} in {told:#?}");
        }
        // Nothing binds 30 to 32 together any more; a person has judged about 1.
        let accept = Command::AcceptProblem { problem: ProblemId(1) };
        drop(state.apply(now, &Event::CommandGiven { by: "ann".to_owned(), command: accept }));
        drop(state.apply(now, &groups(&[&[4, 5, 6], &[10, 11, 12, 20, 21, 22, 23]])));
        assert_eq!(members(&state, 1), [1, 2, 3, 7]);
        assert_eq!(members(&state, 5), NONE);
        assert!(state.problems[&ProblemId(5)].reason.starts_with("withdrawn"));
        assert_eq!(state.problems[&ProblemId(1)].state, ProblemState::Accepted);
    }

    #[test]
    fn what_is_found_again_feeds_its_problem_and_what_was_rejected_is_not_proposed_again() {
        let now = at("2026-11-22T10:30:00Z");
        let mut state = state_with_detection(now);
        drop(state.apply(now, &found([1, 2, 3])));
        drop(state.apply(now, &found([2, 3, 4])));
        let problem = &state.problems[&ProblemId(1)];
        assert_eq!((state.problems.len(), problem.incidents.len()), (1, 4));
        let reject = Command::RejectProblem { problem: ProblemId(1), reason: "a drill".to_owned() };
        drop(state.apply(now, &Event::CommandGiven { by: "ann".to_owned(), command: reject }));
        drop(state.apply(now, &found([3, 4, 5])));
        assert_eq!(state.problems.len(), 1);
        assert_eq!(state.problems[&ProblemId(1)].state, ProblemState::Rejected);
        drop(state.apply(now, &found([7, 8, 9])));
        assert_eq!(state.problems.len(), 2);
    }
}

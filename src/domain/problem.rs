//! Problems: the causes behind incidents that keep coming back.

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
    /// Why its incidents belong together.
    pub why: Vec<String>,
    /// The detection that found it.
    pub detection: String,
    /// Why it was rejected or closed.
    pub reason: String,
}

/// A recurrence is the same as a known problem if at least this share of the smaller of the two
/// is in both, in parts per thousand.
const SAME_THOUSANDTHS: usize = 500;

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

    /// A detection run found what recurs: feeds the problems that are known, proposes the others.
    pub(super) fn recurrences_found(
        &mut self,
        now: Timestamp,
        detection: &str,
        recurrences: &[Recurrence],
    ) {
        let mut taken = BTreeSet::new();
        for recurrence in recurrences {
            match self.same_problem(recurrence, &taken) {
                Some(id) => {
                    taken.insert(id);
                    self.feed_problem(now, id, recurrence);
                }
                None => {
                    taken.insert(self.propose_problem(now, detection, recurrence));
                }
            }
        }
    }

    /// The known problem that shares most incidents with a recurrence, if enough.
    fn same_problem(&self, found: &Recurrence, taken: &BTreeSet<ProblemId>) -> Option<ProblemId> {
        (self.problems.values())
            .filter(|it| !taken.contains(&it.id))
            .filter_map(|problem| {
                let shared = problem.incidents.intersection(&found.incidents).count();
                let smaller = problem.incidents.len().min(found.incidents.len()).max(1);
                (shared * 1000 >= smaller * SAME_THOUSANDTHS).then_some((shared, problem.id))
            })
            .max_by_key(|(shared, id)| (*shared, std::cmp::Reverse(*id)))
            .map(|(_, id)| id)
    }

    fn feed_problem(&mut self, now: Timestamp, id: ProblemId, found: &Recurrence) {
        let Some(problem) = self.problems.get_mut(&id) else { return };
        let new = found.incidents.difference(&problem.incidents).count();
        let mut fed = problem.clone();
        fed.incidents.extend(&found.incidents);
        fed.first_seen = fed.first_seen.min(found.first_seen);
        fed.last_seen = fed.last_seen.max(found.last_seen);
        fed.period_seconds = found.period_seconds;
        fed.next_expected_at = found.next_expected_at;
        fed.confidence = found.confidence;
        fed.why.clone_from(&found.why);
        if fed.state == ProblemState::Proposed {
            fed.title.clone_from(&found.title);
        }
        if fed == *problem {
            return;
        }
        fed.updated_at = now;
        *problem = fed;
        if new > 0 {
            let text = format!("{new} more incidents belong to it");
            self.log(ObjectKey::Problem(id), TimelineEntry::new(now, "recurred", "", text));
        }
        self.name_problem(now, id);
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
            why: found.why.clone(),
            detection: detection.to_owned(),
            reason: String::new(),
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
        self.notify_plainly(now, Occasion::ProblemProposed, &body);
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
    use super::super::event::Event;
    use super::super::rules::{ProblemDetection, RuleSet};
    use super::*;
    use std::sync::Arc;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn state_with_detection(now: Timestamp) -> State {
        let detection = ProblemDetection {
            rule: Arc::default(),
            cron: "0 */6 * * *".to_owned(),
            time_zone: "Europe/Berlin".to_owned(),
            look_back_seconds: 86_400,
            algorithm: super::super::rules::Algorithm::Dbscan,
            incidents_min: 3,
            tolerance_thousandths: None,
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

    fn found(incidents: impl IntoIterator<Item = u64>) -> Event {
        let seen = at("2026-11-22T10:00:00Z");
        Event::RecurrencesFound {
            detection: "default".to_owned(),
            incidents_seen: 10,
            recurrences: vec![Recurrence {
                title: "DiskFull on database".to_owned(),
                incidents: incidents.into_iter().map(IncidentId).collect(),
                first_seen: seen,
                last_seen: seen,
                period_seconds: None,
                next_expected_at: None,
                confidence: 500,
                why: Vec::new(),
            }],
        }
    }

    #[test]
    fn what_is_found_again_feeds_its_problem_and_what_was_rejected_is_not_proposed_again() {
        let now = at("2026-11-22T10:30:00Z");
        let mut state = state_with_detection(now);
        drop(state.apply(now, &found([1, 2, 3])));
        drop(state.apply(now, &found([2, 3, 4])));
        let problem = &state.problems[&ProblemId(1)];
        assert_eq!((state.problems.len(), problem.incidents.len()), (1, 4));
        let reject = super::super::event::Command::RejectProblem {
            problem: ProblemId(1),
            reason: "a drill".to_owned(),
        };
        drop(state.apply(now, &Event::CommandGiven { by: "ann".to_owned(), command: reject }));
        drop(state.apply(now, &found([3, 4, 5])));
        assert_eq!(state.problems.len(), 1);
        assert_eq!(state.problems[&ProblemId(1)].state, ProblemState::Rejected);
        drop(state.apply(now, &found([7, 8, 9])));
        assert_eq!(state.problems.len(), 2);
    }
}

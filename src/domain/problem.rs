//! Problems: the causes behind incidents that keep coming back.

mod detection;
mod expected;
mod figures;
mod identity;
mod life;

pub use detection::{Algorithm, FieldWeights, ProblemDetection};
pub use figures::{
    Figures, Forecasts, How, Interval, Membership, Opening, Recent, Rhythm, SharedTrait, Trend,
};
pub(super) use identity::Found;
pub(super) use life::{KnownError, Openings};

use super::change::ChangeId;
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
    /// All that is known of them.
    #[serde(default)]
    pub figures: Figures,
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
    /// What is behind it, as far as people know.
    #[serde(default)]
    pub cause: String,
    /// How to live with it.
    #[serde(default)]
    pub workaround: String,
    /// The runbook that carries the workaround out.
    #[serde(default)]
    pub runbook: Option<String>,
    /// The change that removes the cause.
    #[serde(default)]
    pub fix: Option<ChangeId>,
    /// When a person said that the cause is gone; it is watched since.
    #[serde(default)]
    pub resolved_at: Option<Timestamp>,
    /// How often it was back after that.
    #[serde(default)]
    pub reopen_count: u32,
    /// Its last incident when people were told that the next one is expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warned_after: Option<Timestamp>,
    /// All that is known of its incidents.
    #[serde(default)]
    pub figures: Figures,
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
            cause: String::new(),
            workaround: String::new(),
            runbook: None,
            fix: None,
            resolved_at: None,
            reopen_count: 0,
            warned_after: None,
            figures: found.figures.clone(),
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
}

#[cfg(test)]
mod tests;

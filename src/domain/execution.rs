//! Executions: one run of a runbook each, from the question to the checked result.

mod answer;
mod approval;
mod blast;
mod call;
mod deadline;
mod each;
mod fill;
mod guard;
mod plan;
mod record;
mod run;
mod schedule;
mod start;
#[cfg(test)]
mod tests;
mod trigger;
mod unwind;
mod verify;
mod watched;

pub(in crate::domain) use approval::Person;
pub use approval::{Answer, Question};
pub use call::DEPTH_MAX as CALL_DEPTH_MAX;
pub use guard::GUARD_NAMES;
pub use plan::Check;
pub(in crate::domain) use trigger::Occurrence;
pub use trigger::Uses;
pub(in crate::domain) use watched::Watched;

use super::change::ChangeId;
use super::effect::EffectKey;
use super::incident::IncidentId;
use super::rules::{Action, Runbook, RunbookMode};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

super::numbered_id!(
    /// The number of an execution; printed `EXE-9`.
    ExecutionId,
    "EXE"
);

/// Where an execution is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecutionState {
    /// Proposed; a person may start it.
    Proposed,
    /// Waits for a person's yes.
    WaitingApproval,
    /// A step is being done, or waits for its next attempt.
    Running,
    /// The steps are done; whether they helped is looked at.
    Verifying,
    /// It helped.
    Succeeded,
    /// The steps were done, but it did not help.
    Ineffective,
    /// A step failed.
    Failed,
    /// A step failed, and what was done before it was undone.
    Undone,
    /// A step failed, or it did not help, and what was done could not be undone; a person must look.
    Stuck,
    /// A guard held it back.
    Blocked,
    /// A person said no.
    Denied,
    /// A person stopped it.
    Aborted,
    /// Whether a step was done is not known; a person must look.
    Unknown,
    /// It would have run, if the mode allowed it.
    WouldRun,
}

impl ExecutionState {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Proposed,
        Self::WaitingApproval,
        Self::Running,
        Self::Verifying,
        Self::Succeeded,
        Self::Ineffective,
        Self::Failed,
        Self::Undone,
        Self::Stuck,
        Self::Blocked,
        Self::Denied,
        Self::Aborted,
        Self::Unknown,
        Self::WouldRun,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::WaitingApproval => "waiting_approval",
            Self::Running => "running",
            Self::Verifying => "verifying",
            Self::Succeeded => "succeeded",
            Self::Ineffective => "ineffective",
            Self::Failed => "failed",
            Self::Undone => "undone",
            Self::Stuck => "stuck",
            Self::Blocked => "blocked",
            Self::Denied => "denied",
            Self::Aborted => "aborted",
            Self::Unknown => "unknown",
            Self::WouldRun => "would_run",
        }
    }

    /// Whether nothing more will happen by itself or by a person's word.
    pub fn is_final(self) -> bool {
        !matches!(
            self,
            Self::Proposed
                | Self::WaitingApproval
                | Self::Running
                | Self::Verifying
                | Self::Unknown
                | Self::Stuck
        )
    }
}

/// What held an execution back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    /// Which guard; see [`GUARD_NAMES`].
    pub guard: String,
    /// Why, in a sentence.
    pub reason: String,
}

/// Where a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Not begun.
    Pending,
    /// Being done, or waiting for its next attempt.
    Running,
    /// Done.
    Succeeded,
    /// Not done.
    Failed,
    /// Nobody knows.
    Unknown,
    /// Will not be done.
    Skipped,
}

impl StepState {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::Skipped => "skipped",
        }
    }
}

/// Why a step is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// It is one of the runbook's `steps`.
    #[default]
    Step,
    /// It looks whether the steps helped.
    Verify,
    /// It looks whether the run may begin.
    Precondition,
    /// It takes a step back.
    Undo,
    /// It is one of those that are done last, whatever happened.
    Always,
}

impl Part {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Verify => "verify",
            Self::Precondition => "precondition",
            Self::Undo => "undo",
            Self::Always => "always",
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
    fn is_step(&self) -> bool {
        *self == Self::Step
    }
}

/// One step of an execution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRun {
    /// The step's id; that of an undo is the id of what it undoes.
    pub id: String,
    /// Why it is done.
    #[serde(default, skip_serializing_if = "Part::is_step")]
    pub part: Part,
    /// Where it is.
    pub state: StepState,
    /// What it is done for: the parameter's name and its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<Item>,
    /// The run that it called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child: Option<ExecutionId>,
    /// What is done, rendered; `None` until it can be known.
    pub action: Option<Action>,
    /// How often it was tried.
    pub attempts: u32,
    /// The effect that is, or was last, under way.
    pub effect: Option<EffectKey>,
    /// When it goes on: a failed attempt is tried again, or a wait is over.
    pub retry_at: Option<Timestamp>,
    /// Whether the effect under way only looks whether it is done already.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub looking: bool,
    /// The last part of what it printed or answered.
    pub output_tail: String,
    /// What happened, in a line.
    pub detail: String,
    /// A command's exit code, or a reply's HTTP status.
    pub exit_code: Option<i32>,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// What a step is done for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The parameter that it is known by.
    pub name: String,
    /// What it is.
    pub value: String,
    /// Its place in the list, from 1.
    pub place: u32,
}

/// One run of a runbook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Execution {
    /// Its number.
    pub id: ExecutionId,
    /// The runbook as it was when the run was asked for.
    pub runbook: Arc<Runbook>,
    /// The mode it runs under; a run that a person starts is `auto`.
    pub mode: RunbookMode,
    /// The incident that it is for.
    pub incident: Option<IncidentId>,
    /// The run that called it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ExecutionId>,
    /// The change that it is recorded as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<ChangeId>,
    /// Where it is.
    pub state: ExecutionState,
    /// What held it back.
    pub blocked_by: Option<Blocked>,
    /// A person ordered it in an emergency.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_emergency: bool,
    /// Values of the parameters.
    pub parameters: BTreeMap<String, String>,
    /// What the templates of the steps may use besides the parameters: labels, annotations and
    /// some fields of the incident, as they were when the run was asked for.
    pub context: Context,
    /// Runs with the same key never overlap.
    pub lock: String,
    /// The steps.
    pub steps: Vec<StepRun>,
    /// Who asked for it; empty = the daemon.
    pub requested_by: String,
    /// Who said yes or no.
    pub decided_by: String,
    /// What it asks people while it waits for their yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<Question>,
    /// What people said to its questions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<Answer>,
    /// What each guard says of it, of a run that is only looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When its first step began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Until when its steps and its verification may take; `None` = it has no such time, or that is up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// When the steps were done; the check's times count from here.
    pub steps_done_at: Option<Timestamp>,
    /// When the next round of looks begins, while it is being verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub look_at: Option<Timestamp>,
    /// Since when everything that verifies it has held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holding_since: Option<Timestamp>,
    /// How it ends when what is undone, and what is always done, is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
    /// Whether all alerts of the incident are over.
    pub alerts_resolved: bool,
    /// Why it is where it is, in a sentence.
    pub why: String,
}

/// How an execution ends, when the rest is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// The last state.
    pub state: ExecutionState,
    /// Why, in a sentence.
    pub why: String,
}

impl StepRun {
    /// A step that has not begun.
    fn new(part: Part, id: &str) -> Self {
        Self {
            id: id.to_owned(),
            part,
            state: StepState::Pending,
            item: None,
            child: None,
            action: None,
            attempts: 0,
            effect: None,
            retry_at: None,
            looking: false,
            output_tail: String::new(),
            detail: String::new(),
            exit_code: None,
            started_at: None,
            ended_at: None,
        }
    }

    /// What people call it.
    fn name(&self) -> String {
        let of = match &self.item {
            Some(item) => format!(" for {}", item.value),
            None => String::new(),
        };
        match self.part {
            Part::Step | Part::Always => format!("step {}{of}", self.id),
            Part::Undo => format!("undoing step {}{of}", self.id),
            Part::Verify => format!("the look {}", self.id),
            Part::Precondition => format!("the precondition {}", self.id),
        }
    }

    /// The stable name of an attempt.
    fn effect_key(&self, execution: ExecutionId) -> EffectKey {
        let prefix = match (self.part, self.looking) {
            (Part::Step | Part::Always, false) => "",
            (Part::Step | Part::Always, true) => "look/",
            (Part::Undo, _) => "undo/",
            (Part::Verify, _) => "verify/",
            (Part::Precondition, _) => "precondition/",
        };
        let place = self.item.as_ref().map_or_else(String::new, |it| format!(".{}", it.place));
        EffectKey(format!("{execution}/{prefix}{}{place}/{}", self.id, self.attempts).into())
    }

    /// Whether its effect has no result yet.
    pub fn is_under_way(&self) -> bool {
        self.state == StepState::Running && self.effect.is_some() && self.retry_at.is_none()
    }
}

impl Execution {
    /// Whether a step's effect has no result yet. That may be so when the execution is over: a
    /// step that was told to stop takes a while.
    pub fn is_under_way(&self) -> bool {
        self.steps.iter().any(StepRun::is_under_way)
    }

    /// Whether it holds its lock.
    pub fn holds_lock(&self) -> bool {
        let holds = matches!(
            self.state,
            ExecutionState::Running
                | ExecutionState::Verifying
                | ExecutionState::Unknown
                | ExecutionState::Stuck
        );
        holds || self.is_asking() || self.is_under_way()
    }
}

/// What a runbook's templates may use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Context {
    /// Labels of the incident's first alert.
    pub labels: super::label::Labels,
    /// Its annotations.
    pub annotations: super::label::Labels,
    /// `id`, `title`, `severity`, `priority`, `state` of the incident.
    pub incident: BTreeMap<String, String>,
    /// What started the run: `event`, `id`, and what else is known of it. Empty where a person did.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub trigger: BTreeMap<String, String>,
}

//! What is to be done: deeds for `act`, performed after the turn that ordered them is durable.

use super::State;
use super::execution::ExecutionId;
use super::incident::IncidentId;
use super::notification::NotificationId;
use super::rules::{Action, SecretText};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The stable name of an effect, for example `EXE-9/restart/1` or `NTF-4/2`: used as idempotency
/// key towards the outside.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EffectKey(pub Arc<str>);

impl std::fmt::Display for EffectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A deed with its key. Stored until its result is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedEffect {
    /// Its stable name.
    pub key: EffectKey,
    /// Whether it may be done twice. If not, its claim is made durable before it begins, and after
    /// a crash between claim and result it becomes [`super::event::Event::EffectLost`]. So it does
    /// when the executor is gone that had it in hands.
    pub idempotent: bool,
    /// The deed.
    pub effect: Effect,
}

/// A deed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Does one attempt of a runbook's step.
    RunStep {
        /// The execution that it belongs to.
        execution: ExecutionId,
        /// The step's id.
        step: String,
        /// What is done; every template is rendered.
        action: Action,
        /// The time for it, in seconds.
        timeout_seconds: u32,
    },
    /// Stops a step that is being done; its `RunStep` then ends as `Stopped`.
    StopStep {
        /// The key of the `RunStep`.
        step: EffectKey,
    },
    /// Sends a notification, once.
    Deliver {
        /// The receiver's name, for logs and metrics.
        receiver: String,
        /// Where to POST to.
        url: SecretText,
        /// What it is about: `opened`, `resolved`, …
        occasion: super::rules::Occasion,
        /// The incident, if it is about one.
        incident: Option<IncidentId>,
        /// The JSON body.
        body: Arc<str>,
    },
    /// Looks for recurring problems. Performed by the engine with `learn`.
    DetectProblems {
        /// The name of the detection in `models/`.
        detection: String,
    },
}

/// What came of an effect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Whether it did what it should.
    pub result: OutcomeKind,
    /// What happened, in a line: a status, an error.
    pub detail: String,
    /// The last part of what it printed or answered, at most 4 KiB, lossily as UTF-8.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output_tail: String,
    /// A command's exit code, or a reply's HTTP status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// How long it took, in milliseconds.
    pub duration_milliseconds: u64,
}

/// Whether an effect did what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeKind {
    /// Yes.
    Succeeded,
    /// No, and trying again may help: no connection, status 5xx or 429, a time-out before sending.
    FailedRetryable,
    /// No, and trying again will not help: not found, not allowed, a bad status.
    Failed,
    /// It took longer than its time and was ended.
    TimedOut,
    /// It was ended because a person said so or the daemon is stopping.
    Stopped,
}

impl OutcomeKind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::FailedRetryable => "failed_retryable",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Stopped => "stopped",
        }
    }
}

/// Whose effect it is.
pub(super) enum Owner {
    Execution(ExecutionId),
    Notification(NotificationId),
    Nobody,
}

/// Reads the owner off an effect's key: its part before the first `/`.
pub(super) fn owner(key: &EffectKey) -> Owner {
    let name = key.0.split('/').next().unwrap_or_default();
    if let Ok(id) = name.parse() {
        return Owner::Execution(id);
    }
    name.parse().map_or(Owner::Nobody, Owner::Notification)
}

impl State {
    /// Whether a deed without a result is still to be done. After a restart what is not wanted any
    /// more is not begun again.
    pub fn still_wants(&self, planned: &PlannedEffect) -> bool {
        match &planned.effect {
            Effect::RunStep { execution, .. } => self.wants_step(*execution, &planned.key),
            Effect::StopStep { .. } | Effect::Deliver { .. } | Effect::DetectProblems { .. } => {
                true
            }
        }
    }
}

//! Runbooks as they are written: what may be done, when, what holds it back, how it is checked.

use super::action::{Action, ForEach};
use super::trigger::{Quota, Trigger};
use super::{Approval, RuleRef};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How far a runbook may go by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunbookMode {
    /// Only record that it would have run.
    Shadow,
    /// Propose it; a person starts it.
    #[default]
    Suggest,
    /// Wait for a person's yes.
    Approve,
    /// Run at once.
    Auto,
}

/// A parameter of a runbook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    /// A minijinja template over `labels`, `annotations` and `incident`; that of a `set` also over
    /// `parameters` and `steps`.
    pub value: String,
    /// The whole value must match this pattern, or nothing runs.
    pub pattern: String,
}

/// What holds a runbook back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guards {
    /// Seconds that must lie between two runs with the same lock key.
    pub cooldown_seconds: u32,
    /// How many runs may start within `runs_per_seconds`.
    pub runs_max: u32,
    /// The window for `runs_max`, in seconds.
    pub runs_per_seconds: u32,
    /// The cooldown doubles with each useless run up to this, in seconds; not where it is shorter.
    #[serde(default)]
    pub cooldown_seconds_max: u32,
    /// After so many useless runs within `breaker_per_seconds` people are told instead of the next;
    /// 0 = never.
    #[serde(default)]
    pub breaker_after: u32,
    /// The window for `breaker_after`, in seconds.
    #[serde(default)]
    pub breaker_per_seconds: u32,
    /// How many runs of this runbook may be at work at a time.
    #[serde(default)]
    pub at_once: Option<u32>,
    /// Whether it may run while somebody works on another incident of the same service.
    #[serde(default)]
    pub beside_people: bool,
    /// How much may be in the hands of runs at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blast_radius: Option<BlastRadius>,
    /// Looks that must all succeed before anything is done; none that stays without an answer does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preconditions: Vec<Action>,
}

/// How much of what the catalog knows a run may touch, with all others that are at work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlastRadius {
    /// A template that names the items, with commas or white space between them; `None` = those that
    /// parameters name, else what the incident is about.
    #[serde(default)]
    pub of: Option<String>,
    /// The most items at a time.
    #[serde(default)]
    pub items: Option<u32>,
    /// The most hosts, or parts of a kind, of one service at a time, in percent.
    #[serde(default)]
    pub share_percent: Option<u32>,
    /// The most important tier that may be touched.
    #[serde(default)]
    pub tier: Option<u8>,
    /// Whether it may run where it is not known what it acts on.
    #[serde(default)]
    pub unknown_allowed: bool,
}

impl Default for Guards {
    /// Three runs an hour, no cooldown; people are told instead of the third useless run in an hour.
    fn default() -> Self {
        Self {
            cooldown_seconds: 0,
            runs_max: 3,
            runs_per_seconds: 3600,
            cooldown_seconds_max: 0,
            breaker_after: 2,
            breaker_per_seconds: 3600,
            at_once: None,
            beside_people: false,
            blast_radius: None,
            preconditions: Vec::new(),
        }
    }
}

/// Whether a step may be done twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Idempotency {
    /// Doing it twice is the same as once: run again after a crash.
    Idempotent,
    /// After a crash in the middle look whether it is done; a step without a look is treated as
    /// `once`.
    CheckThenAct,
    /// At most once: after a crash in the middle a person decides.
    #[default]
    Once,
}

/// One step of a runbook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Unique within the runbook. An undo and a look bear the name of their step.
    pub id: String,
    /// What it does; texts are templates over `parameters`, `labels`, `annotations`, `incident`.
    pub action: Action,
    /// The time for one attempt, in seconds.
    pub timeout_seconds: u32,
    /// How often it is tried, the first time included.
    pub attempts: u32,
    /// Seconds before the second attempt; doubles with each further one.
    pub backoff_seconds: u32,
    /// How long it is looked again until it succeeds; `None` = it is tried as often as `attempts` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Until>,
    /// Whether it may be done twice.
    pub idempotency: Idempotency,
    /// A CEL condition over `incident`, `labels`, `annotations`, `parameters` and `steps`; where it
    /// does not hold the step is skipped, and where it cannot be decided the step fails.
    /// Empty = always.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub condition: String,
    /// For what it is done; `None` = once, for nothing in particular.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_each: Option<ForEach>,
    /// Whether the run goes on when it fails.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continue_on_error: bool,
    /// What tells whether it is done already; it is then not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub look: Option<Action>,
    /// What takes it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<Box<Step>>,
}

impl Step {
    /// A step that is tried once, within a minute, and must not be done twice.
    pub fn new(id: &str, action: Action) -> Self {
        Self {
            id: id.to_owned(),
            action,
            timeout_seconds: 60,
            attempts: 1,
            backoff_seconds: 1,
            until: None,
            idempotency: Idempotency::Once,
            condition: String::new(),
            for_each: None,
            continue_on_error: false,
            look: None,
            undo: None,
        }
    }
}

/// A look that is repeated until it succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Until {
    /// Seconds from the end of a look to the next one.
    pub every_seconds: u32,
    /// Seconds from the first look after which none begins any more, and the step has failed.
    pub within_seconds: u32,
}

/// How a runbook's success is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verify {
    /// Seconds to wait before looking.
    pub settle_seconds: u32,
    /// Seconds after the last step within which the check must hold.
    pub within_seconds: u32,
    /// All alerts of the incident must have resolved.
    pub alerts_resolved: bool,
    /// Looks that must all succeed, one after another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub looks: Vec<Action>,
    /// Seconds between two rounds of looks.
    #[serde(default)]
    pub every_seconds: u32,
    /// Seconds for which everything must hold without a break.
    #[serde(default)]
    pub hold_seconds: u32,
    /// Whether the steps are undone when it did not help.
    #[serde(default)]
    pub undo: bool,
    /// Whether people are told when it did not help.
    #[serde(default)]
    pub escalate: bool,
}

/// A named list of steps, written down beforehand.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Runbook {
    /// Name and place.
    pub rule: Arc<RuleRef>,
    /// What it is for, in a line.
    pub description: String,
    /// How far it may go by itself.
    pub mode: RunbookMode,
    /// Whose yes it needs before it begins, also where a person orders it; `None` = in mode
    /// `approve` that of anybody who may approve, and else nobody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// What starts it; none = only a person.
    pub triggers: Vec<Trigger>,
    /// Values that the steps use, by name.
    pub parameters: BTreeMap<String, Parameter>,
    /// A template; two runs with the same key never overlap. `None` = the runbook's name.
    pub lock: Option<String>,
    /// What holds it back.
    pub guards: Guards,
    /// How long its steps and what verifies them may take in all, with the runs that it calls, in
    /// seconds; `None` = as long as each of them may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
    /// How long a person needs for the same, in seconds; `None` = nobody has said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manual_seconds: Option<u32>,
    /// What is done, in order.
    pub steps: Vec<Step>,
    /// What is done last, however the run ends, unless a person stops it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub always: Vec<Step>,
    /// How success is checked; `None` = the steps' success is enough.
    pub verify: Option<Verify>,
}

impl Runbook {
    /// How often a trigger may start it: as the trigger says; else a hundred times an hour, or what
    /// `max_runs` allows if that is more.
    pub fn quota(&self, trigger: &Trigger) -> Quota {
        let guards = &self.guards;
        let an_hour = u64::from(guards.runs_max) * 3600 / u64::from(guards.runs_per_seconds.max(1));
        let count = u32::try_from(an_hour.max(100)).unwrap_or(u32::MAX);
        trigger.quota.unwrap_or(Quota { count, per_seconds: 3600 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::matcher::Matchers;
    use crate::domain::rules::TriggerEvent;

    #[test]
    fn a_quota_is_as_told_or_leaves_room_for_what_else_is_allowed() {
        let quota = |runs_max, runs_per_seconds, told| {
            let guards = Guards { runs_max, runs_per_seconds, ..Guards::default() };
            let runbook = Runbook { guards, ..Runbook::default() };
            let trigger = Trigger::new(TriggerEvent::AlertFiring, Matchers::default());
            let quota = runbook.quota(&Trigger { quota: told, ..trigger });
            (quota.count, quota.per_seconds)
        };
        assert_eq!(quota(3, 3600, None), (100, 3600));
        assert_eq!(quota(1000, 60, None), (60_000, 3600));
        assert_eq!(quota(u32::MAX, 1, None), (u32::MAX, 3600));
        assert_eq!(quota(1000, 60, Some(Quota { count: 2, per_seconds: 30 })), (2, 30));
    }
}

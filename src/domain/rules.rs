//! The standing orders: everything that `rules/` and `models/` say, checked, as one fact.
//!
//! `config` reads the files, checks them and builds a [`RuleSet`]; the set enters the log as
//! [`super::event::Event::RulesLoaded`], so that a replay decides by the rules of that hour.

mod action;
mod approval;
mod argument;
mod runbook;
mod tool;
mod trigger;

pub use super::problem::{Algorithm, FieldWeights, ProblemDetection};
pub use action::{Action, Bounds, ChangeNote, ForEach, Limits, Paths};
pub use approval::{Approval, ApprovalRole};
pub use argument::arguments;
pub use runbook::{
    BlastRadius, Guards, Idempotency, Parameter, Runbook, RunbookMode, Step, Until, Verify,
};
pub use tool::{Tool, ToolRun};
pub use trigger::{Quota, Trigger, TriggerEvent, TriggerSchedule};
mod suppression;

pub use suppression::{Inhibition, MaintenanceRule, SilenceRule};

use super::correlation::Way;
use super::flapping::FlappingRule;
use super::forecast::ForecastRule;
use super::freeze::FreezeRule;
use super::heartbeat::HeartbeatRule;
use super::item::{Catalog, Topology};
use super::knowledge::Article;
use super::matcher::Matchers;
use super::rate::RateRule;
use super::service_level::TargetKind;
use super::source::Source;
use super::time_interval::TimeIntervals;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How much the daemon may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Decide and act.
    #[default]
    Act,
    /// Decide, but perform no effect: runbooks end as `would_run`, nobody is told.
    Observe,
}

/// A rule's name and where it is written, for `explain`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RuleRef {
    /// The rule's `name`; unique within its kind.
    pub name: String,
    /// The file, relative to the rules folder; empty for a built-in rule.
    pub file: String,
    /// The line of the rule, from 1; 0 for a built-in rule.
    pub line: u32,
}

/// Prints `name (file:line)`.
impl std::fmt::Display for RuleRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => write!(f, "{} (built in)", self.name),
            line => write!(f, "{} ({}:{line})", self.name, self.file),
        }
    }
}

/// Everything that has been told to the daemon by files.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RuleSet {
    /// A short hash of the files' contents, shown in logs and `explain`.
    pub revision: String,
    /// Whether effects are performed.
    pub mode: Mode,
    /// How long an alert without an end stays firing after its last receipt, in seconds.
    pub resolve_timeout_seconds: u32,
    /// Grouping rules in order; the first that matches decides.
    pub correlations: Vec<Correlation>,
    /// Alerts that never meet in an incident by evidence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub never_together: Vec<NeverTogether>,
    /// Evidence that does not count.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ignored_evidence: BTreeSet<Way>,
    /// Impact and urgency by matchers; the first that matches decides.
    pub priorities: Vec<PriorityRule>,
    /// Promises on times; the first that matches an incident holds.
    pub sla_policies: Vec<SlaPolicy>,
    /// Silences written in files.
    pub silences: Vec<SilenceRule>,
    /// Where notifications can go.
    pub receivers: Vec<Receiver>,
    /// Which notifications go where; every route that matches sends.
    pub routes: Vec<Route>,
    /// What may be done.
    pub runbooks: Vec<Runbook>,
    /// When and how recurring problems are looked for.
    pub problem_detection: Vec<ProblemDetection>,
    /// What must not become full.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forecasts: Vec<ForecastRule>,
    /// That rates are watched; the first says how.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unusual_rates: Vec<RateRule>,
    /// Times under a name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub time_intervals: Vec<Arc<TimeIntervals>>,
    /// Which alerts hold back others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inhibitions: Vec<Inhibition>,
    /// When alerts are expected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub maintenance: Vec<MaintenanceRule>,
    /// When nothing may be changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub freezes: Vec<FreezeRule>,
    /// Webhooks that files declare.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
    /// What must be heard from again and again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heartbeats: Vec<HeartbeatRule>,
    /// What people know, written in files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub articles: Vec<Arc<Article>>,
    /// What alerts can speak of.
    #[serde(default, skip_serializing_if = "Catalog::is_empty")]
    pub catalog: Arc<Catalog>,
}

/// A grouping rule: which alerts belong into one incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Correlation {
    /// Name and place.
    pub rule: Arc<RuleRef>,
    /// All must hold for the rule to apply.
    pub matchers: Matchers,
    /// Labels that must be equal within an incident; an absent label counts as empty.
    /// The single entry `...` means every label.
    pub group_by: Vec<String>,
    /// Of several incidents of a group, an alert joins the one that was seen near what the alert is
    /// about; `None` = there is one, wherever it was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology: Option<Topology>,
    /// A CEL condition over the incident with the alert in it; where it does not hold, the alert does
    /// not join by this rule. Empty = always.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub require: String,
    /// The incident takes no new alert after this long without one, in seconds.
    pub gap_seconds: u32,
    /// The incident takes no new alert this long after its first one, in seconds.
    pub max_seconds: u32,
    /// A minijinja template over `labels` and `annotations` of the first alert.
    pub title: String,
    /// A fixed severity; `None` = from the alerts' `severity` label.
    pub severity: Option<super::incident::Severity>,
    /// A resolved incident is opened again by an alert within this long, then closed, in seconds.
    pub reopen_within_seconds: u32,
    /// When its alerts flap.
    #[serde(default)]
    pub flapping: FlappingRule,
    /// An incident waits so long whether an alert that is over comes back, in seconds.
    #[serde(default)]
    pub hold_open_seconds: u32,
    /// An alert whose source promised to tell its end is over when the source has said nothing of it
    /// for so long, in seconds; 0 = never.
    #[serde(default)]
    pub auto_resolve_seconds: u32,
}

/// Two sorts of alerts that never meet in an incident by evidence, whatever it says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NeverTogether {
    /// Name and place.
    pub rule: Arc<RuleRef>,
    /// The one sort: all must hold.
    pub one: Matchers,
    /// The other.
    pub other: Matchers,
}

/// Overrides impact or urgency of incidents whose first alert matches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PriorityRule {
    /// Place; the name is made from the position.
    pub rule: Arc<RuleRef>,
    /// All must hold.
    pub matchers: Matchers,
    /// 1 (wide) to 3 (narrow); `None` leaves the default.
    pub impact: Option<u8>,
    /// 1 (soon) to 3 (later); `None` leaves the default.
    pub urgency: Option<u8>,
}

/// A promise on times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlaPolicy {
    /// Name and place.
    pub rule: Arc<RuleRef>,
    /// All must hold on the labels of the incident's first alert.
    pub matchers: Matchers,
    /// Percent of the time at which a warning is given, ascending, 1 to 99.
    pub warn_at_percent: Vec<u8>,
    /// The promised seconds by priority (1 to 5) and target.
    pub targets: BTreeMap<u8, BTreeMap<TargetKind, u32>>,
}

/// A text that must not be shown: in the file itself, in another file, or in the environment.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretText {
    /// The text itself (for URLs without a secret in them).
    Text(String),
    /// The path of a file whose trimmed contents are the text; read when needed.
    File(String),
    /// The name of an environment variable.
    Env(String),
}

/// Prints where the text is, never the text: a webhook's URL is often a password.
impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(…)"),
            Self::File(path) => write!(f, "File({path})"),
            Self::Env(name) => write!(f, "Env({name})"),
        }
    }
}

/// Where notifications can go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Receiver {
    /// Name and place.
    pub rule: Arc<RuleRef>,
    /// The address to POST to.
    pub webhook_url: SecretText,
}

/// What a notification is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    /// An incident was opened or opened again.
    Opened,
    /// An incident was resolved.
    Resolved,
    /// An alert began to flap.
    FlappingStarted,
    /// An alert flaps no more.
    FlappingEnded,
    /// An SLA target is near its end.
    Warned,
    /// An SLA target was missed.
    Breached,
    /// A runbook waits for a person.
    ApprovalNeeded,
    /// A problem was proposed.
    ProblemProposed,
    /// A problem with a rhythm is expected soon.
    ProblemExpected,
    /// A silence ends soon while alerts that it holds back fire.
    SilenceExpiring,
    /// A runbook did not help, or is stuck, and a person must look. Where no route is on it, those
    /// on `opened` tell it.
    Escalated,
    /// A step of a runbook tells something. No route is on it: the step names its receiver.
    RunbookNote,
}

impl Occasion {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Opened,
        Self::Resolved,
        Self::FlappingStarted,
        Self::FlappingEnded,
        Self::Warned,
        Self::Breached,
        Self::ApprovalNeeded,
        Self::ProblemProposed,
        Self::ProblemExpected,
        Self::SilenceExpiring,
        Self::Escalated,
        Self::RunbookNote,
    ];

    /// The word for it in rules, JSON and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Resolved => "resolved",
            Self::FlappingStarted => "flapping_started",
            Self::FlappingEnded => "flapping_ended",
            Self::Warned => "warned",
            Self::Breached => "breached",
            Self::ApprovalNeeded => "approval_needed",
            Self::ProblemProposed => "problem_proposed",
            Self::ProblemExpected => "problem_expected",
            Self::SilenceExpiring => "silence_expiring",
            Self::Escalated => "escalated",
            Self::RunbookNote => "runbook_note",
        }
    }
}

/// Which notifications go to a receiver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Place; the name is made from the position.
    pub rule: Arc<RuleRef>,
    /// All must hold on the labels of the incident's first alert.
    pub matchers: Matchers,
    /// The occasions to tell.
    pub on: Vec<Occasion>,
    /// The receiver's name.
    pub receiver: String,
    /// Within these nobody is told by it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mute_time_intervals: Vec<Arc<TimeIntervals>>,
    /// If any, people are told by it within these only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub active_time_intervals: Vec<Arc<TimeIntervals>>,
    /// It waits so long before it tells that an incident was opened: by then it may be over, or part of
    /// another one, and nobody need be told. In seconds.
    #[serde(default)]
    pub decide_after_seconds: u32,
}

impl RuleSet {
    /// Finds a runbook by name.
    pub fn runbook(&self, name: &str) -> Option<&Runbook> {
        self.runbooks.iter().find(|it| it.rule.name == name)
    }

    /// The occasion by which routes are chosen: what asks for people reaches them also where nobody
    /// thought of it.
    pub(super) fn occasion_asked(&self, occasion: Occasion) -> Occasion {
        let is_routed = self.routes.iter().any(|it| it.on.contains(&occasion));
        if occasion == Occasion::Escalated && !is_routed { Occasion::Opened } else { occasion }
    }

    /// Finds a receiver by name.
    pub fn receiver(&self, name: &str) -> Option<&Receiver> {
        self.receivers.iter().find(|it| it.rule.name == name)
    }
}

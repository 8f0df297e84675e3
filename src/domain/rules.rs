//! The standing orders: everything that `rules/` and `models/` say, checked, as one fact.
//!
//! `config` reads the files, checks them and builds a [`RuleSet`]; the set enters the log as
//! [`super::event::Event::RulesLoaded`], so that a replay decides by the rules of that hour.

use super::flapping::FlappingRule;
use super::heartbeat::HeartbeatRule;
use super::item::Catalog;
use super::matcher::Matchers;
use super::service_level::TargetKind;
use super::source::Source;
use super::time_interval::TimeIntervals;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
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
    /// Times under a name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub time_intervals: Vec<Arc<TimeIntervals>>,
    /// Which alerts hold back others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inhibitions: Vec<Inhibition>,
    /// When alerts are expected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub maintenance: Vec<MaintenanceRule>,
    /// Webhooks that files declare.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
    /// What must be heard from again and again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heartbeats: Vec<HeartbeatRule>,
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

/// A silence written in a file. Its id is `rule.name`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SilenceRule {
    /// Name and place.
    pub rule: Arc<RuleRef>,
    /// All must hold for an alert to be silenced.
    pub matchers: Matchers,
    /// Who wants it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// From when on.
    pub starts_at: Timestamp,
    /// Until when.
    pub ends_at: Timestamp,
    /// If any, it holds only within them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub time_intervals: Vec<Arc<TimeIntervals>>,
}

/// Which alerts hold back others, as in Alertmanager.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inhibition {
    /// Name and place.
    pub rule: Arc<RuleRef>,
    /// All must hold on the alert that inhibits.
    pub source_matchers: Matchers,
    /// All must hold on the alert that is inhibited.
    pub target_matchers: Matchers,
    /// Labels of the source and of the target that must have equal values; an absent label counts
    /// as empty. No label of the target stands twice.
    pub equal: Vec<(String, String)>,
    /// A target goes on its way when no source has fired for this long, in seconds.
    #[serde(default)]
    pub wait_seconds: u32,
}

/// When alerts are expected, because somebody works on the thing. It has `time_intervals`, or a
/// start and an end, or both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaintenanceRule {
    /// Name and place.
    pub rule: Arc<RuleRef>,
    /// All must hold for an alert to be expected.
    pub matchers: Matchers,
    /// Who does it.
    pub owner: String,
    /// What is done.
    pub reason: String,
    /// From when on.
    #[serde(default)]
    pub starts_at: Option<Timestamp>,
    /// Until when.
    #[serde(default)]
    pub ends_at: Option<Timestamp>,
    /// If any, only within them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub time_intervals: Vec<Arc<TimeIntervals>>,
    /// It begins, within its time, with the first alert that begins to fire, and lasts so many
    /// seconds; `None` = it lasts as long as its time.
    #[serde(default)]
    pub flexible_seconds: Option<u32>,
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
    /// A silence ends soon while alerts that it holds back fire.
    SilenceExpiring,
}

impl Occasion {
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
            Self::SilenceExpiring => "silence_expiring",
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
}

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

/// What starts a runbook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TriggerEvent {
    /// An incident was opened or opened again.
    IncidentOpened,
}

/// One way in which a runbook starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trigger {
    /// What must happen.
    pub event: TriggerEvent,
    /// All must hold on the labels of the incident's first alert.
    pub matchers: Matchers,
    /// A CEL condition over `incident` and `labels`; empty = always. An error counts as no.
    pub when: String,
}

/// A parameter of a runbook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parameter {
    /// A minijinja template over `labels`, `annotations` and `incident`.
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
}

impl Default for Guards {
    /// Three runs an hour, no cooldown.
    fn default() -> Self {
        Self { cooldown_seconds: 0, runs_max: 3, runs_per_seconds: 3600 }
    }
}

/// Whether a step may be done twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Idempotency {
    /// Doing it twice is the same as once: run again after a crash.
    Idempotent,
    /// Look first whether it is done. Until looking is built, treated as `once`.
    CheckThenAct,
    /// At most once: after a crash in the middle a person decides.
    #[default]
    Once,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Starts a program with an argument list, never a shell.
    Command {
        /// Program and arguments; each entry is a template and stays one argument.
        argv: Vec<String>,
    },
    /// Sends a request.
    Http {
        /// `GET`, `POST`, `PUT`, `PATCH` or `DELETE`.
        method: String,
        /// A template; its host must be allow-listed.
        url: String,
        /// Extra headers; values are templates.
        headers: BTreeMap<String, String>,
        /// A template; `None` sends no body.
        body: Option<String>,
        /// The statuses that count as success; empty = any 2xx.
        expect_status: Vec<u16>,
    },
}

/// One step of a runbook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Unique within the runbook.
    pub id: String,
    /// What it does; texts are templates over `parameters`, `labels`, `annotations`, `incident`.
    pub action: Action,
    /// The time for one attempt, in seconds.
    pub timeout_seconds: u32,
    /// How often it is tried, the first time included.
    pub attempts: u32,
    /// Seconds before the second attempt; doubles with each further one.
    pub backoff_seconds: u32,
    /// Whether it may be done twice.
    pub idempotency: Idempotency,
}

/// How a runbook's success is checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verify {
    /// Seconds to wait before looking.
    pub settle_seconds: u32,
    /// Seconds after the last step within which the check must hold.
    pub within_seconds: u32,
    /// All alerts of the incident must have resolved.
    pub alerts_resolved: bool,
}

/// A named list of steps, written down beforehand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Runbook {
    /// Name and place.
    pub rule: Arc<RuleRef>,
    /// What it is for, in a line.
    pub description: String,
    /// How far it may go by itself.
    pub mode: RunbookMode,
    /// What starts it; none = only a person.
    pub triggers: Vec<Trigger>,
    /// Values that the steps use, by name.
    pub parameters: BTreeMap<String, Parameter>,
    /// A template; two runs with the same key never overlap. `None` = the runbook's name.
    pub lock: Option<String>,
    /// What holds it back.
    pub guards: Guards,
    /// What is done, in order.
    pub steps: Vec<Step>,
    /// How success is checked; `None` = the steps' success is enough.
    pub verify: Option<Verify>,
}

/// Which algorithm finds recurring problems.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// Density-based clustering (Ester et al., 1996), by linfa.
    #[default]
    Dbscan,
}

/// When and how recurring problems are looked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProblemDetection {
    /// Name and place.
    pub rule: Arc<RuleRef>,
    /// A cron line with five fields, and the IANA time zone in which it counts.
    pub cron: String,
    /// IANA name; `UTC` by default.
    pub time_zone: String,
    /// How far back incidents are looked at, in seconds.
    pub look_back_seconds: u32,
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The fewest incidents that make a problem.
    pub incidents_min: u32,
    /// The largest cosine distance of neighbours, in thousandths; `None` = chosen from the data.
    pub tolerance_thousandths: Option<u16>,
    /// For algorithms that draw lots.
    pub seed: u64,
}

impl RuleSet {
    /// Finds a runbook by name.
    pub fn runbook(&self, name: &str) -> Option<&Runbook> {
        self.runbooks.iter().find(|it| it.rule.name == name)
    }

    /// Finds a receiver by name.
    pub fn receiver(&self, name: &str) -> Option<&Receiver> {
        self.receivers.iter().find(|it| it.rule.name == name)
    }
}

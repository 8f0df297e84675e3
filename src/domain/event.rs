//! What can become known: the facts that the log is a list of.

use super::change::{ChangeId, ReceivedChange};
use super::execution::ExecutionId;
use super::freeze::FreezeTerms;
use super::heartbeat::HeartbeatPing;
use super::incident::IncidentId;
use super::knowledge::Article;
use super::label::{Fingerprint, Labels};
use super::matcher::Matchers;
use super::noise::Page;
use super::problem::{ProblemId, Recurrence};
use super::rules::{ApprovalRole, RuleSet};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The part of the key space within which alerts are correlated.
///
/// There is one, `0`, until the daemon is spread over machines; stored from the first day so that
/// spreading it changes no format.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct CorrelationDomain(pub u16);

/// A fact. Stored: add variants or optional fields, never change a meaning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A sender delivered alerts.
    AlertsReceived(AlertBatch),
    /// Something that must be heard from gave a sign of life.
    HeartbeatPinged(HeartbeatPing),
    /// A source told of changes.
    ChangesReceived(ChangeBatch),
    /// An Alertmanager beside us told people.
    PageHeard(Page),
    /// A person or a program told us to do something.
    CommandGiven {
        /// Who.
        by: String,
        /// What.
        command: Command,
    },
    /// The files were read and found good.
    RulesLoaded(Arc<RuleSet>),
    /// The same, because somebody asked for it.
    RulesReloaded {
        /// Who.
        by: String,
        /// What was read.
        rules: Arc<RuleSet>,
    },
    /// An effect was tried.
    EffectFinished {
        /// Which effect.
        key: super::effect::EffectKey,
        /// What came of it.
        outcome: super::effect::Outcome,
    },
    /// The daemon, or the executor that had it in hands, stopped between the claim and the result of
    /// an effect.
    EffectLost {
        /// Which effect.
        key: super::effect::EffectKey,
    },
    /// A detection run found what recurs.
    RecurrencesFound {
        /// The name of the detection in `models/`.
        detection: String,
        /// How many incidents were looked at.
        incidents_seen: u64,
        /// The first and the last of them; what lies outside stays in its problems.
        #[serde(default)]
        looked_at: Option<(IncidentId, IncidentId)>,
        /// The groups.
        recurrences: Vec<Recurrence>,
    },
    /// The daemon has started, or takes facts again after its store failed. Between `last_seen`
    /// and now nobody watched.
    WatchStarted {
        /// The time of the last turn before, if there was one.
        last_seen: Option<Timestamp>,
    },
    /// The wall clock and the steady clock went apart by more than 5 s.
    ClockJumped {
        /// Wall minus steady, in milliseconds.
        milliseconds: i64,
    },
    /// A record could not be applied, twice, and is set aside.
    RecordPoisoned {
        /// The record.
        seq: u64,
        /// The panic's text.
        reason: String,
    },
    /// The store was damaged, and was made anew from its newest snapshot.
    StoreHealed(Healing),
    /// Entries of the audit trail are so old that they may go.
    AuditTrimmed {
        /// The last of them.
        up_to: super::audit::Link,
    },
    /// A timer is due.
    Woken,
    /// Panics when applied, so that the tests can see what the engine does then.
    #[cfg(any(test, feature = "planted-bugs"))]
    Explosion,
}

/// How a damaged store came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healing {
    /// What was found.
    pub damage: String,
    /// Where the damaged folder lies now.
    pub aside: String,
    /// The time of the snapshot that the store was made from: what became known since then may be
    /// missing. `None` = there was none, and everything is.
    pub snapshot_at: Option<Timestamp>,
    /// When it was made.
    pub healed_at: Timestamp,
    /// How many open objects came back.
    pub objects: u64,
}

/// Changes that one sender told of together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChangeBatch {
    /// The name of the source, for example `github`.
    pub source: Arc<str>,
    /// What was changed.
    pub changes: Vec<ReceivedChange>,
}

/// Alerts that one sender delivered together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertBatch {
    /// The name of the source, for example `prometheus`.
    pub source: Arc<str>,
    /// The good ones.
    pub alerts: Vec<ReceivedAlert>,
    /// The refused ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<RejectedAlert>,
}

impl AlertBatch {
    /// An alert about the daemon itself. It ends by itself when nothing repeats it.
    pub(super) fn about_ourselves(name: &str, text: &str) -> Self {
        let labels = [("alertname", name), ("service", "watchkeeper"), ("severity", "error")];
        let alert = ReceivedAlert {
            labels: Labels::from_pairs(labels),
            annotations: Labels::from_pairs([("summary", text)]),
            starts_at: None,
            ends: Ends::Timeout,
            generator_url: "".into(),
            identity: None,
        };
        Self { source: "watchkeeper".into(), alerts: vec![alert], rejected: Vec::new() }
    }
}

/// An alert as a source told it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReceivedAlert {
    /// Its identity; never empty.
    #[serde(rename = "l")]
    pub labels: Labels,
    /// Texts about it.
    #[serde(rename = "a", default, skip_serializing_if = "Labels::is_empty")]
    pub annotations: Labels,
    /// Since when it is true; `None` = since its receipt.
    #[serde(
        rename = "s",
        with = "super::stored_time::option",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub starts_at: Option<Timestamp>,
    /// Until when it is true.
    #[serde(rename = "e")]
    pub ends: Ends,
    /// A link to where it comes from.
    #[serde(rename = "g", default, skip_serializing_if = "str::is_empty")]
    pub generator_url: Box<str>,
    /// Its identity, where that is not its labels: some tools tell a severity, say, only while it
    /// fires.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Fingerprint>,
}

impl ReceivedAlert {
    /// By what it is known again.
    pub fn fingerprint(&self) -> Fingerprint {
        self.identity.unwrap_or_else(|| self.labels.fingerprint())
    }

    /// Whether its source says that it is true at a time.
    pub fn fires_at(&self, now: Timestamp) -> bool {
        match self.ends {
            Ends::At(at) => at > now,
            Ends::Timeout | Ends::WhenTold => true,
        }
    }
}

/// Until when an alert is true, as its source told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ends {
    /// At this time; a time that is past means resolved.
    At(#[serde(with = "super::stored_time")] Timestamp),
    /// Not told: `resolve_timeout` after its receipt.
    Timeout,
    /// When the source says so: this source does not repeat itself.
    WhenTold,
}

/// An alert that was refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RejectedAlert {
    /// Its place in the delivery, from 0.
    pub index: u32,
    /// Why.
    pub reason: String,
}

/// What a person or a program may tell us to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Somebody looks after the incident.
    AcknowledgeIncident {
        /// Which.
        incident: IncidentId,
    },
    /// The incident gets an owner.
    AssignIncident {
        /// Which.
        incident: IncidentId,
        /// Who looks after it.
        owner: String,
    },
    /// A remark for the timeline.
    NoteIncident {
        /// Which.
        incident: IncidentId,
        /// The remark.
        text: String,
    },
    /// A person says that it is over.
    ResolveIncident {
        /// Which.
        incident: IncidentId,
        /// Why it is over.
        reason: String,
    },
    /// A person says that it is not over.
    ReopenIncident {
        /// Which.
        incident: IncidentId,
        /// Why.
        reason: String,
    },
    /// Moves the alerts of some incidents into one.
    MergeIncidents {
        /// The one that stays.
        into: IncidentId,
        /// The ones that are closed.
        from: Vec<IncidentId>,
    },
    /// Moves some alerts out of an incident into a new one.
    SplitIncident {
        /// Which.
        incident: IncidentId,
        /// Members of it.
        alerts: Vec<Fingerprint>,
    },
    /// Puts an incident under a major one.
    LinkIncident {
        /// Which.
        incident: IncidentId,
        /// The major incident.
        parent: IncidentId,
    },
    /// Takes an incident away from the major one that it is under.
    UnlinkIncident {
        /// Which.
        incident: IncidentId,
    },
    /// Lets no more alerts join an incident.
    LockIncident {
        /// Which.
        incident: IncidentId,
        /// Why.
        reason: String,
    },
    /// Lets alerts join a locked incident again.
    UnlockIncident {
        /// Which.
        incident: IncidentId,
    },
    /// Makes a silence, or replaces the one with this id.
    SetSilence {
        /// A new unique id, made by the door that the command came through.
        new_id: String,
        /// The silence that is changed.
        replaces: Option<String>,
        /// All must hold.
        matchers: Matchers,
        /// From when on; in the past = from now.
        starts_at: Timestamp,
        /// Until when.
        ends_at: Timestamp,
        /// Who wants it.
        created_by: String,
        /// Why.
        comment: String,
    },
    /// Ends a silence now.
    ExpireSilence {
        /// Which.
        id: String,
    },
    /// Nobody waits for a heartbeat until it is resumed, or heard from again.
    PauseHeartbeat {
        /// Its name.
        heartbeat: String,
    },
    /// A heartbeat is waited for again.
    ResumeHeartbeat {
        /// Its name.
        heartbeat: String,
    },
    /// Tells of a change.
    AddChange {
        /// Who or what keeps account of it.
        source: Arc<str>,
        /// What was changed.
        change: Box<ReceivedChange>,
    },
    /// Nothing may be changed for a time.
    AddFreeze {
        /// When, and for what.
        terms: Box<FreezeTerms>,
    },
    /// Ends a freeze that somebody made.
    EndFreeze {
        /// Its number.
        freeze: String,
    },
    /// Starts a runbook.
    RunRunbook {
        /// Its name.
        runbook: String,
        /// Values that replace the declared ones; patterns still hold.
        parameters: BTreeMap<String, String>,
        /// The incident that it is for.
        incident: Option<IncidentId>,
        /// Only show what would be done.
        dry_run: bool,
        /// It is an emergency: it counts as an emergency change, not as a standard one.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        emergency: bool,
    },
    /// A person's yes to a proposed or waiting execution.
    ApproveExecution {
        /// Which.
        execution: ExecutionId,
        /// What the token of whoever says so allows; `None` = no tokens are configured.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        role: Option<ApprovalRole>,
    },
    /// A person's no.
    DenyExecution {
        /// Which.
        execution: ExecutionId,
        /// What the token of whoever says so allows; `None` = no tokens are configured.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        role: Option<ApprovalRole>,
        /// Why.
        reason: String,
    },
    /// Stops an execution; what has begun is not undone.
    AbortExecution {
        /// Which.
        execution: ExecutionId,
        /// Why.
        reason: String,
    },
    /// No runbook starts any more, and none goes on.
    StopRunbooks {
        /// Why.
        reason: String,
    },
    /// Runbooks may start again.
    ResumeRunbooks,
    /// A runbook starts no more, and goes on no more.
    StopRunbook {
        /// Its name.
        runbook: String,
        /// Why.
        reason: String,
    },
    /// A runbook may start again.
    ResumeRunbook {
        /// Its name.
        runbook: String,
    },
    /// Looks for recurring problems at once.
    DetectProblems,
    /// The proposal is right.
    AcceptProblem {
        /// Which.
        problem: ProblemId,
    },
    /// The proposal is wrong; it is not made again.
    RejectProblem {
        /// Which.
        problem: ProblemId,
        /// Why.
        reason: String,
    },
    /// The problem's cause is gone.
    CloseProblem {
        /// Which.
        problem: ProblemId,
        /// Why.
        reason: String,
    },
    /// The problem's cause, or a workaround, is known.
    DeclareKnownError {
        /// Which.
        problem: ProblemId,
        /// What is behind it; may be empty.
        cause: String,
        /// How to live with it; may be empty.
        workaround: String,
        /// The runbook that carries the workaround out.
        runbook: Option<String>,
    },
    /// A change that removes the problem's cause is planned.
    PlanFix {
        /// Which.
        problem: ProblemId,
        /// The change.
        change: ChangeId,
    },
    /// Makes an article, or writes it anew.
    SetArticle {
        /// What it says.
        article: Box<Article>,
    },
    /// Removes an article that somebody made.
    RemoveArticle {
        /// Its name.
        article: String,
    },
    /// Says whether something helped.
    RateKnowledge {
        /// The name of an article, or the number of a past incident.
        subject: String,
        /// The incident for which it was tried.
        incident: Option<IncidentId>,
        /// Whether it did.
        helped: bool,
    },
    /// Adds an incident to a problem.
    LinkProblem {
        /// Which.
        problem: ProblemId,
        /// The incident.
        incident: IncidentId,
    },
}

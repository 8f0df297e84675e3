//! What was decided about an alert, and why.

use crate::domain::correlation::Evidence;
use crate::domain::incident::IncidentId;
use crate::domain::label::Fingerprint;
use crate::domain::rules::RuleRef;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How an alert's way through the stages ended; always exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disposition {
    /// Known already; nothing new.
    Refreshed,
    /// A silence holds it back.
    Silenced,
    /// Another alert that fires holds it back.
    Inhibited,
    /// A maintenance window holds it back.
    InMaintenance,
    /// It comes and goes: its incident was open for it all the while.
    Flapping,
    /// It joined an incident that was open.
    Joined,
    /// It opened an incident.
    Opened,
    /// It opened a resolved incident again.
    Reopened,
    /// It is over.
    Resolved,
    /// Its sources fell silent.
    Expired,
    /// It was refused.
    Rejected,
}

impl Disposition {
    /// All of them, for metrics.
    pub const ALL: [Self; 11] = [
        Self::Refreshed,
        Self::Silenced,
        Self::Inhibited,
        Self::InMaintenance,
        Self::Flapping,
        Self::Joined,
        Self::Opened,
        Self::Reopened,
        Self::Resolved,
        Self::Expired,
        Self::Rejected,
    ];

    /// Whether something holds the alert back.
    pub fn is_held(self) -> bool {
        matches!(self, Self::Silenced | Self::Inhibited | Self::InMaintenance)
    }

    /// The word for it in JSON and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refreshed => "refreshed",
            Self::Silenced => "silenced",
            Self::Inhibited => "inhibited",
            Self::InMaintenance => "in_maintenance",
            Self::Flapping => "flapping",
            Self::Joined => "joined",
            Self::Opened => "opened",
            Self::Reopened => "reopened",
            Self::Resolved => "resolved",
            Self::Expired => "expired",
            Self::Rejected => "rejected",
        }
    }
}

/// Why an alert ended where it did: the facts from which `explain` makes its sentences. Kept
/// small, because every alert has one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// When it was made.
    #[serde(with = "crate::domain::stored_time")]
    pub at: Timestamp,
    /// What was decided when the alert last began to fire.
    pub disposition: Disposition,
    /// The silences that held it back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub silenced_by: Vec<Arc<str>>,
    /// How many silences were active and looked at.
    pub silences_checked: u32,
    /// What else holds it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Box<Held>>,
    /// The grouping rule that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Arc<RuleRef>>,
    /// A rule before it, whose condition did not hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed: Option<Box<Passed>>,
    /// Why it went into that incident.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grouping: Option<Grouping>,
}

impl Decision {
    /// The alert that holds it back, and by which rule.
    pub fn inhibited_by(&self) -> Option<&Inhibitor> {
        self.held.as_ref()?.inhibited_by.as_ref()
    }

    /// The maintenance windows that hold it back.
    pub fn maintenance(&self) -> &[Arc<str>] {
        self.held.as_ref().map_or(&[], |it| it.maintenance.as_slice())
    }

    /// Whether anything holds it back now, or would if it began to fire now.
    pub fn is_held(&self) -> bool {
        !self.silenced_by.is_empty() || self.held.is_some()
    }
}

/// A rule that would have put an alert into an incident, had its condition held.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Passed {
    /// The rule.
    pub rule: Arc<RuleRef>,
    /// The incident.
    pub incident: IncidentId,
    /// Why not.
    pub why: String,
}

/// What holds an alert back beside silences.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// Another alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inhibited_by: Option<Inhibitor>,
    /// Maintenance windows, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub maintenance: Vec<Arc<str>>,
}

/// Why an alert is inhibited.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inhibitor {
    /// The rule.
    pub rule: Arc<RuleRef>,
    /// The alert that fires, or did last; `None` while the rule only waits for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Fingerprint>,
    /// From what the alert is about to what that one is about, by the names of items, where the rule
    /// asks the graph.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<String>,
    /// No source fires, but the rule waits so long before it lets the alert go.
    #[serde(with = "crate::domain::stored_time::option", default)]
    pub until: Option<Timestamp>,
}

/// Why an alert went into its incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grouping {
    /// No open incident had the same rule and group.
    First,
    /// The last one with the same rule and group had taken no alert for too long, or was too old.
    WindowOver {
        /// That incident.
        previous: IncidentId,
        /// Seconds since it last took an alert.
        gap_seconds: u64,
        /// Seconds since its first alert.
        age_seconds: u64,
    },
    /// An open incident has the same rule and group.
    SameGroup {
        /// Seconds since it last took an alert.
        gap_seconds: u64,
    },
    /// An open incident has the same rule and group, and was seen near.
    Near {
        /// Seconds since it last took an alert.
        gap_seconds: u64,
        /// From what the alert is about to where the incident was seen, by the names of items.
        path: Vec<String>,
    },
    /// No incident of the same rule and group was seen near and still takes alerts.
    Far {
        /// The last of them.
        previous: IncidentId,
    },
    /// The one that would have taken it takes no more alerts: a person said so.
    Locked {
        /// That incident.
        previous: IncidentId,
    },
    /// The same thing fires with another severity, and is in this incident.
    SameThing {
        /// That alert.
        alert: Fingerprint,
    },
    /// The alert was in this incident before, and the incident is not closed.
    Returned,
    /// A resolved incident has the same rule and group, and may still be opened again.
    ReopenWindow {
        /// Seconds since it was resolved.
        resolved_seconds: u64,
    },
    /// The evidence says so.
    Evidence(Box<Evidence>),
    /// No incident has enough evidence for it.
    Apart {
        /// The one that came nearest.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        nearest: Option<Box<Evidence>>,
    },
    /// A person moved it.
    Moved {
        /// Who.
        by: String,
    },
    /// Its incident held two, and this alert left with the other one.
    Parted {
        /// The incident that it left.
        from: IncidentId,
        /// What tells that they are two.
        why: String,
    },
}

//! What starts a runbook, as it is written.

use crate::domain::matcher::Matchers;
use serde::{Deserialize, Serialize};

/// What must happen so that a runbook starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TriggerEvent {
    /// An incident was opened or opened again.
    IncidentOpened,
    /// The state, the priority, the severity, the owner or the services of an incident changed.
    IncidentChanged,
    /// An alert began to fire that nothing holds back.
    AlertFiring,
    /// An incident began that belongs to a known problem.
    ProblemRecurring,
    /// A change was told of, or its state changed. The runs of runbooks are none.
    Change,
    /// A time of the trigger's own schedule has come.
    Schedule,
}

impl TriggerEvent {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::IncidentOpened,
        Self::IncidentChanged,
        Self::AlertFiring,
        Self::ProblemRecurring,
        Self::Change,
        Self::Schedule,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IncidentOpened => "incident_opened",
            Self::IncidentChanged => "incident_changed",
            Self::AlertFiring => "alert_firing",
            Self::ProblemRecurring => "problem_recurring",
            Self::Change => "change",
            Self::Schedule => "schedule",
        }
    }
}

/// One way in which a runbook starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trigger {
    /// What must happen.
    pub event: TriggerEvent,
    /// All must hold on the labels of the alert, of the incident's first alert, or of the change.
    pub matchers: Matchers,
    /// A CEL condition over `incident`, `labels`, `annotations` and `trigger`; empty = always. An error
    /// counts as no.
    pub when: String,
    /// When it is time, of a [`TriggerEvent::Schedule`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<TriggerSchedule>,
    /// How often it may start the runbook; `None` = as [`Runbook::quota`] says.
    ///
    /// [`Runbook::quota`]: super::Runbook::quota
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
}

impl Trigger {
    /// A trigger without a condition of its own.
    pub fn new(event: TriggerEvent, matchers: Matchers) -> Self {
        Self { event, matchers, when: String::new(), schedule: None, quota: None }
    }
}

/// When a runbook starts by the clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerSchedule {
    /// A cron line with five fields.
    pub cron: String,
    /// The IANA time zone in which it counts.
    pub time_zone: String,
    /// How many seconds late it may still start, after a time in which the daemon was down.
    pub late_seconds: u32,
}

/// How often a trigger may start its runbook: what comes beyond is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// So many times …
    pub count: u32,
    /// … within so many seconds, counted from the first.
    pub per_seconds: u32,
}

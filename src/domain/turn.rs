//! What one turn did: deeds, the answer to a command, what to write down and to count.

use super::incident::TimelineEntry;
use super::{ObjectKey, alert, change, effect, execution, heartbeat, incident, service_level};
use std::sync::Arc;

/// What one turn did.
#[derive(Default)]
pub struct Turn {
    /// Deeds, to be done after the turn is durable.
    pub effects: Vec<effect::PlannedEffect>,
    /// Effects whose result is now known; they leave the store.
    pub finished: Vec<effect::EffectKey>,
    /// What to tell whoever gave the command.
    pub reply: Option<Reply>,
    /// New entries of timelines.
    pub timeline: Vec<(ObjectKey, TimelineEntry)>,
    /// What to count.
    pub counts: Vec<Count>,
}

/// The answer to a command.
pub type Reply = Result<Accepted, Refusal>;

/// A command was carried out; which object it was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// This one, as it is now.
    Object(ObjectKey),
    /// Nothing in particular.
    Done,
    /// It is carried out when this effect has its result.
    AfterEffect(effect::EffectKey),
}

/// A command was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// It is not in a state that allows it.
    #[error("{0}")]
    WrongState(String),
    /// Whoever asks may not.
    #[error("{0}")]
    NotAllowed(String),
    /// It cannot be right.
    #[error("{0}")]
    Invalid(String),
}

/// Something that a metric counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Count {
    /// An alert's way ended so.
    Alert(alert::Disposition),
    /// An incident was opened or opened again.
    IncidentOpened(incident::Priority),
    /// An incident was acknowledged, this many seconds after it was opened.
    IncidentAcknowledged(u64),
    /// An incident was resolved, this many seconds after it was opened.
    IncidentResolved(u64),
    /// A promise was missed.
    SlaBreached {
        /// The policy.
        policy: Arc<str>,
        /// The target.
        target: service_level::TargetKind,
    },
    /// An execution ended.
    ExecutionEnded {
        /// The runbook.
        runbook: String,
        /// How.
        outcome: execution::ExecutionState,
        /// Seconds since it was asked for.
        seconds: u64,
    },
    /// A guard held a runbook back.
    RunbookBlocked(String),
    /// A change was told of for the first time.
    ChangeRecorded(change::ChangeKind),
    /// A change began in a freeze that does not allow its kind.
    ChangeInFreeze(change::ChangeKind),
    /// A notification was delivered.
    NotificationDelivered,
    /// A notification was given up.
    NotificationDead,
    /// A notification was held back until there was nothing to tell.
    NotificationMuted,
    /// A notification was not sent, because we only observe.
    NotificationWouldSend,
    /// A sign of life came.
    HeartbeatPinged(heartbeat::Signal),
    /// A record could not be applied and was set aside.
    RecordPoisoned,
    /// The store was damaged, and was made anew from a snapshot.
    StoreHealed,
}

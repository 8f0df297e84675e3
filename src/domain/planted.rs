//! Bugs to order: twelve mistakes that the simulation must find, never in a build for users.
//!
//! Each is one line in the code that it breaks. Without the feature `planted-bugs` that line is a
//! constant `false`; with it one bug at a time is chosen for the current thread.

use std::str::FromStr;

/// A mistake that somebody could make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// A sender is told that its facts are taken before they are written.
    AcknowledgeBeforeAppend,
    /// An effect begins before the turn that ordered it is durable.
    EffectBeforeCommit,
    /// A runbook runs although another run holds its lock.
    LockIgnored,
    /// A step that must not be done twice begins before its claim is durable.
    ClaimAfterEffect,
    /// What waits for a time waits by the wall clock, also when that is set back.
    TimerByWallClock,
    /// An incident that is over takes its undelivered notifications with it.
    ResolveDropsQueue,
    /// After a restart what was accepted but not decided is taken for decided.
    WatermarkTooFar,
    /// An alert that a sender repeats counts as one more.
    DuplicateCounted,
    /// A record that cannot be decided about is tried for ever.
    PoisonLoops,
    /// The time between a resolution and the next opening counts.
    SlaRunsWhilePaused,
    /// Silences are forgotten at a restart.
    SilenceIgnoredAfterRestart,
    /// New rules come into force in part.
    ReloadHalfDone,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::AcknowledgeBeforeAppend,
        Self::EffectBeforeCommit,
        Self::LockIgnored,
        Self::ClaimAfterEffect,
        Self::TimerByWallClock,
        Self::ResolveDropsQueue,
        Self::WatermarkTooFar,
        Self::DuplicateCounted,
        Self::PoisonLoops,
        Self::SlaRunsWhilePaused,
        Self::SilenceIgnoredAfterRestart,
        Self::ReloadHalfDone,
    ];

    /// The name by which it is chosen.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AcknowledgeBeforeAppend => "acknowledge-before-append",
            Self::EffectBeforeCommit => "effect-before-commit",
            Self::LockIgnored => "lock-ignored",
            Self::ClaimAfterEffect => "claim-after-effect",
            Self::TimerByWallClock => "timer-by-wall-clock",
            Self::ResolveDropsQueue => "resolve-drops-queue",
            Self::WatermarkTooFar => "watermark-too-far",
            Self::DuplicateCounted => "duplicate-counted",
            Self::PoisonLoops => "poison-loops",
            Self::SlaRunsWhilePaused => "sla-runs-while-paused",
            Self::SilenceIgnoredAfterRestart => "silence-ignored-after-restart",
            Self::ReloadHalfDone => "reload-half-done",
        }
    }
}

impl FromStr for Bug {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::as_str).join(", ");
        let found = Self::ALL.into_iter().find(|it| it.as_str() == text);
        found.ok_or_else(|| format!("there is no such bug, only {}: `{text}`", names()))
    }
}

#[cfg(feature = "planted-bugs")]
thread_local! {
    static CHOSEN: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Chooses the bug that the current thread has from now on.
#[cfg(feature = "planted-bugs")]
pub fn choose(bug: Option<Bug>) {
    CHOSEN.set(bug);
}

/// Whether the current thread has this bug.
#[cfg(feature = "planted-bugs")]
pub(crate) fn is(bug: Bug) -> bool {
    CHOSEN.get() == Some(bug)
}

/// Whether the current thread has this bug; no build for users has any.
#[cfg(not(feature = "planted-bugs"))]
pub(crate) const fn is(_: Bug) -> bool {
    false
}

//! Times in which nobody watched: what is held, and who is excused.

use super::{ObjectKey, State, later};
use jiff::{SignedDuration, Timestamp};

impl State {
    /// Gives somebody who was cut off from us time to speak again, see
    /// [`super::Memory::hold_until`].
    pub(super) fn hold(&mut self, now: Timestamp) {
        /// Prometheus speaks again after its resend delay, one minute unless told otherwise; some
        /// more for its evaluation and the way.
        const GRACE_SECONDS: i64 = 90;
        self.memory.hold_until = Some(later(now, GRACE_SECONDS));
        self.rates_were_not_watched(now);
        self.changes.objects.insert(ObjectKey::Memory);
        self.rebuild_timers(now);
    }

    pub(super) fn watch_started(&mut self, now: Timestamp, last_seen: Option<Timestamp>) {
        // The very first start has no gap before it: nobody was cut off.
        if let Some(last_seen) = last_seen {
            self.hold(now);
            self.excuse_heartbeats(now, last_seen);
        }
    }

    /// A wall clock that ran ahead of ours means that we were suspended, and heard nothing.
    pub(super) fn clock_jumped(&mut self, now: Timestamp, milliseconds: i64) {
        self.hold(now);
        let jump = SignedDuration::from_millis(milliseconds.max(0));
        let since = now.checked_sub(jump).unwrap_or(Timestamp::MIN);
        self.excuse_heartbeats(now, since);
    }
}

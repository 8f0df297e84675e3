//! When what is looked at: around each round, and whenever all is on the disk.

use super::audit::Trail;
use super::disk::Disk;
use super::holds;
use super::laws::{self, Outbox, Verdict};
use super::oracle::Oracle;
use super::outside::Outside;
use jiff::{SignedDuration, Timestamp};
use watchkeeper::engine::stepped::{SteppedWatch, VirtualTime};

/// A timer may make another one that is due at once, but not for so many rounds.
const OVERDUE_ROUNDS_MAX: u32 = 8;

/// What the checks remember.
#[derive(Default)]
pub(crate) struct Checks {
    oracle: Oracle,
    outbox: Outbox,
    trail: Trail,
    /// How many turns there were when everything was last checked.
    turns: usize,
    overdue_rounds: u32,
    /// The watch's time, the steady time, and how often the state was loaded, after a round.
    last: Option<(Timestamp, u64, u64)>,
}

impl Checks {
    /// Another process goes on.
    pub(crate) fn restarted(&mut self) {
        *self = Self { turns: 0, overdue_rounds: 0, last: None, ..std::mem::take(self) };
    }

    /// The watch is busy and does not look at its timers in this round, however long that goes on.
    pub(crate) fn passed_over(&mut self) {
        self.overdue_rounds = self.overdue_rounds.saturating_sub(1);
    }

    /// The watch's time has gone on as the steady clock has, or further.
    pub(crate) fn check_time(
        &mut self,
        now: Timestamp,
        time: &VirtualTime,
        disk: &Disk,
    ) -> Verdict {
        let (steady, loads) = (time.steady_milliseconds(), disk.lock().loads);
        let last = self.last.replace((now, steady, loads));
        // A state that was loaded again begins with another time.
        let Some((then, before, _)) = last.filter(|(_, _, it)| *it == loads) else {
            return Ok(());
        };
        let passed = i64::try_from(steady - before).unwrap_or(i64::MAX);
        laws::ensure(now.duration_since(then) >= SignedDuration::from_millis(passed), || {
            format!("{passed} ms have passed from {then} to {now}")
        })
    }

    /// Checks everything that can be checked after a round that began at a time of the watch.
    pub(crate) fn after_round(
        &mut self,
        watch: &mut SteppedWatch,
        began: Timestamp,
        disk: &Disk,
        outside: &Outside,
    ) -> Verdict {
        let contents = disk.lock();
        if let Some(wrong) = &contents.wrong {
            return Err(wrong.clone());
        }
        if watch.health().not_ready.is_some() || contents.died {
            return Ok(());
        }
        let timers = watch.peek(|state| laws::check_timers(state, began));
        let is_timely = timers.is_ok();
        match timers {
            Ok(()) => self.overdue_rounds = 0,
            Err(_) if self.overdue_rounds < OVERDUE_ROUNDS_MAX => self.overdue_rounds += 1,
            Err(wrong) => return Err(wrong),
        }
        if !watch.is_durable() || contents.turn_count() == self.turns {
            return Ok(());
        }
        self.turns = contents.turn_count();
        self.oracle.hear(&contents);
        let now = watch.now();
        watch.peek(|state| {
            laws::check(state, &contents)?;
            self.trail.check(state, &contents)?;
            if is_timely {
                holds::check(state, began)?;
            }
            self.outbox.check(state, &contents, outside)?;
            self.oracle.check(state, now, &contents)
        })
    }
}

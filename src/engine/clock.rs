//! The one place where time is read: a wall clock that never goes back.

use crate::domain::planted::{self, Bug};
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The clocks may differ by this much before it is a fact worth writing down.
const JUMP_MILLISECONDS_MIN: i64 = 5_000;

/// Time as a test sets it, in place of the machine's. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct VirtualTime {
    /// Milliseconds since 1970.
    wall: Arc<AtomicI64>,
    /// Milliseconds since it was made.
    steady: Arc<AtomicU64>,
}

impl VirtualTime {
    /// Begins at a time of the wall clock.
    pub fn starting_at(wall: Timestamp) -> Self {
        let time = Self::default();
        time.wall.store(wall.as_millisecond(), Ordering::Relaxed);
        time
    }

    /// Lets time go on: both clocks.
    pub fn advance(&self, milliseconds: u64) {
        self.steady.fetch_add(milliseconds, Ordering::Relaxed);
        self.set_wall_clock(i64::try_from(milliseconds).unwrap_or(i64::MAX));
    }

    /// Sets the wall clock forward or back, and nothing else.
    pub fn set_wall_clock(&self, milliseconds: i64) {
        self.wall.fetch_add(milliseconds, Ordering::Relaxed);
    }

    /// What the wall clock shows.
    pub fn wall(&self) -> Timestamp {
        let wall = self.wall.load(Ordering::Relaxed);
        Timestamp::from_millisecond(wall).unwrap_or(Timestamp::MAX)
    }

    /// The time since it was made, in milliseconds.
    pub fn steady_milliseconds(&self) -> u64 {
        self.steady.load(Ordering::Relaxed)
    }
}

/// The two hands that time is read off: the machine's, or a test's.
#[derive(Clone, Debug)]
pub(super) enum Hands {
    /// The machine's; the steady one counts from this instant.
    Machine(Instant),
    /// A test's.
    Virtual(VirtualTime),
}

impl Hands {
    /// The wall clock, wherever it stands.
    pub(super) fn wall(&self) -> Timestamp {
        match self {
            Self::Machine(_) => Timestamp::now(),
            Self::Virtual(time) => time.wall(),
        }
    }

    /// The steady one.
    pub(super) fn steady(&self) -> Duration {
        match self {
            Self::Machine(since) => since.elapsed(),
            Self::Virtual(time) => Duration::from_millis(time.steady_milliseconds()),
        }
    }
}

/// The wall clock as it was at the start, plus the steady time since. Never falls.
pub(super) struct Clock {
    hands: Hands,
    wall_at_start: Timestamp,
    /// The steady hand at the start.
    started: Duration,
    last: Timestamp,
    /// Wall minus ours, as last noted, in milliseconds; negative while the wall clock is behind.
    apart: i64,
}

impl Clock {
    /// Starts at the wall clock, or at the last known time if that is later.
    pub(super) fn start(hands: Hands, not_before: Timestamp) -> Self {
        // Whatever is lost here we are behind the wall clock for good, and what a sender says is over
        // would seem to end only later: so nothing is rounded, and the steady hand is read first.
        let started = hands.steady();
        let wall = hands.wall().max(not_before);
        Self { wall_at_start: wall, started, last: in_milliseconds(wall), apart: 0, hands }
    }

    /// Whether a test sets the time.
    pub(super) fn is_virtual(&self) -> bool {
        matches!(self.hands, Hands::Virtual(_))
    }

    /// Starts anew with the same hands.
    pub(super) fn restart(&mut self, not_before: Timestamp) {
        *self = Self::start(self.hands.clone(), not_before);
    }

    /// The steady hand: for how long something has lasted, whatever the wall clock does.
    pub(super) fn steady(&self) -> Duration {
        self.hands.steady()
    }

    /// The time since the steady hand was there.
    pub(super) fn since(&self, earlier: Duration) -> Duration {
        self.hands.steady().saturating_sub(earlier)
    }

    /// The time, in whole milliseconds.
    pub(super) fn now(&mut self) -> Timestamp {
        let by_wall = planted::is(Bug::TimerByWallClock);
        let now = in_milliseconds(if by_wall { self.hands.wall() } else { self.time() });
        self.last = self.last.max(now);
        self.last
    }

    /// How far the wall clock has gone from where it was, if it is far, in milliseconds. A wall
    /// clock that is ahead of ours (we were suspended, or it was set) is followed. One that is
    /// behind is not: our time goes on steadily, so that what waits for a time does not wait
    /// longer.
    pub(super) fn jump(&mut self) -> Option<i64> {
        self.jump_to(self.hands.wall())
    }

    fn jump_to(&mut self, wall: Timestamp) -> Option<i64> {
        let apart = i64::try_from(wall.duration_since(self.time()).as_millis()).unwrap_or(0);
        let jumped = apart.saturating_sub(self.apart);
        if jumped.abs() < JUMP_MILLISECONDS_MIN {
            return None;
        }
        self.apart = apart.min(0);
        if apart > 0 {
            self.wall_at_start = wall;
            self.started = self.hands.steady();
        }
        Some(jumped)
    }

    /// How far we are ahead of the wall clock, in milliseconds; 0 unless it was set back.
    pub(super) fn ahead(&self) -> i64 {
        -self.apart
    }

    fn time(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.since(self.started)).unwrap_or_default();
        self.wall_at_start.checked_add(elapsed).unwrap_or(Timestamp::MAX)
    }
}

/// Cuts a time to whole milliseconds, so that stored times are short.
fn in_milliseconds(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_no_earlier_than_told_and_never_falls() {
        let future = Timestamp::now() + SignedDuration::from_secs(1000);
        let mut clock = Clock::start(Hands::Machine(Instant::now()), future);
        let first = clock.now();
        assert!(first >= in_milliseconds(future));
        // The wall clock is far behind: that is a jump, and ours goes on.
        assert!(clock.jump().is_some_and(|it| it < -900_000));
        assert!(clock.now() >= first);
        assert_eq!(clock.jump(), None);
        assert!((990_000..=1_000_000).contains(&clock.ahead()));
    }

    #[test]
    fn it_is_not_behind_the_wall_clock() {
        for _ in 0..1000 {
            let mut clock = Clock::start(Hands::Machine(Instant::now()), Timestamp::MIN);
            let wall = Timestamp::now();
            assert!(clock.now() >= in_milliseconds(wall));
        }
    }

    #[test]
    fn a_wall_clock_that_is_ahead_is_followed_and_one_that_is_behind_is_not() {
        let mut clock = Clock::start(Hands::Machine(Instant::now()), Timestamp::MIN);
        let seconds = |it: i64| SignedDuration::from_secs(it);
        let start = clock.now();
        for (wall, jumped, ahead) in [
            (start + seconds(2), None, 0),
            (start + seconds(3600), Some(3600), 0),
            // Set back by an hour, and a little later put right again.
            (start, Some(-3600), 3600),
            (start + seconds(1), None, 3600),
            (start + seconds(3600), Some(3600), 0),
        ] {
            let told = clock.jump_to(wall).map(|it| (it + 500).div_euclid(1000));
            assert_eq!(told, jumped, "{wall}");
            assert_eq!((clock.ahead() + 500).div_euclid(1000), ahead, "{wall}");
        }
        assert!(clock.now() >= in_milliseconds(start + seconds(3600)));
    }
}

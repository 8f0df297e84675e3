//! The one place where time is read: a wall clock that never goes back.

use jiff::{SignedDuration, Timestamp};
use std::time::Instant;

/// The clocks may differ by this much before it is a fact worth writing down.
const JUMP_MILLISECONDS_MIN: i64 = 5_000;

/// The wall clock as it was at the start, plus the steady time since. Never falls.
pub(super) struct Clock {
    wall_at_start: Timestamp,
    started: Instant,
    last: Timestamp,
    /// Wall minus ours, as last noted, in milliseconds; negative while the wall clock is behind.
    apart: i64,
}

impl Clock {
    /// Starts at the wall clock, or at the last known time if that is later.
    pub(super) fn start(not_before: Timestamp) -> Self {
        let wall = in_milliseconds(Timestamp::now()).max(not_before);
        Self { wall_at_start: wall, started: Instant::now(), last: wall, apart: 0 }
    }

    /// The time, in whole milliseconds.
    pub(super) fn now(&mut self) -> Timestamp {
        let now = in_milliseconds(self.steady());
        self.last = self.last.max(now);
        self.last
    }

    /// How far the wall clock has gone from where it was, if it is far, in milliseconds. A wall
    /// clock that is ahead of ours (we were suspended, or it was set) is followed. One that is
    /// behind is not: our time goes on steadily, so that what waits for a time does not wait
    /// longer.
    pub(super) fn jump(&mut self) -> Option<i64> {
        self.jump_to(Timestamp::now())
    }

    fn jump_to(&mut self, wall: Timestamp) -> Option<i64> {
        let apart = i64::try_from(wall.duration_since(self.steady()).as_millis()).unwrap_or(0);
        let jumped = apart.saturating_sub(self.apart);
        if jumped.abs() < JUMP_MILLISECONDS_MIN {
            return None;
        }
        self.apart = apart.min(0);
        if apart > 0 {
            self.wall_at_start = wall;
            self.started = Instant::now();
        }
        Some(jumped)
    }

    /// How far we are ahead of the wall clock, in milliseconds; 0 unless it was set back.
    pub(super) fn ahead(&self) -> i64 {
        -self.apart
    }

    fn steady(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.started.elapsed()).unwrap_or_default();
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
        let mut clock = Clock::start(future);
        let first = clock.now();
        assert!(first >= in_milliseconds(future));
        // The wall clock is far behind: that is a jump, and ours goes on.
        assert!(clock.jump().is_some_and(|it| it < -900_000));
        assert!(clock.now() >= first);
        assert_eq!(clock.jump(), None);
        assert!((990_000..=1_000_000).contains(&clock.ahead()));
    }

    #[test]
    fn a_wall_clock_that_is_ahead_is_followed_and_one_that_is_behind_is_not() {
        let mut clock = Clock::start(Timestamp::MIN);
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

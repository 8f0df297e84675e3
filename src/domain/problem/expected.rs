//! Telling people beforehand that a problem is expected again: once for each time, and only where
//! earlier forecasts came true.

use super::{Interval, Problem, ProblemId, ProblemState};
use crate::domain::incident::TimelineEntry;
use crate::domain::rules::Occasion;
use crate::domain::{ObjectKey, State};
use jiff::{SignedDuration, Timestamp};

/// People are told at most so long before.
const LEAD_MAX: SignedDuration = SignedDuration::from_hours(24);
/// They are told a quarter of the period before, if that is less; and nothing that may come at any
/// time within a quarter of its period is foretold.
const PERIOD_PARTS: i32 = 4;
/// The fewest forecasts of the past that must have been put to the test,
const FORECASTS_MIN: u32 = 3;
/// and how many of a hundred of them must have come true.
const RIGHT_PERCENT_MIN: u32 = 80;

impl Problem {
    /// Within which times it is expected, if that is sure enough to tell people.
    fn sure_forecast(&self) -> Option<Interval> {
        let interval = self.figures.next_expected?;
        let period = SignedDuration::from_secs(i64::try_from(self.period_seconds?).ok()?);
        let forecasts = self.figures.forecasts;
        let is_told = self.warned_after.is_some_and(|it| it >= self.last_seen);
        let is_open = !matches!(self.state, ProblemState::Rejected | ProblemState::Resolved);
        let is_proven = forecasts.of >= FORECASTS_MIN
            && u64::from(forecasts.right) * 100
                >= u64::from(forecasts.of) * u64::from(RIGHT_PERCENT_MIN);
        let is_narrow = interval.until.duration_since(interval.from) <= period / PERIOD_PARTS;
        let is_sure = is_open && !self.by_chance && is_proven && is_narrow && !is_told;
        is_sure.then_some(interval)
    }

    /// When people are told that it is expected, if they are.
    pub(in crate::domain) fn warns_at(&self) -> Option<Timestamp> {
        let interval = self.sure_forecast()?;
        let period = SignedDuration::from_secs(i64::try_from(self.period_seconds?).ok()?);
        interval.from.checked_sub((period / PERIOD_PARTS).min(LEAD_MAX)).ok()
    }

    /// It came at the time for which it was expected: the next is a period later.
    pub(super) fn came(&mut self, now: Timestamp) {
        let period = self.period_seconds.and_then(|it| i64::try_from(it).ok());
        let (Some(period), Some(Interval { from, until })) = (period, self.figures.next_expected)
        else {
            return;
        };
        let period = SignedDuration::from_secs(period);
        let later = |it: Timestamp| it.checked_add(period).ok();
        let middle = now.checked_sub(until.duration_since(from) / 2).ok();
        if from.checked_sub(period / PERIOD_PARTS).is_ok_and(|it| it <= now) {
            self.next_expected_at = later(now);
            let next = middle.and_then(later);
            self.figures.next_expected = next.and_then(|it| {
                Some(Interval { from: it, until: it.checked_add(until.duration_since(from)).ok()? })
            });
        }
    }
}

impl State {
    /// The time has come to tell people that a problem is expected; not when it is upon them already.
    pub(in crate::domain) fn problem_due(&mut self, now: Timestamp, id: ProblemId) {
        let Some(problem) = self.problems.get_mut(&id) else { return };
        let Some(interval) = problem.sure_forecast() else { return };
        if problem.warns_at().is_none_or(|it| it > now) {
            return;
        }
        problem.warned_after = Some(problem.last_seen);
        let (from, until) = (interval.from, interval.until);
        let forecasts = problem.figures.forecasts;
        let at = problem.next_expected_at.unwrap_or(from);
        let mut text = format!(
            "expected at {at:.0}, between {from:.0} and {until:.0}: {} of the last {} forecasts \
             were right",
            forecasts.right, forecasts.of
        );
        if !problem.workaround.is_empty() {
            text = format!("{text}; workaround: {}", problem.workaround);
        }
        let body = serde_json::json!({
            "version": "1",
            "occasion": Occasion::ProblemExpected.as_str(),
            "text": format!("{id} {}: {text}", problem.title),
            "at": now,
            "problem": {
                "id": id,
                "title": problem.title,
                "state": problem.state,
                "next_expected_at": at,
                "next_expected": interval,
                "workaround": problem.workaround,
            },
        });
        self.touch(now, ObjectKey::Problem(id));
        if now < from {
            self.log(ObjectKey::Problem(id), TimelineEntry::new(now, "expected", "", text));
            self.notify_plainly(now, Occasion::ProblemExpected, &body);
        }
    }
}

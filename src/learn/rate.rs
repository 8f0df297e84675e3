//! What begins far more often than it usually does at its hour of the week, or a source that falls silent.

use super::points::number;
use crate::domain::rate::{Habit, ONE, Unusual, WEEK_HOURS};
use jiff::Timestamp;

/// By chance something is told falsely once in so many days, whatever the number of names.
const DAYS_WITHOUT_FALSE: f64 = 20.0;
/// More than usual is at least so many,
const COUNT_MIN: u32 = 5;
/// and so many times what is expected.
const TIMES_MIN: f64 = 3.0;
/// Each week leaves this part of what was counted before.
const KEPT: f64 = 7.0 / 8.0;
/// What is known of all hours counts as much as so many weeks of the one hour.
const WEEKS_OF_ALL: f64 = 1.0;
/// No count is larger in what follows; it would be unusual anyway.
const COUNT_MAX: u32 = 100_000;

/// What is to be expected of an hour.
struct Expected {
    mean: f64,
    variance: f64,
}

/// Finds what is unusual in the hour of `now`, and in the one before: of counts that were made since a
/// time, and without a break since another. The hour's count so far is held against what the whole hour
/// may bring, so that it does not matter how often it is looked at.
pub fn unusual_rates(
    habits: Vec<Habit>,
    (since, unbroken_since): (Timestamp, Timestamp),
    now: Timestamp,
) -> Vec<Unusual> {
    let hour = |it: Timestamp| it.as_second().div_euclid(3600);
    let (this, first) = (hour(now), hour(since));
    let judged = habits.len();
    let chance_max = 1.0 / (DAYS_WITHOUT_FALSE * 24.0 * number(judged.max(1)));
    let was_heard = hour(unbroken_since) < this - 1;
    let judge = |mut habit: Habit| {
        habit.turn_to(this);
        let more = Expected::of(&habit, this, first).filter(|it| {
            habit.count >= COUNT_MIN
                && f64::from(habit.count) >= TIMES_MIN * it.mean
                && it.at_least(habit.count) <= chance_max
        });
        if let Some(expected) = more {
            let chance = expected.at_least(habit.count);
            let why = words(&expected, habit.count, "this hour so far", chance);
            return Some(Unusual { name: habit.name, is_more: true, why });
        }
        let is_source = habit.name.starts_with("source/");
        let fewer = Expected::of(&habit, this - 1, first)
            .filter(|it| is_source && was_heard && it.at_most(habit.before) <= chance_max)?;
        let chance = fewer.at_most(habit.before);
        let why = words(&fewer, habit.before, "in the last hour", chance);
        Some(Unusual { name: habit.name, is_more: false, why })
    };
    habits.into_iter().filter_map(judge).collect()
}

fn words(expected: &Expected, count: u32, when: &str, chance: f64) -> String {
    let mean = expected.mean;
    let exponent = chance.max(1e-300).log10().ceil().abs();
    format!(
        "{count} {when}, where {mean:.1} are usual; by chance in less than one of 10^{exponent:.0} hours"
    )
}

impl Expected {
    /// What an hour brings by its own past weeks and its neighbours', with what all hours bring as a
    /// start: the mean of a gamma distribution. It scatters as much more than by chance as the hours
    /// of the past did, and by what is not known of the mean. `None` = that hour was never watched.
    fn of(habit: &Habit, hour: i64, first: i64) -> Option<Self> {
        let weeks = (hour - first - 1).div_euclid(WEEK_HOURS);
        if weeks < 1 {
            return None;
        }
        let weeks = i32::try_from(weeks).unwrap_or(i32::MAX);
        // The sum of 7/8, its square, and so on.
        let watched = KEPT * (1.0 - KEPT.powi(weeks)) / (1.0 - KEPT);
        let slot = |at: i64| {
            let slot = u8::try_from(at.rem_euclid(WEEK_HOURS)).unwrap_or_default();
            f64::from(habit.slots.get(&slot).copied().unwrap_or_default()) / f64::from(ONE)
        };
        let all: f64 = habit.slots.values().map(|it| f64::from(*it)).sum::<f64>() / f64::from(ONE);
        let hours = watched * 168.0;
        let (usual, squares) = (all / hours, thousandths(habit.squares) / hours);
        let near = slot(hour) + f64::midpoint(slot(hour - 1), slot(hour + 1));
        let weight = WEEKS_OF_ALL + 2.0 * watched;
        let mean = (usual * WEEKS_OF_ALL + near) / weight;
        // Half a beginning in all that time, where there was none.
        let mean = mean.max(0.5 / hours);
        let scatter = if usual > 0.0 { (squares - usual * usual) / usual } else { 1.0 };
        let variance = mean * scatter.max(1.0) * (1.0 + 1.0 / weight);
        Some(Self { mean, variance })
    }

    /// How likely it is that so many begin at least: the tail of the negative binomial distribution
    /// with this mean and variance.
    fn at_least(&self, count: u32) -> f64 {
        let count = count.min(COUNT_MAX);
        let mut term = self.log_of(count).exp();
        let (mut sum, mut at) = (0.0, count);
        while term > sum * 1e-9 && at < 2 * COUNT_MAX {
            sum += term;
            term *= self.ratio(at);
            at += 1;
        }
        sum.min(1.0)
    }

    /// How likely it is that so many begin at most.
    fn at_most(&self, count: u32) -> f64 {
        let count = count.min(COUNT_MAX);
        let mut term = self.log_of(0).exp();
        let mut sum = term;
        for at in 0..count {
            term *= self.ratio(at);
            sum += term;
        }
        sum.min(1.0)
    }

    /// The logarithm of the probability of exactly so many.
    fn log_of(&self, count: u32) -> f64 {
        let (size, part) = self.shape();
        let none = size * (1.0 - part).ln();
        (0..count).fold(none, |sum, at| sum + self.ratio(at).ln())
    }

    /// How much more likely one more is than so many.
    fn ratio(&self, count: u32) -> f64 {
        let (size, part) = self.shape();
        part * (size + f64::from(count)) / (f64::from(count) + 1.0)
    }

    /// Its size and its probability. The variance is larger than the mean, if only by what is not known.
    fn shape(&self) -> (f64, f64) {
        let variance = self.variance.max(self.mean * 1.000_001);
        (self.mean * self.mean / (variance - self.mean), 1.0 - self.mean / variance)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a sum of which three places matter")]
fn thousandths(sum: u64) -> f64 {
    sum as f64 / f64::from(ONE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const WEEK: i64 = WEEK_HOURS * 3600;

    fn time(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn habit(name: &str) -> Habit {
        Habit {
            name: name.into(),
            first_seen_at: time(0),
            hour: 0,
            count: 0,
            before: 0,
            slots: BTreeMap::new(),
            squares: 0,
            told_at: None,
        }
    }

    /// Counts so many in each hour of some weeks.
    fn lived(name: &str, weeks: i64, count: impl Fn(i64) -> u32) -> Habit {
        let mut habit = habit(name);
        for hour in 0..weeks * WEEK_HOURS {
            habit.turn_to(hour);
            habit.count = count(hour);
        }
        habit.turn_to(weeks * WEEK_HOURS);
        habit
    }

    fn judged(habits: &[Habit], hour: i64) -> Vec<(String, bool)> {
        let times = (time(-3600), time(-3600));
        let found = unusual_rates(habits.to_vec(), times, time(hour * 3600 + 600));
        found.into_iter().map(|it| (it.name.to_string(), it.is_more)).collect()
    }

    #[test]
    fn tails_are_those_of_the_tables() {
        // Poisson with mean 2: five or more in 0.05265, none in 0.13534.
        let poisson = Expected { mean: 2.0, variance: 2.0 };
        assert!((poisson.at_least(5) - 0.052_65).abs() < 1e-4, "{}", poisson.at_least(5));
        assert!((poisson.at_most(0) - 0.135_34).abs() < 1e-4);
        assert!((poisson.at_most(4) + poisson.at_least(5) - 1.0).abs() < 1e-9);
        // Negative binomial of size 2 with mean 2: none in a quarter, three or more in 5/16.
        let wide = Expected { mean: 2.0, variance: 4.0 };
        assert!((wide.at_most(0) - 0.25).abs() < 1e-9);
        assert!((wide.at_least(3) - 5.0 / 16.0).abs() < 1e-9);
        assert!(Expected { mean: 1.0, variance: 1.0 }.at_least(u32::MAX) < 1e-100);
    }

    #[test]
    fn an_hour_is_held_against_its_own_past() {
        // Twenty each Monday and Tuesday at 03:00, one at noon each day.
        let weekly = |hour: i64| match hour % WEEK_HOURS {
            99 | 123 => 20,
            it if it % 24 == 12 => 1,
            _ => 0,
        };
        let mut habit = lived("alert/Backup", 6, weekly);
        let monday = 6 * WEEK_HOURS + 99;
        for (hour, count, is_told) in [
            (monday, 20, false),
            (monday, 25, false),
            (monday + 50, 20, true),
            (monday + 50, 4, false),
            (monday, 400, true),
        ] {
            let mut then = habit.clone();
            then.turn_to(hour);
            then.count = count;
            assert_eq!(!judged(&[then], hour).is_empty(), is_told, "{hour} {count}");
        }
        habit.count = 30;
        let unusual = unusual_rates(vec![habit], (time(0), time(0)), time(6 * WEEK));
        assert!(unusual[0].why.starts_with("30 this hour so far, where 0."), "{}", unusual[0].why);
    }

    #[test]
    fn a_source_that_falls_silent_is_told_of_and_one_that_is_often_silent_is_not() {
        let hour = 4 * WEEK_HOURS;
        let steady = lived("source/prod", 4, |_| 40);
        let rare = lived("source/rare", 4, |it| u32::from(it % 5 == 0));
        let alert = lived("alert/Steady", 4, |_| 40);
        assert_eq!(judged(&[steady.clone(), rare, alert.clone()], hour), []);
        let mut silent = [steady, alert];
        for habit in &mut silent {
            habit.turn_to(hour + 2);
        }
        assert_eq!(judged(&silent, hour + 2), [("source/prod".to_owned(), false)]);
        // Nobody watched in that hour.
        let at = time((hour + 2) * 3600 + 600);
        let times = (time(-3600), time((hour + 1) * 3600));
        assert_eq!(unusual_rates(silent.to_vec(), times, at), []);
    }

    #[test]
    fn chance_is_hardly_ever_told() {
        // 200 names with a rhythm by day, in bursts, over ten weeks of which the last is judged.
        let mut state = 12_345_u64;
        let mut lot = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            f64::from(u32::try_from(state >> 33).unwrap()) / f64::from(1_u32 << 31)
        };
        let mut told = 0;
        let names: Vec<(Habit, f64)> = (0..200)
            .map(|it| (habit(&format!("alert/{it}")), 10_f64.powf(lot() * 3.0 - 2.5)))
            .collect();
        let mut names = names;
        for hour in 0..10 * WEEK_HOURS {
            let by_day = if hour % 24 < 12 { 1.6 } else { 0.4 };
            for (habit, rate) in &mut names {
                habit.turn_to(hour);
                // Bursts of one to four, each as likely as the rate says.
                let mut left = lot();
                let mean: f64 = *rate * by_day / 2.5;
                let mut chance = (-mean).exp();
                let mut bursts = 0_u32;
                while left > chance && bursts < 60 {
                    left -= chance;
                    bursts += 1;
                    chance *= mean / f64::from(bursts);
                }
                for _ in 0..bursts {
                    habit.count +=
                        [1, 2, 3, 4][usize::from(lot() > 0.25) + usize::from(lot() > 0.5)];
                }
            }
            if hour >= 9 * WEEK_HOURS {
                let all: Vec<Habit> = names.iter().map(|(it, _)| it.clone()).collect();
                told += judged(&all, hour).len();
            }
        }
        assert!(told <= 2, "{told} of {} looks", 200 * WEEK_HOURS);
    }

    #[test]
    fn what_was_never_watched_is_not_judged() {
        let mut young = lived("alert/Young", 1, |_| 0);
        young.count = 500;
        assert_eq!(judged(&[young], WEEK_HOURS - 1), []);
    }
}

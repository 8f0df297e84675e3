//! The habits themselves: counts that are made while things happen, and fade.

use super::{Habit, ONE, WEEK_HOURS};
use crate::domain::label::Labels;
use crate::domain::{Changes, ObjectKey, later};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// So many habits are known; there is no room for more.
const HABITS_MAX: usize = 4096;
/// What did not begin for so many seconds is forgotten: half a year.
const FORGOTTEN_SECONDS: i64 = 183 * 24 * 3600;
/// After so many weeks nothing is left of a count.
const WEEKS_MAX: i64 = 64;

/// All habits, by name.
#[derive(Default)]
pub struct Habits {
    by_name: BTreeMap<Arc<str>, Habit>,
    /// Those that changed since the last [`Self::mark`].
    written: BTreeSet<Arc<str>>,
    /// The day on which the forgotten ones were last looked for, since 1970.
    swept_on: i64,
}

impl Habits {
    /// Takes in a habit as it was stored.
    pub(in crate::domain) fn put(&mut self, habit: Habit) {
        self.by_name.insert(habit.name.clone(), habit);
    }

    /// The habit of a name.
    pub fn get(&self, name: &str) -> Option<&Habit> {
        self.by_name.get(name)
    }

    /// All of them, in order of name.
    pub fn all(&self) -> impl Iterator<Item = &Habit> {
        self.by_name.values()
    }

    /// Whether there is no room for further names.
    pub(super) fn is_full(&self) -> bool {
        self.by_name.len() >= HABITS_MAX
    }

    /// Counts a beginning. Tells whether the name is new.
    pub(super) fn count(&mut self, now: Timestamp, name: &str) -> bool {
        let hour = hour_of(now);
        if let Some(habit) = self.by_name.get_mut(name) {
            habit.turn_to(hour);
            habit.count = habit.count.saturating_add(1);
            if !self.written.contains(name) {
                self.written.insert(habit.name.clone());
            }
            return false;
        }
        self.sweep(now);
        if self.is_full() {
            return false;
        }
        let name: Arc<str> = name.into();
        let habit = Habit {
            name: name.clone(),
            first_seen_at: now,
            hour,
            count: 1,
            before: 0,
            slots: BTreeMap::new(),
            squares: 0,
            told_at: None,
        };
        self.by_name.insert(name.clone(), habit);
        self.written.insert(name);
        true
    }

    /// People are told of a habit.
    pub(super) fn told(&mut self, now: Timestamp, labels: &Labels) {
        let (kind, name) = (labels.get("kind"), labels.get("name"));
        let Some(name) = kind.zip(name).map(|(kind, name)| format!("{kind}/{name}")) else {
            return;
        };
        if let Some(habit) = self.by_name.get_mut(name.as_str()) {
            habit.told_at = Some(now);
            self.written.insert(habit.name.clone());
        }
    }

    /// Once a day what did not begin for long is forgotten.
    fn sweep(&mut self, now: Timestamp) {
        let day = hour_of(now) / 24;
        if day == self.swept_on {
            return;
        }
        self.swept_on = day;
        let oldest = hour_of(later(now, -FORGOTTEN_SECONDS));
        let old: Vec<Arc<str>> =
            self.all().filter(|it| it.hour < oldest).map(|it| it.name.clone()).collect();
        for name in old {
            self.by_name.remove(&name);
            self.written.insert(name);
        }
    }

    /// Nobody watches rates any more.
    pub(super) fn forget_all(&mut self) {
        self.written.extend(std::mem::take(&mut self.by_name).into_keys());
    }

    /// Whether a habit changed since the last [`Self::mark`].
    pub(in crate::domain) fn has_changes(&self) -> bool {
        !self.written.is_empty()
    }

    /// Tells which habits must be stored, or are gone.
    pub(in crate::domain) fn mark(&mut self, changes: &mut Changes) {
        changes.objects.extend(std::mem::take(&mut self.written).into_iter().map(ObjectKey::Habit));
    }
}

impl Habit {
    /// Closes the hours before one.
    pub fn turn_to(&mut self, hour: i64) {
        if hour <= self.hour {
            return;
        }
        let slot = u8::try_from(self.hour.rem_euclid(WEEK_HOURS)).unwrap_or_default();
        if self.count > 0 {
            let kept = self.slots.entry(slot).or_default();
            *kept = kept.saturating_add(self.count.saturating_mul(ONE));
            let square = u64::from(self.count) * u64::from(self.count) * u64::from(ONE);
            self.squares = self.squares.saturating_add(square);
        }
        self.before = if hour == self.hour + 1 { self.count } else { 0 };
        self.count = 0;
        let weeks = hour.div_euclid(WEEK_HOURS) - self.hour.div_euclid(WEEK_HOURS);
        for _ in 0..weeks.min(WEEKS_MAX) {
            self.slots.values_mut().for_each(|it| *it -= it.div_ceil(8));
            self.squares -= self.squares.div_ceil(8);
        }
        self.slots.retain(|_, it| *it > 0);
        self.hour = hour;
    }
}

/// The hour that a time is in, since 1970.
pub(super) fn hour_of(now: Timestamp) -> i64 {
    now.as_second().div_euclid(3600)
}

//! The accounts of the day under way, and which of them must be stored.

use super::{Account, Day, DayAccount, NoiseKey, OTHER, PageGroups, RULES_MAX, RuleAccount};
use crate::domain::{Changes, Closed, ObjectKey};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// The accounts of the day under way.
#[derive(Default)]
pub struct Accounts {
    /// Which day, and what happened on it; `None` = nothing ever did.
    today: Option<(Day, DayAccount)>,
    /// By rule.
    pub(super) rules: BTreeMap<Arc<str>, Kept>,
    /// See [`NoiseKey::Groups`].
    pub(super) groups: PageGroups,
    /// The rules whose accounts were written into since the last [`Self::mark`].
    written: Vec<Arc<str>>,
    /// Whether the day's account was.
    day_written: bool,
}

/// The account of a rule under way.
#[derive(Default)]
pub(super) struct Kept {
    account: RuleAccount,
    /// Whether it stands among those that were written into.
    is_written: bool,
}

impl Accounts {
    /// Takes in an account as it was stored.
    pub(in crate::domain) fn put(&mut self, account: Account) {
        match account {
            Account::Day { day, account } => self.today = Some((day, account)),
            Account::Rule { name, account, .. } => {
                self.rules.insert(name, Kept { account, is_written: false });
            }
            Account::Groups(groups) => self.groups = groups,
        }
    }

    /// The names of those that are open.
    pub fn keys(&self) -> Vec<NoiseKey> {
        let day = self.today.as_ref().map(|(day, _)| *day);
        let rules = self.rules.keys().filter_map(|it| Some(NoiseKey::Rule(day?, it.clone())));
        let groups = (!self.groups.is_empty()).then_some(NoiseKey::Groups);
        day.map(NoiseKey::Day).into_iter().chain(rules).chain(groups).collect()
    }

    /// An open account as it is stored.
    pub fn get(&self, key: &NoiseKey) -> Option<Account> {
        let (today, account) = self.today.as_ref()?;
        match key {
            NoiseKey::Day(day) => {
                (day == today).then(|| Account::Day { day: *day, account: account.clone() })
            }
            NoiseKey::Rule(day, name) => {
                let account = self.rules.get(name).filter(|_| day == today)?.account.clone();
                Some(Account::Rule { day: *day, name: name.clone(), account })
            }
            NoiseKey::Groups => Some(Account::Groups(self.groups.clone())),
        }
    }

    /// The day that a time is on. When it is a new one, the accounts of the day before are closed.
    fn turn_to(&mut self, now: Timestamp, changes: &mut Changes) -> Day {
        let day = Day::of(now);
        if self.today.as_ref().is_some_and(|(it, _)| *it == day) {
            return day;
        }
        self.day_written = true;
        self.written.clear();
        let rules = std::mem::take(&mut self.rules);
        if let Some((day, account)) = self.today.replace((day, DayAccount::default())) {
            let rules = rules.into_iter().map(|(name, it)| Account::Rule {
                day,
                name,
                account: it.account,
            });
            for account in rules.chain([Account::Day { day, account }]) {
                changes.objects.insert(ObjectKey::Noise(account.key()));
                changes.closed.push(Closed::Noise(Box::new(account)));
            }
        }
        day
    }

    /// Writes into the account of the day.
    pub(super) fn of_day(
        &mut self,
        now: Timestamp,
        changes: &mut Changes,
        write: impl FnOnce(&mut DayAccount),
    ) {
        self.turn_to(now, changes);
        if let Some((_, account)) = &mut self.today {
            write(account);
        }
        self.day_written = true;
    }

    /// Writes into the account of a rule. Where it is known this is one look-up, for each alert.
    pub(super) fn of_rule(
        &mut self,
        now: Timestamp,
        name: &str,
        changes: &mut Changes,
        write: impl FnOnce(&mut RuleAccount),
    ) {
        self.turn_to(now, changes);
        let only = (Bound::Included(name), Bound::Included(name));
        if let Some((name, kept)) = self.rules.range_mut::<str, _>(only).next() {
            write(&mut kept.account);
            if !std::mem::replace(&mut kept.is_written, true) {
                self.written.push(name.clone());
            }
            return;
        }
        let name: Arc<str> = if self.rules.len() < RULES_MAX { name.into() } else { OTHER.into() };
        let kept = self.rules.entry(name.clone()).or_default();
        write(&mut kept.account);
        if !std::mem::replace(&mut kept.is_written, true) {
            self.written.push(name);
        }
    }

    /// Whether an account was written into since the last [`Self::mark`].
    pub(in crate::domain) fn has_changes(&self) -> bool {
        self.day_written || !self.written.is_empty()
    }

    /// Tells which accounts must be stored. They are many writes to few objects, so that this is
    /// done once before each commit.
    pub(in crate::domain) fn mark(&mut self, changes: &mut Changes) {
        let written = std::mem::take(&mut self.written);
        let is_day_written = std::mem::take(&mut self.day_written);
        let Some((day, _)) = self.today else { return };
        if is_day_written {
            changes.objects.insert(ObjectKey::Noise(NoiseKey::Day(day)));
        }
        for name in written {
            if let Some(kept) = self.rules.get_mut(&name) {
                kept.is_written = false;
            }
            changes.objects.insert(ObjectKey::Noise(NoiseKey::Rule(day, name)));
        }
    }
}

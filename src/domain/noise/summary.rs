//! The accounts of several days, added up for a report.

use super::{Account, Day, DayAccount, RuleAccount};
use crate::domain::label::Fingerprint;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Accounts, added up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// On how many days something happened.
    pub days: u64,
    /// What happened on them.
    pub total: DayAccount,
    /// What became of each rule's alerts.
    pub rules: BTreeMap<Arc<str>, RuleAccount>,
    /// How often each alert fired at least, of those that fire most often of their rule on a day,
    /// with that rule.
    pub series: BTreeMap<Fingerprint, (Arc<str>, u64)>,
}

impl Summary {
    /// Adds an account. Those of other days than `from` up to, but without, `until` are left out.
    pub fn add(&mut self, account: &Account, from: Day, until: Day) {
        let days = from..until;
        match account {
            Account::Day { day, account } if days.contains(day) => {
                self.days += 1;
                self.add_day(account);
            }
            Account::Rule { day, name, account } if days.contains(day) => {
                self.rules.entry(name.clone()).or_default().add(account);
                for series in account.series.iter() {
                    let counted = self.series.entry(series.fingerprint);
                    counted.or_insert_with(|| (name.clone(), 0)).1 += series.certain();
                }
            }
            Account::Day { .. } | Account::Rule { .. } | Account::Groups(_) => {}
        }
    }

    fn add_day(&mut self, account: &DayAccount) {
        let total = &mut self.total;
        total.incidents_opened += account.incidents_opened;
        total.acted_on += account.acted_on;
        total.by_itself += account.by_itself;
        for (receiver, pages) in &account.heard {
            total.heard.entry(receiver.clone()).or_default().add(*pages);
        }
        for (receiver, occasions) in &account.told {
            let told = total.told.entry(receiver.clone()).or_default();
            for (occasion, pages) in occasions {
                told.entry(*occasion).or_default().add(*pages);
            }
        }
    }
}

impl RuleAccount {
    /// Adds what another day's account counts; which alerts fire most often is kept by
    /// [`Summary::series`].
    fn add(&mut self, other: &Self) {
        self.fired += other.fired;
        for (disposition, count) in &other.became {
            *self.became.entry(*disposition).or_default() += count;
        }
        self.let_go += other.let_go;
        self.acted_on += other.acted_on;
        self.by_itself += other.by_itself;
        self.heard += other.heard;
        self.sent += other.sent;
        self.would_send += other.would_send;
        self.new += other.new;
        self.lasted.add(&other.lasted);
        for (rule, count) in &other.behind {
            *self.behind.entry(rule.clone()).or_default() += count;
        }
    }
}

//! What to change about a rule that makes noise: each advice with the figures that speak for it.

use super::{Disposition, RuleAccount};
use serde::Serialize;

/// So many incidents must have ended before anything is said of whether people act.
const ENDED_MIN: u64 = 10;
/// So often it must have fired before anything is said of how it fires.
const FIRED_MIN: u64 = 10;
/// A `for` is made longer by at most so many seconds: whoever waits longer learns of real faults too late.
const LONGER_SECONDS_MAX: u64 = 900;
/// In so many hundredths of the incidents nobody acted: then it is over by itself.
const BY_ITSELF_PERCENT: u64 = 80;
/// In so many hundredths of its firings it came behind one other rule: then it says the same.
const BEHIND_PERCENT: u64 = 80;
/// So many hundredths of its firings flapped.
const FLAPPING_PERCENT: u64 = 20;

/// What to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Take it away, or off the routes that wake people.
    Delete,
    /// Let another rule speak for it.
    Merge,
    /// Let it wait longer before it fires.
    LongerFor,
    /// Let it end later.
    KeepFiringFor,
}

impl Change {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Merge => "merge",
            Self::LongerFor => "longer_for",
            Self::KeepFiringFor => "keep_firing_for",
        }
    }
}

/// An advice about a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// What to change.
    pub change: Change,
    /// Why, and what it would spare, in a sentence with figures.
    pub why: String,
}

impl RuleAccount {
    /// What to change about the rule; nothing where there is too little to tell by.
    pub fn advice(&self) -> Vec<Advice> {
        let advice = [self.delete(), self.merge(), self.longer_for(), self.keep_firing_for()];
        advice.into_iter().flatten().collect()
    }

    /// The rule behind which its alerts most often joined, and how often.
    pub fn most_behind(&self) -> Option<(&str, u64)> {
        let most =
            self.behind.iter().max_by_key(|(name, count)| (**count, std::cmp::Reverse(*name)));
        most.map(|(name, count)| (name.as_str(), *count))
    }

    fn delete(&self) -> Option<Advice> {
        let ended = self.acted_on + self.by_itself;
        let pages = self.heard.max(self.sent + self.would_send);
        (self.acted_on == 0 && ended >= ENDED_MIN).then(|| Advice {
            change: Change::Delete,
            why: format!(
                "nobody acted on any of the {ended} incidents with it, and people were told {pages} times: \
                 delete it, or take it off the routes"
            ),
        })
    }

    fn merge(&self) -> Option<Advice> {
        let (name, count) = self.most_behind()?;
        let is_behind = self.fired >= FIRED_MIN && count * 100 >= self.fired * BEHIND_PERCENT;
        is_behind.then(|| Advice {
            change: Change::Merge,
            why: format!(
                "{count} of {} times it only joined what {name} had begun: let {name} inhibit it, or make \
                 one rule of the two",
                self.fired
            ),
        })
    }

    fn longer_for(&self) -> Option<Advice> {
        let ended = self.acted_on + self.by_itself;
        let median = self.lasted.median_seconds()?;
        let is_short = (1..=LONGER_SECONDS_MAX).contains(&median);
        let is_by_itself = self.by_itself * 100 >= ended * BY_ITSELF_PERCENT;
        let is_told = self.fired >= FIRED_MIN && ended >= ENDED_MIN;
        (is_told && is_short && is_by_itself).then(|| Advice {
            change: Change::LongerFor,
            why: format!(
                "{} of {ended} incidents with it were over by themselves, and half of its {} firings within \
                 {}: a `for` longer by that much would have spared half of them",
                self.by_itself,
                self.lasted.count(),
                short(median)
            ),
        })
    }

    fn keep_firing_for(&self) -> Option<Advice> {
        let flapped = self.became(Disposition::Flapping);
        let does = self.fired >= FIRED_MIN && flapped * 100 >= self.fired * FLAPPING_PERCENT;
        does.then(|| Advice {
            change: Change::KeepFiringFor,
            why: format!(
                "{flapped} of {} beginnings flapped: let it end later (`keep_firing_for`), or at another \
                 value than that at which it begins",
                self.fired
            ),
        })
    }
}

/// Seconds as a rule writes them.
fn short(seconds: u64) -> String {
    if seconds < 120 { format!("{seconds}s") } else { format!("{}m", seconds.div_ceil(60)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(fired: u64, acted_on: u64, by_itself: u64, lasted: u64) -> RuleAccount {
        let mut account =
            RuleAccount { fired, acted_on, by_itself, sent: 7, ..RuleAccount::default() };
        (0..fired).for_each(|_| account.lasted.note(lasted));
        account
    }

    fn changes(account: &RuleAccount) -> Vec<Change> {
        account.advice().into_iter().map(|it| it.change).collect()
    }

    #[test]
    fn each_advice_needs_its_figures() {
        for (account, expected) in [
            (account(9, 0, 9, 60), vec![]),
            (account(20, 0, 20, 3600), vec![Change::Delete]),
            (account(20, 2, 18, 240), vec![Change::LongerFor]),
            (account(20, 5, 15, 240), vec![]),
            (account(20, 2, 18, 3600), vec![]),
            (account(20, 0, 20, 240), vec![Change::Delete, Change::LongerFor]),
        ] {
            assert_eq!(changes(&account), expected, "{account:?}");
        }
        let mut noisy = account(20, 10, 10, 3600);
        noisy.became.insert(Disposition::Flapping, 4);
        noisy.behind.insert("DbDown".to_owned(), 16);
        noisy.behind.insert("NetDown".to_owned(), 2);
        assert_eq!(changes(&noisy), [Change::Merge, Change::KeepFiringFor]);
        assert_eq!(noisy.most_behind(), Some(("DbDown", 16)));
        let why = &noisy.advice()[0].why;
        assert!(why.starts_with("16 of 20 times it only joined what DbDown had begun"), "{why}");
        noisy.behind.insert("DbDown".to_owned(), 15);
        assert_eq!(changes(&noisy), [Change::KeepFiringFor]);
        let why = account(20, 2, 18, 240).advice().remove(0).why;
        assert!(why.contains("18 of 20 incidents") && why.contains("20 firings"), "{why}");
    }
}

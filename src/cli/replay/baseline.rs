//! What differs from the files of an earlier run: `--baseline`.

mod files;
mod report;

pub(super) use report::text;

use files::{Beginning, IncidentFacts, Side};
use serde::Serialize;
use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// How many cases of each kind are told.
const CASES_MAX: usize = 20;

/// Pairs of incidents, the one before and the one now, that hold mostly the same alerts.
type Partners = BTreeMap<u64, u64>;

/// What differs, by kind.
#[derive(Serialize)]
pub(super) struct Difference {
    /// Beginnings that are in another incident than before, or in none.
    alerts_moved: Cases,
    /// Beginnings that only one of the two runs has: then the histories differ.
    alerts_unmatched: Cases,
    /// Incidents that hold what was in several.
    merged: Cases,
    /// Incidents whose alerts are in several now.
    split: Cases,
    /// Incidents that are opened later than before, or earlier.
    delayed: Cases,
    /// Incidents with another priority.
    priorities: Cases,
    /// What receivers are told that they were not, or the other way round.
    notifications: Cases,
    /// Runs of runbooks that came out otherwise, or are there in one run only.
    runbooks: Cases,
    /// Problems that are there in one run only.
    problems: Cases,
}

/// The cases of one kind.
#[derive(Serialize)]
pub(super) struct Cases {
    /// How many there are.
    count: usize,
    /// The worst ones, in words.
    worst: Vec<String>,
}

impl Cases {
    /// From cases with their weights; the heaviest come first.
    fn new(mut cases: Vec<(u64, String)>) -> Self {
        let count = cases.len();
        cases.sort_by_key(|(weight, _)| Reverse(*weight));
        let worst = cases.into_iter().take(CASES_MAX).map(|(_, text)| text).collect();
        Self { count, worst }
    }
}

impl Difference {
    /// Compares the files in two folders. Fails if they cannot be read.
    pub(super) fn between(before: &Path, now: &Path) -> anyhow::Result<Self> {
        let (before, now) = (Side::read(before)?, Side::read(now)?);
        let pairs = Pairs::of(&before.beginnings, &now.beginnings);
        let partners = pairs.partners();
        Ok(Self {
            alerts_moved: pairs.moved(&partners),
            alerts_unmatched: Cases::new(pairs.unmatched.clone()),
            merged: pairs.merged(),
            split: pairs.split(),
            delayed: delayed(&before, &now, &partners),
            priorities: priorities(&before, &now, &partners),
            notifications: counted(&before.notifications, &now.notifications, &partners),
            runbooks: counted(&before.runbooks, &now.runbooks, &partners),
            problems: problems(&before, &now),
        })
    }

    /// The kinds with their names for people.
    fn kinds(&self) -> [(&'static str, &Cases); 9] {
        [
            ("alerts moved", &self.alerts_moved),
            ("alerts in one run only", &self.alerts_unmatched),
            ("incidents merged", &self.merged),
            ("incidents split", &self.split),
            ("incidents delayed or earlier", &self.delayed),
            ("priorities", &self.priorities),
            ("notifications", &self.notifications),
            ("runbooks", &self.runbooks),
            ("problems", &self.problems),
        ]
    }

    /// Whether nothing differs.
    pub(super) fn is_none(&self) -> bool {
        self.kinds().iter().all(|(_, it)| it.count == 0)
    }
}

/// The name of an incident; 0 stands for none.
fn name(incident: u64) -> String {
    if incident == 0 { "no incident".to_owned() } else { format!("INC-{incident}") }
}

fn names<'a>(incidents: impl Iterator<Item = &'a u64>) -> String {
    /// So many are named.
    const NAMED_MAX: usize = 8;
    let all: Vec<String> = incidents.map(|it| name(*it)).collect();
    let more = all.len().saturating_sub(NAMED_MAX);
    let named = all.into_iter().take(NAMED_MAX).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{named} and {more} more") } else { named }
}

/// How many beginnings went from an incident before into one now.
#[derive(Default)]
struct Pairs {
    shared: BTreeMap<(u64, u64), u64>,
    unmatched: Vec<(u64, String)>,
}

impl Pairs {
    /// Joins two lists that are in the same order.
    fn of(before: &[Beginning], now: &[Beginning]) -> Self {
        let mut pairs = Self::default();
        let (mut olds, mut news) = (before.iter().peekable(), now.iter().peekable());
        let mut unmatched = Vec::new();
        let mut alone = |it: Option<&Beginning>, run: &str| {
            let text = |it: &Beginning| format!("{} since {} only {run}", it.fingerprint, it.at);
            unmatched.extend(it.map(|it| (1, text(it))));
        };
        while olds.peek().is_some() || news.peek().is_some() {
            let order = match (olds.peek(), news.peek()) {
                (Some(old), Some(new)) => old.key().cmp(&new.key()),
                (Some(_), None) => Ordering::Less,
                (None, _) => Ordering::Greater,
            };
            match order {
                Ordering::Less => alone(olds.next(), "before"),
                Ordering::Greater => alone(news.next(), "now"),
                Ordering::Equal => {
                    if let (Some(old), Some(new)) = (olds.next(), news.next()) {
                        *pairs.shared.entry((old.incident, new.incident)).or_default() += 1;
                    }
                }
            }
        }
        pairs.unmatched = unmatched;
        pairs
    }

    /// Finds for each incident the one that holds most of the same alerts; each has one partner.
    fn partners(&self) -> Partners {
        let mut by_size: Vec<(u64, u64, u64)> = (self.shared.iter())
            .filter(|((old, new), _)| *old > 0 && *new > 0)
            .map(|((old, new), count)| (*count, *old, *new))
            .collect();
        by_size.sort_by_key(|(count, old, new)| (Reverse(*count), *old, *new));
        let (mut partners, mut taken) = (Partners::new(), BTreeSet::new());
        for (_, old, new) in by_size {
            if !partners.contains_key(&old) && taken.insert(new) {
                partners.insert(old, new);
            }
        }
        partners
    }

    fn moved(&self, partners: &Partners) -> Cases {
        let mut cases = Vec::new();
        let mut count = 0;
        for ((old, new), alerts) in &self.shared {
            let stayed = if *old == 0 { *new == 0 } else { partners.get(old) == Some(new) };
            if !stayed {
                count += *alerts;
                let alerts_text = format!("{alerts} alerts");
                cases.push((*alerts, format!("{alerts_text}: {}, now {}", name(*old), name(*new))));
            }
        }
        Cases { count: usize::try_from(count).unwrap_or(usize::MAX), ..Cases::new(cases) }
    }

    fn merged(&self) -> Cases {
        let turned = self.shared.iter().map(|((old, new), count)| ((*new, *old), *count));
        Self::gathered(turned, |new, olds, count| {
            format!("{} holds what was in {}: {count} alerts", name(new), names(olds.iter()))
        })
    }

    fn split(&self) -> Cases {
        let straight = self.shared.iter().map(|(pair, count)| (*pair, *count));
        Self::gathered(straight, |old, news, count| {
            format!("{} is now {}: {count} alerts", name(old), names(news.iter()))
        })
    }

    /// The incidents that share alerts with several on the other side.
    fn gathered(
        pairs: impl Iterator<Item = ((u64, u64), u64)>,
        text: impl Fn(u64, &BTreeSet<u64>, u64) -> String,
    ) -> Cases {
        let mut others: BTreeMap<u64, (BTreeSet<u64>, u64)> = BTreeMap::new();
        for ((one, other), count) in pairs.filter(|((one, other), _)| *one > 0 && *other > 0) {
            let (known, sum) = others.entry(one).or_default();
            known.insert(other);
            *sum += count;
        }
        let several = others.iter().filter(|(_, (others, _))| others.len() > 1);
        Cases::new(several.map(|(one, (others, sum))| (*sum, text(*one, others, *sum))).collect())
    }
}

/// Each pair of partners with what is known of the two.
fn both<'a>(
    before: &'a Side,
    now: &'a Side,
    partners: &'a Partners,
) -> impl Iterator<Item = (u64, &'a IncidentFacts, &'a IncidentFacts)> {
    partners
        .iter()
        .filter_map(|(old, new)| Some((*new, before.incidents.get(old)?, now.incidents.get(new)?)))
}

fn delayed(before: &Side, now: &Side, partners: &Partners) -> Cases {
    let case = |(id, old, new): (u64, &IncidentFacts, &IncidentFacts)| {
        let by = new.opened_at.duration_since(old.opened_at);
        let seconds = by.as_millis().unsigned_abs().div_ceil(1000);
        let direction = if by.is_negative() { "earlier" } else { "later" };
        let weight = u64::try_from(seconds).unwrap_or(u64::MAX);
        let text = format!("{} `{}` is opened {seconds} s {direction}", name(id), new.title);
        (!by.is_zero()).then_some((weight, text))
    };
    Cases::new(both(before, now, partners).filter_map(case).collect())
}

fn priorities(before: &Side, now: &Side, partners: &Partners) -> Cases {
    let case = |(id, old, new): (u64, &IncidentFacts, &IncidentFacts)| {
        let (was, is) = (&old.priority, &new.priority);
        let text = format!("{} `{}` is {is}, not {was}", name(id), new.title);
        // How far apart they are: a digit follows the letter.
        let digit = |it: &str| it.bytes().last().unwrap_or_default();
        (was != is).then(|| (u64::from(digit(was).abs_diff(digit(is))), text))
    };
    Cases::new(both(before, now, partners).filter_map(case).collect())
}

/// Compares how often each thing happened for each incident; `before` is told by its partner's name.
fn counted(
    before: &BTreeMap<(String, u64), u64>,
    now: &BTreeMap<(String, u64), u64>,
    partners: &Partners,
) -> Cases {
    let mut balance: BTreeMap<(&str, String), (u64, u64)> = BTreeMap::new();
    for ((what, incident), count) in before {
        let partner = partners.get(incident).copied();
        let told = match partner {
            _ if *incident == 0 => name(0),
            Some(partner) => name(partner),
            None => format!("{} before", name(*incident)),
        };
        balance.entry((what, told)).or_default().0 += count;
    }
    for ((what, incident), count) in now {
        balance.entry((what, name(*incident))).or_default().1 += count;
    }
    let differ = balance.into_iter().filter(|(_, (was, is))| was != is);
    let case = |((what, incident), (was, is)): ((&str, String), (u64, u64))| {
        (was.abs_diff(is), format!("{what} for {incident}: {is} times, not {was}"))
    };
    Cases::new(differ.map(case).collect())
}

fn problems(before: &Side, now: &Side) -> Cases {
    let gone = before.problems.iter().filter(|(it, _)| !now.problems.contains_key(*it));
    let gone = gone.map(|(title, count)| (*count, format!("gone: {title} ({count} incidents)")));
    let new = now.problems.iter().filter(|(it, _)| !before.problems.contains_key(*it));
    let new = new.map(|(title, count)| (*count, format!("new: {title} ({count} incidents)")));
    Cases::new(gone.chain(new).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::label::Fingerprint;
    use jiff::Timestamp;

    fn beginnings(incidents: &[u64]) -> Vec<Beginning> {
        let at = Timestamp::UNIX_EPOCH;
        (0..)
            .zip(incidents)
            .map(|(number, incident)| Beginning {
                fingerprint: Fingerprint(number),
                at,
                incident: *incident,
            })
            .collect()
    }

    #[test]
    fn numbers_alone_are_no_difference() {
        let pairs = Pairs::of(&beginnings(&[1, 1, 2, 0]), &beginnings(&[7, 7, 3, 0]));
        let partners = pairs.partners();
        assert_eq!(partners, Partners::from([(1, 7), (2, 3)]));
        assert_eq!(pairs.moved(&partners).count, 0);
        assert_eq!((pairs.merged().count, pairs.split().count), (0, 0));
    }

    #[test]
    fn the_heaviest_come_first() {
        let before = beginnings(&[1, 1, 1, 2, 3, 3, 0, 4]);
        let now = beginnings(&[1, 1, 1, 1, 5, 6, 7, 0]);
        let pairs = Pairs::of(&before, &now);
        let partners = pairs.partners();
        assert_eq!(pairs.merged().worst, ["INC-1 holds what was in INC-1, INC-2: 4 alerts"]);
        assert_eq!(pairs.split().worst, ["INC-3 is now INC-5, INC-6: 2 alerts"]);
        let moved = pairs.moved(&partners);
        assert_eq!(moved.count, 4);
        assert!(moved.worst.contains(&"1 alerts: no incident, now INC-7".to_owned()));
        assert!(moved.worst.contains(&"1 alerts: INC-4, now no incident".to_owned()));
        let other = Pairs::of(&before[..6], &now[1..]);
        assert_eq!((other.unmatched.len(), other.shared.values().sum::<u64>()), (3, 5));
    }

    #[test]
    fn what_is_told_of_partners_is_compared() {
        let told = |list: &[(&str, u64)]| {
            list.iter().map(|(what, incident)| (((*what).to_owned(), *incident), 1)).collect()
        };
        let (before, now) = (told(&[("a", 1), ("b", 1), ("c", 0)]), told(&[("a", 4), ("c", 0)]));
        let cases = counted(&before, &now, &Partners::from([(1, 4)]));
        assert_eq!(cases.worst, ["b for INC-4: 0 times, not 1"]);
    }
}

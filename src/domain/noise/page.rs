//! The pages of an Alertmanager beside us, as its webhook tells of them, and why it sent each.

use crate::domain::label::{Fingerprint, Labels};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How many groups that fire are remembered; the one that was told of longest ago makes room.
const GROUPS_MAX: usize = 2000;
/// How many rules of a page are named.
const RULES_MAX: usize = 32;
/// Of groups with so many alerts that fire it is remembered which they are.
const ALERTS_MAX: usize = 32;

/// One notification of an Alertmanager to one of its receivers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The receiver's name.
    pub receiver: String,
    /// A hash of its receiver and group.
    pub group: u64,
    /// Whether an alert of the group fires.
    pub is_firing: bool,
    /// A hash of the alerts that fire.
    pub firing: u64,
    /// A hash of the alerts that it tells to be over; 0 = none.
    pub resolved: u64,
    /// The names of its alerts.
    pub rules: BTreeSet<String>,
    /// Short hashes of the alerts that fire; empty = they are too many.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub alerts: BTreeSet<u32>,
}

impl Page {
    /// A page about alerts, of which each fires or is over.
    pub fn new<'a>(
        receiver: &str,
        group_key: &str,
        is_firing: bool,
        alerts: impl Iterator<Item = (&'a Labels, bool)>,
    ) -> Self {
        let (mut firing, mut resolved) = (BTreeSet::new(), BTreeSet::new());
        let mut rules = BTreeSet::new();
        for (labels, fires) in alerts {
            let all = if fires { &mut firing } else { &mut resolved };
            all.insert(labels.fingerprint());
            let rule = super::short(labels.get("alertname").unwrap_or_default());
            if rules.len() < RULES_MAX && !rules.contains(rule) {
                rules.insert(rule.to_owned());
            }
        }
        let group = Labels::from_pairs([("receiver", receiver), ("group", group_key)]);
        Self {
            receiver: super::short(receiver).to_owned(),
            group: group.fingerprint().0,
            is_firing,
            firing: hash(&firing),
            resolved: hash(&resolved),
            alerts: few(&firing),
            rules,
        }
    }
}

/// A hash of a set; 0 for the empty one.
fn hash(alerts: &BTreeSet<Fingerprint>) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    alerts.iter().fold(0, |hash: u64, it| (hash ^ it.0).wrapping_mul(PRIME))
}

/// Short hashes of alerts, if they are few.
fn few(alerts: &BTreeSet<Fingerprint>) -> BTreeSet<u32> {
    let short = |it: &Fingerprint| u32::try_from((it.0 ^ it.0 >> 32) & 0xffff_ffff);
    if alerts.len() > ALERTS_MAX {
        return BTreeSet::new();
    }
    alerts.iter().filter_map(|it| short(it).ok()).collect()
}

/// Why an Alertmanager sent a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageKind {
    /// A group began to fire.
    New,
    /// Other alerts of a group fire than at the last page, or some are over.
    Changed,
    /// All is as it was at the last page, or some fire no more of which it tells no end: Alertmanager sends no
    /// page for that, so that this one is a reminder.
    Repeated,
    /// A group is over.
    Resolved,
}

/// The pages to one receiver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeardPages {
    /// A group began to fire.
    pub new: u64,
    /// Other alerts of a group fired than at the last page, or some were over.
    pub changed: u64,
    /// All was as it was at the last page.
    pub repeated: u64,
    /// A group was over.
    pub resolved: u64,
}

impl HeardPages {
    pub(super) fn note(&mut self, kind: PageKind) {
        let count = match kind {
            PageKind::New => &mut self.new,
            PageKind::Changed => &mut self.changed,
            PageKind::Repeated => &mut self.repeated,
            PageKind::Resolved => &mut self.resolved,
        };
        *count += 1;
    }

    pub(super) fn add(&mut self, other: Self) {
        self.new += other.new;
        self.changed += other.changed;
        self.repeated += other.repeated;
        self.resolved += other.resolved;
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.new + self.changed + self.repeated + self.resolved
    }
}

/// The groups that fire, by the hash of receiver and group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PageGroups(BTreeMap<u64, Told>);

/// What was told of a group last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Told {
    firing: u64,
    resolved: u64,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    alerts: BTreeSet<u32>,
    at: Timestamp,
}

impl PageGroups {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes in a page, and tells why it was sent.
    pub(super) fn take(&mut self, now: Timestamp, page: &Page) -> PageKind {
        if !page.is_firing {
            self.0.remove(&page.group);
            return PageKind::Resolved;
        }
        let alerts = page.alerts.clone();
        let told = Told { firing: page.firing, resolved: page.resolved, alerts, at: now };
        let Some(last) = self.0.insert(page.group, told) else {
            self.make_room();
            return PageKind::New;
        };
        // What is over is told once, and left out of the pages that follow.
        let is_over_as_before = page.resolved == 0 || page.resolved == last.resolved;
        let has_shrunk = !page.alerts.is_empty() && page.alerts.is_subset(&last.alerts);
        if (page.firing == last.firing || has_shrunk) && is_over_as_before {
            PageKind::Repeated
        } else {
            PageKind::Changed
        }
    }

    fn make_room(&mut self) {
        if self.0.len() > GROUPS_MAX
            && let Some(oldest) = self.0.iter().min_by_key(|(_, it)| it.at).map(|(key, _)| *key)
        {
            self.0.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(group: &str, firing: &[&str], resolved: &[&str]) -> Page {
        let label = |it: &&str| Labels::from_pairs([("alertname", "Down"), ("host", *it)]);
        let firing: Vec<Labels> = firing.iter().map(label).collect();
        let resolved: Vec<Labels> = resolved.iter().map(label).collect();
        let alerts =
            firing.iter().map(|it| (it, true)).chain(resolved.iter().map(|it| (it, false)));
        Page::new("pager", group, !firing.is_empty(), alerts)
    }

    #[test]
    fn pages_are_told_apart_by_what_was_told_before() {
        let mut groups = PageGroups::default();
        for (page, expected) in [
            (page("a", &["1"], &[]), PageKind::New),
            (page("a", &["1"], &[]), PageKind::Repeated),
            (page("b", &["1"], &[]), PageKind::New),
            (page("a", &["2", "1"], &[]), PageKind::Changed),
            (page("a", &["1", "2"], &[]), PageKind::Repeated),
            (page("a", &["1"], &["2"]), PageKind::Changed),
            (page("a", &["1"], &[]), PageKind::Repeated),
            (page("a", &[], &["1"]), PageKind::Resolved),
            (page("a", &["1"], &[]), PageKind::New),
            (page("b", &["1"], &[]), PageKind::Repeated),
        ] {
            assert_eq!(groups.take(Timestamp::UNIX_EPOCH, &page), expected, "{page:?}");
        }
    }

    /// A receiver with `send_resolved: false` hears of the rest of a group only at its `repeat_interval`.
    #[test]
    fn a_shrunken_group_is_repeated_and_another_alert_changes_it() {
        let mut groups = PageGroups::default();
        for (firing, expected) in [
            (["1", "2", "3"].as_slice(), PageKind::New),
            (&["1", "2"], PageKind::Repeated),
            (&["1", "4"], PageKind::Changed),
            (&["4"], PageKind::Repeated),
            (&["1", "4"], PageKind::Changed),
        ] {
            let page = page("a", firing, &[]);
            assert_eq!(groups.take(Timestamp::UNIX_EPOCH, &page), expected, "{firing:?}");
        }
        let many: Vec<String> = (0..=ALERTS_MAX).map(|it| it.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(page("a", &many, &[]).alerts.is_empty());
    }

    #[test]
    fn groups_without_an_end_make_room() {
        let mut groups = PageGroups::default();
        for number in 0..=GROUPS_MAX {
            let now = Timestamp::from_second(i64::try_from(number).unwrap()).unwrap();
            groups.take(now, &page(&number.to_string(), &["1"], &[]));
        }
        assert_eq!(groups.0.len(), GROUPS_MAX);
        let now = Timestamp::MAX;
        assert_eq!(groups.take(now, &page("1", &["1"], &[])), PageKind::Repeated);
        assert_eq!(groups.take(now, &page("0", &["1"], &[])), PageKind::New);
    }
}

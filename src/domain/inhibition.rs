//! Inhibition: an alert that fires holds back others that only follow from it.
//!
//! Meaning is Alertmanager's: a label that is absent equals an empty one, and an alert that matches both
//! sides of a rule is not inhibited by one of which the same is true, so never by itself. Whether
//! the source is held back itself does not matter. Nothing but telling is inhibited: the alert is
//! kept, shown and counted, and its end is its end. Beyond Alertmanager, a rule may ask the graph what
//! needs what.

mod graph;

use super::State;
use super::alert::{Alert, AlertState, Inhibitor};
use super::item::ItemId;
use super::label::{Fingerprint, Labels};
use super::later;
use super::rules::Inhibition;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// The firing alerts of a rule that have the same values of its equal labels: the rule's place
/// among the rules, those values by their names on the target's side, and what they are about, where
/// the rule asks the graph.
type GroupKey = (usize, Labels, Option<ItemId>);

/// Firing alerts by rule and equal labels, so that no alert is compared with all others.
#[derive(Default)]
pub(super) struct Inhibitions {
    groups: BTreeMap<GroupKey, Group>,
    /// Groups in which another source now stands for all, to be looked at when the turn ends.
    changed: BTreeSet<GroupKey>,
}

/// One group. That one source stands for all means that few alerts are touched when many sources
/// come and go; the highest does, because alerts that expire together do so from the lowest on.
#[derive(Default)]
struct Group {
    /// Sources that are no targets of the rule.
    sources: BTreeSet<Fingerprint>,
    /// Sources that are targets too.
    two_sided: BTreeSet<Fingerprint>,
    /// Targets.
    targets: BTreeSet<Fingerprint>,
}

impl Group {
    /// The source that stands for all, towards targets of either kind.
    fn stand_for_all(&self) -> [Option<Fingerprint>; 2] {
        let one_sided = self.sources.last().copied();
        [one_sided, one_sided.or_else(|| self.two_sided.last().copied())]
    }

    fn is_empty(&self) -> bool {
        self.sources.is_empty() && self.two_sided.is_empty() && self.targets.is_empty()
    }
}

/// Which sides of a rule an alert matches.
struct Sides {
    is_source: bool,
    is_target: bool,
}

impl Inhibition {
    fn sides(&self, labels: &Labels) -> Sides {
        Sides {
            is_source: self.source_matchers.matches(labels),
            is_target: self.target_matchers.matches(labels),
        }
    }

    fn values_of_source(&self, labels: &Labels) -> Labels {
        let value =
            |(source, target): &(String, String)| Some((target.clone(), labels.get(source)?));
        let pairs: Vec<(String, &str)> = self.equal.iter().filter_map(value).collect();
        Labels::from_pairs(pairs)
    }

    fn values_of_target(&self, labels: &Labels) -> Labels {
        let value = |(_, target): &(String, String)| Some((target.clone(), labels.get(target)?));
        let pairs: Vec<(String, &str)> = self.equal.iter().filter_map(value).collect();
        Labels::from_pairs(pairs)
    }
}

impl State {
    /// Notes that an alert begins to fire (or stops) being what its labels say.
    pub(super) fn index_inhibition(&mut self, fingerprint: Fingerprint, fires: bool) {
        if self.rules.inhibitions.is_empty() {
            return;
        }
        let rules = self.rules.clone();
        let Some(alert) = self.alerts.get(&fingerprint) else { return };
        let spot = self.spot_of(&alert.labels);
        for (place, rule) in rules.inhibitions.iter().enumerate() {
            let sides = rule.sides(&alert.labels);
            if sides.is_target {
                let values = rule.values_of_target(&alert.labels);
                for item in rule.target_items(spot) {
                    let key = (place, values.clone(), item);
                    self.inhibitions.note(key, fires, fingerprint, |it| &mut it.targets);
                }
            }
            for item in rule.source_items(spot).filter(|_| sides.is_source) {
                let key = (place, rule.values_of_source(&alert.labels), item);
                self.inhibitions.note(key, fires, fingerprint, |it| {
                    if sides.is_target { &mut it.two_sided } else { &mut it.sources }
                });
            }
        }
    }

    /// Fills the index, after loading or when the rules change.
    pub(super) fn rebuild_inhibitions(&mut self) {
        self.inhibitions = Inhibitions::default();
        let firing = self.alerts.values().filter(|it| it.state == AlertState::Firing);
        let firing: Vec<Fingerprint> = firing.map(|it| it.fingerprint).collect();
        for fingerprint in firing {
            self.index_inhibition(fingerprint, true);
        }
        self.inhibitions.changed.clear();
    }

    /// What inhibits an alert. `begins` = it begins to fire: then a rule that waits for sources
    /// waits for one.
    pub(super) fn inhibitor_of(
        &self,
        now: Timestamp,
        alert: &Alert,
        begins: bool,
    ) -> Option<Inhibitor> {
        let mut waits: Option<&Inhibition> = None;
        let spot = self.spot_of(&alert.labels);
        for (place, rule) in self.rules.inhibitions.iter().enumerate() {
            let sides = rule.sides(&alert.labels);
            if !sides.is_target {
                continue;
            }
            let key = (place, rule.values_of_target(&alert.labels), None);
            let found = match (rule.topology, spot) {
                (None, _) => {
                    self.inhibitions.source_for(&key, sides.is_source).map(|it| (it, Vec::new()))
                }
                (Some(topology), Some(spot)) => {
                    self.source_on_graph(topology, spot, key, sides.is_source)
                }
                // What is about nothing that is known is no target of a rule that asks the graph.
                (Some(_), None) => continue,
            };
            if let Some((source, path)) = found {
                let (rule, source) = (rule.rule.clone(), Some(source));
                return Some(Inhibitor { rule, source, path, until: None });
            }
            if waits.is_none_or(|it| it.wait_seconds < rule.wait_seconds) {
                waits = Some(rule);
            }
        }
        let rule = waits.filter(|it| it.wait_seconds > 0)?;
        let until = Some(later(now, i64::from(rule.wait_seconds)));
        if begins {
            let rule = rule.rule.clone();
            return Some(Inhibitor { rule, source: None, path: Vec::new(), until });
        }
        let last = alert.decision.inhibited_by()?;
        match last.until {
            Some(at) => (at > now).then(|| last.clone()),
            None => Some(Inhibitor { until, ..last.clone() }),
        }
    }

    /// Looks again at the targets for which another source now stands, or none.
    pub(super) fn look_at_inhibited_again(&mut self, now: Timestamp) {
        for key in std::mem::take(&mut self.inhibitions.changed) {
            let targets = self.targets_of(&key);
            self.look_again(now, targets);
        }
    }

    /// Whether an alert with these labels can inhibit others: those are taken first of a delivery,
    /// so that the order within it does not matter.
    pub(super) fn can_inhibit(&self, labels: &Labels) -> bool {
        self.rules.inhibitions.iter().any(|it| it.source_matchers.matches(labels))
    }
}

impl Inhibitions {
    fn note(
        &mut self,
        key: GroupKey,
        fires: bool,
        fingerprint: Fingerprint,
        side: impl FnOnce(&mut Group) -> &mut BTreeSet<Fingerprint>,
    ) {
        let group = self.groups.entry(key.clone()).or_default();
        let before = group.stand_for_all();
        if fires {
            side(group).insert(fingerprint);
        } else {
            side(group).remove(&fingerprint);
        }
        let (changed, is_empty) = (before != group.stand_for_all(), group.is_empty());
        if is_empty {
            self.groups.remove(&key);
        }
        if changed {
            self.changed.insert(key);
        }
    }

    fn source_for(&self, key: &GroupKey, two_sided: bool) -> Option<Fingerprint> {
        let [other_side, any] = self.groups.get(key)?.stand_for_all();
        if two_sided { other_side } else { any }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::alert::Disposition;
    use crate::domain::event::{AlertBatch, Ends, Event, ReceivedAlert};
    use crate::domain::rules::{RuleRef, RuleSet};
    use std::sync::Arc;

    /// If each source that ends were compared with each target, this would not come to its end.
    #[test]
    fn many_sources_and_targets_are_no_burden() {
        const COUNT: u64 = 20_000;
        let mut state = State::default();
        let inhibition = Inhibition {
            rule: Arc::<RuleRef>::default(),
            source_matchers: "{side=source}".parse().unwrap(),
            target_matchers: "{side=target}".parse().unwrap(),
            equal: Vec::new(),
            topology: None,
            wait_seconds: 0,
        };
        let rules = RuleSet { inhibitions: vec![inhibition], ..RuleSet::default() };
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        drop(state.apply(start, &Event::RulesLoaded(Arc::new(rules))));
        let send = |state: &mut State, side: &str, numbers: std::ops::Range<u64>, ends: Ends| {
            let alert = |number: u64| ReceivedAlert {
                labels: Labels::from_pairs([("side", side), ("n", &number.to_string())]),
                annotations: Labels::default(),
                starts_at: Some(start),
                ends,
                generator_url: "".into(),
                identity: None,
            };
            let alerts = numbers.map(alert).collect();
            let batch = AlertBatch { source: "x".into(), alerts, rejected: vec![] };
            drop(state.apply(start, &Event::AlertsReceived(batch)));
        };
        let ends = Ends::At(later(start, 60));
        send(&mut state, "source", 0..COUNT, ends);
        send(&mut state, "target", 0..COUNT, Ends::WhenTold);
        let held = |state: &State| {
            let all = state.alerts.values();
            all.filter(|it| it.decision.disposition == Disposition::Inhibited).count() as u64
        };
        assert_eq!(held(&state), COUNT);
        // Half of the sources end one by one, the others fall silent together.
        for number in 0..COUNT / 2 {
            send(&mut state, "source", number..number + 1, Ends::At(start));
        }
        assert_eq!(held(&state), COUNT);
        drop(state.apply(later(start, 61), &Event::Woken));
        assert_eq!(held(&state), 0);
    }
}

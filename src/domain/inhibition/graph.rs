//! Inhibition by the graph: what is needed inhibits what needs it, over some steps.
//!
//! That in a cycle all inhibit all, and nobody is told, cannot be: an alert that matches both sides of a
//! rule is inhibited by another such one only from what comes strictly before it, see `Catalog::rank`.

use super::{Group, GroupKey, Inhibition};
use crate::domain::State;
use crate::domain::event::ReceivedAlert;
use crate::domain::item::{Catalog, ItemId, Topology};
use crate::domain::label::{Fingerprint, Labels};
use std::collections::BTreeSet;

/// What an alert is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    item: ItemId,
    /// The machine that it names beside that: of all on which the item runs it is about that one.
    host: Option<ItemId>,
}

impl Inhibition {
    /// Under which items a target is found.
    pub(super) fn target_items(&self, spot: Option<Spot>) -> impl Iterator<Item = Option<ItemId>> {
        let host = spot.and_then(|it| it.host).filter(|_| self.topology.is_some());
        self.source_items(spot).chain(host.map(Some))
    }

    /// Under which item a source is found; under none if the rule asks the graph and the alert is about
    /// nothing in it.
    pub(super) fn source_items(&self, spot: Option<Spot>) -> impl Iterator<Item = Option<ItemId>> {
        let item = match self.topology {
            None => Some(None),
            Some(_) => spot.map(|it| Some(it.item)),
        };
        item.into_iter()
    }
}

impl State {
    /// What labels are about, if a rule wants to know.
    pub(super) fn spot_of(&self, labels: &Labels) -> Option<Spot> {
        if !self.rules.inhibitions.iter().any(|it| it.topology.is_some()) {
            return None;
        }
        let bindings = self.rules.catalog.bind(labels);
        let primary = bindings.primary()?;
        let host = bindings.host().map(|it| it.item).filter(|it| *it != primary.item);
        Some(Spot { item: primary.item, host })
    }

    /// The nearest source of a group's rule that inhibits a target there, and the way to it.
    pub(super) fn source_on_graph(
        &self,
        topology: Topology,
        spot: Spot,
        key: GroupKey,
        two_sided: bool,
    ) -> Option<(Fingerprint, Vec<String>)> {
        let catalog = &*self.rules.catalog;
        let own_host = spot.host.map(|it| (it, 1));
        let from: Vec<(ItemId, u8)> = [(spot.item, 0)].into_iter().chain(own_host).collect();
        let walk = catalog.below(&from, topology);
        let mut key = key;
        for reached in walk.iter() {
            key.2 = Some(reached.item);
            let Some(group) = self.inhibitions.groups.get(&key) else { continue };
            let mut way = walk.way_to(reached);
            if on_another_host(catalog, spot, &way) {
                continue;
            }
            let comes_before = if way.first() == Some(&spot.item) {
                let rank = |it| catalog.rank(topology.relation, it);
                rank(reached.item) != rank(spot.item)
            } else {
                // A machine that the labels name, not the catalog: as long as it needs no service, what
                // runs on it cannot come before it.
                way.insert(0, spot.item);
                way.iter().skip(1).all(|it| catalog.dependencies(*it).is_empty())
            };
            let [other_side, any] = group.stand_for_all();
            let source = if two_sided && !comes_before { other_side } else { any };
            if let Some(source) = source {
                let names = way.iter().map(|it| catalog.name(*it).to_owned());
                return Some((source, names.collect()));
            }
        }
        None
    }

    /// The targets that the sources of a group can inhibit.
    pub(super) fn targets_of(&self, key: &GroupKey) -> BTreeSet<Fingerprint> {
        let groups = &self.inhibitions.groups;
        let targets = |key: &GroupKey| groups.get(key).map(|it: &Group| &it.targets);
        let topology = self.rules.inhibitions.get(key.0).and_then(|it| it.topology);
        let (Some(topology), Some(item)) = (topology, key.2) else {
            return targets(key).cloned().unwrap_or_default();
        };
        let mut key = key.clone();
        let mut all = BTreeSet::new();
        // All of them, however many: whoever is left out would stay held back for ever.
        let walk = self.rules.catalog.above(&[(item, 0)], topology, usize::MAX);
        for reached in walk.iter() {
            key.2 = Some(reached.item);
            all.extend(targets(&key).into_iter().flatten());
        }
        all
    }

    /// Where an alert stands among those of a delivery that can inhibit: what others need comes first.
    pub(in crate::domain) fn inhibition_rank(&self, received: &ReceivedAlert) -> u32 {
        let mut topologies = self.rules.inhibitions.iter().filter_map(|it| it.topology);
        let spot = self.spot_of(&received.labels);
        match (topologies.next(), spot) {
            (Some(it), Some(spot)) => self.rules.catalog.rank(it.relation, spot.item),
            _ => 0,
        }
    }
}

/// Whether a way leads over a machine on which the item runs as well, but not the alert.
fn on_another_host(catalog: &Catalog, spot: Spot, way: &[ItemId]) -> bool {
    match (spot.host, way) {
        (Some(own), [first, second, ..]) => {
            *first == spot.item && *second != own && catalog.is_host(*second)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::alert::Disposition;
    use crate::domain::event::{AlertBatch, Ends, Event};
    use crate::domain::item::{Item, ItemKind, Relation, RelationKind, TopologyRelation};
    use crate::domain::later;
    use crate::domain::rules::{RuleRef, RuleSet};
    use jiff::Timestamp;
    use std::sync::Arc;

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    /// Items `s0` to `sN`, related as told, under a rule that asks what depends on what.
    fn state(count: u32, depends_on: &[(u32, u32)], hops_max: u8) -> State {
        let items =
            (0..count).map(|it| Item::named(ItemKind::Component, &format!("s{it}"))).collect();
        let kind = RelationKind::DependsOn;
        let relations: Vec<Relation> = (depends_on.iter())
            .map(|(from, to)| Relation { from: ItemId(*from), kind, to: ItemId(*to) })
            .collect();
        let inhibition = Inhibition {
            rule: Arc::<RuleRef>::default(),
            source_matchers: "{severity=critical}".parse().unwrap(),
            target_matchers: "{severity=~\".+\"}".parse().unwrap(),
            equal: Vec::new(),
            topology: Some(Topology { relation: TopologyRelation::DependsOn, hops_max }),
            wait_seconds: 0,
        };
        let rules = RuleSet {
            catalog: Arc::new(Catalog::new(items, &relations)),
            inhibitions: vec![inhibition],
            ..RuleSet::default()
        };
        let mut state = State::default();
        drop(state.apply(now(), &Event::RulesLoaded(Arc::new(rules))));
        state
    }

    /// One delivery of alerts, critical ones and others, that fire or are over.
    fn send(state: &mut State, services: &[(u32, bool)], fires: bool) {
        let alert = |(service, is_critical): &(u32, bool)| ReceivedAlert {
            labels: Labels::from_pairs([
                ("service", &*format!("s{service}")),
                ("severity", if *is_critical { "critical" } else { "warning" }),
            ]),
            annotations: Labels::default(),
            starts_at: Some(now()),
            ends: if fires { Ends::WhenTold } else { Ends::At(now()) },
            generator_url: "".into(),
            identity: None,
        };
        let alerts = services.iter().map(alert).collect();
        let batch = AlertBatch { source: "x".into(), alerts, rejected: vec![] };
        drop(state.apply(later(now(), 1), &Event::AlertsReceived(batch)));
    }

    /// The ways by which alerts are held back, by service.
    fn held(state: &State) -> Vec<String> {
        let decisions = state.alerts.values().map(|it| &it.decision);
        let inhibited = decisions.filter(|it| it.disposition == Disposition::Inhibited);
        let mut ways: Vec<String> =
            inhibited.filter_map(|it| it.inhibited_by().map(|by| by.path.join(">"))).collect();
        ways.sort();
        ways
    }

    #[test]
    fn of_one_delivery_what_others_need_is_taken_first() {
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let mut state = state(3, &[(0, 1), (1, 2)], 2);
            send(&mut state, &order.map(|it| (it, true)), true);
            assert_eq!(held(&state), ["s0>s1", "s1>s2"], "{order:?}");
            assert_eq!(state.incidents.len(), 1);
        }
    }

    #[test]
    fn the_way_has_no_more_steps_than_the_rule_allows() {
        for (hops_max, expected) in [(0, vec!["s3"]), (2, vec!["s1>s2>s3", "s2>s3", "s3"])] {
            let mut state = state(4, &[(0, 1), (1, 2), (2, 3)], hops_max);
            send(&mut state, &[(3, true)], true);
            send(&mut state, &[0, 1, 2, 3].map(|it| (it, false)), true);
            assert_eq!(held(&state), expected);
        }
    }

    #[test]
    fn in_any_cycle_somebody_is_told() {
        for hops_max in [1, 3] {
            let mut state = state(4, &[(0, 1), (1, 2), (2, 0), (3, 0)], hops_max);
            send(&mut state, &[0, 1, 2, 3].map(|it| (it, true)), true);
            assert_eq!(held(&state), ["s3>s0"]);
        }
    }

    #[test]
    fn a_catalog_that_changes_is_asked_anew() {
        let mut state = state(2, &[(0, 1)], 1);
        send(&mut state, &[(1, true), (0, false)], true);
        assert_eq!(held(&state), ["s0>s1"]);
        let items = ["s0", "s1"].map(|it| Item::named(ItemKind::Component, it)).to_vec();
        let rules =
            RuleSet { catalog: Arc::new(Catalog::new(items, &[])), ..RuleSet::clone(&state.rules) };
        drop(state.apply(later(now(), 2), &Event::RulesLoaded(Arc::new(rules))));
        assert!(held(&state).is_empty());
    }

    /// If each source that comes or goes were compared with each target, this would not come to its end.
    #[test]
    fn many_that_need_one_thing_are_no_burden() {
        const COUNT: u32 = 3_000;
        let edges: Vec<(u32, u32)> = (1..COUNT).map(|it| (it, 0)).collect();
        let mut state = state(COUNT, &edges, 3);
        send(&mut state, &[(0, true)], true);
        let others: Vec<(u32, bool)> = (1..COUNT).map(|it| (it, false)).collect();
        send(&mut state, &others, true);
        assert_eq!(held(&state).len(), others.len());
        for _ in 0..20 {
            send(&mut state, &[(0, true)], false);
            send(&mut state, &[(0, true)], true);
        }
        send(&mut state, &[(0, true)], false);
        assert!(held(&state).is_empty());
    }
}

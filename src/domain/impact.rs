//! Impact: who else feels what is in trouble, on the graph above it, and how wide that makes an incident.

use super::correlation::Places;
use super::incident::{Incident, IncidentId};
use super::item::{Catalog, ItemId, ItemKind, Topology, TopologyRelation};
use super::{ObjectKey, State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// How far up the graph it is looked.
const ABOVE: Topology = Topology { relation: TopologyRelation::DependsOn, hops_max: 8 };
/// So many items in trouble are looked at, and so many with what is above them.
const TROUBLED_MAX: usize = 64;
const ABOVE_MAX: usize = 1024;
/// So many items, systems and owners are named.
const NAMED_MAX: usize = 20;
/// Of a tier up to this one is what a company lives on.
const TOP_TIER: u8 = 1;
/// So many things that may suffer make an incident wider than it looks.
const WIDE: usize = 5;

/// What may suffer from an incident: what needs the items that its alerts are about, and what these
/// are part of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Impacted {
    /// How many services, resources and APIs need what is in trouble. What is experimental or
    /// deprecated does not count.
    pub count: usize,
    /// The first of them: those that matter most, then the nearest.
    pub items: Vec<ImpactedItem>,
    /// The systems of what is in trouble and of what needs it.
    pub systems: BTreeSet<String>,
    /// Who looks after what needs it.
    pub owners: BTreeSet<String>,
    /// The highest tier of what is in trouble; 1 is the highest but 0.
    pub tier: Option<u8>,
    /// The highest tier of what needs it.
    pub tier_above: Option<u8>,
    /// Whether users depend on any of what is in trouble: not if all of it is experimental or
    /// deprecated.
    pub is_in_use: bool,
}

/// Something that needs what is in trouble.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImpactedItem {
    /// Its name.
    pub item: String,
    /// What it is.
    pub kind: ItemKind,
    /// How many steps away.
    pub hops: u8,
    /// The items on the way, from what is in trouble up to it.
    pub path: Vec<String>,
    /// Who looks after it.
    pub owner: Option<String>,
    /// How much it matters.
    pub tier: Option<u8>,
}

impl State {
    /// What suffers if what an alert is about is in trouble; `None` = it is about no known item.
    pub(super) fn impacted_by_alert(&self, places: &Places) -> Option<Box<Impacted>> {
        self.impacted_by(places.items())
    }

    /// The same of all that an incident's alerts are about.
    pub(super) fn impacted_by_incident(&self, id: IncidentId) -> Option<Box<Impacted>> {
        let about = self.sightings.of(id).filter(|(_, it)| it.is_primary);
        self.impacted_by(about.filter_map(|(place, _)| place.item()))
    }

    /// Looks anew who suffers from what is open, after the graph has changed.
    pub(super) fn note_new_graph(&mut self, now: Timestamp) {
        let active = self.incidents.values().filter(|it| it.state.is_active());
        let active: Vec<IncidentId> = active.map(|it| it.id).collect();
        for id in active {
            let impacted = self.impacted_by_incident(id);
            if self.incidents.get(&id).is_none_or(|it| it.impacted == impacted) {
                continue;
            }
            let Some(mut incident) = self.incidents.remove(&id) else { continue };
            incident.impacted = impacted;
            self.set_priority(now, &mut incident);
            self.fit_clocks(&mut incident);
            self.incidents.insert(id, incident);
            self.touch(now, ObjectKey::Incident(id));
        }
    }

    fn impacted_by(&self, items: impl Iterator<Item = ItemId>) -> Option<Box<Impacted>> {
        let catalog = &*self.rules.catalog;
        let troubled: Vec<(ItemId, u8)> = items.take(TROUBLED_MAX).map(|it| (it, 0)).collect();
        (!troubled.is_empty()).then(|| Box::new(Impacted::of(catalog, &troubled)))
    }
}

impl Impacted {
    fn of(catalog: &Catalog, troubled: &[(ItemId, u8)]) -> Self {
        let walk = catalog.above(troubled, ABOVE, ABOVE_MAX);
        let mut impacted = Self::default();
        let (mut systems, mut owners) = (BTreeSet::new(), BTreeSet::new());
        let mut above = Vec::new();
        for reached in walk.iter() {
            let Some(item) = catalog.item(reached.item) else { continue };
            if reached.hops == 0 {
                impacted.tier = highest(impacted.tier, item.tier);
                impacted.is_in_use |= item.is_in_use();
            } else if item.is_in_use() {
                impacted.count += 1;
                impacted.tier_above = highest(impacted.tier_above, item.tier);
                owners.extend(item.owner.as_deref());
                above.push((item.tier.unwrap_or(u8::MAX), reached));
            } else {
                continue;
            }
            systems.extend(catalog.wholes(reached.item));
        }
        above.sort_by_key(|(tier, it)| (*tier, it.hops));
        let name = |it: &ItemId| catalog.name(*it).to_owned();
        impacted.items = (above.iter().take(NAMED_MAX))
            .filter_map(|(_, reached)| {
                let item = catalog.item(reached.item)?;
                Some(ImpactedItem {
                    item: item.name.clone(),
                    kind: item.kind,
                    hops: reached.hops,
                    path: walk.way_to(reached).iter().map(name).collect(),
                    owner: item.owner.clone(),
                    tier: item.tier,
                })
            })
            .collect();
        let is_system = |it: &&ItemId| {
            catalog
                .item(**it)
                .is_some_and(|it| matches!(it.kind, ItemKind::System | ItemKind::Domain))
        };
        impacted.systems = systems.iter().filter(is_system).map(name).take(NAMED_MAX).collect();
        impacted.owners = owners.into_iter().take(NAMED_MAX).map(str::to_owned).collect();
        impacted
    }
}

/// The more important of two tiers.
fn highest(one: Option<u8>, other: Option<u8>) -> Option<u8> {
    one.into_iter().chain(other).min()
}

/// How wide an incident is where no rule says so, 1 (wide) to 3 (narrow), and why.
///
/// What is seen to be in trouble counts in full; what merely needs it raises the impact by a step at
/// most, for it need not suffer.
pub fn default_impact(incident: &Incident) -> (u8, String) {
    let services = incident.services.len();
    let seen = match services {
        0..=1 => 3,
        2..=4 => 2,
        _ => 1,
    };
    let seen = (seen, format!("services in trouble: {services}"));
    let Some(impacted) = &incident.impacted else { return seen };
    if !impacted.is_in_use {
        return (3, "all that is in trouble is experimental or deprecated".to_owned());
    }
    let is_top = |tier: Option<u8>| tier.is_some_and(|it| it <= TOP_TIER);
    let mut reasons = vec![seen];
    if let Some(tier) = impacted.tier.filter(|it| is_top(Some(*it))) {
        reasons.push((1, format!("something of tier {tier} is in trouble")));
    }
    if let Some(tier) = impacted.tier_above.filter(|it| is_top(Some(*it))) {
        reasons.push((2, format!("something of tier {tier} needs what is in trouble")));
    }
    if impacted.count >= WIDE {
        reasons.push((2, format!("{} items need what is in trouble", impacted.count)));
    }
    // Of several reasons for the same, the first.
    reasons.into_iter().min_by_key(|it| it.0).unwrap_or((3, String::new()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{AlertBatch, Ends, Event, ReceivedAlert};
    use crate::domain::item::{Item, Relation, RelationKind};
    use crate::domain::label::Labels;
    use crate::domain::rules::RuleSet;
    use jiff::Timestamp;
    use std::sync::Arc;

    fn item(name: &str, tier: Option<u8>, lifecycle: &str) -> Item {
        let kind = if name == "shop" { ItemKind::System } else { ItemKind::Component };
        let (owner, lifecycle) = (Some(format!("{name}-team")), Some(lifecycle.to_owned()));
        Item { owner, lifecycle, tier, ..Item::named(kind, name) }
    }

    /// A web site of a tier needs a cart, which needs a database, as does a trial.
    fn rules(web_tier: Option<u8>) -> Event {
        let items = vec![
            item("web", web_tier, "production"),
            item("cart", None, "production"),
            item("database", None, "production"),
            item("trial", Some(1), "experimental"),
            item("shop", None, "production"),
        ];
        let relation = |from, kind, to| Relation { from: ItemId(from), kind, to: ItemId(to) };
        let relations = [
            relation(0, RelationKind::DependsOn, 1),
            relation(1, RelationKind::DependsOn, 2),
            relation(3, RelationKind::DependsOn, 2),
            relation(2, RelationKind::DependsOn, 0),
            relation(1, RelationKind::PartOf, 4),
        ];
        let catalog = Arc::new(Catalog::new(items, &relations));
        Event::RulesLoaded(Arc::new(RuleSet { catalog, ..RuleSet::default() }))
    }

    fn state_with(service: &str, rules: &Event) -> State {
        let mut state = State::default();
        let now = Timestamp::UNIX_EPOCH;
        drop(state.apply(now, rules));
        let alert = ReceivedAlert {
            labels: Labels::from_pairs([("alertname", "Down"), ("service", service)]),
            annotations: Labels::default(),
            starts_at: None,
            ends: Ends::WhenTold,
            generator_url: "".into(),
            identity: None,
        };
        let batch = AlertBatch { source: "x".into(), alerts: vec![alert], rejected: vec![] };
        drop(state.apply(now, &Event::AlertsReceived(batch)));
        state
    }

    fn incident_on(service: &str, web_tier: Option<u8>) -> Incident {
        let state = state_with(service, &rules(web_tier));
        state.incidents.values().next().unwrap().clone()
    }

    #[test]
    fn who_suffers_follows_when_only_the_catalog_changes() {
        let no_catalog = Event::RulesLoaded(Arc::new(RuleSet::default()));
        for first in [no_catalog, rules(None)] {
            let mut state = state_with("database", &first);
            let now = Timestamp::from_second(60).unwrap();
            let turn = state.apply(now, &rules(Some(1)));
            let found = state.incidents.values().next().unwrap().clone();
            assert_eq!(found, {
                let fresh = incident_on("database", Some(1));
                Incident {
                    impacted: fresh.impacted,
                    impact: 2,
                    priority: fresh.priority,
                    ..found.clone()
                }
            });
            assert_eq!(found.impacted.as_ref().unwrap().tier_above, Some(1));
            drop(turn);
            let changes = state.take_changes();
            assert!(changes.objects.contains(&ObjectKey::Incident(found.id)), "it is stored");
        }
    }

    #[test]
    fn what_needs_what_is_in_trouble_is_told_with_its_way() {
        let incident = incident_on("database", Some(2));
        let impacted = incident.impacted.as_ref().unwrap();
        let named: Vec<String> =
            impacted.items.iter().map(|it| format!("{} {}", it.item, it.path.join(">"))).collect();
        assert_eq!(named, ["web database>cart>web", "cart database>cart"], "the trial is no user");
        assert_eq!(impacted.count, 2);
        assert_eq!(impacted.systems, BTreeSet::from(["shop".to_owned()]));
        assert!(impacted.owners.contains("web-team") && !impacted.owners.contains("trial-team"));
        let stored = serde_json::to_value(&incident).unwrap();
        assert_eq!(serde_json::from_value::<Incident>(stored).unwrap(), incident);
    }

    #[test]
    fn what_a_company_lives_on_makes_an_incident_wide() {
        for (service, web_tier, impact, why) in [
            ("database", None, 3, "services in trouble: 1"),
            ("database", Some(2), 3, "services in trouble: 1"),
            ("database", Some(1), 2, "something of tier 1 needs"),
            ("web", Some(0), 1, "something of tier 0 is in trouble"),
            ("trial", Some(1), 3, "experimental"),
            ("nowhere", Some(1), 3, "services in trouble: 1"),
        ] {
            let incident = incident_on(service, web_tier);
            let (default, told) = default_impact(&incident);
            assert_eq!((incident.impact, default), (impact, impact), "{service} {web_tier:?}");
            assert!(told.contains(why), "{told}");
        }
    }

    #[test]
    fn many_that_need_it_make_an_incident_wider() {
        let mut incident = incident_on("database", None);
        let impacted = incident.impacted.as_mut().unwrap();
        impacted.count = WIDE;
        assert_eq!(default_impact(&incident).0, 2);
        incident.services = (0..5).map(|it| it.to_string()).collect();
        assert_eq!(default_impact(&incident).0, 1);
    }
}

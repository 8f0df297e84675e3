//! Explicit rules: which of them takes an alert, and into which of its incidents, where the rule asks the
//! graph or sets a condition.

use super::{GroupKey, Place, requirement, takes};
use crate::domain::State;
use crate::domain::alert::{Grouping, Passed};
use crate::domain::incident::{Incident, IncidentId};
use crate::domain::item::{Catalog, ItemId, Topology};
use crate::domain::label::Fingerprint;
use crate::domain::rules::{Correlation, RuleSet};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// So many items around an alert's are looked at in each direction.
const AROUND_MAX: usize = 1024;
/// So many incidents of a group are looked at for an alert about nothing that is known.
const INCIDENTS_MAX: usize = 64;

/// An item around an alert's: so many steps away, over these items.
struct Around {
    hops: u8,
    way: Vec<ItemId>,
}

impl State {
    /// The rule that takes an alert: the first whose matchers hold, unless it has an incident that would
    /// take the alert and its condition does not hold of the two.
    pub(super) fn rule_for<'r>(
        &self,
        now: Timestamp,
        fingerprint: Fingerprint,
        rules: &'r RuleSet,
    ) -> Option<&'r Correlation> {
        self.look_through(now, fingerprint, rules).0
    }

    /// The first rule that let an alert pass, because its condition does not hold.
    pub(in crate::domain) fn passed_over(
        &self,
        now: Timestamp,
        fingerprint: Fingerprint,
    ) -> Option<Box<Passed>> {
        let rules = self.rules.clone();
        if rules.correlations.iter().all(|it| it.require.is_empty()) {
            return None;
        }
        self.look_through(now, fingerprint, &rules).1.map(Box::new)
    }

    fn look_through<'r>(
        &self,
        now: Timestamp,
        fingerprint: Fingerprint,
        rules: &'r RuleSet,
    ) -> (Option<&'r Correlation>, Option<Passed>) {
        let Some(alert) = self.alerts.get(&fingerprint) else { return (None, None) };
        let is_member = alert.incident.is_some_and(|it| self.incidents.contains_key(&it));
        let mut passed = None;
        for rule in rules.correlations.iter().filter(|it| it.matchers.matches(&alert.labels)) {
            if rule.require.is_empty() || is_member {
                return (Some(rule), passed);
            }
            let group = (rule.rule.name.clone(), self.group_of(fingerprint, rule));
            let (Some(incident), _) = self.open_incident_of(now, rule, &group, fingerprint) else {
                return (Some(rule), passed);
            };
            let Err(why) = self.meets(now, rule, incident, fingerprint) else {
                return (Some(rule), passed);
            };
            let rule = rule.rule.clone();
            passed = passed.or(Some(Passed { rule, incident, why }));
        }
        (None, passed)
    }

    /// Whether a rule's condition holds of an incident with an alert in it, or why not.
    fn meets(
        &self,
        now: Timestamp,
        rule: &Correlation,
        incident: IncidentId,
        fingerprint: Fingerprint,
    ) -> Result<(), String> {
        let gone = || "the incident is gone".to_owned();
        let incident = self.incidents.get(&incident).ok_or_else(gone)?;
        let alert = self.alerts.get(&fingerprint).ok_or_else(gone)?;
        let members = self.members.get(&incident.id).into_iter().flatten();
        let members = members.filter_map(|it| self.alerts.get(it)).map(Box::as_ref);
        let service = self.service_of(alert);
        match requirement::holds(&rule.require, now, (incident, service), (alert, members)) {
            Ok(true) => Ok(()),
            Ok(false) => Err("it does not hold".to_owned()),
            Err(error) => Err(error),
        }
    }

    /// The incident of a group that still takes alerts and was seen near an alert, or why there is none.
    pub(super) fn near_incident_of(
        &self,
        now: Timestamp,
        (rule, topology): (&Correlation, Topology),
        group: &GroupKey,
        fingerprint: Fingerprint,
    ) -> (Option<IncidentId>, Grouping) {
        let Some(holders) = self.groups.get(group) else { return (None, Grouping::First) };
        let items = self.items_of(fingerprint);
        let mut near: Option<(&Incident, Around)> = None;
        let mut take = |incident: &IncidentId, around: Around| {
            let Some(incident) = self.incidents.get(incident) else { return };
            let key = (around.hops, std::cmp::Reverse(incident.id));
            let is_better = near
                .as_ref()
                .is_none_or(|(known, it)| key < (it.hops, std::cmp::Reverse(known.id)));
            if is_better && takes(now, rule, incident).0 {
                near = Some((incident, around));
            }
        };
        if items.is_empty() {
            let about_nothing = |it: &&IncidentId| {
                !self.sightings.of(**it).any(|(place, _)| matches!(place, Place::Item(_)))
            };
            for incident in holders.values().rev().take(INCIDENTS_MAX).filter(about_nothing) {
                take(incident, Around { hops: 0, way: Vec::new() });
            }
        }
        for (item, around) in around(&self.rules.catalog, &items, topology) {
            for sighting in self.sightings.at(&Place::Item(item)) {
                if holders.values().any(|it| *it == sighting.incident) {
                    let Around { hops, way } = &around;
                    take(&sighting.incident, Around { hops: *hops, way: way.clone() });
                }
            }
        }
        let previous = holders.values().next_back().copied();
        let Some((incident, around)) = near else {
            return (None, previous.map_or(Grouping::First, |previous| Grouping::Far { previous }));
        };
        let (_, mut grouping) = takes(now, rule, incident);
        let path = around.way.iter().map(|it| self.rules.catalog.name(*it).to_owned()).collect();
        if let (Grouping::SameGroup { gap_seconds }, [_, ..]) = (&grouping, &*around.way) {
            grouping = Grouping::Near { gap_seconds: *gap_seconds, path };
        }
        (Some(incident.id), grouping)
    }

    /// The items that an alert is about first of all.
    fn items_of(&self, fingerprint: Fingerprint) -> Vec<(ItemId, u8)> {
        let Some(alert) = self.alerts.get(&fingerprint) else { return Vec::new() };
        self.places(&alert.labels).items().map(|it| (it, 0)).collect()
    }
}

/// The items around some, in both directions, with the shortest way to each.
fn around(
    catalog: &Catalog,
    items: &[(ItemId, u8)],
    topology: Topology,
) -> BTreeMap<ItemId, Around> {
    let mut all: BTreeMap<ItemId, Around> = BTreeMap::new();
    if items.is_empty() {
        return all;
    }
    let walks = [catalog.below(items, topology), catalog.above(items, topology, AROUND_MAX)];
    for walk in &walks {
        for reached in walk.iter() {
            if all.get(&reached.item).is_none_or(|it| reached.hops < it.hops) {
                let way = walk.way_to(reached);
                all.insert(reached.item, Around { hops: reached.hops, way });
            }
        }
    }
    all
}

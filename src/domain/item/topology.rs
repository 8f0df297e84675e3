//! What lies around an item: what it needs and what needs it, step by step, and what comes first.

use super::{Catalog, ItemId};
use serde::{Deserialize, Serialize};

/// So many items are looked at on the way down, so that a hub costs no more than another.
const BELOW_MAX: usize = 1024;

/// Which relation is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TopologyRelation {
    /// What something needs in order to work: what it depends on, the APIs that it calls with what
    /// answers behind them, and the hosts that it runs on.
    DependsOn,
    /// The hosts that it runs on.
    RunsOn,
    /// The component, system or domain that it belongs to.
    PartOf,
}

impl TopologyRelation {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::DependsOn, Self::RunsOn, Self::PartOf];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DependsOn => "depends_on",
            Self::RunsOn => "runs_on",
            Self::PartOf => "part_of",
        }
    }
}

/// How far a rule looks, and along what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// The relation.
    pub relation: TopologyRelation,
    /// So many steps at most; 0 = the item itself only.
    pub hops_max: u8,
}

/// An item that a walk came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The item.
    pub item: ItemId,
    /// After so many steps.
    pub hops: u8,
    /// From which place of the walk; its own for where the walk began.
    from: usize,
}

/// The items around some others, the nearest first.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    reached: Vec<Reached>,
}

impl Walk {
    /// The items with their distance, the nearest first, the beginnings included.
    pub fn iter(&self) -> impl Iterator<Item = &Reached> {
        self.reached.iter()
    }

    /// The way from where the walk began to an item that it came to, both included.
    pub fn way_to(&self, reached: &Reached) -> Vec<ItemId> {
        let mut way = vec![reached.item];
        let mut at = *reached;
        while let Some(before) = self.reached.get(at.from).filter(|it| it.hops < at.hops) {
            way.push(before.item);
            at = *before;
        }
        way.reverse();
        way
    }
}

impl Catalog {
    /// What some items need by a relation, over some steps. The beginnings stand with their distance,
    /// the nearest first; they are no more than a step apart.
    pub fn below(&self, from: &[(ItemId, u8)], topology: Topology) -> Walk {
        let none: &[ItemId] = &[];
        self.walk(from, (topology.hops_max, BELOW_MAX), |item| match topology.relation {
            TopologyRelation::DependsOn => [self.dependencies(item), self.hosts(item)],
            TopologyRelation::RunsOn => [self.hosts(item), none],
            TopologyRelation::PartOf => [self.wholes(item), none],
        })
    }

    /// What needs some items by a relation, over some steps, the nearest so many.
    pub fn above(&self, from: &[(ItemId, u8)], topology: Topology, items_max: usize) -> Walk {
        let none: &[ItemId] = &[];
        self.walk(from, (topology.hops_max, items_max), |item| match topology.relation {
            TopologyRelation::DependsOn => [self.dependents(item), self.residents(item)],
            TopologyRelation::RunsOn => [self.residents(item), none],
            TopologyRelation::PartOf => [self.parts(item), none],
        })
    }

    fn walk<'c>(
        &'c self,
        from: &[(ItemId, u8)],
        (hops_max, items_max): (u8, usize),
        next: impl Fn(ItemId) -> [&'c [ItemId]; 2],
    ) -> Walk {
        let mut seen = vec![0_u64; self.len().div_ceil(64)];
        let mut is_new = |id: ItemId| {
            let Some(word) = seen.get_mut(id.0 as usize / 64) else { return false };
            let bit = 1 << (id.0 % 64);
            let new = *word & bit == 0;
            *word |= bit;
            new
        };
        let mut reached: Vec<Reached> = Vec::new();
        for (item, hops) in from.iter().copied() {
            if hops <= hops_max && self.item(item).is_some() && is_new(item) {
                reached.push(Reached { item, hops, from: reached.len() });
            }
        }
        let mut place = 0;
        while let Some(here) = reached.get(place).copied() {
            if here.hops < hops_max {
                for item in next(here.item).into_iter().flatten() {
                    if reached.len() < items_max && is_new(*item) {
                        reached.push(Reached { item: *item, hops: here.hops + 1, from: place });
                    }
                }
            }
            place += 1;
        }
        Walk { reached }
    }

    /// Where an item stands among all by a relation: what others need comes before them, and items of
    /// one cycle stand at the same place.
    pub fn rank(&self, relation: TopologyRelation, item: ItemId) -> u32 {
        let ranks = match relation {
            TopologyRelation::DependsOn | TopologyRelation::RunsOn => &self.ranks.needs,
            TopologyRelation::PartOf => &self.ranks.wholes,
        };
        ranks.get(item.0 as usize).copied().unwrap_or(u32::MAX)
    }
}

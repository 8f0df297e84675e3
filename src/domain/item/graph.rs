//! Who needs whom, what runs where, and how far a fault has to travel.

use super::{Catalog, Item, ItemId, Relation, RelationKind};

/// So many items are looked at for one distance at most, so that a hub costs no more than another.
const VISITED_MAX: usize = 1024;
/// So many items behind one API count as what its callers need.
const PROVIDERS_MAX: usize = 16;

/// For each item some others.
#[derive(Clone, Debug, Default)]
pub(super) struct Neighbours {
    /// Where the neighbours of each item begin in `all`, and a last one where they end.
    starts: Vec<u32>,
    all: Vec<ItemId>,
}

impl Neighbours {
    fn new(count: usize, mut pairs: Vec<(ItemId, ItemId)>) -> Self {
        pairs.sort_unstable();
        pairs.dedup();
        let mut starts = Vec::with_capacity(count + 1);
        let mut next = 0;
        for id in 0..=count {
            let before = |(from, _): &(ItemId, ItemId)| (from.0 as usize) < id;
            while pairs.get(next).is_some_and(before) {
                next += 1;
            }
            starts.push(u32::try_from(next).unwrap_or(u32::MAX));
        }
        Self { starts, all: pairs.into_iter().map(|(_, to)| to).collect() }
    }

    pub(super) fn of(&self, id: ItemId) -> &[ItemId] {
        let place = id.0 as usize;
        let (Some(start), Some(end)) = (self.starts.get(place), self.starts.get(place + 1)) else {
            return &[];
        };
        self.all.get(*start as usize..*end as usize).unwrap_or_default()
    }
}

/// The relations, by what is asked of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Graph {
    pub(super) dependencies: Neighbours,
    pub(super) dependents: Neighbours,
    pub(super) hosts: Neighbours,
    pub(super) residents: Neighbours,
    pub(super) wholes: Neighbours,
    pub(super) parts: Neighbours,
}

impl Graph {
    pub(super) fn new(items: &[Item], relations: &[Relation]) -> Self {
        let is_host = |id: ItemId| items.get(id.0 as usize).is_some_and(Item::is_host);
        let of_kind = |kind| relations.iter().filter(move |it| it.kind == kind);
        let providers = Neighbours::new(
            items.len(),
            of_kind(RelationKind::ProvidesApi).map(|it| (it.to, it.from)).collect(),
        );
        // An API needs what answers behind it.
        let mut needs: Vec<(ItemId, ItemId)> =
            of_kind(RelationKind::ProvidesApi).map(|it| (it.to, it.from)).collect();
        let mut runs_on = Vec::new();
        let calls = of_kind(RelationKind::DependsOn).chain(of_kind(RelationKind::ConsumesApi));
        for Relation { from, to, .. } in calls.copied() {
            if is_host(to) {
                runs_on.push((from, to));
                continue;
            }
            needs.push((from, to));
            let behind = providers.of(to).iter().take(PROVIDERS_MAX);
            needs.extend(behind.map(|it| (from, *it)));
        }
        needs.retain(|(from, to)| from != to);
        let part_of: Vec<_> = of_kind(RelationKind::PartOf).map(|it| (it.from, it.to)).collect();
        let count = items.len();
        Self {
            dependents: Neighbours::new(count, turned(&needs)),
            dependencies: Neighbours::new(count, needs),
            residents: Neighbours::new(count, turned(&runs_on)),
            hosts: Neighbours::new(count, runs_on),
            parts: Neighbours::new(count, turned(&part_of)),
            wholes: Neighbours::new(count, part_of),
        }
    }
}

fn turned(pairs: &[(ItemId, ItemId)]) -> Vec<(ItemId, ItemId)> {
    pairs.iter().map(|(one, other)| (*other, *one)).collect()
}

/// Which ways a fault may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paths {
    /// From what is called to its callers.
    Calls,
    /// The same, and from a host to what runs on it.
    CallsAndHosts,
}

/// How a fault of one item reaches another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distance {
    /// How many steps it takes; 0 = the item itself.
    pub hops: u8,
    /// The items on the way, both ends included.
    pub path: Vec<ItemId>,
}

impl Catalog {
    /// The shortest way from a fault of `from` to an effect on `to`, or `None` where there is none of
    /// at most `hops_max` steps among the first thousand items that the fault reaches. It takes time
    /// with the number of these.
    pub fn distance(
        &self,
        from: ItemId,
        to: ItemId,
        hops_max: u8,
        paths: Paths,
    ) -> Option<Distance> {
        self.item(from)?;
        let mut seen = vec![0_u64; self.len().div_ceil(64)];
        let mut is_new = |id: ItemId| {
            let Some(word) = seen.get_mut(id.0 as usize / 64) else { return false };
            let bit = 1 << (id.0 % 64);
            let new = *word & bit == 0;
            *word |= bit;
            new
        };
        // What was reached, how far away, and from which place in this list.
        let mut reached: Vec<(ItemId, u8, usize)> = vec![(from, 0, 0)];
        is_new(from);
        let mut next = 0;
        while let Some((item, hops, _)) = reached.get(next).copied() {
            if item == to {
                return Some(Distance { hops, path: way_to(&reached, next) });
            }
            let effects = self.dependents(item).iter();
            let residents = match paths {
                Paths::Calls => &[],
                Paths::CallsAndHosts => self.residents(item),
            };
            if hops < hops_max {
                for effect in effects.chain(residents) {
                    if reached.len() < VISITED_MAX && is_new(*effect) {
                        reached.push((*effect, hops + 1, next));
                    }
                }
            }
            next += 1;
        }
        None
    }
}

/// Goes back from a place to the beginning.
fn way_to(reached: &[(ItemId, u8, usize)], mut place: usize) -> Vec<ItemId> {
    let mut path = Vec::new();
    while let Some((item, hops, before)) = reached.get(place) {
        path.push(*item);
        if *hops == 0 {
            break;
        }
        place = *before;
    }
    path.reverse();
    path
}

//! All items and their relations, with everything that is asked often worked out beforehand.

use super::binding::Matched;
use super::graph::Graph;
use super::names::Names;
use super::rank::Ranks;
use super::{Item, ItemId, ItemKind, Relation};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeSet;

/// The items that are known, sorted by name, and how they are related.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    items: Vec<Item>,
    relations: Vec<Relation>,
    pub(super) graph: Graph,
    pub(super) ranks: Ranks,
    pub(super) names: Names,
    pub(super) matched: Matched,
    /// The zones that items stand in.
    zones: BTreeSet<String>,
}

impl Catalog {
    /// Builds a catalog. The relations count the items in the order given; those that lead nowhere are
    /// left out, and those that stand twice count once.
    pub fn new(items: Vec<Item>, relations: &[Relation]) -> Self {
        let mut order: Vec<usize> = (0..items.len()).collect();
        let key = |number: &usize| {
            items.get(*number).map(|it| (it.name.to_ascii_lowercase(), it.kind, &it.namespace))
        };
        order.sort_by_cached_key(|it| {
            key(it).map(|(name, kind, space)| (name, kind, space.clone()))
        });
        let mut places = vec![ItemId(u32::MAX); items.len()];
        for (new, old) in order.iter().enumerate() {
            if let Some(place) = places.get_mut(*old) {
                *place = ItemId(u32::try_from(new).unwrap_or(u32::MAX));
            }
        }
        let place = |id: ItemId| places.get(id.0 as usize).copied();
        let moved = relations.iter().filter_map(|it| {
            Some(Relation { from: place(it.from)?, kind: it.kind, to: place(it.to)? })
        });
        let mut relations: Vec<Relation> = moved.collect();
        relations.sort_unstable();
        relations.dedup();
        let mut taken: Vec<Option<Item>> = items.into_iter().map(Some).collect();
        let sorted = order.iter().filter_map(|it| taken.get_mut(*it).and_then(Option::take));
        let items: Vec<Item> = sorted.collect();
        let graph = Graph::new(&items, &relations);
        let ranks = Ranks::new(items.len(), &graph);
        let names = Names::new(&items);
        let matched = Matched::new(&items);
        let zones = items.iter().filter_map(Item::zone).map(str::to_owned).collect();
        Self { items, relations, graph, ranks, names, matched, zones }
    }

    /// Whether no item is known.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// All items, sorted by name.
    pub fn items(&self) -> impl Iterator<Item = (ItemId, &Item)> {
        (0..).map(ItemId).zip(&self.items)
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// All relations as they were written, sorted.
    pub fn relations(&self) -> &[Relation] {
        &self.relations
    }

    /// The relations of one item to others, as they were written.
    pub fn relations_of(&self, id: ItemId) -> &[Relation] {
        let start = self.relations.partition_point(|it| it.from < id);
        let end = self.relations.partition_point(|it| it.from <= id);
        self.relations.get(start..end).unwrap_or_default()
    }

    /// An item by its number; `None` when the number is another catalog's.
    pub fn item(&self, id: ItemId) -> Option<&Item> {
        self.items.get(id.0 as usize)
    }

    /// An item's name; empty when the number is another catalog's.
    pub fn name(&self, id: ItemId) -> &str {
        self.item(id).map_or("", |it| &it.name)
    }

    /// Finds an item by its name, or by its reference such as `resource:default/cart`, in any case.
    /// Of several with one name it is the component, then the resource, the API, the system.
    pub fn find(&self, name: &str) -> Option<ItemId> {
        let (kind, rest) = match name.split_once(':') {
            Some((kind, rest)) => (Some(ItemKind::from_word(kind)?), rest),
            None => (None, name),
        };
        let (namespace, name) = match rest.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, rest),
        };
        let wanted = name.to_ascii_lowercase();
        let start = self.items.partition_point(|it| it.name.to_ascii_lowercase() < wanted);
        let same = self.items.iter().enumerate().skip(start);
        same.take_while(|(_, it)| it.name.eq_ignore_ascii_case(name))
            .find(|(_, it)| {
                kind.is_none_or(|kind| it.kind == kind)
                    && namespace.is_none_or(|space| it.namespace.eq_ignore_ascii_case(space))
            })
            .and_then(|(number, _)| u32::try_from(number).ok())
            .map(ItemId)
    }

    /// What an item needs in order to work, hosts left out. Whoever calls an API needs the API, and
    /// also those that answer behind it.
    pub fn dependencies(&self, id: ItemId) -> &[ItemId] {
        self.graph.dependencies.of(id)
    }

    /// What needs an item in order to work, where the item is no host: the callers.
    pub fn dependents(&self, id: ItemId) -> &[ItemId] {
        self.graph.dependents.of(id)
    }

    /// The hosts that an item runs on.
    pub fn hosts(&self, id: ItemId) -> &[ItemId] {
        self.graph.hosts.of(id)
    }

    /// What runs on a host.
    pub fn residents(&self, host: ItemId) -> &[ItemId] {
        self.graph.residents.of(host)
    }

    /// The components, systems and domains that an item belongs to.
    pub fn wholes(&self, id: ItemId) -> &[ItemId] {
        self.graph.wholes.of(id)
    }

    /// What belongs to an item.
    pub fn parts(&self, id: ItemId) -> &[ItemId] {
        self.graph.parts.of(id)
    }

    /// Where an item stands: the zone of its own labels, or of its hosts if they share one.
    pub fn zone(&self, id: ItemId) -> Option<&str> {
        let own = self.item(id).and_then(Item::zone);
        let mut zones = self.hosts(id).iter().map(|it| self.item(*it).and_then(Item::zone));
        own.or_else(|| {
            let first = zones.next()??;
            zones.all(|it| it == Some(first)).then_some(first)
        })
    }

    /// Whether some item stands in a zone of that name.
    pub fn has_zone(&self, name: &str) -> bool {
        self.zones.contains(name)
    }

    /// Whether an item is a machine.
    pub fn is_host(&self, id: ItemId) -> bool {
        self.item(id).is_some_and(Item::is_host)
    }
}

/// Two catalogs are equal when the same is written in them; the rest follows.
impl PartialEq for Catalog {
    fn eq(&self, other: &Self) -> bool {
        (&self.items, &self.relations) == (&other.items, &other.relations)
    }
}

/// What is stored of a catalog.
#[derive(Serialize)]
struct Written<'a> {
    items: &'a [Item],
    relations: &'a [Relation],
}

/// The same, as it is read.
#[derive(Deserialize)]
struct Read {
    items: Vec<Item>,
    relations: Vec<Relation>,
}

impl Serialize for Catalog {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Written { items: &self.items, relations: &self.relations }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Catalog {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Read { items, relations } = Read::deserialize(deserializer)?;
        Ok(Self::new(items, &relations))
    }
}

//! Where an alert speaks of, and by which ways a fault there and one elsewhere are related.

use crate::domain::State;
use crate::domain::item::{Bindings, Catalog, Guess, ItemId};
use crate::domain::label::Labels;
use serde::{Deserialize, Serialize};

/// A place that alerts speak of. Items are those of the catalog in force.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::domain) enum Place {
    /// A configuration item.
    Item(ItemId),
    /// A service that is in no catalog.
    Service(PlaceName),
    /// A machine that is in no catalog.
    Host(PlaceName),
    /// A zone, a data centre or a region.
    Zone(PlaceName),
    /// Wherever nothing is known of what depends on what.
    Anywhere,
}

/// The name of a place, compared by a hash of it first: places are looked up for each alert, and
/// most of their names begin alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::domain) struct PlaceName {
    hash: u64,
    name: Box<str>,
}

impl From<&str> for PlaceName {
    /// The hash is FNV-1a, over eight bytes at a time.
    fn from(name: &str) -> Self {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for part in name.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word.iter_mut().zip(part).for_each(|(to, from)| *to = *from);
            hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x0100_0000_01b3);
        }
        Self { hash, name: name.into() }
    }
}

impl PlaceName {
    /// The name itself.
    pub(in crate::domain) fn as_str(&self) -> &str {
        &self.name
    }
}

impl Place {
    /// The item that it is, if it is in the catalog.
    pub(in crate::domain) fn item(&self) -> Option<ItemId> {
        match self {
            Self::Item(it) => Some(*it),
            Self::Service(_) | Self::Host(_) | Self::Zone(_) | Self::Anywhere => None,
        }
    }

    /// What people call it.
    pub(in crate::domain) fn name<'a>(&'a self, catalog: &'a Catalog) -> &'a str {
        match self {
            Self::Item(it) => catalog.name(*it),
            Self::Service(it) | Self::Host(it) | Self::Zone(it) => &it.name,
            Self::Anywhere => "anywhere",
        }
    }

    /// Whether it is a machine.
    pub(in crate::domain) fn is_host(&self, catalog: &Catalog) -> bool {
        match self {
            Self::Item(it) => catalog.is_host(*it),
            Self::Host(_) => true,
            Self::Service(_) | Self::Zone(_) | Self::Anywhere => false,
        }
    }
}

/// The places that an alert speaks of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::domain) struct Places {
    /// What runs there.
    pub(in crate::domain) service: Option<Place>,
    /// The machine.
    pub(in crate::domain) host: Option<Place>,
    /// The zone that its labels name, or its machine's.
    pub(in crate::domain) zone: Option<Place>,
}

/// All that labels speak of. They are bound once for each decision, since that is most of its cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::domain) struct Spoken {
    /// Where.
    pub(in crate::domain) places: Places,
    /// What was called, if it is the caller who complains.
    pub(in crate::domain) called: Option<Place>,
    /// The service that the alert is counted for.
    pub(in crate::domain) service: Option<String>,
    /// Whether there is a catalog, and nothing of it is spoken of.
    pub(in crate::domain) is_unbound: bool,
    /// The zone that its labels name, or that was learned of its machine, where no catalog knows it.
    pub(in crate::domain) learned_zone: Option<Place>,
    /// Where else alerts that follow look for it, though nobody wrote that place down.
    pub(in crate::domain) loose: Option<Place>,
}

impl Spoken {
    /// Whether it speaks of no place at all.
    pub(in crate::domain) fn is_of_no_place(&self) -> bool {
        self.places.is_empty() && self.learned_zone.is_none()
    }
}

impl Places {
    /// Whether it speaks of no place that is known.
    pub(in crate::domain) fn is_empty(&self) -> bool {
        self.service.is_none() && self.host.is_none() && self.zone.is_none()
    }

    /// The items that the alert is about first of all.
    pub(in crate::domain) fn items(&self) -> impl Iterator<Item = ItemId> {
        self.seen().filter(|(_, is_primary)| *is_primary).filter_map(|(place, _)| place.item())
    }

    /// The places at which the alert is seen, and whether it is about that place first of all: a
    /// zone only where it tells of nothing smaller.
    pub(in crate::domain) fn seen(&self) -> impl Iterator<Item = (&Place, bool)> {
        let zone = self.zone.as_ref().filter(|_| self.service.is_none() && self.host.is_none());
        let host = self.host.iter().map(|it| (it, self.service.is_none()));
        self.service.iter().map(|it| (it, true)).chain(host).chain(zone.map(|it| (it, true)))
    }
}

/// The labels that name a zone.
const ZONE_LABELS: [&str; 5] =
    ["zone", "availability_zone", "topology_kubernetes_io_zone", "datacenter", "dc"];

impl State {
    /// All that labels speak of.
    pub(in crate::domain) fn spoken(&self, labels: &Labels) -> Spoken {
        let catalog = &*self.rules.catalog;
        let bindings = catalog.bind(labels);
        let places = places_of(catalog, &bindings, labels);
        let mut spoken = Spoken {
            called: bindings.called().map(|it| Place::Item(it.item)),
            service: catalog.service_bound(&bindings, labels).map(str::to_owned),
            is_unbound: !catalog.is_empty() && bindings.is_empty(),
            learned_zone: None,
            loose: None,
            places,
        };
        if bindings.is_empty() && spoken.places.zone.is_none() {
            self.speak_without_catalog(labels, &mut spoken);
        }
        spoken
    }

    /// Adds what labels speak of that is in no catalog. What is loose follows from the labels alone, since
    /// what was learned meanwhile must not change where an alert was seen.
    fn speak_without_catalog(&self, labels: &Labels, spoken: &mut Spoken) {
        let Places { service, host, .. } = &spoken.places;
        let told = told_zone(labels).map(|it| Place::Zone(it.into()));
        let learned = host.as_ref().and_then(|it| self.learned.zone(it));
        let plausible =
            told.clone().filter(|it| self.learned.has_zone(it.name(&self.rules.catalog)));
        spoken.learned_zone = plausible.or_else(|| learned.map(|it| Place::Zone(it.into())));
        let is_of_zone = service.is_none() && host.is_none();
        spoken.loose = if is_of_zone { told } else { Some(Place::Anywhere) };
    }

    /// Where labels speak of.
    pub(in crate::domain) fn places(&self, labels: &Labels) -> Places {
        let catalog = &*self.rules.catalog;
        places_of(catalog, &catalog.bind(labels), labels)
    }
}

fn places_of(catalog: &Catalog, bindings: &Bindings<'_>, labels: &Labels) -> Places {
    let item = |it: ItemId| Place::Item(it);
    let service = bindings.service().map(|it| item(it.item));
    let host = bindings.host().map(|it| item(it.item));
    // Nothing is guessed where the machine is known.
    let guess = if host.is_none() { Bindings::guess(labels) } else { Guess::default() };
    // An alert about a machine that is known is not about the job that watches machines.
    let service = match (&service, &host) {
        (None, None) => guess.service.map(|it| Place::Service(it.into())),
        _ => service,
    };
    let host = host.or_else(|| guess.host.map(|it| Place::Host(it.into())));
    // Whole organisations put one `dc` on all that they have; only the catalog knows what is a zone.
    let zone = told_zone(labels).filter(|it| catalog.has_zone(it)).or_else(|| match &host {
        Some(Place::Item(it)) => catalog.zone(*it),
        _ => None,
    });
    Places { service, host, zone: zone.map(|it| Place::Zone(it.into())) }
}

/// The zone that labels name.
pub(super) fn told_zone(labels: &Labels) -> Option<&str> {
    ZONE_LABELS.iter().find_map(|it| labels.get(it))
}

/// How a new alert's place is related to one where an incident was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// It is the same item.
    SameItem,
    /// It is the same machine.
    SameHost,
    /// It is in the zone that is in trouble.
    SameZone,
    /// It depends on the other: effects travel from the called to the caller.
    DependsOn,
    /// It depends on something that depends on the other.
    DependsOnFarther,
    /// It depends on something that runs on the other.
    DependsOnResident,
    /// The other depends on it: a cause that is told of late.
    NeededBy,
    /// The same part of the same item is in trouble already, and still is.
    SamePart,
    /// It often was in trouble after the other: learned, where there is no catalog.
    FiredAfter,
    /// It came right after, and nobody wrote down what depends on what.
    SameMoment,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::SameItem,
        Self::SameHost,
        Self::SameZone,
        Self::DependsOn,
        Self::DependsOnFarther,
        Self::DependsOnResident,
        Self::NeededBy,
        Self::SamePart,
        Self::FiredAfter,
        Self::SameMoment,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SameItem => "same_item",
            Self::SameHost => "same_host",
            Self::SameZone => "same_zone",
            Self::DependsOn => "depends_on",
            Self::DependsOnFarther => "depends_on_farther",
            Self::DependsOnResident => "depends_on_resident",
            Self::NeededBy => "needed_by",
            Self::SamePart => "same_part",
            Self::FiredAfter => "fired_after",
            Self::SameMoment => "same_moment",
        }
    }

    /// What it counts at once, of 1000: how sure it is that two alerts that are so related and come at
    /// the same moment have one cause. The order is what matters; `docs/correlation.md` shows what the
    /// numbers do.
    pub(in crate::domain) fn points(self) -> u64 {
        match self {
            Self::SameItem => 1000,
            Self::SameHost => 900,
            Self::SameZone => 800,
            Self::DependsOn | Self::SamePart => 700,
            Self::FiredAfter => 600,
            Self::NeededBy | Self::SameMoment => 500,
            Self::DependsOnFarther => 450,
            Self::DependsOnResident => 400,
        }
    }

    /// After how many seconds it counts half.
    pub(in crate::domain) fn half_life_seconds(self) -> u64 {
        match self {
            Self::SameItem
            | Self::SameHost
            | Self::SameZone
            | Self::DependsOn
            | Self::FiredAfter => 150,
            Self::DependsOnFarther | Self::DependsOnResident => 225,
            Self::NeededBy => 75,
            Self::SameMoment => 60,
            Self::SamePart => 3600,
        }
    }

    /// Whether only alerts about that place itself count, not those that merely name it.
    pub(in crate::domain) fn needs_primary(self) -> bool {
        match self {
            Self::SameZone | Self::DependsOnResident => true,
            Self::SameItem
            | Self::SameHost
            | Self::DependsOn
            | Self::DependsOnFarther
            | Self::NeededBy
            | Self::SamePart
            | Self::FiredAfter
            | Self::SameMoment => false,
        }
    }
}

/// So many items are looked at in each direction, so that no hub makes a decision slow.
const NEIGHBOURS_MAX: usize = 64;

/// The places from which a fault may have come to some others, and the way that it would have taken.
pub(in crate::domain) fn ways_to(catalog: &Catalog, places: &Places) -> Vec<(Way, Place)> {
    let mut ways = Vec::with_capacity(16);
    if let Some(service) = &places.service {
        ways.push((Way::SameItem, service.clone()));
        if let Place::Item(item) = service {
            add_neighbours(&mut ways, catalog, *item);
        }
    }
    if let Some(host) = &places.host {
        ways.push((Way::SameHost, host.clone()));
    }
    if let Some(zone) = &places.zone {
        ways.push((Way::SameZone, zone.clone()));
    }
    ways
}

impl State {
    /// The places from which a fault may have come to what an alert speaks of, as far as a catalog or
    /// zones that were learned tell.
    pub(super) fn ways(&self, spoken: &Spoken) -> Vec<(Way, Place)> {
        let mut ways = ways_to(&self.rules.catalog, &spoken.places);
        ways.extend(spoken.learned_zone.iter().map(|it| (Way::SameZone, it.clone())));
        ways
    }

    /// Where else to look, where nobody wrote down what depends on what.
    pub(super) fn ways_without_catalog(&self, spoken: &Spoken) -> Vec<(Way, Place)> {
        if spoken.loose != Some(Place::Anywhere) {
            return Vec::new();
        }
        let service = spoken.places.service.as_ref();
        let leaders = service.into_iter().flat_map(|it| self.learned.leaders(it));
        leaders.chain([(Way::SameMoment, Place::Anywhere)]).collect()
    }
}

fn add_neighbours(ways: &mut Vec<(Way, Place)>, catalog: &Catalog, item: ItemId) {
    let needs = |it: ItemId| catalog.dependencies(it);
    let (near, far) = around(item, &needs);
    for it in &near {
        ways.push((Way::DependsOn, Place::Item(*it)));
    }
    ways.extend(far.into_iter().map(|it| (Way::DependsOnFarther, Place::Item(it))));
    let below = near.iter().flat_map(|it| catalog.hosts(*it)).take(NEIGHBOURS_MAX);
    ways.extend(below.map(|it| (Way::DependsOnResident, Place::Item(*it))));
    let needed_by = |it: ItemId| catalog.dependents(it);
    let (near, far) = around(item, &needed_by);
    ways.extend(near.into_iter().chain(far).map(|it| (Way::NeededBy, Place::Item(it))));
}

/// The items one step and two steps away.
fn around<'c>(item: ItemId, next: &dyn Fn(ItemId) -> &'c [ItemId]) -> (Vec<ItemId>, Vec<ItemId>) {
    let mut near: Vec<ItemId> =
        next(item).iter().copied().filter(|it| *it != item).take(NEIGHBOURS_MAX).collect();
    near.sort_unstable();
    near.dedup();
    let mut far: Vec<ItemId> = near
        .iter()
        .flat_map(|it| next(*it))
        .copied()
        .filter(|it| *it != item && near.binary_search(it).is_err())
        .take(NEIGHBOURS_MAX)
        .collect();
    far.sort_unstable();
    far.dedup();
    (near, far)
}

//! Configuration items: the services, hosts and other things that alerts speak of, and how they depend
//! on each other.
//!
//! ```text
//!   Backstage documents ─► config ─► Catalog ─┬─ graph: who calls whom, what runs where, how far
//!                                             └─ binding: labels ─► the items that they speak of
//! ```
//!
//! A dependency is written from the one that needs to the one that is needed. A fault goes the other
//! way: from what is depended upon to what depends on it.

mod binding;
mod catalog;
mod graph;
mod meaning;
mod names;
mod rank;
mod service;
mod shape;
#[cfg(test)]
mod tests;
mod topology;

pub use binding::{Binding, Bindings, Guess, How};
pub use catalog::Catalog;
pub use graph::{Distance, Paths};
pub use service::{UnboundAlerts, UnboundName};
pub use topology::{Reached, Topology, TopologyRelation, Walk};

use super::label::Labels;
use super::matcher::Matchers;
use super::rules::RuleRef;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// An item's place in its catalog. Another catalog gives other numbers: keep names, not these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ItemId(pub u32);

/// What an item is; the words are Backstage's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemKind {
    /// Software: a service, a website, a library.
    Component,
    /// What software needs: a database, a queue, a host.
    Resource,
    /// A boundary between components.
    Api,
    /// Components and resources that belong together.
    System,
    /// Systems that belong together.
    Domain,
}

impl ItemKind {
    /// All kinds, in the order in which an alert is more likely to speak of one.
    pub const ALL: [Self; 5] =
        [Self::Component, Self::Resource, Self::Api, Self::System, Self::Domain];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Component => "component",
            Self::Resource => "resource",
            Self::Api => "api",
            Self::System => "system",
            Self::Domain => "domain",
        }
    }

    /// Reads the word in any case.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str().eq_ignore_ascii_case(word))
    }
}

/// A thing that alerts can speak of. Its identity is kind, namespace and name, in any case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: ItemKind,
    /// What it is, more exactly, in its owner's words: `service`, `database`, `host`; may be empty.
    #[serde(rename = "type", default, skip_serializing_if = "String::is_empty")]
    pub item_type: String,
    /// The space that its name is unique in, `default` by default.
    pub namespace: String,
    /// What people call it, where that is not its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Who looks after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The system that it is part of, as written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// `production`, `experimental`, `deprecated` or another word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<String>,
    /// How much it matters, 0 or 1 = the most; `None` = nobody says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<u8>,
    /// Its own labels; none of an alert.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// An alert that fulfils one of these speaks of the item, whatever else its labels say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matchers: Vec<Matchers>,
    /// Where it is written.
    pub rule: Arc<RuleRef>,
    /// Nobody wrote it down: it was learned from alerts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub learned: bool,
}

impl Item {
    /// Whether it is a machine that others run on: a resource whose type names one.
    pub fn is_host(&self) -> bool {
        self.kind == ItemKind::Resource && names_a_machine(&self.item_type)
    }

    /// Whether users depend on it yet, and still: it is neither experimental nor deprecated.
    pub fn is_in_use(&self) -> bool {
        let is =
            |word: &str| self.lifecycle.as_deref().is_some_and(|it| it.eq_ignore_ascii_case(word));
        !is("experimental") && !is("deprecated")
    }

    /// The zone that its labels name, or else the region.
    pub fn zone(&self) -> Option<&str> {
        ZONE_LABELS.iter().find_map(|it| self.labels.get(it))
    }
}

/// Prints Backstage's reference: `component:default/cart`.
impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.kind.as_str(), self.namespace, self.name)
    }
}

/// The labels that tell where something stands, the narrowest first.
const ZONE_LABELS: [&str; 9] = [
    "zone",
    "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/zone",
    "availability-zone",
    "availability_zone",
    "datacenter",
    "region",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/region",
];

/// Whether a resource's type is a word for a machine: `host`, `k8s-node`, `virtual-machine`.
fn names_a_machine(item_type: &str) -> bool {
    let lower = item_type.to_ascii_lowercase();
    let last = lower.rsplit(['-', '_', ' ', '.']).next().unwrap_or_default();
    matches!(last, "host" | "node" | "vm" | "machine" | "hypervisor" | "droplet" | "metal")
        || matches!(lower.as_str(), "server" | "ec2" | "ec2-instance" | "compute-instance")
        || matches!(lower.as_str(), "baremetal" | "physical-server" | "virtual-server")
}

/// How one item is related to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelationKind {
    /// It needs the other to work, or runs on it where the other is a host.
    DependsOn,
    /// It is what answers behind an API.
    ProvidesApi,
    /// It calls an API.
    ConsumesApi,
    /// It belongs to a component, system or domain.
    PartOf,
}

impl RelationKind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DependsOn => "depends_on",
            Self::ProvidesApi => "provides_api",
            Self::ConsumesApi => "consumes_api",
            Self::PartOf => "part_of",
        }
    }
}

/// A relation between two items of a catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Relation {
    /// Whose relation it is.
    pub from: ItemId,
    /// Which.
    pub kind: RelationKind,
    /// To whom.
    pub to: ItemId,
}

impl Item {
    /// One of a kind that tells nothing but its name.
    pub(in crate::domain) fn named(kind: ItemKind, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            item_type: String::new(),
            namespace: "default".to_owned(),
            title: None,
            owner: None,
            system: None,
            lifecycle: None,
            tier: None,
            labels: Labels::default(),
            matchers: Vec::new(),
            rule: Arc::default(),
            learned: false,
        }
    }
}

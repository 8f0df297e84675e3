//! Binding: which items an alert speaks of, told from its labels as untidy as they come.

use super::meaning::{Meaning, is_called, meaning_of};
use super::names::{Name, is_separator, is_word};
use super::shape::{
    Clarity, is_added, is_domain_or_port, is_replica_suffix, is_watcher, subject, without_domain,
    without_port, without_replica,
};
use super::{Catalog, Item, ItemId};
use crate::domain::label::Labels;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// So many items are told of an alert at most.
const BINDINGS_MAX: usize = 8;
/// So many bytes of a value are searched for names.
const SEARCHED_BYTES_MAX: usize = 512;

/// By what an alert is known to speak of an item, the surest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// The item's own matchers say so.
    Annotation,
    /// A label's value is its name.
    Exact,
    /// A label names a replica of it: a pod.
    Pod,
    /// A label's value is an address or a full host name that begins with its name.
    Host,
    /// Its name stands within a label's value.
    Inside,
}

impl How {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Annotation => "annotation",
            Self::Exact => "exact",
            Self::Pod => "pod",
            Self::Host => "host",
            Self::Inside => "inside",
        }
    }
}

/// An item that an alert speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding<'l> {
    /// The item.
    pub item: ItemId,
    /// Whether it is a machine.
    pub is_host: bool,
    /// The label that told it.
    pub label: &'l str,
    /// How it told it.
    pub how: How,
    /// How near to the front it belongs; the lowest is the first.
    rank: u8,
}

/// The items that an alert speaks of, the one that it is about first: a service before the host
/// that it runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bindings<'l> {
    found: Vec<Binding<'l>>,
}

impl<'l> Bindings<'l> {
    /// Whether the alert speaks of nothing that is known.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The items in their order, eight at most.
    pub fn iter(&self) -> impl Iterator<Item = &Binding<'l>> {
        self.found.iter()
    }

    /// What the alert is about.
    pub fn primary(&self) -> Option<&Binding<'l>> {
        self.found.first()
    }

    /// The first that is no machine.
    pub fn service(&self) -> Option<&Binding<'l>> {
        self.found.iter().find(|it| !it.is_host)
    }

    /// What the service calls, where a label names it as such: it is the caller who complains then.
    pub fn called(&self) -> Option<&Binding<'l>> {
        let caller = self.service().map(|it| it.item);
        let mut others = self.found.iter().filter(|it| !it.is_host && Some(it.item) != caller);
        others.find(|it| is_called(it.label))
    }

    /// The first that is a machine.
    pub fn host(&self) -> Option<&Binding<'l>> {
        self.found.iter().find(|it| it.is_host)
    }

    /// What labels speak of where there is no catalog to ask.
    pub fn guess(labels: &'l Labels) -> Guess<'l> {
        let (mut service, mut host) = (None, None);
        let better = |known: Option<(u8, &str)>, rank| known.is_none_or(|it| rank < it.0);
        for (label, value) in labels.iter() {
            match meaning_of(label) {
                Meaning::Service(rank) => {
                    let name = without_port(subject(value));
                    let name = if name.contains(".svc") { without_domain(name) } else { name };
                    let rank = if is_watcher(name) { WATCHER } else { rank };
                    if better(service, rank) {
                        service = Some((rank, name));
                    }
                }
                Meaning::Pod(rank) if better(service, rank) => {
                    service = Some((rank, without_replica(subject(value))));
                }
                Meaning::Host(rank) if better(host, rank) => {
                    host = Some((rank, without_domain(without_port(subject(value)))));
                }
                Meaning::Pod(_)
                | Meaning::Host(_)
                | Meaning::Party
                | Meaning::Whole
                | Meaning::Other
                | Meaning::Text
                | Meaning::Nothing => {}
            }
        }
        let name = |it: Option<(u8, &'l str)>| it.map(|it| it.1).filter(|it| !it.is_empty());
        Guess { service: name(service), host: name(host) }
    }
}

/// What labels speak of, as far as they tell by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guess<'l> {
    /// The service or what it runs as.
    pub service: Option<&'l str>,
    /// The machine, without port and domain.
    pub host: Option<&'l str>,
}

impl<'l> Guess<'l> {
    /// What the alert is about: the service, or else the machine.
    pub fn primary(&self) -> Option<&'l str> {
        self.service.or(self.host)
    }
}

/// The matchers of all items, by one label and value that each needs.
#[derive(Clone, Debug, Default)]
pub(super) struct Matched {
    /// Item and place among its matchers, by the hash of the label and its value.
    by_label: BTreeMap<u64, Vec<(ItemId, usize)>>,
    /// Those that need no certain value; they are tried one by one.
    others: Vec<(ItemId, usize)>,
}

impl Matched {
    pub(super) fn new(items: &[Item]) -> Self {
        let mut matched = Self::default();
        for (item, id) in items.iter().zip((0..).map(ItemId)) {
            for (place, matchers) in item.matchers.iter().enumerate() {
                let hash = matchers.0.iter().find_map(|it| {
                    let (name, value) = it.equality()?;
                    Some(label_hash(name, value))
                });
                match hash {
                    Some(it) => matched.by_label.entry(it).or_default().push((id, place)),
                    None => matched.others.push((id, place)),
                }
            }
        }
        matched
    }

    fn is_empty(&self) -> bool {
        self.by_label.is_empty() && self.others.is_empty()
    }
}

fn label_hash(name: &str, value: &str) -> u64 {
    Labels::from_pairs([(name, value)]).fingerprint().0
}

impl Catalog {
    /// The items that labels speak of. It takes time with the length of the labels alone, not with
    /// the number of items; but matchers without any `=` are tried one by one.
    pub fn bind<'l>(&self, labels: &'l Labels) -> Bindings<'l> {
        if self.is_empty() {
            return Bindings::default();
        }
        let mut search = Search {
            catalog: self,
            labels,
            namespace: labels.get("exported_namespace").or_else(|| labels.get("namespace")),
            is_relayed: labels.iter().any(|(label, _)| label.starts_with("exported_")),
            found: Vec::with_capacity(BINDINGS_MAX),
        };
        search.ask_matchers();
        for (label, value) in labels.iter() {
            search.look_at(label, value);
        }
        search.look_at_what_is_left();
        let mut found = search.found;
        found.sort_by_key(|it| (it.rank, it.how));
        found.truncate(BINDINGS_MAX);
        Bindings { found }
    }
}

/// Whether a value is running text, in which a word may mean anything.
fn is_text(value: &str) -> bool {
    value.contains(char::is_whitespace)
}

/// Where bindings stand: added to the rank of a label, the lowest is the first.
const CLEAR: u8 = 10;
const PARTY: u8 = 20;
const ON_HOST: u8 = 22;
const UNKNOWN: u8 = 26;
const WITHIN: u8 = 30;
const MACHINE: u8 = 70;
const TEXT: u8 = 80;
const WATCHER: u8 = 90;
const WHOLE: u8 = 100;

/// A search for the items that labels speak of.
struct Search<'c, 'l> {
    catalog: &'c Catalog,
    labels: &'l Labels,
    /// The namespace that the alert tells, to choose among items of one name.
    namespace: Option<&'l str>,
    /// Some labels tell of what was watched (`exported_pod`), others of what watched it (`pod`).
    is_relayed: bool,
    found: Vec<Binding<'l>>,
}

impl<'l> Search<'_, 'l> {
    fn ask_matchers(&mut self) {
        let matched = &self.catalog.matched;
        if matched.is_empty() {
            return;
        }
        let by_label = self
            .labels
            .iter()
            .filter_map(|(name, value)| matched.by_label.get(&label_hash(name, value)));
        let hits = by_label.flatten().chain(&matched.others).copied();
        let hits: Vec<(ItemId, usize)> = hits.collect();
        for (id, place) in hits {
            let all = self.catalog.item(id).and_then(|it| it.matchers.get(place));
            let Some(all) = all.filter(|it| it.matches(self.labels)) else { continue };
            let told = all.0.iter().find_map(|it| self.labels.iter().find(|l| l.0 == it.name()));
            let label = told.map_or("", |(label, _)| label);
            self.add(id, label, How::Annotation, 0);
        }
    }

    fn look_at(&mut self, label: &'l str, value: &'l str) {
        let meaning = meaning_of(label);
        let is_named = matches!(meaning, Meaning::Service(_) | Meaning::Pod(_) | Meaning::Host(_));
        let may_be = matches!(meaning, Meaning::Party | Meaning::Other) && !is_text(value);
        if (is_named || may_be) && !self.look_at_name(label, value, meaning) {
            self.search_within(label, value, meaning);
        }
    }

    /// Only where nothing else tells anything: running text, namespaces and systems.
    fn look_at_what_is_left(&mut self) {
        if !self.found.is_empty() {
            return;
        }
        for (label, value) in self.labels.iter() {
            let meaning = meaning_of(label);
            let may_be = matches!(meaning, Meaning::Party | Meaning::Other) && is_text(value);
            if may_be || meaning == Meaning::Text {
                self.search_within(label, value, Meaning::Text);
            }
        }
        for (label, value) in self.labels.iter() {
            if self.found.is_empty() && meaning_of(label) == Meaning::Whole {
                self.look_at_name(label, value, Meaning::Whole);
            }
        }
    }

    /// Takes the beginning of a value as a name, the longest that can be one.
    fn look_at_name(&mut self, label: &'l str, value: &'l str, meaning: Meaning) -> bool {
        let named = subject(value);
        let known = &self.catalog.names;
        let mut best = None;
        known.beginnings(named, |end, name| {
            let rest = named.get(end..).unwrap_or_default();
            best = self.fit(&name, rest, meaning).or(best);
        });
        let says_service =
            matches!(meaning, Meaning::Service(_) | Meaning::Pod(_) | Meaning::Party);
        if best.is_none() && says_service {
            let name = known.without_separators(without_port(named));
            best = name.and_then(|it| self.fit(&it, "", meaning)).or_else(|| self.numbered(named));
        }
        let Some((id, how)) = best else { return false };
        // Where nobody says that the label names an item, its name alone proves less.
        let is_unsure = matches!(meaning, Meaning::Party | Meaning::Other);
        let how = if is_unsure && how == How::Exact { How::Inside } else { how };
        self.add(id, label, how, self.rank(id, label, how, meaning));
        true
    }

    /// The item of a copy whose number is a part of the last word: `cart2-0` of `cart`.
    fn numbered(&self, named: &str) -> Option<(ItemId, How)> {
        let copy = without_replica(without_port(named));
        let word = copy.trim_end_matches(|it: char| it.is_ascii_digit());
        let mut best = None;
        self.catalog.names.beginnings(word, |end, name| {
            let is_whole = end == word.len() && word.len() < copy.len();
            if is_whole && !name.is_short {
                best = self.choose(name.bearers, Meaning::Party);
            }
        });
        best.filter(|it| !self.catalog.names.traits(*it).is_host).map(|it| (it, How::Inside))
    }

    /// The item of a name, if what follows the name still lets it be its own.
    fn fit(&self, name: &Name<'_>, rest: &str, meaning: Meaning) -> Option<(ItemId, How)> {
        let id = self.choose(name.bearers, meaning)?;
        let told =
            |how| Some((id, if name.is_short && how == How::Exact { How::Inside } else { how }));
        let is_common = name.clarity == Clarity::Common;
        if rest.is_empty() {
            let is_chance = is_common && (meaning == Meaning::Other || name.is_short);
            return if is_chance { None } else { told(How::Exact) };
        }
        if is_domain_or_port(rest) {
            return told(How::Host);
        }
        let goes_on = rest.bytes().next().is_some_and(is_separator);
        if !goes_on || meaning == Meaning::Whole || self.catalog.names.traits(id).is_host {
            return None;
        }
        if is_replica_suffix(rest) {
            return told(How::Pod);
        }
        let begins_with_it = matches!(meaning, Meaning::Pod(_) | Meaning::Party);
        let is_same = match name.clarity {
            Clarity::Distinctive if !name.is_short => true,
            Clarity::Plain if begins_with_it && !name.is_short => true,
            Clarity::Distinctive | Clarity::Plain | Clarity::Common => is_added(rest),
        };
        is_same.then_some((id, How::Inside))
    }

    /// Looks for names anywhere in a value, at whole words, the longest first.
    fn search_within(&mut self, label: &'l str, value: &'l str, meaning: Meaning) {
        let bytes = value.as_bytes();
        let byte = |place: usize| bytes.get(place).copied().unwrap_or(b' ');
        let mut place = 0;
        while place < bytes.len().min(SEARCHED_BYTES_MAX) {
            if !is_word(byte(place)) || place > 0 && is_word(byte(place - 1)) {
                place += 1;
                continue;
            }
            let joined_before = place > 0 && matches!(byte(place - 1), b'-' | b'_');
            let text = value.get(place..).unwrap_or_default();
            let mut best = None;
            self.catalog.names.beginnings(text, |end, name| {
                let joined = joined_before || matches!(byte(place + end), b'-' | b'_');
                let is_clear = name.clarity == Clarity::Distinctive && !name.is_short;
                if is_clear && (meaning != Meaning::Text || !joined) {
                    best = self.choose(name.bearers, meaning).map(|it| (it, end)).or(best);
                }
            });
            match best {
                Some((id, end)) => {
                    self.add(id, label, How::Inside, self.rank(id, label, How::Inside, meaning));
                    place += end;
                }
                None => place += 1,
            }
        }
    }

    /// The likeliest of the items of one name: in the alert's namespace, or else the first.
    fn choose(&self, bearers: &[ItemId], meaning: Meaning) -> Option<ItemId> {
        let takes_all = matches!(meaning, Meaning::Whole | Meaning::Service(_));
        let is_meant = |id: &&ItemId| takes_all || self.catalog.names.traits(**id).is_thing;
        let mut meant = bearers.iter().filter(is_meant);
        let first = *meant.next()?;
        // Most names have one bearer, and to look at an item costs more than all before.
        if bearers.len() == 1 {
            return Some(first);
        }
        let kind_of = |id: ItemId| self.catalog.item(id).map(|it| it.kind);
        let is_here = |id: ItemId| {
            self.catalog.item(id).is_some_and(|it| Some(it.namespace.as_str()) == self.namespace)
        };
        if is_here(first) {
            return Some(first);
        }
        let here = meant.copied().find(|it| kind_of(*it) == kind_of(first) && is_here(*it));
        Some(here.unwrap_or(first))
    }

    fn rank(&self, id: ItemId, label: &str, how: How, meaning: Meaning) -> u8 {
        let traits = self.catalog.names.traits(id);
        let within = if how == How::Inside { WITHIN } else { 0 };
        match meaning {
            _ if traits.is_watcher || self.tells_of_the_watcher(label) => WATCHER,
            Meaning::Host(rank) if traits.is_host => MACHINE + rank,
            _ if traits.is_host => MACHINE + 3,
            Meaning::Service(rank) | Meaning::Pod(rank) => CLEAR + rank + within,
            Meaning::Party => PARTY + within,
            Meaning::Host(rank) => ON_HOST + rank + within,
            Meaning::Other | Meaning::Nothing => UNKNOWN + within,
            Meaning::Text => TEXT,
            Meaning::Whole => WHOLE,
        }
    }

    /// Beside `exported_pod`, `pod` is where the exporter runs.
    fn tells_of_the_watcher(&self, label: &str) -> bool {
        self.is_relayed
            && self.labels.iter().any(|(it, _)| it.strip_prefix("exported_") == Some(label))
    }

    fn add(&mut self, item: ItemId, label: &'l str, how: How, rank: u8) {
        let is_host = self.catalog.names.traits(item).is_host;
        let new = Binding { item, is_host, label, how, rank };
        match self.found.iter_mut().find(|it| it.item == item) {
            Some(known) if (rank, how) < (known.rank, known.how) => *known = new,
            Some(_) => {}
            None => self.found.push(new),
        }
    }
}

//! Finds items by their names within texts, whatever separates the words of a name there.
//!
//! A name is its words in lower case: `order-api`, `order_api` and `Order.API` are one name. All first
//! words of all names stand in one table by their hash (FNV-1a, which is the same on every machine;
//! a match is compared with the name itself), so that a text is read once and a lookup takes the same
//! time for ten items and ten thousand. The table is only ever asked, never gone through.

use super::shape::{Clarity, clarity, is_watcher};
use super::{Item, ItemId};
use std::collections::BTreeMap;

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;
/// Where the hashes of names without separators begin, so that they are no others.
const SQUASHED_OFFSET: u64 = OFFSET ^ 0x5151_5151_5151_5151;
/// The shortest name that is known without its separators, in letters.
const SQUASHED_MIN: usize = 6;

/// What is known of an item's name.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traits {
    /// It is a machine.
    pub(super) is_host: bool,
    /// How well it is told from other words.
    pub(super) clarity: Clarity,
    /// It only watches others: an exporter.
    pub(super) is_watcher: bool,
    /// It can be named by what is within a text: a component, resource or API.
    pub(super) is_thing: bool,
}

/// A row of the table; `hash` 0 = free.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    hash: u64,
    /// The items of this name in `bearers`; none where this is only the beginning of a name.
    start: u32,
    end: u32,
}

/// The names of all items.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    slots: Vec<Slot>,
    /// Items, those with one name beside each other, the likeliest first.
    bearers: Vec<ItemId>,
    /// The names, by item.
    texts: Vec<Box<str>>,
    traits: Vec<Traits>,
}

impl Names {
    pub(super) fn new(items: &[Item]) -> Self {
        let mut rows: BTreeMap<u64, Vec<ItemId>> = BTreeMap::new();
        for (item, id) in items.iter().zip((0..).map(ItemId)) {
            let mut whole = OFFSET;
            walk(&item.name, |hash, _| {
                rows.entry(hash).or_default();
                whole = hash;
                true
            });
            rows.entry(whole).or_default().push(id);
            if let Some(hash) = squashed(&item.name) {
                rows.entry(hash).or_default().push(id);
            }
        }
        let mut names = Self {
            slots: vec![Slot::default(); (rows.len() * 2).next_power_of_two()],
            bearers: Vec::new(),
            texts: items.iter().map(|it| it.name.as_str().into()).collect(),
            traits: items.iter().map(traits).collect(),
        };
        for (hash, mut bearers) in rows {
            bearers.sort_by_key(|it| (items.get(it.0 as usize).map(|it| it.kind), *it));
            let start = names.bearers.len();
            names.bearers.append(&mut bearers);
            let number = |it: usize| u32::try_from(it).unwrap_or(u32::MAX);
            names.put(Slot { hash, start: number(start), end: number(names.bearers.len()) });
        }
        names
    }

    /// What is known of an item's name.
    pub(super) fn traits(&self, id: ItemId) -> Traits {
        self.traits.get(id.0 as usize).copied().unwrap_or_default()
    }

    /// Tells of every name that a text begins with at whole words, the shorter before the longer:
    /// where it ends, and who bears it.
    pub(super) fn beginnings<'n>(&'n self, text: &str, mut found: impl FnMut(usize, &'n [ItemId])) {
        if self.slots.is_empty() {
            return;
        }
        walk(text, |hash, end| {
            let Some(slot) = self.slot(hash) else { return false };
            let bearers = self.bearers_of(slot);
            let name = bearers.first().and_then(|it| self.texts.get(it.0 as usize));
            if name.is_some_and(|it| same_words(it, text.get(..end).unwrap_or_default())) {
                found(end, bearers);
            }
            true
        });
    }

    /// Who bears a name, when it is written without separators: `OrderApi`.
    pub(super) fn without_separators(&self, text: &str) -> &[ItemId] {
        let bearers = squashed(text).and_then(|it| self.slot(it)).map(|it| self.bearers_of(it));
        let letters = |it: &str| letters(it).collect::<Vec<u8>>();
        let is_same = |id: &ItemId| {
            self.texts.get(id.0 as usize).is_some_and(|it| letters(it) == letters(text))
        };
        bearers.filter(|it| it.first().is_some_and(is_same)).unwrap_or_default()
    }

    fn bearers_of(&self, slot: Slot) -> &[ItemId] {
        self.bearers.get(slot.start as usize..slot.end as usize).unwrap_or_default()
    }

    fn slot(&self, hash: u64) -> Option<Slot> {
        let mut place = self.place(hash);
        loop {
            let slot = self.slots.get(place)?;
            if slot.hash == hash {
                return Some(*slot);
            }
            if slot.hash == 0 {
                return None;
            }
            place = (place + 1) & (self.slots.len() - 1);
        }
    }

    /// Takes the next free row. Half of them stay free.
    fn put(&mut self, new: Slot) {
        let mut place = self.place(new.hash);
        while let Some(slot) = self.slots.get_mut(place) {
            if slot.hash == 0 {
                *slot = new;
                return;
            }
            place = (place + 1) & (self.slots.len() - 1);
        }
    }

    fn place(&self, hash: u64) -> usize {
        let mixed = hash ^ (hash >> 32);
        usize::try_from(mixed & 0xffff_ffff).unwrap_or_default() & (self.slots.len() - 1)
    }
}

fn traits(item: &Item) -> Traits {
    Traits {
        is_host: item.is_host(),
        clarity: clarity(&item.name),
        is_watcher: is_watcher(&item.name),
        is_thing: item.kind <= super::ItemKind::Api,
    }
}

/// Whether a byte belongs to a word; letters outside of ASCII do.
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0x80
}

/// Whether a byte stands between the words of a name.
pub(super) fn is_separator(byte: u8) -> bool {
    matches!(byte, b'-' | b'_' | b'.')
}

fn add(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(PRIME)
}

/// Goes along the words at the beginning of a text. At the end of each it tells the hash of all so far
/// and where it is, as long as the answer is to go on.
fn walk(text: &str, mut at_end: impl FnMut(u64, usize) -> bool) {
    let (mut hash, mut in_word) = (OFFSET, false);
    for (place, byte) in text.bytes().enumerate() {
        if is_word(byte) {
            if !in_word && place > 0 {
                hash = add(hash, b'-');
            }
            hash = add(hash, byte);
            in_word = true;
            continue;
        }
        if in_word && !at_end(hash.max(1), place) || !is_separator(byte) {
            return;
        }
        in_word = false;
    }
    if in_word {
        at_end(hash.max(1), text.len());
    }
}

/// The words of a text with one separator between them.
fn words(text: &str) -> impl Iterator<Item = u8> {
    let mut bytes = text.bytes().peekable();
    std::iter::from_fn(move || {
        let byte = bytes.next()?;
        if is_word(byte) {
            return Some(byte.to_ascii_lowercase());
        }
        while bytes.next_if(|it| !is_word(*it)).is_some() {}
        Some(b'-')
    })
}

fn same_words(one: &str, other: &str) -> bool {
    words(one).eq(words(other))
}

fn letters(text: &str) -> impl Iterator<Item = u8> {
    text.bytes().filter(|it| is_word(*it)).map(|it| it.to_ascii_lowercase())
}

/// The hash of a name without its separators; `None` for what is too short, or no name.
fn squashed(text: &str) -> Option<u64> {
    if !text.bytes().all(|it| is_word(it) || is_separator(it)) {
        return None;
    }
    (letters(text).count() >= SQUASHED_MIN).then(|| letters(text).fold(SQUASHED_OFFSET, add).max(1))
}

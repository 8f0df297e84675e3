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

/// Words at the end of a name that say nothing more than that it is one of a service's.
const SERVICE_WORDS: [&str; 2] = ["service", "svc"];

/// What is known of an item.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traits {
    /// It is a machine.
    pub(super) is_host: bool,
    /// It only watches others: an exporter.
    pub(super) is_watcher: bool,
    /// It can be named by what is within a text: a component, resource or API.
    pub(super) is_thing: bool,
}

/// A name, and who bears it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name<'n> {
    /// The items, the likeliest first.
    pub(super) bearers: &'n [ItemId],
    /// How well it is told from other words.
    pub(super) clarity: Clarity,
    /// It is not quite theirs: `cart` where the item is `cart-service`.
    pub(super) is_short: bool,
}

/// A row of the table; `hash` 0 = free.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    hash: u64,
    /// The items of this name in `bearers`; none where this is only the beginning of a name.
    start: u32,
    end: u32,
    clarity: Clarity,
    is_short: bool,
}

/// The names of all items.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    rows: Vec<Row>,
    /// Items, those with one name beside each other.
    bearers: Vec<ItemId>,
    /// The names, by item.
    texts: Vec<Box<str>>,
    traits: Vec<Traits>,
}

impl Names {
    pub(super) fn new(items: &[Item]) -> Self {
        let mut rows: BTreeMap<u64, Vec<ItemId>> = BTreeMap::new();
        for (item, id) in items.iter().zip((0..).map(ItemId)) {
            walk(&item.name, |hash, _| {
                rows.entry(hash).or_default();
                true
            });
            rows.entry(whole_hash(&item.name)).or_default().push(id);
            if let Some(hash) = squashed(&item.name) {
                rows.entry(hash).or_default().push(id);
            }
        }
        let short = short_names(items, &rows);
        let mut names = Self {
            rows: vec![Row::default(); ((rows.len() + short.len()) * 2).next_power_of_two()],
            bearers: Vec::new(),
            texts: items.iter().map(|it| it.name.as_str().into()).collect(),
            traits: items.iter().map(traits).collect(),
        };
        for (hash, id) in &short {
            rows.insert(*hash, vec![*id]);
        }
        for (hash, mut bearers) in rows {
            bearers.sort_by_key(|it| (items.get(it.0 as usize).map(|it| it.kind), *it));
            let is_short = short.contains_key(&hash);
            let first = bearers.first().and_then(|it| items.get(it.0 as usize));
            let name =
                first.map_or("", |it| if is_short { short_name(&it.name) } else { &it.name });
            let clarity = clarity(name);
            let number = |it: usize| u32::try_from(it).unwrap_or(u32::MAX);
            let start = number(names.bearers.len());
            names.bearers.append(&mut bearers);
            let end = number(names.bearers.len());
            names.put(Row { hash, start, end, clarity, is_short });
        }
        names
    }

    /// What is known of an item.
    pub(super) fn traits(&self, id: ItemId) -> Traits {
        self.traits.get(id.0 as usize).copied().unwrap_or_default()
    }

    /// Tells of every name that a text begins with at whole words, the shorter before the longer:
    /// where it ends, and who bears it.
    pub(super) fn beginnings(&self, text: &str, mut found: impl FnMut(usize, Name<'_>)) {
        walk(text, |hash, end| {
            let Some(row) = self.row(hash) else { return false };
            let name = self.name(row);
            let known = self.text_of(&name);
            if known.is_some_and(|it| same_words(it, text.get(..end).unwrap_or_default())) {
                found(end, name);
            }
            true
        });
    }

    /// A name that is written without separators: `OrderApi`.
    pub(super) fn without_separators(&self, text: &str) -> Option<Name<'_>> {
        let name = squashed(text).and_then(|it| self.row(it)).map(|it| self.name(it))?;
        let known = self.text_of(&name)?;
        letters(known).eq(letters(text)).then_some(name)
    }

    fn name(&self, row: Row) -> Name<'_> {
        let bearers = self.bearers.get(row.start as usize..row.end as usize).unwrap_or_default();
        Name { bearers, clarity: row.clarity, is_short: row.is_short }
    }

    fn text_of(&self, name: &Name<'_>) -> Option<&str> {
        let text = name.bearers.first().and_then(|it| self.texts.get(it.0 as usize))?;
        Some(if name.is_short { short_name(text) } else { text })
    }

    fn row(&self, hash: u64) -> Option<Row> {
        let mut place = self.place(hash);
        loop {
            let row = self.rows.get(place)?;
            if row.hash == hash {
                return Some(*row);
            }
            if row.hash == 0 {
                return None;
            }
            place = (place + 1) & (self.rows.len() - 1);
        }
    }

    /// Takes the next free row. Half of them stay free.
    fn put(&mut self, new: Row) {
        let mut place = self.place(new.hash);
        while let Some(row) = self.rows.get_mut(place) {
            if row.hash == 0 {
                *row = new;
                return;
            }
            place = (place + 1) & (self.rows.len() - 1);
        }
    }

    fn place(&self, hash: u64) -> usize {
        let mixed = hash ^ (hash >> 32);
        let low = usize::try_from(mixed & 0xffff_ffff).unwrap_or_default();
        low & self.rows.len().saturating_sub(1)
    }
}

fn traits(item: &Item) -> Traits {
    Traits {
        is_host: item.is_host(),
        is_watcher: is_watcher(&item.name),
        is_thing: item.kind <= super::ItemKind::Api,
    }
}

/// The names of services without `-service`, where no other item has them and no two services would
/// share one.
fn short_names(items: &[Item], rows: &BTreeMap<u64, Vec<ItemId>>) -> BTreeMap<u64, ItemId> {
    let mut short: BTreeMap<u64, Option<ItemId>> = BTreeMap::new();
    for (item, id) in items.iter().zip((0..).map(ItemId)).filter(|(it, _)| !it.is_host()) {
        let name = short_name(&item.name);
        let hash = whole_hash(name);
        if name.len() < item.name.len() && rows.get(&hash).is_none_or(Vec::is_empty) {
            short.entry(hash).and_modify(|it| *it = None).or_insert(Some(id));
        }
    }
    short.into_iter().filter_map(|(hash, id)| Some((hash, id?))).collect()
}

/// A name without a last word that only says that it is a service's.
fn short_name(name: &str) -> &str {
    match name.rsplit_once(['-', '_', '.']) {
        Some((first, last)) if SERVICE_WORDS.iter().any(|it| last.eq_ignore_ascii_case(it)) => {
            first
        }
        _ => name,
    }
}

fn whole_hash(name: &str) -> u64 {
    let mut whole = 0;
    walk(name, |hash, _| {
        whole = hash;
        true
    });
    whole
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

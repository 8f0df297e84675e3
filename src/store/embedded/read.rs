//! How keys and values become what was written.

use super::super::{Error, Kind, Loaded, Object, Scope, Turn};
use super::digest::{self, Sum};
use super::encode;
use super::write::StoredTurns;
use super::{Entry, View, damaged, keys};
use crate::domain::incident::TimelineEntry;
use serde::de::DeserializeOwned;
use std::iter::Peekable;
use std::ops::RangeFrom;

/// Reads what a start needs of the database; damage there is an error.
pub(in super::super) fn load(view: &dyn View) -> Result<Loaded, Error> {
    let mut loaded = Loaded::default();
    let mut found = Sum::default();
    for entry in view.prefix(&[keys::OPEN]) {
        let entry = entry?;
        found.add(&entry.0, &entry.1);
        loaded.objects.push(object(view, entry, keys::OPEN)?);
    }
    for entry in view.prefix(&[keys::CLAIM]) {
        let (key, head) = entry?;
        found.add(&key, &head);
        encode::value(view, &key, &head)?;
    }
    for entry in view.prefix(&[keys::EFFECT]) {
        let (key, head) = entry?;
        found.add(&key, &head);
        let planned = parse(&encode::value(view, &key, &head)?)?;
        let name: Vec<u8> = [keys::CLAIM].iter().chain(key.iter().skip(1)).copied().collect();
        let claimed = view.get(&name)?.is_some();
        loaded.effects.push((planned, claimed));
    }
    if let Some(written) = digest::read(view)? {
        digest::compare("what is open", found, written.open)?;
    }
    if let Some((_, stored)) = last_turns(view)? {
        loaded.watermark = stored.watermark;
        loaded.last_turn_at = stored.turns.last().map(|it| it.now);
    }
    loaded.last_seq = loaded.watermark;
    Ok(loaded)
}

/// The `seq` of the first record that is kept.
pub(super) fn first_record(view: &dyn View) -> Result<u64, Error> {
    let key = [keys::FIRST_RECORD];
    let Some(head) = view.get(&key)? else { return Ok(1) };
    let value = encode::value(view, &key, &head)?;
    let first = value.first_chunk().ok_or_else(|| damaged("the first record is not known"))?;
    Ok(u64::from_be_bytes(*first))
}

/// Reads turns after the `after`-th.
pub(super) fn turns(view: &dyn View, after: u64, limit: usize) -> Result<Vec<(u64, Turn)>, Error> {
    let start = last_key_until(view, &keys::turns(0), &keys::turns(after.saturating_add(1)))?;
    let mut turns = Vec::new();
    let mut next = None;
    for entry in view.range(&start, &keys::end_of(&[keys::TURNS])) {
        if turns.len() >= limit {
            break;
        }
        let (key, head) = entry?;
        let stored: StoredTurns = parse(&encode::value(view, &key, &head)?)?;
        let numbers = continued(&key, &mut next, stored.turns.len())?;
        turns.extend(numbers.zip(stored.turns).filter(|(number, _)| *number > after));
    }
    if turns.len() < limit && next.is_some() {
        let last = last_turns(view)?.map(|(first, stored)| first + stored.turns.len() as u64);
        if last > next {
            return Err(damaged("the end of the turns cannot be reached"));
        }
    }
    turns.truncate(limit);
    Ok(turns)
}

/// Reads an object's timeline after the `after`-th entry.
pub(super) fn timeline(
    view: &dyn View,
    id: &str,
    after: u64,
    limit: usize,
) -> Result<Vec<(u64, TimelineEntry)>, Error> {
    let until = keys::timeline(id, after.saturating_add(1));
    let start = last_key_until(view, &keys::timeline(id, 0), &until)?;
    let mut timeline = Vec::new();
    let mut next = None;
    for entry in view.range(&start, &keys::end_of(&keys::timeline_of(id))) {
        if timeline.len() >= limit {
            break;
        }
        let (key, head) = entry?;
        let entries: Vec<TimelineEntry> = parse(&encode::value(view, &key, &head)?)?;
        let numbers = continued(&key, &mut next, entries.len())?;
        timeline.extend(numbers.zip(entries).filter(|(number, _)| *number > after));
    }
    timeline.truncate(limit);
    Ok(timeline)
}

/// The numbers that begin with a key's; an error if it is not the `next` one.
fn continued(key: &[u8], next: &mut Option<u64>, count: usize) -> Result<RangeFrom<u64>, Error> {
    let first = keys::last_number(key).unwrap_or(0);
    if next.is_some_and(|it| it != first) {
        return Err(damaged(&format!("a piece of the history before number {first} is missing")));
    }
    *next = Some(first.saturating_add(count as u64));
    Ok(first..)
}

/// The number of the last entry in an object's timeline; 0 = it has none.
pub(super) fn last_timeline_number(view: &dyn View, id: &str) -> Result<u64, Error> {
    let last = view.prefix(&keys::timeline_of(id)).next_back();
    let Some((key, head)) = last.transpose()? else {
        return Ok(0);
    };
    let entries: Vec<TimelineEntry> = parse(&encode::value(view, &key, &head)?)?;
    Ok((keys::last_number(&key).unwrap_or(0) + entries.len() as u64).saturating_sub(1))
}

/// The last commit's turns, with the number of the first.
pub(super) fn last_turns(view: &dyn View) -> Result<Option<(u64, StoredTurns)>, Error> {
    let last = view.prefix(&[keys::TURNS]).next_back();
    let Some((key, head)) = last.transpose()? else {
        return Ok(None);
    };
    let stored = parse(&encode::value(view, &key, &head)?)?;
    Ok(Some((keys::last_number(&key).unwrap_or(1), stored)))
}

/// Reads one object; an open one goes before a closed one.
pub(super) fn get(view: &dyn View, kind: Kind, id: &str) -> Result<Option<Object>, Error> {
    for space in [keys::OPEN, keys::CLOSED] {
        let key = keys::object(space, kind, id);
        if let Some(head) = view.get(&key)? {
            let body = body(space, encode::value(view, &key, &head)?)?;
            return Ok(Some(Object { kind, id: id.to_owned(), body }));
        }
    }
    Ok(None)
}

/// Lists objects in falling order of id. An object that is both open and closed, because it came
/// back, is listed as it is open.
pub(super) fn list(
    view: &dyn View,
    (kind, scope): (Kind, Scope),
    before: Option<&str>,
    limit: usize,
) -> Result<Vec<Object>, Error> {
    let mut open = falling(view, keys::OPEN, kind, before).peekable();
    let mut closed = falling(view, keys::CLOSED, kind, before).peekable();
    let mut objects = Vec::new();
    while objects.len() < limit {
        let next_open = if scope == Scope::Closed { None } else { id_bytes(&mut open) };
        let next_closed = if scope == Scope::Open { None } else { id_bytes(&mut closed) };
        let (space, entry) = if next_open.is_some() && next_open >= next_closed {
            if next_open == next_closed {
                closed.next();
            }
            (keys::OPEN, open.next())
        } else if next_closed.is_some() {
            (keys::CLOSED, closed.next())
        } else {
            // Both are at their end, or one of them met an error.
            let error = [open.next(), closed.next()].into_iter().flatten().find_map(Result::err);
            return error.map_or(Ok(objects), Err);
        };
        if let Some(entry) = entry {
            objects.push(object(view, entry?, space)?);
        }
    }
    Ok(objects)
}

/// Reads JSON that this program wrote.
pub(super) fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(text).map_err(|e| damaged(&format!("a value cannot be read: {e}")))
}

fn falling<'a>(
    view: &'a dyn View,
    space: u8,
    kind: Kind,
    before: Option<&str>,
) -> impl Iterator<Item = Result<Entry, Error>> + use<'a> {
    let start = keys::kind(space, kind);
    let end = before.map_or_else(|| keys::end_of(&start), |id| keys::object(space, kind, id));
    view.range(&start, &end).rev()
}

/// The bytes of the next key's id.
fn id_bytes(entries: &mut Peekable<impl Iterator<Item = Result<Entry, Error>>>) -> Option<&[u8]> {
    let (key, _) = entries.peek()?.as_ref().ok()?;
    key.get(2..)
}

fn object(view: &dyn View, (key, head): Entry, space: u8) -> Result<Object, Error> {
    let (kind, id) = keys::kind_and_id(&key, 1)
        .ok_or_else(|| damaged(&format!("a key names no object: {key:?}")))?;
    Ok(Object { kind, id, body: body(space, encode::value(view, &key, &head)?)? })
}

/// A closed object has its time before its body.
pub(super) fn body(space: u8, mut value: Vec<u8>) -> Result<Vec<u8>, Error> {
    if space == keys::CLOSED {
        if value.len() < size_of::<u64>() {
            return Err(damaged("a closed object has no time"));
        }
        value.drain(..size_of::<u64>());
    }
    Ok(value)
}

/// The last key that is not over `until`, or else `first`.
fn last_key_until(view: &dyn View, first: &[u8], until: &[u8]) -> Result<Vec<u8>, Error> {
    let last = view.range(first, &keys::after(until.to_vec())).next_back().transpose()?;
    Ok(last.map_or_else(|| first.to_vec(), |(key, _)| key))
}

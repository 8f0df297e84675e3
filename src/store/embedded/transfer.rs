//! A store's content as a whole: out of it, into it, counted, and checked to the last value.

use super::super::archive::Entry;
use super::super::snapshot::raw;
use super::super::{Error, Kind, Store};
use super::digest::{self, Digest};
use super::encode::Staged;
use super::write::StoredTurns;
use super::{EmbeddedStore, Purpose, View, catch, damaged, encode, keys, read};
use crate::domain::effect::{EffectKey, PlannedEffect};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::PoisonError;

/// The spaces that are exported, in this order. Claims go with their effects, the times of closing
/// with what was closed, pieces with their value.
const SPACES: [u8; 5] = [keys::TURNS, keys::OPEN, keys::EFFECT, keys::CLOSED, keys::TIMELINE];
/// How many records are read at once.
const RECORDS: usize = 1000;
/// How many damages are named.
const FINDINGS_MAX: usize = 100;

/// What a store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// The engine's name.
    pub engine: String,
    /// The size of its files, in bytes.
    pub disk_bytes: u64,
    /// How long everything is that is stored, in bytes.
    pub live_bytes: u64,
    /// The space left for it, in bytes.
    pub free_bytes: u64,
    /// Records of the inbox.
    pub records: u64,
    /// The `seq` of the last record; 0 = none.
    pub last_seq: u64,
    /// The `seq` of the last record that was applied; 0 = none.
    pub watermark: u64,
    /// The time of the last turn.
    pub last_turn_at: Option<Timestamp>,
    /// Open objects by kind.
    pub open: BTreeMap<Kind, u64>,
    /// Closed objects by kind.
    pub closed: BTreeMap<Kind, u64>,
    /// Effects without a result.
    pub effects: u64,
}

impl EmbeddedStore {
    /// Gives everything that is in it, entry by entry, always in the same order. Damage is an
    /// error, at the latest at the end: what was given before that must not be used then.
    pub fn export(&self, take: &mut dyn FnMut(Entry) -> Result<(), Error>) -> Result<(), Error> {
        let mut before = 0;
        loop {
            let records = self.records(before, RECORDS)?;
            if records.is_empty() {
                break;
            }
            for record in records {
                let seq = record.seq;
                take(Entry::Record { before, record })?;
                before = seq;
            }
        }
        self.read_guarded(|view| {
            for space in SPACES {
                for entry in view.prefix(&[space]) {
                    let (key, head) = entry?;
                    take(entry_of(view, &key, &head)?)?;
                }
            }
            compare(view, digest::compute(view)?)
        })
    }

    /// Adds entries that another store exported. They are durable when this returns.
    pub fn import(&self, entries: &[Entry]) -> Result<(), Error> {
        self.check_writable()?;
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.write_guarded(|| {
            let view = self.map.view()?;
            let (mut staged, next) = writer.begin(&*view);
            let mut records = Vec::new();
            for entry in entries {
                match entry {
                    Entry::Record { record, .. } => records.push(record.clone()),
                    other => stage_entry(&mut staged, other)?,
                }
            }
            self.inbox.prepare(&records, &[])?.write()?;
            let (additions, _) = next.with_digest(staged.into_writes()?);
            drop(view);
            if !additions.is_empty() {
                self.map.secure(&additions, Purpose::Commit)?;
                self.map.write(additions)?;
                *writer = super::write::Writer::new(&*self.map.view()?)?;
            }
            self.note(&writer);
            Ok(())
        })
    }

    /// Counts what it holds.
    pub fn stats(&self) -> Result<Stats, Error> {
        let loaded = Store::load(self)?;
        let health = Store::health(self);
        let mut stats = Stats {
            engine: health.engine.to_owned(),
            disk_bytes: health.disk_bytes,
            live_bytes: self.live_bytes(),
            free_bytes: health.free_bytes,
            last_seq: loaded.last_seq,
            watermark: loaded.watermark,
            last_turn_at: loaded.last_turn_at,
            effects: loaded.effects.len() as u64,
            ..Stats::default()
        };
        for object in &loaded.objects {
            *stats.open.entry(object.kind).or_default() += 1;
        }
        let mut last = 0;
        while let records = self.records(last, RECORDS)?
            && let Some(record) = records.last()
        {
            last = record.seq;
            stats.records += records.len() as u64;
        }
        self.read_guarded(|view| {
            for entry in view.prefix(&[keys::CLOSED]) {
                let (kind, _) = object_of(&entry?.0)?;
                *stats.closed.entry(kind).or_default() += 1;
            }
            Ok(())
        })?;
        Ok(stats)
    }

    /// How long everything is that is stored, in bytes.
    pub fn live_bytes(&self) -> u64 {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.live_bytes() + self.inbox.disk_bytes()
    }

    /// Reads every value and names what is damaged; nothing = it is as it was written.
    pub fn verify(&self) -> Vec<String> {
        let mut findings = Vec::new();
        let checked = self.read_guarded(|view| {
            read_all(view, &mut findings);
            Ok(())
        });
        for check in [
            checked,
            self.read_guarded(|view| digest::compute(view).and_then(|it| compare(view, it))),
            self.read_guarded(|view| read::turns(view, 0, usize::MAX).map(drop)),
            self.records(0, usize::MAX).map(drop),
        ] {
            findings.extend(check.err().map(|it| it.to_string()));
        }
        findings.truncate(FINDINGS_MAX);
        findings
    }
}

/// Compares the digest of what is there with the one that was written.
fn compare(view: &dyn View, found: Digest) -> Result<(), Error> {
    let written = digest::read(view)?.ok_or_else(|| damaged("its digest is lost"))?;
    digest::compare("what is open", found.open, written.open)?;
    digest::compare("the history", found.rest, written.rest)
}

/// Reads each value; one that cannot be read does not keep the others from it.
fn read_all(view: &dyn View, findings: &mut Vec<String>) {
    let mut last = Vec::new();
    for entry in view.range(&[], &[u8::MAX]) {
        let (key, head) = match entry {
            Ok(entry) => entry,
            Err(error) => {
                // An engine that met damage may give the same error for ever.
                findings.push(format!("nothing can be read after {}: {error}", name_of(&last)));
                return;
            }
        };
        if key.first() != Some(&keys::PIECE) {
            let read = catch(|| {
                if key.first().is_some_and(|it| SPACES.contains(it)) {
                    entry_of(view, &key, &head).map(drop)
                } else {
                    encode::value(view, &key, &head).map(drop)
                }
            });
            if let Err(error) = read {
                findings.push(format!("{}: {error}", name_of(&key)));
            }
        }
        if findings.len() >= FINDINGS_MAX {
            return;
        }
        last = key;
    }
}

/// A key as people may know it.
fn name_of(key: &[u8]) -> String {
    let number = || keys::last_number(key).unwrap_or(0);
    match key.first() {
        Some(&keys::TURNS) => format!("the turns from {} on", number()),
        Some(&(keys::OPEN | keys::CLOSED)) => match object_of(key) {
            Ok((kind, id)) => format!("the {kind:?} `{id}`"),
            Err(_) => format!("the key {key:?}"),
        },
        _ => format!("the key `{}`", String::from_utf8_lossy(key).escape_debug()),
    }
}

fn object_of(key: &[u8]) -> Result<(Kind, String), Error> {
    keys::kind_and_id(key, 1).ok_or_else(|| damaged(&format!("a key names no object: {key:?}")))
}

/// The entry that stands under a key.
fn entry_of(view: &dyn View, key: &[u8], head: &[u8]) -> Result<Entry, Error> {
    let value = encode::value(view, key, head)?;
    match key.first() {
        Some(&keys::TURNS) => {
            let StoredTurns { watermark, turns } = read::parse(&value)?;
            Ok(Entry::Turns { first: keys::last_number(key).unwrap_or(0), watermark, turns })
        }
        Some(&keys::OPEN) => {
            let (kind, id) = object_of(key)?;
            let body = raw(kind, &id, value)?;
            Ok(Entry::Open { kind, id, body })
        }
        Some(&keys::CLOSED) => {
            let (kind, id) = object_of(key)?;
            let at =
                keys::read_time(&value).ok_or_else(|| damaged("a closed object has no time"))?;
            let body = raw(kind, &id, read::body(keys::CLOSED, value)?)?;
            Ok(Entry::Closed { kind, id, at, body })
        }
        Some(&keys::TIMELINE) => {
            let (of, first) =
                keys::read_timeline(key).ok_or_else(|| damaged("a key names no timeline"))?;
            Ok(Entry::Timeline { of, first, entries: read::parse(&value)? })
        }
        _ => {
            let effect: PlannedEffect = read::parse(&value)?;
            let claimed = view.get(&keys::effect(keys::CLAIM, &effect.key))?.is_some();
            Ok(Entry::Effect { effect, claimed })
        }
    }
}

/// Prepares the writing of an entry.
fn stage_entry(staged: &mut Staged<'_>, entry: &Entry) -> Result<(), Error> {
    match entry {
        // It stands in the inbox.
        Entry::Record { .. } => Ok(()),
        Entry::Turns { first, watermark, turns } => {
            let stored = StoredTurns { watermark: *watermark, turns: turns.clone() };
            staged.put(keys::turns(*first), &super::write::json(&stored)?)
        }
        Entry::Open { kind, id, body } => {
            staged.put(keys::object(keys::OPEN, *kind, id), body.get().as_bytes())
        }
        Entry::Closed { kind, id, at, body } => {
            let value = [&keys::time(*at)[..], body.get().as_bytes()].concat();
            if !kind.outlives_retention() {
                staged.put(keys::closed_at(*at, *kind, id), &[])?;
            }
            staged.put(keys::object(keys::CLOSED, *kind, id), &value)
        }
        Entry::Timeline { of, first, entries } => {
            staged.put(keys::timeline(of, *first), &super::write::json(entries)?)
        }
        Entry::Effect { effect, claimed } => {
            let key = |space: u8, key: &EffectKey| keys::effect(space, key);
            staged.put(key(keys::EFFECT, &effect.key), &super::write::json(effect)?)?;
            if *claimed { staged.put(key(keys::CLAIM, &effect.key), &[]) } else { Ok(()) }
        }
    }
}

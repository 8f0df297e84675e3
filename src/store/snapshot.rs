//! Snapshots: what is open, in a file of its own, for the day when the store is damaged.
//!
//! A snapshot is one view of the store ([`Store::load`]), which checks itself against damage, and
//! the records behind it that are not decided. So a damaged store leaves the old ones alone.

use super::archive::{self, Content, Entry, Header, Writer};
use super::{Error, Kind, Object, Record, Store, Turn};
use jiff::Timestamp;
use serde_json::value::RawValue;
use std::fs;
use std::path::{Path, PathBuf};

/// How many snapshots are kept.
pub const KEPT: usize = 3;
/// What the names of snapshots end in, after their time.
const SUFFIX: &str = ".jsonl.zst";

/// Writes a snapshot of a store into a folder, as of a time, and removes those that are too old.
/// Returns its path. The store takes no writes while it is read.
pub fn take(store: &dyn Store, folder: &Path, now: Timestamp) -> Result<PathBuf, Error> {
    let loaded = store.load()?;
    let path = folder.join(format!("{}{SUFFIX}", now.strftime("%Y%m%dT%H%M%S%3fZ")));
    fs::create_dir_all(folder)
        .map_err(|e| Error::Failed(format!("cannot make `{}`: `{e}`", folder.display())))?;
    let engine = store.health().engine;
    let mut writer = Writer::create(&path, &Header::new(Content::Open, engine, now))?;
    if let Some(now) = loaded.last_turn_at {
        // The turn itself is history; what it left is the time and the watermark.
        let turns = vec![Turn { now, seq: None, poisoned: false }];
        writer.put(&Entry::Turns { first: 1, watermark: loaded.watermark, turns })?;
    }
    for object in loaded.objects {
        put_timeline(store, &mut writer, &object)?;
        let body = raw(object.kind, &object.id, object.body)?;
        writer.put(&Entry::Open { kind: object.kind, id: object.id, body })?;
    }
    for (effect, claimed) in loaded.effects {
        writer.put(&Entry::Effect { effect, claimed })?;
    }
    let mut before = loaded.watermark;
    for record in store.records(loaded.watermark, usize::MAX)? {
        let seq = record.seq;
        writer.put(&Entry::Record { before, record })?;
        before = seq;
    }
    writer.finish()?;
    remove_old(folder);
    Ok(path)
}

/// Writes the timeline of an object, if it is of a kind that has one.
fn put_timeline(store: &dyn Store, writer: &mut Writer, object: &Object) -> Result<(), Error> {
    let with_timeline = [Kind::Incident, Kind::Execution, Kind::Problem, Kind::Change];
    if !with_timeline.contains(&object.kind) {
        return Ok(());
    }
    let numbered = store.timeline(&object.id, 0, usize::MAX)?;
    let Some((first, _)) = numbered.first() else { return Ok(()) };
    let (of, first) = (object.id.clone(), *first);
    let entries = numbered.into_iter().map(|(_, entry)| entry).collect();
    writer.put(&Entry::Timeline { of, first, entries })
}

/// The body of an object as one line of JSON.
pub(super) fn raw(kind: Kind, id: &str, body: Vec<u8>) -> Result<Box<RawValue>, Error> {
    let bad = |why: &dyn std::fmt::Display| {
        Error::Damaged(format!("the {kind:?} `{id}` is not a line of JSON: `{why}`"))
    };
    let mut body = body;
    // So a list in `MessagePack` begins, and no JSON.
    if kind == Kind::AlertPage && body.first().is_some_and(|it| *it >= 0x80) {
        let page: serde_json::Value = rmp_serde::from_slice(&body).map_err(|e| bad(&e))?;
        body = serde_json::to_vec(&page).map_err(|e| bad(&e))?;
    }
    if body.contains(&b'\n') {
        return Err(bad(&"it has several lines"));
    }
    let text = String::from_utf8(body).map_err(|e| bad(&e))?;
    RawValue::from_string(text).map_err(|e| bad(&e))
}

/// The snapshots in a folder, newest first.
pub fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> =
        entries.map(|it| it.path()).filter(|it| it.to_string_lossy().ends_with(SUFFIX)).collect();
    paths.sort();
    paths.reverse();
    paths
}

/// A snapshot that was read.
pub(super) struct Snapshot {
    /// When it was taken.
    pub(super) at: Timestamp,
    /// What it holds.
    pub(super) entries: Vec<Entry>,
}

/// Reads the newest snapshot that is whole.
pub(super) fn newest_good(folder: &Path) -> Option<Snapshot> {
    list(folder).into_iter().find_map(|path| {
        let mut entries = Vec::new();
        let mut keep = |entry| {
            entries.push(entry);
            Ok(())
        };
        match archive::read(&path, &mut keep) {
            Ok(header) => Some(Snapshot { at: header.made_at, entries }),
            Err(error) => {
                tracing::error!(%error, "a snapshot is left out");
                None
            }
        }
    })
}

/// The entries that a healed store begins with, and how many open objects are among them.
///
/// What must not be done twice may have been done since the snapshot: it counts as claimed, so
/// that it is not begun again.
pub(super) fn as_of_now(snapshot: Option<Snapshot>) -> (Vec<Entry>, u64) {
    let mut entries = snapshot.map(|it| it.entries).unwrap_or_default();
    let mut objects = 0;
    for entry in &mut entries {
        match entry {
            Entry::Open { .. } => objects += 1,
            Entry::Effect { effect, claimed } => *claimed |= !effect.idempotent,
            Entry::Record { .. }
            | Entry::Turns { .. }
            | Entry::Closed { .. }
            | Entry::Timeline { .. } => {}
        }
    }
    (entries, objects)
}

/// The last `seq` that is known in some entries.
pub(super) fn last_seq(entries: &[Entry]) -> u64 {
    let seqs = entries.iter().map(|entry| match entry {
        Entry::Record { record: Record { seq, .. }, .. } => *seq,
        Entry::Turns { watermark, .. } => *watermark,
        Entry::Open { .. }
        | Entry::Closed { .. }
        | Entry::Timeline { .. }
        | Entry::Effect { .. } => 0,
    });
    seqs.max().unwrap_or(0)
}

/// Removes snapshots that are too old, and those that a crash cut off.
fn remove_old(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let cut_off =
        entries.map(|it| it.path()).filter(|it| it.extension().is_some_and(|it| it == "new"));
    for path in list(folder).into_iter().skip(KEPT).chain(cut_off) {
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(%error, path = %path.display(), "an old snapshot stays");
        }
    }
}

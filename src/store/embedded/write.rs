//! How a batch becomes keys and values: few of them, because engines pay by the record.

use super::super::{Batch, Commit, Error, Turn};
use super::encode::{self, Staged, Writes};
use super::witness::Extent;
use super::{View, failed, keys, read};
use crate::domain::effect::EffectKey;
use crate::domain::incident::TimelineEntry;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use zstd::bulk::Compressor;

/// More timelines than this are not kept in mind; the rest is looked up.
const TIMELINES_MAX: usize = 10_000;

/// The turns of one commit, as they are stored.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StoredTurns {
    /// The last `seq` that was applied, with these turns.
    pub(super) watermark: u64,
    /// The turns; never empty.
    pub(super) turns: Vec<Turn>,
}

/// What the one writer keeps in mind between batches.
pub(super) struct Writer {
    pub(super) compressor: Compressor<'static>,
    at: Position,
    /// The number of the last entry of timelines, by object id.
    timelines: BTreeMap<String, u64>,
}

/// Where the history ends.
#[derive(Clone, Copy, Debug, Default)]
struct Position {
    extent: Extent,
    watermark: u64,
    /// The time of the last turn.
    now: Option<Timestamp>,
}

/// What the writer will keep in mind once a batch is durable.
pub(super) struct Next {
    at: Position,
    timelines: BTreeMap<String, u64>,
    closed: Vec<String>,
}

impl Writer {
    /// Finds out where the history ends.
    pub(super) fn new(view: &dyn View) -> Result<Self, Error> {
        let mut at = Position::default();
        if let Some((first, stored)) = read::last_turns(view)? {
            at.extent.turn = (first + stored.turns.len() as u64).saturating_sub(1);
            at.watermark = stored.watermark;
            at.now = stored.turns.last().map(|it| it.now);
        }
        at.extent.record = read::last_record(view)?.max(at.watermark);
        let compressor = encode::compressor()?;
        Ok(Self { compressor, at, timelines: BTreeMap::new() })
    }

    /// How far the store is written.
    pub(super) fn extent(&self) -> Extent {
        self.at.extent
    }

    /// Prepares what a batch writes.
    pub(super) fn stage(
        &mut self,
        view: &dyn View,
        batch: &Batch,
    ) -> Result<(Writes, Next), Error> {
        let mut next = Next { at: self.at, timelines: BTreeMap::new(), closed: Vec::new() };
        let mut staged = Staged::new(view, &mut self.compressor);
        for record in &batch.appends {
            // Each record tells which one came before it, so that a hole is seen.
            let mut value = next.at.extent.record.to_be_bytes().to_vec();
            value.extend(json(record)?);
            staged.put(keys::record(record.seq), &value)?;
            next.at.extent.record = next.at.extent.record.max(record.seq);
        }
        if let Some(commit) = &batch.commit {
            stage_turns(&mut staged, commit, &mut next.at)?;
            stage_objects(&mut staged, commit, next.at.now)?;
            stage_timelines(&mut staged, view, &commit.timeline, (&self.timelines, &mut next))?;
            for planned in &commit.effects {
                staged.put(keys::effect(keys::EFFECT, &planned.key), &json(planned)?)?;
            }
            next.closed.extend(commit.closes.iter().map(|it| it.id.clone()));
        }
        for claim in &batch.claims {
            if staged.contains(&keys::effect(keys::EFFECT, claim))? {
                staged.put(keys::effect(keys::CLAIM, claim), &[])?;
            }
        }
        for finished in batch.commit.iter().flat_map(|it| &it.finished) {
            stage_finished(&mut staged, finished)?;
        }
        Ok((staged.into_writes(), next))
    }

    /// Keeps in mind what is durable now.
    pub(super) fn adopt(&mut self, next: Next) {
        self.at = next.at;
        self.timelines.extend(next.timelines);
        for id in next.closed {
            self.timelines.remove(&id);
        }
        if self.timelines.len() > TIMELINES_MAX {
            self.timelines.clear();
        }
    }
}

fn stage_turns(staged: &mut Staged<'_>, commit: &Commit, at: &mut Position) -> Result<(), Error> {
    let Some(last) = commit.turns.last() else { return Ok(()) };
    let key = keys::turns(at.extent.turn + 1);
    at.extent.turn += commit.turns.len() as u64;
    at.watermark = commit.turns.iter().rev().find_map(|it| it.seq).unwrap_or(at.watermark);
    at.now = Some(last.now);
    let stored = StoredTurns { watermark: at.watermark, turns: commit.turns.clone() };
    staged.put(key, &json(&stored)?)
}

fn stage_objects(
    staged: &mut Staged<'_>,
    commit: &Commit,
    now: Option<Timestamp>,
) -> Result<(), Error> {
    for object in &commit.puts {
        staged.put(keys::object(keys::OPEN, object.kind, &object.id), &object.body)?;
    }
    for (kind, id) in &commit.deletes {
        staged.remove(&keys::object(keys::OPEN, *kind, id))?;
    }
    for object in &commit.closes {
        // Without a turn there is no time; such an object is among the first to be removed.
        let at = now.unwrap_or(Timestamp::UNIX_EPOCH);
        let mut body = keys::time(at).to_vec();
        body.extend(&object.body);
        staged.remove(&keys::object(keys::OPEN, object.kind, &object.id))?;
        staged.put(keys::object(keys::CLOSED, object.kind, &object.id), &body)?;
        staged.put(keys::closed_at(at, object.kind, &object.id), &[])?;
    }
    Ok(())
}

fn stage_timelines(
    staged: &mut Staged<'_>,
    view: &dyn View,
    entries: &[(String, TimelineEntry)],
    (known, next): (&BTreeMap<String, u64>, &mut Next),
) -> Result<(), Error> {
    let mut by_object: BTreeMap<&str, Vec<&TimelineEntry>> = BTreeMap::new();
    for (id, entry) in entries {
        by_object.entry(id).or_default().push(entry);
    }
    for (id, entries) in by_object {
        let last = match known.get(id) {
            Some(last) => *last,
            None => read::last_timeline_number(view, id)?,
        };
        staged.put(keys::timeline(id, last + 1), &json(&entries)?)?;
        next.timelines.insert(id.to_owned(), last + entries.len() as u64);
    }
    Ok(())
}

fn stage_finished(staged: &mut Staged<'_>, effect: &EffectKey) -> Result<(), Error> {
    staged.remove(&keys::effect(keys::EFFECT, effect))?;
    staged.remove(&keys::effect(keys::CLAIM, effect))
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|e| failed("write a value as JSON", &e))
}

//! How a batch becomes keys and values: few of them, because engines pay by the record.

use super::super::{Batch, Commit, Error, Turn};
use super::digest::{self, Digest};
use super::encode::{self, Staged, Writes};
use super::witness::Extent;
use super::{View, failed, keys, read};
use crate::domain::effect::EffectKey;
use crate::domain::incident::TimelineEntry;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
    digest: Digest,
}

/// What the writer will keep in mind once a batch is durable.
pub(super) struct Next {
    at: Position,
    timelines: BTreeMap<String, u64>,
    closed: Vec<String>,
}

impl Next {
    /// What is to be written, and what to keep in mind then.
    pub(super) fn with_digest(mut self, (writes, digest): (Writes, Digest)) -> (Writes, Self) {
        self.at.digest = digest;
        (writes, self)
    }
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
        at.digest = match digest::read(view)? {
            Some(digest) => digest,
            None => digest::compute(view)?,
        };
        Ok(Self { at, timelines: BTreeMap::new() })
    }

    /// How long everything is that is stored, in bytes.
    pub(super) fn live_bytes(&self) -> u64 {
        self.at.digest.bytes()
    }

    /// How far the database is written; records are not in it.
    pub(super) fn extent(&self) -> Extent {
        Extent { write: self.at.digest.writes, ..self.at.extent }
    }

    /// Prepares a write of the digest alone.
    pub(super) fn stage_digest(&self) -> Result<Writes, Error> {
        let mut writes = Writes::new();
        encode::put_digest(&mut writes, &self.at.digest)?;
        Ok(writes)
    }

    /// Begins to prepare a write.
    pub(super) fn begin<'a>(&self, view: &'a dyn View) -> (Staged<'a>, Next) {
        let next = Next { at: self.at, timelines: BTreeMap::new(), closed: Vec::new() };
        (Staged::new(view, self.at.digest), next)
    }

    /// The `seq` of the last record that was applied; 0 = none.
    pub(super) fn watermark(&self) -> u64 {
        self.at.watermark
    }

    /// Prepares what a batch writes beside its records.
    pub(super) fn stage(&self, view: &dyn View, batch: &Batch) -> Result<(Writes, Next), Error> {
        let (mut staged, mut next) = self.begin(view);
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
        Ok(next.with_digest(staged.into_writes()?))
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
    staged.put_new(key, &json(&stored)?)
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
        let space = if kind.outlives_retention() { keys::CLOSED } else { keys::OPEN };
        staged.remove(&keys::object(space, *kind, id))?;
    }
    for object in &commit.closes {
        // Without a turn there is no time; such an object is among the first to be removed.
        let at = now.unwrap_or(Timestamp::UNIX_EPOCH);
        let mut body = keys::time(at).to_vec();
        body.extend(&object.body);
        staged.remove(&keys::object(keys::OPEN, object.kind, &object.id))?;
        staged.put(keys::object(keys::CLOSED, object.kind, &object.id), &body)?;
        if !object.kind.outlives_retention() {
            staged.put(keys::closed_at(at, object.kind, &object.id), &[])?;
        }
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
        staged.put_new(keys::timeline(id, last + 1), &json(&entries)?)?;
        next.timelines.insert(id.to_owned(), last + entries.len() as u64);
    }
    Ok(())
}

fn stage_finished(staged: &mut Staged<'_>, effect: &EffectKey) -> Result<(), Error> {
    staged.remove(&keys::effect(keys::EFFECT, effect))?;
    staged.remove(&keys::effect(keys::CLAIM, effect))
}

pub(super) fn json(value: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|e| failed("write a value as JSON", &e))
}

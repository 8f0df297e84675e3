//! A store in memory that breaks to order, and watches what is written into it.

use super::faults::{Fault, Lots};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use watchkeeper::domain::alert::Alert;
use watchkeeper::domain::effect::{EffectKey, PlannedEffect};
use watchkeeper::domain::event::Event;
use watchkeeper::domain::incident::TimelineEntry;
use watchkeeper::domain::label::Fingerprint;
use watchkeeper::engine::stepped::VirtualTime;
use watchkeeper::store::{
    Batch, Commit, Error, Health, Kind, Loaded, Object, Record, Scope, Store, Turn,
};

/// More loads than this without a write between them are a start that never ends.
const LOADS_MAX: u32 = 50;

/// How it does for a while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Well.
    #[default]
    Good,
    /// It takes no new facts, but results of turns.
    FullForFacts,
    /// It takes nothing.
    Full,
    /// It can be neither opened nor read nor written.
    Broken,
}

/// What is on the disk for good, and what the simulation must know of it.
pub(crate) struct Contents {
    records: BTreeMap<u64, Record>,
    turns: Vec<Turn>,
    objects: BTreeMap<(Kind, Name), (Object, bool)>,
    effects: BTreeMap<EffectKey, (PlannedEffect, bool)>,
    /// All timelines in one, in the order in which they were written.
    told: Vec<(String, TimelineEntry)>,
    /// How often each alert that is closed had begun to fire.
    begun_before: BTreeMap<Fingerprint, u64>,
    open_counts: BTreeMap<Kind, usize>,
    loads_in_a_row: u32,
    /// How often it was loaded.
    pub(crate) loads: u64,
    /// How it does.
    pub(crate) mood: Mood,
    /// What goes wrong in writes.
    pub(crate) lots: Lots,
    time: VirtualTime,
    /// The process died in a write.
    pub(crate) died: bool,
    /// The first thing that must not have been written.
    pub(crate) wrong: Option<String>,
}

/// An id in its order: by its number, where it ends in one.
type Name = (String, u64);

/// The disk. Cheap to clone; all clones are one. It outlives the watch.
#[derive(Clone)]
pub(crate) struct Disk(Arc<Mutex<Contents>>);

impl Disk {
    /// An empty one.
    pub(crate) fn new(lots: Lots, time: VirtualTime) -> Self {
        Self(Arc::new(Mutex::new(Contents {
            records: BTreeMap::new(),
            turns: Vec::new(),
            objects: BTreeMap::new(),
            effects: BTreeMap::new(),
            told: Vec::new(),
            begun_before: BTreeMap::new(),
            open_counts: BTreeMap::new(),
            loads_in_a_row: 0,
            loads: 0,
            mood: Mood::Good,
            lots,
            time,
            died: false,
            wrong: None,
        })))
    }

    /// Looks inside, or changes it.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens it, if it can be opened.
    pub(crate) fn open(&self) -> Result<Arc<dyn Store>, Error> {
        if self.lock().mood == Mood::Broken {
            return Err(failed());
        }
        Ok(Arc::new(self.clone()))
    }
}

fn failed() -> Error {
    Error::Failed("the simulation says so".to_owned())
}

fn name(id: &str) -> Name {
    let letters = id.trim_end_matches(|it: char| it.is_ascii_digit());
    let number = id.get(letters.len()..).and_then(|it| it.parse().ok()).unwrap_or(0);
    (letters.to_owned(), number)
}

impl Contents {
    /// Whether an effect is there that has no result; and whether it is claimed.
    pub(crate) fn planned(&self, key: &EffectKey) -> Option<bool> {
        self.effects.get(key).map(|(_, claimed)| *claimed)
    }

    /// The effects that have no result.
    pub(crate) fn effects(&self) -> impl Iterator<Item = &PlannedEffect> {
        self.effects.values().map(|(it, _)| it)
    }

    /// Whether a delivery is in the log, by its number; see `senders`.
    pub(crate) fn has_record_of(&self, mark: &str, from: u64) -> bool {
        let marked = |event: &Event| {
            matches!(event, Event::AlertsReceived(batch)
                if batch.alerts.first().is_some_and(|it| &*it.generator_url == mark))
        };
        self.records.range(from..).any(|(_, it)| it.events.iter().any(marked))
    }

    /// The last record.
    pub(crate) fn last_seq(&self) -> u64 {
        self.records.last_key_value().map_or(0, |(seq, _)| *seq)
    }

    /// Tells the turns from the `n`-th on, each with its events; none when it was set aside.
    pub(crate) fn tell_turns(&self, n: usize, mut hear: impl FnMut(Timestamp, &[Event])) {
        for turn in self.turns.get(n..).unwrap_or_default() {
            match turn.seq {
                None => hear(turn.now, &[Event::Woken]),
                Some(_) if turn.poisoned => hear(turn.now, &[]),
                Some(seq) => {
                    let record = self.records.get(&seq);
                    hear(turn.now, record.map(|it| it.events.as_slice()).unwrap_or_default());
                }
            }
        }
    }

    /// How many turns there are.
    pub(crate) fn turn_count(&self) -> usize {
        self.turns.len()
    }

    /// The entries of all timelines from the `n`-th on, in the order in which they were written.
    pub(crate) fn told_from(&self, n: usize) -> &[(String, TimelineEntry)] {
        self.told.get(n..).unwrap_or_default()
    }

    /// How often an alert had begun to fire each time it was closed, in all.
    pub(crate) fn begun_before(&self, alert: Fingerprint) -> u64 {
        self.begun_before.get(&alert).copied().unwrap_or(0)
    }

    /// How many objects of a kind are open.
    pub(crate) fn open_count(&self, kind: Kind) -> usize {
        self.open_counts.get(&kind).copied().unwrap_or(0)
    }

    /// An object that is closed.
    pub(crate) fn closed(&self, kind: Kind, id: &str) -> Option<&Object> {
        self.objects.get(&(kind, name(id))).filter(|(_, is_open)| !is_open).map(|(it, _)| it)
    }

    /// How many objects there are, open and closed.
    pub(crate) fn object_count(&self) -> usize {
        self.objects.len()
    }

    /// All objects of a kind.
    fn of_kind(&self, kind: Kind) -> impl DoubleEndedIterator<Item = &(Object, bool)> {
        let (first, last) = (String::new(), char::MAX.to_string());
        self.objects.range((kind, (first, 0))..(kind, (last, 0))).map(|(_, it)| it)
    }

    /// Notes what is wrong, if it is the first thing.
    fn check(&mut self, is_right: bool, what: impl FnOnce() -> String) {
        if !is_right && self.wrong.is_none() {
            self.wrong = Some(what());
        }
    }

    fn take(&mut self, batch: &Batch) {
        self.loads_in_a_row = 0;
        for record in &batch.appends {
            let expected = self.last_seq() + 1;
            let seq = record.seq;
            self.check(seq == expected, || format!("record {seq} follows {}", expected - 1));
            self.records.insert(record.seq, record.clone());
        }
        if let Some(commit) = &batch.commit {
            self.take_commit(commit);
        }
        for claim in &batch.claims {
            if let Some((_, claimed)) = self.effects.get_mut(claim) {
                *claimed = true;
            }
        }
        for finished in batch.commit.iter().flat_map(|it| &it.finished) {
            self.effects.remove(finished);
        }
    }

    fn take_commit(&mut self, commit: &Commit) {
        for turn in &commit.turns {
            self.take_turn(*turn);
        }
        for object in &commit.puts {
            self.put(object, true);
        }
        for (kind, id) in &commit.deletes {
            if let Some((_, true)) = self.objects.remove(&(*kind, name(id))) {
                *self.open_counts.entry(*kind).or_default() -= 1;
            }
        }
        for object in &commit.closes {
            if object.kind == Kind::Alert {
                self.note_closed_alert(object);
            }
            self.put(object, false);
        }
        for (id, entry) in &commit.timeline {
            self.told.push((id.clone(), entry.clone()));
        }
        for effect in &commit.effects {
            let known = self.effects.contains_key(&effect.key);
            self.check(!known, || format!("effect {} is planned twice", effect.key));
            self.effects.insert(effect.key.clone(), (effect.clone(), false));
        }
    }

    fn put(&mut self, object: &Object, is_open: bool) {
        let key = (object.kind, name(&object.id));
        let before = self.objects.insert(key, (object.clone(), is_open));
        let count = self.open_counts.entry(object.kind).or_default();
        *count += usize::from(is_open);
        *count -= usize::from(before.is_some_and(|(_, was_open)| was_open));
    }

    fn note_closed_alert(&mut self, object: &Object) {
        if let Ok(alert) = serde_json::from_slice::<Alert>(&object.body) {
            *self.begun_before.entry(alert.fingerprint).or_default() += u64::from(alert.count);
        }
    }

    /// Every record has one turn, in order, and time never falls.
    fn take_turn(&mut self, turn: Turn) {
        let last = self.turns.last().copied();
        let falls = last.is_some_and(|it| it.now > turn.now);
        self.check(!falls, || format!("time falls from {last:?} to {turn:?}"));
        if let Some(seq) = turn.seq {
            let before = self.turns.iter().rev().find_map(|it| it.seq).unwrap_or(0);
            self.check(seq == before + 1, || format!("turn {seq} follows {before}"));
            let known = self.records.contains_key(&seq);
            self.check(known, || format!("record {seq} is decided, but not there"));
        }
        self.turns.push(turn);
    }
}

impl Store for Disk {
    fn write(&self, batch: &Batch) -> Result<(), Error> {
        let mut disk = self.lock();
        if disk.died || disk.mood == Mood::Broken {
            return Err(failed());
        }
        if disk.lots.strikes(Fault::SlowDisk) {
            let milliseconds = disk.lots.random(Fault::SlowDisk).around(800);
            disk.time.advance(milliseconds);
        }
        let has_facts = !batch.appends.is_empty() || !batch.claims.is_empty();
        if disk.mood == Mood::Full || (disk.mood == Mood::FullForFacts && has_facts) {
            return Err(Error::Full("the simulation says so".to_owned()));
        }
        for fault in [Fault::CrashInWrite, Fault::FailedWrite] {
            if disk.lots.strikes(fault) {
                disk.died = fault == Fault::CrashInWrite;
                if disk.lots.random(fault).chance(500) {
                    disk.take(batch);
                }
                return Err(failed());
            }
        }
        disk.take(batch);
        Ok(())
    }

    fn load(&self) -> Result<Loaded, Error> {
        let mut disk = self.lock();
        disk.loads += 1;
        disk.loads_in_a_row += 1;
        assert!(
            disk.loads_in_a_row <= LOADS_MAX,
            "the watch loads again and again, and never gets on"
        );
        if disk.mood == Mood::Broken {
            return Err(failed());
        }
        let open = disk.objects.values().filter(|(_, is_open)| *is_open);
        Ok(Loaded {
            objects: open.map(|(it, _)| it.clone()).collect(),
            effects: disk.effects.values().cloned().collect(),
            watermark: disk.turns.iter().rev().find_map(|it| it.seq).unwrap_or(0),
            last_seq: disk.last_seq(),
            last_turn_at: disk.turns.last().map(|it| it.now),
        })
    }

    fn records(&self, after: u64, limit: usize) -> Result<Vec<Record>, Error> {
        let disk = self.lock();
        if disk.mood == Mood::Broken {
            return Err(failed());
        }
        let records = disk.records.range(after + 1..).take(limit);
        Ok(records.map(|(_, it)| it.clone()).collect())
    }

    fn turns(&self, after: u64, limit: usize) -> Result<Vec<(u64, Turn)>, Error> {
        let disk = self.lock();
        let skipped = usize::try_from(after).unwrap_or(usize::MAX);
        Ok((after + 1..).zip(disk.turns.iter().skip(skipped).take(limit).copied()).collect())
    }

    fn get(&self, kind: Kind, id: &str) -> Result<Option<Object>, Error> {
        Ok(self.lock().objects.get(&(kind, name(id))).map(|(it, _)| it.clone()))
    }

    fn list(
        &self,
        kind: Kind,
        scope: Scope,
        before: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Object>, Error> {
        let before = before.map(name);
        let disk = self.lock();
        let wanted = disk.of_kind(kind).rev().filter(|(object, is_open)| {
            let in_scope = match scope {
                Scope::Open => *is_open,
                Scope::Closed => !is_open,
                Scope::All => true,
            };
            in_scope && before.as_ref().is_none_or(|it| name(&object.id) < *it)
        });
        Ok(wanted.take(limit).map(|(it, _)| it.clone()).collect())
    }

    fn timeline(
        &self,
        id: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, TimelineEntry)>, Error> {
        let disk = self.lock();
        let entries = disk.told.iter().filter(|(of, _)| of == id).map(|(_, it)| it.clone());
        let skipped = usize::try_from(after).unwrap_or(usize::MAX);
        Ok((after + 1..).zip(entries.skip(skipped).take(limit)).collect())
    }

    fn retain(&self, _before: Timestamp, _budget: usize) -> Result<usize, Error> {
        if self.lock().mood == Mood::Broken { Err(failed()) } else { Ok(0) }
    }

    fn health(&self) -> Health {
        Health { engine: "simulated", disk_bytes: 0, free_bytes: 0 }
    }
}

//! A store that forgets everything at the end, to compare the real ones with, and a log for both.

use jiff::Timestamp;
use std::collections::BTreeMap;
use watchkeeper::domain::effect::{Effect, EffectKey, PlannedEffect};
use watchkeeper::domain::event::{CorrelationDomain, Event};
use watchkeeper::domain::incident::TimelineEntry;
use watchkeeper::store::{Batch, Commit, Kind, Object, Record, Scope, Store, Turn};

/// What a store must answer.
#[derive(Default)]
pub(crate) struct Model {
    records: BTreeMap<u64, Record>,
    turns: Vec<Turn>,
    open: BTreeMap<(Kind, u64), Object>,
    closed: BTreeMap<(Kind, u64), Object>,
    timelines: BTreeMap<String, Vec<TimelineEntry>>,
    effects: BTreeMap<EffectKey, (PlannedEffect, bool)>,
}

impl Model {
    /// Does what a store does with a batch.
    pub(crate) fn write(&mut self, batch: &Batch) {
        self.records.extend(batch.appends.iter().map(|it| (it.seq, it.clone())));
        if let Some(commit) = &batch.commit {
            self.turns.extend(&commit.turns);
            for object in &commit.puts {
                self.open.insert(key(object.kind, &object.id), object.clone());
            }
            for (kind, id) in &commit.deletes {
                self.open.remove(&key(*kind, id));
            }
            for object in &commit.closes {
                self.open.remove(&key(object.kind, &object.id));
                self.closed.insert(key(object.kind, &object.id), object.clone());
            }
            for (id, entry) in &commit.timeline {
                self.timelines.entry(id.clone()).or_default().push(entry.clone());
            }
            for effect in &commit.effects {
                self.effects.insert(effect.key.clone(), (effect.clone(), false));
            }
        }
        for claim in &batch.claims {
            if let Some(effect) = self.effects.get_mut(claim) {
                effect.1 = true;
            }
        }
        for finished in batch.commit.iter().flat_map(|it| &it.finished) {
            self.effects.remove(finished);
        }
    }

    /// Compares every answer of a store.
    pub(crate) fn assert_same(&self, store: &dyn Store) {
        let mut loaded = store.load().unwrap();
        loaded.objects.sort_by_key(|it| key(it.kind, &it.id));
        loaded.effects.sort_by(|a, b| a.0.key.cmp(&b.0.key));
        assert_eq!(loaded.objects, self.open.values().cloned().collect::<Vec<_>>());
        assert_eq!(loaded.effects, self.effects.values().cloned().collect::<Vec<_>>());
        let watermark = self.turns.iter().rev().find_map(|it| it.seq).unwrap_or(0);
        assert_eq!(loaded.watermark, watermark);
        assert_eq!(loaded.last_seq, self.records.keys().last().copied().unwrap_or(0));
        assert_eq!(loaded.last_turn_at, self.turns.last().map(|it| it.now));
        let records = store.records(0, usize::MAX).unwrap();
        assert_eq!(records, self.records.values().cloned().collect::<Vec<_>>());
        let turns = store.turns(0, usize::MAX).unwrap();
        assert_eq!(turns, (1..).zip(self.turns.iter().copied()).collect::<Vec<_>>());
        for (id, entries) in &self.timelines {
            let timeline = store.timeline(id, 0, usize::MAX).unwrap();
            assert_eq!(timeline, (1..).zip(entries.iter().cloned()).collect::<Vec<_>>(), "{id}");
        }
        for kind in [Kind::Incident, Kind::Execution, Kind::AlertPage] {
            self.assert_same_lists(store, kind);
        }
    }

    /// How many turns there are.
    pub(crate) fn turn_count(&self) -> usize {
        self.turns.len()
    }

    /// Checks that the history has no hole and goes to its end; retention may have removed its
    /// start.
    pub(crate) fn assert_history(&self, store: &dyn Store) {
        let records = store.records(0, usize::MAX).unwrap();
        let turns = store.turns(0, usize::MAX).unwrap();
        assert!(self.records.values().rev().zip(records.iter().rev()).all(|(a, b)| a == b));
        assert!(self.turns.iter().rev().zip(turns.iter().rev()).all(|(a, b)| *a == b.1));
        assert!(!records.is_empty() && records.len() <= self.records.len());
        assert!(!turns.is_empty() && turns.len() <= self.turns.len());
    }

    fn assert_same_lists(&self, store: &dyn Store, kind: Kind) {
        for scope in [Scope::Open, Scope::Closed, Scope::All] {
            let mut expected = BTreeMap::new();
            for (objects, wanted) in [(&self.closed, Scope::Closed), (&self.open, Scope::Open)] {
                if scope == Scope::All || scope == wanted {
                    expected.extend(objects.iter().filter(|((it, _), _)| *it == kind));
                }
            }
            let expected: Vec<_> = expected.values().rev().map(|it| (*it).clone()).collect();
            assert_eq!(store.list(kind, scope, None, usize::MAX).unwrap(), expected);
            for object in expected.iter().filter(|_| scope == Scope::All) {
                assert_eq!(store.get(kind, &object.id).unwrap().as_ref(), Some(object));
            }
        }
    }
}

fn key(kind: Kind, id: &str) -> (Kind, u64) {
    (kind, id.rsplit('-').next().unwrap().parse().unwrap_or(0))
}

/// A time, `seconds` after the start of the tests' history.
pub(crate) fn at(seconds: u64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + i64::try_from(seconds).unwrap()).unwrap()
}

/// A record whose content follows from its `seq`.
pub(crate) fn record(seq: u64) -> Record {
    let repeats = usize::try_from(seq % 40).unwrap();
    let reason = format!("record {seq} {}", noise(seq, repeats * 20));
    let event = Event::RecordPoisoned { seq, reason };
    Record { seq, correlation_domain: CorrelationDomain(0), events: vec![event] }
}

/// A turn that applied a record.
pub(crate) fn turn(seq: u64) -> Turn {
    Turn { now: at(seq), seq: Some(seq), poisoned: seq.is_multiple_of(10) }
}

/// An object.
pub(crate) fn object(kind: Kind, id: impl std::fmt::Display, body: impl Into<Vec<u8>>) -> Object {
    Object { kind, id: id.to_string(), body: body.into() }
}

/// An entry of a timeline.
pub(crate) fn entry(seconds: u64, text: &str) -> TimelineEntry {
    TimelineEntry {
        at: at(seconds),
        kind: "note".to_owned(),
        by: "ann".to_owned(),
        text: text.to_owned(),
        alerts: Vec::new(),
    }
}

/// An effect.
pub(crate) fn effect(key: &str) -> PlannedEffect {
    PlannedEffect {
        key: EffectKey(key.into()),
        idempotent: false,
        effect: Effect::DetectProblems { detection: format!("detection of {key}") },
    }
}

/// Text that does not compress well and is the same at each call.
pub(crate) fn noise(seed: u64, length: usize) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'!' + u8::try_from(state % 90).unwrap())
    };
    (0..length).map(|_| next()).collect()
}

/// The `n`-th batch of a log in which everything happens, from 1: it appends record `n` and
/// commits the one before.
pub(crate) fn batch(n: u64) -> Batch {
    let mut batch = Batch { appends: vec![record(n)], ..Batch::default() };
    let Some(seq) = n.checked_sub(1).filter(|it| *it > 0) else { return batch };
    let large = if seq.is_multiple_of(7) { 60_000 } else { 300 };
    let mut commit = Commit { turns: vec![turn(seq)], ..Commit::default() };
    let text = |what: &str| format!("{what} {n} {}", noise(n, large));
    let body = |what: &str| serde_json::to_string(&text(what)).unwrap();
    commit.puts.push(object(Kind::Incident, format!("INC-{seq}"), body("opened")));
    commit.puts.push(object(Kind::AlertPage, seq % 5, body("page")));
    commit.timeline.push((format!("INC-{seq}"), entry(seq, "opened")));
    commit.timeline.push(("INC-1".to_owned(), entry(seq, &text("again"))));
    commit.effects.push(effect(&format!("EXE-{seq}/a/1")));
    if seq.is_multiple_of(3) {
        commit.turns.push(Turn { now: at(seq), seq: None, poisoned: false });
        commit.closes.push(object(Kind::Incident, format!("INC-{}", seq - 2), body("closed")));
        commit.deletes.push((Kind::AlertPage, ((seq + 2) % 5).to_string()));
        commit.finished.push(EffectKey(format!("EXE-{}/a/1", seq - 1).into()));
        batch.claims.push(EffectKey("EXE-unknown".into()));
    }
    batch.claims.push(EffectKey(format!("EXE-{seq}/a/1").into()));
    batch.commit = Some(commit);
    batch
}

//! What the child does to a store, all of it by chance, and what a store holds.

use crate::lot::Lot;
use crate::recording::{Remark, Remarks};
use jiff::Timestamp;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use watchkeeper::domain::effect::{Effect, EffectKey, PlannedEffect};
use watchkeeper::domain::event::{AlertBatch, CorrelationDomain, Ends, Event, ReceivedAlert};
use watchkeeper::domain::incident::TimelineEntry;
use watchkeeper::domain::label::Labels;
use watchkeeper::store::{
    Batch, Commit, EmbeddedStore, Engine, Error, Kind, Object, Record, Scope, Store, Turn,
};

/// How many writes a workload does.
const STEPS: u64 = 240;
/// What retention keeps, in turns; small, so that checking an image takes little time.
const KEPT_TURNS: u64 = 15;

/// Runs a workload on a store, which is new or was left by a power loss, and tells each
/// acknowledgement.
pub(crate) fn run(engine: Engine, folder: &Path, seed: u64) {
    let mut remarks = Remarks::new();
    let mut store = open(engine, folder, &mut remarks);
    let mut plan = Plan::new(seed, &store);
    remarks.add(&Remark::Acknowledged(0, holdings(&store).unwrap()));
    for step in 1..=STEPS {
        if plan.lot.below(60) == 0 {
            drop(store);
            store = open(engine, folder, &mut remarks);
        }
        remarks.add(&Remark::Begun(step));
        if plan.lot.below(8) == 0 {
            let budget = 1 + plan.lot.below(200);
            store.retain(at(plan.applied.saturating_sub(KEPT_TURNS)), budget).unwrap();
        } else {
            store.write(&plan.batch()).unwrap();
        }
        remarks.add(&Remark::Acknowledged(step, holdings(&store).unwrap()));
    }
}

fn open(engine: Engine, folder: &Path, remarks: &mut Remarks) -> EmbeddedStore {
    remarks.add(&Remark::Opening);
    let store = crate::open(engine, folder).unwrap();
    remarks.add(&Remark::Opened);
    store
}

/// Everything that a store answers, in a line that differs when any of it does.
pub(crate) fn holdings(store: &dyn Store) -> Result<String, Error> {
    let loaded = store.load()?;
    let mut digest = DefaultHasher::new();
    let mut ids = Vec::new();
    for object in &loaded.objects {
        (object.kind, &object.id, &object.body).hash(&mut digest);
    }
    for (effect, claimed) in &loaded.effects {
        (&effect.key, claimed).hash(&mut digest);
    }
    let records = store.records(0, usize::MAX)?;
    serde_json::to_vec(&records).expect("records are stored as JSON").hash(&mut digest);
    let turns = store.turns(0, usize::MAX)?;
    for (number, turn) in &turns {
        (number, turn.now, turn.seq, turn.poisoned).hash(&mut digest);
    }
    for scope in [Scope::Open, Scope::Closed] {
        for object in store.list(Kind::Incident, scope, None, usize::MAX)? {
            (&object.id, &object.body).hash(&mut digest);
            ids.push(object.id);
        }
    }
    for id in &ids {
        for (number, entry) in store.timeline(id, 0, usize::MAX)? {
            (id, number, entry.at, entry.text).hash(&mut digest);
        }
    }
    Ok(format!(
        "records {} to {}, applied to {}, {} turns, {} open objects, {} incidents, {} effects \
         ({} claimed), digest {:016x}",
        records.first().map_or(0, |it| it.seq),
        loaded.last_seq,
        loaded.watermark,
        turns.len(),
        loaded.objects.len(),
        ids.len(),
        loaded.effects.len(),
        loaded.effects.iter().filter(|it| it.1).count(),
        digest.finish()
    ))
}

/// A record that follows in a store, to see that it still works.
pub(crate) fn next_batch(store: &dyn Store) -> Result<Batch, Error> {
    let seq = store.load()?.last_seq + 1;
    let commit = Commit {
        puts: vec![object(Kind::Memory, "memory", format!("after {seq}"))],
        ..Commit::default()
    };
    Ok(Batch { appends: vec![record(seq, Vec::new())], commit: Some(commit), ..Batch::default() })
}

/// What will happen, by chance.
struct Plan {
    lot: Lot,
    /// The `seq` of the last record.
    appended: u64,
    /// The `seq` of the last record whose turn was committed.
    applied: u64,
    /// Incidents that are open.
    open: Vec<u64>,
    /// Effects without a result.
    effects: Vec<EffectKey>,
    /// The rest of the last batch.
    decisions: Option<Batch>,
}

impl Plan {
    /// What may follow on what a store holds.
    fn new(seed: u64, store: &dyn Store) -> Self {
        let loaded = store.load().unwrap();
        let incidents = loaded.objects.iter().filter(|it| it.kind == Kind::Incident);
        Self {
            lot: Lot::new(seed),
            appended: loaded.last_seq,
            applied: loaded.watermark,
            open: incidents.map(|it| it.id.rsplit('-').next().unwrap().parse().unwrap()).collect(),
            effects: loaded.effects.into_iter().map(|(effect, _)| effect.key).collect(),
            decisions: None,
        }
    }

    /// New records, or results of turns and claims; if both, one after the other, as in the daemon:
    /// records are durable before the rest of their batch.
    fn batch(&mut self) -> Batch {
        if let Some(decisions) = self.decisions.take() {
            return decisions;
        }
        let mut batch = Batch::default();
        if self.applied == self.appended || self.lot.below(3) > 0 {
            for _ in 0..=self.lot.below(3) {
                batch.appends.push(self.record());
            }
        }
        let before = self.appended - batch.appends.len() as u64;
        if before > self.applied && self.lot.below(3) > 0 {
            let last = self.applied + 1 + self.lot.below(size(before - self.applied)) as u64;
            batch.commit = Some(self.commit(last));
        }
        if !self.effects.is_empty() && self.lot.below(3) == 0 {
            let chosen = self.lot.below(self.effects.len());
            batch.claims.extend(self.effects.get(chosen).cloned());
        }
        let is_both =
            !batch.appends.is_empty() && (batch.commit.is_some() || !batch.claims.is_empty());
        if is_both {
            let appends = std::mem::take(&mut batch.appends);
            self.decisions = Some(batch);
            return Batch { appends, ..Batch::default() };
        }
        batch
    }

    fn record(&mut self) -> Record {
        self.appended += 1;
        let count = match self.lot.below(10) {
            0 => 64,
            1..=3 => 1 + self.lot.below(10),
            _ => 1,
        };
        let alerts = (0..count).map(|_| self.alert()).collect();
        let alerts = AlertBatch { source: "prometheus".into(), alerts, rejected: Vec::new() };
        record(self.appended, vec![Event::AlertsReceived(alerts)])
    }

    fn alert(&mut self) -> ReceivedAlert {
        let instance = self.lot.noise(12);
        let labels = [("alertname", "DiskFull"), ("service", "db"), ("instance", &instance)];
        let summary = self.lot.noise(60);
        ReceivedAlert {
            labels: Labels::from_pairs(labels),
            annotations: Labels::from_pairs([("summary", summary.as_str())]),
            starts_at: Some(at(self.appended)),
            ends: Ends::Timeout,
            generator_url: "".into(),
            identity: None,
        }
    }

    /// The turns up to a record, and what they change.
    fn commit(&mut self, last: u64) -> Commit {
        let mut commit = Commit::default();
        for seq in self.applied + 1..=last {
            commit.turns.push(Turn { now: at(seq), seq: Some(seq), poisoned: seq % 10 == 0 });
            let incident = format!("INC-{seq}");
            commit.timeline.push((incident.clone(), entry(seq, self.lot.noise(40))));
            commit.puts.push(object(Kind::Incident, &incident, self.body()));
            self.open.push(seq);
            let page = self.lot.below(6).to_string();
            if self.lot.below(8) == 0 {
                commit.deletes.push((Kind::AlertPage, page));
            } else {
                commit.puts.push(object(Kind::AlertPage, &page, self.body()));
            }
            let effect = EffectKey(format!("EXE-{seq}/a/1").into());
            commit.effects.push(planned(effect.clone()));
            self.effects.push(effect);
        }
        while self.open.len() > 8 {
            let incident = format!("INC-{}", self.open.remove(self.lot.below(self.open.len())));
            commit.timeline.push((incident.clone(), entry(last, self.lot.noise(40))));
            commit.closes.push(object(Kind::Incident, &incident, self.body()));
        }
        while self.effects.len() > 10 {
            commit.finished.push(self.effects.remove(self.lot.below(self.effects.len())));
        }
        self.applied = last;
        commit
    }

    /// An object's body; now and then a large one, which is stored in pieces.
    fn body(&mut self) -> String {
        let length = match self.lot.below(60) {
            0 => 30_000 + self.lot.below(120_000),
            1..=10 => self.lot.below(8_000),
            _ => self.lot.below(900),
        };
        self.lot.noise(length)
    }
}

fn record(seq: u64, events: Vec<Event>) -> Record {
    Record { seq, correlation_domain: CorrelationDomain(0), events }
}

fn object(kind: Kind, id: &str, body: String) -> Object {
    Object { kind, id: id.to_owned(), body: body.into_bytes() }
}

fn entry(seconds: u64, text: String) -> TimelineEntry {
    let (kind, by) = ("note".to_owned(), "ann".to_owned());
    TimelineEntry { at: at(seconds), kind, by, text, alerts: Vec::new() }
}

fn planned(key: EffectKey) -> PlannedEffect {
    let effect = Effect::DetectProblems { detection: format!("detection of {key}") };
    PlannedEffect { key, idempotent: false, effect }
}

/// A time, `seconds` after the start of the history; a record's `seq` is its time.
fn at(seconds: u64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + i64::try_from(seconds).unwrap()).unwrap()
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap()
}

//! The watch with a real store, when things break: bad records, full and failing stores, restarts.

mod crowd;

use super::stepped::{self, SteppedWatch, VirtualTime};
use super::{CommandError, Handle, OpenStore, Options, SubmitError, replay, start};
use crate::act::{self, Performer};
use crate::domain::State;
use crate::domain::event::{AlertBatch, Command, Ends, Event, ReceivedAlert};
use crate::domain::execution::{Execution, ExecutionId, ExecutionState};
use crate::domain::incident::{IncidentId, IncidentState, TimelineEntry};
use crate::domain::label::Labels;
use crate::domain::rules::{
    Action, Guards, Idempotency, RuleRef, RuleSet, Runbook, RunbookMode, Step,
};
use crate::store::{self, Batch, Error, Health, Kind, Loaded, Object, Record, Scope, Store, Turn};
use crate::telemetry::Metrics;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

const GOOD: u8 = 0;
const FULL: u8 = 1;
/// It writes, and says that it failed.
const FAILING: u8 = 2;
/// It takes new records, but no results of turns.
const NO_COMMIT: u8 = 3;

/// A real store that fails when told to.
struct Moody {
    inner: store::EmbeddedStore,
    mood: Arc<AtomicU8>,
}

impl Store for Moody {
    fn write(&self, batch: &Batch) -> Result<(), Error> {
        match self.mood.load(Ordering::SeqCst) {
            FULL => Err(Error::Full("the test says so".to_owned())),
            NO_COMMIT if batch.commit.is_some() => Err(Error::Full("the test says so".to_owned())),
            FAILING => {
                self.inner.write(batch)?;
                Err(Error::Failed("the test says so".to_owned()))
            }
            _ => self.inner.write(batch),
        }
    }

    fn load(&self) -> Result<Loaded, Error> {
        self.inner.load()
    }

    fn records(&self, after: u64, limit: usize) -> Result<Vec<Record>, Error> {
        self.inner.records(after, limit)
    }

    fn turns(&self, after: u64, limit: usize) -> Result<Vec<(u64, Turn)>, Error> {
        self.inner.turns(after, limit)
    }

    fn get(&self, kind: Kind, id: &str) -> Result<Option<Object>, Error> {
        self.inner.get(kind, id)
    }

    fn list(
        &self,
        kind: Kind,
        scope: Scope,
        before: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Object>, Error> {
        self.inner.list(kind, scope, before, limit)
    }

    fn timeline(
        &self,
        id: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, TimelineEntry)>, Error> {
        self.inner.timeline(id, after, limit)
    }

    fn retain(&self, before: Timestamp, budget: usize) -> Result<usize, Error> {
        self.inner.retain(before, budget)
    }

    fn health(&self) -> Health {
        self.inner.health()
    }
}

/// A folder with a store, and its mood.
struct Place {
    folder: tempfile::TempDir,
    mood: Arc<AtomicU8>,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), mood: Arc::default() }
    }

    fn open(&self) -> Result<store::EmbeddedStore, Error> {
        store::redb::open(&self.folder.path().join("store"), store::Options::default())
    }

    /// How a watch opens the store.
    fn opener(&self) -> OpenStore {
        let (folder, mood) = (self.folder.path().join("store"), self.mood.clone());
        Box::new(move || {
            let inner = store::redb::open(&folder, store::Options::default())?;
            let store: Arc<dyn Store> = Arc::new(Moody { inner, mood: mood.clone() });
            Ok(store)
        })
    }

    fn start(&self) -> Handle {
        let options = Options {
            open: self.opener(),
            performer: Performer::new(act::Options::default()).unwrap(),
            metrics: Metrics::new(),
            retention_seconds: 3600,
            audit_retention_seconds: 3600,
        };
        start(options).unwrap()
    }

    fn set(&self, mood: u8) {
        self.mood.store(mood, Ordering::SeqCst);
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("deeds")
    }

    /// How many deeds were begun.
    fn deeds(&self) -> usize {
        std::fs::read_to_string(self.file()).unwrap_or_default().lines().count()
    }

    /// Two runbooks: each step leaves a line in a file, then takes long.
    fn rules(&self) -> Event {
        let command = format!("echo deed >> {}; exec sleep 30", self.file().display());
        let runbook = |name: &str, idempotency| Runbook {
            rule: Arc::new(RuleRef { name: name.to_owned(), ..RuleRef::default() }),
            mode: RunbookMode::Suggest,
            lock: Some("{{ incident.id }}".to_owned()),
            guards: Guards { runs_max: 1000, ..Guards::default() },
            steps: vec![Step {
                idempotency,
                ..Step::new(
                    "long",
                    Action::command(vec!["/bin/sh".to_owned(), "-c".to_owned(), command.clone()]),
                )
            }],
            ..Runbook::default()
        };
        Event::RulesLoaded(Arc::new(RuleSet {
            resolve_timeout_seconds: 300,
            runbooks: vec![
                runbook("again", Idempotency::Idempotent),
                runbook("once", Idempotency::Once),
            ],
            ..RuleSet::default()
        }))
    }
}

fn alert(name: &str) -> Event {
    alert_until(name, Ends::WhenTold)
}

fn alert_until(name: &str, ends: Ends) -> Event {
    let alert = ReceivedAlert {
        labels: Labels::from_pairs([("alertname", name)]),
        annotations: Labels::default(),
        starts_at: None,
        ends,
        generator_url: "".into(),
        identity: None,
    };
    Event::AlertsReceived(AlertBatch {
        source: "test".into(),
        alerts: vec![alert],
        rejected: Vec::new(),
    })
}

/// Polls until it is so, or fails.
async fn until(handle: &Handle, what: &str, is_so: impl Fn(&State) -> bool) {
    let begun = Instant::now();
    while !handle.peek(&is_so) {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn run(handle: &Handle, runbook: &str, incident: u64) {
    let command = Command::RunRunbook {
        runbook: runbook.to_owned(),
        parameters: BTreeMap::new(),
        incident: Some(IncidentId(incident)),
        dry_run: false,
        emergency: false,
    };
    handle.command("ann".to_owned(), command).await.unwrap();
}

fn names(state: &State) -> Vec<String> {
    let mut names: Vec<String> = state.incidents.values().map(|it| it.title.clone()).collect();
    names.sort();
    names
}

/// Replays the history of a stopped watch and compares it with what the store holds.
fn check_replay(place: &Place) {
    let store = place.open().unwrap();
    for object in replay::run(&store).unwrap() {
        let stored = store.get(object.kind, &object.id).unwrap().unwrap();
        let text = |it: &Object| String::from_utf8_lossy(&it.body).into_owned();
        assert_eq!(text(&stored), text(&object), "{:?} {}", object.kind, object.id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_decided_is_set_aside() {
    let place = Place::new();
    let handle = place.start();
    handle.submit(vec![place.rules()]).await.unwrap();
    handle.submit(vec![alert("before"), Event::Explosion, alert("lost")]).await.unwrap();
    handle.submit(vec![Event::Explosion]).await.unwrap();
    handle.submit(vec![alert("after")]).await.unwrap();
    until(&handle, "the incident about ourselves", |it| it.incidents.len() == 2).await;
    let expected = ["WatchkeeperRecordSetAside", "after"];
    assert_eq!(handle.read(names).await.unwrap(), expected);
    assert_eq!(handle.health().not_ready, None);
    handle.stop().await;

    let handle = place.start();
    assert_eq!(handle.read(names).await.unwrap(), expected);
    handle.stop().await;
    let store = place.open().unwrap();
    let turns = store.turns(0, 1000).unwrap();
    assert_eq!(turns.iter().filter(|(_, it)| it.poisoned).count(), 2);
    drop(store);
    check_replay(&place);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_answered_when_it_is_durable_and_a_wrong_one_is_refused() {
    let place = Place::new();
    let handle = place.start();
    handle.submit(vec![place.rules(), alert("down")]).await.unwrap();
    let ack = || Command::AcknowledgeIncident { incident: IncidentId(1) };
    handle.command("ann".to_owned(), ack()).await.unwrap();
    let stored = handle.get(Kind::Incident, "INC-1".to_owned()).await.unwrap().unwrap();
    assert!(String::from_utf8(stored.body).unwrap().contains("\"state\":\"acknowledged\""));
    let again = handle.command("bob".to_owned(), ack()).await;
    assert!(matches!(again, Err(CommandError::Refused(_))), "{again:?}");
    handle.stop().await;
    assert_eq!(handle.submit(vec![alert("late")]).await, Err(SubmitError::Stopping));
    check_replay(&place);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_takes_nothing_and_loses_nothing() {
    let place = Place::new();
    let handle = place.start();
    handle.submit(vec![place.rules(), alert("one")]).await.unwrap();
    place.set(FULL);
    let refused = handle.submit(vec![alert("two")]).await;
    assert!(matches!(refused, Err(SubmitError::Unavailable(_))), "{refused:?}");
    assert_eq!(handle.read(names).await.unwrap(), ["one"]);
    assert!(handle.health().not_ready.is_some());
    place.set(GOOD);
    let begun = Instant::now();
    while handle.submit(vec![alert("three")]).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(5), "it does not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(handle.read(names).await.unwrap(), ["one", "three"]);
    handle.stop().await;
    check_replay(&place);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_expires_while_nobody_can_tell_us_anything() {
    let place = Place::new();
    let handle = place.start();
    let end = Timestamp::now() + jiff::SignedDuration::from_secs(3);
    handle.submit(vec![place.rules(), alert_until("one", Ends::At(end))]).await.unwrap();
    place.set(FULL);
    handle.submit(vec![alert("two")]).await.unwrap_err();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(6) {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    place.set(GOOD);
    while handle.submit(vec![alert("three")]).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let open = |state: &State| {
        state.incidents.values().filter(|it| it.state == IncidentState::Open).count()
    };
    assert_eq!(handle.read(open).await.unwrap(), 2, "an alert expired by surprise");
    handle.stop().await;
    check_replay(&place);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_is_opened_again_and_doubles_nothing() {
    let place = Place::new();
    let handle = place.start();
    handle.submit(vec![place.rules(), alert("one")]).await.unwrap();
    run(&handle, "again", 1).await;
    until(&handle, "the step", |_| place.deeds() == 1).await;
    place.set(FAILING);
    let refused = handle.submit(vec![alert("two")]).await;
    assert!(matches!(refused, Err(SubmitError::Unavailable(_))), "{refused:?}");
    place.set(GOOD);
    until(&handle, "the second alert", |it| it.incidents.len() == 2).await;
    assert_eq!(handle.read(names).await.unwrap(), ["one", "two"]);
    assert_eq!(place.deeds(), 1, "what is under way is not begun again");
    handle.stop().await;
    check_replay(&place);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_a_step_is_done_again_or_unknown() {
    let place = Place::new();
    let handle = place.start();
    handle.submit(vec![place.rules(), alert("one"), alert("two")]).await.unwrap();
    run(&handle, "again", 1).await;
    run(&handle, "once", 2).await;
    until(&handle, "both steps", |_| place.deeds() == 2).await;
    handle.stop().await;

    let handle = place.start();
    until(&handle, "the first step again", |_| place.deeds() == 3).await;
    let state = |state: &State, id| state.executions.get(&ExecutionId(id)).map(|it| it.state);
    until(&handle, "the loss", |it| state(it, 2) == Some(ExecutionState::Unknown)).await;
    assert_eq!(handle.peek(|it| state(it, 1)), Some(ExecutionState::Running));
    // What a person stops stays stopped, also after the next restart.
    let reason = String::new();
    let abort = Command::AbortExecution { execution: ExecutionId(1), reason };
    handle.command("ann".to_owned(), abort).await.unwrap();
    handle.stop().await;
    let handle = place.start();
    until(&handle, "the end", |it| !it.executions.values().any(Execution::is_under_way)).await;
    assert_eq!(place.deeds(), 3);
    handle.stop().await;
    check_replay(&place);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_room_does_not_begin_after_stop_all() {
    let place = Place::new();
    let handle = place.start();
    let alerts = (0..24).map(|it| alert(&format!("alert {it}")));
    let facts = std::iter::once(place.rules()).chain(alerts).collect();
    handle.submit(facts).await.unwrap();
    for incident in 1..=24 {
        run(&handle, if incident % 2 == 0 { "again" } else { "once" }, incident).await;
    }
    until(&handle, "sixteen steps", |_| place.deeds() == 16).await;
    let stop = Command::StopRunbooks { reason: "enough".to_owned() };
    handle.command("ann".to_owned(), stop).await.unwrap();
    until(&handle, "the end", |it| !it.executions.values().any(Execution::is_under_way)).await;
    assert_eq!(place.deeds(), 16, "a step began after all were stopped");
    let stopped = |state: &State| {
        state.executions.values().filter(|it| it.state == ExecutionState::Aborted).count()
    };
    assert_eq!(handle.read(stopped).await.unwrap(), 24);
    handle.stop().await;
    check_replay(&place);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_is_open_when_its_alert_is_read_back() {
    let place = Place::new();
    let handle = place.start();
    for number in 0..50 {
        handle.submit(vec![alert(&format!("alert {number}"))]).await.unwrap();
        let open = |state: &State| {
            state.incidents.values().filter(|it| it.state == IncidentState::Open).count()
        };
        assert_eq!(handle.read(open).await.unwrap(), number + 1);
    }
    handle.stop().await;
    check_replay(&place);
}

/// A fact that leaves a trace: it is counted, and it makes a turn.
fn fact(seq: u64) -> Vec<Event> {
    vec![Event::RecordPoisoned { seq, reason: "a test".to_owned() }]
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(2), what).await.expect("it takes too long")
}

async fn until_ready(handle: &Handle) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while handle.health().not_ready.is_some() {
        assert!(Instant::now() < deadline, "it does not recover");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_survives_every_kind_of_trouble_and_nobody_waits_for_it() {
    let place = Place::new();
    let handle = place.start();
    let mut taken = 0;
    for trouble in [NO_COMMIT, FULL, FAILING, NO_COMMIT] {
        soon(handle.submit(fact(1))).await.unwrap();
        taken += 1;
        place.set(trouble);
        let (submitted, settled) =
            tokio::join!(soon(handle.submit(fact(2))), soon(handle.settle()));
        taken += u64::from(submitted.is_ok());
        settled.unwrap();
        soon(handle.settle()).await.unwrap();
        soon(handle.settle()).await.unwrap();
        assert!(handle.health().not_ready.is_some(), "the trouble is not told");
        assert!(soon(handle.submit(fact(3))).await.is_err());
        place.set(GOOD);
        until_ready(&handle).await;
    }
    soon(handle.settle()).await.unwrap();
    handle.stop().await;
    drop(handle);
    let store = place.open().unwrap();
    let loaded = store.load().unwrap();
    let records = store.records(0, usize::MAX).unwrap();
    let facts = records.iter().filter(|it| it.events == fact(1) || it.events == fact(2));
    assert!(facts.count() as u64 >= taken);
    assert_eq!(loaded.watermark, loaded.last_seq, "all that was taken is decided");
    let decided: Vec<u64> =
        store.turns(0, usize::MAX).unwrap().iter().filter_map(|(_, it)| it.seq).collect();
    assert_eq!(decided, (1..=loaded.last_seq).collect::<Vec<_>>(), "each once, in order");
}

#[test]
fn our_time_is_not_ahead_once_the_clock_is_right_again() {
    let place = Place::new();
    let time = VirtualTime::starting_at(Timestamp::now());
    let (open, metrics) = (place.opener(), Metrics::new());
    let options = stepped::Options {
        open,
        time: time.clone(),
        metrics,
        retention_seconds: 3600,
        audit_retention_seconds: 3600,
    };
    let mut watch = SteppedWatch::open(options).unwrap();
    watch.round();
    time.set_wall_clock(-3_600_000);
    watch.round();
    assert_eq!(watch.ahead().as_secs(), 3600);
    // Nobody looks at the clock while the store fails.
    place.set(FAILING);
    drop(watch.submit(vec![alert("a")]).unwrap());
    watch.round();
    time.set_wall_clock(3_600_000);
    place.set(GOOD);
    for _ in 0..100 {
        time.advance(600);
        watch.round();
    }
    assert_eq!(watch.health().not_ready, None);
    assert_eq!(watch.ahead().as_secs(), 0);
}

//! Overload: a sender is held while the log cannot take more, and only then told to come again.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

#[expect(dead_code, reason = "the receiver that records is for the tests of the daemon")]
#[path = "daemon/http.rs"]
mod http;

use futures_util::FutureExt;
use http::Reply;
use jiff::{SignedDuration, Timestamp};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use watchkeeper::act::{self, Performer};
use watchkeeper::domain::alert::AlertState;
use watchkeeper::domain::event::{AlertBatch, Command, Ends, Event, ReceivedAlert};
use watchkeeper::domain::incident::{IncidentId, TimelineEntry};
use watchkeeper::domain::label::Labels;
use watchkeeper::engine::{self, Handle, SubmitError};
use watchkeeper::ingest::{self, Door};
use watchkeeper::store::redb::open;
use watchkeeper::store::{
    Batch, EmbeddedStore, Error, Health, Kind, Loaded, Object, Options, Record, Scope, Store, Turn,
};
use watchkeeper::telemetry::Metrics;

/// More than the engine lets wait.
const SUBMITS: usize = 6000;

/// A disk that stands still when the test says so.
#[derive(Default)]
struct Disk {
    stands_still: Mutex<bool>,
    moved: Condvar,
}

impl Disk {
    fn set(&self, stands_still: bool) {
        *self.stands_still.lock().unwrap() = stands_still;
        self.moved.notify_all();
    }

    fn wait(&self) {
        let guard = self.stands_still.lock().unwrap();
        drop(self.moved.wait_while(guard, |it| *it).unwrap());
    }
}

/// A real store on such a disk.
struct SlowStore(EmbeddedStore, Arc<Disk>);

impl Store for SlowStore {
    fn write(&self, batch: &Batch) -> Result<(), Error> {
        self.1.wait();
        self.0.write(batch)
    }
    fn load(&self) -> Result<Loaded, Error> {
        self.0.load()
    }
    fn records(&self, after: u64, limit: usize) -> Result<Vec<Record>, Error> {
        self.0.records(after, limit)
    }
    fn turns(&self, after: u64, limit: usize) -> Result<Vec<(u64, Turn)>, Error> {
        self.0.turns(after, limit)
    }
    fn get(&self, kind: Kind, id: &str) -> Result<Option<Object>, Error> {
        self.0.get(kind, id)
    }
    fn list(
        &self,
        kind: Kind,
        scope: Scope,
        before: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Object>, Error> {
        self.0.list(kind, scope, before, limit)
    }
    fn timeline(
        &self,
        id: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, TimelineEntry)>, Error> {
        self.0.timeline(id, after, limit)
    }
    fn retain(&self, before: Timestamp, budget: usize) -> Result<usize, Error> {
        self.0.retain(before, budget)
    }
    fn health(&self) -> Health {
        self.0.health()
    }
}

fn start(folder: &Path, disk: &Arc<Disk>) -> Handle {
    let (folder, disk) = (folder.to_owned(), disk.clone());
    let open_slow = move || {
        let store = open(&folder, Options::default())?;
        Ok(Arc::new(SlowStore(store, disk.clone())) as Arc<dyn Store>)
    };
    watchkeeper::cli::client::choose_cryptography();
    engine::start(engine::Options {
        open: Box::new(open_slow),
        performer: Performer::new(act::Options::default()).unwrap(),
        metrics: Metrics::new(),
        retention_seconds: 3600,
        audit_retention_seconds: 3600,
    })
    .unwrap()
}

async fn listen(handle: &Handle) -> SocketAddr {
    serve(Door::new(handle.clone(), Metrics::new(), Arc::new(|_| true))).await
}

async fn serve(door: Door) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, ingest::routes(Arc::new(door))).into_future());
    address
}

/// Fills every place in which something can wait, and returns the many who wait.
async fn fill(handle: &Handle) -> Vec<tokio::task::JoinHandle<Result<(), SubmitError>>> {
    let mut waiting = Vec::new();
    for number in 0..SUBMITS {
        let handle = handle.clone();
        waiting.push(tokio::spawn(async move { handle.submit(vec![Event::Woken]).await }));
        // Lets them get in, so that the first wait in the round that stands still.
        if number % 500 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while handle.submit(vec![]).now_or_never() != Some(Err(SubmitError::Overloaded)) {
        assert!(Instant::now() < deadline, "there is room without end");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    waiting
}

fn post(address: SocketAddr, name: &str) -> tokio::task::JoinHandle<(Reply, Duration)> {
    post_body(address, format!(r#"[{{"labels":{{"alertname":"{name}"}}}}]"#))
}

fn post_body(address: SocketAddr, body: String) -> tokio::task::JoinHandle<(Reply, Duration)> {
    tokio::task::spawn_blocking(move || {
        let begun = Instant::now();
        let headers = [("content-type", "application/json")];
        let reply =
            http::send(address, "POST", "/api/v2/alerts", &headers, body.as_bytes()).unwrap();
        (reply, begun.elapsed())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_is_held_and_then_told_to_come_again_and_nothing_accepted_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(Disk::default());
    let handle = start(folder.path(), &disk);
    let address = listen(&handle).await;

    disk.set(true);
    let waiting = fill(&handle).await;
    let held = post(address, "Held");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!held.is_finished(), "it was answered though nothing could be written");
    disk.set(false);
    let (reply, took) = held.await.unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(took >= Duration::from_millis(500), "{took:?}");
    let mut accepted = 0;
    for submit in waiting {
        accepted += usize::from(submit.await.unwrap().is_ok());
    }
    assert!((1000..SUBMITS).contains(&accepted), "{accepted} of {SUBMITS}");

    disk.set(true);
    let waiting = fill(&handle).await;
    let (reply, took) = post(address, "Refused").await.unwrap();
    assert_eq!(reply.status, 503, "{reply:?}");
    assert!(reply.headers.contains_key("retry-after"), "{reply:?}");
    assert!((3..10).contains(&took.as_secs()), "{took:?}");
    disk.set(false);
    for submit in waiting {
        drop(submit.await.unwrap());
    }
    let known = handle.read(|state| state.alerts.len()).await.unwrap();
    assert_eq!(known, 1, "what was held is there, what was refused is not");
    handle.stop().await;
}

/// A delivery of one alert of this name, which fires or is over.
fn told(name: &str, fires: bool) -> Vec<Event> {
    let now = Timestamp::now();
    let alert = ReceivedAlert {
        labels: Labels::from_pairs([("alertname", name)]),
        annotations: Labels::default(),
        starts_at: Some(now - SignedDuration::from_secs(60)),
        ends: if fires { Ends::WhenTold } else { Ends::At(now) },
        generator_url: "".into(),
        identity: None,
    };
    let source = "prometheus".into();
    vec![Event::AlertsReceived(AlertBatch { source, alerts: vec![alert], rejected: vec![] })]
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_storm_what_is_over_and_what_people_order_goes_first() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(Disk::default());
    let handle = start(folder.path(), &disk);
    handle.submit(told("Storm", true)).await.unwrap();
    handle.submit(told("Other", true)).await.unwrap();

    disk.set(true);
    let waiting = fill(&handle).await;
    let refused = handle.submit(told("New", true)).now_or_never();
    assert_eq!(refused, Some(Err(SubmitError::Overloaded)));
    let over = tokio::spawn({
        let handle = handle.clone();
        async move { handle.submit(told("Storm", false)).await }
    });
    let order = Command::AcknowledgeIncident { incident: IncidentId(2) };
    let order = tokio::spawn({
        let handle = handle.clone();
        async move { handle.command("ann".to_owned(), order).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    disk.set(false);
    over.await.unwrap().unwrap();
    order.await.unwrap().unwrap();
    for submit in waiting {
        drop(submit.await.unwrap());
    }
    let firing = handle.read(|state| {
        let firing = state.alerts.values().filter(|it| it.state == AlertState::Firing);
        firing.filter_map(|it| it.labels.get("alertname").map(str::to_owned)).collect::<Vec<_>>()
    });
    assert_eq!(firing.await.unwrap(), ["Other"]);
    handle.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_new_alerts_is_refused_and_those_that_are_known_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let handle = start(folder.path(), &Arc::default());
    let door = Door::new(handle.clone(), Metrics::new(), Arc::new(|_| true)).with_alerts_max(3);
    let address = serve(door).await;
    for name in ["A", "B"] {
        assert_eq!(post(address, name).await.unwrap().0.status, 200);
    }
    handle.settle().await.unwrap();
    let flood = ["C", "D"].map(|it| format!(r#"{{"labels":{{"alertname":"{it}"}}}}"#)).join(",");
    let (reply, _) = post_body(address, format!("[{flood}]")).await.unwrap();
    assert_eq!(reply.status, 503, "{reply:?}");
    assert!(reply.headers.contains_key("retry-after"), "{reply:?}");

    let end = Timestamp::now();
    let over = format!(r#"{{"labels":{{"alertname":"A"}},"endsAt":"{end}"}}"#);
    let (reply, _) = post_body(address, format!("[{over},{flood}]")).await.unwrap();
    assert_eq!(reply.status, 503, "what was left out must come again: {reply:?}");
    let known = handle.read(|state| {
        state.alerts.values().map(|it| (it.labels.to_string(), it.state)).collect::<Vec<_>>()
    });
    let expected = [("A", AlertState::Resolved), ("B", AlertState::Firing)]
        .map(|(name, state)| (format!("{{alertname=\"{name}\"}}"), state));
    let mut known = known.await.unwrap();
    known.sort();
    assert_eq!(known, expected);
    handle.stop().await;
}

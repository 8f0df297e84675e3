//! Overload: a sender is held while the log cannot take more, and only then told to come again.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

#[expect(dead_code, reason = "the receiver that records is for the tests of the daemon")]
#[path = "daemon/http.rs"]
mod http;

use futures_util::FutureExt;
use http::Reply;
use jiff::Timestamp;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use watchkeeper::act::{self, Performer};
use watchkeeper::domain::event::Event;
use watchkeeper::domain::incident::TimelineEntry;
use watchkeeper::engine::{self, Handle, SubmitError};
use watchkeeper::ingest::{self, Door};
use watchkeeper::store::sled::open;
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
    })
    .unwrap()
}

async fn listen(handle: &Handle) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let door = Arc::new(Door::new(handle.clone(), Metrics::new(), Arc::new(|_| true)));
    tokio::spawn(axum::serve(listener, ingest::routes(door)).into_future());
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
    let body = format!(r#"[{{"labels":{{"alertname":"{name}"}}}}]"#);
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

//! The watch: append, apply, commit, perform, sleep until the next timer.
//!
//! ```text
//!   Handle ──► intake ──► inbox thread: write all that waits, one sync; answer senders
//!                 │
//!                 ▼
//!              the watch: 1. write what was decided, let effects go
//!                         2. apply what is durable, one record after another
//!                         3. sleep until the next
//! ```

mod clock;
mod failpoint;
mod intake;
mod knowledge;
mod outlook;
mod overlay;
mod perform;
mod persist;
pub mod replay;
pub mod stepped;
mod watch;

use crate::act::{self, Board, Performer};
pub use crate::act::{Executor, Printed};
use crate::domain::effect::EffectKey;
use crate::domain::event::{Command, Event};
use crate::domain::execution::ExecutionId;
use crate::domain::incident::TimelineEntry;
use crate::domain::{Accepted, Refusal, State};
use crate::store::{self, Kind, Object, Scope, Store};
use crate::telemetry::Metrics;
use intake::{Fresh, Intake, Waiter};
use jiff::{SignedDuration, Timestamp};
pub use persist::{name_of, read_back};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;
use tokio::sync::{oneshot, watch as live};

/// How many messages may wait. A sender that finds no room is told to come again.
const MESSAGES_MAX: usize = 4096;

/// What the engine needs to start.
pub struct Options {
    /// Opens the store; called again after the store failed.
    pub open: OpenStore,
    /// Does the deeds.
    pub performer: Performer,
    /// Where to count.
    pub metrics: Metrics,
    /// How long history and closed objects are kept, in seconds.
    pub retention_seconds: u64,
    /// How long the audit trail is kept, in seconds.
    pub audit_retention_seconds: u64,
}

/// Opens a store.
pub type OpenStore = Box<dyn Fn() -> Result<Arc<dyn Store>, store::Error> + Send>;

/// What a message to the engine asks for.
enum Message {
    /// Look whether something became durable, or could not be written.
    Look,
    /// Say when everything before this is decided and durable.
    Settle { done: oneshot::Sender<Result<(), SubmitError>> },
    /// An effect has its result.
    EffectDone { key: EffectKey, events: Vec<Event> },
    /// Stop.
    Stop { done: oneshot::Sender<()> },
}

/// What all may look at.
#[derive(Default)]
struct Shared {
    state: RwLock<State>,
    store: RwLock<Option<Arc<dyn Store>>>,
    health: Mutex<Health>,
    /// See [`Handle::ahead`].
    ahead_milliseconds: AtomicI64,
    /// See [`Handle::alerts_at_hand`].
    alerts_at_hand: AtomicUsize,
    /// What readers ask of articles and past incidents.
    library: knowledge::Library,
}

/// The only way to talk to the engine. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    intake: Arc<Intake>,
    messages: SyncSender<Message>,
    shared: Arc<Shared>,
    changes: live::Receiver<u64>,
    board: Arc<Board>,
    executor: Option<Executor>,
}

/// Why facts were not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Too much waits already; come again.
    #[error("overloaded: the log cannot take more at the moment")]
    Overloaded,
    /// So many alerts are at hand that no new one is taken; those that are known go on.
    #[error(
        "overloaded: {0} alerts are at hand, and no new one is taken; those that are known go on; \
         resolve or silence what floods, or raise `server.alerts_max`"
    )]
    Crowded(usize),
    /// A source sent more than it may.
    #[error("the source `{0}` has used up its quota; see `server.quotas` in the settings")]
    OverQuota(String),
    /// The store cannot take anything at the moment.
    #[error("the store cannot take anything at the moment: {0}")]
    Unavailable(String),
    /// The daemon is stopping.
    #[error("the daemon is stopping")]
    Stopping,
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The domain said no.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// It did not get there.
    #[error("{0}")]
    NotTaken(#[from] SubmitError),
}

/// How the daemon does.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Why it is not ready; `None` = it is.
    pub not_ready: Option<String>,
    /// Effects that are planned or under way.
    pub effects_pending: u64,
    /// The store's own word.
    pub store: store::Health,
}

/// Starts the watch: opens the store, brings the state back, decides what was accepted but not
/// decided, and goes on. Effects are performed on the current tokio runtime.
pub fn start(options: Options) -> Result<Handle, store::Error> {
    let (messages, inbox) = std::sync::mpsc::sync_channel(MESSAGES_MAX);
    let shared = Arc::<Shared>::default();
    let (announce, changes) = live::channel(0);
    let hands = clock::Hands::Machine(Instant::now());
    let intake = Intake::new(messages.clone(), options.metrics.clone(), hands.clone());
    let intake = Arc::new(intake);
    let (board, executor) = (options.performer.board(), options.performer.executor());
    let hand = perform::RuntimeHand::new(&options, messages.clone(), shared.clone());
    let ground = watch::Ground {
        open: options.open,
        runner: perform::Runner::new(Box::new(hand)),
        metrics: options.metrics,
        retention_seconds: options.retention_seconds,
        audit_retention_seconds: options.audit_retention_seconds,
        hands,
        intake: intake.clone(),
    };
    let watch = watch::Watch::open(ground, shared.clone(), announce)?;
    let writer = intake.clone();
    std::thread::Builder::new()
        .name("inbox".to_owned())
        .spawn(move || writer.run())
        .map_err(|error| store::Error::Unusable(format!("no thread for the inbox: {error}")))?;
    std::thread::Builder::new()
        .name("watch".to_owned())
        .spawn(move || watch.run(&inbox))
        .map_err(|error| store::Error::Unusable(format!("no thread for the watch: {error}")))?;
    Ok(Handle { intake, messages, shared, changes, board, executor })
}

impl Handle {
    /// Takes in facts. They are durable when this returns well, and will be decided in order.
    pub async fn submit(&self, events: Vec<Event>) -> Result<(), SubmitError> {
        let (done, answer) = oneshot::channel();
        // The one writer has enough to do; if this fails, it finds out again and tells.
        let packed = store::pack(&events).ok();
        self.intake.hand_in(Fresh { events, packed, waiter: Waiter::Submit(done) })?;
        answer.await.unwrap_or(Err(SubmitError::Stopping))
    }

    /// Takes in a command and waits until it is decided and the decision is durable.
    pub async fn command(&self, by: String, command: Command) -> Result<Accepted, CommandError> {
        let (done, answer) = oneshot::channel();
        let events = vec![Event::CommandGiven { by, command }];
        self.intake.hand_in(Fresh { events, packed: None, waiter: Waiter::Command(done) })?;
        answer.await.unwrap_or(Err(SubmitError::Stopping.into()))
    }

    /// Reads the open state, after everything that was accepted before is decided and durable.
    /// `look` runs under a read lock: keep it short, copy out what is needed.
    pub async fn read<T>(&self, look: impl FnOnce(&State) -> T) -> Result<T, SubmitError> {
        self.settle().await?;
        Ok(self.peek(look))
    }

    /// Reads the open state as it is, without waiting for anything; for metrics.
    pub fn peek<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.shared.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many alerts are in memory, as of the last round.
    pub fn alerts_at_hand(&self) -> usize {
        self.shared.alerts_at_hand.load(Ordering::Relaxed)
    }

    /// How far our time is ahead of the wall clock, by which senders tell theirs; zero unless the
    /// wall clock was set back.
    pub fn ahead(&self) -> SignedDuration {
        SignedDuration::from_millis(self.shared.ahead_milliseconds.load(Ordering::Relaxed))
    }

    /// Waits until everything that was accepted before is decided and durable. Returns at once
    /// while the store takes nothing: then nothing new is decided, and reading goes on.
    pub async fn settle(&self) -> Result<(), SubmitError> {
        let (done, answer) = oneshot::channel();
        self.send(Message::Settle { done })?;
        match answer.await.unwrap_or(Err(SubmitError::Stopping)) {
            Ok(()) | Err(SubmitError::Unavailable(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Reads one object from the store, open or closed. Call [`Handle::settle`] before.
    pub async fn get(&self, kind: Kind, id: String) -> Result<Option<Object>, store::Error> {
        if self.store_takes_nothing()
            && let Some(object) = self.peek(|state| overlay::get(state, kind, &id))
        {
            return Ok(Some(object));
        }
        self.with_store(move |store| store.get(kind, &id)).await
    }

    /// Lists objects from the store in falling order of id. Call [`Handle::settle`] before.
    pub async fn list(
        &self,
        kind: Kind,
        scope: Scope,
        before: Option<String>,
        limit: usize,
    ) -> Result<Vec<Object>, store::Error> {
        let last = before.clone();
        let page =
            self.with_store(move |store| store.list(kind, scope, before.as_deref(), limit)).await?;
        if scope == Scope::Closed || !self.store_takes_nothing() {
            return Ok(page);
        }
        let last = last.as_deref();
        Ok(self.peek(|state| overlay::over_page(state, kind, last, limit, page)))
    }

    /// Then what is decided is not written yet, and stands in memory only.
    fn store_takes_nothing(&self) -> bool {
        self.health().not_ready.is_some()
    }

    /// Reads an object's timeline from the store. Call [`Handle::settle`] before.
    pub async fn timeline(
        &self,
        id: String,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, TimelineEntry)>, store::Error> {
        self.with_store(move |store| store.timeline(&id, after, limit)).await
    }

    /// Writes what is open into a file of its own in a folder, and returns its path. Nothing is
    /// written meanwhile: the watch goes on when the store was read.
    pub async fn snapshot(&self, folder: PathBuf) -> Result<PathBuf, store::Error> {
        self.with_store(move |store| store::snapshot::take(store, &folder, Timestamp::now())).await
    }

    /// A number that rises whenever something changed and the change is durable; for live views.
    pub fn changes(&self) -> live::Receiver<u64> {
        self.changes.clone()
    }

    /// A number that rises whenever a program of a step printed something.
    pub fn prints(&self) -> live::Receiver<u64> {
        self.board.changes()
    }

    /// What the programs of a run printed after what was seen of each; in memory only.
    pub fn printed(&self, run: ExecutionId, seen: &mut BTreeMap<EffectKey, u64>) -> Vec<Printed> {
        self.board.news(&format!("{run}/"), seen)
    }

    /// Whether this machine's kernel can bind programs to the paths that their steps name.
    pub fn can_confine(&self) -> bool {
        act::can_confine()
    }

    /// The way to the executor that starts all programs, if the daemon does not.
    pub fn executor(&self) -> Option<Executor> {
        self.executor.clone()
    }

    /// How the daemon does.
    pub fn health(&self) -> Health {
        self.shared.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops the watch: what is decided is made durable, what is being done is ended. Steps that
    /// are cut off are treated at the next start as after a crash.
    pub async fn stop(&self) {
        let (done, answer) = oneshot::channel();
        let mut message = Message::Stop { done };
        while let Err(TrySendError::Full(back)) = self.messages.try_send(message) {
            message = back;
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        drop(answer.await);
    }

    fn send(&self, message: Message) -> Result<(), SubmitError> {
        self.messages.try_send(message).map_err(|error| match error {
            TrySendError::Full(_) => SubmitError::Overloaded,
            TrySendError::Disconnected(_) => SubmitError::Stopping,
        })
    }

    async fn with_store<T: Send + 'static>(
        &self,
        look: impl FnOnce(&dyn Store) -> Result<T, store::Error> + Send + 'static,
    ) -> Result<T, store::Error> {
        let store = self.shared.store();
        let looking = tokio::task::spawn_blocking(move || match store {
            Some(store) => look(&*store),
            None => Err(store::Error::Failed("it is being opened again".to_owned())),
        });
        looking.await.map_err(|error| store::Error::Failed(error.to_string()))?
    }
}

impl Shared {
    fn store(&self) -> Option<Arc<dyn Store>> {
        self.store.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_store(&self, store: Option<Arc<dyn Store>>) {
        *self.store.write().unwrap_or_else(PoisonError::into_inner) = store;
    }

    fn note_health(&self, note: impl FnOnce(&mut Health)) {
        note(&mut self.health.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod faults;
#[cfg(test)]
mod invariants;

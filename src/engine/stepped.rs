//! The same watch, driven by hand: round by round, in virtual time, on one thread.
//!
//! For simulations. It runs the rounds that [`super::start`] runs: only who calls them, what the
//! clock shows, and who does the deeds are the caller's.

pub use super::clock::VirtualTime;
use super::intake::{Fresh, Intake, Waiter};
use super::perform::{Hand, Runner};
use super::watch::{Ground, Watch};
use super::{CommandError, Handle, Health, MESSAGES_MAX, Message, OpenStore, Shared, SubmitError};
use crate::domain::effect::{EffectKey, PlannedEffect};
use crate::domain::event::{Command, Event};
use crate::domain::{Accepted, State};
use crate::store;
use crate::telemetry::Metrics;
use jiff::{SignedDuration, Timestamp};
use std::ops::ControlFlow;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{oneshot, watch as live};

/// An answer that comes after some round. Nobody needs to wait for it: `try_recv` looks.
pub type Answer<T, E> = oneshot::Receiver<Result<T, E>>;

/// What a watch stands on whose time is not the machine's.
pub struct Options {
    /// Opens the store; called again after the store failed.
    pub open: OpenStore,
    /// The only clock.
    pub time: VirtualTime,
    /// Where to count.
    pub metrics: Metrics,
    /// How long history and closed objects are kept, in seconds.
    pub retention_seconds: u64,
    /// How long the audit trail is kept, in seconds.
    pub audit_retention_seconds: u64,
}

/// A watch that does nothing until it is told to. Dropping it is a crash.
pub struct SteppedWatch {
    watch: Watch,
    inbox: Receiver<Message>,
    handle: Handle,
    begun: Begun,
}

/// Collects the effects that begin, for the caller to do.
#[derive(Clone, Default)]
struct Begun(Arc<Mutex<Vec<PlannedEffect>>>);

impl Begun {
    fn effects(&self) -> MutexGuard<'_, Vec<PlannedEffect>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hand for Begun {
    fn begin(&self, effect: PlannedEffect) {
        self.effects().push(effect);
    }

    fn stop(&self) {
        self.effects().clear();
    }
}

impl SteppedWatch {
    /// Opens the store, brings the state back, and decides what was accepted but not decided.
    pub fn open(options: Options) -> Result<Self, store::Error> {
        let (messages, inbox) = std::sync::mpsc::sync_channel(MESSAGES_MAX);
        let shared = Arc::<Shared>::default();
        let (announce, changes) = live::channel(0);
        let begun = Begun::default();
        let hands = super::clock::Hands::Virtual(options.time);
        let intake = Intake::new(messages.clone(), options.metrics.clone(), hands.clone());
        let intake = Arc::new(intake);
        let ground = Ground {
            open: options.open,
            runner: Runner::new(Box::new(begun.clone())),
            metrics: options.metrics,
            retention_seconds: options.retention_seconds,
            audit_retention_seconds: options.audit_retention_seconds,
            hands,
            intake: intake.clone(),
        };
        let watch = Watch::open(ground, shared.clone(), announce)?;
        let (board, executor) = (Arc::default(), None);
        let handle = Handle { intake, messages, shared, changes, board, executor };
        Ok(Self { watch, inbox, handle, begun })
    }

    /// Hands in facts; the answer comes when they are durable.
    pub fn submit(&self, events: Vec<Event>) -> Result<Answer<(), SubmitError>, SubmitError> {
        let (done, answer) = oneshot::channel();
        self.hand_in(events, Waiter::Submit(done))?;
        Ok(answer)
    }

    /// Hands in a command; the answer comes when its decision is durable.
    pub fn command(
        &self,
        by: String,
        command: Command,
    ) -> Result<Answer<Accepted, CommandError>, SubmitError> {
        let (done, answer) = oneshot::channel();
        self.hand_in(vec![Event::CommandGiven { by, command }], Waiter::Command(done))?;
        Ok(answer)
    }

    fn hand_in(&self, events: Vec<Event>, waiter: Waiter) -> Result<(), SubmitError> {
        self.handle.intake.hand_in(Fresh { events, packed: None, waiter })
    }

    /// Writes what was handed in, as senders do while the watch is busy: without a round.
    pub fn write(&mut self) {
        self.handle.intake.write_here();
    }

    /// Asks to be told when everything before this is decided and durable.
    pub fn settle(&self) -> Result<Answer<(), SubmitError>, SubmitError> {
        let (done, answer) = oneshot::channel();
        self.handle.send(Message::Settle { done })?;
        Ok(answer)
    }

    /// Hands in what came of an effect that began.
    pub fn effect_done(&self, key: EffectKey, events: Vec<Event>) -> Result<(), SubmitError> {
        self.handle.send(Message::EffectDone { key, events })
    }

    /// Goes round once with what was handed in. Returns how long the watch would sleep now.
    pub fn round(&mut self) -> Duration {
        match self.watch.step(&self.inbox, Duration::ZERO) {
            ControlFlow::Continue(()) => self.watch.patience(),
            ControlFlow::Break(()) => Duration::MAX,
        }
    }

    /// Stops as a daemon that is told to: what is decided is made durable, no deed goes on.
    pub fn stop(mut self) {
        let (done, _answer) = oneshot::channel();
        if self.handle.send(Message::Stop { done }).is_ok() {
            while self.watch.step(&self.inbox, Duration::ZERO).is_continue() {}
        }
    }

    /// Takes the effects that began since the last call, in order.
    pub fn take_begun(&self) -> Vec<PlannedEffect> {
        std::mem::take(&mut *self.begun.effects())
    }

    /// Whether everything that was decided is durable, so that the store holds the state.
    pub fn is_durable(&self) -> bool {
        self.watch.is_durable()
    }

    /// Looks at the open state, as it is.
    pub fn peek<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        self.handle.peek(look)
    }

    /// The watch's own time.
    pub fn now(&mut self) -> Timestamp {
        self.watch.now()
    }

    /// See [`Handle::ahead`].
    pub fn ahead(&self) -> SignedDuration {
        self.handle.ahead()
    }

    /// How it does.
    pub fn health(&self) -> Health {
        self.handle.health()
    }
}

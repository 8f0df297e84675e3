//! The loop itself: one thread that writes, decides and lets effects go, in this order.

mod recover;
mod write;

use super::clock::{Clock, Hands};
use super::intake::{Answer, Intake, Pen, facts_in};
use super::perform::{Runner, outcome};
use super::{CommandError, Message, OpenStore, Shared, SubmitError, persist};
use crate::domain::audit::{AuditEntry, AuditId};
use crate::domain::effect::{EffectKey, OutcomeKind, PlannedEffect};
use crate::domain::event::Event;
use crate::domain::planted::{self, Bug};
use crate::domain::{Accepted, State};
use crate::store::{Commit, Error, Kind, Record, Store, Turn};
use crate::telemetry::Metrics;
use jiff::Timestamp;
use recover::is_result_of;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError, RwLockWriteGuard};
use std::time::Duration;
use tokio::sync::{oneshot, watch as live};

/// The longest time that a result waits for its commit when nobody waits for it.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// With so many alerts decided about a commit is made at once, so that it takes little memory.
const COMMIT_ALERTS_MAX: usize = 8192;
/// The longest sleep: the clocks and the store's health are looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often a failed store is tried again.
const RETRY_EVERY: Duration = Duration::from_millis(500);
/// How often old history is removed.
const RETAIN_EVERY: Duration = Duration::from_mins(1);
/// How many things are removed at once.
const RETAIN_BUDGET: usize = 500;
/// How long timers rest after deciding at one panicked.
const TIMERS_REST: Duration = Duration::from_mins(1);
/// How soon the watch looks again after something came: what comes until then need not wake it.
const NEAR: Duration = Duration::from_millis(1);
/// How many messages one round takes.
const ROUND_MESSAGES_MAX: usize = 512;

/// What one round has taken from the messages.
#[derive(Default)]
struct Round {
    settles: Vec<oneshot::Sender<Result<(), SubmitError>>>,
    stop: Option<oneshot::Sender<()>>,
}

/// What was decided, and waits for its commit.
#[derive(Default)]
struct Undurable {
    commit: Commit,
    effects: Vec<PlannedEffect>,
    /// With the record of the command; `None` = it waited for an effect.
    replies: Vec<(Option<u64>, oneshot::Sender<Answer>, Answer)>,
    settles: Vec<oneshot::Sender<Result<(), SubmitError>>>,
    /// How many alerts were decided about.
    alerts: usize,
    /// By the steady hand of the clock.
    since: Option<Duration>,
}

impl Undurable {
    /// Whether somebody waits for it.
    fn is_urgent(&self) -> bool {
        !(self.effects.is_empty() && self.replies.is_empty() && self.settles.is_empty())
    }

    fn is_empty(&self) -> bool {
        self.commit.turns.is_empty() && !self.is_urgent()
    }
}

/// What a watch stands on.
pub(super) struct Ground {
    pub(super) open: OpenStore,
    pub(super) runner: Runner,
    pub(super) metrics: Metrics,
    pub(super) retention_seconds: u64,
    pub(super) audit_retention_seconds: u64,
    pub(super) hands: Hands,
    pub(super) intake: Arc<Intake>,
}

/// The watch. What it keeps as a [`Duration`] is a time by the steady hand of its clock.
pub(super) struct Watch {
    open: OpenStore,
    store: Option<Arc<dyn Store>>,
    shared: Arc<Shared>,
    intake: Arc<Intake>,
    runner: Runner,
    metrics: Metrics,
    changed: live::Sender<u64>,
    clock: Clock,
    retention: jiff::SignedDuration,
    audit_retention: jiff::SignedDuration,
    undurable: Undurable,
    /// Effects that may begin once their claim is durable.
    to_claim: Vec<PlannedEffect>,
    /// Facts of our own that are not in the log yet.
    own_facts: Vec<Vec<Event>>,
    /// Who waits for which record's decision.
    commands: BTreeMap<u64, oneshot::Sender<Answer>>,
    /// Who waits for which effect's result.
    after_effect: BTreeMap<EffectKey, oneshot::Sender<Answer>>,
    /// How often applying a record panicked.
    panics: BTreeMap<u64, u32>,
    /// No timer is woken before this, because deciding at one panicked.
    timers_rest_until: Option<Duration>,
    /// The last record that was applied and is durable.
    watermark: u64,
    /// When the store failed, and why.
    trouble: Option<(Duration, String)>,
    /// Since when nobody could tell us anything, because the store failed.
    deaf_since: Option<Timestamp>,
    /// When the store's health was last looked at.
    looked_at_store: Option<Duration>,
    retained: Duration,
    /// Nobody else writes records.
    writes_itself: bool,
}

impl Watch {
    /// Opens the store and brings everything back.
    pub(super) fn open(
        ground: Ground,
        shared: Arc<Shared>,
        changed: live::Sender<u64>,
    ) -> Result<Self, Error> {
        let seconds = |it| jiff::SignedDuration::from_secs(i64::try_from(it).unwrap_or(i64::MAX));
        let clock = Clock::start(ground.hands, Timestamp::MIN);
        let mut watch = Self {
            open: ground.open,
            store: None,
            shared,
            intake: ground.intake,
            runner: ground.runner,
            metrics: ground.metrics,
            changed,
            retention: seconds(ground.retention_seconds),
            audit_retention: seconds(ground.audit_retention_seconds),
            undurable: Undurable::default(),
            to_claim: Vec::new(),
            own_facts: Vec::new(),
            commands: BTreeMap::new(),
            after_effect: BTreeMap::new(),
            panics: BTreeMap::new(),
            timers_rest_until: None,
            watermark: 0,
            trouble: None,
            deaf_since: None,
            looked_at_store: None,
            retained: clock.steady(),
            writes_itself: clock.is_virtual(),
            clock,
        };
        let last_seen = watch.recover()?;
        watch.note_health();
        watch.own_facts.insert(0, vec![Event::WatchStarted { last_seen }]);
        Ok(watch)
    }

    /// Goes round until told to stop.
    pub(super) fn run(mut self, inbox: &Receiver<Message>) {
        loop {
            let wait = self.patience();
            let is_near = self.trouble.is_none() && self.intake.is_watch_near();
            let wait = if is_near { wait.min(NEAR) } else { wait };
            if self.step(inbox, wait).is_break() {
                return;
            }
        }
    }

    /// Waits for messages and goes round once; breaks off when that was the last round.
    pub(super) fn step(&mut self, inbox: &Receiver<Message>, wait: Duration) -> ControlFlow<()> {
        let round = self.listen(inbox, wait);
        let Some(done) = self.go_round(round) else { return ControlFlow::Continue(()) };
        self.finish();
        done.send(()).unwrap_or_default();
        ControlFlow::Break(())
    }

    /// Makes durable what is known. Nothing more begins; what is not decided yet is decided at the
    /// next start.
    fn finish(&mut self) {
        self.to_claim.clear();
        self.intake.close(&SubmitError::Stopping);
        if let Err(error) = self.intake.write_own(&mut self.own_facts) {
            tracing::warn!(%error, "the last results could not be written");
        }
        self.write_and_release(true);
        self.runner.stop();
        self.shared.set_store(None);
        drop((self.intake.seize(), self.store.take()));
        self.intake.give_back(Pen::default());
        self.intake.close(&SubmitError::Stopping);
    }

    /// Waits for messages until something is due, and takes what is there.
    fn listen(&mut self, inbox: &Receiver<Message>, mut wait: Duration) -> Round {
        let mut round = Round::default();
        for _ in 0..ROUND_MESSAGES_MAX {
            match inbox.recv_timeout(wait) {
                Ok(message) => self.sort(message, &mut round),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => round.stop = Some(oneshot::channel().0),
            }
            if round.stop.is_some() {
                break;
            }
            wait = Duration::ZERO;
        }
        round
    }

    /// Puts a message where it belongs.
    fn sort(&mut self, message: Message, round: &mut Round) {
        match message {
            Message::Look => {}
            Message::Settle { done } => round.settles.push(done),
            Message::EffectDone { key, mut events } => {
                self.runner.ended(&key);
                let has_result = events.iter().any(|it| is_result_of(it, &key));
                if !has_result {
                    let outcome = outcome(OutcomeKind::Succeeded, "looked for problems");
                    events.push(Event::EffectFinished { key, outcome });
                }
                self.own_facts.push(events);
            }
            Message::Stop { done } => round.stop = Some(done),
        }
    }

    /// How long to wait for the next message.
    pub(super) fn patience(&mut self) -> Duration {
        let idle = self.own_facts.is_empty() && self.to_claim.is_empty();
        if let Some((since, _)) = &self.trouble {
            return RETRY_EVERY
                .saturating_sub(self.clock.since(*since))
                .max(Duration::from_millis(1));
        }
        if !idle || self.undurable.is_urgent() {
            return Duration::ZERO;
        }
        let now = self.clock.now();
        let timer = match (self.timers_rest(), self.state().next_wakeup()) {
            (false, Some(at)) => Duration::try_from(at.duration_since(now)).unwrap_or_default(),
            (true, _) | (false, None) => LOOK_EVERY,
        };
        let commit = (self.undurable.since)
            .map_or(LOOK_EVERY, |since| COMMIT_EVERY.saturating_sub(self.clock.since(since)));
        LOOK_EVERY.min(timer).min(commit)
    }

    /// One round: write, release, apply. Returns whom to tell when told to stop.
    fn go_round(&mut self, round: Round) -> Option<oneshot::Sender<()>> {
        if self.trouble.is_some() && !self.try_to_mend() {
            answer_settles(round.settles, &Err(self.unavailable()));
            // What is durable goes on, and what is old makes room.
            if self.store.is_some() {
                let records = self.take();
                self.apply_all(records);
            }
            self.runner.begin_waiting();
            self.retain();
            return round.stop;
        }
        if let Some(milliseconds) = self.clock.jump() {
            tracing::warn!(milliseconds, "the clock jumped");
            self.own_facts.push(vec![Event::ClockJumped { milliseconds }]);
            self.shared.ahead_milliseconds.store(self.clock.ahead(), Ordering::Relaxed);
        }
        if self.writes_itself {
            self.intake.write_here();
        }
        if let Err(error) = self.intake.write_own(&mut self.own_facts) {
            self.fail(&error);
        }
        self.shared.alerts_at_hand.store(self.state().alerts.len(), Ordering::Relaxed);
        let records = self.take();
        if self.write_and_release(!round.settles.is_empty()) {
            self.apply_all(records);
            self.wake();
            self.undurable.settles.extend(round.settles);
            if self.undurable.commit.turns.is_empty() && !self.state().has_changes() {
                let settles = std::mem::take(&mut self.undurable.settles);
                answer_settles(settles, &Ok(()));
            }
        } else {
            answer_settles(round.settles, &Err(self.unavailable()));
        }
        self.runner.begin_waiting();
        self.note_health();
        self.retain();
        round.stop
    }

    /// Takes what became durable; where taking it in failed, notes that.
    fn take(&mut self) -> Vec<Record> {
        let taken = self.intake.take();
        self.commands.extend(taken.commands);
        if let Some(error) = taken.failure {
            self.fail(&error);
        }
        taken.records
    }

    /// Applies records in order.
    fn apply_all(&mut self, records: Vec<Record>) {
        for record in records {
            let now = self.clock.now();
            if self.apply(now, Some(record.seq), &record.events).is_err() {
                // The state is half changed: bring it back from the store, and with it this
                // record and those after it.
                if let Err(error) = self.recover() {
                    self.fail(&error);
                }
                return;
            }
        }
    }

    /// Wakes the timers that are due.
    fn wake(&mut self) {
        let now = self.clock.now();
        let is_due = self.state().next_wakeup().is_some_and(|at| at <= now);
        if !is_due || self.trouble.is_some() || self.timers_rest() {
            return;
        }
        if self.apply(now, None, &[Event::Woken]).is_err() {
            // Alerts are still taken and decided about; only what waits for a time waits longer.
            self.timers_rest_until = Some(self.clock.steady() + TIMERS_REST);
            if let Err(error) = self.recover() {
                self.fail(&error);
            }
        }
    }

    fn timers_rest(&self) -> bool {
        self.timers_rest_until.is_some_and(|it| it > self.clock.steady())
    }

    /// Applies one record or wake-up as one turn. A panic is caught; the state is then unusable.
    fn apply(&mut self, now: Timestamp, seq: Option<u64>, events: &[Event]) -> Result<(), ()> {
        let shared = self.shared.clone();
        let mut state = write_lock(&shared);
        for event in events {
            let applied = catch_unwind(AssertUnwindSafe(|| state.apply(now, event)));
            let Ok(mut turn) = applied else {
                tracing::error!(seq, "deciding about a record or a timer panicked; this is a bug");
                if let Some(seq) = seq {
                    *self.panics.entry(seq).or_default() += 1;
                }
                return Err(());
            };
            for count in &turn.counts {
                self.metrics.count(count);
            }
            write::log_warnings(&turn.timeline);
            let names = turn.timeline.into_iter();
            self.undurable
                .commit
                .timeline
                .extend(names.map(|(key, entry)| (persist::name_of(&key).1, entry)));
            for key in &turn.finished {
                if let Some(done) = self.after_effect.remove(key) {
                    self.undurable.replies.push((None, done, Ok(Accepted::Done)));
                }
            }
            self.undurable.commit.finished.extend(turn.finished);
            self.undurable.commit.effects.extend(turn.effects.iter().cloned());
            if planted::is(Bug::EffectBeforeCommit) {
                turn.effects.drain(..).for_each(|it| self.runner.perform(it));
            }
            self.undurable.effects.extend(turn.effects);
            if let (Some(reply), Some(seq)) = (turn.reply, seq)
                && let Some(done) = self.commands.remove(&seq)
            {
                let reply = reply.map_err(CommandError::Refused);
                self.undurable.replies.push((Some(seq), done, reply));
            }
        }
        self.undurable.alerts += events.iter().map(facts_in).sum::<usize>();
        self.undurable.commit.turns.push(Turn { now, seq, poisoned: false });
        self.undurable.since.get_or_insert_with(|| self.clock.steady());
        Ok(())
    }

    fn unavailable(&self) -> SubmitError {
        let reason = self.trouble.as_ref().map_or("try again", |(_, reason)| reason);
        SubmitError::Unavailable(reason.to_owned())
    }

    fn note_health(&mut self) {
        let not_ready = self.trouble.as_ref().map(|(_, reason)| reason.clone());
        let effects_pending = self.runner.pending() + self.to_claim.len() as u64;
        let is_time = self.looked_at_store.is_none_or(|it| self.clock.since(it) >= LOOK_EVERY);
        let store = self.store.as_ref().filter(|_| is_time).map(|it| it.health());
        if is_time {
            self.looked_at_store = Some(self.clock.steady());
        }
        self.shared.note_health(|health| {
            health.not_ready = not_ready;
            health.effects_pending = effects_pending;
            if let Some(store) = store {
                health.store = store;
            }
        });
    }

    fn retain(&mut self) {
        if self.clock.since(self.retained) < RETAIN_EVERY || self.store.is_none() {
            return;
        }
        self.retained = self.clock.steady();
        let before = self.clock.now().checked_sub(self.retention).unwrap_or(Timestamp::MIN);
        let removed = self.store.as_ref().map(|it| it.retain(before, RETAIN_BUDGET));
        match removed {
            Some(Ok(count)) if count > 0 => tracing::info!(count, "removed old history"),
            Some(Err(error)) => self.fail(&error),
            Some(Ok(_)) | None => {}
        }
        if let Err(error) = self.trim_audit() {
            self.fail(&error);
        }
    }

    /// Finds the entries of the audit trail that are so old that they may go. That they go is a fact
    /// as any other, so that the chain itself tells where it begins.
    fn trim_audit(&mut self) -> Result<(), Error> {
        let Some(store) = self.store.clone().filter(|_| self.trouble.is_none()) else {
            return Ok(());
        };
        let before = self.clock.now().checked_sub(self.audit_retention).unwrap_or(Timestamp::MIN);
        let first = self.state().memory.audit.anchor.id.0 + 1;
        let mut old = None;
        for number in (first..).take(RETAIN_BUDGET) {
            let found = store.get(Kind::Audit, &AuditId(number).to_string())?;
            let entry = found.as_ref().map(persist::parse::<AuditEntry>).transpose()?;
            match entry {
                Some(entry) if entry.at < before => old = Some(entry.link()),
                Some(_) | None => break,
            }
        }
        self.own_facts.extend(old.map(|up_to| vec![Event::AuditTrimmed { up_to }]));
        Ok(())
    }

    /// Whether everything that was decided is durable.
    pub(super) fn is_durable(&self) -> bool {
        self.undurable.is_empty() && self.store.is_some()
    }

    /// The time.
    pub(super) fn now(&mut self) -> Timestamp {
        self.clock.now()
    }

    fn state(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.shared.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_lock(shared: &Shared) -> RwLockWriteGuard<'_, State> {
    shared.state.write().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Watch {
    /// Nothing is taken in that nobody decides about.
    fn drop(&mut self) {
        self.intake.close(&SubmitError::Stopping);
    }
}

/// The result of a step that was told to stop before it began.
fn not_begun(key: EffectKey) -> Event {
    let outcome = outcome(OutcomeKind::Stopped, "stopped before it began");
    Event::EffectFinished { key, outcome }
}

fn answer_settles(
    settles: Vec<oneshot::Sender<Result<(), SubmitError>>>,
    answer: &Result<(), SubmitError>,
) {
    for done in settles {
        drop(done.send(answer.clone()));
    }
}

//! The way in: facts wait here until they are durable.
//!
//! One thread writes what waits, all of it at once, while the watch decides about what is durable
//! already and senders read the next alerts: the group commit of databases. There is one pen: who
//! holds it writes, and numbers the records.

use super::clock::Hands;
use super::failpoint;
use super::{CommandError, Message, SubmitError};
use crate::domain::Accepted;
use crate::domain::event::{CorrelationDomain, Ends, Event, ReceivedAlert};
use crate::domain::planted::{self, Bug};
use crate::store::{Batch, Error, Packed, Record, Store};
use crate::telemetry::Metrics;
use jiff::Timestamp;
use std::collections::VecDeque;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// How many senders may wait. One that finds no room is told to come again.
const WAITING_MAX: usize = 4096;
/// So many more may wait that must not wait behind a storm: what people order, and what is over.
const WAITING_RESERVE: usize = 512;
/// How long facts that wait are in all, packed, in bytes. A single sender always finds room.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// How many records one write takes.
const WRITE_RECORDS_MAX: usize = 512;
/// How many facts one write takes, roughly; alerts count one each.
const WRITE_ALERTS_MAX: usize = 8192;
/// With so many facts durable and not decided about, the next ones wait.
const UNDECIDED_MAX: usize = 16_384;
/// With so many facts durable the watch is woken at once, even if it looks soon by itself.
const NEAR_FACTS_MAX: usize = 512;

/// What whoever gave a command is told.
pub(super) type Answer = Result<Accepted, CommandError>;

/// Whom a record's result goes to.
pub(super) enum Waiter {
    /// A sender: told when the record is durable.
    Submit(oneshot::Sender<Result<(), SubmitError>>),
    /// Whoever gave a command: told when its decision is durable.
    Command(oneshot::Sender<Answer>),
}

/// Facts on their way to become a record.
pub(super) struct Fresh {
    pub(super) events: Vec<Event>,
    /// See [`Batch::packed`].
    pub(super) packed: Option<Packed>,
    pub(super) waiter: Waiter,
}

impl Fresh {
    fn bytes(&self) -> usize {
        self.packed.as_ref().map_or(0, |it| it.0.len())
    }

    /// Whether it gets in where new alerts no longer do: an order, or word that alerts are over, of
    /// which there are never more than began.
    fn goes_first(&self, now: Timestamp) -> bool {
        let is_over = |it: &ReceivedAlert| matches!(it.ends, Ends::At(at) if at <= now);
        let tells_ends = |it: &Event| {
            matches!(it, Event::AlertsReceived(batch)
                if !batch.alerts.is_empty() && batch.alerts.iter().all(is_over))
        };
        matches!(self.waiter, Waiter::Command(_))
            || (!self.events.is_empty() && self.events.iter().all(tells_ends))
    }
}

/// The right to write records.
#[derive(Default)]
pub(super) struct Pen {
    /// `None` = the store is not open.
    pub(super) store: Option<Arc<dyn Store>>,
    /// The `seq` of the last record; 0 = none.
    pub(super) last_seq: u64,
}

/// What became durable since the watch last looked.
#[derive(Default)]
pub(super) struct Taken {
    /// In order.
    pub(super) records: Vec<Record>,
    /// Who waits for which record's decision.
    pub(super) commands: Vec<(u64, oneshot::Sender<Answer>)>,
    /// A write failed; nothing was taken in after it.
    pub(super) failure: Option<Error>,
}

/// The way in. One for a watch and all its handles.
pub(super) struct Intake {
    desk: Mutex<Desk>,
    for_writer: Condvar,
    pen_is_back: Condvar,
    messages: SyncSender<Message>,
    metrics: Metrics,
    hands: Hands,
}

#[derive(Default)]
struct Desk {
    waiting: VecDeque<Fresh>,
    /// How long they are, packed, in bytes.
    waiting_bytes: usize,
    /// Somebody writes while it does not lie here.
    pen: Option<Pen>,
    /// The watch wants the pen; nobody else takes it.
    wanted: bool,
    /// The writer waits for something to write, and nobody has woken it yet.
    writer_sleeps: bool,
    /// The watch looks here soon by itself.
    watch_is_near: bool,
    /// Why nothing is taken in.
    closed: Option<SubmitError>,
    taken: Taken,
    /// How many facts are durable that the watch has not taken yet.
    undecided: usize,
}

/// A write under way.
struct Writing {
    pen: Pen,
    fresh: Vec<Fresh>,
}

impl Intake {
    pub(super) fn new(messages: SyncSender<Message>, metrics: Metrics, hands: Hands) -> Self {
        let desk = Desk { pen: Some(Pen::default()), ..Desk::default() };
        Self {
            desk: Mutex::new(desk),
            for_writer: Condvar::new(),
            pen_is_back: Condvar::new(),
            messages,
            metrics,
            hands,
        }
    }

    /// Puts facts where they wait to be written.
    pub(super) fn hand_in(&self, fresh: Fresh) -> Result<(), SubmitError> {
        let mut desk = self.desk();
        desk.put(fresh, &self.hands)?;
        let wakes_writer = std::mem::take(&mut desk.writer_sleeps);
        drop(desk);
        if wakes_writer {
            self.for_writer.notify_one();
        }
        Ok(())
    }

    /// Writes what comes, until the watch stops.
    pub(super) fn run(&self) {
        while self.wait() {
            self.write_once();
        }
    }

    /// Writes what waits, on this thread.
    pub(super) fn write_here(&self) {
        while self.write_once() {}
    }

    /// Waits until there is something to write; false = the watch stops.
    fn wait(&self) -> bool {
        let mut desk = self.desk();
        while !desk.can_write() {
            if desk.closed == Some(SubmitError::Stopping) {
                return false;
            }
            desk.writer_sleeps = true;
            desk = self.for_writer.wait(desk).unwrap_or_else(PoisonError::into_inner);
            desk.writer_sleeps = false;
        }
        true
    }

    /// Takes what is durable, to decide about it.
    pub(super) fn take(&self) -> Taken {
        let mut desk = self.desk();
        let had_no_room = std::mem::take(&mut desk.undecided) >= UNDECIDED_MAX;
        let taken = std::mem::take(&mut desk.taken);
        desk.watch_is_near = !taken.records.is_empty();
        drop(desk);
        if had_no_room {
            self.for_writer.notify_one();
        }
        taken
    }

    /// Whether something came a moment ago: then the watch looks soon whether more did, and is not
    /// woken for it.
    pub(super) fn is_watch_near(&self) -> bool {
        self.desk().watch_is_near
    }

    /// Writes facts of our own, each as a record, and keeps them for [`Intake::take`]. What cannot
    /// be written stays where it is.
    pub(super) fn write_own(&self, facts: &mut Vec<Vec<Event>>) -> Result<(), Error> {
        if facts.is_empty() {
            return Ok(());
        }
        let mut pen = self.seize();
        // After a write that failed nobody knows what is there, until the watch has looked.
        let is_known = self.desk().taken.failure.is_none();
        let written = if is_known { pen.append(facts) } else { Ok(Vec::new()) };
        let result = written.map(|records| {
            failpoint::after_facts(&records);
            self.desk().taken.records.extend(records);
        });
        self.give_back(pen);
        result
    }

    /// Takes the pen, once whoever writes is done: nothing becomes durable until it is back.
    pub(super) fn seize(&self) -> Pen {
        let mut desk = self.desk();
        desk.wanted = true;
        loop {
            if let Some(pen) = desk.pen.take() {
                return pen;
            }
            desk = self.pen_is_back.wait(desk).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Puts the pen back.
    pub(super) fn give_back(&self, pen: Pen) {
        let mut desk = self.desk();
        desk.wanted = false;
        desk.pen = Some(pen);
        drop(desk);
        self.for_writer.notify_one();
    }

    /// Takes nothing in from now on, and tells everybody who waits.
    pub(super) fn close(&self, why: &SubmitError) {
        let mut desk = self.desk();
        let waiting = std::mem::take(&mut desk.waiting);
        desk.waiting_bytes = 0;
        desk.closed = Some(why.clone());
        drop(desk);
        self.for_writer.notify_one();
        for fresh in waiting {
            fresh.waiter.refuse(why);
        }
    }

    /// Takes facts in again.
    pub(super) fn open(&self) {
        self.desk().closed = None;
        self.for_writer.notify_one();
    }

    /// Does one write, if something waits and nobody writes. Tells whether it did.
    fn write_once(&self) -> bool {
        let Some(mut writing) = self.desk().begin() else { return false };
        if planted::is(Bug::AcknowledgeBeforeAppend) {
            writing.fresh.iter_mut().for_each(acknowledge_early);
        }
        let mut batch = Batch::default();
        let mut waiters = Vec::with_capacity(writing.fresh.len());
        for (fresh, seq) in writing.fresh.into_iter().zip(writing.pen.last_seq + 1..) {
            let Fresh { events, packed, waiter } = fresh;
            batch.appends.push(Record {
                seq,
                correlation_domain: CorrelationDomain::default(),
                events,
            });
            batch.packed.push(packed);
            waiters.push(waiter);
        }
        let begun = self.hands.steady();
        let result = writing.pen.write(&batch);
        let took = self.hands.steady().saturating_sub(begun);
        self.metrics.log_append_seconds(took.as_secs_f64());
        match result {
            Ok(()) => self.finish(writing.pen, batch.appends, waiters),
            Err(error) => self.give_up(writing.pen, waiters, error),
        }
        true
    }

    /// Keeps what was written for the watch, and answers.
    fn finish(&self, pen: Pen, records: Vec<Record>, waiters: Vec<Waiter>) {
        let mut answers = Vec::with_capacity(waiters.len());
        let mut desk = self.desk();
        for (record, waiter) in records.into_iter().zip(waiters) {
            match waiter {
                Waiter::Submit(done) => answers.push(done),
                Waiter::Command(done) => desk.taken.commands.push((record.seq, done)),
            }
            desk.undecided += record.events.iter().map(facts_in).sum::<usize>();
            desk.taken.records.push(record);
        }
        let is_urgent = !desk.taken.commands.is_empty() || desk.undecided >= NEAR_FACTS_MAX;
        self.put_back(desk, pen, is_urgent);
        for done in answers {
            drop(done.send(Ok(())));
        }
    }

    /// Refuses what could not be written, and whatever comes after it.
    fn give_up(&self, pen: Pen, waiters: Vec<Waiter>, error: Error) {
        let why = SubmitError::Unavailable(error.to_string());
        let mut desk = self.desk();
        desk.taken.failure = Some(error);
        self.put_back(desk, pen, true);
        self.close(&why);
        for waiter in waiters {
            waiter.refuse(&why);
        }
    }

    /// Puts the pen back after a write, and wakes the watch if it must look at once, or does not
    /// look soon by itself.
    fn put_back(&self, mut desk: MutexGuard<'_, Desk>, pen: Pen, is_urgent: bool) {
        desk.pen = Some(pen);
        let watch_is_near = std::mem::replace(&mut desk.watch_is_near, true);
        let is_wanted = desk.wanted;
        drop(desk);
        if is_wanted {
            self.pen_is_back.notify_one();
        }
        if is_urgent || !watch_is_near {
            // Where there is no room for one more message it is awake.
            drop(self.messages.try_send(Message::Look));
        }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Desk {
    fn put(&mut self, fresh: Fresh, hands: &Hands) -> Result<(), SubmitError> {
        if let Some(why) = &self.closed {
            return Err(why.clone());
        }
        let (count, bytes) = (self.waiting.len(), self.waiting_bytes + fresh.bytes());
        let is_full = count >= WAITING_MAX || (count > 0 && bytes > WAITING_BYTES_MAX);
        let has_room =
            !is_full || (count < WAITING_MAX + WAITING_RESERVE && fresh.goes_first(hands.wall()));
        if !has_room {
            return Err(SubmitError::Overloaded);
        }
        self.waiting_bytes = bytes;
        self.waiting.push_back(fresh);
        Ok(())
    }

    fn can_write(&self) -> bool {
        !self.waiting.is_empty()
            && self.pen.is_some()
            && !self.wanted
            && self.closed.is_none()
            && self.taken.failure.is_none()
            && self.undecided < UNDECIDED_MAX
    }

    /// Takes the pen, and what one write takes.
    fn begin(&mut self) -> Option<Writing> {
        if !self.can_write() {
            return None;
        }
        let pen = self.pen.take()?;
        let mut facts = 0;
        let mut fresh = Vec::new();
        while facts < WRITE_ALERTS_MAX && fresh.len() < WRITE_RECORDS_MAX {
            let Some(next) = self.waiting.pop_front() else { break };
            facts += next.events.iter().map(facts_in).sum::<usize>();
            self.waiting_bytes = self.waiting_bytes.saturating_sub(next.bytes());
            fresh.push(next);
        }
        Some(Writing { pen, fresh })
    }
}

impl Pen {
    fn append(&mut self, facts: &mut Vec<Vec<Event>>) -> Result<Vec<Record>, Error> {
        let mut batch = Batch::default();
        for (events, seq) in facts.drain(..).zip(self.last_seq + 1..) {
            let correlation_domain = CorrelationDomain::default();
            batch.appends.push(Record { seq, correlation_domain, events });
        }
        let result = self.write(&batch);
        if let Err(error) = result {
            facts.extend(batch.appends.into_iter().map(|it| it.events));
            return Err(error);
        }
        Ok(batch.appends)
    }

    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        let Some(store) = &self.store else {
            return Err(Error::Failed("the store is not open".to_owned()));
        };
        store.write(batch)?;
        self.last_seq += batch.appends.len() as u64;
        Ok(())
    }
}

impl Waiter {
    /// Tells that the facts were not taken.
    pub(super) fn refuse(self, why: &SubmitError) {
        match self {
            Self::Submit(done) => drop(done.send(Err(why.clone()))),
            Self::Command(done) => drop(done.send(Err(why.clone().into()))),
        }
    }
}

/// See [`Bug::AcknowledgeBeforeAppend`].
fn acknowledge_early(fresh: &mut Fresh) {
    if matches!(fresh.waiter, Waiter::Submit(_)) {
        let nobody = Waiter::Submit(oneshot::channel().0);
        if let Waiter::Submit(done) = std::mem::replace(&mut fresh.waiter, nobody) {
            drop(done.send(Ok(())));
        }
    }
}

/// How many facts an event is; alerts count one each.
pub(super) fn facts_in(event: &Event) -> usize {
    if let Event::AlertsReceived(batch) = event { batch.alerts.len() } else { 1 }
}

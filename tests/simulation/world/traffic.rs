//! Deliveries on their way, and answers on their way back.

use super::super::faults::Fault;
use super::super::laws;
use super::super::senders::{self, Delivery};
use super::{Happening, Waiting, World};
use jiff::Timestamp;
use tokio::sync::oneshot::error::TryRecvError;
use watchkeeper::domain::event::{Ends, Event};
use watchkeeper::engine::stepped::{Answer, SteppedWatch};

/// How long a person waits for an answer, in milliseconds.
const ANSWER_WITHIN: u64 = 60_000;

impl World {
    pub(super) fn look(&mut self, sender: usize) {
        let (now, wall) = (self.now(), self.time.wall());
        self.schedule(senders::LOOK_MILLISECONDS, Happening::Look(sender));
        let Some(it) = self.senders.get_mut(sender) else { return };
        for delivery in it.look(now, wall, &mut self.deliveries) {
            let mut after = self.ways.between(1, 200);
            if self.lots.strikes(Fault::LateDelivery) {
                after += self.lots.random(Fault::LateDelivery).below(30_000);
            }
            if self.lots.strikes(Fault::DoubledDelivery) {
                let apart = if sender == 0 { 30_000 } else { 50 };
                let later = after + self.lots.random(Fault::DoubledDelivery).below(apart);
                let event = delivery.event.clone();
                let double = Delivery { number: delivery.number, event };
                let happening = Happening::Arrive { sender, delivery: double, is_double: true };
                self.schedule(later, happening);
            }
            self.schedule(after, Happening::Arrive { sender, delivery, is_double: false });
        }
    }

    pub(super) fn arrive(&mut self, sender: usize, delivery: &Delivery, is_double: bool) {
        let number = delivery.number;
        let now = self.now();
        let cut_off = self.senders.get(sender).is_some_and(|it| now < it.cut_off_until);
        let is_outdated = number <= self.told_anew_from;
        let is_lost = cut_off || is_outdated || self.lots.strikes(Fault::LostDelivery);
        let Some(watch) = self.watch.as_ref().filter(|_| !is_lost) else {
            return self.answer(sender, number, false);
        };
        let mut events = vec![in_our_time(&delivery.event, watch)];
        if sender == 0 && self.lots.strikes(Fault::Poison) {
            events.extend(poison());
        }
        let from_seq = self.disk.lock().last_seq() + 1;
        match watch.submit(events) {
            Ok(answer) => {
                let sender = if is_double { usize::MAX } else { sender };
                self.waiting.push(Waiting::Delivery { sender, number, from_seq, answer });
            }
            Err(_) => self.answer(sender, number, false),
        }
        self.tell("delivery", number, || format!("{number} from {sender}: {:?}", delivery.event));
    }

    /// Tells a sender whether its delivery was taken.
    pub(super) fn answer(&mut self, sender: usize, number: u64, taken: bool) {
        if let Some(sender) = self.senders.get_mut(sender) {
            sender.answered(number, taken);
        }
    }

    /// Looks who has an answer. What is said to be taken must be on the disk.
    pub(super) fn look_at_answers(&mut self) -> laws::Verdict {
        let is_alive = self.watch.is_some();
        for mut waiting in std::mem::take(&mut self.waiting) {
            match &mut waiting {
                Waiting::Delivery { sender, number, from_seq, answer } => {
                    let taken = told(answer, is_alive)?;
                    let taken = taken.ok_or("a sender got no answer in its round")?;
                    let mark = senders::mark(*number);
                    let is_there = || self.disk.lock().has_record_of(&mark, *from_seq);
                    laws::ensure(!taken || is_there(), || {
                        format!("delivery {number} is acknowledged, and not in the log")
                    })?;
                    let lost = self.lots.strikes(Fault::LostAnswer);
                    self.answer(*sender, *number, taken && !lost);
                    self.tell("answer", u64::from(taken), || format!("{number}: {taken}"));
                }
                Waiting::Fact(answer) => drop(told(answer, is_alive)?),
                Waiting::Command { since, answer, settled } => {
                    let late = self.time.steady_milliseconds() - *since > ANSWER_WITHIN;
                    let is_settled = told(settled, true) == Ok(Some(true));
                    match told(answer, is_alive)? {
                        Some(taken) => self.tell("order", u64::from(taken), || taken.to_string()),
                        None if late => return Err("a person got no answer".to_owned()),
                        None if is_settled => return Err("settled, and not decided".to_owned()),
                        None => self.waiting.push(waiting),
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether something was taken, if that is told already. A watch that lives owes an answer.
fn told<T, E>(answer: &mut Answer<T, E>, is_alive: bool) -> Result<Option<bool>, String> {
    match answer.try_recv() {
        Ok(result) => Ok(Some(result.is_ok())),
        Err(TryRecvError::Empty) if is_alive => Ok(None),
        Err(TryRecvError::Closed) if is_alive => Err("an answer was dropped".to_owned()),
        Err(_) => Ok(Some(false)),
    }
}

/// Moves the ends that a sender tells into the watch's time, as the doors do.
fn in_our_time(event: &Event, watch: &SteppedWatch) -> Event {
    let mut event = event.clone();
    if let Event::AlertsReceived(batch) = &mut event {
        for alert in &mut batch.alerts {
            if let Ends::At(at) = &mut alert.ends {
                *at = at.checked_add(watch.ahead()).unwrap_or(Timestamp::MAX);
            }
        }
    }
    event
}

/// A fact that cannot be decided about, where the build has one.
#[cfg(feature = "planted-bugs")]
fn poison() -> Vec<Event> {
    vec![Event::Explosion]
}

/// A fact that cannot be decided about, where the build has one.
#[cfg(not(feature = "planted-bugs"))]
fn poison() -> Vec<Event> {
    Vec::new()
}

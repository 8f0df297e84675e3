//! Making it durable: new facts and the last turns' results in one step, then the answers.

use super::{Waiter, Watch, answer_not_taken, answer_settles, not_begun, write_lock};
use crate::domain::Accepted;
use crate::domain::effect::{Effect, EffectKey};
use crate::domain::event::{CorrelationDomain, Event};
use crate::engine::{persist, watch::COMMIT_EVERY};
use crate::store::{Batch, Error, Record};

impl Watch {
    /// Writes new records and, if it is time, what was decided before; then answers those who
    /// wait and lets effects go. Returns the records that were written, or `None` on failure.
    pub(super) fn write_and_release(
        &mut self,
        records: Vec<(Vec<Event>, Waiter)>,
        now_please: bool,
    ) -> Option<Vec<Record>> {
        let overdue = self.undurable.since.is_some_and(|it| self.clock.since(it) >= COMMIT_EVERY);
        let ready = !self.undurable.is_empty()
            && (now_please || overdue || self.undurable.is_urgent() || !self.to_claim.is_empty());
        if ready {
            self.fill_commit();
        }
        let (mut appends, mut waiters) = (Vec::new(), Vec::new());
        for (events, waiter) in records {
            let seq = self.last_seq + 1 + appends.len() as u64;
            appends.push(Record { seq, correlation_domain: CorrelationDomain::default(), events });
            waiters.push(waiter);
        }
        if appends.is_empty() && !ready && self.to_claim.is_empty() {
            return Some(appends);
        }
        let claimed = std::mem::take(&mut self.to_claim);
        let claims = claimed.iter().map(|it| it.key.clone()).collect();
        let commit = ready.then(|| std::mem::take(&mut self.undurable.commit));
        let mut batch = Batch { appends, commit, claims };
        match self.write(&mut batch) {
            Ok(refused) => {
                // What was claimed in this step may begin; what the step releases is claimed in the
                // next one. An order to stop among that must find what it is about.
                if refused.is_none() {
                    for effect in claimed {
                        self.runner.perform(effect);
                    }
                } else {
                    self.to_claim = claimed;
                }
                if ready {
                    self.release();
                }
                let Some(refused) = refused else {
                    self.answer_taken(&batch.appends, waiters);
                    self.runner.begin_waiting();
                    return Some(batch.appends);
                };
                // Only the commit found room; neither the records nor the claims were taken.
                self.put_back_own(&mut batch.appends, &waiters);
                self.fail(&refused);
                answer_not_taken(waiters, &self.unavailable());
                None
            }
            Err(error) => {
                if let (Error::Full(_), Some(commit)) = (&error, batch.commit.take()) {
                    self.undurable.commit = commit;
                }
                self.put_back_own(&mut batch.appends, &waiters);
                self.to_claim = claimed;
                self.fail(&error);
                answer_not_taken(waiters, &self.unavailable());
                None
            }
        }
    }

    /// Writes a batch; where it finds no room, its commit alone. Returns why the rest was refused;
    /// `None` = all was written.
    fn write(&mut self, batch: &mut Batch) -> Result<Option<Error>, Error> {
        let Some(store) = self.store.clone() else {
            return Err(Error::Failed("the store is not open".to_owned()));
        };
        let begun = self.clock.steady();
        let result = match store.write(batch) {
            Err(refused @ Error::Full(_))
                if batch.commit.is_some() && !batch.appends.is_empty() =>
            {
                let commit = batch.commit.take();
                let only = Batch { appends: Vec::new(), commit, claims: Vec::new() };
                match store.write(&only) {
                    Ok(()) => Ok(Some(refused)),
                    Err(error) => {
                        batch.commit = only.commit;
                        Err(error)
                    }
                }
            }
            other => other.map(|()| None),
        };
        self.metrics.log_append_seconds(self.clock.since(begun).as_secs_f64());
        result
    }

    /// Our own facts are not lost when they find no room.
    fn put_back_own(&mut self, appends: &mut Vec<Record>, waiters: &[Waiter]) {
        for (record, waiter) in appends.drain(..).zip(waiters) {
            if matches!(waiter, Waiter::Nobody) {
                self.own_facts.push(record.events);
            }
        }
    }

    /// Moves what changed into the commit under construction.
    pub(super) fn fill_commit(&mut self) {
        let mut state = write_lock(&self.shared);
        let changes = state.take_changes();
        let written = persist::write_down(&state, &changes);
        drop(state);
        self.undurable.commit.puts.extend(written.puts);
        self.undurable.commit.closes.extend(written.closes);
        self.undurable.commit.deletes.extend(written.deletes);
    }

    /// What was decided is durable: answers, and lets effects go.
    pub(super) fn release(&mut self) {
        let durable = std::mem::take(&mut self.undurable);
        for (_, done, reply) in durable.replies {
            match reply {
                Ok(Accepted::AfterEffect(key)) => drop(self.after_effect.insert(key, done)),
                other => drop(done.send(other)),
            }
        }
        for effect in durable.effects {
            if let Effect::StopStep { step } = &effect.effect {
                self.give_up(step);
            }
            if effect.idempotent {
                self.runner.perform(effect);
            } else {
                self.to_claim.push(effect);
            }
        }
        answer_settles(durable.settles, &Ok(()));
        self.changed.send_modify(|it| *it += 1);
    }

    /// A step that has not begun, and is told to stop, does not begin.
    fn give_up(&mut self, step: &EffectKey) {
        let unclaimed = self.to_claim.len();
        self.to_claim.retain(|it| it.key != *step);
        if self.runner.give_up(step) || self.to_claim.len() < unclaimed {
            self.own_facts.push(vec![not_begun(step.clone())]);
        }
    }

    /// The records are durable: answers their senders; commands wait for their decision.
    fn answer_taken(&mut self, records: &[Record], waiters: Vec<Waiter>) {
        self.last_seq += records.len() as u64;
        for (record, waiter) in records.iter().zip(waiters) {
            match waiter {
                Waiter::Submit(done) => drop(done.send(Ok(()))),
                Waiter::Command(done) => drop(self.commands.insert(record.seq, done)),
                Waiter::Nobody => {}
            }
        }
    }
}

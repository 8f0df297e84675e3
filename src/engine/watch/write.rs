//! Making it durable: new facts, then the answers; the last turns' results, then the effects.

use super::{Fresh, Waiter, Watch, answer_not_taken, answer_settles, not_begun, write_lock};
use crate::domain::Accepted;
use crate::domain::effect::{Effect, EffectKey, PlannedEffect};
use crate::domain::event::CorrelationDomain;
use crate::domain::planted::{self, Bug};
use crate::engine::persist;
use crate::engine::watch::{COMMIT_ALERTS_MAX, COMMIT_EVERY};
use crate::store::{Batch, Error, Record};

impl Watch {
    /// Writes new records and answers their senders; then, if it is time, writes what was decided
    /// before and lets effects go. Returns the records to decide about, or `None` if the store
    /// must be read back first or takes nothing.
    pub(super) fn write_and_release(
        &mut self,
        records: Vec<Fresh>,
        now_please: bool,
    ) -> Option<Vec<Record>> {
        let written = self.write_records(records);
        if matches!(&written, Err(error) if !matches!(error, Error::Full(_))) {
            return None;
        }
        let overdue = self.undurable.alerts >= COMMIT_ALERTS_MAX
            || self.undurable.since.is_some_and(|it| self.clock.since(it) >= COMMIT_EVERY);
        let ready = !self.undurable.is_empty()
            && (now_please || overdue || self.undurable.is_urgent() || !self.to_claim.is_empty());
        // Where records found no room nothing new begins; what was decided may still find some.
        let claimed = if written.is_ok() { std::mem::take(&mut self.to_claim) } else { Vec::new() };
        if ready || !claimed.is_empty() {
            match self.write_decisions(ready, claimed) {
                Ok(()) | Err(Error::Full(_)) => {}
                Err(_) => return None,
            }
        }
        self.runner.begin_waiting();
        written.ok()
    }

    /// Writes new records and answers their senders: a yes as soon as they are durable, or a no.
    fn write_records(&mut self, records: Vec<Fresh>) -> Result<Vec<Record>, Error> {
        let (mut appends, mut packed, mut waiters) = (Vec::new(), Vec::new(), Vec::new());
        for fresh in records {
            let Fresh { events, packed: prepared, waiter } = fresh;
            let seq = self.last_seq + 1 + appends.len() as u64;
            packed.push(prepared);
            appends.push(Record { seq, correlation_domain: CorrelationDomain::default(), events });
            waiters.push(waiter);
        }
        if appends.is_empty() {
            return Ok(appends);
        }
        if planted::is(Bug::AcknowledgeBeforeAppend) {
            acknowledge_early(&mut waiters);
        }
        let mut batch = Batch { appends, packed, ..Batch::default() };
        match self.write(&batch) {
            Ok(()) => {
                self.answer_taken(&batch.appends, waiters);
                Ok(batch.appends)
            }
            Err(error) => {
                self.put_back_own(&mut batch.appends, &waiters);
                self.fail(&error);
                answer_not_taken(waiters, &self.unavailable());
                Err(error)
            }
        }
    }

    /// Writes what was decided, if it is `ready`, and what is about to begin; then lets it go.
    fn write_decisions(
        &mut self,
        ready: bool,
        mut claimed: Vec<PlannedEffect>,
    ) -> Result<(), Error> {
        if ready {
            self.fill_commit();
        }
        let claims = claimed.iter().map(|it| it.key.clone()).collect();
        let commit = ready.then(|| std::mem::take(&mut self.undurable.commit));
        if planted::is(Bug::ClaimAfterEffect) {
            claimed.drain(..).for_each(|it| self.runner.perform(it));
            self.runner.begin_waiting();
        }
        let mut batch = Batch { commit, claims, ..Batch::default() };
        if let Err(error) = self.write(&batch) {
            if let (Error::Full(_), Some(commit)) = (&error, batch.commit.take()) {
                self.undurable.commit = commit;
            }
            self.to_claim.extend(claimed);
            self.fail(&error);
            return Err(error);
        }
        // What was claimed in this step may begin; what the step releases is claimed in the next
        // one. An order to stop among that must find what it is about.
        for effect in claimed {
            self.runner.perform(effect);
        }
        if ready {
            self.release();
        }
        Ok(())
    }

    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        let Some(store) = self.store.clone() else {
            return Err(Error::Failed("the store is not open".to_owned()));
        };
        let begun = self.clock.steady();
        let result = store.write(batch);
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

/// See [`Bug::AcknowledgeBeforeAppend`].
fn acknowledge_early(waiters: &mut [Waiter]) {
    for waiter in waiters.iter_mut().filter(|it| matches!(it, Waiter::Submit(_))) {
        let nobody = Waiter::Submit(tokio::sync::oneshot::channel().0);
        if let Waiter::Submit(done) = std::mem::replace(waiter, nobody) {
            drop(done.send(Ok(())));
        }
    }
}

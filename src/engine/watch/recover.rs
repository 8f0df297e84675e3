//! Coming back: from the store, after a start, a failure of the store, or a panic.

use super::{Pen, Watch, answer_settles, not_begun, write_lock};
use crate::domain::State;
use crate::domain::effect::{EffectKey, PlannedEffect};
use crate::domain::event::Event;
use crate::domain::planted::{self, Bug};
use crate::engine::watch::RETRY_EVERY;
use crate::engine::{SubmitError, persist};
use crate::store::{Batch, Error, Record, Turn};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

/// How many records recovery reads at once. The file is gone through again for each page.
const PAGE: usize = 200;
/// A record that panics this often is set aside: once may be a half-changed state, twice is it.
const PANICS_MAX: u32 = 2;
/// A store that failed for less time than this has cut nobody off.
const DEAF_MIN: SignedDuration = SignedDuration::from_secs(5);

/// How catching up ended.
#[derive(PartialEq, Eq)]
enum CaughtUp {
    /// Everything that was accepted is decided, or set aside.
    All,
    /// A record panicked; the state must be loaded again.
    Panicked,
}

impl Watch {
    /// Drops what is in memory, reads the state back from the store, and decides what was
    /// accepted but not decided. Returns the time of the last turn that is durable.
    pub(in crate::engine) fn recover(&mut self) -> Result<Option<Timestamp>, Error> {
        let mut pen = self.intake.seize();
        // What is durable and not decided is read back.
        self.commands.extend(self.intake.take().commands);
        let result = self.read_back(&mut pen);
        pen.store.clone_from(&self.store);
        self.intake.give_back(pen);
        result
    }

    fn read_back(&mut self, pen: &mut Pen) -> Result<Option<Timestamp>, Error> {
        loop {
            let last_turn_at = self.load(pen)?;
            // A record that panics is counted, so that this ends: at the second panic it is set
            // aside.
            if self.catch_up()? == CaughtUp::All {
                return Ok(last_turn_at);
            }
        }
    }

    /// Reads the state and the effects back.
    fn load(&mut self, pen: &mut Pen) -> Result<Option<Timestamp>, Error> {
        let was_open = self.store.is_some();
        let store = match self.store.clone() {
            Some(store) => store,
            None => (self.open)()?,
        };
        let loaded = store.load()?;
        let last_turn_at = loaded.last_turn_at;
        let base = last_turn_at.unwrap_or(Timestamp::MIN);
        let state = State::restore(persist::read_back(&loaded.objects)?, base);
        *write_lock(&self.shared) = state;
        self.clock.restart(base);
        // How far the old clock was ahead says nothing about the new one.
        self.shared.ahead_milliseconds.store(self.clock.ahead(), Ordering::Relaxed);
        pen.last_seq = loaded.last_seq;
        let too_far = planted::is(Bug::WatermarkTooFar);
        self.watermark = if too_far { loaded.last_seq } else { loaded.watermark };
        self.drop_undurable(was_open);
        self.take_up_effects(loaded.effects);
        self.shared.set_store(Some(store.clone()));
        self.store = Some(store);
        Ok(last_turn_at)
    }

    /// Forgets what was decided and is not durable: it is decided again from the log. Who waits
    /// for it waits on, unless the store is a new one that may take its time.
    fn drop_undurable(&mut self, decides_at_once: bool) {
        let lost = std::mem::take(&mut self.undurable);
        let error = SubmitError::Unavailable("decided again".to_owned());
        for (seq, done, _) in lost.replies {
            match seq.filter(|_| decides_at_once) {
                Some(seq) => drop(self.commands.insert(seq, done)),
                None => drop(done.send(Err(error.clone().into()))),
            }
        }
        if decides_at_once {
            self.undurable.settles = lost.settles;
        } else {
            answer_settles(lost.settles, &Err(error));
        }
    }

    /// Goes on with effects that have no result: what was not begun begins; what was, and must
    /// not be done twice, is lost.
    fn take_up_effects(&mut self, effects: Vec<(PlannedEffect, bool)>) {
        let mut not_begun_here = self.runner.forget_waiting();
        not_begun_here.extend(self.to_claim.drain(..).map(|it| it.key));
        for (effect, claimed) in effects {
            let has_result =
                self.own_facts.iter().flatten().any(|it| is_result_of(it, &effect.key));
            if self.runner.knows(&effect.key) || has_result {
                continue;
            }
            let may_have_begun = claimed && !not_begun_here.contains(&effect.key);
            if !may_have_begun && !self.state().still_wants(&effect) {
                self.own_facts.push(vec![not_begun(effect.key)]);
            } else if claimed && !may_have_begun {
                self.runner.perform(effect);
            } else if claimed {
                self.own_facts.push(vec![Event::EffectLost { key: effect.key }]);
            } else if effect.idempotent {
                self.runner.perform(effect);
            } else {
                self.to_claim.push(effect);
            }
        }
    }

    /// Decides what was accepted but not decided.
    fn catch_up(&mut self) -> Result<CaughtUp, Error> {
        let store = self.store.clone().ok_or_else(|| Error::Failed("not open".to_owned()))?;
        let mut page = store.records(self.watermark, PAGE)?;
        while let Some(after) = page.last().filter(|_| page.len() == PAGE).map(|it| it.seq) {
            // The next page is read while this one is decided about.
            let (caught_up, next) = std::thread::scope(|scope| {
                let next = scope.spawn(|| store.records(after, PAGE));
                (self.decide_again(&page), next.join())
            });
            let next = next.unwrap_or_else(|it| std::panic::resume_unwind(it));
            if caught_up == CaughtUp::Panicked {
                return Ok(caught_up);
            }
            page = next?;
        }
        if self.decide_again(&page) == CaughtUp::Panicked {
            return Ok(CaughtUp::Panicked);
        }
        // An effect whose result was in the log is not begun again.
        let finished: BTreeSet<&EffectKey> = self.undurable.commit.finished.iter().collect();
        self.to_claim.retain(|it| !finished.contains(&it.key));
        self.runner.forget(&finished);
        self.own_facts.retain(|events| {
            !matches!(events.as_slice(), [Event::EffectLost { key }] if finished.contains(key))
        });
        Ok(CaughtUp::All)
    }

    /// Decides about records that were accepted before.
    fn decide_again(&mut self, records: &[Record]) -> CaughtUp {
        for record in records {
            if self.panics.get(&record.seq).is_some_and(|it| *it >= PANICS_MAX)
                && !planted::is(Bug::PoisonLoops)
            {
                self.set_aside(record);
                continue;
            }
            let now = self.clock.now();
            if self.apply(now, Some(record.seq), &record.events).is_err() {
                return CaughtUp::Panicked;
            }
        }
        CaughtUp::All
    }

    /// Sets a record aside that cannot be applied; the watch goes on.
    fn set_aside(&mut self, record: &Record) {
        let seq = record.seq;
        tracing::error!(seq, "the record is set aside: it cannot be decided about");
        let now = self.clock.now();
        self.undurable.commit.turns.push(Turn { now, seq: Some(seq), poisoned: true });
        self.undurable.since.get_or_insert_with(|| self.clock.steady());
        if let Some(done) = self.commands.remove(&seq) {
            let error = SubmitError::Unavailable("deciding about it failed".to_owned());
            drop(done.send(Err(error.into())));
        }
        let reason = "deciding about it panicked twice".to_owned();
        let told = vec![Event::RecordPoisoned { seq, reason }];
        // What cannot be told must not be told about, again and again.
        let is_own = record.events.iter().any(|it| matches!(it, Event::RecordPoisoned { .. }));
        if !is_own && !self.own_facts.contains(&told) {
            self.own_facts.push(told);
        }
    }

    /// The store cannot be written. If it only is full, all stays as it is and is tried again;
    /// else everything is read back from it once it opens again.
    pub(super) fn fail(&mut self, error: &Error) {
        if self.trouble.is_none() {
            tracing::error!(%error, "nothing can be written at the moment");
        } else {
            tracing::debug!(%error, "still nothing can be written");
        }
        self.note_trouble(error.to_string());
        self.intake.close(&self.unavailable());
        self.answer_undurable(&self.unavailable());
        if !matches!(error, Error::Full(_)) {
            let pen = self.intake.seize();
            self.intake.give_back(Pen { store: None, ..pen });
            self.answer_undecided();
            self.shared.set_store(None);
            drop(self.store.take());
        }
        self.note_health();
    }

    /// Answers those who wait for the commit of what was decided: it may take long.
    fn answer_undurable(&mut self, error: &SubmitError) {
        answer_settles(std::mem::take(&mut self.undurable.settles), &Err(error.clone()));
        for (_, done, _) in std::mem::take(&mut self.undurable.replies) {
            drop(done.send(Err(error.clone().into())));
        }
    }

    /// Answers those whose commands are in the log and not decided: that may take long, too. The
    /// records are read back.
    fn answer_undecided(&mut self) {
        self.commands.extend(self.intake.take().commands);
        let error = self.unavailable();
        for done in std::mem::take(&mut self.commands).into_values() {
            drop(done.send(Err(error.clone().into())));
        }
    }

    fn note_trouble(&mut self, reason: String) {
        self.trouble = Some((self.clock.steady(), reason));
        let now = self.clock.now();
        self.deaf_since.get_or_insert(now);
    }

    /// The store works again. If senders could not tell us anything for long, they get time to
    /// speak before anything expires.
    fn note_mended(&mut self) {
        self.trouble = None;
        self.intake.open();
        let Some(since) = self.deaf_since.take() else { return };
        if self.clock.now().duration_since(since) >= DEAF_MIN {
            self.own_facts.insert(0, vec![Event::WatchStarted { last_seen: Some(since) }]);
        }
    }

    /// Tries a failed store again, not too often. Tells whether the watch can go on.
    pub(super) fn try_to_mend(&mut self) -> bool {
        if self.trouble.as_ref().is_some_and(|(since, _)| self.clock.since(*since) < RETRY_EVERY) {
            return false;
        }
        let result =
            if self.store.is_some() { self.write_undecided() } else { self.recover().map(drop) };
        match result {
            Ok(()) => {
                tracing::info!("the store takes facts again");
                self.note_mended();
                true
            }
            Err(error) => {
                self.fail(&error);
                false
            }
        }
    }

    /// Writes our own facts, and what was decided, into a store that was full.
    fn write_undecided(&mut self) -> Result<(), Error> {
        let store = self.store.clone().ok_or_else(|| Error::Failed("not open".to_owned()))?;
        if !self.undurable.is_empty() {
            self.fill_commit();
            let commit = std::mem::take(&mut self.undurable.commit);
            let batch = Batch { commit: Some(commit), ..Batch::default() };
            if let Err(error) = store.write(&batch) {
                self.undurable.commit = batch.commit.unwrap_or_default();
                return Err(error);
            }
            self.release();
        }
        // An empty record finds out whether there is room for new ones.
        self.intake.write_own(&mut vec![Vec::new()])
    }
}

/// Whether a fact tells what came of an effect.
pub(super) fn is_result_of(event: &Event, effect: &EffectKey) -> bool {
    matches!(event, Event::EffectFinished { key, .. } | Event::EffectLost { key } if key == effect)
}

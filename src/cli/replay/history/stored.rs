//! The history in the store of a daemon that is stopped.

use super::{Fact, Line};
use crate::domain::event::{Command, Event};
use crate::engine::replay;
use crate::ingest::ToldAlert;
use crate::store::{self, Options, Store, care};
use jiff::Timestamp;
use std::collections::VecDeque;
use std::path::Path;

/// A store, and how far it is read.
pub(in crate::cli::replay) struct Stored {
    store: Box<dyn Store>,
    turns: replay::History,
    waiting: VecDeque<Fact>,
    number: u64,
    /// The time of the first turn.
    pub(super) first: Option<Timestamp>,
    /// Seconds from the first turn to the last.
    pub(super) whole: u64,
}

impl Stored {
    pub(super) fn open(folder: &Path) -> anyhow::Result<Self> {
        let store = store::open(care::known_engine(folder)?, folder, Options::default())?;
        let first = store.turns(0, 1)?.first().map(|(_, it)| it.now);
        let last = store.load()?.last_turn_at;
        let seconds =
            first.zip(last).map_or(0, |(first, last)| last.duration_since(first).as_secs());
        let whole = u64::try_from(seconds).unwrap_or(0);
        let (turns, waiting) = (replay::History::default(), VecDeque::new());
        Ok(Self { store: Box::new(store), turns, waiting, number: 0, first, whole })
    }

    /// The next fact that does not follow from the rules of that hour.
    pub(super) fn next_line(&mut self) -> anyhow::Result<Option<Line>> {
        while self.waiting.is_empty() {
            let Some(turn) = self.turns.next_turn(&*self.store)? else { return Ok(None) };
            self.number += 1;
            if !turn.poisoned {
                let told = turn.events.into_iter().flat_map(|it| facts_of(turn.now, it));
                self.waiting.extend(told);
            }
        }
        let Some(fact) = self.waiting.pop_front() else { return Ok(None) };
        let since = self.first.map_or(0, |first| fact.at().duration_since(first).as_secs());
        let done = u64::try_from(since).unwrap_or(0);
        Ok(Some(Line { number: self.number, done, told: Ok(fact) }))
    }
}

/// What is taken over of an event. What people did with incidents, problems and runs is left out:
/// under other rules their numbers mean something else.
fn facts_of(now: Timestamp, event: Event) -> Vec<Fact> {
    match event {
        Event::AlertsReceived(batch) => {
            let source = batch.source.to_string();
            let told = |alert| ToldAlert { at: now, source: source.clone(), alert };
            batch.alerts.into_iter().map(told).map(Fact::Alert).collect()
        }
        Event::HeartbeatPinged(_)
        | Event::ChangesReceived(_)
        | Event::WatchStarted { .. }
        | Event::ClockJumped { .. }
        | Event::CommandGiven {
            command:
                Command::SetSilence { .. }
                | Command::ExpireSilence { .. }
                | Command::PauseHeartbeat { .. }
                | Command::ResumeHeartbeat { .. }
                | Command::AddChange { .. }
                | Command::StopRunbooks { .. }
                | Command::ResumeRunbooks,
            ..
        } => vec![Fact::Other(now, Box::new(event))],
        _ => Vec::new(),
    }
}

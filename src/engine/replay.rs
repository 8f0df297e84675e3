//! Replay: the history, applied again from nothing, must give the objects that the store holds.

use super::persist;
use crate::domain::State;
use crate::domain::event::Event;
use crate::store::{Error, Kind, Object, Record, Store, Turn};
use jiff::Timestamp;
use std::collections::{BTreeMap, VecDeque};

/// How many turns or records are read at once.
const PAGE: usize = 1000;

/// Applies a store's whole history from nothing, and returns every object, open and closed, as it
/// stands at the end. Only a store whose history was never cut by retention gives what it holds.
pub fn run(store: &dyn Store) -> Result<Vec<Object>, Error> {
    let mut state = State::default();
    let mut objects = BTreeMap::new();
    let mut history = History::default();
    let mut turns = 0;
    while let Some(turn) = history.next_turn(store)? {
        if !turn.poisoned {
            for event in &turn.events {
                drop(state.apply(turn.now, event));
            }
        }
        turns += 1;
        if turns % PAGE == 0 {
            note(&mut state, &mut objects);
        }
    }
    note(&mut state, &mut objects);
    Ok(objects.into_iter().map(|((kind, id), body)| Object { kind, id, body }).collect())
}

/// A turn, with what was applied in it.
pub struct PastTurn {
    /// Its time.
    pub now: Timestamp,
    /// Applying it panicked, so that it was set aside.
    pub poisoned: bool,
    /// What was applied; a timer is [`Event::Woken`].
    pub events: Vec<Event>,
}

/// A store's turns, read in order.
#[derive(Default)]
pub struct History {
    turns: VecDeque<Turn>,
    /// The number of the last turn that was read.
    after: u64,
    records: Records,
}

impl History {
    /// The next turn; `None` at the end. Fails if the store cannot be read, or a record is missing.
    pub fn next_turn(&mut self, store: &dyn Store) -> Result<Option<PastTurn>, Error> {
        if self.turns.is_empty() {
            let page = store.turns(self.after, PAGE)?;
            self.after = page.last().map_or(self.after, |(number, _)| *number);
            self.turns.extend(page.into_iter().map(|(_, turn)| turn));
        }
        let Some(turn) = self.turns.pop_front() else { return Ok(None) };
        let events = match turn.seq {
            Some(seq) => self.records.take(store, seq)?.events,
            None => vec![Event::Woken],
        };
        Ok(Some(PastTurn { now: turn.now, poisoned: turn.poisoned, events }))
    }
}

/// Notes what turns changed.
fn note(state: &mut State, objects: &mut BTreeMap<(Kind, String), Vec<u8>>) {
    let changes = state.take_changes();
    let written = persist::write_down(state, &changes);
    for object in written.puts.into_iter().chain(written.closes) {
        objects.insert((object.kind, object.id), object.body);
    }
    for name in written.deletes {
        objects.remove(&name);
    }
}

/// The inbox, read in order.
#[derive(Default)]
struct Records {
    read: std::vec::IntoIter<Record>,
    last: u64,
}

impl Records {
    fn take(&mut self, store: &dyn Store, seq: u64) -> Result<Record, Error> {
        loop {
            if let Some(record) = self.read.next() {
                self.last = record.seq;
                if record.seq == seq {
                    return Ok(record);
                }
                continue;
            }
            let page = store.records(self.last, PAGE)?;
            if page.is_empty() {
                return Err(Error::Unusable(format!("record {seq} is not in the history")));
            }
            self.read = page.into_iter();
        }
    }
}

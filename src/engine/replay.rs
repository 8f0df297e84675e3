//! Replay: the history, applied again from nothing, must give the objects that the store holds.

use super::persist;
use crate::domain::State;
use crate::domain::event::Event;
use crate::store::{Error, Kind, Object, Record, Store};
use std::collections::BTreeMap;

/// How many turns or records are read at once.
const PAGE: usize = 1000;

/// Applies a store's whole history from nothing, and returns every object, open and closed, as it
/// stands at the end. Only a store whose history was never cut by retention gives what it holds.
pub fn run(store: &dyn Store) -> Result<Vec<Object>, Error> {
    let mut state = State::default();
    let mut objects = BTreeMap::new();
    let mut records = Records { store, read: Vec::new().into_iter(), last: 0 };
    let mut after = 0;
    loop {
        let turns = store.turns(after, PAGE)?;
        let Some((last, _)) = turns.last() else { break };
        after = *last;
        for (_, turn) in turns {
            let events = match turn.seq {
                Some(seq) => records.take(seq)?.events,
                None => vec![Event::Woken],
            };
            if !turn.poisoned {
                for event in &events {
                    drop(state.apply(turn.now, event));
                }
            }
        }
        note(&mut state, &mut objects);
    }
    Ok(objects.into_iter().map(|((kind, id), body)| Object { kind, id, body }).collect())
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
struct Records<'a> {
    store: &'a dyn Store,
    read: std::vec::IntoIter<Record>,
    last: u64,
}

impl Records<'_> {
    fn take(&mut self, seq: u64) -> Result<Record, Error> {
        loop {
            if let Some(record) = self.read.next() {
                self.last = record.seq;
                if record.seq == seq {
                    return Ok(record);
                }
                continue;
            }
            let page = self.store.records(self.last, PAGE)?;
            if page.is_empty() {
                return Err(Error::Unusable(format!("record {seq} is not in the history")));
            }
            self.read = page.into_iter();
        }
    }
}

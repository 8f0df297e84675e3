//! Places to die at to order, so that tests can kill the daemon exactly there; debug builds only.

use crate::domain::effect::EffectKey;
use crate::domain::event::Event;
use crate::store::{Batch, Record};
use std::sync::OnceLock;

/// What orders it, for example `after_exit EXE-1/restart/1`: a place, and the key of an effect.
const ORDER: &str = "WATCHKEEPER_DIE_AT";

/// A place between two things that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    /// What ordered the effect is durable, and that it was ordered is not.
    BeforeIntent,
    /// That it was ordered is durable, and it has not begun.
    AfterIntent,
    /// That it begins is durable, and it has not begun.
    AfterClaim,
    /// It is over, and nobody has learnt what came of it.
    AfterExit,
    /// What came of it is durable, and nothing was decided about it.
    AfterResult,
}

impl Point {
    fn as_str(self) -> &'static str {
        match self {
            Self::BeforeIntent => "before_intent",
            Self::AfterIntent => "after_intent",
            Self::AfterClaim => "after_claim",
            Self::AfterExit => "after_exit",
            Self::AfterResult => "after_result",
        }
    }
}

/// Dies as by `kill -9`, if this place and one of these effects are what was ordered.
pub(super) fn reach<'a>(point: Point, effects: impl IntoIterator<Item = &'a EffectKey>) {
    static ORDERED: OnceLock<Option<(String, String)>> = OnceLock::new();
    if !cfg!(debug_assertions) {
        return;
    }
    let read = || {
        let order = std::env::var(ORDER).ok()?;
        order.split_once(' ').map(|(place, key)| (place.to_owned(), key.to_owned()))
    };
    let Some((place, key)) = ORDERED.get_or_init(read) else { return };
    if place == point.as_str() && effects.into_iter().any(|it| *it.0 == **key) {
        let own = rustix::process::getpid();
        // Nothing but death follows, so that nobody need be told of an error.
        rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap_or_default();
    }
}

/// A batch is about to be written.
pub(super) fn before_write(batch: &Batch) {
    reach(Point::BeforeIntent, intents(batch));
}

/// A batch is durable.
pub(super) fn after_write(batch: &Batch) {
    reach(Point::AfterIntent, intents(batch));
    reach(Point::AfterClaim, &batch.claims);
}

/// Facts of our own are durable.
pub(super) fn after_facts(records: &[Record]) {
    let finished = records.iter().flat_map(|it| &it.events).filter_map(|it| match it {
        Event::EffectFinished { key, .. } => Some(key),
        _ => None,
    });
    reach(Point::AfterResult, finished);
}

fn intents(batch: &Batch) -> impl Iterator<Item = &EffectKey> {
    batch.commit.iter().flat_map(|it| &it.effects).map(|it| &it.key)
}

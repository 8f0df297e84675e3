//! Looks at rates in tests, at the times of a daemon that looks every five minutes.

use crate::cli::virtual_watch::VirtualWatch;
use crate::domain::event::{AlertBatch, Event};
use crate::domain::later;
use crate::domain::rate::SOURCE;
use crate::learn;
use jiff::Timestamp;

/// How often it is looked, in seconds.
const LOOK_SECONDS: i64 = 300;

/// When it is looked next; `None` = no rule wants it.
pub(super) fn next_look(watch: &VirtualWatch) -> Option<Timestamp> {
    let to_go = LOOK_SECONDS - watch.now.as_second().rem_euclid(LOOK_SECONDS);
    (!watch.state.rules.unusual_rates.is_empty()).then(|| later(watch.now, to_go))
}

/// What a look tells, if it is anything.
pub(super) fn unusual(watch: &VirtualWatch) -> Option<Event> {
    let watching = &watch.state.memory.rates;
    let watched = watching.since.zip(watching.unbroken_since)?;
    let habits = watch.state.habits_to_judge(watch.now);
    let found = learn::unusual_rates(habits, watched, watch.now);
    let alerts = watch.state.alerts_of_rates(&found, watch.now);
    let batch = AlertBatch { source: SOURCE.into(), alerts, rejected: vec![] };
    (!batch.alerts.is_empty()).then_some(Event::AlertsReceived(batch))
}

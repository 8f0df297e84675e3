//! Which incident each alert went into: a line for each time that a series begins to fire.
//!
//! Where an alert belongs is known for good only when it leaves the state, because incidents are
//! merged and split; what was decided about it, when it begins again or leaves.

use super::spool::Spool;
use crate::api::bodies;
use crate::cli::virtual_watch::VirtualWatch;
use crate::domain::State;
use crate::domain::alert::{Alert, AlertState, Disposition};
use crate::domain::event::ReceivedAlert;
use crate::domain::incident::IncidentId;
use crate::domain::label::{Fingerprint, Labels};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// Stands in a line that waits where the incident will stand.
const GAP: u8 = b'\n';

/// The beginnings of all alerts.
pub(super) struct Assignments {
    /// `None` = they are only counted.
    spool: Option<Spool>,
    /// The incident of each beginning, by number; 0 = none.
    incidents: Vec<u64>,
    /// Of the alerts that are in the state.
    stays: BTreeMap<Fingerprint, Stay>,
}

/// The time of an alert in the state: it may begin several times.
#[derive(Default)]
struct Stay {
    /// Its beginnings in the incident where it is now.
    here: Vec<usize>,
    /// The number of the last one, and since when it was true, as received.
    last: Option<(usize, Timestamp)>,
}

/// An alert that may begin to fire with what comes now, as it is before.
pub(super) struct Before {
    count: u32,
    incident: Option<IncidentId>,
    /// The line of its last beginning.
    line: Option<Vec<u8>>,
}

/// The part of a line before the incident.
#[derive(Serialize)]
struct Head<'a> {
    labels: &'a Labels,
    starts_at: Timestamp,
    fingerprint: Fingerprint,
}

/// The part behind it.
#[derive(Serialize)]
struct Tail {
    disposition: Disposition,
    why: String,
}

impl Assignments {
    /// None yet; `folder` is where lines wait to be written.
    pub(super) fn new(folder: Option<&Path>) -> io::Result<Self> {
        let spool = folder.map(Spool::new).transpose()?;
        Ok(Self { spool, incidents: Vec::new(), stays: BTreeMap::new() })
    }

    /// How often a series began to fire.
    pub(super) fn count(&self) -> usize {
        self.incidents.len()
    }

    /// Notes how an alert is before it is received; `None` = it does not begin now.
    pub(super) fn before(&self, watch: &VirtualWatch, received: &ReceivedAlert) -> Option<Before> {
        if !received.fires_at(watch.now) {
            return None;
        }
        let fingerprint = received.fingerprint();
        match watch.state.alerts.get(&fingerprint) {
            None => Some(Before { count: 0, incident: None, line: None }),
            Some(alert) if alert.state == AlertState::Firing => None,
            Some(alert) => Some(Before {
                count: alert.count,
                incident: alert.incident,
                line: self.line(alert),
            }),
        }
    }

    /// Notes what became of an alert that was received.
    pub(super) fn after(
        &mut self,
        watch: &VirtualWatch,
        received: &ReceivedAlert,
        before: Before,
    ) -> io::Result<()> {
        let fingerprint = received.fingerprint();
        let Some(alert) = watch.state.alerts.get(&fingerprint) else { return Ok(()) };
        if alert.count <= before.count {
            return Ok(());
        }
        let number = self.incidents.len();
        self.incidents.push(0);
        let stay = self.stays.entry(fingerprint).or_default();
        let last = stay.last.replace((number, received.starts_at.unwrap_or(watch.now)));
        if alert.incident != before.incident {
            note(&mut self.incidents, &std::mem::take(&mut stay.here), before.incident);
        }
        stay.here.push(number);
        if let (Some(spool), Some((number, _)), Some(line)) = (&mut self.spool, last, before.line) {
            spool.put(number as u64, &line)?;
        }
        Ok(())
    }

    /// An alert has left the state.
    pub(super) fn left(&mut self, alert: &Alert) -> io::Result<()> {
        let line = self.line(alert);
        let Some(stay) = self.stays.remove(&alert.fingerprint) else { return Ok(()) };
        note(&mut self.incidents, &stay.here, alert.incident);
        match (&mut self.spool, stay.last, line) {
            (Some(spool), Some((number, _)), Some(line)) => spool.put(number as u64, &line),
            _ => Ok(()),
        }
    }

    /// Writes all lines; what is still in the state stays where it is.
    pub(super) fn write(mut self, state: &State, path: &Path) -> io::Result<()> {
        for alert in state.alerts.values() {
            self.left(alert)?;
        }
        let Some(spool) = self.spool else { return Ok(()) };
        spool.write(path, |number, line| {
            let incident = match self.incidents.get(number) {
                None | Some(0) => "null".to_owned(),
                Some(number) => format!("\"{}\"", IncidentId(*number)),
            };
            if let Some(gap) = line.iter().position(|it| *it == GAP) {
                line.splice(gap..=gap, incident.into_bytes());
            }
        })
    }

    /// The line of an alert's last beginning, with a gap for the incident.
    fn line(&self, alert: &Alert) -> Option<Vec<u8>> {
        self.spool.as_ref()?;
        let (_, starts_at) = self.stays.get(&alert.fingerprint)?.last?;
        let head = Head { labels: &alert.labels, starts_at, fingerprint: alert.fingerprint };
        let disposition = alert.decision.disposition;
        let tail = Tail { disposition, why: bodies::why_decided(alert) };
        let mut line = serde_json::to_vec(&head).ok()?;
        let tail = serde_json::to_vec(&tail).ok()?;
        // Of two objects one is made, with the incident between them.
        line.pop();
        line.extend_from_slice(b",\"incident\":");
        line.push(GAP);
        line.push(b',');
        line.extend(tail.into_iter().skip(1));
        Some(line)
    }
}

/// Notes where some beginnings belong.
fn note(incidents: &mut [u64], numbers: &[usize], incident: Option<IncidentId>) {
    for number in numbers {
        if let Some(known) = incidents.get_mut(*number) {
            *known = incident.map_or(0, |it| it.0);
        }
    }
}

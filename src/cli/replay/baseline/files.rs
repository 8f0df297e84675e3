//! The files of a run, read again: of each line what is compared.

use crate::domain::execution::ExecutionId;
use crate::domain::incident::IncidentId;
use crate::domain::label::Fingerprint;
use anyhow::Context as _;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// A time at which a series began to fire.
pub(super) struct Beginning {
    pub(super) fingerprint: Fingerprint,
    pub(super) at: Timestamp,
    /// 0 = none.
    pub(super) incident: u64,
}

impl Beginning {
    /// What it is known by.
    pub(super) fn key(&self) -> (Fingerprint, Timestamp) {
        (self.fingerprint, self.at)
    }
}

/// What is compared of an incident.
pub(super) struct IncidentFacts {
    pub(super) title: String,
    pub(super) priority: String,
    pub(super) opened_at: Timestamp,
}

/// One run.
pub(super) struct Side {
    /// In order of their keys.
    pub(super) beginnings: Vec<Beginning>,
    pub(super) incidents: BTreeMap<u64, IncidentFacts>,
    /// How often receivers were told what, of which incident.
    pub(super) notifications: BTreeMap<(String, u64), u64>,
    /// How often runbooks came out how, for which incident.
    pub(super) runbooks: BTreeMap<(String, u64), u64>,
    /// How many incidents the problems have, by title.
    pub(super) problems: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct AssignmentLine {
    starts_at: Timestamp,
    fingerprint: Fingerprint,
    incident: Option<IncidentId>,
}

#[derive(Deserialize)]
struct IncidentLine {
    incident: IncidentId,
    title: String,
    priority: String,
    opened_at: Timestamp,
}

#[derive(Deserialize)]
struct ExecutionLine {
    #[serde(rename = "execution")]
    _id: ExecutionId,
    runbook: String,
    incident: Option<IncidentId>,
    state: String,
    blocked_by: Option<String>,
}

#[derive(Deserialize)]
struct NotificationLine {
    occasion: String,
    receiver: String,
    incident: Option<IncidentId>,
}

#[derive(Deserialize)]
struct ProblemLine {
    title: String,
    incidents: BTreeSet<IncidentId>,
}

fn number(incident: Option<IncidentId>) -> u64 {
    incident.map_or(0, |it| it.0)
}

impl Side {
    /// Reads the files in a folder.
    pub(super) fn read(folder: &Path) -> anyhow::Result<Self> {
        let mut side = Self {
            beginnings: Vec::new(),
            incidents: BTreeMap::new(),
            notifications: BTreeMap::new(),
            runbooks: BTreeMap::new(),
            problems: BTreeMap::new(),
        };
        each(&folder.join("assignments.jsonl"), |it: AssignmentLine| {
            let (fingerprint, at, incident) = (it.fingerprint, it.starts_at, number(it.incident));
            side.beginnings.push(Beginning { fingerprint, at, incident });
        })?;
        // Stable: a series that begins twice at one time does so in the same order in both runs.
        side.beginnings.sort_by_key(Beginning::key);
        each(&folder.join("incidents.jsonl"), |it: IncidentLine| {
            let IncidentLine { incident, title, priority, opened_at } = it;
            side.incidents.insert(incident.0, IncidentFacts { title, priority, opened_at });
        })?;
        each(&folder.join("executions.jsonl"), |it: ExecutionLine| {
            let by = it.blocked_by.map_or_else(String::new, |guard| format!(" by {guard}"));
            let key = (format!("runbook {} {}{by}", it.runbook, it.state), number(it.incident));
            *side.runbooks.entry(key).or_default() += 1;
        })?;
        each(&folder.join("notifications.jsonl"), |it: NotificationLine| {
            let key = (format!("{} to {}", it.occasion, it.receiver), number(it.incident));
            *side.notifications.entry(key).or_default() += 1;
        })?;
        each(&folder.join("problems.jsonl"), |it: ProblemLine| {
            *side.problems.entry(it.title).or_default() += it.incidents.len() as u64;
        })?;
        Ok(side)
    }
}

/// Reads each line of a file.
fn each<T: DeserializeOwned>(path: &Path, mut take: impl FnMut(T)) -> anyhow::Result<()> {
    let file = File::open(path).with_context(|| {
        format!("cannot read `{}`: a baseline is what `replay --out` wrote", path.display())
    })?;
    let mut reader = BufReader::with_capacity(1 << 18, file);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let read = serde_json::from_slice(&line);
        take(read.with_context(|| format!("{}:{number}: cannot be read", path.display()))?);
    }
    Ok(())
}

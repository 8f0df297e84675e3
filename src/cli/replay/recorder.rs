//! What is seen of a replay, on its way into the files: written as it is closed, so that only what is
//! open takes memory.

use super::assignments::{Assignments, Before};
use super::spool::Spool;
use super::summary::Summary;
use crate::api::bodies;
use crate::cli::virtual_watch::{VirtualWatch, Witness};
use crate::domain::change::ChangeId;
use crate::domain::effect::Effect;
use crate::domain::event::{Event, ReceivedAlert};
use crate::domain::execution::{Execution, ExecutionState};
use crate::domain::incident::{Incident, IncidentId, TimelineEntry};
use crate::domain::{Closed, Count, ObjectKey, Turn};
use crate::learn;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The most entries of a timeline that are written, as over REST.
const TIMELINE_MAX: usize = 20_000;

/// Sees everything, and keeps account of it.
pub(super) struct Recorder {
    assignments: Assignments,
    files: Option<Files>,
    timelines: BTreeMap<IncidentId, Vec<TimelineEntry>>,
    /// What detections look at, as far back as they do.
    past: learn::History,
    /// Those that are written.
    written: BTreeSet<IncidentId>,
    /// The changes' own names.
    changes: BTreeMap<ChangeId, String>,
    summary: Summary,
    failure: Option<anyhow::Error>,
}

/// What waits to be written.
struct Files {
    folder: PathBuf,
    incidents: Spool,
    executions: Spool,
    notifications: Spool,
}

impl Files {
    fn new(folder: &Path) -> std::io::Result<Self> {
        Ok(Self {
            folder: folder.to_owned(),
            incidents: Spool::new(folder)?,
            executions: Spool::new(folder)?,
            notifications: Spool::new(folder)?,
        })
    }
}

impl Recorder {
    /// Makes the folder, if there is to be one.
    pub(super) fn new(out: Option<&Path>) -> std::io::Result<Self> {
        if let Some(folder) = out {
            std::fs::create_dir_all(folder)?;
        }
        Ok(Self {
            assignments: Assignments::new(out)?,
            files: out.map(Files::new).transpose()?,
            timelines: BTreeMap::new(),
            past: learn::History::default(),
            written: BTreeSet::new(),
            changes: BTreeMap::new(),
            summary: Summary::default(),
            failure: None,
        })
    }

    /// Fails if something could not be written.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        self.failure.take().map_or(Ok(()), Err)
    }

    fn keep<E: Into<anyhow::Error>>(&mut self, result: Result<(), E>) {
        if let Err(error) = result {
            self.failure.get_or_insert_with(|| error.into());
        }
    }

    /// Looks at alerts before they are received.
    pub(super) fn before(
        &self,
        watch: &VirtualWatch,
        alerts: &[ReceivedAlert],
    ) -> Vec<Option<Before>> {
        alerts.iter().map(|it| self.assignments.before(watch, it)).collect()
    }

    /// Looks at them again.
    pub(super) fn after(
        &mut self,
        watch: &VirtualWatch,
        alerts: &[ReceivedAlert],
        before: Vec<Option<Before>>,
    ) {
        self.summary.events += alerts.len() as u64;
        for (alert, before) in alerts.iter().zip(before) {
            if let Some(before) = before {
                let noted = self.assignments.after(watch, alert, before);
                self.keep(noted);
            }
        }
    }

    /// Notes the own names of the changes that are new.
    pub(super) fn name_changes(&mut self, watch: &VirtualWatch) {
        let next = self.changes.last_key_value().map_or(ChangeId(1), |(it, _)| ChangeId(it.0 + 1));
        for (id, change) in watch.state.change_log.open.range(next..) {
            let own = &change.told.external_id;
            let name = if own.is_empty() { id.to_string() } else { own.clone() };
            self.changes.insert(*id, name);
        }
    }

    /// Writes what is still open, and all files.
    pub(super) fn end(mut self, watch: &VirtualWatch) -> anyhow::Result<Summary> {
        for incident in watch.state.incidents.values() {
            self.put_incident(watch, incident)?;
        }
        for execution in watch.state.executions.values() {
            self.put_execution(execution)?;
        }
        self.check()?;
        self.summary.alerts = self.assignments.count() as u64;
        self.summary.problems = watch.state.problems.len() as u64;
        if let Some(files) = self.files {
            let path = |name: &str| files.folder.join(name);
            self.assignments.write(&watch.state, &path("assignments.jsonl"))?;
            files.incidents.write(&path("incidents.jsonl"), |_, _| ())?;
            files.executions.write(&path("executions.jsonl"), |_, _| ())?;
            files.notifications.write(&path("notifications.jsonl"), |_, _| ())?;
            let mut problems = Vec::new();
            for problem in watch.state.problems.values() {
                let body = with(bodies::problem(problem)?, [("problem", json!(problem.id))]);
                serde_json::to_writer(&mut problems, &body)?;
                problems.push(b'\n');
            }
            std::fs::write(path("problems.jsonl"), problems)?;
        }
        Ok(self.summary)
    }

    fn put_incident(&mut self, watch: &VirtualWatch, incident: &Incident) -> anyhow::Result<()> {
        let timeline = self.timelines.remove(&incident.id).unwrap_or_default();
        self.written.insert(incident.id);
        if incident.merged_into.is_some() {
            self.summary.merged += 1;
        } else {
            self.summary.incidents += 1;
        }
        let Some(files) = &mut self.files else { return Ok(()) };
        let members = watch.state.members.get(&incident.id);
        let body = bodies::incident(incident, members, timeline, watch.now)?;
        let named = |list: &str, name: &'static str| {
            let list = body.get(list).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            list.iter().filter_map(move |it| it.get(name)?.as_str()).map(str::to_owned)
        };
        let root_cause: Vec<String> = named("root_causes", "item").collect();
        let suspect = named("suspect_changes", "id").next().map(|id| {
            let own = id.parse().ok().and_then(|it| self.changes.get(&it));
            own.cloned().unwrap_or(id)
        });
        let more = [
            ("incident", json!(incident.id)),
            ("root_cause", json!(root_cause)),
            ("suspect_change", json!(suspect)),
            ("rule", json!(incident.opened_by.name)),
            ("symptoms", json!(incident.symptoms)),
        ];
        let line = serde_json::to_vec(&with(body, more))?;
        Ok(files.incidents.put(incident.id.0, &line)?)
    }

    fn put_execution(&mut self, execution: &Execution) -> anyhow::Result<()> {
        let told = as_it_would_be(execution.clone());
        *self.summary.executions.entry(told.state).or_default() += 1;
        let Some(files) = &mut self.files else { return Ok(()) };
        let body = with(bodies::execution(&told)?, [("execution", json!(told.id))]);
        Ok(files.executions.put(told.id.0, &serde_json::to_vec(&body)?)?)
    }

    fn put_notification(&mut self, now: Timestamp, effect: &Effect) -> anyhow::Result<()> {
        let Effect::Deliver { receiver, occasion, incident, .. } = effect else { return Ok(()) };
        let number = self.summary.notifications;
        self.summary.notifications += 1;
        let Some(files) = &mut self.files else { return Ok(()) };
        let line = json!({
            "at": now, "occasion": occasion.as_str(), "receiver": receiver, "incident": incident,
        });
        Ok(files.notifications.put(number, &serde_json::to_vec(&line)?)?)
    }

    /// Looks for what recurs among the incidents that are open and those that were closed.
    fn detect(&mut self, watch: &VirtualWatch, name: &str) -> Option<Event> {
        let detections = &watch.state.rules.problem_detection;
        let detection = detections.iter().find(|it| it.rule.name == name)?;
        let since = detections.iter().map(|it| learn::since(it, watch.now)).min()?;
        self.past.forget_before(since);
        for incident in watch.state.incidents.values() {
            self.past.put(incident);
        }
        let recurrences = learn::recurrences(detection, &self.past, watch.now);
        let incidents_seen = self.past.len() as u64;
        Some(Event::RecurrencesFound {
            detection: name.to_owned(),
            incidents_seen,
            looked_at: self.past.first_and_last(),
            recurrences,
        })
    }
}

impl Witness for Recorder {
    fn saw(&mut self, _: &VirtualWatch, turn: Turn) {
        for (key, entry) in turn.timeline {
            let ObjectKey::Incident(id) = key else { continue };
            if !self.written.contains(&id) {
                let timeline = self.timelines.entry(id).or_default();
                if timeline.len() < TIMELINE_MAX {
                    timeline.push(entry);
                }
            }
        }
        for count in turn.counts {
            if let Count::Alert(disposition) = count {
                *self.summary.dispositions.entry(disposition).or_default() += 1;
            }
        }
    }

    fn saw_closed(&mut self, watch: &VirtualWatch, closed: Closed) {
        match closed {
            Closed::Alert(alert) => {
                let noted = self.assignments.left(&alert);
                self.keep(noted);
            }
            Closed::Incident(incident) => {
                let put = self.put_incident(watch, &incident);
                self.keep(put);
                if !watch.state.rules.problem_detection.is_empty() {
                    self.past.put(&incident);
                }
            }
            Closed::Execution(execution) => {
                let put = self.put_execution(&execution);
                self.keep(put);
            }
            Closed::Silence(_)
            | Closed::Change(_)
            | Closed::Freeze(_)
            | Closed::Notification(_)
            | Closed::Noise(_)
            | Closed::Audit(_)
            | Closed::Heartbeat(_) => {}
        }
    }

    fn consequences(&mut self, watch: &VirtualWatch, effect: &Effect) -> Vec<Event> {
        match effect {
            Effect::DetectProblems { detection } => {
                self.detect(watch, detection).into_iter().collect()
            }
            Effect::Deliver { .. } => {
                let put = self.put_notification(watch.now, effect);
                self.keep(put);
                Vec::new()
            }
            Effect::RunStep { .. } | Effect::StopStep { .. } => Vec::new(),
        }
    }
}

/// A run whose steps would have been done is told as such, with what the history says of its effect.
/// What was held back, or waits for a person, is told as it is.
fn as_it_would_be(mut execution: Execution) -> Execution {
    let has_begun = matches!(
        execution.state,
        ExecutionState::Running
            | ExecutionState::Verifying
            | ExecutionState::Succeeded
            | ExecutionState::Ineffective
            | ExecutionState::Failed
            | ExecutionState::Undone
            | ExecutionState::Stuck
            | ExecutionState::Unknown
    );
    if has_begun {
        execution.why = format!("would have run: {}", execution.why);
        execution.state = ExecutionState::WouldRun;
    }
    execution
}

/// An object with more fields.
fn with<const N: usize>(mut object: Value, more: [(&str, Value); N]) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.extend(more.map(|(name, value)| (name.to_owned(), value)));
    }
    object
}

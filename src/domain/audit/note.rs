//! What of a turn is written into the audit trail.

use super::{AuditEntry, AuditId, Hash};
use crate::domain::effect::{Effect, EffectKey};
use crate::domain::event::{Command, Event};
use crate::domain::execution::{Execution, Part};
use crate::domain::rules::Action;
use crate::domain::{Accepted, ObjectKey, Reply, State, effect};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;

/// The longest text of an entry, in bytes; of a longer one the beginning and its SHA-256 stay.
const TEXT_BYTES_MAX: usize = 1024;
/// Who does what nobody asked for.
const OURSELVES: &str = "watchkeeper";
/// The fields of commands that name what they are about.
const SUBJECTS: [&str; 11] = [
    "execution",
    "incident",
    "into",
    "problem",
    "runbook",
    "freeze",
    "heartbeat",
    "article",
    "subject",
    "replaces",
    "id",
];

impl State {
    /// Writes down who changed what in the turn under way. Alerts change nothing: they are told.
    pub(in crate::domain) fn audit(&mut self, now: Timestamp, event: &Event) {
        let mut entries: Vec<AuditEntry> = self.audited(now, event).into_iter().collect();
        for (key, told) in &self.turn.timeline {
            if let ObjectKey::Execution(id) = key
                && let Some(execution) = self.executions.get(id)
            {
                let mut entry = of_run(now, execution, "run").with("text", &told.text);
                if !told.by.is_empty() {
                    entry.by.clone_from(&told.by);
                }
                entries.push(entry);
            }
        }
        for planned in &self.turn.effects {
            if let Effect::RunStep { action, .. } = &planned.effect
                && let Some(execution) = self.changed_by(&planned.key)
            {
                let entry = of_run(now, execution, "step_begun").with("attempt", &planned.key.0);
                entries.push(entry.with("does", &in_a_line(action)));
            }
        }
        for entry in entries {
            self.add_to_audit(entry);
        }
    }

    /// What a fact by itself tells of a change.
    fn audited(&self, now: Timestamp, event: &Event) -> Option<AuditEntry> {
        match event {
            Event::CommandGiven { by, command } => {
                Some(of_command(now, by, command, self.turn.reply.as_ref()?))
            }
            Event::RulesLoaded(rules) => Some(of_rules(now, OURSELVES, &rules.revision)),
            Event::RulesReloaded { by, rules } => Some(of_rules(now, by, &rules.revision)),
            Event::EffectFinished { key, outcome } => {
                let entry = of_run(now, self.changed_by(key)?, "step_ended");
                let mut entry = entry.with("attempt", &key.0).with("detail", &outcome.detail);
                outcome.result.as_str().clone_into(&mut entry.outcome);
                Some(entry)
            }
            Event::RecordPoisoned { seq, reason } => {
                let entry = AuditEntry::new(now, "record_set_aside", OURSELVES);
                Some(entry.with("record", &seq.to_string()).with("reason", reason))
            }
            Event::StoreHealed(healing) => {
                let entry = AuditEntry::new(now, "store_healed", OURSELVES);
                let entry = entry.with("damage", &healing.damage).with("aside", &healing.aside);
                let snapshot = healing.snapshot_at.map(|it| it.to_string());
                Some(entry.with("snapshot_at", &snapshot.unwrap_or_default()))
            }
            Event::AlertsReceived(_)
            | Event::HeartbeatPinged(_)
            | Event::ChangesReceived(_)
            | Event::PageHeard(_)
            | Event::EffectLost { .. }
            | Event::RecurrencesFound { .. }
            | Event::WatchStarted { .. }
            | Event::ClockJumped { .. }
            | Event::AuditTrimmed { .. }
            | Event::Woken => None,
            #[cfg(any(test, feature = "planted-bugs"))]
            Event::Explosion => None,
        }
    }

    /// The run that an effect changes something for; looks change nothing.
    fn changed_by(&self, key: &EffectKey) -> Option<&Execution> {
        let effect::Owner::Execution(id) = effect::owner(key) else { return None };
        let execution = self.executions.get(&id)?;
        let run = execution.steps.iter().find(|it| it.effect.as_ref() == Some(key))?;
        let is_look = run.part == Part::Verify || key.0.starts_with(&format!("{id}/look/"));
        (!is_look).then_some(execution)
    }
}

impl AuditEntry {
    /// An entry that has no place in the chain yet.
    fn new(now: Timestamp, action: &str, by: &str) -> Self {
        Self {
            action: action.to_owned(),
            at: now,
            by: by.to_owned(),
            details: BTreeMap::new(),
            hash: Hash::default(),
            id: AuditId::default(),
            outcome: "done".to_owned(),
            previous: Hash::default(),
            subject: String::new(),
        }
    }

    fn with(mut self, name: &str, text: &str) -> Self {
        if !text.is_empty() {
            self.details.insert(name.to_owned(), shortened(text));
        }
        self
    }
}

fn of_run(now: Timestamp, execution: &Execution, action: &str) -> AuditEntry {
    let by = format!("runbook {}", execution.runbook.rule.name);
    let entry = AuditEntry::new(now, action, &by);
    AuditEntry { subject: execution.id.to_string(), ..entry }
}

fn of_rules(now: Timestamp, by: &str, revision: &str) -> AuditEntry {
    AuditEntry::new(now, "rules_loaded", by).with("revision", revision)
}

fn of_command(now: Timestamp, by: &str, command: &Command, reply: &Reply) -> AuditEntry {
    let (action, fields) = taken_apart(command);
    let mut entry = AuditEntry::new(now, &action, by);
    for (name, value) in &fields {
        match value {
            Value::Null => {}
            Value::String(text) => entry = entry.with(name, text),
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                entry = entry.with(name, &value.to_string());
            }
        }
    }
    let named = SUBJECTS.iter().find_map(|it| entry.details.get(*it)).cloned().unwrap_or_default();
    entry.subject = match reply {
        Ok(Accepted::Object(key)) => name_of(key).unwrap_or(named),
        Ok(Accepted::Done | Accepted::AfterEffect(_)) | Err(_) => named,
    };
    if let Err(refusal) = reply {
        entry.outcome = shortened(&format!("refused: {refusal}"));
    }
    entry
}

/// The name of a command and its fields, as they are stored.
fn taken_apart(command: &Command) -> (String, serde_json::Map<String, Value>) {
    match serde_json::to_value(command).expect("our own types have text keys only") {
        Value::Object(named) => match named.into_iter().next() {
            Some((name, Value::Object(fields))) => (name, fields),
            Some((name, _)) => (name, serde_json::Map::new()),
            None => Default::default(),
        },
        Value::String(name) => (name, serde_json::Map::new()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => Default::default(),
    }
}

/// The id of an object that a command may be about.
fn name_of(key: &ObjectKey) -> Option<String> {
    match key {
        ObjectKey::Incident(it) => Some(it.to_string()),
        ObjectKey::Execution(it) => Some(it.to_string()),
        ObjectKey::Problem(it) => Some(it.to_string()),
        ObjectKey::Silence(it) => Some(it.to_string()),
        ObjectKey::Change(it) => Some(it.to_string()),
        ObjectKey::Freeze(it) => Some(it.to_string()),
        ObjectKey::Alert(_)
        | ObjectKey::Article(_)
        | ObjectKey::Audit(_)
        | ObjectKey::Experience(_)
        | ObjectKey::Feedback(_)
        | ObjectKey::Habit(_)
        | ObjectKey::Heartbeat(_)
        | ObjectKey::LearnedPlace(_)
        | ObjectKey::Memory
        | ObjectKey::Noise(_)
        | ObjectKey::Notification(_)
        | ObjectKey::Rules => None,
    }
}

/// What a step does, in a line. Secrets are no part of an argument list or an address.
fn in_a_line(action: &Action) -> String {
    let argv = action.argv().map(|it| serde_json::json!(it).to_string());
    let request = || action.request().map(|(method, url)| format!("{method} {url}"));
    let query = || action.promql().map(str::to_owned);
    argv.or_else(request).or_else(query).or_else(|| action.note()).unwrap_or_default()
}

/// A text that is not longer than an entry may hold.
fn shortened(text: &str) -> String {
    if text.len() <= TEXT_BYTES_MAX {
        return text.to_owned();
    }
    let (length, hash) = (text.len(), Hash::of(text.as_bytes()));
    let end = text.floor_char_boundary(TEXT_BYTES_MAX);
    format!("{} … ({length} bytes, SHA-256 {hash})", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Refusal;

    #[test]
    fn a_command_is_told_by_its_name_and_its_fields() {
        let reason = "é".repeat(1000);
        let command = Command::StopRunbook { runbook: "mend".to_owned(), reason: reason.clone() };
        let refused = Err(Refusal::NotFound("no".to_owned()));
        let entry = of_command(Timestamp::UNIX_EPOCH, "ann", &command, &refused);
        assert_eq!((entry.action.as_str(), entry.subject.as_str()), ("stop_runbook", "mend"));
        assert_eq!(entry.outcome, "refused: no");
        let hash = Hash::of(reason.as_bytes());
        let expected = format!("{} … (2000 bytes, SHA-256 {hash})", "é".repeat(512));
        assert_eq!(entry.details["reason"], expected);

        let done = Ok(Accepted::Done);
        let entry = of_command(Timestamp::UNIX_EPOCH, "ann", &Command::DetectProblems, &done);
        assert_eq!((entry.action.as_str(), entry.outcome.as_str()), ("detect_problems", "done"));
        assert!(entry.details.is_empty() && entry.subject.is_empty());
    }
}

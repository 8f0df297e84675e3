//! Detection over a file of incidents, without a daemon: what would be proposed, and why.

use crate::cli::check;
use crate::cli::failure::{Failure, Result};
use crate::cli::output::{self, Output};
use crate::config;
use crate::domain::cause::RootCause;
use crate::domain::incident::{Incident, IncidentId, Symptom};
use crate::domain::label::Labels;
use crate::domain::problem::Recurrence;
use crate::domain::rules::{Mode, ProblemDetection};
use crate::learn::{self, History};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What a line without a time is after the line before.
const STEP: SignedDuration = SignedDuration::from_hours(1);

/// What is looked at, and how.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Look at a file of incidents instead of asking the daemon: a JSON object a line, as `replay`
    /// writes them, of which only `title` is needed
    #[arg(long, value_name = "FILE.jsonl")]
    file: Option<PathBuf>,
    /// The rules folder beside which `models/` says how, with `--file`
    #[arg(long, value_name = "DIR", default_value = "rules", requires = "file")]
    rules: PathBuf,
    /// Which detection of `models/`, with `--file`; the first if not told
    #[arg(long, value_name = "NAME", requires = "file")]
    detection: Option<String>,
}

/// An incident in the file. What else stands in its line is not looked at.
#[derive(Deserialize)]
struct Line {
    id: Option<Value>,
    title: String,
    #[serde(alias = "ts")]
    opened_at: Option<Timestamp>,
    resolved_at: Option<Timestamp>,
    closed_at: Option<Timestamp>,
    #[serde(default)]
    services: BTreeSet<String>,
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    annotations: Labels,
    #[serde(default)]
    symptoms: Vec<Symptom>,
    #[serde(default)]
    root_causes: Vec<RootCause>,
    #[serde(default)]
    acted_on: bool,
    merged_into: Option<Value>,
}

/// The incidents of a file, and what they are called in it.
struct Past {
    history: History,
    names: Vec<Value>,
    last: Timestamp,
}

impl Arguments {
    /// Looks at the file, if there is one.
    pub(super) fn run(&self, output: Output) -> Option<Result<()>> {
        self.file.as_deref().map(|it| self.detect(it, output))
    }

    fn detect(&self, file: &Path, output: Output) -> Result<()> {
        let detection = self.detection()?;
        let read = read(file)?;
        let begun = Instant::now();
        let found = learn::recurrences(&detection, &read.history, read.last);
        let seconds = begun.elapsed().as_secs_f64();
        let count = output::counted(read.history.len(), "incident");
        output::say(&format!("looked at {count} in {seconds:.2} s"));
        let items: Vec<Value> = found.iter().map(|it| read.item(it)).collect();
        let listing = json!({"items": items, "next_cursor": null, "seconds": seconds});
        output::list(&listing, output, table)
    }

    /// How to look: over the whole file, whatever the look-back.
    fn detection(&self) -> Result<ProblemDetection> {
        let checked =
            config::read_rules(&self.rules, &config::models_beside(&self.rules), Mode::Act);
        let rules =
            checked.value.ok_or_else(|| Failure::Findings(check::text(&checked.findings)))?;
        let asked = |it: &&ProblemDetection| {
            self.detection.as_ref().is_none_or(|name| *name == it.rule.name)
        };
        let found = rules.problem_detection.iter().find(asked).cloned();
        let detection = found.ok_or_else(|| {
            let name = self.detection.as_deref().unwrap_or_default();
            Failure::Usage(format!("there is no such detection in `models/`: `{name}`"))
        })?;
        Ok(ProblemDetection { look_back_seconds: u32::MAX, ..detection })
    }
}

/// Reads a file line by line, so that only what is compared is kept.
fn read(file: &Path) -> Result<Past> {
    let failed = |line: usize, error: &dyn std::fmt::Display| {
        Failure::Usage(format!("cannot read the incident: {error}: `{}:{line}`", file.display()))
    };
    let opened = File::open(file).map_err(|error| {
        Failure::Usage(format!("cannot read the incidents: {error}: `{}`", file.display()))
    })?;
    let template = template().map_err(|it| Failure::BadReply(it.to_string()))?;
    let mut past =
        Past { history: History::default(), names: Vec::new(), last: template.opened_at };
    let mut text = String::new();
    let mut reader = BufReader::new(opened);
    let mut at = template.opened_at;
    for number in 1.. {
        text.clear();
        if reader.read_line(&mut text).map_err(|it| failed(number, &it))? == 0 {
            break;
        }
        if text.trim().is_empty() {
            continue;
        }
        let line: Line = serde_json::from_str(&text).map_err(|it| failed(number, &it))?;
        if line.merged_into.is_some() {
            continue;
        }
        at = line.opened_at.unwrap_or_else(|| at.saturating_add(STEP).unwrap_or(at));
        past.last = past.last.max(at);
        past.names.push(line.id.unwrap_or_else(|| json!(number)));
        past.history.put(&Incident {
            id: IncidentId(past.names.len() as u64),
            title: line.title,
            opened_at: at,
            resolved_at: line.resolved_at,
            closed_at: line.closed_at,
            services: line.services,
            labels: line.labels,
            annotations: line.annotations,
            symptoms: line.symptoms,
            root_causes: line.root_causes,
            acted_on: line.acted_on,
            ..template.clone()
        });
    }
    Ok(past)
}

/// An incident of which nothing is known.
fn template() -> serde_json::Result<Incident> {
    serde_json::from_value(json!({
        "id": "INC-1", "correlation_domain": 0, "title": "", "severity": "warning",
        "impact": 3, "urgency": 3, "priority": "P5", "state": "closed", "services": [], "owner": null,
        "opened_at": Timestamp::UNIX_EPOCH, "acknowledged_at": null, "resolved_at": null,
        "closed_at": null, "last_joined_at": Timestamp::UNIX_EPOCH, "alert_count": 0,
        "firing_count": 0, "reopen_count": 0, "labels": {}, "annotations": {},
        "first_alert": "0000000000000000", "group": {}, "opened_by": {"name": "", "file": "", "line": 0},
        "reopen_within_seconds": 0, "why": "", "sla": [], "executions": [], "problem": null,
        "merged_into": null,
    }))
}

impl Past {
    fn item(&self, found: &Recurrence) -> Value {
        let name = |it: &IncidentId| {
            let index = usize::try_from(it.0).unwrap_or_default().checked_sub(1)?;
            self.names.get(index)
        };
        let incidents: Vec<&Value> = found.incidents.iter().filter_map(name).collect();
        json!({
            "title": found.title, "incidents": incidents, "count": incidents.len(),
            "first_seen": found.first_seen, "last_seen": found.last_seen,
            "period_seconds": found.period_seconds, "next_expected_at": found.next_expected_at,
            "confidence": found.confidence, "by_chance": found.by_chance, "why": found.why,
        })
    }
}

fn table(listing: &Value, now: Timestamp) -> String {
    let rows = output::items(listing).iter().map(|it| {
        let of = |name: &str| output::field(it, name);
        vec![
            of("count"),
            output::age(it, "last_seen", now),
            super::period(it),
            of("confidence"),
            of("title"),
        ]
    });
    output::table(&["COUNT", "LAST", "EVERY", "CONFIDENCE", "TITLE"], rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_titles_is_enough() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("incidents.jsonl");
        let lines: String = (0..12)
            .map(|it| match it % 3 {
                0 => format!("{{\"id\":\"T-{it}\",\"title\":\"disk of db-{it} is full\"}}\n"),
                1 => format!("{{\"title\":\"payment gateway timed out after {it} s\"}}\n\n"),
                _ => format!("{{\"title\":\"word{it}x other{it}y\",\"more\":[1]}}\n"),
            })
            .collect();
        std::fs::write(&file, lines).unwrap();
        let past = read(&file).unwrap();
        let rules = folder.path().join("rules");
        let arguments = Arguments { file: None, rules, detection: None };
        let detection = arguments.detection().unwrap();
        let found = learn::recurrences(&detection, &past.history, past.last);
        let items: Vec<Value> = found.iter().map(|it| past.item(it)).collect();
        let names: Vec<&Value> = items.iter().filter_map(|it| it.get("incidents")).collect();
        assert!(names.contains(&&json!(["T-0", "T-3", "T-6", "T-9"])), "{names:?}");
        assert!(table(&json!({"items": items}), past.last).contains("disk of db-# is full"));

        std::fs::write(&file, "{\"title\":\"a\"}\n{\"titel\":\"b\"}\n").unwrap();
        let refused = read(&file).err().unwrap().to_string();
        assert!(refused.contains("missing field `title`") && refused.contains(":2`"), "{refused}");
        let absent = Arguments { detection: Some("other".to_owned()), ..arguments };
        assert!(absent.detection().is_err());
    }
}

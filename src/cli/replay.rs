//! The command `replay`: runs a history through the same core under a virtual clock, and writes what
//! became of it. Nothing is performed.

mod assignments;
mod baseline;
mod changes;
mod history;
mod progress;
mod recorder;
mod spool;
mod summary;

use super::check;
use super::failure::Failure;
use super::output::{self, Output, OutputArgument};
use super::virtual_watch::VirtualWatch;
use crate::config::{self, Finding};
use crate::domain::event::{AlertBatch, ChangeBatch, Command, Event, ReceivedAlert};
use crate::domain::label::Fingerprint;
use crate::domain::rules::{Mode, RuleSet};
use crate::ingest::{ToldAlert, ToldChange};
use anyhow::Context as _;
use baseline::Difference;
use history::{Fact, Format, History};
use jiff::Timestamp;
use progress::Progress;
use recorder::Recorder;
use std::collections::BTreeSet;
use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;
use std::vec::IntoIter;
use summary::Summary;

/// The source of the changes of `--changes`.
const CHANGES: &str = "history";

/// What is run, by which rules, and where the results go.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The history: a line `{"ts","source","alert"}` for each word about an alert
    #[arg(value_name = "EVENTS.jsonl", required_unless_present = "data")]
    events: Option<PathBuf>,
    /// What the file holds: events, alertmanager or prometheus; known by its shape if not told
    #[arg(long, value_enum, hide_possible_values = true)]
    format: Option<Format>,
    /// Take the history from the store of a daemon that is stopped, in its data folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["events", "format"])]
    data: Option<PathBuf>,
    /// Leave out what was told before this time
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Leave out what was told at this time or later
    #[arg(long, value_name = "TIME")]
    to: Option<Timestamp>,
    /// The rules folder; `./rules` if not told, built-in rules where there is none
    #[arg(long, value_name = "DIR")]
    rules: Option<PathBuf>,
    /// Use the built-in rules, whatever files there are
    #[arg(long, conflicts_with = "rules")]
    no_rules: bool,
    /// The services and what they depend on, a Backstage catalog file, in the place of that of the rules
    #[arg(long, value_name = "FILE")]
    catalog: Option<PathBuf>,
    /// What was changed: a line `{"ts","id","kind","service","version","author"}` for each
    #[arg(long, value_name = "FILE")]
    changes: Option<PathBuf>,
    /// Where to write assignments, incidents, problems, executions and notifications
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Tell what differs from an earlier run: the folder of its `--out`
    #[arg(long, value_name = "DIR")]
    baseline: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgument,
}

/// Runs it. Exits with 1 if lines were refused or something differs from the baseline, 2 if the files
/// cannot be used.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Some(rules) = rules_of(arguments)? else { return Ok(ExitCode::from(2)) };
    let begun = Instant::now();
    let (mut changes, refused_changes) = match &arguments.changes {
        Some(path) => changes::read(path)?,
        None => Default::default(),
    };
    changes.retain(|it| arguments.wants(it.at));
    let history = history_of(arguments)?;
    // What is only compared is written where nobody sees it.
    let scratch = tempfile::tempdir()?;
    let compared = arguments.baseline.as_ref().map(|_| scratch.path());
    let out = arguments.out.as_deref().or(compared);
    let recorder =
        Recorder::new(out).with_context(|| format!("cannot write into `{}`", shown(out)))?;
    let first = history.first().into_iter().chain(arguments.from).max();
    let mut replay = Replay::new(rules, changes, recorder, first);
    let mut refused = refused_changes;
    replay.play(history, arguments, &mut refused)?;
    let mut summary = replay.end()?;
    summary.refused = refused.count;
    summary.elapsed = begun.elapsed();
    refused.tell();
    let difference = match (&arguments.baseline, out) {
        (Some(before), Some(now)) => Some(Difference::between(before, now)?),
        _ => None,
    };
    tell(&summary, difference.as_ref(), arguments.output.output)?;
    let is_same = difference.is_none_or(|it| it.is_none());
    Ok(if refused.count == 0 && is_same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints the figures, and what differs.
fn tell(summary: &Summary, difference: Option<&Difference>, form: Output) -> anyhow::Result<()> {
    let mut value = summary.as_json();
    if let (Some(fields), Some(difference)) = (value.as_object_mut(), difference) {
        fields.insert("difference".to_owned(), serde_json::to_value(difference)?);
    }
    let mut text = output::document(&value, form, summary::text)?;
    if let (Output::Table, Some(difference)) = (form, difference) {
        text = format!("{text}\n\n{}", baseline::text(difference));
    }
    Ok(output::print(&text)?)
}

fn shown(path: Option<&Path>) -> String {
    path.map(|it| it.display().to_string()).unwrap_or_default()
}

/// Opens what is to be run.
fn history_of(arguments: &Arguments) -> anyhow::Result<History> {
    if let Some(data) = &arguments.data {
        return History::of_store(data);
    }
    let path = arguments.path();
    let opened = History::open(path, arguments.format);
    Ok(opened.map_err(|error| {
        Failure::Usage(format!("cannot read the history: {error}: `{}`", path.display()))
    })?)
}

impl Arguments {
    /// Where the history is.
    fn path(&self) -> &Path {
        self.events.as_deref().or(self.data.as_deref()).unwrap_or(Path::new(""))
    }

    /// Whether something that was told at a time is wanted.
    fn wants(&self, at: Timestamp) -> bool {
        self.from.is_none_or(|it| it <= at) && self.to.is_none_or(|it| at < it)
    }
}

/// The rules to run by; `None` = they have errors, which were told.
fn rules_of(arguments: &Arguments) -> anyhow::Result<Option<RuleSet>> {
    if let Some(catalog) = arguments.catalog.as_deref().filter(|it| !it.is_file()) {
        let text = format!("there is no such catalog file: `{}`", catalog.display());
        return Err(Failure::Usage(text).into());
    }
    if let Some(rules) = arguments.rules.as_deref().filter(|it| !it.is_dir()) {
        let text = format!("there is no such rules folder: `{}`", rules.display());
        return Err(Failure::Usage(text).into());
    }
    if let Some(baseline) = arguments.baseline.as_deref() {
        let is_own = arguments.out.as_ref().and_then(|it| it.canonicalize().ok());
        if !baseline.is_dir() || baseline.canonicalize().ok() == is_own {
            let text = "the baseline is no folder of another run: `{}`";
            let text = text.replace("{}", &baseline.display().to_string());
            return Err(Failure::Usage(text).into());
        }
    }
    // Of an empty folder the built-in rules are read.
    let empty = tempfile::tempdir()?;
    let folder = match &arguments.rules {
        _ if arguments.no_rules => empty.path().join("rules"),
        Some(rules) => rules.clone(),
        None => PathBuf::from("rules"),
    };
    let checked = config::read_rules(&folder, &config::models_beside(&folder), Mode::Act);
    tell_findings(&checked.findings);
    let Some(mut rules) = checked.value else { return Ok(None) };
    if let Some(file) = &arguments.catalog {
        let checked = config::read_catalog(file);
        tell_findings(&checked.findings);
        let Some(catalog) = checked.value else { return Ok(None) };
        rules.catalog = Arc::new(catalog);
    }
    Ok(Some(rules))
}

fn tell_findings(findings: &[Finding]) {
    if !findings.is_empty() {
        output::say(&check::text(findings));
    }
}

/// The lines that could not be used.
#[derive(Default)]
struct Refused {
    count: u64,
    /// The first of them, with file, line and reason.
    named: Vec<String>,
}

impl Refused {
    /// How many are told one by one.
    const NAMED_MAX: usize = 20;

    fn add(&mut self, path: &Path, line: u64, reason: &str) {
        self.count += 1;
        if self.named.len() < Self::NAMED_MAX {
            self.named.push(format!("{}:{line}: {}", path.display(), output::plain(reason)));
        }
    }

    fn tell(&self) {
        self.named.iter().for_each(|it| output::say(it));
        let more = self.count - self.named.len() as u64;
        if more > 0 {
            output::say(&format!("and {more} more lines were refused"));
        }
    }
}

/// A run under way.
struct Replay {
    watch: VirtualWatch,
    recorder: Recorder,
    changes: Peekable<IntoIter<ToldChange>>,
    delivery: Delivery,
}

/// What one source told at one time: it counts as one delivery.
#[derive(Default)]
struct Delivery {
    at: Timestamp,
    source: Arc<str>,
    alerts: Vec<ReceivedAlert>,
    fingerprints: BTreeSet<Fingerprint>,
}

impl Replay {
    fn new(
        rules: RuleSet,
        changes: Vec<ToldChange>,
        recorder: Recorder,
        first: Option<Timestamp>,
    ) -> Self {
        let first_change = changes.first().map(|it| it.at);
        let changes = changes.into_iter().peekable();
        let now = first.into_iter().chain(first_change).min().unwrap_or_default();
        let watch = VirtualWatch { now, ..VirtualWatch::default() };
        let delivery = Delivery::default();
        let mut replay = Self { watch, recorder, changes, delivery };
        replay.watch.apply(&Event::RulesLoaded(Arc::new(rules)), &mut replay.recorder);
        replay
    }

    /// Plays the whole history.
    fn play(
        &mut self,
        mut history: History,
        arguments: &Arguments,
        refused: &mut Refused,
    ) -> anyhow::Result<()> {
        let mut progress = Progress::new(history.whole());
        while let Some(line) = history.next_line()? {
            match line.told {
                Ok(fact) if !arguments.wants(fact.at()) => {}
                Ok(Fact::Alert(told)) => self.take(told),
                Ok(Fact::Other(at, event)) => self.note(at, &event),
                Err(reason) => refused.add(arguments.path(), line.number, &reason),
            }
            self.recorder.check()?;
            progress.at(line.done, self.watch.now);
        }
        self.deliver();
        self.tell_changes(Timestamp::MAX);
        Ok(())
    }

    /// Applies what a daemon came to know beside alerts.
    fn note(&mut self, at: Timestamp, event: &Event) {
        self.deliver();
        self.tell_changes(at);
        self.watch.go_to(at, &mut self.recorder);
        self.watch.apply(event, &mut self.recorder);
        self.recorder.name_changes(&self.watch);
    }

    fn take(&mut self, told: ToldAlert) {
        let fingerprint = told.alert.fingerprint();
        let delivery = &mut self.delivery;
        // Of one series there is one word in a delivery.
        let fits = delivery.at == told.at
            && *delivery.source == *told.source
            && delivery.fingerprints.insert(fingerprint);
        if !fits {
            self.deliver();
            self.delivery.at = told.at;
            if *self.delivery.source != *told.source {
                self.delivery.source = told.source.into();
            }
            self.delivery.fingerprints.insert(fingerprint);
        }
        self.delivery.alerts.push(told.alert);
    }

    /// Applies the delivery that was gathered, and what came before it.
    fn deliver(&mut self) {
        self.delivery.fingerprints.clear();
        if self.delivery.alerts.is_empty() {
            return;
        }
        let at = self.delivery.at;
        self.tell_changes(at);
        self.watch.go_to(at, &mut self.recorder);
        let alerts = std::mem::take(&mut self.delivery.alerts);
        let batch = AlertBatch { source: self.delivery.source.clone(), alerts, rejected: vec![] };
        let before = self.recorder.before(&self.watch, &batch.alerts);
        let event = Event::AlertsReceived(batch);
        self.watch.apply(&event, &mut self.recorder);
        if let Event::AlertsReceived(batch) = event {
            self.recorder.after(&self.watch, &batch.alerts, before);
        }
    }

    /// Tells of what was changed up to a time.
    fn tell_changes(&mut self, until: Timestamp) {
        while let Some(told) = self.changes.next_if(|it| it.at <= until) {
            self.watch.go_to(told.at, &mut self.recorder);
            let batch = ChangeBatch { source: CHANGES.into(), changes: vec![told.change] };
            self.watch.apply(&Event::ChangesReceived(batch), &mut self.recorder);
            self.recorder.name_changes(&self.watch);
        }
    }

    /// Looks for problems a last time, and writes what is still open.
    fn end(mut self) -> anyhow::Result<Summary> {
        if !self.watch.state.rules.problem_detection.is_empty() {
            let command = Command::DetectProblems;
            let order = Event::CommandGiven { by: "replay".to_owned(), command };
            self.watch.apply(&order, &mut self.recorder);
        }
        self.recorder.end(&self.watch)
    }
}

//! The command `test`: runs the tests written in rule files, under a virtual clock.
//!
//! Nothing is performed: every delivery counts as done at once, and so does every step
//! of a runbook of which the test does not say something else.

mod changes;
mod deeds;
mod incidents;
mod input;
mod problems;
mod rates;
mod readings;

use super::check;
use super::output;
use super::virtual_watch::{VirtualWatch, Witness};
use crate::config::{
    self, ExpectedAlert, ExpectedExecution, ExpectedHeartbeat, ExpectedNotification, RuleTest,
    TestDeed, TestExpectation, TestFact, TestInput,
};
use crate::domain::alert::Alert;
use crate::domain::effect::{Effect, Outcome, PlannedEffect};
use crate::domain::event::{AlertBatch, ChangeBatch, Command, Ends, Event, ReceivedAlert};
use crate::domain::execution::{Execution, ExecutionId};
use crate::domain::heartbeat::Failure;
use crate::domain::incident::{Incident, IncidentId};
use crate::domain::label::{Fingerprint, Labels};
use crate::domain::rules::{Occasion, RuleRef, RuleSet};
use crate::domain::{Closed, Turn, later};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// How a test ended.
#[derive(Clone, Debug)]
pub struct TestOutcome {
    /// The test's name and place.
    pub rule: Arc<RuleRef>,
    /// What was not as expected, with what was there; empty = passed.
    pub failures: Vec<String>,
    /// What had happened until then, in words.
    pub input: Vec<String>,
}

/// Runs the tests of files and folders; without any, of `rules`. Exits with 1 if one fails, 2 if
/// the files have errors.
pub fn run(paths: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let paths = if paths.is_empty() { vec![PathBuf::from("rules")] } else { paths.to_vec() };
    let checked = config::check_paths(&paths);
    let (Some(rules), Some(tests)) = (checked.value, config::read_tests(&paths).value) else {
        output::say(&check::text(&checked.findings));
        return Ok(ExitCode::from(2));
    };
    let outcomes = run_tests(&rules, &tests);
    let failed = outcomes.iter().filter(|it| !it.failures.is_empty()).count();
    let passed = outcomes.len() - failed;
    let lines = outcomes.iter().map(line).collect::<String>();
    let text = format!("{lines}{} tests, {passed} passed, {failed} failed\n", outcomes.len());
    output::print(&text)?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How a test ended, for people.
fn line(outcome: &TestOutcome) -> String {
    let word = if outcome.failures.is_empty() { "ok   " } else { "FAIL " };
    let mut lines = vec![format!("{word} {}", outcome.rule)];
    lines.extend(outcome.failures.iter().map(|it| format!("      {it}")));
    lines.extend(outcome.input.iter().map(|it| format!("        {it}")));
    lines.join("\n") + "\n"
}

/// Runs tests against rules.
pub fn run_tests(rules: &RuleSet, tests: &[RuleTest]) -> Vec<TestOutcome> {
    tests.iter().map(|test| run_test(rules, test)).collect()
}

fn run_test(rules: &RuleSet, test: &RuleTest) -> TestOutcome {
    let mut world = World::default();
    world.watch.now = test.start;
    world.seen.deeds.clone_from(&test.deeds);
    world.apply(&Event::RulesLoaded(Arc::new(rules.clone())));
    let (mut failures, mut taken, mut told) = (Vec::new(), Vec::new(), Vec::new());
    let mut input = test.input.iter().peekable();
    for expectation in &test.expect {
        while let Some(next) = input.next_if(|it| it.at_seconds <= expectation.at_seconds) {
            world.take(at(test, next.at_seconds), next);
            taken.push(next);
        }
        world.go_to(at(test, expectation.at_seconds));
        let place =
            format!("{}:{}: at {} s", test.rule.file, expectation.line, expectation.at_seconds);
        let found = world.compare(expectation);
        if !found.is_empty() {
            told = input::lines(&taken);
        }
        failures.extend(found.into_iter().map(|it| format!("{place}: {it}")));
    }
    TestOutcome { rule: test.rule.clone(), failures, input: told }
}

fn at(test: &RuleTest, seconds: u32) -> Timestamp {
    let since = SignedDuration::from_secs(seconds.into());
    test.start.checked_add(since).unwrap_or(Timestamp::MAX)
}

fn delivery(source: &str, labels: &Labels, ends: Ends) -> Event {
    let alert = ReceivedAlert {
        labels: labels.clone(),
        annotations: Labels::default(),
        starts_at: None,
        ends,
        generator_url: "".into(),
        identity: None,
    };
    Event::AlertsReceived(AlertBatch {
        source: source.into(),
        alerts: vec![alert],
        rejected: vec![],
    })
}

/// The watch under its virtual clock, and what was seen of it.
#[derive(Default)]
struct World {
    watch: VirtualWatch,
    seen: Seen,
}

/// What has left the state.
#[derive(Default)]
struct Seen {
    closed_alerts: BTreeMap<Fingerprint, Alert>,
    closed_incidents: BTreeMap<IncidentId, Incident>,
    closed_executions: BTreeMap<ExecutionId, Execution>,
    /// What receivers were told: the occasion, the receiver, the incident.
    told: Vec<(Occasion, String, Option<IncidentId>)>,
    /// What comes of steps from now on.
    deeds: Vec<TestDeed>,
}

impl Witness for Seen {
    fn saw(&mut self, _: &VirtualWatch, _: Turn) {}

    fn saw_closed(&mut self, _: &VirtualWatch, closed: Closed) {
        match closed {
            Closed::Alert(it) => drop(self.closed_alerts.insert(it.fingerprint, *it)),
            Closed::Incident(it) => drop(self.closed_incidents.insert(it.id, *it)),
            Closed::Execution(it) => drop(self.closed_executions.insert(it.id, *it)),
            Closed::Silence(_)
            | Closed::Change(_)
            | Closed::Freeze(_)
            | Closed::Notification(_)
            | Closed::Noise(_)
            | Closed::Audit(_)
            | Closed::Heartbeat(_) => {}
        }
    }

    fn outcome(&mut self, watch: &VirtualWatch, planned: &PlannedEffect) -> Option<Outcome> {
        let Effect::RunStep { execution, .. } = &planned.effect else { return None };
        deeds::outcome(&mut self.deeds, watch.state.executions.get(execution)?, &planned.key)
    }

    fn consequences(&mut self, watch: &VirtualWatch, effect: &Effect) -> Vec<Event> {
        if let Effect::DetectProblems { detection } = effect {
            let closed = self.closed_incidents.values();
            return problems::detect(watch, closed, detection).into_iter().collect();
        }
        if let Effect::Deliver { occasion, receiver, incident, .. } = effect {
            self.told.push((*occasion, receiver.clone(), *incident));
        }
        Vec::new()
    }
}

impl World {
    fn apply(&mut self, event: &Event) {
        self.watch.apply(event, &mut self.seen);
    }

    fn go_to(&mut self, until: Timestamp) {
        while let Some(at) = rates::next_look(&self.watch).filter(|it| *it <= until) {
            self.watch.go_to(at, &mut self.seen);
            if let Some(told) = rates::unusual(&self.watch) {
                self.apply(&told);
            }
        }
        self.watch.go_to(until, &mut self.seen);
    }

    /// Something happens; in a gap nobody hears of it.
    fn take(&mut self, at: Timestamp, input: &TestInput) {
        if at < self.watch.now {
            return;
        }
        self.go_to(at);
        let event = match &input.fact {
            TestFact::Fires(labels) => delivery(&input.source, labels, Ends::WhenTold),
            TestFact::Resolves(labels) => delivery(&input.source, labels, Ends::At(self.watch.now)),
            TestFact::Acknowledges(incident) => Event::CommandGiven {
                by: "test".to_owned(),
                command: Command::AcknowledgeIncident { incident: *incident },
            },
            TestFact::Changes(change) => Event::ChangesReceived(ChangeBatch {
                source: input.source.as_str().into(),
                changes: vec![change.as_ref().clone()],
            }),
            TestFact::Orders { by, command } => {
                Event::CommandGiven { by: by.clone(), command: command.as_ref().clone() }
            }
            TestFact::Pings(ping) => Event::HeartbeatPinged(ping.clone()),
            TestFact::Measured(measurement) => readings::looked_at(&self.watch, measurement),
            TestFact::Gap(seconds) => {
                self.watch.now = later(self.watch.now, i64::from(*seconds));
                Event::WatchStarted { last_seen: Some(at) }
            }
        };
        self.apply(&event);
    }

    /// What is not as expected.
    fn compare(&self, expected: &TestExpectation) -> Vec<String> {
        let mut failures = Vec::new();
        let mut rest: BTreeMap<IncidentId, &Incident> =
            (self.seen.closed_incidents.iter().chain(&self.watch.state.incidents))
                .map(|(id, it)| (*id, it))
                .collect();
        for wanted in &expected.incidents {
            match rest.iter().find(|(_, it)| incidents::fits(wanted, it)).map(|(id, _)| *id) {
                Some(id) => drop(rest.remove(&id)),
                None => failures.push(format!(
                    "no incident is {}; there are: {}",
                    incidents::wanted(wanted),
                    self.incidents()
                )),
            }
        }
        if expected.incidents_exact && failures.is_empty() && !rest.is_empty() {
            failures.push(format!("more incidents than expected; there are: {}", self.incidents()));
        }
        failures.extend(expected.executions.iter().filter_map(|it| self.compare_execution(it)));
        failures.extend(expected.alerts.iter().filter_map(|it| self.compare_alert(it)));
        failures.extend(expected.notifications.as_ref().and_then(|it| self.compare_told(it)));
        failures.extend(expected.heartbeats.iter().filter_map(|it| self.compare_heartbeat(it)));
        let changes = expected.changes.iter();
        failures.extend(changes.filter_map(|it| changes::compare(&self.watch, it)));
        let problems = expected.problems.as_ref();
        failures.extend(problems.and_then(|it| problems::compare(&self.watch, it)));
        failures
    }

    fn compare_execution(&self, wanted: &ExpectedExecution) -> Option<String> {
        let count = self.all_executions().filter(|it| deeds::fits(wanted, it)).count();
        if wanted.count.map_or(count > 0, |it| it == count) {
            return None;
        }
        let there = list(self.all_executions().map(deeds::shown));
        let (runbook, is) = (&wanted.runbook, deeds::wanted(wanted));
        let has = wanted
            .count
            .map_or("no execution".to_owned(), |it| format!("{count} executions and not {it}"));
        Some(format!("runbook {runbook} has {has} {is}; there are: {there}"))
    }

    fn all_executions(&self) -> impl Iterator<Item = &Execution> {
        self.seen.closed_executions.values().chain(self.watch.state.executions.values())
    }

    fn compare_told(&self, wanted: &[ExpectedNotification]) -> Option<String> {
        let fits = |wanted: &ExpectedNotification,
                    (occasion, receiver, incident): &(_, String, _)| {
            wanted.occasion == *occasion
                && wanted.receiver.as_ref().is_none_or(|it| it == receiver)
                && (wanted.incident.is_none() || wanted.incident == *incident)
        };
        let all = wanted.len() == self.seen.told.len()
            && wanted.iter().zip(&self.seen.told).all(|(wanted, told)| fits(wanted, told));
        let told = |(occasion, receiver, incident): &(Occasion, String, Option<IncidentId>)| {
            let incident = incident.map_or_else(String::new, |it| format!(" of {it}"));
            format!("{} to {receiver}{incident}", occasion.as_str())
        };
        (!all).then(|| {
            format!(
                "not what receivers were told, which is: {}",
                list(self.seen.told.iter().map(told))
            )
        })
    }

    fn compare_alert(&self, wanted: &ExpectedAlert) -> Option<String> {
        let fingerprint = wanted.labels.fingerprint();
        let found = self
            .watch
            .state
            .alerts
            .get(&fingerprint)
            .map(Box::as_ref)
            .or_else(|| self.seen.closed_alerts.get(&fingerprint));
        let Some(alert) = found else {
            return Some(format!("there is no alert {}", wanted.labels));
        };
        let disposition = wanted.disposition.filter(|it| *it != alert.disposition());
        if let Some(disposition) = disposition {
            let (wanted, is) = (disposition.as_str(), alert.disposition().as_str());
            return Some(format!("alert {} is {is}, not {wanted}", alert.labels));
        }
        let held_by = holders(alert);
        let wanted = wanted.held_by.as_ref().filter(|it| !held_by.contains(it))?;
        let is = list(held_by.into_iter());
        Some(format!("alert {} is held back by {is}, not by {wanted}", alert.labels))
    }

    fn compare_heartbeat(&self, wanted: &ExpectedHeartbeat) -> Option<String> {
        let found = self.watch.state.heartbeats.get(wanted.name.as_str());
        let state = found.map(|it| it.state(self.watch.now));
        let reason = found.and_then(|it| it.failure).map(Failure::as_str);
        let is_right = state == Some(wanted.state)
            && wanted.reason.as_deref().is_none_or(|it| reason == Some(it));
        let (state, reason) =
            (state.map_or("not there", |it| it.as_str()), reason.unwrap_or_default());
        let (name, expected) = (&wanted.name, wanted.state.as_str());
        (!is_right).then(|| format!("heartbeat {name} is {state} {reason}, not {expected}"))
    }

    fn incidents(&self) -> String {
        let all = self.seen.closed_incidents.values().chain(self.watch.state.incidents.values());
        list(all.map(incidents::told))
    }
}

/// What holds an alert back, by name.
fn holders(alert: &Alert) -> Vec<String> {
    let decision = &alert.decision;
    let silences = decision.silenced_by.iter().map(ToString::to_string);
    let inhibition = decision.inhibited_by().map(|it| it.rule.name.clone());
    let maintenance = decision.maintenance().iter().map(ToString::to_string);
    silences.chain(inhibition).chain(maintenance).collect()
}

fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    if items.is_empty() { "none".to_owned() } else { items.join("; ") }
}

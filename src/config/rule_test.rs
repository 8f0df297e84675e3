//! `tests:`: what users expect of their rules, to be run under a virtual clock.

mod change;
mod deed;
mod incident;
mod problem;
mod readings;

pub use change::ExpectedChange;
pub use deed::{ExpectedExecution, ExpectedStep, TestDeed};
pub use incident::ExpectedIncident;
pub use problem::ExpectedProblem;
pub use readings::Measurement;

use super::code::Code;
use super::fields::Fields;
use super::heartbeat::HEARTBEAT;
use super::notification::occasion;
use super::reader::Reader;
use super::yaml::{Node, Place, Value};
use crate::domain::alert::Disposition;
use crate::domain::change::ReceivedChange;
use crate::domain::event::Command;
use crate::domain::heartbeat::{HeartbeatPing, HeartbeatState, Signal};
use crate::domain::incident::IncidentId;
use crate::domain::label::Labels;
use crate::domain::rules::{Occasion, RuleRef};
use jiff::Timestamp;
use std::sync::Arc;

/// A test that users wrote beside their rules.
#[derive(Clone, Debug)]
pub struct RuleTest {
    /// Its name and where it is written.
    pub rule: Arc<RuleRef>,
    /// The time at which the virtual clock begins.
    pub start: Timestamp,
    /// What happens, in order of time.
    pub input: Vec<TestInput>,
    /// What comes of steps; those that are not listed succeed.
    pub deeds: Vec<TestDeed>,
    /// What must be true, in order of time.
    pub expect: Vec<TestExpectation>,
}

/// Something that happens in a test.
#[derive(Clone, Debug)]
pub struct TestInput {
    /// Seconds since the start.
    pub at_seconds: u32,
    /// The source that tells, of an alert.
    pub source: String,
    /// What.
    pub fact: TestFact,
}

/// What can happen in a test.
#[derive(Clone, Debug, PartialEq)]
pub enum TestFact {
    /// An alert with these labels fires.
    Fires(Labels),
    /// It is resolved.
    Resolves(Labels),
    /// Somebody acknowledges an incident.
    Acknowledges(IncidentId),
    /// A change is told of.
    Changes(Box<ReceivedChange>),
    /// A heartbeat is pinged.
    Pings(HeartbeatPing),
    /// Somebody gives an order about runbooks.
    Orders {
        /// Who.
        by: String,
        /// What.
        command: Box<Command>,
    },
    /// Values were measured until now.
    Measured(Measurement),
    /// Nobody watches for so many seconds: the daemon is down.
    Gap(u32),
}

/// What must be true at a time. `None` = not looked at.
#[derive(Clone, Debug)]
pub struct TestExpectation {
    /// Seconds since the start.
    pub at_seconds: u32,
    /// The line in the file, from 1.
    pub line: u32,
    /// Whether the listed incidents are all there are; true when `incidents` is written.
    pub incidents_exact: bool,
    /// The incidents.
    pub incidents: Vec<ExpectedIncident>,
    /// Executions that must be there, among others.
    pub executions: Vec<ExpectedExecution>,
    /// Alerts that must be there, among others.
    pub alerts: Vec<ExpectedAlert>,
    /// What receivers were told so far, all of it and in order.
    pub notifications: Option<Vec<ExpectedNotification>>,
    /// Where some heartbeats must be.
    pub heartbeats: Vec<ExpectedHeartbeat>,
    /// Changes that must be there, among others.
    pub changes: Vec<ExpectedChange>,
    /// The problems, all that there are.
    pub problems: Option<Vec<ExpectedProblem>>,
}

/// An alert in a test; what is `None` may be anything.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpectedAlert {
    /// All its labels.
    pub labels: Labels,
    /// How its way ended.
    pub disposition: Option<Disposition>,
    /// What holds it back: a silence, an inhibition or a maintenance window, by name.
    pub held_by: Option<String>,
}

/// What a receiver was told in a test; what is `None` may be anything.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpectedNotification {
    /// What it was about.
    pub occasion: Occasion,
    /// The receiver's name.
    pub receiver: Option<String>,
    /// The incident.
    pub incident: Option<IncidentId>,
}

/// A heartbeat in a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedHeartbeat {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub state: HeartbeatState,
    /// Why it is down; `None` = not looked at.
    pub reason: Option<String>,
}

/// An entry of `tests`.
pub(super) fn rule_test(reader: &mut Reader<'_>, node: &Node) -> Option<RuleTest> {
    let mut fields = Fields::open(reader, node)?;
    let rule = reader.name("test", &mut fields);
    let start = match fields.optional("start") {
        Some(node) => reader.timestamp(node),
        None => Timestamp::UNIX_EPOCH,
    };
    let mut input = Vec::new();
    if let Some(node) = fields.required(reader, "input") {
        input = reader.list(node).iter().filter_map(|it| self::input(reader, it)).collect();
    }
    let deeds = entries(reader, fields.optional("deeds"), deed::deed);
    let mut expect = Vec::new();
    if let Some(node) = fields.required(reader, "expect") {
        let items = reader.list(node);
        if items.is_empty() {
            reader.report(node.place, Code::BadValue, "a test that expects nothing cannot fail");
        }
        expect = items.iter().filter_map(|it| expectation(reader, it)).collect();
    }
    fields.optional("description").map(|it| reader.text(it));
    fields.finish(reader);
    // Stable: what is written first happens first.
    input.sort_by_key(|it: &TestInput| it.at_seconds);
    expect.sort_by_key(|it: &TestExpectation| it.at_seconds);
    Some(RuleTest { rule, start, input, deeds, expect })
}

fn input(reader: &mut Reader<'_>, node: &Node) -> Option<TestInput> {
    let mut fields = Fields::open(reader, node)?;
    let at_seconds = fields.required(reader, "at").map_or(0, |it| reader.duration(it));
    let given = [
        "alert",
        "resolve",
        "acknowledge",
        "change",
        "heartbeat",
        "run",
        "approve",
        "deny",
        "stop_runbooks",
        "resume_runbooks",
        "stop_runbook",
        "resume_runbook",
        "gap",
        "readings",
    ];
    let given = given
        .into_iter()
        .chain(problem::ORDERS)
        .chain(incident::ORDERS)
        .map(|it| (it, fields.optional(it)));
    let given: Vec<_> = given.collect();
    let mut given = given.into_iter().filter_map(|(name, node)| Some((name, node?)));
    let fact = match (given.next(), given.next()) {
        (Some(("alert", node)), None) => Some(TestFact::Fires(labels(reader, node))),
        (Some(("resolve", node)), None) => Some(TestFact::Resolves(labels(reader, node))),
        (Some(("acknowledge", node)), None) => match reader.text(node).parse() {
            Ok(incident) => Some(TestFact::Acknowledges(incident)),
            Err(reason) => {
                reader.report(node.place, Code::BadValue, reason);
                None
            }
        },
        (Some(("change", node)), None) => {
            change::change(reader, node).map(|it| TestFact::Changes(Box::new(it)))
        }
        (Some(("heartbeat", node)), None) => ping(reader, node).map(TestFact::Pings),
        (Some(("gap", node)), None) => Some(TestFact::Gap(reader.positive_duration(node))),
        (Some(("readings", node)), None) => {
            readings::measurement(reader, node).map(TestFact::Measured)
        }
        (Some((kind, node)), None) if incident::ORDERS.contains(&kind) => {
            incident::order(reader, kind, node).map(|it| orders("test", it))
        }
        (Some((kind, node)), None) if problem::ORDERS.contains(&kind) => {
            problem::order(reader, kind, node).map(|it| orders("test", it))
        }
        (Some((kind, node)), None) => {
            deed::order(reader, kind, node).map(|(by, it)| orders(&by, it))
        }
        _ => {
            let message = "an input has one of `alert`, `resolve`, `acknowledge`, `change`, \
                           `heartbeat`, `run`, `approve`, `deny`, `stop_runbooks`, `resume_runbooks`, \
                           `stop_runbook`, `resume_runbook`, `gap`, `readings`, `detect_problems`, \
                           `accept_problem`, `reject_problem`, `close_problem`, `known_error`, \
                           `plan_fix`, `link`, `unlink`, `merge` and `split`";
            reader.report(fields.place, Code::MissingField, message);
            None
        }
    };
    let source = fields.optional("source").map(|it| reader.filled_text(it));
    fields.finish(reader);
    Some(TestInput { at_seconds, source: source.unwrap_or_else(|| "test".to_owned()), fact: fact? })
}

fn orders(by: &str, command: Command) -> TestFact {
    TestFact::Orders { by: by.to_owned(), command: Box::new(command) }
}

/// A ping: the heartbeat's name, or a map with more.
fn ping(reader: &mut Reader<'_>, node: &Node) -> Option<HeartbeatPing> {
    let mut ping = HeartbeatPing {
        heartbeat: String::new(),
        signal: Signal::Success,
        run: None,
        output: String::new(),
    };
    if matches!(node.value, Value::Scalar { .. }) {
        ping.heartbeat = reader.text(node);
        reader.refer(HEARTBEAT, &ping.heartbeat, node.place);
        return Some(ping);
    }
    let mut fields = Fields::open(reader, node)?;
    if let Some(node) = fields.required(reader, "name") {
        ping.heartbeat = reader.text(node);
        reader.refer(HEARTBEAT, &ping.heartbeat, node.place);
    }
    if let Some(node) = fields.optional("signal") {
        let text = reader.text(node);
        ping.signal = Signal::parse(&text).unwrap_or_else(|| {
            let message = format!("unknown value `{text}`");
            let hint = "expected one of `start`, `fail`, `log`, or an exit code";
            reader.report_hint(node.place, Code::BadValue, message, hint);
            Signal::Success
        });
    }
    ping.run = fields.optional("run").map(|it| reader.text(it));
    ping.output = fields.optional("output").map(|it| reader.text(it)).unwrap_or_default();
    fields.finish(reader);
    Some(ping)
}

fn labels(reader: &mut Reader<'_>, node: &Node) -> Labels {
    let pairs = reader.pairs(node);
    let labels = Labels::from_pairs(pairs);
    if labels.is_empty() {
        reader.report_hint(
            node.place,
            Code::BadValue,
            "an alert needs a label",
            "for example `{alertname: Down, severity: critical}`",
        );
    }
    labels
}

fn expectation(reader: &mut Reader<'_>, node: &Node) -> Option<TestExpectation> {
    let mut fields = Fields::open(reader, node)?;
    let at_seconds = fields.required(reader, "at").map_or(0, |it| reader.duration(it));
    let Place { line, .. } = fields.place;
    let incidents = fields.optional("incidents");
    let executions = fields.optional("executions");
    let alerts = fields.optional("alerts");
    let told = fields.optional("notifications");
    let heartbeats = fields.optional("heartbeats");
    let changes = fields.optional("changes");
    let problems = fields.optional("problems");
    let all = [incidents, executions, alerts, told, heartbeats, changes, problems];
    if all.iter().all(Option::is_none) {
        let message = "expected `incidents`, `executions`, `alerts`, `notifications`, `heartbeats`, \
                       `changes` or `problems`";
        reader.report(fields.place, Code::MissingField, message);
    }
    fields.finish(reader);
    Some(TestExpectation {
        at_seconds,
        line,
        incidents_exact: incidents.is_some(),
        incidents: entries(reader, incidents, incident::incident),
        executions: entries(reader, executions, deed::execution),
        alerts: entries(reader, alerts, alert),
        notifications: told.map(|it| entries(reader, Some(it), notification)),
        heartbeats: entries(reader, heartbeats, heartbeat),
        changes: entries(reader, changes, change::expected),
        problems: problems.map(|it| entries(reader, Some(it), problem::problem)),
    })
}

fn entries<T>(
    reader: &mut Reader<'_>,
    node: Option<&Node>,
    read: fn(&mut Reader<'_>, &Node) -> Option<T>,
) -> Vec<T> {
    let Some(node) = node else { return Vec::new() };
    reader.list(node).iter().filter_map(|it| read(reader, it)).collect()
}

fn notification(reader: &mut Reader<'_>, node: &Node) -> Option<ExpectedNotification> {
    let mut fields = Fields::open(reader, node)?;
    let occasion = fields.required(reader, "occasion").and_then(|it| occasion(reader, it));
    let receiver = fields.optional("receiver").map(|it| reader.text(it));
    let incident = fields.optional("incident").and_then(|node| {
        let incident = reader.text(node).parse();
        incident.map_err(|reason| reader.report(node.place, Code::BadValue, reason)).ok()
    });
    fields.finish(reader);
    Some(ExpectedNotification { occasion: occasion?, receiver, incident })
}

fn alert(reader: &mut Reader<'_>, node: &Node) -> Option<ExpectedAlert> {
    let mut fields = Fields::open(reader, node)?;
    let words = Disposition::ALL.map(|it| (it.as_str(), it));
    let labels = fields.required(reader, "labels").map(|it| labels(reader, it));
    let disposition = fields.optional("disposition").and_then(|it| reader.word(it, &words));
    let held_by = fields.optional("held_by").map(|it| reader.text(it));
    fields.finish(reader);
    Some(ExpectedAlert { labels: labels?, disposition, held_by })
}

fn heartbeat(reader: &mut Reader<'_>, node: &Node) -> Option<ExpectedHeartbeat> {
    let mut fields = Fields::open(reader, node)?;
    let mut name = String::new();
    if let Some(node) = fields.required(reader, "name") {
        name = reader.text(node);
        reader.refer(HEARTBEAT, &name, node.place);
    }
    let words = HeartbeatState::ALL.map(|it| (it.as_str(), it));
    let state = fields.required(reader, "state").and_then(|it| reader.word(it, &words));
    let words = ["missed", "took_too_long", "failed"].map(|it| (it, it));
    let reason = fields.optional("reason").and_then(|it| reader.word(it, &words));
    fields.finish(reader);
    Some(ExpectedHeartbeat { name, state: state?, reason: reason.map(str::to_owned) })
}

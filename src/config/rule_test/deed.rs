//! Steps in a test: what comes of them, and where runs must be.

use crate::config::code::Code;
use crate::config::fields::Fields;
use crate::config::reader::Reader;
use crate::config::runbook::RUNBOOK;
use crate::config::yaml::{Node, Place, Value};
use crate::domain::effect::OutcomeKind;
use crate::domain::event::Command;
use crate::domain::execution::{ExecutionState, Part, StepState};
use crate::domain::rules::ApprovalRole;
use std::collections::BTreeMap;

/// What comes of a step in a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestDeed {
    /// The step's id.
    pub step: String,
    /// Why it is done.
    pub part: Part,
    /// For what it is done, of a step with `for_each`; `None` = for anything.
    pub item: Option<String>,
    /// Whether it does what it should.
    pub result: OutcomeKind,
    /// What it prints or answers.
    pub output: String,
    /// A command's exit code, or a reply's HTTP status.
    pub code: Option<i32>,
    /// How often that comes of it, the first times; `None` = always.
    pub times: Option<u64>,
}

/// An execution in a test; what is `None` may be anything.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpectedExecution {
    /// The runbook's name.
    pub runbook: String,
    /// Where it is.
    pub state: Option<ExecutionState>,
    /// The guard that held it back.
    pub blocked_by: Option<String>,
    /// Some of its parameters.
    pub parameters: BTreeMap<String, String>,
    /// Where some of its steps are.
    pub steps: Vec<ExpectedStep>,
    /// How many such executions there are; `None` = one or more.
    pub count: Option<usize>,
}

/// A step of an execution in a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedStep {
    /// Why it is done.
    pub part: Part,
    /// Its id.
    pub id: String,
    /// For what it is done, of a step with `for_each`; `None` = anything.
    pub item: Option<String>,
    /// Where it is.
    pub state: StepState,
}

fn part(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> Part {
    let words = [Part::Precondition, Part::Step, Part::Verify, Part::Undo, Part::Always]
        .map(|it| (it.as_str(), it));
    fields.optional("part").and_then(|it| reader.word(it, &words)).unwrap_or_default()
}

/// An entry of `deeds`.
pub(super) fn deed(reader: &mut Reader<'_>, node: &Node) -> Option<TestDeed> {
    let mut fields = Fields::open(reader, node)?;
    let step = fields.required(reader, "step").map(|it| reader.filled_text(it));
    let part = part(reader, &mut fields);
    let item = fields.optional("item").map(|it| reader.text(it));
    let words = [
        ("succeeded", OutcomeKind::Succeeded),
        ("failed", OutcomeKind::Failed),
        ("failed_retryable", OutcomeKind::FailedRetryable),
        ("timed_out", OutcomeKind::TimedOut),
    ];
    let result = fields.required(reader, "result").and_then(|it| reader.word(it, &words));
    let output = fields.optional("output").map(|it| reader.text(it)).unwrap_or_default();
    let code = fields.optional("code").map(|it| reader.integer(it, 0, 999));
    let times = fields.optional("times").map(|it| reader.integer(it, 1, 1000));
    fields.finish(reader);
    let code = code.and_then(|it| i32::try_from(it).ok());
    Some(TestDeed { step: step?, part, item, result: result?, output, code, times })
}

/// What somebody orders about runbooks, and who.
pub(super) fn order(reader: &mut Reader<'_>, kind: &str, node: &Node) -> Option<(String, Command)> {
    if matches!(node.value, Value::Scalar { .. }) {
        let text = reader.filled_text(node);
        return command(reader, kind, (text, node.place), None).map(|it| ("test".to_owned(), it));
    }
    let inside = "name: EXE-1, by: ann, role: admin";
    let mut fields = Fields::open_like(reader, node, inside)?;
    let name = fields.required(reader, "name").map(|it| (reader.filled_text(it), it.place));
    let by = fields.optional("by").map(|it| reader.filled_text(it));
    let roles = [ApprovalRole::Responder, ApprovalRole::Admin].map(|it| (it.as_str(), it));
    let role = fields.optional("role").and_then(|it| reader.word(it, &roles));
    fields.finish(reader);
    let command = command(reader, kind, name?, role)?;
    Some((by.unwrap_or_else(|| "test".to_owned()), command))
}

fn command(
    reader: &mut Reader<'_>,
    kind: &str,
    (text, place): (String, Place),
    role: Option<ApprovalRole>,
) -> Option<Command> {
    if matches!(kind, "run" | "stop_runbook" | "resume_runbook") {
        reader.refer(RUNBOOK, &text, place);
    }
    let mut execution = || match text.parse() {
        Ok(execution) => Some(execution),
        Err(reason) => {
            reader.report(place, Code::BadValue, reason);
            None
        }
    };
    let reason = "the test says so".to_owned();
    Some(match kind {
        "run" => Command::RunRunbook {
            runbook: text,
            parameters: BTreeMap::new(),
            incident: None,
            dry_run: false,
            emergency: false,
        },
        "approve" => Command::ApproveExecution { execution: execution()?, role },
        "deny" => Command::DenyExecution { execution: execution()?, role, reason },
        "stop_runbook" => Command::StopRunbook { runbook: text, reason },
        "resume_runbook" => Command::ResumeRunbook { runbook: text },
        "stop_runbooks" => Command::StopRunbooks { reason: text },
        _ => Command::ResumeRunbooks,
    })
}

/// An execution that is expected.
pub(super) fn execution(reader: &mut Reader<'_>, node: &Node) -> Option<ExpectedExecution> {
    let mut fields = Fields::open(reader, node)?;
    let states = ExecutionState::ALL.map(|it| (it.as_str(), it));
    let mut runbook = String::new();
    if let Some(node) = fields.required(reader, RUNBOOK) {
        runbook = reader.text(node);
        reader.refer(RUNBOOK, &runbook, node.place);
    }
    let state = fields.optional("state").and_then(|it| reader.word(it, &states));
    let blocked_by = fields.optional("blocked_by").map(|it| reader.text(it));
    let parameters = fields.optional("parameters").map(|it| reader.pairs(it)).unwrap_or_default();
    let parameters = parameters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let steps = fields.optional("steps").map(|it| reader.list(it)).unwrap_or_default();
    let steps = steps.iter().filter_map(|it| step(reader, it)).collect();
    let count = fields.optional("count").map(|it| reader.integer(it, 0, 1_000_000));
    let count = count.and_then(|it| usize::try_from(it).ok());
    fields.finish(reader);
    Some(ExpectedExecution { runbook, state, blocked_by, parameters, steps, count })
}

fn step(reader: &mut Reader<'_>, node: &Node) -> Option<ExpectedStep> {
    let mut fields = Fields::open(reader, node)?;
    let words = [
        StepState::Pending,
        StepState::Running,
        StepState::Succeeded,
        StepState::Failed,
        StepState::Unknown,
        StepState::Skipped,
    ]
    .map(|it| (it.as_str(), it));
    let id = fields.required(reader, "id").map(|it| reader.filled_text(it));
    let part = part(reader, &mut fields);
    let item = fields.optional("item").map(|it| reader.text(it));
    let state = fields.required(reader, "state").and_then(|it| reader.word(it, &words));
    fields.finish(reader);
    Some(ExpectedStep { part, id: id?, item, state: state? })
}

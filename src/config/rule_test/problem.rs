//! Problems in a test: what people say about them, and what is expected of them.

use crate::config::code::Code;
use crate::config::fields::Fields;
use crate::config::reader::Reader;
use crate::config::runbook::RUNBOOK;
use crate::config::yaml::{Node, Value};
use crate::domain::event::Command;
use crate::domain::problem::{ProblemId, ProblemState};

/// The inputs about problems.
pub(super) const ORDERS: [&str; 6] = [
    "detect_problems",
    "accept_problem",
    "reject_problem",
    "close_problem",
    "known_error",
    "plan_fix",
];

/// A problem in a test; what is `None` may be anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedProblem {
    /// Which.
    pub id: ProblemId,
    /// Where it is in its life.
    pub state: Option<ProblemState>,
    /// How many incidents it has.
    pub count: Option<u64>,
    /// What it is called.
    pub title: Option<String>,
    /// How often it was back after it was resolved.
    pub reopen_count: Option<u64>,
}

/// Reads something that is said about problems.
pub(super) fn order(reader: &mut Reader<'_>, kind: &str, node: &Node) -> Option<Command> {
    let reason = format!("{kind} in a test");
    match kind {
        "detect_problems" => {
            reader.filled_text(node);
            return Some(Command::DetectProblems);
        }
        "accept_problem" => {
            return Some(Command::AcceptProblem { problem: number(reader, node)? });
        }
        "reject_problem" => {
            return Some(Command::RejectProblem { problem: number(reader, node)?, reason });
        }
        "close_problem" => {
            return Some(Command::CloseProblem { problem: number(reader, node)?, reason });
        }
        _ => {}
    }
    if matches!(node.value, Value::Scalar { .. }) {
        let message = format!("`{kind}` is a map with `problem` and what is said of it");
        reader.report(node.place, Code::BadValue, message);
        return None;
    }
    let mut fields = Fields::open(reader, node)?;
    let problem = fields.required(reader, "problem").and_then(|it| number(reader, it));
    let order = if kind == "plan_fix" {
        let change = fields.required(reader, "change").and_then(|it| number(reader, it));
        Some(Command::PlanFix { problem: problem?, change: change? })
    } else {
        let mut text = |reader: &mut Reader<'_>, name: &'static str| {
            fields.optional(name).map(|it| reader.text(it)).unwrap_or_default()
        };
        let (cause, workaround) = (text(reader, "cause"), text(reader, "workaround"));
        let runbook = fields.optional(RUNBOOK).map(|node| {
            let name = reader.text(node);
            reader.refer(RUNBOOK, &name, node.place);
            name
        });
        Some(Command::DeclareKnownError { problem: problem?, cause, workaround, runbook })
    };
    fields.finish(reader);
    order
}

/// A problem that is expected.
pub(super) fn problem(reader: &mut Reader<'_>, node: &Node) -> Option<ExpectedProblem> {
    let mut fields = Fields::open(reader, node)?;
    let id = fields.required(reader, "id").and_then(|it| number(reader, it));
    let states = ProblemState::ALL.map(|it| (it.as_str(), it));
    let state = fields.optional("state").and_then(|it| reader.word(it, &states));
    let count = fields.optional("count").map(|it| reader.integer(it, 0, 1_000_000));
    let title = fields.optional("title").map(|it| reader.text(it));
    let reopen_count = fields.optional("reopen_count").map(|it| reader.integer(it, 0, 1_000_000));
    fields.finish(reader);
    Some(ExpectedProblem { id: id?, state, count, title, reopen_count })
}

/// The number of an object, as it is printed.
pub(super) fn number<T: std::str::FromStr<Err = String>>(
    reader: &mut Reader<'_>,
    node: &Node,
) -> Option<T> {
    let number = reader.text(node).parse();
    number.map_err(|reason| reader.report(node.place, Code::BadValue, reason)).ok()
}

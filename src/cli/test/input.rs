//! What happened in a test, in words: told when it fails.

use crate::cli::output;
use crate::config::{TestFact, TestInput};

/// So many facts are told, the last ones.
const FACTS_MAX: usize = 40;

/// A line for each fact.
pub(super) fn lines(input: &[&TestInput]) -> Vec<String> {
    let left_out = input.len().saturating_sub(FACTS_MAX);
    let mut lines = Vec::new();
    if left_out > 0 {
        lines.push(format!("input: {left_out} facts, and then"));
    }
    lines.extend(input.iter().skip(left_out).map(|it| output::plain(&line(it))));
    lines
}

fn line(input: &TestInput) -> String {
    let what = match &input.fact {
        TestFact::Fires(labels) => format!("alert {labels}"),
        TestFact::Resolves(labels) => format!("resolve {labels}"),
        TestFact::Acknowledges(incident) => format!("acknowledge {incident}"),
        TestFact::Changes(change) => format!("change `{}`", change.title),
        TestFact::Pings(ping) => format!("heartbeat {}", ping.heartbeat),
        TestFact::Orders { by, command } => format!("order of {by} {command:?}"),
        TestFact::Measured(it) => {
            format!("readings of {} series for {}", it.series.len(), it.forecast)
        }
        TestFact::Gap(seconds) => format!("gap of {seconds} s"),
    };
    let source =
        if input.source == "test" { String::new() } else { format!(" by {}", input.source) };
    format!("input: at {} s: {what}{source}", input.at_seconds)
}

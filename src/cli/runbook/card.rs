//! Runs and records of runbooks for people to read.

use super::super::incident::{time_and_age, timeline};
use super::super::output::{self, card, entries, field, section};
use super::step_lines;
use jiff::Timestamp;
use serde_json::Value;

/// An execution with what it asks, its guards, steps and timeline.
pub(super) fn execution_card(execution: &Value, now: Timestamp) -> String {
    let of = |name: &str| field(execution, name);
    let mut out = format!("{}  {}\n\n", of("id"), of("runbook"));
    out.push_str(&card(&[
        ("state", of("state")),
        ("mode", of("mode")),
        ("incident", of("incident")),
        ("called by", of("parent")),
        ("change", of("change")),
        ("parameters", of("parameters")),
        ("asked by", of("requested_by")),
        ("trigger", of("trigger")),
        ("decided by", of("decided_by")),
        ("created", time_and_age(execution, "created_at", now)),
        ("started", time_and_age(execution, "started_at", now)),
        ("ended", time_and_age(execution, "ended_at", now)),
        ("blocked by", of("blocked_by")),
        ("because", of("blocked_reason")),
        ("why", of("why")),
    ]));
    let question = &execution["question"];
    if question.is_object() {
        let asked = [
            format!("step        {}", field(question, "step")),
            format!("text        {}", field(question, "text")),
            format!("people      {} ({})", field(question, "people"), field(question, "role")),
            format!("yes so far  {}", field(question, "yes")),
            format!("expires     {}", output::moment(question, "expires_at")),
        ];
        out.push_str(&section("asks", &asked));
    }
    let checks: Vec<String> = entries(execution, "checks").iter().map(check_line).collect();
    out.push_str(&section("guards", &checks));
    let answers: Vec<String> = entries(execution, "answers").iter().map(answer_line).collect();
    out.push_str(&section("answers", &answers));
    let steps: Vec<String> = entries(execution, "steps").iter().map(step_lines).collect();
    out.push_str(&section("steps", &steps));
    out.push_str(&section("timeline", &timeline(execution)));
    out
}

/// What a guard says.
fn check_line(check: &Value) -> String {
    match field(check, "reason") {
        it if it.is_empty() => format!("{}  lets it go", field(check, "guard")),
        reason => format!("{}  would hold it back: {reason}", field(check, "guard")),
    }
}

/// Who said what, when, to which step.
fn answer_line(answer: &Value) -> String {
    let said = if answer["yes"] == true { "yes" } else { "no" };
    let (at, by) = (output::moment(answer, "at"), field(answer, "by"));
    format!("{at}  {by}  {said}  {}", field(answer, "step")).trim_end().to_owned()
}

/// How a runbook's runs ended, and how far it should go.
pub(super) fn record(record: &Value, _: Timestamp) -> String {
    let of = |name: &str| field(record, name);
    let mut out = format!("{}\n\n", of("name"));
    out.push_str(&card(&[
        ("mode", of("mode")),
        ("runs", of("runs")),
        ("outcomes", of("outcomes")),
        ("verified in a row", of("verified_in_a_row")),
        ("succeeded", with_unit(of("success_percent"), " %")),
        ("helped", with_unit(of("effective_percent"), " % of those that were verified")),
        ("took", with_unit(of("success_seconds"), " s")),
        ("saved", record["saved_seconds"].as_i64().map(output::seconds).unwrap_or_default()),
        ("proposal", format!("mode: {}", of("proposal"))),
        ("why", of("why")),
        ("stands in", format!("{}:{}", of("file"), of("line"))),
    ]));
    out
}

/// A figure with its unit; nothing where there is no figure.
fn with_unit(figure: String, unit: &str) -> String {
    if figure.is_empty() { figure } else { figure + unit }
}

//! The command `explain`: why something was decided as it was.

use super::client::Client;
use super::failure::Result;
use super::output::{self, Output, entries, field, section, text};
use jiff::Timestamp;
use serde_json::Value;

/// Prints why.
pub async fn run(client: &Client, id: &str, output: Output) -> Result<()> {
    let explanation = client.get(&["explain", id], &[]).await?;
    output::show(&explanation, output, sentences)
}

/// The explanation for people: a paragraph for each stage, then what was left out.
fn sentences(explanation: &Value, _: Timestamp) -> String {
    let mut out = format!("{}\n", field(explanation, "id"));
    for stage in entries(explanation, "stages") {
        let reasons: Vec<String> = entries(stage, "evidence").iter().map(reason).collect();
        let title = format!("{}: {}", field(stage, "stage").replace('_', " "), verdict(stage));
        out.push_str(&paragraph(&title, &reasons));
    }
    for (name, title) in [("alternative", "otherwise"), ("left_out", "left out")] {
        out.push_str(&section(title, &remarks(explanation.get(name))));
    }
    out
}

/// A stage with its reasons below it.
fn paragraph(title: &str, reasons: &[String]) -> String {
    let lines = reasons.iter().map(|it| format!("    {}\n", it.replace('\n', "\n    ")));
    format!("\n  {title}\n{}", lines.collect::<String>())
}

/// What a stage decided, and by which rule.
fn verdict(stage: &Value) -> String {
    let (verdict, rule, file) =
        (field(stage, "verdict"), field(stage, "rule"), field(stage, "file"));
    let line = field(stage, "line");
    // What is called as its rule, such as a runbook, is not named twice.
    match (rule.is_empty() || verdict.contains(&rule), file.is_empty()) {
        (true, true) => verdict,
        (true, false) => format!("{verdict}, see {file}:{line}"),
        (false, true) => format!("{verdict}, by the rule {rule}"),
        (false, false) => format!("{verdict}, by the rule {rule} ({file}:{line})"),
    }
}

/// One reason, with its weight if it is between counting nothing and deciding alone.
fn reason(evidence: &Value) -> String {
    let (kind, detail) = (field(evidence, "kind"), field(evidence, "detail"));
    let points = evidence.get("points").and_then(Value::as_i64);
    match points.filter(|it| (1..1000).contains(it)) {
        Some(points) => format!("{kind} ({points} points): {detail}"),
        // The entries of a timeline speak for themselves.
        None if kind.is_empty() || kind == "entry" => detail,
        None => format!("{kind}: {detail}"),
    }
}

/// Whatever form they have, as lines.
fn remarks(value: Option<&Value>) -> Vec<String> {
    match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(values)) => values.iter().map(text).collect(),
        Some(other) => vec![text(other)].into_iter().filter(|it| !it.is_empty()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_stage_is_a_paragraph() {
        let explanation = json!({
            "id": "INC-3",
            "stages": [
                {
                    "stage": "correlate", "verdict": "opened", "rule": "web", "file": "web.yaml",
                    "line": 3, "evidence": [
                        {"kind": "same group", "points": 12, "detail": "cluster=\"eu\""},
                        {"kind": "window", "points": 0, "detail": "gap 12s of 300s"},
                    ],
                },
                {"stage": "silence", "verdict": "none of 2 silences matched", "rule": null},
                {
                    "stage": "runbook", "verdict": "restart succeeded (EXE-1)", "rule": "restart",
                    "file": "web.yaml", "line": 9, "evidence": [
                        {"kind": "reason", "points": 1000, "detail": "verified"},
                        {"kind": "entry", "points": 0, "detail": "at 10:00 opened"},
                    ],
                },
                {"stage": "group", "verdict": "opened", "rule": "default", "file": "", "line": 0},
            ],
            "alternative": "INC-2, but it is closed",
            "left_out": ["00ff: another cluster"],
        });
        let expected = "INC-3\n\
            \n  correlate: opened, by the rule web (web.yaml:3)\n    same group (12 points): cluster=\"eu\"\n    \
            window: gap 12s of 300s\n\
            \n  silence: none of 2 silences matched\n\
            \n  runbook: restart succeeded (EXE-1), see web.yaml:9\n    reason: verified\n    \
            at 10:00 opened\n\
            \n  group: opened, by the rule default\n\
            \notherwise\n  INC-2, but it is closed\n\
            \nleft out\n  00ff: another cluster\n";
        assert_eq!(sentences(&explanation, Timestamp::UNIX_EPOCH), expected);
        assert_eq!(sentences(&Value::Null, Timestamp::UNIX_EPOCH), "\n");
    }
}

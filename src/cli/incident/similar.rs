//! What may help with an incident, for people: articles, and past incidents with what was done.

use super::super::article::Rate;
use super::super::client::Client;
use super::super::failure::Result;
use super::super::output::{self, Output, age, entries, field, seconds};
use jiff::Timestamp;
use serde_json::Value;

/// Lists past incidents that are like one.
pub(super) async fn list(client: &Client, id: &str, limit: usize, output: Output) -> Result<()> {
    let query = [("limit", limit.to_string())];
    let listing = client.get(&["incidents", id, "similar"], &query).await?;
    output::list(&listing, output, table)
}

/// Says whether what was done about a past incident helped.
pub(super) async fn rate(client: &Client, rate: &Rate, output: Output) -> Result<()> {
    let id = super::super::parse_incident(&rate.id).unwrap_or_else(|_| rate.id.clone());
    let past = client.post(&["incidents", &id, "rate"], rate.body()).await?;
    output::show(&past, output, |it, _| {
        format!("{}  {}  {}", field(it, "id"), field(it, "title"), what_helped(it))
            .trim()
            .to_owned()
    })
}

fn table(listing: &Value, now: Timestamp) -> String {
    let rows = output::items(listing).iter().map(|it| {
        let lasted = it.get("lasted_seconds").and_then(Value::as_i64).map(seconds);
        vec![
            field(it, "id"),
            field(it, "score"),
            age(it, "opened_at", now),
            lasted.unwrap_or_default(),
            field(it, "title"),
            what_helped(it),
            why(it),
        ]
    });
    output::table(&["ID", "SCORE", "AGE", "LASTED", "TITLE", "WHAT HELPED", "WHY"], rows.collect())
}

fn why(value: &Value) -> String {
    entries(value, "why").iter().map(output::text).collect::<Vec<_>>().join("; ")
}

/// What was done about a past incident, as far as somebody wrote it down.
fn what_helped(past: &Value) -> String {
    let mut told: Vec<String> = Vec::new();
    let by = field(past, "resolved_by");
    if !by.is_empty() {
        told.push(format!("{by}: {}", field(past, "resolution")));
    }
    told.extend(entries(past, "notes").iter().map(output::text));
    let runs = entries(past, "runs").iter();
    told.extend(runs.map(|it| format!("{} {}", field(it, "runbook"), field(it, "state"))));
    if let Some(problem) = past.get("problem").filter(|it| !it.is_null()) {
        let workaround = field(problem, "workaround");
        let state = field(problem, "state").replace('_', " ");
        let known = if workaround.is_empty() { state } else { workaround };
        told.push(format!("{}: {known}", field(problem, "id")));
    }
    told.join("; ")
}

/// The articles that fit an incident and the past ones that are like it, a line each.
pub(super) fn help(incident: &Value) -> Vec<String> {
    let article = |it: &Value| {
        let runbook = field(it, "runbook");
        let runbook = if runbook.is_empty() { runbook } else { format!(" (runbook {runbook})") };
        format!("article {}  {}{runbook}: {}", field(it, "id"), field(it, "title"), why(it))
    };
    let past = |it: &Value| {
        let helped = what_helped(it);
        let helped = if helped.is_empty() { helped } else { format!(" [{helped}]") };
        format!("{}  {}: {}{helped}", field(it, "id"), field(it, "title"), why(it))
    };
    let articles = entries(incident, "articles").iter().map(article);
    articles.chain(entries(incident, "similar").iter().map(past)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_helped_last_time_stands_with_the_incident() {
        let past = json!({
            "id": "INC-2", "title": "Disk full", "score": 900, "why": ["the same alert DiskFull"],
            "opened_at": "2026-01-01T00:00:00Z", "lasted_seconds": 600, "resolved_by": "ann",
            "resolution": "grew it", "notes": ["bob: looked"],
            "runs": [{"id": "EXE-1", "runbook": "free-space", "state": "succeeded"}],
            "problem": {"id": "PRB-1", "workaround": "empty the log", "state": "known_error"},
        });
        let article =
            json!({"id": "disk", "title": "Disks", "why": ["it is for the alert DiskFull"]});
        let lines = help(&json!({"articles": [article], "similar": [past.clone()]}));
        let helped = "ann: grew it; bob: looked; free-space succeeded; PRB-1: empty the log";
        assert_eq!(
            lines,
            [
                "article disk  Disks: it is for the alert DiskFull".to_owned(),
                format!("INC-2  Disk full: the same alert DiskFull [{helped}]"),
            ]
        );
        let now = "2026-01-02T00:00:00Z".parse().unwrap();
        let text = table(&json!({"items": [past]}), now);
        assert!(text.contains("INC-2") && text.contains("10m"), "{text}");
        assert_eq!(help(&Value::Null), Vec::<String>::new());
    }
}

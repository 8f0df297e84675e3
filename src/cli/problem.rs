//! The commands on problems: list, show, detect, accept, reject, link, close, and drafts of articles.

mod file;

use super::By;
use super::client::{Client, Listing};
use super::failure::Result;
use super::incident::{time_and_age, timeline};
use super::output::{self, Output, age, card, entries, field, seconds, section, text};
use jiff::Timestamp;
use serde_json::{Value, json};

/// What to do with problems.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List problems: all but rejected and resolved ones, unless told otherwise
    List {
        /// Only in these states: proposed, accepted, rejected, `known_error`, ...
        #[arg(long, value_delimiter = ',', value_name = "STATE")]
        state: Vec<String>,
        /// In every state
        #[arg(long, conflicts_with = "state")]
        all: bool,
        /// The most to list
        #[arg(long, default_value_t = 100, value_parser = super::parse_limit)]
        limit: usize,
    },
    /// Show one problem with its incidents
    Show {
        /// For example PRB-7
        #[arg(value_parser = super::parse_problem)]
        id: String,
    },
    /// Look for recurring problems now, and list what is known
    Detect {
        /// Over a file
        #[command(flatten)]
        file: file::Arguments,
        /// Who says so
        #[command(flatten)]
        by: By,
    },
    /// Say that proposals are right
    Accept {
        /// For example PRB-7
        #[arg(required = true, value_name = "ID", value_parser = super::parse_problem)]
        ids: Vec<String>,
        /// Who says so
        #[command(flatten)]
        by: By,
    },
    /// Say that proposals are wrong; they are not made again
    Reject {
        /// For example PRB-7
        #[arg(required = true, value_name = "ID", value_parser = super::parse_problem)]
        ids: Vec<String>,
        /// Why
        #[arg(long, default_value = "")]
        reason: String,
        /// Who says so
        #[command(flatten)]
        by: By,
    },
    /// Say what is behind a problem or how to live with it; its incidents are told from then on
    KnownError {
        /// For example PRB-7
        #[arg(value_parser = super::parse_problem)]
        id: String,
        /// What is behind it
        #[arg(long, default_value = "")]
        cause: String,
        /// How to live with it
        #[arg(long, default_value = "", required_unless_present = "cause")]
        workaround: String,
        /// The runbook that carries the workaround out
        #[arg(long, value_name = "NAME")]
        runbook: Option<String>,
        /// Who says so
        #[command(flatten)]
        by: By,
    },
    /// Say which change will remove the cause
    PlanFix {
        /// For example PRB-7
        #[arg(value_parser = super::parse_problem)]
        id: String,
        /// For example CHG-3
        #[arg(long, value_parser = super::parse_change)]
        change: String,
        /// Who says so
        #[command(flatten)]
        by: By,
    },
    /// Add incidents to a problem
    Link {
        /// For example PRB-7
        #[arg(value_parser = super::parse_problem)]
        id: String,
        /// For example INC-42
        #[arg(required = true, value_name = "INCIDENT", value_parser = super::parse_incident)]
        incidents: Vec<String>,
        /// Who says so
        #[command(flatten)]
        by: By,
    },
    /// Draft an article from a problem: Markdown, for a file below `rules/knowledge` or `article add`
    Article {
        /// For example PRB-7
        #[arg(value_parser = super::parse_problem)]
        id: String,
    },
    /// Say that the causes are gone
    Close {
        /// For example PRB-7
        #[arg(required = true, value_name = "ID", value_parser = super::parse_problem)]
        ids: Vec<String>,
        /// How
        #[arg(long, default_value = "")]
        reason: String,
        /// Who says so
        #[command(flatten)]
        by: By,
    },
}

/// Does it.
pub async fn run(client: &Client, command: Command, output: Output) -> Result<()> {
    let (ids, verb, body) = match command {
        Command::Article { id } => {
            let draft = client.get(&["problems", &id, "article"], &[]).await?;
            return output::show(&draft, output, |it, _| field(it, "markdown"));
        }
        Command::List { state, all, limit } => {
            let query = [("state", states(&state, all))];
            let listing = Listing { path: &["problems"], query: &query, limit };
            let listing = client.list(&listing).await?;
            let narrowed = all || !state.is_empty();
            if output == Output::Table && !narrowed && output::items(&listing).is_empty() {
                output::say(
                    "no problem is open; `problem detect` looks for some, `--all` lists all",
                );
                return Ok(());
            }
            return output::list(&listing, output, problem_table);
        }
        Command::Show { id } => {
            let problem = client.get(&["problems", &id], &[]).await?;
            return output::show(&problem, output, problem_card);
        }
        Command::Detect { file, by } => {
            if let Some(looked) = file.run(output) {
                return looked;
            }
            let known = client.post(&["problems", "detect"], json!({"by": by.name()})).await?;
            return output::list(&known, output, problem_table);
        }
        Command::Link { id, incidents, by } => {
            let ids = [id];
            for incident in incidents {
                let body = json!({"by": by.name(), "incident": incident});
                let change = super::Change { kind: "problems", verb: "link", body };
                super::change_each(client, &change, &ids, output).await?;
            }
            return Ok(());
        }
        Command::KnownError { id, cause, workaround, runbook, by } => {
            let mut body = json!({"by": by.name(), "cause": cause, "workaround": workaround});
            if let (Some(fields), Some(runbook)) = (body.as_object_mut(), runbook) {
                fields.insert("runbook".to_owned(), json!(runbook));
            }
            (vec![id], "known-error", body)
        }
        Command::PlanFix { id, change, by } => {
            (vec![id], "plan-fix", json!({"by": by.name(), "change": change}))
        }
        Command::Accept { ids, by } => (ids, "accept", json!({"by": by.name()})),
        Command::Reject { ids, reason, by } => {
            (ids, "reject", json!({"by": by.name(), "reason": reason}))
        }
        Command::Close { ids, reason, by } => {
            (ids, "close", json!({"by": by.name(), "reason": reason}))
        }
    };
    super::change_each(client, &super::Change { kind: "problems", verb, body }, &ids, output).await
}

/// The states to list, with commas; empty = every state.
fn states(asked: &[String], all: bool) -> String {
    match (all, asked) {
        (true, _) => String::new(),
        (false, []) => "proposed,accepted,known_error,fix_planned".to_owned(),
        (false, asked) => asked.join(","),
    }
}

fn problem_table(listing: &Value, now: Timestamp) -> String {
    let rows = output::items(listing).iter().map(|it| {
        vec![
            field(it, "id"),
            field(it, "state"),
            count(it),
            age(it, "last_seen", now),
            period(it),
            field(it, "confidence"),
            field(it, "title"),
        ]
    });
    let header = ["ID", "STATE", "COUNT", "LAST", "EVERY", "CONFIDENCE", "TITLE"];
    output::table(&header, rows.collect())
}

fn count(problem: &Value) -> String {
    match field(problem, "count") {
        it if it.is_empty() => entries(problem, "incidents").len().to_string(),
        it => it,
    }
}

fn period(problem: &Value) -> String {
    problem.get("period_seconds").and_then(Value::as_i64).map(seconds).unwrap_or_default()
}

fn confidence(problem: &Value) -> String {
    match field(problem, "confidence") {
        it if it.is_empty() => it,
        it => format!("{it} of 1000"),
    }
}

fn problem_card(problem: &Value, now: Timestamp) -> String {
    let of = |name: &str| field(problem, name);
    let mut out = format!("{}  {}\n\n", of("id"), of("title"));
    out.push_str(&card(&[
        ("state", of("state")),
        ("confidence", confidence(problem)),
        ("count", count(problem)),
        ("first seen", time_and_age(problem, "first_seen", now)),
        ("last seen", time_and_age(problem, "last_seen", now)),
        ("detected", time_and_age(problem, "detected_at", now)),
        ("every", period(problem)),
        ("next expected", output::moment(problem, "next_expected_at")),
        ("most likely", expected(problem)),
        ("forecasts", forecasts(problem)),
        ("rhythm", of_nested(problem, "rhythm", "text")),
        ("trend", of_nested(problem, "trend", "direction")),
        ("impact", minutes(problem)),
        ("lately", recent(problem)),
        ("breaches", nonzero(problem, "breaches")),
        ("after changes", nonzero(problem, "changed_before")),
        ("cause", of("cause")),
        ("workaround", of("workaround")),
        ("runbook", of("runbook")),
        ("fix", of("fix")),
        ("resolved", time_and_age(problem, "resolved_at", now)),
        ("merged into", of("merged_into")),
        ("incidents", of("incidents")),
        ("reason", of("reason")),
    ]));
    let why: Vec<String> = match problem.get("why") {
        Some(Value::Array(reasons)) => reasons.iter().map(text).collect(),
        Some(Value::Null) | None => Vec::new(),
        Some(reason) => vec![text(reason)],
    };
    out.push_str(&section("why", &why));
    out.push_str(&section("seen at", &lines(problem, "places", place)));
    out.push_str(&section("shared", &lines(problem, "traits", shared)));
    out.push_str(&section("begins with", &lines(problem, "openings", opening)));
    out.push_str(&section("timeline", &timeline(problem)));
    out
}

fn of_nested(problem: &Value, object: &str, name: &str) -> String {
    problem.get(object).map(|it| field(it, name)).unwrap_or_default()
}

fn nonzero(problem: &Value, name: &str) -> String {
    Some(field(problem, name)).filter(|it| it != "0").unwrap_or_default()
}

fn minutes(problem: &Value) -> String {
    let minutes = problem.get("impact_minutes").and_then(Value::as_i64).filter(|it| *it > 0);
    minutes.map(|it| seconds(it * 60)).unwrap_or_default()
}

/// Between which times the next is expected.
fn expected(problem: &Value) -> String {
    let interval = problem.get("next_expected").filter(|it| it.is_object());
    let moment = |it: &Value, name: &str| output::moment(it, name);
    interval
        .map(|it| format!("{} to {}", moment(it, "from"), moment(it, "until")))
        .unwrap_or_default()
}

/// How many forecasts of the past came true.
fn forecasts(problem: &Value) -> String {
    let of = |name: &str| of_nested(problem, "forecasts", name);
    let of_all = Some(of("of")).filter(|it| !it.is_empty() && it != "0");
    of_all.map(|it| format!("{} of the last {it} came true", of("right"))).unwrap_or_default()
}

fn recent(problem: &Value) -> String {
    let Some(recent) = problem.get("recent").filter(|it| it.is_object()) else {
        return String::new();
    };
    let of = |name: &str| field(recent, name);
    format!("{} in 7 days, {} in 30, {} in 90", of("days_7"), of("days_30"), of("days_90"))
}

/// A line for each entry of a list.
fn lines(problem: &Value, name: &str, line: fn(&Value) -> String) -> Vec<String> {
    let list = problem.get(name).and_then(Value::as_array);
    list.into_iter().flatten().map(line).collect()
}

fn place(it: &Value) -> String {
    format!("{} ({} incidents)", field(it, "place"), field(it, "incidents"))
}

fn shared(it: &Value) -> String {
    let lift = match field(it, "lift") {
        lift if lift.is_empty() => "nowhere else".to_owned(),
        lift => format!("{lift} times as often as elsewhere"),
    };
    format!("{} of {}: {}, {lift}", field(it, "inside"), field(it, "of"), field(it, "text"))
}

fn opening(it: &Value) -> String {
    let place = match field(it, "place") {
        place if place.is_empty() => place,
        place => format!(" at {place}"),
    };
    let of = |name: &str| field(it, name);
    format!("{}{place}: {} of the {} that begin so", of("alertname"), of("count"), of("of"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_is_left_out_unless_asked_for() {
        let asked = ["rejected".to_owned(), "resolved".to_owned()];
        assert_eq!(states(&[], false), "proposed,accepted,known_error,fix_planned");
        assert_eq!(states(&asked, false), "rejected,resolved");
        assert_eq!(states(&[], true), "");
    }

    #[test]
    fn a_problem_is_shown_with_its_reasons() {
        let problem = json!({
            "id": "PRB-1", "title": "QueueStuck on mailer", "state": "proposed",
            "incidents": ["INC-1", "INC-4"], "period_seconds": 10_800, "confidence": 912,
            "last_seen": "2026-01-01T00:00:00Z", "why": ["2 of 2 share alertname"],
        });
        let now: Timestamp = "2026-01-01T02:00:00Z".parse().unwrap();
        let table = problem_table(&json!({"items": [problem]}), now);
        for word in ["PRB-1", "proposed", "2h", "3h", "912", "QueueStuck on mailer"] {
            assert!(table.contains(word), "{word} in {table}");
        }
        let card = problem_card(&problem, now);
        for line in ["incidents      INC-1, INC-4", "\nwhy\n  2 of 2 share alertname\n"] {
            assert!(card.contains(line), "{line} in {card}");
        }
        problem_card(&Value::Null, now);
    }
}

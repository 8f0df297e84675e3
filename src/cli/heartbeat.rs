//! The commands on heartbeats: list, show, pause, resume.

use super::By;
use super::client::{Client, Listing};
use super::failure::Result;
use super::output::{self, Output, age, card, entries, field, plain, seconds, section};
use jiff::Timestamp;
use serde_json::{Value, json};

/// What to do with heartbeats.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List what must be heard from
    List {
        /// Only these: new, up, started, late, down, paused; several with commas
        #[arg(long, default_value = "")]
        state: String,
        /// The most to list
        #[arg(long, default_value_t = 100, value_parser = super::parse_limit)]
        limit: usize,
    },
    /// Show a heartbeat
    Show {
        /// Its name
        name: String,
    },
    /// Wait no more for heartbeats, until they are resumed or heard from
    Pause {
        /// Their names
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Who says so
        #[command(flatten)]
        by: By,
    },
    /// Wait for paused heartbeats again
    Resume {
        /// Their names
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Who says so
        #[command(flatten)]
        by: By,
    },
}

/// Does it.
pub async fn run(client: &Client, command: Command, output: Output) -> Result<()> {
    match command {
        Command::List { state, limit } => {
            let query = [("state", state)];
            let listing = Listing { path: &["heartbeats"], query: &query, limit };
            output::list(&client.list(&listing).await?, output, heartbeat_table)
        }
        Command::Show { name } => {
            let heartbeat = client.get(&["heartbeats", &name], &[]).await?;
            output::show(&heartbeat, output, heartbeat_card)
        }
        Command::Pause { names, by } => change(client, ("pause", &by), &names, output).await,
        Command::Resume { names, by } => change(client, ("resume", &by), &names, output).await,
    }
}

async fn change(
    client: &Client,
    (verb, by): (&str, &By),
    names: &[String],
    output: Output,
) -> Result<()> {
    let body = json!({"by": by.name()});
    let change = super::Change { kind: "heartbeats", verb, body };
    super::change_each(client, &change, names, output).await
}

/// A field with whole seconds, as people say them.
fn lasting(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_i64).map(seconds).unwrap_or_default()
}

/// `every 5m`, `0 2 * * * UTC`.
fn rhythm(heartbeat: &Value) -> String {
    match lasting(heartbeat, "every_seconds").as_str() {
        "" => format!("{} {}", field(heartbeat, "cron"), field(heartbeat, "time_zone")),
        every => format!("every {every}"),
    }
}

fn heartbeat_table(listing: &Value, now: Timestamp) -> String {
    let rows = output::items(listing).iter().map(|it| {
        vec![
            field(it, "name"),
            field(it, "state"),
            age(it, "last_ping_at", now),
            output::due(it, "expected_at", now),
            lasting(it, "grace_seconds"),
            lasting(it, "last_duration_seconds"),
            field(it, "reason"),
            rhythm(it),
        ]
    });
    let header = ["NAME", "STATE", "HEARD", "EXPECTED", "GRACE", "TOOK", "REASON", "RHYTHM"];
    output::table(&header, rows.collect())
}

fn heartbeat_card(heartbeat: &Value, now: Timestamp) -> String {
    let of = |name: &str| field(heartbeat, name);
    let from = heartbeat.get("from").filter(|it| !it.is_null());
    let from = from.map(|it| format!("{} {}", field(it, "source"), field(it, "matchers")));
    let mut out = card(&[
        ("name", of("name")),
        ("state", of("state")),
        ("reason", of("reason")),
        ("exit code", of("exit_code")),
        ("rhythm", rhythm(heartbeat)),
        ("grace", lasting(heartbeat, "grace_seconds")),
        ("from", from.unwrap_or_default().trim().to_owned()),
        ("heard", age(heartbeat, "last_ping_at", now)),
        ("took", lasting(heartbeat, "last_duration_seconds")),
        ("expected", output::moment(heartbeat, "expected_at")),
        ("down at", output::moment(heartbeat, "down_at")),
        ("pings", of("pings")),
        ("alert", of("alert")),
        ("rule", format!("{}:{}", of("rule_file"), of("rule_line"))),
    ]);
    let history: Vec<String> = entries(heartbeat, "history")
        .iter()
        .map(|it| {
            format!("{}  {}  {}", output::moment(it, "at"), field(it, "to"), field(it, "why"))
        })
        .collect();
    out.push_str(&section("history", &history));
    let text = heartbeat.get("last_output").and_then(Value::as_str).unwrap_or_default();
    let lines: Vec<String> = text.lines().map(plain).collect();
    out.push_str(&section("last output", &lines));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_what_is_late_and_why() {
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
        let heartbeat = json!({
            "name": "backup", "state": "down", "reason": "failed", "exit_code": 3,
            "every_seconds": 3600, "grace_seconds": 300, "from": null,
            "last_ping_at": "2026-01-01T00:00:00Z", "expected_at": "2026-01-01T01:05:00Z",
            "last_output": "no space\n\u{1b}[2J", "rule_file": "a.yaml", "rule_line": 3,
            "history": [{"at": "2026-01-01T00:00:00Z", "to": "down", "why": "exit code 3"}],
        });
        let table = heartbeat_table(&json!({"items": [heartbeat]}), now);
        for part in ["backup", "down", "failed", "every 1h", "5m left"] {
            assert!(table.contains(part), "{part} is not in {table}");
        }
        let card = heartbeat_card(&heartbeat, now);
        assert!(card.contains("no space") && !card.contains('\u{1b}'), "{card}");
        assert!(card.contains("exit code 3"), "{card}");
    }
}

//! The commands on runbooks and their executions.

mod card;

use super::By;
use super::client::{Client, Listing};
use super::failure::Result;
use super::output::{self, Output, age, entries, field, text};
use crate::domain::execution::ExecutionId;
use card::execution_card;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What to do with runbooks.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List runbooks
    List,
    /// Show one runbook with its steps and guards, or one execution (`EXE-9`)
    Show {
        /// Its name
        name: String,
    },
    /// Run a runbook
    Run(RunArguments),
    /// Show what a run would do, and do nothing
    DryRun(RunArguments),
    /// Say yes to executions
    Approve {
        /// For example EXE-9
        #[arg(required = true, value_name = "EXECUTION", value_parser = super::parse_execution)]
        ids: Vec<String>,
        /// Who says so
        #[command(flatten)]
        by: By,
    },
    /// Say no to executions
    Deny(EndArguments),
    /// Stop executions; what has begun is not undone
    Abort(EndArguments),
    /// Show what the steps of an execution did
    Logs {
        /// For example EXE-9
        #[arg(value_parser = super::parse_execution)]
        id: String,
        /// Go on until it has ended
        #[arg(long, short)]
        follow: bool,
    },
    /// Show how a runbook's runs ended, and how far it should go by itself
    Promote {
        /// Its name
        name: String,
    },
    /// List executions
    Executions(ExecutionsArguments),
    /// Let one runbook start no more, nor go on
    Stop {
        /// Its name
        name: String,
        /// Why
        #[arg(long)]
        reason: String,
        /// Who says so
        #[command(flatten)]
        by: By,
    },
    /// Let one runbook start again
    Resume {
        /// Its name
        name: String,
        /// Who says so
        #[command(flatten)]
        by: By,
    },
    /// Let no runbook start any more, and none go on
    StopAll {
        /// Why
        #[arg(long)]
        reason: String,
        /// Who says so
        #[command(flatten)]
        by: By,
    },
    /// Let runbooks start again
    ResumeAll {
        /// Who says so
        #[command(flatten)]
        by: By,
    },
}

/// A run to ask for.
#[derive(Debug, clap::Args)]
pub struct RunArguments {
    /// The runbook's name
    name: String,
    /// A value that replaces the declared one; may be given several times
    #[arg(short, long = "parameter", value_name = "NAME=VALUE", value_parser = super::parse_pair)]
    parameters: Vec<(String, String)>,
    /// The incident that it is for
    #[arg(long, value_name = "ID", value_parser = super::parse_incident)]
    incident: Option<String>,
    /// It is an emergency: a freeze that allows emergency changes lets it go
    #[arg(long)]
    emergency: bool,
    #[command(flatten)]
    by: By,
}

/// Executions to end.
#[derive(Debug, clap::Args)]
pub struct EndArguments {
    /// For example EXE-9
    #[arg(required = true, value_name = "EXECUTION", value_parser = super::parse_execution)]
    ids: Vec<String>,
    /// Why
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    by: By,
}

/// What narrows the listing of executions.
#[derive(Debug, clap::Args)]
pub struct ExecutionsArguments {
    /// Only in these states, for example `waiting_approval`
    #[arg(long, value_delimiter = ',', value_name = "STATE")]
    state: Vec<String>,
    /// Only of this runbook
    #[arg(long, default_value = "", value_name = "NAME")]
    runbook: String,
    /// Only for this incident
    #[arg(long, default_value = "", value_name = "ID")]
    incident: String,
    /// The most to list
    #[arg(long, default_value_t = 100, value_parser = super::parse_limit)]
    limit: usize,
}

/// Does it.
pub async fn run(client: &Client, command: Command, output: Output) -> Result<()> {
    match command {
        Command::List => {
            let listing = client.get(&["runbooks"], &[]).await?;
            if let Some(stop) = listing.get("stopped").filter(|it| !it.is_null()) {
                output::say(&stopped(stop));
            }
            output::list(&listing, output, runbook_table)
        }
        Command::Show { name } if name.parse::<ExecutionId>().is_ok() => {
            logs(client, &name, false, output).await
        }
        Command::Show { name } => {
            let runbook = client.get(&["runbooks", &name], &[]).await?;
            output::show(&runbook, output, |it, _| tree(it, 0))
        }
        Command::Run(arguments) => {
            let started = start(client, &arguments, false).await?;
            output::show(&started, output, super::changed_line)
        }
        Command::DryRun(arguments) => {
            output::show(&start(client, &arguments, true).await?, output, execution_card)
        }
        Command::Approve { ids, by } => {
            change(client, "approve", json!({"by": by.name()}), &ids, output).await
        }
        Command::Deny(it) => change(client, "deny", it.body(), &it.ids, output).await,
        Command::Abort(it) => change(client, "abort", it.body(), &it.ids, output).await,
        Command::Logs { id, follow } => logs(client, &id, follow, output).await,
        Command::Promote { name } => {
            let record = client.get(&["runbooks", &name, "record"], &[]).await?;
            output::show(&record, output, card::record)
        }
        Command::Executions(arguments) => executions(client, &arguments, output).await,
        Command::Stop { name, reason, by } => {
            let body = json!({"by": by.name(), "reason": reason});
            client.post(&["runbooks", &name, "stop"], body).await?;
            output::say(&format!("stopped; `watchkeeper runbook resume {name}` ends that"));
            Ok(())
        }
        Command::Resume { name, by } => {
            client.post(&["runbooks", &name, "resume"], json!({"by": by.name()})).await?;
            output::say("it may start again");
            Ok(())
        }
        Command::StopAll { reason, by } => {
            let body = json!({"by": by.name(), "reason": reason});
            client.post(&["runbooks", "stop-all"], body).await?;
            output::say("all runbooks are stopped; `watchkeeper runbook resume-all` ends that");
            Ok(())
        }
        Command::ResumeAll { by } => {
            client.post(&["runbooks", "resume-all"], json!({"by": by.name()})).await?;
            output::say("runbooks may start again");
            Ok(())
        }
    }
}

impl EndArguments {
    fn body(&self) -> Value {
        json!({"by": self.by.name(), "reason": self.reason})
    }
}

async fn change(
    client: &Client,
    verb: &str,
    body: Value,
    ids: &[String],
    output: Output,
) -> Result<()> {
    let change = super::Change { kind: "executions", verb, body };
    super::change_each(client, &change, ids, output).await
}

async fn start(client: &Client, arguments: &RunArguments, dry_run: bool) -> Result<Value> {
    let parameters: BTreeMap<&str, &str> =
        arguments.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let body = json!({
        "by": arguments.by.name(),
        "parameters": parameters,
        "incident": arguments.incident,
        "dry_run": dry_run,
        "emergency": arguments.emergency,
    });
    client.post(&["runbooks", &arguments.name, "run"], body).await
}

async fn executions(
    client: &Client,
    arguments: &ExecutionsArguments,
    output: Output,
) -> Result<()> {
    let query = [
        ("state", arguments.state.join(",")),
        ("runbook", arguments.runbook.clone()),
        ("incident", arguments.incident.clone()),
    ];
    let listing = Listing { path: &["executions"], query: &query, limit: arguments.limit };
    output::list(&client.list(&listing).await?, output, execution_table)
}

/// Prints an execution's steps; with `follow` each change of them, and what they print, until it has
/// ended.
async fn logs(client: &Client, id: &str, follow: bool, output: Output) -> Result<()> {
    if !follow {
        let execution = client.get(&["executions", id], &[]).await?;
        return output::show(&execution, output, execution_card);
    }
    let execution = super::follow::follow(client, id, output == Output::Table).await?;
    match output {
        Output::Table => output::print(&format!("{id}  {}", field(&execution, "state"))),
        _ => output::show(&execution, output, execution_card),
    }
}

/// Whether an execution in this state can still change by itself or by a person's word.
pub(super) fn goes_on(state: &str) -> bool {
    matches!(state, "proposed" | "waiting_approval" | "running" | "verifying")
}

/// Where the steps are: what is printed once while following.
pub(super) fn progress(execution: &Value) -> Vec<String> {
    let mut lines = vec![format!("{}  {}", field(execution, "id"), field(execution, "state"))];
    for step in entries(execution, "steps").iter().filter(|it| field(it, "state") != "pending") {
        lines.push(format!("  {}", step_lines(step).replace('\n', "\n  ")));
    }
    if !goes_on(&field(execution, "state")) {
        lines.remove(0);
    }
    lines
}

/// A command as it would be typed, but for quotes.
fn argv(step: &Value) -> String {
    entries(step, "argv").iter().map(text).collect::<Vec<_>>().join(" ")
}

/// One step for people: what it did, what came of it, and what it printed.
fn step_lines(step: &Value) -> String {
    let name = [field(step, "id"), field(step, "item")].join(" ");
    let done = [
        argv(step),
        field(step, "method"),
        field(step, "url"),
        field(step, "promql"),
        field(step, "note"),
        field(step, "execution"),
    ];
    let done: Vec<&str> = done.iter().map(String::as_str).filter(|it| !it.is_empty()).collect();
    let done = done.join(" ");
    let code = match field(step, "exit_code") {
        it if it.is_empty() => it,
        it => format!("  (code {it})"),
    };
    let mut lines =
        vec![format!("{}  {}  {}{code}", name.trim_end(), field(step, "state"), done.trim())];
    for extra in ["detail", "output_tail"] {
        lines.extend(field(step, extra).lines().map(|it| format!("| {it}")));
    }
    lines.join("\n  ")
}

/// That no runbook starts, who said so and why.
fn stopped(stop: &Value) -> String {
    let (at, by, reason) = (output::moment(stop, "at"), field(stop, "by"), field(stop, "reason"));
    let reason = if reason.is_empty() { reason } else { format!(": {reason}") };
    format!(
        "all runbooks are stopped, since {at} by {by}{reason}\n\
         `watchkeeper runbook resume-all` ends that"
    )
}

fn runbook_table(listing: &Value, _: Timestamp) -> String {
    let rows = output::items(listing).iter().map(|it| {
        vec![
            field(it, "name"),
            if it["stopped"].is_null() { field(it, "mode") } else { "stopped".to_owned() },
            entries(it, "steps").len().to_string(),
            field(it, "description"),
        ]
    });
    output::table(&["NAME", "MODE", "STEPS", "DESCRIPTION"], rows.collect())
}

fn execution_table(listing: &Value, now: Timestamp) -> String {
    let rows = output::items(listing).iter().map(|it| {
        vec![
            field(it, "id"),
            field(it, "state"),
            field(it, "runbook"),
            field(it, "incident"),
            age(it, "created_at", now),
            field(it, "mode"),
            field(it, "why"),
        ]
    });
    let header = ["ID", "STATE", "RUNBOOK", "INCIDENT", "AGE", "MODE", "WHY"];
    output::table(&header, rows.collect())
}

/// Any object for people, a line for each value, lists and objects indented.
fn tree(value: &Value, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    let Value::Object(fields) = value else {
        return format!("{indent}{}\n", text(value));
    };
    let parts = fields.iter().map(|(name, value)| {
        let name = output::plain(name);
        match value {
            Value::Null => String::new(),
            Value::Object(_) => format!("{indent}{name}\n{}", tree(value, depth + 1)),
            Value::Array(values) if values.iter().any(Value::is_object) => {
                let parts: Vec<String> = values.iter().map(|it| tree(it, depth + 1)).collect();
                format!("{indent}{name}\n{}", parts.join("\n"))
            }
            _ => format!("{indent}{name}: {}\n", text(value)),
        }
    });
    parts.collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn execution(state: &str) -> Value {
        json!({
            "id": "EXE-9", "runbook": "restart", "state": state, "mode": "auto",
            "incident": "INC-1", "created_at": "2026-01-01T00:00:00Z",
            "steps": [
                {"id": "a", "state": "succeeded", "argv": ["systemctl", "restart", "web"],
                 "exit_code": 0, "output_tail": "one\ntwo\u{1b}[2J"},
                {"id": "b", "state": "pending", "url": "http://a.example/"},
            ],
        })
    }

    #[test]
    fn an_execution_is_shown_with_what_it_printed() {
        let now: Timestamp = "2026-01-01T00:02:00Z".parse().unwrap();
        let card = execution_card(&execution("running"), now);
        let steps = "\nsteps\n  a  succeeded  systemctl restart web  (code 0)\n    | one\n";
        assert!(card.contains(steps), "{card}");
        assert!(card.contains("  b  pending  http://a.example/"), "{card}");
        assert!(!card.contains('\u{1b}'), "{card}");
        let table = execution_table(&json!({"items": [execution("running")]}), now);
        assert!(table.contains("EXE-9  running  restart  INC-1     2m   auto"), "{table}");
        execution_card(&Value::Null, now);
    }

    #[tokio::test]
    async fn following_ends_with_the_execution() {
        let events = ["running", "succeeded", "failed"]
            .map(|it| format!("event: execution\ndata: {}\n\n", execution(it)));
        let output = r#"{"effect": "EXE-9/a/1", "text": "one\ntwo", "left_out": 3}"#;
        let body = format!("event: output\ndata: {output}\n\n{}", events.concat());
        let router = axum::Router::new()
            .route("/api/v1/executions/EXE-9/stream", axum::routing::get(|| async move { body }));
        let client = super::super::client::tests::serve(router).await;
        let execution = super::super::follow::follow(&client, "EXE-9", true).await.unwrap();
        assert_eq!(field(&execution, "state"), "succeeded", "what comes later is not waited for");
    }

    #[test]
    fn following_prints_what_has_begun() {
        let lines = progress(&execution("running"));
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert_eq!(lines[0], "EXE-9  running");
        assert_eq!(progress(&execution("failed")).len(), 1);
    }

    #[test]
    fn a_stop_is_told_with_its_end() {
        let stop = json!({"at": "2026-01-01T00:00:00.5Z", "by": "ann", "reason": "too many"});
        let told = stopped(&stop);
        assert!(told.starts_with("all runbooks are stopped, since 2026-01-01T00:00:00Z by ann"));
        assert!(told.contains(": too many\n`watchkeeper runbook resume-all`"), "{told}");
    }

    #[test]
    fn a_runbook_is_shown_whatever_its_fields() {
        let runbook = json!({"name": "r", "guards": {"max": 3}, "steps": [{"id": "a"}], "x": null});
        let text = tree(&runbook, 0);
        assert_eq!(text, "guards\n  max: 3\nname: r\nsteps\n  id: a\n");
    }
}

//! The command line: one file for each command.

pub mod alert;
pub mod article;
pub mod audit;
pub mod change;
pub mod check;
pub mod client;
pub mod completions;
pub mod demo;
pub mod doctor;
mod executor;
pub mod explain;
pub mod failure;
mod follow;
pub mod forecast;
pub mod freeze;
pub mod heartbeat;
mod ids;
pub mod import;
pub mod incident;
mod launch;
pub mod maintenance;
pub mod output;
pub mod problem;
pub mod replay;
pub mod report;
pub mod runbook;
pub mod serve;
pub mod service;
pub mod silence;
pub mod source;
pub mod store;
pub mod test;
mod virtual_watch;

use clap::{CommandFactory, Parser};
use client::Client;
use failure::{Failure, Result};
pub use ids::{parse_any_id, parse_change, parse_execution, parse_incident, parse_problem};
use output::{Output, OutputArgument, field, say};
use serde_json::Value;
use std::path::PathBuf;
use std::process::ExitCode;

/// Keeps the watch over production: alerts in, incidents, known fixes, problems and service
/// levels out.
#[derive(Debug, Parser)]
#[command(name = "watchkeeper", bin_name = "watchkeeper", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Arguments {
    /// The server to talk to; its token is taken from `WATCHKEEPER_TOKEN`
    #[arg(long, global = true, env = "WATCHKEEPER_URL", value_name = "URL")]
    #[arg(default_value = "http://127.0.0.1:9377")]
    server: String,
    #[command(subcommand)]
    command: Option<Command>,
}

const EXIT_CODES: &str = "Exit codes: 0 good, 1 findings or refused, 2 wrong usage or \
    configuration, 3 server not reached, 4 not allowed.";

/// Everything that the program can do.
#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run the daemon
    Serve(ServeArguments),
    /// Watch a seeded day of a shop in a daemon of its own
    Demo(demo::Arguments),
    /// Start the programs of steps for a daemon that has no right to do so itself
    Executor(executor::Arguments),
    /// Start a step's program in bounds; for the daemon only
    #[command(hide = true)]
    Launch(launch::Arguments),
    /// Validate configuration and rules
    Check {
        /// Files and folders; `watchkeeper.yaml` and `rules` if not told
        paths: Vec<PathBuf>,
        /// The form of the output: table, json or yaml
        #[arg(short, long, value_enum, default_value_t, hide_possible_values = true)]
        output: check::Output,
    },
    /// Run the tests written in rule files
    Test {
        /// Files and folders; `rules` if not told
        paths: Vec<PathBuf>,
    },
    /// Run a history of alerts through the rules, and write what became of it
    Replay(replay::Arguments),
    /// Look after the store of a stopped daemon
    Store(store::Arguments),
    /// Take over the configuration of an Alertmanager as rules
    Import(import::ImportArguments),
    #[command(flatten)]
    Remote(Remote),
    /// Print a completion script
    Completions {
        /// The shell to print it for
        shell: clap_complete::Shell,
    },
}

/// What is asked of a running server, over its REST API.
#[derive(Debug, clap::Subcommand)]
enum Remote {
    /// List, show and send alerts
    #[command(alias = "alerts")]
    Alert(Noun<alert::Command>),
    /// List, add and expire silences
    #[command(alias = "silences")]
    Silence(Noun<silence::Command>),
    /// List maintenance windows
    Maintenance(Noun<maintenance::Command>),
    /// List what will be full, and why nothing is foretold of the rest
    #[command(alias = "forecasts")]
    Forecast(Noun<forecast::Command>),
    /// List freezes, make and end them
    #[command(alias = "freezes")]
    Freeze(Noun<freeze::Command>),
    /// List what must be heard from, pause it
    #[command(alias = "heartbeats")]
    Heartbeat(Noun<heartbeat::Command>),
    /// List incidents and work on them
    #[command(alias = "incidents")]
    Incident(Noun<incident::Command>),
    /// List sources, try what a body becomes, suggest a mapping, see what was not understood
    #[command(alias = "sources")]
    Source(Noun<source::Command>),
    /// List services and hosts, show them, draw what depends on what
    #[command(alias = "services")]
    Service(Noun<service::Command>),
    /// List, show, search and add articles
    #[command(alias = "articles")]
    Article(Noun<article::Command>),
    /// List problems and decide on them
    #[command(alias = "problems")]
    Problem(Noun<problem::Command>),
    /// List changes, show and tell of them
    #[command(alias = "changes")]
    Change(Noun<change::Command>),
    /// List runbooks, run them, decide on their executions
    #[command(alias = "runbooks")]
    Runbook(Noun<runbook::Command>),
    /// List who changed what, export it, verify that nothing of it was changed
    Audit(Noun<audit::Command>),
    /// Report what made noise
    Report(report::Arguments),
    /// Look whether the daemon is well; exit code 1 where something is wrong
    Doctor {
        #[command(flatten)]
        output: OutputArgument,
    },
    /// Say why: of an alert, incident, problem, execution, change or notification
    Explain {
        /// A fingerprint, INC-42, PRB-7, EXE-9, CHG-3 or NTF-12
        #[arg(value_parser = parse_any_id)]
        id: String,
        #[command(flatten)]
        output: OutputArgument,
    },
}

/// The commands on one kind of object.
#[derive(Debug, clap::Args)]
struct Noun<C: clap::Subcommand> {
    #[command(subcommand)]
    command: C,
    #[command(flatten)]
    output: OutputArgument,
}

/// What the daemon is told.
#[derive(Debug, clap::Args)]
struct ServeArguments {
    /// Settings; built-in defaults if not told
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data folder; `./data` if not told
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The rules folder; `./rules` if not told
    #[arg(long, value_name = "DIR")]
    rules: Option<PathBuf>,
    /// Where to listen; port 0 = any free one
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Write the log as JSON
    #[arg(long)]
    log_json: bool,
}

/// Who gives a command.
#[derive(Debug, clap::Args)]
pub struct By {
    /// Who says so; not needed with a token, which has a name
    #[arg(long, env = "USER", default_value = "cli", hide_env_values = true)]
    by: String,
}

impl By {
    /// The name; never empty.
    pub fn name(&self) -> &str {
        if self.by.is_empty() { "cli" } else { &self.by }
    }
}

/// Reads the command line, does what it says, and tells how it went.
pub fn main() -> ExitCode {
    client::choose_cryptography();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help goes to standard output; a reader that left is no error.
            error.print().unwrap_or(());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let Some(command) = arguments.command else {
        let help = Arguments::command().render_help();
        return finish(output::print(&help.to_string()));
    };
    match command {
        Command::Serve(it) => finish_daemon(serve::run(&it.into())),
        Command::Launch(it) => launch::run(it),
        Command::Executor(it) => finish_daemon(executor::run(it)),
        Command::Demo(it) => finish_daemon(demo::run(&it)),
        Command::Check { paths, output } => check::run(&paths, output),
        Command::Test { paths } => finish_daemon(test::run(&paths)),
        Command::Replay(it) => finish_daemon(replay::run(&it)),
        Command::Store(it) => finish(store::run(it)),
        Command::Import(it) => finish(import::run(&it)),
        Command::Remote(it) => finish(talk(&arguments.server, it)),
        Command::Completions { shell } => {
            finish(completions::run(shell, &mut Arguments::command()))
        }
    }
}

/// Carries out a command by asking the server.
fn talk(server: &str, command: Remote) -> Result<()> {
    let client = Client::new(server, std::env::var("WATCHKEEPER_TOKEN").ok())?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        match command {
            Remote::Alert(it) => alert::run(&client, it.command, it.output.output).await,
            Remote::Silence(it) => silence::run(&client, it.command, it.output.output).await,
            Remote::Maintenance(it) => {
                maintenance::run(&client, it.command, it.output.output).await
            }
            Remote::Forecast(it) => forecast::run(&client, it.command, it.output.output).await,
            Remote::Freeze(it) => freeze::run(&client, it.command, it.output.output).await,
            Remote::Heartbeat(it) => heartbeat::run(&client, it.command, it.output.output).await,
            Remote::Incident(it) => incident::run(&client, it.command, it.output.output).await,
            Remote::Source(it) => source::run(&client, it.command, it.output.output).await,
            Remote::Article(it) => article::run(&client, it.command, it.output.output).await,
            Remote::Problem(it) => problem::run(&client, it.command, it.output.output).await,
            Remote::Change(it) => change::run(&client, it.command, it.output.output).await,
            Remote::Runbook(it) => runbook::run(&client, it.command, it.output.output).await,
            Remote::Audit(it) => audit::run(&client, it.command, it.output.output).await,
            Remote::Report(it) => report::run(&client, &it).await,
            Remote::Service(it) => service::run(&client, it.command, it.output.output).await,
            Remote::Doctor { output } => doctor::run(&client, output.output).await,
            Remote::Explain { id, output } => explain::run(&client, &id, output.output).await,
        }
    })
}

impl From<ServeArguments> for serve::Options {
    fn from(it: ServeArguments) -> Self {
        Self {
            config: it.config,
            data: it.data,
            rules: it.rules,
            listen: it.listen,
            log_json: it.log_json,
        }
    }
}

/// A change to one or more objects of a kind.
pub struct Change<'a> {
    /// The kind's path, for example `incidents`.
    pub kind: &'a str,
    /// What is done, for example `ack`.
    pub verb: &'a str,
    /// What is sent.
    pub body: Value,
}

/// Makes the same change to each object, and prints each. One that is refused does not keep the
/// others from being changed; the first failure is the result.
pub async fn change_each(
    client: &Client,
    change: &Change<'_>,
    ids: &[String],
    output: Output,
) -> Result<()> {
    let mut result = Ok(());
    for id in ids {
        let changed = client.post(&[change.kind, id, change.verb], change.body.clone()).await;
        match changed.and_then(|it| output::show(&it, output, changed_line)) {
            Ok(()) => {}
            Err(failure) if result.is_ok() => result = Err(failure),
            Err(failure) => say(&failure.report()),
        }
    }
    result
}

/// What a changed object is now, in a line.
fn changed_line(object: &Value, _: jiff::Timestamp) -> String {
    let name = [field(object, "title"), field(object, "runbook")].concat();
    format!("{}  {}  {name}", field(object, "id"), field(object, "state")).trim().to_owned()
}

/// Reads `NAME=VALUE`.
pub fn parse_pair(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.to_owned()))
        }
        _ => Err(format!("expected `NAME=VALUE`, not `{text}`")),
    }
}

/// Reads a limit: at least one.
pub fn parse_limit(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a number from 1".to_owned()),
        Ok(limit) => Ok(limit),
    }
}

/// Reports a failure and gives its exit code.
fn finish(result: Result<()>) -> ExitCode {
    let Err(failure) = result else { return ExitCode::SUCCESS };
    let code = failure.exit_code();
    if code != 0 {
        say(&failure.report());
    }
    ExitCode::from(code)
}

/// Reports why a daemon ended.
fn finish_daemon(result: anyhow::Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) => match error.downcast::<Failure>() {
            Ok(failure) => finish(Err(failure)),
            Err(error) => {
                say(&format!("error: {}", output::plain(&format!("{error:#}"))));
                ExitCode::FAILURE
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> std::result::Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_command_tree_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_is_understood() {
        for line in [
            "watchkeeper",
            "watchkeeper serve --config a --data b --rules c --listen 127.0.0.1:0 --log-json",
            "watchkeeper demo --speed 720 --seed 7 --headless --listen 127.0.0.1:0",
            "watchkeeper check rules watchkeeper.yaml -o json",
            "watchkeeper test rules",
            "watchkeeper replay events.jsonl --rules r --catalog c --changes d --out o -o json",
            "watchkeeper replay events.jsonl --no-rules",
            "watchkeeper store stats --data d -o json",
            "watchkeeper store --data d verify",
            "watchkeeper store compact",
            "watchkeeper store backup file",
            "watchkeeper store restore file --engine redb",
            "watchkeeper store migrate --to sled",
            "watchkeeper alert list --state firing,resolved --incident INC-1 a=b c=~d -o json",
            "watchkeeper alert send Down instance=a --annotation summary=x --resolve",
            "watchkeeper alert send a=b --starts-at 2026-01-01T00:00:00Z",
            "watchkeeper silence list --expired -o yaml",
            "watchkeeper silence add a=b --duration 1h --comment c --author d",
            "watchkeeper silence add a=b --duration 1h --comment c --dry-run",
            "watchkeeper silence preview a=b c!=d --days 7 -o json",
            "watchkeeper silence expire 1 2",
            "watchkeeper maintenance list",
            "watchkeeper forecasts list -o json",
            "watchkeeper freeze add shop cart --duration 2d --allow emergency --reason sale",
            "watchkeeper freeze add --until 2027-01-02T00:00:00Z --reason christmas",
            "watchkeeper incident list --state open,acknowledged --priority P1 --service s --limit 5",
            "watchkeeper incidents list --all --server http://127.0.0.1:1 -o json",
            "watchkeeper --server http://127.0.0.1:1 incident -o json show INC-1",
            "watchkeeper heartbeat list --state down,late -o json",
            "watchkeeper heartbeat show backup",
            "watchkeeper heartbeats pause backup mirror --by me",
            "watchkeeper incident ack INC-1 INC-2 --by me",
            "watchkeeper incident assign INC-1 ann",
            "watchkeeper incident note INC-1 text",
            "watchkeeper incident merge INC-1 INC-2 INC-3",
            "watchkeeper incident split INC-1 00ff",
            "watchkeeper incident link INC-2 INC-3 --parent INC-1",
            "watchkeeper incident resolve INC-1 --reason x",
            "watchkeeper incident reopen INC-1",
            "watchkeeper service list --kind component --firing -o json",
            "watchkeeper service show cart",
            "watchkeeper service graph cart --depth 2",
            "watchkeeper doctor -o json",
            "watchkeeper audit verify --data d",
            "watchkeeper problem detect -o json",
            "watchkeeper problem link PRB-1 INC-1 INC-2",
            "watchkeeper problem reject PRB-1 --reason x",
            "watchkeeper runbook run restart -p unit=web --incident INC-1",
            "watchkeeper runbook dry-run restart -p unit=web",
            "watchkeeper runbook approve EXE-1",
            "watchkeeper runbook logs EXE-1 --follow",
            "watchkeeper runbook stop-all --reason x",
            "watchkeeper report noise --since 7d --until 2026-11-23T00:00:00Z -o markdown",
            "watchkeeper report -o csv noise",
            "watchkeeper source list --rules rules",
            "watchkeeper source try body.json --source datadog -o json",
            "watchkeeper source try - --guess",
            "watchkeeper source try --quarantined 3f0e",
            "watchkeeper source quarantine list",
            "watchkeeper source quarantine show 3f0e",
            "watchkeeper source suggest body.json --name shop",
            "watchkeeper import alertmanager.yml --out rules --force",
            "watchkeeper import - --dry-run",
            "watchkeeper explain INC-1 -o json",
            "watchkeeper incident show 1",
            "watchkeeper completions bash",
        ] {
            parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn wrong_usage_is_code_2_and_help_is_0() {
        for (line, code) in [
            ("watchkeeper nothing", 2),
            ("watchkeeper incident", 2),
            ("watchkeeper incident ack", 2),
            ("watchkeeper incident list --limit 0", 2),
            ("watchkeeper incident list -o xml", 2),
            ("watchkeeper alert list notamatcher", 2),
            ("watchkeeper silence add a=b --duration 1h", 2),
            ("watchkeeper silence add a=b --duration 1y --comment c", 2),
            ("watchkeeper runbook stop-all", 2),
            ("watchkeeper freeze add shop --reason sale", 2),
            ("watchkeeper store migrate --to postgres", 2),
            ("watchkeeper store backup", 2),
            ("watchkeeper source try a --source b --guess", 2),
            ("watchkeeper --token secret incident list", 2),
            ("watchkeeper --help", 0),
            ("watchkeeper incident --help", 0),
            ("watchkeeper --version", 0),
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), code, "{line}");
        }
    }

    #[test]
    fn pairs_need_a_name() {
        assert_eq!(parse_pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(parse_pair("=b").is_err() && parse_pair("ab").is_err());
    }

    #[tokio::test]
    async fn one_refusal_does_not_keep_the_others_from_being_changed() {
        use axum::extract::Path;
        use axum::http::StatusCode;
        use std::sync::{Arc, Mutex};
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let router = axum::Router::new().route(
            "/api/v1/incidents/{id}/ack",
            axum::routing::post(move |Path(id): Path<String>| async move {
                log.lock().unwrap().push(id.clone());
                match id.as_str() {
                    "INC-1" => (StatusCode::CONFLICT, r#"{"error": {"message": "closed"}}"#),
                    _ => (StatusCode::OK, "{}"),
                }
            }),
        );
        let client = client::tests::serve(router).await;
        let change =
            Change { kind: "incidents", verb: "ack", body: serde_json::json!({"by": "x"}) };
        let ids = ["INC-1".to_owned(), "INC-2".to_owned()];
        let failure = change_each(&client, &change, &ids, Output::Json).await.unwrap_err();
        assert_eq!((failure.exit_code(), failure.to_string()), (1, "closed".to_owned()));
        assert_eq!(*seen.lock().unwrap(), ids);
    }
}

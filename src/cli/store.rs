//! The commands on the store of a stopped daemon: stats, verify, compact, backup, restore, migrate.

use super::failure::{Failure, Result};
use super::output::{self, Output, card, counted, field, section, text};
use crate::store::{Engine, Options, care, open};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// What to do with the store.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Tell what is in it and how much space it takes
    Stats,
    /// Read every value and name what is damaged
    Verify,
    /// Write it anew, so that it takes no more space than it needs
    Compact,
    /// Write everything that is in it into a file
    Backup {
        /// The file; one that is there is replaced
        file: PathBuf,
    },
    /// Make it from a backup or a snapshot; there must be none
    Restore {
        /// The file
        file: PathBuf,
        /// The engine to make it with; that of the file if not told
        #[arg(long, value_name = "ENGINE", value_parser = parse_engine)]
        engine: Option<Engine>,
    },
    /// Move it over to another engine
    Migrate {
        /// sled or redb
        #[arg(long, value_name = "ENGINE", value_parser = parse_engine)]
        to: Engine,
    },
}

/// Which store, and how to print.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// The data folder of the daemon, which must be stopped
    #[arg(long, global = true, default_value = "data", value_name = "DIR")]
    data: PathBuf,
    #[command(flatten)]
    output: output::OutputArgument,
}

/// Does it.
pub fn run(arguments: Arguments) -> Result<()> {
    let output = arguments.output.output;
    let folder = arguments.data.join("store");
    match arguments.command {
        Command::Stats => {
            let stats = open(care::known_engine(&folder)?, &folder, Options::default())?.stats()?;
            output::show(&as_json(&stats)?, output, stats_card)
        }
        Command::Verify => verify(&folder, output),
        Command::Compact => output::show(&as_json(&care::compact(&folder)?)?, output, rewritten),
        Command::Migrate { to } => {
            output::show(&as_json(&care::migrate(&folder, to)?)?, output, rewritten)?;
            output::say(&format!("where `store.engine` is set, write `{}` there now", to.name()));
            Ok(())
        }
        Command::Backup { file } => {
            let entries = care::backup(&folder, &file, Timestamp::now())?;
            let done = json!({"file": file.display().to_string(), "entries": entries});
            output::show(&done, output, |it, _| {
                format!("{} entries are in `{}`", field(it, "entries"), field(it, "file"))
            })
        }
        Command::Restore { file, engine } => {
            let (header, entries) = care::restore(&file, &folder, engine)?;
            let mut done = as_json(&header)?;
            if let Some(fields) = done.as_object_mut() {
                fields.insert("entries".to_owned(), json!(entries));
                fields.insert("store".to_owned(), json!(folder.display().to_string()));
            }
            output::show(&done, output, |it, _| {
                let of = |name: &str| field(it, name);
                format!("{} entries of {} are in `{}`", of("entries"), of("made_at"), of("store"))
            })
        }
    }
}

fn parse_engine(name: &str) -> std::result::Result<Engine, String> {
    name.parse().map_err(|error: crate::store::Error| error.to_string())
}

/// Names what is damaged; that is a failure.
fn verify(folder: &Path, output: Output) -> Result<()> {
    let engine = care::known_engine(folder)?;
    let findings = match open(engine, folder, Options::default()) {
        Ok(store) => store.verify(),
        Err(crate::store::Error::Damaged(why)) => vec![why],
        Err(error) => return Err(error.into()),
    };
    let count = findings.len();
    let told = json!({"good": findings.is_empty(), "findings": findings});
    output::show(&told, output, |it, _| match output::entries(it, "findings") {
        [] => "every value is as it was written".to_owned(),
        findings => findings.iter().map(text).collect::<Vec<_>>().join("\n"),
    })?;
    if count == 0 { Ok(()) } else { Err(Failure::Findings(counted(count, "damage"))) }
}

fn as_json(value: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| Failure::BadReply(error.to_string()))
}

fn stats_card(stats: &Value, _: Timestamp) -> String {
    let of = |name: &str| field(stats, name);
    let kinds = |name: &str| -> Vec<String> {
        let kinds = stats.get(name).and_then(Value::as_object).into_iter().flatten();
        kinds.map(|(kind, count)| format!("{kind}: {}", text(count))).collect()
    };
    let head = card(&[
        ("engine", of("engine")),
        ("size of the files", format!("{} bytes", of("disk_bytes"))),
        ("of that in use", format!("{} bytes", of("live_bytes"))),
        ("space left", format!("{} bytes", of("free_bytes"))),
        ("records", of("records")),
        ("last record", of("last_seq")),
        ("applied up to", of("watermark")),
        ("last turn", output::moment(stats, "last_turn_at")),
        ("effects to do", of("effects")),
    ]);
    head + &section("open", &kinds("open")) + &section("closed", &kinds("closed"))
}

fn rewritten(done: &Value, _: Timestamp) -> String {
    let of = |name: &str| field(done, name);
    format!(
        "{} entries, from {} with {} bytes to {} with {} bytes",
        of("entries"),
        of("from"),
        of("disk_bytes_before"),
        of("to"),
        of("disk_bytes")
    )
}

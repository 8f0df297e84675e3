//! The commands on sources: list them, try what a body becomes, suggest a mapping, see what was not
//! understood.

use super::client::Client;
use super::failure::{Failure, Result};
use super::output::{self, Output};
use crate::config::{self, Level};
use crate::domain::event::{Ends, ReceivedAlert};
use crate::domain::incident::Severity;
use crate::domain::rules::Mode;
use crate::domain::source::{Mapping, Source};
use crate::ingest::{self, Kind, Mapped, Quarantined};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The largest file that is tried, in bytes; no door takes a larger body.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// What to do with sources.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List the sources: those of the rules, and those that come with us
    List(RulesArgument),
    /// Show what a body becomes
    Try(TryArguments),
    /// Print a mapping for the bodies of a tool, to paste into a file of rules
    Suggest {
        /// A file with a body; `-` = standard input
        file: PathBuf,
        /// What the source shall be called
        #[arg(long, default_value = "my-tool")]
        name: String,
    },
    /// See the bodies that a daemon did not understand
    #[command(subcommand)]
    Quarantine(QuarantineCommand),
}

/// What to do with bodies that were not understood.
#[derive(Debug, clap::Subcommand)]
pub enum QuarantineCommand {
    /// List them, the newest first
    List,
    /// Show one, with the reason and the body itself
    Show {
        /// Its id
        id: String,
    },
}

/// Where the rules are.
#[derive(Debug, clap::Args)]
pub struct RulesArgument {
    /// The rules folder
    #[arg(long, value_name = "DIR", default_value = "rules")]
    rules: PathBuf,
}

/// What is tried.
#[derive(Debug, clap::Args)]
pub struct TryArguments {
    /// A file with a body; `-` = standard input
    #[arg(required_unless_present = "quarantined")]
    file: Option<PathBuf>,
    /// A body that the daemon did not understand, by its id, in place of a file
    #[arg(long, value_name = "ID", conflicts_with = "file")]
    quarantined: Option<String>,
    /// By the mapping of this source, or as the door for another service reads it
    /// (`pagerduty_events`, `alerta`, `opsgenie_api`, `cloudevents`)
    #[arg(long, value_name = "NAME", conflicts_with = "guess")]
    source: Option<String>,
    /// By the general mapper, as without `--source`
    #[arg(long)]
    guess: bool,
    /// The body's content type; by default `text/plain` for a file that ends with `.txt`, else JSON
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    #[command(flatten)]
    rules: RulesArgument,
}

impl TryArguments {
    fn content_type(&self) -> &str {
        let is_text = self.file.as_deref().is_some_and(is_text);
        let usual = if is_text { "text/plain" } else { "application/json" };
        self.content_type.as_deref().unwrap_or(usual)
    }
}

/// Whether a file is called one of plain text.
fn is_text(file: &Path) -> bool {
    file.extension().is_some_and(|it| it.eq_ignore_ascii_case("txt"))
}

/// Does it.
pub async fn run(client: &Client, command: Command, output: Output) -> Result<()> {
    let now = Timestamp::now();
    match command {
        Command::List(rules) => list(&rules.rules, output),
        Command::Try(arguments) => try_body(client, &arguments, output, now).await,
        Command::Suggest { file, name } => {
            let content_type = if is_text(&file) { "text/plain" } else { "" };
            let text = ingest::suggest_source(&read(&file)?, content_type, (&name, now))
                .map_err(not_an_event)?;
            match output {
                Output::Table => output::print(&text),
                _ => output::show(&json!({"name": name, "rules": text}), output, |_, _| {
                    String::new()
                }),
            }
        }
        Command::Quarantine(QuarantineCommand::List) => {
            let listing = client.get(&["quarantine"], &[]).await?;
            output::list(&listing, output, quarantine_table)
        }
        Command::Quarantine(QuarantineCommand::Show { id }) => {
            let found = client.get(&["quarantine", &id], &[]).await?;
            output::show(&found, output, quarantine_card)
        }
    }
}

/// A body that means nothing.
fn not_an_event(reason: impl std::fmt::Display) -> Failure {
    Failure::Findings(format!("no event in this body: {reason}"))
}

/// The declared sources, then those that come with us and are not declared anew.
fn sources(rules: &Path) -> Result<Vec<(Source, bool)>> {
    let checked = config::read_rules(rules, &config::models_beside(rules), Mode::Act);
    let Some(set) = checked.value else {
        let errors = checked.findings.iter().filter(|it| it.level == Level::Error).count();
        let message = format!("the rules have {errors} errors; `watchkeeper check` lists them");
        return Err(Failure::Usage(message));
    };
    let mut found: Vec<(Source, bool)> = set.sources.into_iter().map(|it| (it, true)).collect();
    let built_in = config::built_in_sources();
    let built_in = built_in
        .into_iter()
        .filter(|it| !found.iter().any(|(known, _)| known.rule.name == it.rule.name));
    let built_in: Vec<_> = built_in.map(|it| (it, false)).collect();
    found.extend(built_in);
    Ok(found)
}

fn list(rules: &Path, output: Output) -> Result<()> {
    let mut items: Vec<Value> = ["alertmanager", "guess"]
        .iter()
        .map(|it| json!({"name": it, "path": format!("/ingest/{it}"), "defined": "built in", "proof": null}))
        .collect();
    for (source, is_declared) in sources(rules)? {
        let defined = if is_declared {
            format!("{}:{}", source.rule.file, source.rule.line)
        } else {
            "built in".to_owned()
        };
        let name = &source.rule.name;
        let proof = source.proof.as_ref().map(|it| match it.style {
            crate::domain::source::ProofStyle::Token { .. } => "token",
            crate::domain::source::ProofStyle::Sns { .. } => "sns",
            _ => "hmac",
        });
        items.push(json!({"name": name, "path": format!("/ingest/{name}"), "defined": defined,
            "proof": proof}));
    }
    output::list(&json!({"items": items, "next_cursor": null}), output, |listing, _| {
        let rows = output::items(listing).iter().map(|it| {
            ["name", "path", "defined", "proof"].map(|key| output::field(it, key)).to_vec()
        });
        output::table(&["SOURCE", "PATH", "DEFINED", "PROOF"], rows.collect())
    })
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let fail = |error: std::io::Error| {
        Failure::Usage(format!("cannot read `{}`: {error}", file.display()))
    };
    if file == Path::new("-") {
        std::io::stdin().lock().take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(fail)?;
    } else {
        let opened = std::fs::File::open(file).map_err(fail)?;
        opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(fail)?;
    }
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(not_an_event(format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

async fn try_body(
    client: &Client,
    arguments: &TryArguments,
    output: Output,
    now: Timestamp,
) -> Result<()> {
    if let Some(id) = &arguments.quarantined {
        return try_again(client, id, arguments, output).await;
    }
    let body = read(arguments.file.as_deref().unwrap_or(Path::new("-")))?;
    let entries = match arguments.source.as_deref() {
        None | Some("guess") => ingest::guess_body(&body, arguments.content_type(), now),
        Some("alertmanager" | "prometheus") => return try_alertmanager(&body, output, now),
        Some(name) => mapped_by(name, &body, arguments, now)?,
    };
    tell_entries(entries, output)
}

/// What a body becomes by a source, or as the door for another service reads it. A mapping that
/// somebody declared under the service's name goes first, as it does at the door.
fn mapped_by(
    name: &str,
    body: &[u8],
    arguments: &TryArguments,
    now: Timestamp,
) -> Result<std::result::Result<Entries, String>> {
    let content_type = arguments.content_type();
    let source = source_named(name, &arguments.rules.rules);
    if !source.as_ref().is_ok_and(|it| it.map != Mapping::default())
        && let Some(entries) = ingest::map_service_body(name, body, content_type, now)
    {
        return Ok(entries);
    }
    Ok(ingest::map_body(&source?, body, content_type))
}

/// Tries a body that the daemon did not understand: by its own source as the rules at hand have it,
/// unless another is named.
async fn try_again(
    client: &Client,
    id: &str,
    arguments: &TryArguments,
    output: Output,
) -> Result<()> {
    let found = client.get(&["quarantine", id], &[]).await?;
    let kept: Quarantined = serde_json::from_value(found)
        .map_err(|error| Failure::BadReply(format!("it is no quarantined body: {error}")))?;
    let name = arguments.source.as_deref().unwrap_or(&kept.source);
    let source = if arguments.guess || name == "guess" {
        None
    } else {
        Some(source_named(name, &arguments.rules.rules)?)
    };
    tell_entries(ingest::map_quarantined(source.as_ref(), &kept, Timestamp::now()), output)
}

fn source_named(name: &str, rules: &Path) -> Result<Source> {
    let found = sources(rules)?.into_iter().find(|(it, _)| it.rule.name == name);
    found.map(|it| it.0).ok_or_else(|| {
        Failure::Usage(format!("there is no source `{name}`; `watchkeeper source list` names them"))
    })
}

type Entries = Vec<std::result::Result<Mapped, String>>;

fn tell_entries(entries: std::result::Result<Entries, String>, output: Output) -> Result<()> {
    let entries = entries.map_err(not_an_event)?;
    let (mut items, mut refused) = (Vec::new(), Vec::new());
    for (index, entry) in (0_u32..).zip(&entries) {
        match entry {
            Ok(mapped) => items.push(item(mapped)),
            Err(reason) => refused.push(json!({"index": index, "reason": reason})),
        }
    }
    tell(&items, &refused, output)
}

/// Alerts as Alertmanager posts them: by webhook, or as Prometheus does.
fn try_alertmanager(body: &[u8], output: Output, now: Timestamp) -> Result<()> {
    let delivery = ingest::read_webhook(body, now)
        .or_else(|error| ingest::read_posted_alerts(body, now).map_err(|_| error));
    let delivery = delivery.map_err(not_an_event)?;
    let items: Vec<Value> = delivery.alerts.iter().map(|it| alert_item(it, now)).collect();
    let refused = delivery.rejected.iter();
    let refused: Vec<Value> =
        refused.map(|it| json!({"index": it.index, "reason": it.reason})).collect();
    tell(&items, &refused, output)
}

fn tell(items: &[Value], refused: &[Value], output: Output) -> Result<()> {
    let reasons: Vec<String> = refused
        .iter()
        .map(|it| format!("entry {}: {}", output::field(it, "index"), output::field(it, "reason")))
        .collect();
    if items.is_empty() && !reasons.is_empty() {
        return Err(not_an_event(reasons.join("; ")));
    }
    let found = json!({"items": items, "refused": refused, "next_cursor": null});
    output::list(&found, output, |listing, _| {
        let cards = output::items(listing).iter().map(card);
        cards.collect::<Vec<_>>().join("\n")
    })?;
    if reasons.is_empty() { Ok(()) } else { Err(not_an_event(reasons.join("; "))) }
}

fn item(mapped: &Mapped) -> Value {
    let kind = match mapped.kind {
        Kind::Alert => "alert",
        Kind::Change => "change",
        Kind::Other => "other",
    };
    json!({
        "kind": kind,
        "title": mapped.title,
        "state": if mapped.is_firing { "firing" } else { "resolved" },
        "severity": mapped.severity().as_str(),
        "fingerprint": mapped.fingerprint(),
        "starts_at": mapped.starts_at,
        "ends_at": mapped.ends_at,
        "labels": mapped.labels,
        "annotations": mapped.annotations,
        "link": mapped.link,
        "confidence": mapped.confidence,
    })
}

fn alert_item(alert: &ReceivedAlert, now: Timestamp) -> Value {
    let (is_over, ends_at) = match alert.ends {
        Ends::At(at) => (at <= now, Some(at)),
        Ends::Timeout | Ends::WhenTold => (false, None),
    };
    let title = alert.labels.get("alertname").or_else(|| alert.annotations.get("summary"));
    json!({
        "kind": "alert",
        "title": title.unwrap_or_default(),
        "state": if is_over { "resolved" } else { "firing" },
        "severity": Severity::from_label(alert.labels.get("severity")).as_str(),
        "fingerprint": alert.fingerprint(),
        "starts_at": alert.starts_at,
        "ends_at": ends_at,
        "labels": alert.labels,
        "annotations": alert.annotations,
        "link": alert.generator_url,
        "confidence": 1000,
    })
}

fn card(item: &Value) -> String {
    let pairs = |name: &str| {
        let found = item.get(name).and_then(Value::as_object).into_iter().flatten();
        let found =
            found.map(|(name, value)| format!("{}={}", output::plain(name), output::text(value)));
        found.collect::<Vec<_>>().join("  ")
    };
    let one = |name: &str| output::field(item, name);
    format!(
        "{}  {}\n  {} {}, since {}, confidence {} of 1000\n  fingerprint {}\n  labels  {}\n  link    {}\n",
        one("kind"),
        one("title"),
        one("state"),
        one("severity"),
        one("starts_at"),
        one("confidence"),
        one("fingerprint"),
        pairs("labels"),
        one("link"),
    )
}

fn quarantine_table(listing: &Value, now: Timestamp) -> String {
    let rows = output::items(listing).iter().map(|it| {
        let one = |name: &str| output::field(it, name);
        let age = output::age(it, "received_at", now);
        vec![one("id"), age, one("source"), one("count"), one("bytes"), one("reason")]
    });
    output::table(&["ID", "CAME", "SOURCE", "COUNT", "BYTES", "REASON"], rows.collect())
}

fn quarantine_card(found: &Value, _: Timestamp) -> String {
    let one = |name: &str| output::field(found, name);
    let mut text = output::card(&[
        ("id", one("id")),
        ("source", one("source")),
        ("came", output::moment(found, "received_at")),
        ("count", one("count")),
        ("reason", one("reason")),
        ("content type", one("content_type")),
        ("headers", one("headers")),
    ]);
    let body = found.get("body").and_then(Value::as_str).unwrap_or_default();
    let lines: Vec<String> = body.lines().map(output::plain).collect();
    text.push_str(&output::section("body", &lines));
    text
}

//! The commands on the audit trail: list, export, verify.

use super::client::{Client, Listing};
use super::failure::{Failure, Result};
use super::incident::time_and_age;
use super::output::{self, Output, field};
use crate::domain::Memory;
use crate::domain::audit::{AuditEntry, AuditId, Break, Chain, Link, Verifier};
use crate::store::{Kind, Options, Scope, Store, care, open};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// The version of an export's form.
const FORMAT: u32 = 1;
/// A longer line of an export is no entry, in bytes.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// What to do with the audit trail.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List who changed what, newest first
    List {
        /// Only what this person, token or 'runbook NAME' did
        #[arg(long, default_value = "")]
        by: String,
        /// Only this, for example `resolve_incident` or `step_begun`
        #[arg(long, default_value = "")]
        action: String,
        /// Only what was done to this, for example EXE-9
        #[arg(long, default_value = "")]
        subject: String,
        /// Done at or after this time
        #[arg(long, value_name = "TIME")]
        since: Option<Timestamp>,
        /// Done before this time
        #[arg(long, value_name = "TIME")]
        until: Option<Timestamp>,
        /// The most to list
        #[arg(long, default_value_t = 100, value_parser = super::parse_limit)]
        limit: usize,
    },
    /// Write the whole trail as JSON lines, oldest first
    Export {
        /// The file; one that is there is replaced; `-` = standard output
        #[arg(default_value = "-")]
        file: PathBuf,
    },
    /// Look whether an entry was changed, removed or moved; exit code 1 where that is so
    Verify {
        /// An export; the running daemon's trail if not told
        file: Option<PathBuf>,
        /// The data folder of a stopped daemon instead
        #[arg(long, value_name = "DIR", conflicts_with = "file")]
        data: Option<PathBuf>,
        /// An entry with its hash, as it was printed before and noted elsewhere: AUD-9:HASH
        #[arg(long, value_name = "ENTRY", value_parser = parse_link)]
        expect: Option<Link>,
    },
}

/// The first line of an export.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    watchkeeper_audit: u32,
    anchor: Link,
    last: Link,
}

/// A trail at hand, oldest first. An entry that cannot be read is told by its place.
struct Trail<'a> {
    chain: Chain,
    entries: Box<dyn Iterator<Item = Result<std::result::Result<AuditEntry, String>>> + 'a>,
}

/// Does it.
pub async fn run(client: &Client, command: Command, output: Output) -> Result<()> {
    match command {
        Command::List { by, action, subject, since, until, limit } => {
            let time = |it: Option<Timestamp>| it.map(|it| it.to_string()).unwrap_or_default();
            let query = [
                ("by", by),
                ("action", action),
                ("subject", subject),
                ("since", time(since)),
                ("until", time(until)),
            ];
            let listing = Listing { path: &["audit"], query: &query, limit };
            output::list(&client.list(&listing).await?, output, table)
        }
        Command::Export { file } => export(&file, of_server(client).await?),
        Command::Verify { file, data, expect } => {
            let trail = match (file, data) {
                (Some(file), _) => of_file(&file)?,
                (None, Some(folder)) => of_store(&folder.join("store"))?,
                (None, None) => of_server(client).await?,
            };
            tell(verify(trail, expect)?, output)
        }
    }
}

/// The running daemon's trail.
async fn of_server(client: &Client) -> Result<Trail<'static>> {
    let chain = client.get(&["audit", "chain"], &[]).await?;
    let chain: Chain =
        serde_json::from_value(chain).map_err(|it| Failure::BadReply(it.to_string()))?;
    // What is written meanwhile does not belong to the chain that was told.
    let mut cursor = AuditId(chain.last.id.0.saturating_add(1)).to_string();
    let mut values = Vec::new();
    loop {
        let query = [("limit", "1000".to_owned()), ("cursor", cursor)];
        let page = client.get(&["audit"], &query).await?;
        values.extend(output::items(&page).iter().cloned());
        cursor = field(&page, "next_cursor");
        if cursor.is_empty() {
            break;
        }
    }
    let entries = values.into_iter().rev();
    let entries =
        entries.map(|it| Ok(serde_json::from_value(it).map_err(|error| error.to_string())));
    Ok(Trail { chain, entries: Box::new(entries) })
}

/// The trail of a stopped daemon.
fn of_store(folder: &Path) -> Result<Trail<'static>> {
    let store = open(care::known_engine(folder)?, folder, Options::default())?;
    let memory = store.get(Kind::Memory, "memory")?;
    let memory: Option<Memory> = memory
        .map(|it| serde_json::from_slice(&it.body))
        .transpose()
        .map_err(|error| Failure::BadReply(error.to_string()))?;
    let chain = memory.unwrap_or_default().audit;
    let objects = store.list(Kind::Audit, Scope::Closed, None, usize::MAX)?;
    let entries = objects.into_iter().rev();
    let entries =
        entries.map(|it| Ok(serde_json::from_slice(&it.body).map_err(|error| error.to_string())));
    Ok(Trail { chain, entries: Box::new(entries) })
}

/// An export.
fn of_file(path: &Path) -> Result<Trail<'static>> {
    let unusable = |why: &dyn std::fmt::Display| {
        Failure::Usage(format!("not an export of an audit trail: {why}: `{}`", path.display()))
    };
    let mut reader = BufReader::new(File::open(path).map_err(|it| unusable(&it))?);
    let first = read_line(&mut reader).map_err(|it| unusable(&it))?.unwrap_or_default();
    let header: Header = serde_json::from_slice(&first).map_err(|it| unusable(&it))?;
    if header.watchkeeper_audit != FORMAT {
        let why = format!("its form is {}, not {FORMAT}", header.watchkeeper_audit);
        return Err(unusable(&why));
    }
    let entries = std::iter::from_fn(move || read_line(&mut reader).transpose()).map(|line| {
        let line = line.map_err(Failure::Output)?;
        Ok(serde_json::from_slice(&line).map_err(|error| error.to_string()))
    });
    let chain = Chain { anchor: header.anchor, last: header.last };
    Ok(Trail { chain, entries: Box::new(entries) })
}

fn read_line(reader: &mut impl BufRead) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    reader.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    Ok((!line.is_empty()).then_some(line))
}

fn export(path: &Path, trail: Trail<'_>) -> Result<()> {
    let mut out: Box<dyn Write> = if path == Path::new("-") {
        Box::new(std::io::stdout().lock())
    } else {
        Box::new(BufWriter::new(File::create(path)?))
    };
    let Chain { anchor, last } = trail.chain;
    let header = Header { watchkeeper_audit: FORMAT, anchor, last };
    let line = |it: serde_json::Result<String>| it.map_err(|it| Failure::BadReply(it.to_string()));
    writeln!(out, "{}", line(serde_json::to_string(&header))?)?;
    for entry in trail.entries {
        let entry = entry?.map_err(Failure::BadReply)?;
        writeln!(out, "{}", line(serde_json::to_string(&entry))?)?;
    }
    out.flush()?;
    Ok(())
}

/// What verifying gave.
#[derive(Debug, Serialize)]
struct Verdict {
    good: bool,
    entries: u64,
    anchor: Link,
    last: Link,
    broken_at: Option<AuditId>,
    reason: Option<String>,
}

fn verify(trail: Trail<'_>, expect: Option<Link>) -> Result<Verdict> {
    let chain = trail.chain;
    let mut verifier = Verifier::new(chain);
    let mut expect = expect.filter(|it| *it != chain.anchor);
    let mut entries = 0;
    let mut broken = None;
    for entry in trail.entries {
        let taken = match entry? {
            Ok(entry) => verifier.take(&entry),
            Err(why) => {
                let at = AuditId(verifier.reached().id.0.saturating_add(1));
                Err(Break { at, reason: format!("cannot be read: {why}") })
            }
        };
        if let Err(found) = taken {
            broken = Some(found);
            break;
        }
        entries += 1;
        expect = expect.filter(|it| *it != verifier.reached());
    }
    let last = verifier.reached();
    let broken = broken.or_else(|| verifier.finish().err()).or_else(|| {
        let reason = "is not in the chain with the hash that is expected of it".to_owned();
        expect.map(|it| Break { at: it.id, reason })
    });
    Ok(Verdict {
        good: broken.is_none(),
        entries,
        anchor: chain.anchor,
        last,
        broken_at: broken.as_ref().map(|it| it.at),
        reason: broken.map(|it| it.reason),
    })
}

fn tell(verdict: Verdict, output: Output) -> Result<()> {
    let good = verdict.good;
    let value = serde_json::to_value(verdict).map_err(|it| Failure::BadReply(it.to_string()))?;
    output::show(&value, output, |it, _| {
        let (entries, last) = (field(it, "entries"), it.get("last").unwrap_or(&Value::Null));
        let last = format!("{}:{}", field(last, "id"), field(last, "hash"));
        match field(it, "broken_at").as_str() {
            "" => format!("{entries} entries, each as it was written, up to {last}"),
            at => format!(
                "{at} {}\n{entries} entries before it are good, up to {last}",
                field(it, "reason")
            ),
        }
    })?;
    if good { Ok(()) } else { Err(Failure::Findings("a broken chain".to_owned())) }
}

fn table(listing: &Value, now: Timestamp) -> String {
    let rows = output::items(listing).iter().map(|it| {
        let of = |name| field(it, name);
        vec![
            of("id"),
            time_and_age(it, "at", now),
            of("by"),
            of("action"),
            of("subject"),
            of("outcome"),
            of("details"),
        ]
    });
    let heads = ["ID", "AT", "BY", "ACTION", "SUBJECT", "OUTCOME", "DETAILS"];
    output::table(&heads, rows.collect())
}

/// Reads `AUD-9:HASH`.
fn parse_link(text: &str) -> std::result::Result<Link, String> {
    let (id, hash) = text.split_once(':').ok_or("expected `AUD-9:HASH`, as `verify` prints it")?;
    Ok(Link { id: id.parse()?, hash: hash.parse()? })
}

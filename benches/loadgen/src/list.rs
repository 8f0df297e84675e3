//! `loadgen list`: reads the whole list of alerts and looks for those that were accepted.

use crate::alerts;
use crate::connection::{Connection, Target};
use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Instant;

/// What to read, and what to look for.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The list, for example `http://127.0.0.1:9093/api/v2/alerts`.
    #[arg(long)]
    target: String,
    /// The file that `loadgen send --accepted` has written.
    #[arg(long)]
    accepted: Option<PathBuf>,
}

/// Reads the list.
pub(crate) async fn run(options: Options) -> anyhow::Result<Value> {
    let mut connection = Connection::new(Target::parse(&options.target, &[])?);
    let mut text = Vec::new();
    let begin = Instant::now();
    let status = connection.read(|piece| text.extend_from_slice(piece)).await?;
    let seconds = begin.elapsed().as_secs_f64();
    if !status.is_success() {
        bail!("`{}` answers `{status}`", options.target);
    }
    let listed: HashSet<u64> = alerts::stamps(&text).map(|it| it.0).collect();
    let mut accepted = HashSet::new();
    if let Some(path) = &options.accepted {
        for line in std::fs::read_to_string(path)?.lines() {
            accepted.insert(line.parse().with_context(|| format!("not a series: `{line}`"))?);
        }
    }
    Ok(json!({
        "seconds": seconds, "bytes": text.len(), "alerts": listed.len(),
        "accepted": accepted.len(), "lost": accepted.difference(&listed).count(),
    }))
}

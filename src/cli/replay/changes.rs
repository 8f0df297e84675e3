//! The changes of `--changes`: few, so that they are read at once.

use super::Refused;
use crate::cli::failure::Failure;
use crate::ingest::ToldChange;
use std::path::Path;

/// Reads the changes of a file, in order of time.
pub(super) fn read(path: &Path) -> anyhow::Result<(Vec<ToldChange>, Refused)> {
    let text = std::fs::read(path).map_err(|error| {
        Failure::Usage(format!("cannot read the changes: {error}: `{}`", path.display()))
    })?;
    let mut changes = Vec::new();
    let mut refused = Refused::default();
    for (number, line) in (1..).zip(text.split(|it| *it == b'\n')) {
        if line.trim_ascii().is_empty() {
            continue;
        }
        match ToldChange::read(line) {
            Ok(change) => changes.push(change),
            Err(reason) => refused.add(path, number, &reason),
        }
    }
    // Stable: what stands first happened first.
    changes.sort_by_key(|it: &ToldChange| it.at);
    Ok((changes, refused))
}

//! Where a history comes from: a file in one of three formats, or the store of a daemon.

mod lines;
mod listed;
mod stored;

use crate::domain::event::Event;
use crate::ingest::ToldAlert;
use jiff::Timestamp;
use lines::EventLines;
use listed::Listed;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use stored::Stored;

/// So much of a file is looked at to know its format, in bytes.
const HEAD_BYTES: u64 = 1 << 20;

/// What a history tells.
pub(super) enum Fact {
    /// Of an alert.
    Alert(ToldAlert),
    /// Something else that a daemon came to know.
    Other(Timestamp, Box<Event>),
}

impl Fact {
    /// When it was told.
    pub(super) fn at(&self) -> Timestamp {
        match self {
            Self::Alert(it) => it.at,
            Self::Other(at, _) => *at,
        }
    }
}

/// A line of a history, or what stands for one.
pub(super) struct Line {
    /// Its number, from 1.
    pub(super) number: u64,
    /// How much was done before it, of [`History::whole`].
    pub(super) done: u64,
    /// What it tells, or why it is refused.
    pub(super) told: Result<Fact, String>,
}

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// A line `{"ts","source","alert"}` for each word about an alert
    Events,
    /// A line for each body that an Alertmanager sent to a webhook
    Alertmanager,
    /// What Prometheus answers to `query_range` for `ALERTS`
    Prometheus,
}

/// What tells the formats apart.
#[derive(Deserialize)]
struct Shape {
    alerts: Option<IgnoredAny>,
    data: Option<IgnoredAny>,
}

impl Format {
    /// What a file that begins so holds.
    fn of(head: &[u8]) -> Self {
        let first = head.split(|it| *it == b'\n').find(|it| !it.trim_ascii().is_empty());
        let shape = first.and_then(|it| serde_json::from_slice::<Shape>(it).ok());
        let is_matrix = head.windows(12).any(|it| it == b"\"resultType\"");
        match shape {
            Some(Shape { alerts: Some(_), .. }) => Self::Alertmanager,
            Some(Shape { data: Some(_), .. }) => Self::Prometheus,
            // It is one document of many lines, or of a long one.
            None if is_matrix => Self::Prometheus,
            Some(_) | None => Self::Events,
        }
    }
}

/// A history that is being read.
pub(super) enum History {
    /// One fact a line.
    Lines { lines: EventLines, whole: u64 },
    /// Read at once.
    Listed(Listed),
    /// From a store.
    Stored(Stored),
}

impl History {
    /// Opens a file; without a format it is known by its shape. Fails with what is wrong with it.
    pub(super) fn open(path: &Path, format: Option<Format>) -> Result<Self, String> {
        let told = |error: std::io::Error| error.to_string();
        let mut head = Vec::new();
        let file = BufReader::new(File::open(path).map_err(told)?);
        if !path.is_file() {
            return Err("it is no file".to_owned());
        }
        file.take(HEAD_BYTES).read_to_end(&mut head).map_err(told)?;
        match format.unwrap_or_else(|| Format::of(&head)) {
            Format::Events => {
                let whole = path.metadata().map_err(told)?.len();
                Ok(Self::Lines { lines: EventLines::open(path).map_err(told)?, whole })
            }
            Format::Alertmanager => {
                let lines = BufReader::new(File::open(path).map_err(told)?).split(b'\n');
                let lines = lines.collect::<Result<Vec<_>, _>>().map_err(told)?;
                Ok(Self::Listed(Listed::webhooks(&lines)))
            }
            Format::Prometheus => {
                let text = std::fs::read(path).map_err(told)?;
                Ok(Self::Listed(Listed::range(&text)?))
            }
        }
    }

    /// Opens the store of a daemon that is stopped, in its data folder.
    pub(super) fn of_store(data: &Path) -> anyhow::Result<Self> {
        Ok(Self::Stored(Stored::open(&data.join("store"))?))
    }

    /// The earliest time in it.
    pub(super) fn first(&self) -> Option<Timestamp> {
        match self {
            Self::Lines { lines, .. } => lines.first,
            Self::Listed(it) => it.first,
            Self::Stored(it) => it.first,
        }
    }

    /// How long it is, in whatever it is counted by.
    pub(super) fn whole(&self) -> u64 {
        match self {
            Self::Lines { whole, .. } => *whole,
            Self::Listed(it) => it.whole,
            Self::Stored(it) => it.whole,
        }
    }

    /// The next fact, in order of time.
    pub(super) fn next_line(&mut self) -> anyhow::Result<Option<Line>> {
        match self {
            Self::Lines { lines, .. } => Ok(lines.next_line()?),
            Self::Listed(it) => Ok(it.next_line()),
            Self::Stored(it) => it.next_line(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_known_by_its_shape() {
        for (head, format) in [
            ("", Format::Events),
            ("\n{\"ts\":\"x\",\"alert\":{}}\n", Format::Events),
            ("no json", Format::Events),
            ("{\"receiver\":\"x\",\"status\":\"firing\",\"alerts\":[]}", Format::Alertmanager),
            ("{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\"}}", Format::Prometheus),
            ("{\n  \"status\": \"success\",\n  \"data\": {\"resultType\":", Format::Prometheus),
        ] {
            assert_eq!(Format::of(head.as_bytes()), format, "{head}");
        }
    }
}

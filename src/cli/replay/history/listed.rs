//! Histories that are read at once and put in order: webhook bodies, and ranges of `ALERTS`.

use super::{Fact, Line};
use crate::ingest::{self, ToldAlert};
use jiff::Timestamp;

/// What was told, in order of time.
pub(in crate::cli::replay) struct Listed {
    told: std::iter::Enumerate<std::vec::IntoIter<Entry>>,
    /// The earliest time.
    pub(super) first: Option<Timestamp>,
    /// How many entries there are.
    pub(super) whole: u64,
}

/// With the number of its line.
type Entry = (u64, Result<ToldAlert, String>);

impl Listed {
    /// Reads lines that are bodies of an Alertmanager's webhook.
    pub(super) fn webhooks(lines: &[Vec<u8>]) -> Self {
        let numbered = (1..).zip(lines).filter(|(_, it)| !it.trim_ascii().is_empty());
        let read = numbered.flat_map(|(number, line)| {
            let told = ingest::read_webhook_line(line).unwrap_or_else(|it| vec![Err(it)]);
            told.into_iter().map(move |it| (number, it))
        });
        Self::of(read.collect())
    }

    /// Reads an answer of Prometheus to `query_range`.
    pub(super) fn range(text: &[u8]) -> Result<Self, String> {
        Ok(Self::of(ingest::read_range(text)?.into_iter().map(|it| (1, it)).collect()))
    }

    fn of(mut told: Vec<Entry>) -> Self {
        let at = |(_, told): &Entry| told.as_ref().map_or(Timestamp::MIN, |it| it.at);
        // Stable: what stands first was told first.
        told.sort_by_key(at);
        let first = told.iter().filter_map(|(_, it)| Some(it.as_ref().ok()?.at)).min();
        let whole = told.len() as u64;
        Self { told: told.into_iter().enumerate(), first, whole }
    }

    pub(super) fn next_line(&mut self) -> Option<Line> {
        let (index, (number, told)) = self.told.next()?;
        Some(Line { number, done: index as u64, told: told.map(Fact::Alert) })
    }
}

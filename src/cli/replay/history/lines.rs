//! A history of one fact a line, read line by line in order of time.
//!
//! The file is surveyed first: where its lines are in order they are read as they stand, else in the
//! order of a list of their places. Either way a line is in memory only while it is looked at.

use super::{Fact, Line};
use crate::ingest::ToldAlert;
use jiff::Timestamp;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// A longer line is refused. In bytes.
const LINE_BYTES_MAX: u64 = 4 << 20;
/// How much is read at once, in bytes.
const BUFFER_BYTES: usize = 256 << 10;

/// A history that is being read.
pub(in crate::cli::replay) struct EventLines {
    lines: Lines,
    read: u64,
    /// The earliest time in it.
    pub(super) first: Option<Timestamp>,
    /// Where the lines are, in order of time; `None` = as they stand.
    order: Option<std::vec::IntoIter<Place>>,
}

/// Where a line is.
struct Place {
    at: Timestamp,
    offset: u64,
    number: u64,
}

impl EventLines {
    /// Opens a file and looks whether its lines are in order.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let mut lines = Lines::new(file);
        let (mut first, mut last, mut is_sorted) = (None, None, true);
        while lines.advance()? {
            let Some(at) = ToldAlert::read_time(&lines.line) else { continue };
            is_sorted &= last.is_none_or(|it| it <= at);
            first = first.into_iter().chain([at]).min();
            last = Some(at);
        }
        let order = if is_sorted { None } else { Some(in_order(&mut lines)?.into_iter()) };
        lines.go_to(0, 0)?;
        Ok(Self { lines, read: 0, first, order })
    }

    /// The next line that is not empty.
    pub(super) fn next_line(&mut self) -> io::Result<Option<Line>> {
        if let Some(order) = &mut self.order {
            let Some(place) = order.next() else { return Ok(None) };
            self.lines.go_to(place.offset, place.number - 1)?;
        }
        if !self.lines.advance()? {
            return Ok(None);
        }
        let bytes_before = self.read;
        self.read += self.lines.line.len() as u64 + 1;
        let told = if self.lines.is_too_long {
            Err(format!("the line is longer than {LINE_BYTES_MAX} bytes"))
        } else {
            ToldAlert::read(&self.lines.line).map(Fact::Alert)
        };
        Ok(Some(Line { number: self.lines.number, done: bytes_before, told }))
    }
}

/// The places of all lines in order of time; equal times stay as they stand. A line without a time,
/// which will be refused, stands behind the one before it.
fn in_order(lines: &mut Lines) -> io::Result<Vec<Place>> {
    lines.go_to(0, 0)?;
    let (mut places, mut last) = (Vec::new(), Timestamp::MIN);
    while lines.advance()? {
        last = ToldAlert::read_time(&lines.line).unwrap_or(last);
        places.push(Place { at: last, offset: lines.offset, number: lines.number });
    }
    places.sort_by_key(|it| it.at);
    Ok(places)
}

/// The lines of a file that are not empty.
struct Lines {
    reader: BufReader<File>,
    line: Vec<u8>,
    is_too_long: bool,
    number: u64,
    /// Where the line begins.
    offset: u64,
    /// Where the next one does.
    next: u64,
}

impl Lines {
    fn new(file: File) -> Self {
        let reader = BufReader::with_capacity(BUFFER_BYTES, file);
        Self { reader, line: Vec::new(), is_too_long: false, number: 0, offset: 0, next: 0 }
    }

    /// Goes on behind a line.
    fn go_to(&mut self, offset: u64, number: u64) -> io::Result<()> {
        // Where it is near, the buffer still holds it.
        match (i64::try_from(offset), i64::try_from(self.next)) {
            (Ok(to), Ok(from)) => self.reader.seek_relative(to - from)?,
            _ => drop(self.reader.seek(SeekFrom::Start(offset))?),
        }
        self.next = offset;
        self.number = number;
        Ok(())
    }

    /// Reads the next line that is not empty; false at the end of the file.
    fn advance(&mut self) -> io::Result<bool> {
        loop {
            self.line.clear();
            self.offset = self.next;
            let mut part = self.reader.by_ref().take(LINE_BYTES_MAX);
            let read = part.read_until(b'\n', &mut self.line)?;
            if read == 0 {
                return Ok(false);
            }
            self.number += 1;
            self.next += read as u64;
            self.is_too_long = read as u64 == LINE_BYTES_MAX && !self.line.ends_with(b"\n");
            if self.is_too_long {
                self.next += self.reader.skip_until(b'\n')? as u64;
                return Ok(true);
            }
            if !self.line.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn line(second: u32, name: &str) -> String {
        let ts = format!("2026-03-02T00:00:{second:02}Z");
        format!(r#"{{"ts":"{ts}","source":"s","alert":{{"labels":{{"alertname":"{name}"}}}}}}"#)
    }

    fn read(text: &str) -> Vec<(u64, String)> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let mut history = EventLines::open(file.path()).unwrap();
        let mut found = Vec::new();
        while let Some(line) = history.next_line().unwrap() {
            let told = match line.told {
                Ok(Fact::Alert(it)) => it.alert.labels.get("alertname").unwrap().to_owned(),
                Ok(Fact::Other(..)) => panic!("it is an alert"),
                Err(_) => "refused".to_owned(),
            };
            found.push((line.number, told));
        }
        found
    }

    fn found(expected: &[(u64, &str)]) -> Vec<(u64, String)> {
        expected.iter().map(|(number, name)| (*number, (*name).to_owned())).collect()
    }

    #[test]
    fn lines_are_read_in_order_of_time_with_their_numbers() {
        let sorted = [line(1, "a"), String::new(), "no".to_owned(), line(2, "b")].join("\n");
        assert_eq!(read(&sorted), found(&[(1, "a"), (3, "refused"), (4, "b")]));
        let lines = [line(5, "c"), line(1, "a"), "no".to_owned(), line(3, "b"), line(5, "d")];
        let expected = found(&[(2, "a"), (3, "refused"), (4, "b"), (1, "c"), (5, "d")]);
        assert_eq!(read(&lines.join("\n")), expected);
        assert_eq!(read(&(lines.join("\r\n\n") + "\n")).len(), 5);
        assert_eq!(read(""), found(&[]));
    }

    #[test]
    fn a_line_without_an_end_is_refused_and_the_next_is_read() {
        let long = "x".repeat(usize::try_from(LINE_BYTES_MAX).unwrap() * 2);
        let text = [line(1, "a"), long, line(2, "b")].join("\n");
        assert_eq!(read(&text), found(&[(1, "a"), (2, "refused"), (3, "b")]));
    }
}

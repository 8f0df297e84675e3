//! A store's content in a file: JSON lines, compressed, with a header and a proof of the end.
//!
//! ```text
//! {"watchkeeper_store":1,"content":"whole","engine":"sled","version":"0.1.0","made_at":"…"}
//! {"record":{…}}                          an entry in each line
//! {"end":{"lines":2,"check":"1a2b3c4d"}}  the lines before this one, and their CRC-32
//! ```

use super::{Error, Kind, Record, Turn};
use crate::domain::effect::PlannedEffect;
use crate::domain::incident::TimelineEntry;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The version of the file's form; raised when an older program could not read it.
const FORMAT: u32 = 1;
/// A longer line can only be damage, in bytes.
const LINE_BYTES_MAX: u64 = 1 << 30;
const COMPRESSION_LEVEL: i32 = 3;

/// One piece of a store's content: what an engine keeps under one key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// A record of the inbox.
    Record {
        /// The `seq` of the record before it.
        before: u64,
        /// The record.
        record: Record,
    },
    /// The turns of one commit.
    Turns {
        /// The number of the first.
        first: u64,
        /// The last `seq` that was applied, with these turns.
        watermark: u64,
        /// The turns; never empty.
        turns: Vec<Turn>,
    },
    /// An object that is open.
    Open {
        /// What it is.
        kind: Kind,
        /// Unique within the kind.
        id: String,
        /// The object.
        body: Box<RawValue>,
    },
    /// An object that is closed.
    Closed {
        /// What it is.
        kind: Kind,
        /// Unique within the kind.
        id: String,
        /// When it was closed.
        at: Timestamp,
        /// The object.
        body: Box<RawValue>,
    },
    /// The entries that one commit added to an object's timeline.
    Timeline {
        /// The object's id.
        of: String,
        /// The number of the first.
        first: u64,
        /// The entries; never empty.
        entries: Vec<TimelineEntry>,
    },
    /// An effect without a result.
    Effect {
        /// The effect.
        effect: PlannedEffect,
        /// Whether it was claimed.
        claimed: bool,
    },
}

/// How much of a store is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// All of it: a backup.
    Whole,
    /// What is open and what is not decided: a snapshot.
    Open,
}

/// The first line of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The version of the file's form.
    pub watchkeeper_store: u32,
    /// How much of the store it is.
    pub content: Content,
    /// The name of the engine that it came from.
    pub engine: String,
    /// The version of the program that wrote it.
    pub version: String,
    /// When it was written.
    pub made_at: Timestamp,
}

impl Header {
    /// The header of a file that is written by this program.
    pub fn new(content: Content, engine: &str, made_at: Timestamp) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self { watchkeeper_store: FORMAT, content, engine: engine.to_owned(), version, made_at }
    }
}

/// The last line of a file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct End {
    /// How many lines stand before it.
    lines: u64,
    /// The CRC-32 of those lines.
    check: String,
}

/// Only the last line has this form.
#[derive(Debug, Serialize, Deserialize)]
struct LastLine {
    end: End,
}

/// Counts and checks lines.
#[derive(Default)]
struct Lines {
    count: u64,
    check: crc32fast::Hasher,
}

impl Lines {
    fn add(&mut self, line: &[u8]) {
        self.count += 1;
        self.check.update(line);
        self.check.update(b"\n");
    }

    fn end(&self) -> End {
        End { lines: self.count, check: format!("{:08x}", self.check.clone().finalize()) }
    }
}

/// A file that is being written; it has its name only once it is whole and durable.
pub struct Writer {
    encoder: zstd::Encoder<'static, BufWriter<File>>,
    lines: Lines,
    path: PathBuf,
    temporary: PathBuf,
}

impl Writer {
    /// Begins a file. Only its owner may read it.
    pub fn create(path: &Path, header: &Header) -> Result<Self, Error> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        let begin = || -> std::io::Result<zstd::Encoder<'static, BufWriter<File>>> {
            let mut options = File::options();
            let file = options.create(true).truncate(true).write(true).mode(0o600);
            let file = BufWriter::new(file.open(&temporary)?);
            let mut encoder = zstd::Encoder::new(file, COMPRESSION_LEVEL)?;
            encoder.include_checksum(true)?;
            Ok(encoder)
        };
        let encoder = begin().map_err(|e| not_written(path, &e))?;
        let mut writer =
            Self { encoder, lines: Lines::default(), path: path.to_owned(), temporary };
        writer.put_line(header)?;
        Ok(writer)
    }

    /// Writes an entry.
    pub fn put(&mut self, entry: &Entry) -> Result<(), Error> {
        self.put_line(entry)
    }

    /// Ends the file, makes it durable and gives it its name. Returns how many entries it has.
    pub fn finish(mut self) -> Result<u64, Error> {
        let end = self.lines.end();
        let entries = end.lines.saturating_sub(1);
        self.put_line(&LastLine { end })?;
        let finish = || -> std::io::Result<()> {
            let buffer = self.encoder.finish()?;
            buffer.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
            fs::rename(&self.temporary, &self.path)?;
            let folder = self.path.parent().filter(|it| !it.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        };
        finish().map_err(|e| not_written(&self.path, &e))?;
        Ok(entries)
    }

    fn put_line(&mut self, line: &impl Serialize) -> Result<(), Error> {
        let line = serde_json::to_vec(line).map_err(|e| not_written(&self.path, &e))?;
        self.lines.add(&line);
        let written = self.encoder.write_all(&line).and_then(|()| self.encoder.write_all(b"\n"));
        written.map_err(|e| not_written(&self.path, &e))
    }
}

fn not_written(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::Failed(format!("cannot write `{}`: `{error}`", path.display()))
}

/// Reads a file to its end and gives each entry to `take`. A file that is cut off or damaged is
/// refused, with the line; what was given before that must not be used then.
pub fn read(
    path: &Path,
    take: &mut dyn FnMut(Entry) -> Result<(), Error>,
) -> Result<Header, Error> {
    let number = std::cell::Cell::new(0);
    let bad = |what: &dyn std::fmt::Display| {
        let number = number.get();
        let path = path.display();
        Error::Unusable(format!("line {number} of `{path}` is damaged; use another file: `{what}`"))
    };
    let file = File::open(path)
        .map_err(|e| Error::Unusable(format!("cannot open `{}`: `{e}`", path.display())))?;
    let decoder = zstd::Decoder::new(file).map_err(|e| bad(&e))?;
    let mut reader = BufReader::new(decoder);
    let mut next = || -> Result<Option<Vec<u8>>, Error> {
        number.set(number.get() + 1);
        let mut line = Vec::new();
        let mut part = reader.by_ref().take(LINE_BYTES_MAX);
        part.read_until(b'\n', &mut line).map_err(|e| bad(&e))?;
        match line.pop() {
            None => Ok(None),
            Some(b'\n') => Ok(Some(line)),
            Some(_) => Err(bad(&"the line has no end")),
        }
    };
    let mut lines = Lines::default();
    let line = next()?.ok_or_else(|| bad(&"the file is empty"))?;
    let header = read_header(&line).map_err(|e| bad(&e))?;
    if header.watchkeeper_store > FORMAT {
        return Err(Error::Unusable(format!(
            "`{}` was written by a newer version of this program, in format {}; install version \
             {}: this one reads formats up to `{FORMAT}`",
            path.display(),
            header.watchkeeper_store,
            header.version
        )));
    }
    lines.add(&line);
    loop {
        let line = next()?.ok_or_else(|| bad(&"the file is cut off here"))?;
        if line.starts_with(b"{\"end\":") {
            let last: LastLine = serde_json::from_slice(&line).map_err(|e| bad(&e))?;
            if last.end != lines.end() {
                return Err(bad(&"the lines before it are not those that were written"));
            }
            break;
        }
        take(serde_json::from_slice(&line).map_err(|e| bad(&e))?)?;
        lines.add(&line);
    }
    match next()? {
        None => Ok(header),
        Some(_) => Err(bad(&"something stands after the end")),
    }
}

fn read_header(line: &[u8]) -> serde_json::Result<Header> {
    serde_json::from_slice(line)
}

/// Reads only a file's header.
pub fn header_of(path: &Path) -> Result<Header, Error> {
    let mut header = None;
    let read = || -> std::io::Result<Vec<u8>> {
        let mut line = Vec::new();
        let decoder = zstd::Decoder::new(File::open(path)?)?;
        BufReader::new(decoder).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        Ok(line)
    };
    if let Ok(line) = read() {
        header = read_header(&line).ok();
    }
    header.ok_or_else(|| {
        Error::Unusable(format!("not a backup or a snapshot of a store: `{}`", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u64) -> Entry {
        let turn = Turn { now: Timestamp::UNIX_EPOCH, seq: Some(number), poisoned: false };
        Entry::Turns { first: number, watermark: number, turns: vec![turn] }
    }

    fn written(folder: &Path, entries: u64) -> PathBuf {
        let path = folder.join("file");
        let header = Header::new(Content::Whole, "sled", Timestamp::UNIX_EPOCH);
        let mut writer = Writer::create(&path, &header).unwrap();
        for number in 0..entries {
            writer.put(&entry(number)).unwrap();
        }
        assert!(!path.exists(), "it has its name only once it is whole");
        assert_eq!(writer.finish().unwrap(), entries);
        path
    }

    fn read_all(path: &Path) -> Result<Vec<String>, Error> {
        let mut lines = Vec::new();
        read(path, &mut |entry| {
            lines.push(serde_json::to_string(&entry).unwrap());
            Ok(())
        })?;
        Ok(lines)
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path(), 100);
        let expected: Vec<_> =
            (0..100).map(|it| serde_json::to_string(&entry(it)).unwrap()).collect();
        assert_eq!(read_all(&path).unwrap(), expected);
        assert_eq!(header_of(&path).unwrap().content, Content::Whole);
    }

    #[test]
    fn each_cut_and_each_flipped_bit_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path(), 30);
        let good = fs::read(&path).unwrap();
        for length in 0..good.len() {
            fs::write(&path, &good[..length]).unwrap();
            assert!(read_all(&path).is_err(), "cut at {length} of {}", good.len());
        }
        for place in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[place / 8] ^= 1 << (place % 8);
            fs::write(&path, &bytes).unwrap();
            let read = read_all(&path);
            assert!(read.is_err() || read.unwrap().len() == 30, "bit {place}");
        }
    }

    #[test]
    fn lines_that_are_left_out_or_changed_are_told_with_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path(), 5);
        let text = zstd::decode_all(File::open(&path).unwrap()).unwrap();
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (changed, expected) in [
            (lines[..5].join("\n") + "\n", "line 6"),
            ([&lines[..2], &lines[3..]].concat().join("\n") + "\n", "line 6"),
            (text.replace("\"first\":3", "\"first\":2"), "line 7"),
            (text.replace("\"first\":3", "\"last\":3"), "line 5"),
            (text.clone() + "{}\n", "line 8"),
            (text.replace("store\":1", "store\":9"), "newer version"),
            (String::new(), "line 1"),
        ] {
            fs::write(&path, zstd::encode_all(changed.as_bytes(), 1).unwrap()).unwrap();
            let error = read_all(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected} in {error}");
        }
    }
}

//! The inbox: records in a log of its own, because an acknowledgement waits for this and for no more.
//!
//! ```text
//! FOLDER/inbox/00000000000000000001   records from this one on; zeros up to the end
//! FOLDER/inbox/next                   the file for later ones, made ahead
//! ```
//!
//! The records of one round are one frame (`frame`): it is there as a whole or not at all. A file
//! has its full size, written and synced, before its first frame. So a frame costs one write and
//! one `fdatasync` that has nothing to do but its data: half the time that an engine needs.

mod frame;

use super::super::{Error, Options, Packed, Record};
use super::folder::{free_bytes, is_full, remove_if_there, size_of, sync_folder};
use super::{damaged, failed};
use frame::Frame;
use rustix::fs::FallocateFlags;
use std::fs::{self, File};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

pub(super) use frame::pack;

/// The folder's name in the store's folder.
pub(super) const NAME: &str = "inbox";
/// The name of the file that is made ahead.
const NEXT: &str = "next";
/// The size of a file, in bytes, unless a single frame is larger.
const FILE_BYTES: u64 = 4 * 1024 * 1024;
/// The next file is made when less than this is left in the current one, in bytes.
const AHEAD_BYTES: u64 = FILE_BYTES / 2;
/// Zeros are written in pieces of this size, in bytes.
const ZEROS_BYTES: usize = 256 * 1024;

/// The inbox of one store.
pub(super) struct Inbox {
    folder: PathBuf,
    /// So much must stay free on the disk, in bytes.
    free_bytes_min: u64,
    /// What readers look at; never locked while something is written.
    extent: Mutex<Extent>,
    writer: Mutex<Writer>,
}

/// What is there.
#[derive(Clone, Default)]
struct Extent {
    /// The first `seq` of each file, rising.
    files: Vec<u64>,
    /// The `seq` of the last durable record; 0 = none.
    last: u64,
    /// Where the frames of the last file end, in bytes.
    end: u64,
}

/// What the one writer holds.
struct Writer {
    file: File,
    file_bytes: u64,
    /// The next file is being made.
    ahead: Option<JoinHandle<Result<(), Error>>>,
}

impl Inbox {
    /// Opens the inbox in a store's folder, or makes it.
    pub(super) fn open(store: &Path, options: &Options) -> Result<Self, Error> {
        let folder = store.join(NAME);
        let free_bytes_min = options.free_bytes_min;
        if !folder.exists() {
            fs::create_dir(&folder).map_err(|e| cannot("make", &folder, &e))?;
            sync_folder(Some(store))?;
        }
        let mut extent = Extent { files: list(&folder)?, ..Extent::default() };
        if extent.files.is_empty() {
            // An empty store must open on a full disk too, or nobody could look at it.
            make_file(&folder, FILE_BYTES, 0)?;
            put_in_place(&folder, 1)?;
            extent.files.push(1);
        }
        find_end(&folder, &mut extent)?;
        let path = path_of(&folder, extent.files.last().copied().unwrap_or(1));
        let file = File::options().read(true).write(true).open(&path);
        let file = file.map_err(|e| cannot("open", &path, &e))?;
        let file_bytes = file.metadata().map_err(|e| cannot("look at", &path, &e))?.len();
        let writer = Writer { file, file_bytes, ahead: None };
        let writer = Mutex::new(writer);
        Ok(Self { folder, free_bytes_min, extent: Mutex::new(extent), writer })
    }

    /// The `seq` of the last durable record; 0 = none.
    pub(super) fn last(&self) -> u64 {
        self.extent().last
    }

    /// The size of its files, in bytes.
    pub(super) fn disk_bytes(&self) -> u64 {
        size_of(&self.folder)
    }

    /// Clears what a write that was cut short has left behind the last frame, so that it can never
    /// be taken for one. Call it once it is known that nothing which was acknowledged is missing.
    pub(super) fn clear_tail(&self) -> Result<(), Error> {
        let end = self.extent().end;
        let writer = self.writer();
        let mut rest = vec![0; usize::try_from(writer.file_bytes - end).unwrap_or(0)];
        let read = writer.file.read_exact_at(&mut rest, end);
        read.map_err(|e| failed("read the end of the inbox", &e))?;
        if rest.iter().all(|it| *it == 0) {
            return Ok(());
        }
        rest.fill(0);
        let cleared = writer.file.write_all_at(&rest, end).and_then(|()| writer.file.sync_all());
        cleared.map_err(|e| failed("clear the end of the inbox", &e))
    }

    /// Makes room for records. [`Error::Full`] means that there is none.
    pub(super) fn prepare(
        &self,
        records: &[Record],
        packed: &[Option<Packed>],
    ) -> Result<Prepared<'_>, Error> {
        let mut writer = self.writer();
        let mut prepared = Prepared { inbox: self, frame: Vec::new(), at: 0, last: 0 };
        if let Some(last) = records.last() {
            let extent = self.extent().clone();
            if free_bytes(&self.folder) < self.free_bytes_min {
                return Err(self.full());
            }
            prepared.last = last.seq;
            prepared.frame = frame::write(extent.last, records, packed)?;
            prepared.at = self.make_room(&mut writer, &extent, prepared.frame.len(), records)?;
        }
        Ok(prepared)
    }

    /// Goes on to the next file if a frame does not fit into the current one. Returns where the
    /// frame goes.
    fn make_room(
        &self,
        writer: &mut Writer,
        extent: &Extent,
        bytes: usize,
        records: &[Record],
    ) -> Result<u64, Error> {
        let bytes = bytes as u64;
        if extent.end + bytes <= writer.file_bytes {
            return Ok(extent.end);
        }
        let first = records.first().map_or(0, |it| it.seq);
        let made = writer.ahead.take().is_some_and(|it| matches!(it.join(), Ok(Ok(()))));
        if !made || bytes > FILE_BYTES {
            make_file(&self.folder, bytes.max(FILE_BYTES), self.free_bytes_min)?;
        }
        let path = self.folder.join(NEXT);
        let file = File::options().read(true).write(true).open(&path);
        let file = file.map_err(|e| cannot("open", &path, &e))?;
        writer.file_bytes = file.metadata().map_err(|e| cannot("look at", &path, &e))?.len();
        put_in_place(&self.folder, first)?;
        writer.file = file;
        let mut extent = self.extent();
        if extent.files.last() != Some(&first) {
            extent.files.push(first);
        }
        extent.end = 0;
        Ok(0)
    }

    /// Reads records with `seq` greater than `after`, in order, at most `limit`.
    pub(super) fn records(&self, after: u64, limit: usize) -> Result<Vec<Record>, Error> {
        let mut records = Vec::new();
        self.walk(after, &mut |frame| {
            frame.read(after, limit, &mut records)?;
            Ok(if records.len() < limit {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            })
        })?;
        Ok(records)
    }

    /// Finds out whether every record after a `seq` is there as it was written.
    pub(super) fn check(&self, after: u64) -> Result<(), Error> {
        self.walk(after, &mut |_| Ok(ControlFlow::Continue(())))
    }

    /// Goes through the frames from the one on that may hold the record after a `seq`.
    fn walk(
        &self,
        after: u64,
        look: &mut dyn FnMut(&Frame<'_>) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        let extent = self.extent().clone();
        let place = extent.files.partition_point(|it| *it <= after.saturating_add(1));
        // Every record from the first file's name on is in one of the files.
        let mut last: Option<u64> = None;
        let files = extent.files.get(place.saturating_sub(1)..).unwrap_or_default();
        for first in files {
            let path = path_of(&self.folder, *first);
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                // It was removed a moment ago, with all that is in it.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound && self.is_gone(*first) => {
                    continue;
                }
                Err(e) => return Err(cannot("read", &path, &e)),
            };
            for frame in frame::read_all(&bytes).map_while(Result::ok) {
                if frame.last > extent.last {
                    break;
                }
                let follows = match last {
                    Some(last) => frame.before == last,
                    None => files.first().is_none_or(|it| frame.before < *it),
                };
                if !follows {
                    return Err(damaged(&format!("record {} is missing", frame.before)));
                }
                last = Some(frame.last);
                if look(&frame)?.is_break() {
                    return Ok(());
                }
            }
        }
        if after < extent.last && last.unwrap_or(0) < extent.last {
            return Err(damaged(&format!(
                "the inbox can be read up to record {}, but it goes on to record {}",
                last.unwrap_or(0),
                extent.last
            )));
        }
        Ok(())
    }

    fn is_gone(&self, first: u64) -> bool {
        !self.extent().files.contains(&first)
    }

    /// Removes the files that hold only records before a `seq`; the last file stays.
    pub(super) fn remove_before(&self, seq: u64) -> Result<(), Error> {
        let _writer = self.writer();
        let mut old = Vec::new();
        {
            let mut extent = self.extent();
            let kept = extent.files.partition_point(|it| *it <= seq).saturating_sub(1);
            old.extend(extent.files.drain(..kept));
        }
        for first in &old {
            let path = path_of(&self.folder, *first);
            remove_if_there(&path).map_err(|e| cannot("remove", &path, &e))?;
        }
        Ok(())
    }

    fn full(&self) -> Error {
        Error::Full(format!(
            "less than {} bytes are free in `{}`; free some: `{}`",
            self.free_bytes_min,
            self.folder.display(),
            free_bytes(&self.folder)
        ))
    }

    fn extent(&self) -> MutexGuard<'_, Extent> {
        self.extent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Records that have their room.
pub(super) struct Prepared<'a> {
    inbox: &'a Inbox,
    frame: Vec<u8>,
    at: u64,
    last: u64,
}

impl Prepared<'_> {
    /// Writes the records; they are durable when this returns well. [`Error::Full`] means that
    /// nothing was written.
    pub(super) fn write(self) -> Result<(), Error> {
        if self.frame.is_empty() {
            return Ok(());
        }
        let mut writer = self.inbox.writer();
        if let Err(error) = writer.file.write_all_at(&self.frame, self.at) {
            // What was written is no frame, and the next one is written over it.
            return Err(if is_full(&error) {
                self.inbox.full()
            } else {
                failed("write to the inbox", &error)
            });
        }
        writer.file.sync_data().map_err(|e| failed("make the inbox durable", &e))?;
        let end = self.at + self.frame.len() as u64;
        {
            let mut extent = self.inbox.extent();
            extent.last = self.last;
            extent.end = end;
        }
        if writer.file_bytes - end < AHEAD_BYTES && writer.ahead.is_none() {
            let (folder, free) = (self.inbox.folder.clone(), self.inbox.free_bytes_min);
            let builder = std::thread::Builder::new().name("store-inbox".to_owned());
            // Where no thread can be had the file is made when it is needed.
            writer.ahead = builder.spawn(move || make_file(&folder, FILE_BYTES, free)).ok();
        }
        Ok(())
    }
}

impl Drop for Inbox {
    /// A file that is being made is of no use to anybody else; but it must not appear later.
    fn drop(&mut self) {
        let ahead = self.writer().ahead.take();
        drop(ahead.map(JoinHandle::join));
    }
}

/// Reads the records of a file, up to its end or to the first damage.
pub(super) fn decode(file: &[u8]) -> Result<Vec<Record>, Error> {
    let mut records = Vec::new();
    for frame in frame::read_all(file).map_while(Result::ok) {
        frame.read(0, usize::MAX, &mut records)?;
    }
    Ok(records)
}

/// The first `seq` of each file, rising.
fn list(folder: &Path) -> Result<Vec<u64>, Error> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| cannot("read", folder, &e))? {
        let name = entry.map_err(|e| cannot("read", folder, &e))?.file_name();
        let name = name.to_string_lossy();
        if name.len() == 20 {
            files.extend(name.parse::<u64>());
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// Finds the last frame. A file without any may follow it: it was put in place and not used.
fn find_end(folder: &Path, extent: &mut Extent) -> Result<(), Error> {
    for (place, first) in extent.files.iter().enumerate().rev() {
        let path = path_of(folder, *first);
        let bytes = fs::read(&path).map_err(|e| cannot("read", &path, &e))?;
        if let Some(frame) = frame::read_all(&bytes).map_while(Result::ok).last() {
            extent.last = frame.last;
            if place + 1 == extent.files.len() {
                extent.end = frame.end as u64;
            }
            return Ok(());
        }
    }
    Ok(())
}

/// Makes the next file: zeros on the disk, so that a frame in it changes nothing but its bytes.
fn make_file(folder: &Path, bytes: u64, free_bytes_min: u64) -> Result<(), Error> {
    let path = folder.join(NEXT);
    let free = free_bytes(folder);
    if free < bytes.saturating_add(free_bytes_min) && free_bytes_min > 0 {
        return Err(Error::Full(format!(
            "{bytes} bytes are needed for `{}`, and {free_bytes_min} more; free some: `{free}`",
            path.display()
        )));
    }
    let make = || -> std::io::Result<()> {
        let file = File::create(&path)?;
        // Where it works it tells at once that there is no room.
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
        let zeros = vec![0; ZEROS_BYTES];
        let mut at = 0;
        while at < bytes {
            let part = zeros.len().min(usize::try_from(bytes - at).unwrap_or(usize::MAX));
            file.write_all_at(zeros.get(..part).unwrap_or(&zeros), at)?;
            at += part as u64;
        }
        file.sync_all()
    };
    make().map_err(|error| {
        drop(remove_if_there(&path));
        if is_full(&error) {
            Error::Full(format!("no room for `{}`: `{error}`", path.display()))
        } else {
            cannot("make", &path, &error)
        }
    })
}

/// Gives the file that was made ahead its place.
fn put_in_place(folder: &Path, first: u64) -> Result<(), Error> {
    let path = path_of(folder, first);
    fs::rename(folder.join(NEXT), &path).map_err(|e| cannot("put in place", &path, &e))?;
    sync_folder(Some(folder))
}

fn path_of(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}"))
}

fn cannot(what: &str, path: &Path, error: &dyn std::fmt::Display) -> Error {
    failed(&format!("{what} `{}`", path.display()), error)
}

//! Space on the disk that is taken before sled needs it.
//!
//! sled cannot go on after its disk was full: from then on even reads fail. So before each write
//! the file is given blocks beyond its end, as many as the write may need; where they cannot be
//! had, the write is refused before sled sees it. Some of them always stay: sled also writes while
//! it is read, closed and opened. More are held while there is plenty, so that on a full disk
//! what was accepted can still be decided and shown.

use super::super::embedded::encode::{Writes, bytes_of};
use super::super::embedded::folder::free_bytes;
use super::{Error, Options, Purpose, failed};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The size of sled's segments, in bytes; cannot be changed for an existing store. See
/// `PIECE_BYTES` of `embedded::encode`.
pub(super) const SEGMENT_BYTES: usize = 512 * 1024;

/// How much sled may write for one byte of a batch: it moves pages as it goes.
const WRITE_AMPLIFICATION: u64 = 4;

/// How much sled may write for one entry of a batch, on average, in bytes: pages are rewritten at
/// each tenth change and when they are split.
const ENTRY_BYTES: u64 = 4096;

/// How much is taken at once where there is enough, in bytes, so that not each write takes some.
const STEP_BYTES: u64 = 1024 * 1024;

/// How much is held beyond what a write needs where there is enough, in bytes, so that results can
/// still be written down once the disk is full.
const HELD_BYTES: u64 = 4 * 1024 * 1024;

/// A file system's own blocks that count as the file's, in bytes, at most.
const OVERHEAD_BYTES: u64 = 64 * 1024;

/// How much is kept at least so that sled can be opened on a full disk, in bytes.
const RESERVE_BYTES: u64 = 2 * 1024 * 1024;

/// sled writes a list of its pages when it is opened. It is smaller than this part of the database.
const PAGE_LIST_PART: u64 = 32;

impl Purpose {
    /// How many bytes must be left after such a write.
    fn rest(self) -> u64 {
        let segment = SEGMENT_BYTES as u64;
        match self {
            Self::Commit => 2 * segment,
            Self::Removal => segment,
        }
    }

    /// How many bytes must stay free where no blocks can be had beyond the end of a file.
    fn floor(self, free_bytes_min: u64) -> u64 {
        match self {
            Self::Commit => free_bytes_min / 2,
            Self::Removal => free_bytes_min / 4,
        }
    }
}

/// The space of one store.
pub(super) struct Space {
    folder: PathBuf,
    /// The database's file.
    file: File,
    free_bytes_min: u64,
    /// Whether the file system gives blocks beyond the end of a file.
    is_given_ahead: bool,
    /// The size of the reserve.
    reserve_bytes: u64,
}

impl Space {
    /// Takes the space that an open store keeps, as far as it can be had.
    pub(super) fn new(folder: &Path, file: &File, options: &Options) -> Result<Self, Error> {
        let file = file.try_clone().map_err(|e| failed("open the database's file again", &e))?;
        let mut space = Self {
            folder: folder.to_owned(),
            file,
            free_bytes_min: options.free_bytes_min,
            is_given_ahead: true,
            reserve_bytes: fs::metadata(folder.join("reserve")).map_or(0, |it| it.len()),
        };
        if let Err(error) = space.take(0, Purpose::Commit) {
            tracing::debug!(%error, "the store is opened without space of its own");
        }
        // What opening needed was given by the reserve; the rest goes back to it at once.
        space.keep_reserve(0);
        Ok(space)
    }

    /// Takes what a write may need, or refuses it.
    pub(super) fn secure(&mut self, writes: &Writes, purpose: Purpose) -> Result<(), Error> {
        let bytes = bytes_of(writes).saturating_mul(WRITE_AMPLIFICATION);
        let entries = (writes.len() as u64).saturating_mul(ENTRY_BYTES);
        self.take(bytes.saturating_add(entries).saturating_add(SEGMENT_BYTES as u64), purpose)
    }

    /// Brings the reserve to the size that it should have, if there is plenty of space.
    pub(super) fn keep(&mut self) {
        if self.reserve_bytes < self.reserve_bytes_wanted() {
            self.keep_reserve(self.free_bytes_min.saturating_add(2 * RESERVE_BYTES));
        }
    }

    /// Behaves as on a file system that gives nothing ahead.
    #[cfg(test)]
    pub(super) fn take_nothing_ahead(&mut self) {
        self.is_given_ahead = false;
    }

    fn take(&mut self, bytes: u64, purpose: Purpose) -> Result<(), Error> {
        let free = free_bytes(&self.folder);
        let wanted = bytes.saturating_add(purpose.rest());
        let file = self.file.metadata().map_err(|e| failed("look at the database's file", &e))?;
        let end = file.len().saturating_add(wanted).saturating_add(OVERHEAD_BYTES);
        let has = file.blocks().saturating_mul(512);
        let missing = end.saturating_sub(has);
        let floor = if self.is_given_ahead {
            missing
        } else {
            purpose.floor(self.free_bytes_min).saturating_add(bytes)
        };
        if free < floor {
            return Err(self.full(floor, free));
        }
        let more = missing.saturating_add(HELD_BYTES + STEP_BYTES);
        let is_plenty = free > self.free_bytes_min.saturating_add(more);
        let holds_enough = missing == 0 && (!is_plenty || has.saturating_sub(end) >= HELD_BYTES);
        if !self.is_given_ahead || holds_enough {
            return Ok(());
        }
        let end = if is_plenty { end.saturating_add(HELD_BYTES + STEP_BYTES) } else { end };
        match allocate(&self.file, FallocateFlags::KEEP_SIZE, end) {
            Ok(()) => Ok(()),
            Err(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => Err(self.full(floor, free)),
            Err(error) => {
                // Then only the free space is looked at, with more distance.
                tracing::debug!(%error, "the file system gives no space ahead");
                self.is_given_ahead = false;
                self.take(bytes, purpose)
            }
        }
    }

    fn full(&self, needed: u64, free: u64) -> Error {
        Error::Full(format!(
            "{needed} bytes are needed in `{}`; free some: `{free}`",
            self.folder.display()
        ))
    }

    fn reserve_bytes_wanted(&self) -> u64 {
        let length = self.file.metadata().map_or(0, |it| it.len());
        RESERVE_BYTES.max(length / PAGE_LIST_PART)
    }

    /// Makes the reserve as large as it should be, or as large as it can be while some bytes stay
    /// free.
    fn keep_reserve(&mut self, free_bytes_min: u64) {
        let free = free_bytes(&self.folder).saturating_sub(free_bytes_min);
        let possible = self.reserve_bytes.saturating_add(free);
        let wanted = self.reserve_bytes_wanted().min(possible);
        if wanted <= self.reserve_bytes {
            return;
        }
        let path = self.folder.join("reserve");
        let reserve = || -> std::io::Result<()> {
            let file = File::options().create(true).truncate(false).write(true).open(&path)?;
            allocate(&file, FallocateFlags::empty(), wanted)?;
            file.sync_all()
        };
        match reserve() {
            Ok(()) => self.reserve_bytes = wanted,
            Err(error) => {
                // It is a comfort, not a need: some file systems cannot allocate ahead.
                tracing::debug!(%error, path = %path.display(), "no space is kept in reserve");
            }
        }
    }
}

fn allocate(file: &File, flags: FallocateFlags, end: u64) -> Result<(), Errno> {
    rustix::io::retry_on_intr(|| rustix::fs::fallocate(file, flags, 0, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_taken_beyond_the_end_and_the_reserve_grows_with_the_database() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join("db")).unwrap();
        let mut space = Space::new(folder.path(), &file, &Options::default()).unwrap();
        space.take(3 * 1024 * 1024, Purpose::Commit).unwrap();
        let taken = file.metadata().unwrap();
        assert_eq!(taken.len(), 0, "sled must not see it");
        if space.is_given_ahead {
            assert!(taken.blocks() * 512 >= 3 * 1024 * 1024 + HELD_BYTES);
        }
        let reserve = || fs::metadata(folder.path().join("reserve")).unwrap().len();
        assert_eq!(reserve(), RESERVE_BYTES);
        file.set_len(8 * PAGE_LIST_PART * RESERVE_BYTES).unwrap();
        space.keep();
        assert_eq!(reserve(), 8 * RESERVE_BYTES);
    }

    #[test]
    fn what_removes_is_refused_last() {
        let order = [Purpose::Commit, Purpose::Removal];
        assert!(order.is_sorted_by(|a, b| a.rest() > b.rest() && a.floor(8) > b.floor(8)));
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join("db")).unwrap();
        let options = Options { free_bytes_min: u64::MAX, ..Options::default() };
        for is_given_ahead in [true, false] {
            let mut space = Space::new(folder.path(), &file, &options).unwrap();
            space.is_given_ahead &= is_given_ahead;
            let commit = space.take(1, Purpose::Commit);
            assert_eq!(commit.is_ok(), space.is_given_ahead, "{commit:?}");
        }
    }
}

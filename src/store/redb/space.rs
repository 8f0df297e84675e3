//! Space on the disk that is looked for before redb needs it.
//!
//! redb makes its file larger without taking the blocks, so that they cannot be taken ahead of a
//! write as for sled. Instead a file beside the database holds some: what is new must leave them
//! alone, and results of turns and removals get them, a little at a time, when nothing else is
//! left.

use super::super::embedded::encode::{Writes, bytes_of};
use super::super::embedded::folder::free_bytes;
use super::{Error, Options, failed};
use rustix::fs::FallocateFlags;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// How much redb may write for one byte of a batch: a page is written for what changes in it.
const WRITE_AMPLIFICATION: u64 = 2;

/// How much redb may write for one entry of a batch, in bytes: its page and a part of those above.
const ENTRY_BYTES: u64 = 8192;

/// How much redb may write for any batch, in bytes: its own account of pages.
const BATCH_BYTES: u64 = 128 * 1024;

/// How much is kept for results of turns and removals on a full disk, in bytes.
const RESERVE_BYTES: u64 = 4 * 1024 * 1024;

/// The space of one store.
pub(super) struct Space {
    folder: PathBuf,
    free_bytes_min: u64,
    /// The size of the reserve.
    reserve_bytes: u64,
}

impl Space {
    /// Takes the space that an open store keeps, as far as it can be had.
    pub(super) fn new(folder: &Path, options: &Options) -> Self {
        let mut space = Self {
            folder: folder.to_owned(),
            free_bytes_min: options.free_bytes_min,
            reserve_bytes: fs::metadata(folder.join("reserve")).map_or(0, |it| it.len()),
        };
        space.keep_reserve(0);
        space
    }

    /// Looks for what a write may need, or refuses it.
    pub(super) fn secure(&mut self, writes: &Writes) -> Result<(), Error> {
        let bytes = bytes_of(writes).saturating_mul(WRITE_AMPLIFICATION);
        let entries = (writes.len() as u64).saturating_mul(ENTRY_BYTES);
        let needed = bytes.saturating_add(entries).saturating_add(BATCH_BYTES);
        let free = free_bytes(&self.folder);
        if free >= needed {
            return Ok(());
        }
        if free.saturating_add(self.reserve_bytes) < needed {
            return Err(Error::Full(format!(
                "{needed} bytes are needed in `{}`; free some: `{free}`",
                self.folder.display()
            )));
        }
        self.give_from_reserve(needed - free)
    }

    /// Brings the reserve to its size again, if there is plenty of space.
    pub(super) fn keep(&mut self) {
        if self.reserve_bytes < RESERVE_BYTES {
            self.keep_reserve(self.free_bytes_min.saturating_add(RESERVE_BYTES));
        }
    }

    fn give_from_reserve(&mut self, bytes: u64) -> Result<(), Error> {
        let rest = self.reserve_bytes.saturating_sub(bytes);
        File::options()
            .write(true)
            .open(self.path())
            .and_then(|it| it.set_len(rest))
            .map_err(|e| failed("free a part of the reserve", &e))?;
        self.reserve_bytes = rest;
        Ok(())
    }

    /// Makes the reserve as large as it should be, or as large as it can be while some bytes stay
    /// free.
    fn keep_reserve(&mut self, free_bytes_min: u64) {
        let free = free_bytes(&self.folder).saturating_sub(free_bytes_min);
        let wanted = RESERVE_BYTES.min(self.reserve_bytes.saturating_add(free));
        if wanted <= self.reserve_bytes {
            return;
        }
        let reserve = || -> std::io::Result<()> {
            let file =
                File::options().create(true).truncate(false).write(true).open(self.path())?;
            rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, wanted)?;
            file.sync_all()
        };
        match reserve() {
            Ok(()) => self.reserve_bytes = wanted,
            Err(error) => {
                // It is a comfort, not a need: some file systems cannot allocate ahead.
                tracing::debug!(%error, "no space is kept in reserve");
            }
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.join("reserve")
    }
}

//! A few bytes beside the database that tell how far it was acknowledged.
//!
//! sled takes damage at the end of its log for a write that was cut short, and opens without what
//! came after it; the inbox ends where its frames do. This file shows that: it is written after each acknowledgement, without a sync,
//! so after a power loss it may tell too little, but never too much.

use super::super::Error;
use super::failed;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The file's name in the store's folder.
pub(super) const NAME: &str = "acknowledged";

/// The length of the file, in bytes.
const LENGTH: usize = 32;

/// Mixed into the check number, so that a file of zeros is not valid.
const CHECK: u64 = 0x5741_5443_484b_4550;

/// How far a store was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extent {
    /// The `seq` of the last record; 0 = none.
    pub(super) record: u64,
    /// The number of the last turn; 0 = none.
    pub(super) turn: u64,
    /// The number of the last write; 0 = not known.
    pub(super) write: u64,
}

impl Extent {
    /// Whether something is beyond where another ends.
    pub(super) fn exceeds(self, other: Self) -> bool {
        self.record > other.record || self.turn > other.turn || self.write > other.write
    }
}

impl std::fmt::Display for Extent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "record {}, turn {} and write {}", self.record, self.turn, self.write)
    }
}

/// The file, open, and what it holds.
pub(super) struct Witness(File, Mutex<Extent>);

impl Witness {
    /// Opens the file, or makes it; tells what it holds, if that is whole.
    pub(super) fn open(folder: &Path) -> Result<(Self, Option<Extent>), Error> {
        let path = folder.join(NAME);
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&path);
        let file = file.map_err(|e| failed(&format!("open `{}`", path.display()), &e))?;
        let mut bytes = [0; LENGTH];
        let extent = match file.read_at(&mut bytes, 0) {
            Ok(LENGTH) => decode(&bytes),
            // Format 1 of the store counted no writes.
            Ok(24) => bytes.first_chunk().and_then(decode_format_1),
            _ => None,
        };
        Ok((Self(file, Mutex::new(extent.unwrap_or_default())), extent))
    }

    /// Notes how far the store is durable; what was noted before never falls.
    pub(super) fn note(&self, extent: Extent) {
        let mut noted = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        noted.record = noted.record.max(extent.record);
        noted.turn = noted.turn.max(extent.turn);
        noted.write = noted.write.max(extent.write);
        if let Err(error) = self.0.write_all_at(&encode(*noted), 0) {
            // It then tells too little, which hides damage but makes up none.
            tracing::debug!(%error, "how far the store was acknowledged is not noted");
        }
    }
}

fn encode(Extent { record, turn, write }: Extent) -> [u8; LENGTH] {
    let check = record.rotate_left(32) ^ turn.rotate_left(16) ^ write ^ CHECK;
    to_bytes([record, turn, write, check])
}

fn decode(bytes: &[u8; LENGTH]) -> Option<Extent> {
    let (words, _) = bytes.as_chunks::<8>();
    let [record, turn, write, _] = <[[u8; 8]; 4]>::try_from(words).ok()?.map(u64::from_be_bytes);
    let extent = Extent { record, turn, write };
    (encode(extent) == *bytes).then_some(extent)
}

fn decode_format_1(bytes: &[u8; 24]) -> Option<Extent> {
    let (words, _) = bytes.as_chunks::<8>();
    let [record, turn, check] = <[[u8; 8]; 3]>::try_from(words).ok()?.map(u64::from_be_bytes);
    let is_whole = check == record.rotate_left(32) ^ turn ^ CHECK;
    is_whole.then_some(Extent { record, turn, write: 0 })
}

fn to_bytes(words: [u64; LENGTH / 8]) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_be_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_read_and_what_is_not_whole_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (witness, none) = Witness::open(folder.path()).unwrap();
        assert_eq!(none, None);
        let extent = Extent { record: 7, turn: u64::MAX, write: 9 };
        witness.note(extent);
        assert_eq!(Witness::open(folder.path()).unwrap().1, Some(extent));
        for length in [0, 8, 24, 31] {
            witness.0.set_len(length).unwrap();
            assert_eq!(Witness::open(folder.path()).unwrap().1, None);
        }
        witness.0.set_len(32).unwrap();
        assert_eq!(Witness::open(folder.path()).unwrap().1, None);
    }
}

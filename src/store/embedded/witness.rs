//! A few bytes beside the database that tell how far it was acknowledged.
//!
//! sled takes damage at the end of its log for a write that was cut short, and opens without what
//! came after it. This file shows that: it is written after each acknowledgement, without a sync,
//! so after a power loss it may tell too little, but never too much.

use super::super::Error;
use super::failed;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The file's name in the store's folder.
pub(super) const NAME: &str = "acknowledged";

/// Mixed into the check number, so that a file of zeros is not valid.
const CHECK: u64 = 0x5741_5443_484b_4550;

/// How far a store was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extent {
    /// The `seq` of the last record; 0 = none.
    pub(super) record: u64,
    /// The number of the last turn; 0 = none.
    pub(super) turn: u64,
}

/// The file, open.
pub(super) struct Witness(File);

impl Witness {
    /// Opens the file, or makes it; tells what it holds, if that is whole.
    pub(super) fn open(folder: &Path) -> Result<(Self, Option<Extent>), Error> {
        let path = folder.join(NAME);
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&path);
        let file = file.map_err(|e| failed(&format!("open `{}`", path.display()), &e))?;
        let mut bytes = [0; 24];
        let extent = file.read_exact_at(&mut bytes, 0).ok().and_then(|()| decode(&bytes));
        Ok((Self(file), extent))
    }

    /// Notes how far the store is durable.
    pub(super) fn note(&self, extent: Extent) {
        if let Err(error) = self.0.write_all_at(&encode(extent), 0) {
            // It then tells too little, which hides damage but makes up none.
            tracing::debug!(%error, "how far the store was acknowledged is not noted");
        }
    }
}

fn encode(Extent { record, turn }: Extent) -> [u8; 24] {
    let mut bytes = [0; 24];
    let words = [record, turn, record.rotate_left(32) ^ turn ^ CHECK];
    for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_be_bytes());
    }
    bytes
}

fn decode(bytes: &[u8; 24]) -> Option<Extent> {
    let (words, _) = bytes.as_chunks::<8>();
    let [record, turn, _] = <[[u8; 8]; 3]>::try_from(words).ok()?.map(u64::from_be_bytes);
    let extent = Extent { record, turn };
    (encode(extent) == *bytes).then_some(extent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_read_and_what_is_not_whole_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (witness, none) = Witness::open(folder.path()).unwrap();
        assert_eq!(none, None);
        let extent = Extent { record: 7, turn: u64::MAX };
        witness.note(extent);
        assert_eq!(Witness::open(folder.path()).unwrap().1, Some(extent));
        for length in [0, 8, 23] {
            witness.0.set_len(length).unwrap();
            assert_eq!(Witness::open(folder.path()).unwrap().1, None);
        }
        witness.0.set_len(24).unwrap();
        assert_eq!(Witness::open(folder.path()).unwrap().1, None);
    }
}

//! How a value is written: a format byte, compressed if that pays, in pieces if it is large.

use super::super::Error;
use super::{View, damaged, failed, keys};
use std::collections::BTreeMap;
use zstd::bulk::Compressor;

/// The largest value that an engine is given, in bytes.
///
/// sled moves a page over a quarter of a segment (128 KiB) into a file of its own that it never
/// syncs. It splits a page by the number of entries, at 17, and may join up to 4 more: 21 entries
/// of 4 KiB with their keys stay below that.
const PIECE_BYTES: usize = 4096;

/// Smaller values are not worth compressing, in bytes.
const COMPRESS_BYTES_MIN: usize = 512;
const COMPRESSION_LEVEL: i32 = 1;
/// A larger length can only be damage, in bytes.
const VALUE_BYTES_MAX: u32 = 1 << 30;

// The format bytes. Stored: never change a meaning.
const RAW: u8 = 0;
const ZSTD: u8 = 1;
const PIECES: u8 = 2;

/// What is written in one step, in the order of its keys; `None` = remove.
pub(in super::super) type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// How much is written, in bytes.
pub(in super::super) fn bytes_of(writes: &Writes) -> u64 {
    let length =
        |(key, value): (&Vec<u8>, &Option<Vec<u8>>)| key.len() + value.as_ref().map_or(0, Vec::len);
    writes.iter().map(length).sum::<usize>() as u64
}

/// What one batch will write, before the engine sees it.
pub(super) struct Staged<'a> {
    view: &'a dyn View,
    compressor: &'a mut Compressor<'static>,
    writes: Writes,
}

/// Makes what values are compressed with.
pub(super) fn compressor() -> Result<Compressor<'static>, Error> {
    Compressor::new(COMPRESSION_LEVEL).map_err(|e| failed("start compression", &e))
}

impl<'a> Staged<'a> {
    /// Begins with nothing.
    pub(super) fn new(view: &'a dyn View, compressor: &'a mut Compressor<'static>) -> Self {
        Self { view, compressor, writes: Writes::new() }
    }

    /// Writes under a key that was never used before.
    pub(super) fn put_new(&mut self, key: Vec<u8>, value: &[u8]) -> Result<(), Error> {
        let packed = self.pack(value)?;
        if packed.len() <= PIECE_BYTES {
            self.writes.insert(key, Some(packed));
            return Ok(());
        }
        let mut count: u32 = 0;
        for piece in packed.chunks(PIECE_BYTES) {
            self.writes.insert(keys::piece(&key, count), Some(piece.to_vec()));
            count += 1;
        }
        let mut head = vec![PIECES];
        head.extend(count.to_be_bytes());
        self.writes.insert(key, Some(head));
        Ok(())
    }

    /// Writes under a key that may be in use.
    pub(super) fn put(&mut self, key: Vec<u8>, value: &[u8]) -> Result<(), Error> {
        self.remove(&key)?;
        self.put_new(key, value)
    }

    /// Removes a value with all its pieces.
    pub(super) fn remove(&mut self, key: &[u8]) -> Result<(), Error> {
        let old = match self.writes.get(key) {
            Some(staged) => staged.clone(),
            None => None,
        };
        self.remove_pieces(key, old.as_deref());
        if let Some(stored) = self.view.get(key)? {
            self.remove_pieces(key, Some(&stored));
            self.writes.insert(key.to_vec(), None);
        } else {
            self.writes.remove(key);
        }
        Ok(())
    }

    fn remove_pieces(&mut self, key: &[u8], head: Option<&[u8]>) {
        for number in 0..head.and_then(piece_count).unwrap_or(0) {
            self.writes.insert(keys::piece(key, number), None);
        }
    }

    /// Whether there will be a value under a key.
    pub(super) fn contains(&self, key: &[u8]) -> Result<bool, Error> {
        match self.writes.get(key) {
            Some(write) => Ok(write.is_some()),
            None => Ok(self.view.get(key)?.is_some()),
        }
    }

    /// What is to be written.
    pub(super) fn into_writes(self) -> Writes {
        self.writes
    }

    fn pack(&mut self, value: &[u8]) -> Result<Vec<u8>, Error> {
        let mut packed = Vec::with_capacity(value.len().min(PIECE_BYTES) + 1);
        let length = u32::try_from(value.len()).ok().filter(|it| *it <= VALUE_BYTES_MAX);
        let length = length.ok_or_else(|| {
            Error::Failed(format!("a value is larger than 1 GiB: `{}` bytes", value.len()))
        })?;
        if value.len() >= COMPRESS_BYTES_MIN {
            let small =
                self.compressor.compress(value).map_err(|e| failed("compress a value", &e))?;
            if small.len() + size_of::<u32>() < value.len() {
                packed.push(ZSTD);
                packed.extend(length.to_be_bytes());
                packed.extend(small);
                return Ok(packed);
            }
        }
        packed.push(RAW);
        packed.extend(value);
        Ok(packed)
    }
}

/// Reads the value whose first part was found under `key`.
pub(super) fn value(view: &dyn View, key: &[u8], head: &[u8]) -> Result<Vec<u8>, Error> {
    let Some(count) = piece_count(head) else { return unpack(head) };
    let mut packed = Vec::with_capacity(count as usize * PIECE_BYTES);
    let mut found = 0;
    for piece in view.prefix(&keys::pieces(key)) {
        packed.extend(piece?.1);
        found += 1;
    }
    if found != count {
        return Err(damaged(&format!("a value has `{found}` of `{count}` pieces")));
    }
    unpack(&packed)
}

fn piece_count(head: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(head.strip_prefix(&[PIECES])?.try_into().ok()?))
}

fn unpack(packed: &[u8]) -> Result<Vec<u8>, Error> {
    match packed.split_first() {
        Some((&RAW, value)) => Ok(value.to_vec()),
        Some((&ZSTD, rest)) => {
            let (length, small) =
                rest.split_first_chunk().ok_or_else(|| damaged("a value is cut short"))?;
            let length = u32::from_be_bytes(*length).min(VALUE_BYTES_MAX) as usize;
            zstd::bulk::decompress(small, length)
                .map_err(|e| damaged(&format!("a value cannot be decompressed: `{e}`")))
        }
        Some((format, _)) => Err(damaged(&format!("a value has the unknown format `{format}`"))),
        None => Err(damaged("a value is empty")),
    }
}

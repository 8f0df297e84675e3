//! How a value is written: a format byte, a check number, compressed if that pays, in pieces if it
//! is large.

use super::super::Error;
use super::digest::Digest;
use super::{View, damaged, keys};
use std::collections::BTreeMap;

/// The largest value that an engine is given, in bytes.
///
/// sled moves a page over a quarter of a segment (128 KiB) into a file of its own that it never
/// syncs. It splits a page by the number of entries, at 17, and may join up to 4 more: 21 entries
/// of 4 KiB with their keys stay below that.
const PIECE_BYTES: usize = 4096;

/// Smaller values are not worth compressing, in bytes.
const COMPRESS_BYTES_MIN: usize = 1024;
/// A larger length can only be damage, in bytes.
const VALUE_BYTES_MAX: u32 = 1 << 30;

// The format bytes. Stored: never change a meaning. Format 1 of the store had no check numbers.
const UNCHECKED_RAW: u8 = 0;
const UNCHECKED_ZSTD: u8 = 1;
const UNCHECKED_PIECES: u8 = 2;
const RAW: u8 = 3;
const LZ4: u8 = 4;
const PIECES: u8 = 5;

/// LZ4 never makes more than this of a byte.
const LZ4_RATIO_MAX: usize = 255;

/// The format byte and the check number.
const HEAD_BYTES: usize = 1 + size_of::<u32>();

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
    writes: Writes,
    digest: Digest,
}

impl<'a> Staged<'a> {
    /// Begins with nothing, over what has this digest.
    pub(super) fn new(view: &'a dyn View, digest: Digest) -> Self {
        Self { view, writes: Writes::new(), digest }
    }

    /// Writes under a key that was never used before.
    pub(super) fn put_new(&mut self, key: Vec<u8>, value: &[u8]) -> Result<(), Error> {
        let packed = pack(&key, value)?;
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
        head.extend(check_of(&key, &packed).to_be_bytes());
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
        let is_staged = self.writes.contains_key(key);
        self.remove_pieces(key, old.as_deref());
        if let Some(stored) = self.view.get(key)? {
            if !is_staged {
                self.digest.remove(key, &stored);
            }
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

    /// What is to be written, with the digest of what is there then.
    pub(super) fn into_writes(mut self) -> Result<(Writes, Digest), Error> {
        if self.writes.is_empty() {
            return Ok((self.writes, self.digest));
        }
        for (key, value) in &self.writes {
            if let Some(value) = value {
                self.digest.add(key, value);
            }
        }
        self.digest.writes += 1;
        put_digest(&mut self.writes, &self.digest)?;
        Ok((self.writes, self.digest))
    }
}

/// Writes the digest, which is short.
pub(super) fn put_digest(writes: &mut Writes, digest: &Digest) -> Result<(), Error> {
    let key = keys::digest();
    let packed = pack(&key, &digest.to_bytes())?;
    writes.insert(key, Some(packed));
    Ok(())
}

/// Packs a value; [`unpack`] gives it back. The key is part of the check number.
pub(super) fn pack(key: &[u8], value: &[u8]) -> Result<Vec<u8>, Error> {
    let length = u32::try_from(value.len()).ok().filter(|it| *it <= VALUE_BYTES_MAX);
    let length = length.ok_or_else(|| {
        Error::Failed(format!("a value is larger than 1 GiB: `{}` bytes", value.len()))
    })?;
    let mut small = Vec::new();
    if value.len() >= COMPRESS_BYTES_MIN {
        small = lz4_flex::block::compress(value);
    }
    let is_small = !small.is_empty() && small.len() + size_of::<u32>() < value.len();
    let body_bytes = if is_small { size_of::<u32>() + small.len() } else { value.len() };
    let mut packed = Vec::with_capacity(HEAD_BYTES + body_bytes);
    packed.extend([if is_small { LZ4 } else { RAW }, 0, 0, 0, 0]);
    if is_small {
        packed.extend(length.to_be_bytes());
        packed.extend(small);
    } else {
        packed.extend(value);
    }
    let check = check(key, packed.get(HEAD_BYTES..).unwrap_or_default());
    if let Some(place) = packed.get_mut(1..HEAD_BYTES) {
        place.copy_from_slice(&check.to_be_bytes());
    }
    Ok(packed)
}

/// The check number of a value's bytes under its key: a CRC-32, to see damage, not malice.
fn check(key: &[u8], bytes: &[u8]) -> u32 {
    let mut check = crc32fast::Hasher::new();
    check.update(key);
    check.update(bytes);
    check.finalize()
}

/// The check number that the first part of a value carries; for one without, it is computed.
pub(super) fn check_of(key: &[u8], head: &[u8]) -> u32 {
    match head.split_first() {
        Some((&(RAW | LZ4 | PIECES), rest)) => {
            rest.first_chunk().map_or(0, |it| u32::from_be_bytes(*it))
        }
        _ => check(key, head),
    }
}

/// About how many bytes of a value are not in its first part.
pub(super) fn bytes_in_pieces(head: &[u8]) -> u64 {
    piece_count(head).map_or(0, |it| u64::from(it) * PIECE_BYTES as u64)
}

/// Reads the value whose first part was found under `key`.
pub(super) fn value(view: &dyn View, key: &[u8], head: &[u8]) -> Result<Vec<u8>, Error> {
    let Some(count) = piece_count(head) else { return unpack(key, head) };
    let mut packed = Vec::new();
    let mut found = 0;
    for piece in view.prefix(&keys::pieces(key)) {
        packed.extend(piece?.1);
        found += 1;
    }
    if found != count {
        return Err(damaged(&format!("a value has `{found}` of `{count}` pieces")));
    }
    if head.first() == Some(&PIECES) && check_of(key, head) != check_of(key, &packed) {
        return Err(damaged("the pieces of a value are not those that were written"));
    }
    unpack(key, &packed)
}

/// How many pieces a value has; `None` = it is whole.
pub(super) fn piece_count(head: &[u8]) -> Option<u32> {
    let count = match head.split_first()? {
        (&UNCHECKED_PIECES, count) => count,
        (&PIECES, rest) => rest.get(size_of::<u32>()..)?,
        _ => return None,
    };
    Some(u32::from_be_bytes(count.try_into().ok()?))
}

/// Gives a packed value back, unless it is in pieces.
pub(in super::super) fn unpack(key: &[u8], packed: &[u8]) -> Result<Vec<u8>, Error> {
    let (format, rest) = packed.split_first().ok_or_else(|| damaged("a value is empty"))?;
    match *format {
        UNCHECKED_RAW => Ok(rest.to_vec()),
        UNCHECKED_ZSTD => decompress_format_1(rest),
        RAW | LZ4 => {
            let (written, bytes) = rest.split_first_chunk().ok_or_else(cut)?;
            if check(key, bytes) != u32::from_be_bytes(*written) {
                return Err(damaged("a value is not the one that was written"));
            }
            if *format == RAW { Ok(bytes.to_vec()) } else { decompress(bytes) }
        }
        format => Err(damaged(&format!("a value has the unknown format `{format}`"))),
    }
}

fn cut() -> Error {
    damaged("a value is cut short")
}

fn decompress(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let (length, small) = bytes.split_first_chunk().ok_or_else(cut)?;
    let length = u32::from_be_bytes(*length) as usize;
    if length > small.len().saturating_mul(LZ4_RATIO_MAX) {
        return Err(damaged(&format!("a value cannot be that long: `{length}`")));
    }
    lz4_flex::block::decompress(small, length)
        .map_err(|e| damaged(&format!("a value cannot be decompressed: `{e}`")))
}

fn decompress_format_1(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let (length, small) = bytes.split_first_chunk().ok_or_else(cut)?;
    let length = u32::from_be_bytes(*length).min(VALUE_BYTES_MAX) as usize;
    zstd::bulk::decompress(small, length)
        .map_err(|e| damaged(&format!("a value cannot be decompressed: `{e}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl View for Nothing {
        fn get(&self, _: &[u8]) -> Result<Option<Vec<u8>>, Error> {
            Ok(None)
        }

        fn range(&self, _: &[u8], _: &[u8]) -> super::super::Entries<'_> {
            Box::new(std::iter::empty())
        }
    }

    #[test]
    fn what_is_packed_is_unpacked_again() {
        for length in [0, 1, COMPRESS_BYTES_MIN, 100_000] {
            let value: Vec<u8> = [1, 2, 3, 4, 5, 6, 7].into_iter().cycle().take(length).collect();
            let packed = pack(b"key", &value).unwrap();
            assert!(packed.len() <= value.len() / 10 + 20 || length < COMPRESS_BYTES_MIN);
            assert_eq!(unpack(b"key", &packed).unwrap(), value);
            assert!(unpack(b"yek", &packed).is_err(), "it stands under another key");
        }
        let why = decompress(&[0x3f, 0, 0, 0, 1, 2]).unwrap_err().to_string();
        assert!(why.contains("cannot be that long"), "{why}");
    }

    #[test]
    fn a_damaged_head_takes_no_memory() {
        let head = [UNCHECKED_PIECES, 0xff, 0xff, 0xff, 0xff];
        let error = value(&Nothing, b"key", &head).unwrap_err();
        assert!(error.to_string().contains("has `0` of `4294967295` pieces"), "{error}");
    }
}

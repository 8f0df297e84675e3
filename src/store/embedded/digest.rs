//! A sum over everything that is stored, written with each write: what is lost is seen.
//!
//! An engine may lose a page and not know it: sled skips a segment that it cannot read, and redb
//! follows a damaged branch past what lies behind it. So one small value holds the sum over all
//! others, of what a start loads and of the rest. It is kept by adding what is written and taking
//! away what was there before, by the check number that each value carries (`encode`).

use super::super::Error;
use super::{View, damaged, encode, keys};

/// How much there is, and a sum over what it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    /// How many values.
    pub(super) count: u64,
    /// How long they are with their keys, in bytes.
    pub(super) bytes: u64,
    mixed: u64,
}

impl Sum {
    /// Adds a value under its key.
    pub(super) fn add(&mut self, key: &[u8], head: &[u8]) {
        self.count = self.count.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(length(key, head));
        self.mixed = self.mixed.wrapping_add(mixed(key, head));
    }

    fn remove(&mut self, key: &[u8], head: &[u8]) {
        self.count = self.count.wrapping_sub(1);
        self.bytes = self.bytes.wrapping_sub(length(key, head));
        self.mixed = self.mixed.wrapping_sub(mixed(key, head));
    }
}

/// The sums over a whole store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Digest {
    /// What a start loads: open objects, effects and claims.
    pub(super) open: Sum,
    /// History and what is closed.
    pub(super) rest: Sum,
    /// How often the store was written.
    pub(super) writes: u64,
}

impl Digest {
    /// Adds a value under its key.
    pub(super) fn add(&mut self, key: &[u8], head: &[u8]) {
        if let Some(sum) = self.of(key) {
            sum.add(key, head);
        }
    }

    /// Takes a value away that was added.
    pub(super) fn remove(&mut self, key: &[u8], head: &[u8]) {
        if let Some(sum) = self.of(key) {
            sum.remove(key, head);
        }
    }

    /// How long everything is with its keys, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.open.bytes.saturating_add(self.rest.bytes)
    }

    /// The sum that a key counts for. Pieces are counted with their value.
    fn of(&mut self, key: &[u8]) -> Option<&mut Sum> {
        match key.first() {
            None | Some(&(keys::PIECE | keys::DIGEST)) => None,
            Some(&(keys::OPEN | keys::EFFECT | keys::CLAIM)) => Some(&mut self.open),
            Some(_) => Some(&mut self.rest),
        }
    }

    /// As it is stored.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let (open, rest) = (self.open, self.rest);
        let words =
            [open.count, open.bytes, open.mixed, rest.count, rest.bytes, rest.mixed, self.writes];
        words.iter().flat_map(|it| it.to_be_bytes()).collect()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, []) = bytes.as_chunks::<8>() else { return None };
        let words: [[u8; 8]; 7] = words.try_into().ok()?;
        let [count, bytes, mixed, rest @ ..] = words.map(u64::from_be_bytes);
        let open = Sum { count, bytes, mixed };
        let [count, bytes, mixed, writes] = rest;
        Some(Self { open, rest: Sum { count, bytes, mixed }, writes })
    }
}

/// Reads the digest that was written last; `None` = the store was made before there were digests.
pub(super) fn read(view: &dyn View) -> Result<Option<Digest>, Error> {
    let key = keys::digest();
    let Some(head) = view.get(&key)? else { return Ok(None) };
    let bytes = encode::value(view, &key, &head)?;
    let digest =
        Digest::from_bytes(&bytes).ok_or_else(|| damaged("the digest has a bad length"))?;
    Ok(Some(digest))
}

/// Computes the digest of what is there.
pub(super) fn compute(view: &dyn View) -> Result<Digest, Error> {
    let mut digest = Digest::default();
    for entry in view.range(&[], &[u8::MAX]) {
        let (key, head) = entry?;
        digest.add(&key, &head);
    }
    Ok(digest)
}

/// Compares what was found with what was written.
pub(super) fn compare(what: &str, found: Sum, written: Sum) -> Result<(), Error> {
    if found == written {
        return Ok(());
    }
    Err(damaged(&format!(
        "{what}: {} values were written and `{}` are there, or some are not those that were written",
        written.count, found.count
    )))
}

fn length(key: &[u8], head: &[u8]) -> u64 {
    (key.len() + head.len()) as u64 + encode::bytes_in_pieces(head)
}

/// The check number of a value, spread over 64 bits, so that two errors do not cancel out
/// (the finaliser of `SplitMix64`, Steele and others 2014).
fn mixed(key: &[u8], head: &[u8]) -> u64 {
    let space = key.first().copied().unwrap_or(0);
    let mut mixed = u64::from(encode::check_of(key, head)) | u64::from(space) << 32;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_and_taken_away_leaves_nothing() {
        let mut digest = Digest::default();
        for (key, head) in [("oa", "1"), ("eb", "2"), ("rc", "3"), ("pd", "4"), ("z", "5")] {
            digest.add(key.as_bytes(), head.as_bytes());
        }
        assert_eq!((digest.open.count, digest.rest.count, digest.bytes()), (2, 1, 9));
        assert_eq!(Digest::from_bytes(&digest.to_bytes()), Some(digest));
        assert_eq!(Digest::from_bytes(b"short"), None);
        for (key, head) in [("rc", "3"), ("oa", "1"), ("eb", "2")] {
            digest.remove(key.as_bytes(), head.as_bytes());
        }
        assert_eq!(digest, Digest::default());
    }

    #[test]
    fn an_old_value_a_lost_one_and_a_moved_one_are_seen() {
        let sum = |values: &[(&str, &str)]| {
            let mut sum = Sum::default();
            for (key, head) in values {
                sum.add(key.as_bytes(), head.as_bytes());
            }
            sum
        };
        let good = sum(&[("oa", "1"), ("ob", "2")]);
        for bad in [
            &[("oa", "0"), ("ob", "2")][..],
            &[("ob", "2")],
            &[("oa", "2"), ("ob", "1")],
            &[("oa", "1"), ("oa", "1")],
        ] {
            assert!(compare("x", sum(bad), good).is_err(), "{bad:?}");
        }
        assert!(compare("x", sum(&[("ob", "2"), ("oa", "1")]), good).is_ok());
    }
}

//! Whether a chain is whole: every entry as it was written, in its place, none missing.

use super::{AuditEntry, AuditId, Chain, Link};

/// Follows a chain from its anchor on, entry by entry.
pub struct Verifier {
    /// The last entry that was right.
    reached: Link,
    /// What the chain must end with.
    last: Link,
}

/// Where a chain is broken first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at} {reason}")]
pub struct Break {
    /// The first entry that is not as it must be.
    pub at: AuditId,
    /// What is wrong with it.
    pub reason: String,
}

impl Verifier {
    /// Begins at the anchor of a chain.
    pub fn new(chain: Chain) -> Self {
        Self { reached: chain.anchor, last: chain.last }
    }

    /// Takes the next entry. Fails if it is not what must come here.
    pub fn take(&mut self, entry: &AuditEntry) -> Result<(), Break> {
        let expected = AuditId(self.reached.id.0.saturating_add(1));
        let broken = |reason: String| Err(Break { at: expected, reason });
        if entry.id != expected {
            return broken(format!("is missing or not in its place: {} stands there", entry.id));
        }
        if entry.hash != entry.computed_hash() {
            return broken("was changed: its hash is not that of its content".to_owned());
        }
        if entry.previous != self.reached.hash {
            let before = self.reached.id;
            return broken(format!("does not follow {before}: one of the two was made anew"));
        }
        self.reached = entry.link();
        Ok(())
    }

    /// The last entry that was right.
    pub fn reached(&self) -> Link {
        self.reached
    }

    /// There are no more entries. Fails if the last ones are missing.
    pub fn finish(self) -> Result<(), Break> {
        if self.reached == self.last {
            return Ok(());
        }
        let at = AuditId(self.reached.id.0.saturating_add(1));
        let reason = if self.reached.id < self.last.id {
            format!("is missing, and all up to {}", self.last.id)
        } else {
            format!("is not known: the chain ends with {}, of another hash", self.last.id)
        };
        Err(Break { at, reason })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Hash, Link};
    use super::*;
    use jiff::Timestamp;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn chain(first: u64, count: u64) -> (Chain, Vec<AuditEntry>) {
        let anchor = Link { id: AuditId(first - 1), hash: Hash::of(b"before") };
        let mut last = anchor;
        let entries = (first..first + count).map(|number| {
            let mut entry = AuditEntry {
                action: "note_incident".to_owned(),
                at: Timestamp::UNIX_EPOCH,
                by: "ann".to_owned(),
                details: BTreeMap::from([("text".to_owned(), number.to_string())]),
                hash: Hash::default(),
                id: AuditId(number),
                outcome: "done".to_owned(),
                previous: last.hash,
                subject: "INC-1".to_owned(),
            };
            entry.hash = entry.computed_hash();
            last = entry.link();
            entry
        });
        let entries = entries.collect();
        (Chain { anchor, last }, entries)
    }

    fn verify(chain: Chain, entries: &[AuditEntry]) -> Result<(), Break> {
        let mut verifier = Verifier::new(chain);
        entries.iter().try_for_each(|it| verifier.take(it))?;
        verifier.finish()
    }

    #[test]
    fn a_chain_without_entries_is_whole() {
        assert_eq!(verify(Chain::default(), &[]), Ok(()));
        let (chain, entries) = chain(5, 3);
        assert_eq!(verify(chain, &entries), Ok(()));
        let unknown = Chain { last: Link::default(), ..chain };
        assert_eq!(verify(unknown, &entries).unwrap_err().at, AuditId(8));
    }

    proptest! {
        #[test]
        fn whatever_was_changed_is_named(
            first in 1..5_u64, count in 2..20_u64, place: prop::sample::Index, way in 0..6
        ) {
            let (chain, mut entries) = chain(first, count);
            let mut place = place.index(entries.len());
            match way {
                0 => entries[place].by.push('a'),
                1 => drop(entries.remove(place)),
                2 => {
                    place = place.min(entries.len() - 2);
                    entries.swap(place, place + 1);
                }
                3 => {
                    // Its hash is made anew: the next one, or the end, tells.
                    entries[place].details.clear();
                    entries[place].hash = entries[place].computed_hash();
                    place += 1;
                }
                4 => {
                    let twice = entries[place].clone();
                    entries.insert(place, twice);
                    place += 1;
                }
                _ => entries[place].previous = Hash::of(b"other"),
            }
            let broken = verify(chain, &entries).unwrap_err();
            prop_assert_eq!(broken.at, AuditId(first + place as u64));
        }
    }
}

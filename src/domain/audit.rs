//! The audit trail: who changed what, when and to what end, as a chain of hashes.
//!
//! An entry names the hash of the one before it, so that none can be changed, removed or moved
//! without breaking what comes after it. Which bytes are hashed stands in `docs/audit.md`.

mod note;
mod verify;

pub use verify::{Break, Verifier};

use super::{Closed, ObjectKey, State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

super::numbered_id!(
    /// The number of an entry; printed `AUD-9`. The first is `AUD-1`.
    AuditId,
    "AUD"
);

/// A SHA-256, as 64 hexadecimal digits in text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hash([u8; 32]);

impl Hash {
    /// The hash of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
        let mut hash = Self::default();
        for (ours, theirs) in hash.0.iter_mut().zip(digest.as_ref()) {
            *ours = *theirs;
        }
        hash
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: [char; 16] =
            ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
        let halves = self.0.iter().flat_map(|it| [it >> 4, it & 0xf]);
        let digits = halves.filter_map(|it| DIGITS.get(usize::from(it)));
        f.write_str(&digits.collect::<String>())
    }
}

impl FromStr for Hash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("expected 64 hexadecimal digits in small letters, not `{text}`");
        let digit = |it: &u8| match it {
            b'0'..=b'9' => Some(it - b'0'),
            b'a'..=b'f' => Some(it - b'a' + 10),
            _ => None,
        };
        if text.len() != 64 {
            return Err(bad());
        }
        let mut hash = Self::default();
        for (ours, pair) in hash.0.iter_mut().zip(text.as_bytes().chunks(2)) {
            let [high, low] = pair else { return Err(bad()) };
            let (high, low) = digit(high).zip(digit(low)).ok_or_else(bad)?;
            *ours = high << 4 | low;
        }
        Ok(hash)
    }
}

impl Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A place in the chain: an entry and its hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The entry; `AUD-0` = the place before the first.
    pub id: AuditId,
    /// Its hash; that of `AUD-0` is 64 zeros.
    pub hash: Hash,
}

/// What must be known of the chain beside its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// What went before the first entry that is kept: the last that was let go.
    pub anchor: Link,
    /// The last entry.
    pub last: Link,
}

/// Something that was changed, or that somebody wanted to change. Stored, and hashed: the fields
/// are sorted by name, and a further one would need a new chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditEntry {
    /// What was done: the name of a command, `rules_loaded`, `step_begun`, `step_ended`, `run`, …
    pub action: String,
    /// When.
    pub at: Timestamp,
    /// Who: a person or a token's name, `runbook NAME`, or `watchkeeper`.
    pub by: String,
    /// With what; long texts are cut, and their SHA-256 told.
    pub details: BTreeMap<String, String>,
    /// The hash of all the rest.
    pub hash: Hash,
    /// Its place in the chain.
    pub id: AuditId,
    /// What came of it: `done`, `refused: …`, or the result of a step.
    pub outcome: String,
    /// The hash of the entry before it.
    pub previous: Hash,
    /// To what it was done: the id or the name of an object; may be empty.
    pub subject: String,
}

/// An entry without its hash: what the hash is made over, as canonical JSON (RFC 8785), since the
/// fields are sorted and all values are texts.
#[derive(Serialize)]
struct Hashed<'a> {
    action: &'a str,
    at: Timestamp,
    by: &'a str,
    details: &'a BTreeMap<String, String>,
    id: AuditId,
    outcome: &'a str,
    previous: Hash,
    subject: &'a str,
}

impl AuditEntry {
    /// The hash that it must have.
    pub fn computed_hash(&self) -> Hash {
        let hashed = Hashed {
            action: &self.action,
            at: self.at,
            by: &self.by,
            details: &self.details,
            id: self.id,
            outcome: &self.outcome,
            previous: self.previous,
            subject: &self.subject,
        };
        Hash::of(&serde_json::to_vec(&hashed).expect("our own types have text keys only"))
    }

    /// Its place in the chain.
    pub fn link(&self) -> Link {
        Link { id: self.id, hash: self.hash }
    }
}

impl State {
    /// Adds an entry; the chain gives its place and its hashes.
    fn add_to_audit(&mut self, mut entry: AuditEntry) {
        let last = &mut self.memory.audit.last;
        entry.id = AuditId(last.id.0.saturating_add(1));
        entry.previous = last.hash;
        entry.hash = entry.computed_hash();
        *last = entry.link();
        self.changes.objects.insert(ObjectKey::Memory);
        self.changes.closed.push(Closed::Audit(Box::new(entry)));
    }

    /// Lets the entries up to one go, because they are old; its hash stays as the anchor.
    pub(super) fn audit_trimmed(&mut self, up_to: Link) {
        let chain = &mut self.memory.audit;
        if up_to.id <= chain.anchor.id || up_to.id > chain.last.id {
            return;
        }
        let gone = chain.anchor.id.0 + 1..=up_to.id.0;
        chain.anchor = up_to;
        self.changes.objects.insert(ObjectKey::Memory);
        self.changes.objects.extend(gone.map(|it| ObjectKey::Audit(AuditId(it))));
    }

    /// The store came back without its entries: the chain goes on after what a snapshot knew of
    /// it, and leaves out the numbers that may have been given since.
    pub(super) fn audit_lost(&mut self, left_out: u64) {
        let chain = &mut self.memory.audit;
        chain.last.id.0 = chain.last.id.0.saturating_add(left_out);
        chain.anchor = chain.last;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_the_one_that_others_compute() {
        let hash = Hash::of(b"abc").to_string();
        assert_eq!(hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(hash.parse(), Ok(Hash::of(b"abc")));
        for bad in
            ["", "ba", &hash.to_uppercase(), &hash.replace('b', "é"), &hash.replace('b', "+")]
        {
            assert!(bad.parse::<Hash>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_hash_is_made_over_canonical_json() {
        let details = BTreeMap::from([("a".to_owned(), "\u{7f}é\n\u{1}\"".to_owned())]);
        let mut entry = AuditEntry {
            action: "note_incident".to_owned(),
            at: "2026-01-01T00:00:00.5Z".parse().unwrap(),
            by: "ann".to_owned(),
            details,
            hash: Hash::default(),
            id: AuditId(1),
            outcome: "done".to_owned(),
            previous: Hash::default(),
            subject: "INC-1".to_owned(),
        };
        let text = format!(
            r#"{{"action":"note_incident","at":"2026-01-01T00:00:00.5Z","by":"ann","details":{{"a":"{}\n\u0001\""}},"id":"AUD-1","outcome":"done","previous":"{}","subject":"INC-1"}}"#,
            "\u{7f}é",
            "0".repeat(64)
        );
        assert_eq!(entry.computed_hash(), Hash::of(text.as_bytes()));
        entry.hash = entry.computed_hash();
        let written = serde_json::to_string(&entry).unwrap();
        assert_eq!(serde_json::from_str::<AuditEntry>(&written).unwrap(), entry);
        let more = written.replace("{\"action\"", "{\"added\":\"x\",\"action\"");
        assert!(serde_json::from_str::<AuditEntry>(&more).is_err(), "nothing is outside the hash");
    }
}

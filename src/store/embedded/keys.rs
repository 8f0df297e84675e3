//! The keys of the one tree: a letter for the space, then parts whose bytes sort as they mean.

use super::super::Kind;
use crate::domain::effect::EffectKey;
use jiff::Timestamp;

/// Records by `seq`, in stores of format 1 only; since then they are in the inbox.
pub(super) const RECORD: u8 = b'r';
/// The `seq` of the first record that is kept; the ones before it are removed file by file.
pub(super) const FIRST_RECORD: u8 = b'f';
/// Turns, a commit's worth each, by the number of the first.
pub(super) const TURNS: u8 = b't';
/// Open objects, by kind and id.
pub(super) const OPEN: u8 = b'o';
/// Closed objects, by kind and id.
pub(super) const CLOSED: u8 = b'c';
/// Which objects were closed when, by time, kind and id.
pub(super) const CLOSED_AT: u8 = b'x';
/// Timelines, a commit's worth each, by object id and the number of the first entry.
pub(super) const TIMELINE: u8 = b'l';
/// Effects without a result, by their key.
pub(super) const EFFECT: u8 = b'e';
/// Which of them are claimed.
pub(super) const CLAIM: u8 = b'k';
/// The pieces of values that are too large for one, by the value's key and the piece's number.
pub(super) const PIECE: u8 = b'p';

/// The digest of all others. The last of all keys, beside small values: it is written often, and
/// an engine writes what stands beside it again.
pub(super) const DIGEST: u8 = b'z';

/// Ends the text of an id. A NUL within the text becomes `NUL 0xff`, which sorts after it.
const TEXT_END: [u8; 2] = [0, 1];
const ESCAPED_NUL: [u8; 2] = [0, 0xff];

/// The key of the digest.
pub(super) fn digest() -> Vec<u8> {
    vec![DIGEST]
}

/// The key of a commit's turns.
pub(super) fn turns(first: u64) -> Vec<u8> {
    numbered(TURNS, first)
}

fn numbered(space: u8, number: u64) -> Vec<u8> {
    let mut key = vec![space];
    key.extend(number.to_be_bytes());
    key
}

/// What the keys of a kind's objects begin with; `space` is [`OPEN`] or [`CLOSED`].
pub(super) fn kind(space: u8, kind: Kind) -> Vec<u8> {
    vec![space, byte_of_kind(kind)]
}

/// The key of an object; `space` is [`OPEN`] or [`CLOSED`].
pub(super) fn object(space: u8, kind: Kind, id: &str) -> Vec<u8> {
    let mut key = self::kind(space, kind);
    push_id(&mut key, id);
    key
}

/// The key that tells when an object was closed.
pub(super) fn closed_at(at: Timestamp, kind: Kind, id: &str) -> Vec<u8> {
    let mut key = vec![CLOSED_AT];
    key.extend(time(at));
    key.push(byte_of_kind(kind));
    push_id(&mut key, id);
    key
}

/// A time in microseconds, so that its bytes sort as it does.
pub(super) fn time(at: Timestamp) -> [u8; 8] {
    (at.as_microsecond() ^ i64::MIN).to_be_bytes()
}

/// Reads what [`time`] wrote, at the beginning of a value.
pub(super) fn read_time(value: &[u8]) -> Option<Timestamp> {
    let microseconds = i64::from_be_bytes(*value.first_chunk()?) ^ i64::MIN;
    Timestamp::from_microsecond(microseconds).ok()
}

/// The object's id and the number of the first entry that the key of a timeline's part names.
pub(super) fn read_timeline(key: &[u8]) -> Option<(String, u64)> {
    let (id, number) = key.get(1..)?.split_last_chunk()?;
    Some((read_id(id)?, u64::from_be_bytes(*number)))
}

/// What the keys of an object's timeline begin with.
pub(super) fn timeline_of(id: &str) -> Vec<u8> {
    let mut key = vec![TIMELINE];
    push_id(&mut key, id);
    key
}

/// The key of a commit's entries in an object's timeline.
pub(super) fn timeline(id: &str, first: u64) -> Vec<u8> {
    let mut key = timeline_of(id);
    key.extend(first.to_be_bytes());
    key
}

/// The key of an effect; `space` is [`EFFECT`] or [`CLAIM`].
pub(super) fn effect(space: u8, effect: &EffectKey) -> Vec<u8> {
    let mut key = vec![space];
    key.extend(effect.0.as_bytes());
    key
}

/// What the keys of a value's pieces begin with. The length keeps the pieces of one value apart
/// from those of another whose key begins alike.
pub(super) fn pieces(value: &[u8]) -> Vec<u8> {
    let mut key = vec![PIECE];
    key.extend(u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
    key.extend(value);
    key
}

/// The key of one piece, from 0.
pub(super) fn piece(value: &[u8], number: u32) -> Vec<u8> {
    let mut key = pieces(value);
    key.extend(number.to_be_bytes());
    key
}

/// The first key after all that begin with `prefix`, which is not empty.
pub(super) fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end
}

/// The first key after a key.
pub(super) fn after(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

/// The number that a key ends in.
pub(super) fn last_number(key: &[u8]) -> Option<u64> {
    key.last_chunk().map(|it| u64::from_be_bytes(*it))
}

/// The kind and the id that a key names after its first `skip` bytes.
pub(super) fn kind_and_id(key: &[u8], skip: usize) -> Option<(Kind, String)> {
    let (byte, id) = key.get(skip..)?.split_first()?;
    Some((kind_of_byte(*byte)?, read_id(id)?))
}

/// Appends an id. A number at its end counts as a number, so that `INC-10` sorts after `INC-9`;
/// zeros before the number belong to the text.
fn push_id(key: &mut Vec<u8>, id: &str) {
    let (text, number) = split_number(id);
    for byte in text.bytes() {
        if byte == 0 {
            key.extend(ESCAPED_NUL);
        } else {
            key.push(byte);
        }
    }
    key.extend(TEXT_END);
    if let Some(number) = number {
        key.push(1);
        key.extend(number.to_be_bytes());
    } else {
        key.push(0);
    }
}

/// Reads what [`push_id`] wrote.
fn read_id(mut bytes: &[u8]) -> Option<String> {
    let mut text = Vec::new();
    let number = loop {
        if let Some(rest) = bytes.strip_prefix(&TEXT_END) {
            break rest;
        } else if let Some(rest) = bytes.strip_prefix(&ESCAPED_NUL) {
            text.push(0);
            bytes = rest;
        } else {
            let (byte, rest) = bytes.split_first()?;
            text.push(*byte);
            bytes = rest;
        }
    };
    let mut id = String::from_utf8(text).ok()?;
    if let Some(number) = number.strip_prefix(&[1]) {
        id.push_str(&u64::from_be_bytes(number.try_into().ok()?).to_string());
    }
    Some(id)
}

fn split_number(id: &str) -> (&str, Option<u64>) {
    let digits = id.len() - id.trim_end_matches(|it: char| it.is_ascii_digit()).len();
    let (text, run) = id.split_at(id.len() - digits);
    let written = match run.trim_start_matches('0') {
        "" if run.is_empty() => return (id, None),
        "" => "0",
        it => it,
    };
    match written.parse() {
        Ok(number) => (id.get(..id.len() - written.len()).unwrap_or(text), Some(number)),
        Err(_) => (id, None),
    }
}

/// Stored: never change a byte's meaning.
fn byte_of_kind(kind: Kind) -> u8 {
    match kind {
        Kind::AlertPage => 1,
        Kind::Alert => 2,
        Kind::Incident => 3,
        Kind::Execution => 4,
        Kind::Problem => 5,
        Kind::Silence => 6,
        Kind::Notification => 7,
        Kind::Memory => 8,
        Kind::Rules => 9,
        Kind::Article => 22,
        Kind::Feedback => 23,
        Kind::Heartbeat => 16,
        Kind::Change => 10,
        Kind::Noise => 17,
        Kind::Experience => 18,
        Kind::Freeze => 19,
        Kind::LearnedPlace => 20,
        Kind::Habit => 24,
        Kind::Audit => 30,
    }
}

fn kind_of_byte(byte: u8) -> Option<Kind> {
    Some(match byte {
        1 => Kind::AlertPage,
        2 => Kind::Alert,
        3 => Kind::Incident,
        4 => Kind::Execution,
        5 => Kind::Problem,
        6 => Kind::Silence,
        7 => Kind::Notification,
        8 => Kind::Memory,
        9 => Kind::Rules,
        22 => Kind::Article,
        23 => Kind::Feedback,
        16 => Kind::Heartbeat,
        10 => Kind::Change,
        17 => Kind::Noise,
        18 => Kind::Experience,
        19 => Kind::Freeze,
        20 => Kind::LearnedPlace,
        24 => Kind::Habit,
        30 => Kind::Audit,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(id: &str) -> Vec<u8> {
        object(OPEN, Kind::Incident, id)
    }

    #[test]
    fn ids_sort_as_people_count() {
        let sorted = ["", "0", "9", "10", "EXE-2", "INC-0", "INC-9", "INC-10", "INC-100", "a", "b"];
        for (lower, upper) in sorted.iter().zip(sorted.iter().skip(1)) {
            assert!(key(lower) < key(upper), "`{lower}` must sort before `{upper}`");
        }
    }

    #[test]
    fn every_kind_has_its_byte() {
        for byte in 0..=u8::MAX {
            if let Some(kind) = kind_of_byte(byte) {
                assert_eq!(byte_of_kind(kind), byte);
            }
        }
        assert_eq!(kind_of_byte(byte_of_kind(Kind::Rules)), Some(Kind::Rules));
    }

    #[test]
    fn no_timeline_begins_another() {
        for (one, other) in [("INC-1", "INC-11"), ("a", "a\0"), ("a", "ab"), ("", "1")] {
            assert!(!timeline_of(other).starts_with(&timeline_of(one)), "`{one}` and `{other}`");
        }
    }

    proptest! {
        #[test]
        fn an_id_survives(id in "[a-z0\u{0}\u{1}\u{ff}é-]{0,6}[0-9]{0,24}") {
            prop_assert_eq!(kind_and_id(&key(&id), 1), Some((Kind::Incident, id)));
        }

        #[test]
        fn any_text_survives(id in ".*") {
            prop_assert_eq!(kind_and_id(&key(&id), 1), Some((Kind::Incident, id)));
        }

        #[test]
        fn numbers_sort_by_value(one: u64, other: u64) {
            let (a, b) = (key(&format!("INC-{one}")), key(&format!("INC-{other}")));
            prop_assert_eq!(a.cmp(&b), one.cmp(&other));
        }

        #[test]
        fn text_sorts_by_its_bytes(one in "[a-z\u{0}\u{1}é]{0,6}", other in "[a-z\u{0}\u{1}é]{0,6}") {
            prop_assert_eq!(key(&one).cmp(&key(&other)), one.cmp(&other));
        }

        #[test]
        fn times_sort(one in -1_000_000_000_000_i64.., other in -1_000_000_000_000_i64..) {
            let clamp = |it: i64| Timestamp::from_microsecond(it.min(4_000_000_000_000_000)).unwrap();
            let (one, other) = (clamp(one), clamp(other));
            prop_assert_eq!(time(one).cmp(&time(other)), one.cmp(&other));
        }
    }
}

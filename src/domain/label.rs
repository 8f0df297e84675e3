//! Labels and the fingerprint that they give an alert.

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// A set of labels (or annotations), sorted by name, without empty values.
///
/// All names and values share one piece of text, because a hundred thousand alerts are in memory
/// at once and two strings a label would cost three times as much.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels {
    /// Names and values one after the other: `name`, `value`, `name`, `value`, …
    text: Box<str>,
    /// Where each name and each value ends in `text`, in bytes.
    ends: Box<[u32]>,
}

impl Labels {
    /// Builds a set from pairs in any order. An empty value means that the label is absent, as in
    /// Prometheus; of two pairs with one name the later wins.
    pub fn from_pairs<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: AsRef<str>,
        V: AsRef<str>,
    {
        let pairs: Vec<(N, V)> = pairs.into_iter().collect();
        let mut sorted: Vec<(&str, &str)> =
            pairs.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect();
        // The sort is stable, so that the last of those with one name is the latest.
        sorted.sort_by_key(|(name, _)| *name);
        let mut text = String::with_capacity(sorted.iter().map(|it| it.0.len() + it.1.len()).sum());
        let mut ends = Vec::with_capacity(sorted.len() * 2);
        let mut rest = sorted.as_slice();
        while let [(name, value), later @ ..] = rest {
            rest = later;
            let is_replaced = later.first().is_some_and(|(next, _)| next == name);
            if is_replaced || value.is_empty() {
                continue;
            }
            for part in [name, value] {
                text.push_str(part);
                ends.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
            }
        }
        Self { text: text.into(), ends: ends.into() }
    }

    /// The pairs in order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut start = 0;
        self.ends.chunks_exact(2).map(move |ends| {
            let (name_end, value_end) = (end(ends, 0), end(ends, 1));
            let pair = (self.slice(start, name_end), self.slice(name_end, value_end));
            start = value_end;
            pair
        })
    }

    /// The value of a label; `None` when it is absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(it, _)| *it == name).map(|(_, value)| value)
    }

    /// How many labels there are.
    pub fn len(&self) -> usize {
        self.ends.len() / 2
    }

    /// Whether there is no label at all.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The identity of an alert with these labels: FNV-1a with 64 bits over `name 0xff value 0xff`
    /// in order of name, as Prometheus' `model.LabelSet` and so Alertmanager compute it.
    pub fn fingerprint(&self) -> Fingerprint {
        const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let mut hash = OFFSET;
        let mut add = |bytes: &[u8]| {
            for byte in bytes {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
            }
            hash = (hash ^ 0xff).wrapping_mul(PRIME);
        };
        for (name, value) in self.iter() {
            add(name.as_bytes());
            add(value.as_bytes());
        }
        Fingerprint(hash)
    }

    fn slice(&self, start: usize, end: usize) -> &str {
        self.text.get(start..end).unwrap_or_default()
    }
}

fn end(ends: &[u32], index: usize) -> usize {
    ends.get(index).map_or(0, |it| *it as usize)
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Prints `{alertname="Down", severity="critical"}`, as Prometheus does.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (index, label) in self.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            write_label(f, label)?;
        }
        f.write_str("}")
    }
}

/// Labels, told to somebody who knows others.
pub(super) struct Beside<'a> {
    pub(super) labels: &'a Labels,
    /// What he knows, if anything.
    pub(super) known: Option<&'a Labels>,
}

/// Prints the alert's name and what is not known: `Down{instance="b"}`.
impl fmt::Display for Beside<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.labels.get(NAME).unwrap_or("an alert"))?;
        let mut before = "{";
        // Both are in the order of their names.
        let mut known = self.known.into_iter().flat_map(Labels::iter).peekable();
        for (name, value) in self.labels.iter() {
            while known.next_if(|(it, _)| *it < name).is_some() {}
            if name != NAME && known.peek() != Some(&(name, value)) {
                f.write_str(before)?;
                write_label(f, (name, value))?;
                before = ", ";
            }
        }
        f.write_str(if before == "{" { "" } else { "}" })
    }
}

/// The label that names an alert.
const NAME: &str = "alertname";

fn write_label(f: &mut fmt::Formatter<'_>, (name, value): (&str, &str)) -> fmt::Result {
    f.write_str(name)?;
    // Most values need no escapes, and looking for them letter by letter takes long.
    if value.bytes().all(|it| matches!(it, b' '..=b'~') && it != b'"' && it != b'\\') {
        f.write_str("=\"")?;
        f.write_str(value)?;
        f.write_str("\"")
    } else {
        write!(f, "={value:?}")
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Labels;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of label names to text values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
                let mut pairs = Vec::with_capacity(map.size_hint().unwrap_or(8).min(64));
                while let Some(pair) = map.next_entry::<String, String>()? {
                    pairs.push(pair);
                }
                Ok(Labels::from_pairs(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// The identity of an alert: the hash of its labels. Printed as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub u64);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Fingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() != 16 {
            return Err(format!("a fingerprint has 16 hexadecimal digits, not `{text}`"));
        }
        u64::from_str_radix(text, 16)
            .map(Self)
            .map_err(|_| format!("a fingerprint has 16 hexadecimal digits, not `{text}`"))
    }
}

/// As text where people read, as a number where many are kept.
impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_u64(self.0)
        }
    }
}

/// Both forms are read from either.
impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Fingerprint;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a fingerprint as 16 hexadecimal digits, or as a number")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Fingerprint, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Fingerprint, E> {
                Ok(Fingerprint(number))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_fingerprint_is_alertmanagers() {
        // Measured against Alertmanager 0.25.0.
        let labels =
            Labels::from_pairs([("severity", "critical"), ("alertname", "bar"), ("instance", "a")]);
        assert_eq!(labels.fingerprint().to_string(), "732b30836e261245");
        assert_eq!("732b30836e261245".parse(), Ok(labels.fingerprint()));
    }

    #[test]
    fn empty_values_are_absent_and_the_later_pair_wins() {
        let labels = Labels::from_pairs([("b", "1"), ("a", ""), ("b", "2")]);
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("b", "2")]);
        assert_eq!(labels.to_string(), r#"{b="2"}"#);
    }

    #[test]
    fn what_is_known_already_is_not_told_again() {
        let labels =
            Labels::from_pairs([("alertname", "Down"), ("b", "1"), ("c", "2"), ("e", "3")]);
        let known = Labels::from_pairs([("a", "0"), ("b", "1"), ("c", "9"), ("d", "0")]);
        let beside = |known| Beside { labels: &labels, known }.to_string();
        assert_eq!(beside(Some(&known)), r#"Down{c="2", e="3"}"#);
        assert_eq!(beside(Some(&labels)), "Down");
        assert_eq!(beside(None), r#"Down{b="1", c="2", e="3"}"#);
    }

    proptest! {
        #[test]
        fn json_gives_the_same_labels_back(pairs in proptest::collection::btree_map("\\PC{1,8}", "\\PC{1,8}", 0..8)) {
            let labels = Labels::from_pairs(&pairs);
            let text = serde_json::to_string(&labels).unwrap();
            prop_assert_eq!(serde_json::from_str::<Labels>(&text).unwrap(), labels.clone());
            prop_assert_eq!(labels.len(), pairs.len());
            for (name, value) in &pairs {
                prop_assert_eq!(labels.get(name), Some(value.as_str()));
            }
        }
    }
}

//! How the times of alerts are stored: as text where people read, as a number where many are kept.

use jiff::Timestamp;
use serde::de::{Deserializer, Error, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A time in nanoseconds since 1970 in a compact format, in RFC 3339 in a readable one. Both are
/// read back from either.
struct StoredTime(Timestamp);

impl Serialize for StoredTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match i64::try_from(self.0.as_nanosecond()) {
            Ok(nanoseconds) if !serializer.is_human_readable() => {
                serializer.serialize_i64(nanoseconds)
            }
            _ => self.0.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for StoredTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = StoredTime;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time in RFC 3339, or in nanoseconds since 1970")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<StoredTime, E> {
                text.parse().map(StoredTime).map_err(E::custom)
            }

            fn visit_i64<E: Error>(self, nanoseconds: i64) -> Result<StoredTime, E> {
                let at = Timestamp::from_nanosecond(nanoseconds.into());
                at.map(StoredTime).map_err(E::custom)
            }

            fn visit_u64<E: Error>(self, nanoseconds: u64) -> Result<StoredTime, E> {
                let at = Timestamp::from_nanosecond(nanoseconds.into());
                at.map(StoredTime).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// Writes a time; for `serde(with)`.
pub(super) fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    StoredTime(*at).serialize(serializer)
}

/// Reads a time; for `serde(with)`.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Timestamp, D::Error> {
    StoredTime::deserialize(deserializer).map(|it| it.0)
}

/// The same for a time that may be absent.
pub(super) mod option {
    use super::{Deserialize, Deserializer, Serialize, Serializer, StoredTime, Timestamp};

    /// Writes a time; for `serde(with)`.
    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub(in super::super) fn serialize<S: Serializer>(
        at: &Option<Timestamp>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        at.map(StoredTime).serialize(serializer)
    }

    /// Reads a time; for `serde(with)`.
    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        Ok(Option::<StoredTime>::deserialize(deserializer)?.map(|it| it.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_give_the_time_back() {
        let times =
            ["2026-11-22T17:00:00.123456789Z", "1970-01-01T00:00:00Z", "1901-01-01T00:00:00Z"];
        for text in times {
            let at: Timestamp = text.parse().unwrap();
            let readable = serde_json::to_string(&StoredTime(at)).unwrap();
            assert_eq!(readable, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<StoredTime>(&readable).unwrap().0, at);
            let compact = rmp_serde::to_vec(&StoredTime(at)).unwrap();
            assert!(compact.len() <= 9, "{text}: {} bytes", compact.len());
            assert_eq!(rmp_serde::from_slice::<StoredTime>(&compact).unwrap().0, at);
        }
        let far = Timestamp::MAX;
        let compact = rmp_serde::to_vec(&StoredTime(far)).unwrap();
        assert_eq!(rmp_serde::from_slice::<StoredTime>(&compact).unwrap().0, far);
    }
}

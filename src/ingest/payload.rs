//! Reads alerts out of JSON without copying: what is no alert is remembered as what it is, so
//! that one bad alert does not cost its neighbours.

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// The most alerts that one delivery may have.
pub(super) const ALERTS_MAX: usize = 10_000;
/// Pairs beyond this many are not kept: no set this large is accepted, see `validate`.
const PAIRS_KEPT_MAX: usize = 1024;

/// A JSON value, read with an expectation that it may disappoint.
#[derive(Debug, Default)]
pub(super) enum Value<'a> {
    /// `null`, or not there at all.
    #[default]
    Absent,
    /// Text; borrowed where it has no escapes.
    Text(Cow<'a, str>),
    /// The pairs of labels or annotations.
    Pairs(Vec<(Cow<'a, str>, Value<'a>)>),
    /// An alert.
    Alert(Box<RawAlert<'a>>),
    /// Something else; the words for it.
    Other(&'static str),
}

impl Value<'_> {
    /// The words for what it is, for refusals.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Absent => "null",
            Self::Text(_) => "text",
            Self::Pairs(_) | Self::Alert(_) => "an object",
            Self::Other(kind) => kind,
        }
    }
}

/// An alert as it was written, not yet checked. Unknown fields are left out.
#[derive(Debug, Default)]
pub(super) struct RawAlert<'a> {
    /// `labels`.
    pub(super) labels: Value<'a>,
    /// `annotations`.
    pub(super) annotations: Value<'a>,
    /// `startsAt`.
    pub(super) starts_at: Value<'a>,
    /// `endsAt`.
    pub(super) ends_at: Value<'a>,
    /// `generatorURL`.
    pub(super) generator_url: Value<'a>,
    /// `status`; only webhooks have it.
    pub(super) status: Value<'a>,
}

/// One alert, or what stands in its place.
pub(super) struct OneAlert<'a>(pub(super) Value<'a>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for OneAlert<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(deserializer.deserialize_any(Expected::Alert)?))
    }
}

/// A list of alerts.
#[derive(Debug, Default)]
pub(super) struct RawAlerts<'a> {
    /// The first [`ALERTS_MAX`].
    pub(super) alerts: Vec<Value<'a>>,
    /// How many there were.
    pub(super) count: usize,
}

impl<'de: 'a, 'a> serde::Deserialize<'de> for RawAlerts<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AlertsVisitor)
    }
}

struct AlertsVisitor;

impl<'de> Visitor<'de> for AlertsVisitor {
    type Value = RawAlerts<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of alerts")
    }

    /// Programs written in Go send `null` for an empty list.
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(RawAlerts::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut raw_alerts = RawAlerts::default();
        while raw_alerts.count < ALERTS_MAX {
            let Some(alert) = list.next_element_seed(Expected::Alert)? else {
                return Ok(raw_alerts);
            };
            raw_alerts.alerts.push(alert);
            raw_alerts.count += 1;
        }
        while list.next_element::<IgnoredAny>()?.is_some() {
            raw_alerts.count += 1;
        }
        Ok(raw_alerts)
    }
}

/// What a value should be.
#[derive(Clone, Copy)]
enum Expected {
    Text,
    Pairs,
    Alert,
}

impl<'de> DeserializeSeed<'de> for Expected {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Expected {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Absent)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value<'de>, E> {
        Ok(Value::Other("a boolean"))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Value<'de>, E> {
        Ok(Value::Other("a number"))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value<'de>, E> {
        Ok(Value::Other("a number"))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value<'de>, E> {
        Ok(Value::Other("a number"))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value<'de>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Other("a list"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value<'de>, A::Error> {
        match self {
            Self::Text => {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Value::Other("an object"))
            }
            Self::Pairs => read_pairs(map),
            Self::Alert => read_alert(map),
        }
    }
}

/// A key of an object, borrowed where it has no escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_str(Expected::Text)? {
            Value::Text(text) => Ok(Self(text)),
            other => Err(serde::de::Error::custom(format!("a key is {}", other.kind()))),
        }
    }
}

fn read_pairs<'de, A: MapAccess<'de>>(mut map: A) -> Result<Value<'de>, A::Error> {
    let mut pairs = Vec::with_capacity(8);
    while let Some(Key(name)) = map.next_key()? {
        if pairs.len() < PAIRS_KEPT_MAX {
            pairs.push((name, map.next_value_seed(Expected::Text)?));
        } else {
            map.next_value::<IgnoredAny>()?;
        }
    }
    Ok(Value::Pairs(pairs))
}

fn read_alert<'de, A: MapAccess<'de>>(mut map: A) -> Result<Value<'de>, A::Error> {
    let mut alert = RawAlert::default();
    while let Some(Key(name)) = map.next_key()? {
        let (expected, field) = match &*name {
            "labels" => (Expected::Pairs, &mut alert.labels),
            "annotations" => (Expected::Pairs, &mut alert.annotations),
            "startsAt" => (Expected::Text, &mut alert.starts_at),
            "endsAt" => (Expected::Text, &mut alert.ends_at),
            "generatorURL" => (Expected::Text, &mut alert.generator_url),
            "status" => (Expected::Text, &mut alert.status),
            _ => {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
        };
        *field = map.next_value_seed(expected)?;
    }
    Ok(Value::Alert(Box::new(alert)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> RawAlerts<'_> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn text_without_escapes_is_borrowed() {
        let alerts = read(r#"[{"labels":{"a":"b","c\u0041":"d\n"},"x":{"y":[1]}}]"#);
        let Value::Alert(alert) = &alerts.alerts[0] else { panic!("{alerts:?}") };
        let Value::Pairs(pairs) = &alert.labels else { panic!("{alerts:?}") };
        assert!(matches!(&pairs[0], (Cow::Borrowed("a"), Value::Text(Cow::Borrowed("b")))));
        assert!(matches!(&pairs[1], (Cow::Owned(name), Value::Text(Cow::Owned(value)))
            if name == "cA" && value == "d\n"));
    }

    #[test]
    fn what_is_no_alert_is_remembered_as_what_it_is() {
        for (text, kind) in [
            ("[null]", "null"),
            ("[1]", "a number"),
            ("[-1.5]", "a number"),
            ("[true]", "a boolean"),
            ("[\"x\"]", "text"),
            ("[[1,[2]]]", "a list"),
        ] {
            assert_eq!(read(text).alerts[0].kind(), kind, "{text}");
        }
    }

    #[test]
    fn more_alerts_than_allowed_are_counted_but_not_kept() {
        let text = format!("[{}1]", "1,".repeat(ALERTS_MAX + 4));
        let alerts = read(&text);
        assert_eq!((alerts.alerts.len(), alerts.count), (ALERTS_MAX, ALERTS_MAX + 5));
    }

    #[test]
    fn a_deep_body_does_no_harm() {
        let depth = 1_000_000;
        for (open, close) in [("[", "]"), (r#"{"labels":"#, "}")] {
            let text = format!("[{}0{}]", open.repeat(depth), close.repeat(depth));
            assert_eq!(read(&text).count, 1, "{open}");
            let error = serde_json::from_str::<RawAlerts<'_>>(&open.repeat(depth)).unwrap_err();
            assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn a_set_without_an_end_is_not_kept_whole() {
        let pairs: Vec<String> = (0..5000).map(|it| format!("\"a{it}\":\"b\"")).collect();
        let text = format!("[{{\"labels\":{{{}}}}}]", pairs.join(","));
        let alerts = read(&text);
        let Value::Alert(alert) = &alerts.alerts[0] else { panic!("no alert") };
        let Value::Pairs(pairs) = &alert.labels else { panic!("no pairs") };
        assert_eq!(pairs.len(), PAIRS_KEPT_MAX);
    }
}

//! Checks an alert that somebody sent: what is kept of it, or why it is refused.

use super::payload::{RawAlert, Value};
use crate::domain::event::{Ends, ReceivedAlert, RejectedAlert};
use crate::domain::label::Labels;
use jiff::{SignedDuration, Timestamp};
use std::borrow::Cow;

/// The most labels that an alert may have, and the most annotations that are kept.
const LABELS_MAX: usize = 64;
/// The longest name of a label or an annotation, in bytes.
const NAME_BYTES_MAX: usize = 256;
/// The longest value of a label, in bytes.
const VALUE_BYTES_MAX: usize = 4096;
/// Longer annotations are cut, because losing an alert over a long text is worse. In bytes.
pub(super) const ANNOTATION_BYTES_MAX: usize = 8192;
/// Stands at the end of an annotation that was cut.
const CUT_MARK: &str = "… [cut]";
/// A longer link is dropped; half a link leads nowhere. In bytes.
const URL_BYTES_MAX: usize = 8192;
/// An alert that tells no end may begin at most this far in the future.
const START_AHEAD_MAX: SignedDuration = SignedDuration::from_mins(5);
/// 1970-01-01 and 2200-01-01, in seconds. Times outside are moved to the edge, so that no later
/// sum of times can overflow.
const SECONDS_RANGE: (i64, i64) = (0, 7_258_118_400);
/// `0001-01-01T00:00:00Z` in seconds: Go's zero time, which stands for "not told".
const GO_ZERO_SECONDS: i64 = -62_135_596_800;

/// How a wire format says that an alert is over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum EndsBy {
    /// By its `endsAt` alone, as in Alertmanager's API.
    Time,
    /// By its `status`, as in Alertmanager's webhook, which does not repeat itself in time.
    Status,
}

/// The good and the refused alerts of a delivery.
pub(super) type Sorted = (Vec<ReceivedAlert>, Vec<RejectedAlert>);

/// Sorts the alerts of a delivery into good ones and refused ones.
pub(super) fn sort(raw: &[Value<'_>], ends_by: EndsBy, now: Timestamp) -> Sorted {
    let mut alerts = Vec::with_capacity(raw.len());
    let mut rejected = Vec::new();
    for (index, value) in (0..).zip(raw) {
        let checked = match value {
            Value::Alert(alert) => check(alert, ends_by, now),
            other => Err(format!("an alert is an object, not {}", other.kind())),
        };
        match checked {
            Ok(alert) => alerts.push(alert),
            Err(reason) => rejected.push(RejectedAlert { index, reason }),
        }
    }
    (alerts, rejected)
}

/// Checks one alert. Fails with the reason why it is refused.
pub(super) fn check(
    raw: &RawAlert<'_>,
    ends_by: EndsBy,
    now: Timestamp,
) -> Result<ReceivedAlert, String> {
    let labels = check_labels(&raw.labels)?;
    let annotations = check_annotations(&raw.annotations)?;
    let starts_at = read_time("startsAt", &raw.starts_at)?;
    let ends_at = read_time("endsAt", &raw.ends_at)?;
    let (starts_at, ends) = match ends_by {
        EndsBy::Time => check_times(starts_at, ends_at, now)?,
        EndsBy::Status if is_resolved(&raw.status)? => {
            // The status decides: an end that is still to come has come.
            let end = ends_at.map_or(now, |it| it.min(now));
            if starts_at.zip(ends_at).is_some_and(|(start, end)| start > end) {
                return Err("start time must be before end time".to_owned());
            }
            (starts_at, Ends::At(end))
        }
        EndsBy::Status => (starts_at, Ends::WhenTold),
    };
    Ok(ReceivedAlert {
        labels,
        annotations,
        starts_at,
        ends,
        generator_url: link(raw),
        identity: None,
    })
}

/// Alertmanager's rules for an alert's times. An alert that only tells its end began at that end
/// if it is past (it is over, and nobody knows more), else at its receipt.
fn check_times(
    starts_at: Option<Timestamp>,
    ends_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<(Option<Timestamp>, Ends), String> {
    let starts_at = starts_at.or(ends_at.filter(|it| *it <= now));
    let latest_start = ends_at.or_else(|| now.checked_add(START_AHEAD_MAX).ok());
    if starts_at.zip(latest_start).is_some_and(|(start, latest)| start > latest) {
        return Err("start time must be before end time".to_owned());
    }
    Ok((starts_at, ends_at.map_or(Ends::Timeout, Ends::At)))
}

fn is_resolved(status: &Value<'_>) -> Result<bool, String> {
    match status {
        Value::Text(text) if text == "firing" => Ok(false),
        Value::Text(text) if text == "resolved" => Ok(true),
        Value::Text(text) => {
            Err(format!("status must be `firing` or `resolved`, not `{}`", shorten(text)))
        }
        other => Err(format!("status must be `firing` or `resolved`, not {}", other.kind())),
    }
}

fn check_labels(value: &Value<'_>) -> Result<Labels, String> {
    let pairs = texts("labels", value)?;
    if pairs.is_empty() {
        return Err("at least one label pair required".to_owned());
    }
    if pairs.len() > LABELS_MAX {
        return Err(format!("invalid label set: more than {LABELS_MAX} labels"));
    }
    for (name, text) in &pairs {
        check_name(name).map_err(|reason| format!("invalid label set: {reason}"))?;
        if text.len() > VALUE_BYTES_MAX {
            return Err(format!(
                "invalid label set: the value of {name:?} is longer than {VALUE_BYTES_MAX} bytes"
            ));
        }
    }
    Ok(Labels::from_pairs(pairs))
}

fn check_annotations(value: &Value<'_>) -> Result<Labels, String> {
    let pairs = texts("annotations", value)?;
    for (name, _) in &pairs {
        check_name(name).map_err(|reason| format!("invalid annotations: {reason}"))?;
    }
    let kept = pairs.into_iter().take(LABELS_MAX);
    Ok(Labels::from_pairs(kept.map(|(name, text)| (name, cut(text)))))
}

/// The pairs that are text and not empty; an empty value means that the label is absent.
fn texts<'a>(field: &str, value: &'a Value<'_>) -> Result<Vec<(&'a str, &'a str)>, String> {
    let pairs = match value {
        Value::Absent => return Ok(Vec::new()),
        Value::Pairs(pairs) => pairs,
        other => return Err(format!("{field} must be an object, not {}", other.kind())),
    };
    let mut texts = Vec::with_capacity(pairs.len());
    for (name, value) in pairs {
        match value {
            Value::Absent => {}
            Value::Text(text) if text.is_empty() => {}
            Value::Text(text) => texts.push((&**name, &**text)),
            other => {
                let (name, kind) = (shorten(name), other.kind());
                return Err(format!("{field}: the value of {name:?} must be text, not {kind}"));
            }
        }
    }
    Ok(texts)
}

/// Checks a name by Prometheus' classic rule: `[a-zA-Z_][a-zA-Z0-9_]*`.
fn check_name(name: &str) -> Result<(), String> {
    let first_is_good = name.starts_with(|it: char| it.is_ascii_alphabetic() || it == '_');
    let all_are_good = name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_');
    if !first_is_good || !all_are_good {
        return Err(format!("invalid name {:?}", shorten(name)));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(format!("a name is longer than {NAME_BYTES_MAX} bytes"));
    }
    Ok(())
}

/// The first part of a text that came from outside, for a message.
fn shorten(text: &str) -> &str {
    text.get(..text.floor_char_boundary(64)).unwrap_or_default()
}

fn cut(text: &str) -> Cow<'_, str> {
    if text.len() <= ANNOTATION_BYTES_MAX {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(ANNOTATION_BYTES_MAX - CUT_MARK.len());
    Cow::Owned(format!("{}{CUT_MARK}", text.get(..end).unwrap_or_default()))
}

/// The link to where the alert comes from. Only web addresses are kept: people click on it, and
/// `javascript:` would run as their click.
fn link(raw: &RawAlert<'_>) -> Box<str> {
    match &raw.generator_url {
        Value::Text(url) if url.len() <= URL_BYTES_MAX => {
            let is_web = ["http://", "https://"].iter().any(|it| url.starts_with(it));
            if is_web { Box::from(&**url) } else { Box::default() }
        }
        _ => Box::default(),
    }
}

/// Reads a time as Alertmanager does: RFC 3339, or the same without a zone, which then is UTC.
/// Go's zero time and an empty text mean that it was not told.
fn read_time(field: &str, value: &Value<'_>) -> Result<Option<Timestamp>, String> {
    let text = match value {
        Value::Absent => return Ok(None),
        Value::Text(text) if text.is_empty() => return Ok(None),
        Value::Text(text) => text,
        other => return Err(format!("{field} must be a time as text, not {}", other.kind())),
    };
    let without_zone = || {
        let date_time = text.parse::<jiff::civil::DateTime>().ok()?;
        date_time.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|it| it.timestamp())
    };
    let Some(time) = text.parse::<Timestamp>().ok().or_else(without_zone) else {
        let example = "2026-01-31T12:00:00Z";
        return Err(format!("{field} is no time like `{example}`: `{}`", shorten(text)));
    };
    let (earliest, latest) = SECONDS_RANGE;
    match time.as_second() {
        GO_ZERO_SECONDS => Ok(None),
        seconds if (earliest..latest).contains(&seconds) => Ok(Some(time)),
        seconds => Ok(Timestamp::from_second(seconds.clamp(earliest, latest)).ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::payload::RawAlerts;
    use super::*;
    use proptest::prelude::*;

    const NOW: &str = "2026-11-22T17:00:00Z";

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn check_one(alert: &str, ends_by: EndsBy) -> Result<ReceivedAlert, String> {
        let text = format!("[{alert}]");
        let raw: RawAlerts<'_> = serde_json::from_str(&text).unwrap();
        let (mut alerts, mut rejected) = sort(&raw.alerts, ends_by, time(NOW));
        match (alerts.pop(), rejected.pop()) {
            (Some(alert), None) => Ok(alert),
            (None, Some(it)) => Err(it.reason),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn refusals_give_alertmanagers_reasons() {
        let long_name = "n".repeat(257);
        let long_value = "v".repeat(4097);
        let many: Vec<String> = (0..65).map(|it| format!("\"l{it}\":\"v\"")).collect();
        for (alert, reason) in [
            ("{}".to_owned(), "at least one label pair required"),
            (r#"{"labels":{}}"#.to_owned(), "at least one label pair required"),
            (r#"{"labels":{"a":""}}"#.to_owned(), "at least one label pair required"),
            (r#"{"labels":{"1bad":"x"}}"#.to_owned(), r#"invalid label set: invalid name "1bad""#),
            (r#"{"labels":{"ä":"x"}}"#.to_owned(), r#"invalid label set: invalid name "ä""#),
            (r#"{"labels":{"":"x"}}"#.to_owned(), r#"invalid label set: invalid name """#),
            (r#"{"labels":{"a:b":"x"}}"#.to_owned(), r#"invalid label set: invalid name "a:b""#),
            (r#"{"labels":{"a":1}}"#.to_owned(), "the value of \"a\" must be text, not a number"),
            (r#"{"labels":["a"]}"#.to_owned(), "labels must be an object, not a list"),
            (r#"{"labels":{"a":"b"},"annotations":"x"}"#.to_owned(), "annotations must be an obj"),
            (
                r#"{"labels":{"a":"b"},"annotations":{"1bad":"x"}}"#.to_owned(),
                r#"invalid annotations: invalid name "1bad""#,
            ),
            (r#"{"labels":{"a":"b"},"startsAt":"zzz"}"#.to_owned(), "startsAt is no time like"),
            (r#"{"labels":{"a":"b"},"endsAt":5}"#.to_owned(), "endsAt must be a time as text"),
            (format!(r#"{{"labels":{{"{long_name}":"x"}}}}"#), "a name is longer than 256 bytes"),
            (format!(r#"{{"labels":{{"a":"{long_value}"}}}}"#), "\"a\" is longer than 4096 bytes"),
            (format!(r#"{{"labels":{{{}}}}}"#, many.join(",")), "more than 64 labels"),
            ("7".to_owned(), "an alert is an object, not a number"),
            ("null".to_owned(), "an alert is an object, not null"),
        ] {
            let error = check_one(&alert, EndsBy::Time).unwrap_err();
            assert!(error.contains(reason), "{alert}: {error}");
        }
    }

    #[test]
    fn times_mean_what_they_mean_to_alertmanager() {
        let past = "2026-11-22T16:00:00Z";
        let future = "2026-11-22T18:00:00Z";
        let refused = Err("start time must be before end time".to_owned());
        let zero = "0001-01-01T00:00:00.000Z";
        for (starts_at, ends_at, expected) in [
            ("", "", Ok((None, Ends::Timeout))),
            (zero, zero, Ok((None, Ends::Timeout))),
            (past, "", Ok((Some(past), Ends::Timeout))),
            (past, future, Ok((Some(past), Ends::At(time(future))))),
            (past, past, Ok((Some(past), Ends::At(time(past))))),
            ("", past, Ok((Some(past), Ends::At(time(past))))),
            ("", future, Ok((None, Ends::At(time(future))))),
            (future, future, Ok((Some(future), Ends::At(time(future))))),
            (future, past, refused.clone()),
            (future, "", refused.clone()),
            ("2026-11-22T17:04:00Z", "", Ok((Some("2026-11-22T17:04:00Z"), Ends::Timeout))),
            ("2026-11-22T18:00:00+02:00", "", Ok((Some(past), Ends::Timeout))),
            ("2026-11-22T16:00:00", "", Ok((Some(past), Ends::Timeout))),
            ("2026-11-22 16:00:00", "", Ok((Some(past), Ends::Timeout))),
            ("1912-06-23T00:00:00Z", "", Ok((Some("1970-01-01T00:00:00Z"), Ends::Timeout))),
            (past, "9999-12-30T00:00:00Z", Ok((Some(past), Ends::At(time("2200-01-01T00:00Z"))))),
        ] {
            let text = format!(
                r#"{{"labels":{{"a":"b"}},"startsAt":"{starts_at}","endsAt":"{ends_at}"}}"#
            );
            let found = check_one(&text, EndsBy::Time).map(|it| (it.starts_at, it.ends));
            assert_eq!(found, expected.map(|(start, ends)| (start.map(time), ends)), "{text}");
        }
    }

    #[test]
    fn a_webhooks_status_decides() {
        let now = Ends::At(time(NOW));
        let past = Ends::At(time("2026-11-22T16:30:00Z"));
        for (status, ends_at, expected) in [
            (r#""firing""#, "0001-01-01T00:00:00Z", Ok(Ends::WhenTold)),
            (r#""firing""#, "2026-11-22T16:30:00Z", Ok(Ends::WhenTold)),
            (r#""resolved""#, "2026-11-22T16:30:00Z", Ok(past)),
            (r#""resolved""#, "2026-11-22T18:00:00Z", Ok(now)),
            (r#""resolved""#, "0001-01-01T00:00:00Z", Ok(now)),
            (r#""resolved""#, "2026-11-22T15:59:59Z", Err("start time must be before end time")),
            (r#""gone""#, "", Err("status must be `firing` or `resolved`, not `gone`")),
            ("null", "", Err("status must be `firing` or `resolved`, not null")),
        ] {
            let text = format!(
                r#"{{"labels":{{"a":"b"}},"startsAt":"2026-11-22T16:00:00Z",
                "endsAt":"{ends_at}","status":{status}}}"#
            );
            let found = check_one(&text, EndsBy::Status).map(|it| it.ends);
            assert_eq!(found, expected.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn long_annotations_are_cut_at_a_character_and_bad_links_are_dropped() {
        for (url, kept) in [
            ("http://p:9090/graph?g0.expr=up", true),
            ("https://p/", true),
            ("javascript:alert(1)", false),
            ("::bad uri", false),
        ] {
            let long = "ä".repeat(5000);
            let text = format!(
                r#"{{"labels":{{"a":"b"}},"annotations":{{"d":"{long}","e":""}},
                "generatorURL":"{url}"}}"#
            );
            let alert = check_one(&text, EndsBy::Time).unwrap();
            let cut = alert.annotations.get("d").unwrap();
            assert!(cut.len() <= ANNOTATION_BYTES_MAX && cut.ends_with("ä… [cut]"));
            assert_eq!(alert.annotations.len(), 1);
            assert_eq!(&*alert.generator_url, if kept { url } else { "" });
        }
    }

    proptest! {
        #[test]
        fn any_text_is_checked_without_a_panic(
            name in "\\PC{0,80}", value in "\\PC{0,40}", time in "\\PC{0,40}"
        ) {
            let alert = RawAlert {
                labels: Value::Pairs(vec![(name.into(), Value::Text(value.into()))]),
                starts_at: Value::Text(time.into()),
                ..RawAlert::default()
            };
            let (alerts, rejected) =
                sort(&[Value::Alert(Box::new(alert))], EndsBy::Time, self::time(NOW));
            prop_assert_eq!(alerts.len() + rejected.len(), 1);
            for alert in alerts {
                prop_assert!(!alert.labels.is_empty());
            }
        }
    }
}

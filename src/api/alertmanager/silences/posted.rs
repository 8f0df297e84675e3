//! Checks a silence that somebody posts, with Alertmanager's refusals.

use crate::domain::event::Command;
use crate::domain::matcher::{Matcher, Matchers, Operator};
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;

/// The most matchers of a silence: each is tried on each alert.
const MATCHERS_MAX: usize = 64;
/// The longest text in a silence, in bytes.
const TEXT_BYTES_MAX: usize = 4096;
/// 1970-01-01 and 2200-01-01, in seconds. Times outside are moved to the edge, so that no later
/// sum of times can overflow.
const SECONDS_RANGE: (i64, i64) = (0, 7_258_118_400);

/// Why a posted silence is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It does not fit the schema: status, code, message.
    Schema(StatusCode, u16, String),
    /// It fits, and makes no sense.
    Meaning(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PostableSilence {
    id: Option<String>,
    comment: Option<String>,
    created_by: Option<String>,
    starts_at: Option<String>,
    ends_at: Option<String>,
    matchers: Option<Vec<PostableMatcher>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PostableMatcher {
    name: Option<String>,
    value: Option<String>,
    is_regex: Option<bool>,
    is_equal: Option<bool>,
}

/// Reads a body. A silence with an id replaces the one with this id.
pub(super) fn parse(body: &[u8], now: Timestamp, new_id: String) -> Result<Command, Refusal> {
    let silence: PostableSilence = serde_json::from_slice(body).map_err(unreadable)?;
    let comment = require(silence.comment, "comment")?;
    let created_by = require(silence.created_by, "createdBy")?;
    let ends_at = read_time(&require(silence.ends_at, "endsAt")?)?;
    let raw_matchers = require(silence.matchers, "matchers")?;
    let matchers = parts(raw_matchers)?;
    let starts_at = read_time(&require(silence.starts_at, "startsAt")?)?;
    if starts_at >= ends_at {
        return Err(meaning("Failed to create silence: start time must be before end time"));
    }
    if ends_at < now {
        return Err(meaning("Failed to create silence: end time can't be in the past"));
    }
    if comment.len() > TEXT_BYTES_MAX || created_by.len() > TEXT_BYTES_MAX {
        let text = format!("silence invalid: a text is longer than {TEXT_BYTES_MAX} bytes");
        return Err(Refusal::Meaning(text));
    }
    let matchers = check_matchers(matchers)?;
    let replaces = silence.id.filter(|it| !it.is_empty());
    Ok(Command::SetSilence { new_id, replaces, matchers, starts_at, ends_at, created_by, comment })
}

fn unreadable(error: impl std::fmt::Display) -> Refusal {
    let message = format!("parsing silence body from \"\" failed, because {error}");
    Refusal::Schema(StatusCode::BAD_REQUEST, 400, message)
}

fn meaning(text: &str) -> Refusal {
    Refusal::Meaning(text.to_owned())
}

fn unprocessable(code: u16, message: String) -> Refusal {
    Refusal::Schema(StatusCode::UNPROCESSABLE_ENTITY, code, message)
}

fn require<T>(value: Option<T>, field: &str) -> Result<T, Refusal> {
    value.ok_or_else(|| unprocessable(602, format!("{field} in body is required")))
}

fn read_time(text: &str) -> Result<Timestamp, Refusal> {
    let time: Timestamp = text.parse().map_err(unreadable)?;
    let (earliest, latest) = SECONDS_RANGE;
    if (earliest..latest).contains(&time.as_second()) {
        return Ok(time);
    }
    Timestamp::from_second(time.as_second().clamp(earliest, latest)).map_err(unreadable)
}

/// Name, operator and value of each matcher.
fn parts(raw: Vec<PostableMatcher>) -> Result<Vec<(String, Operator, String)>, Refusal> {
    if raw.is_empty() {
        let message = "matchers in body should have at least 1 items".to_owned();
        return Err(unprocessable(612, message));
    }
    let mut parts = Vec::with_capacity(raw.len());
    for (index, matcher) in raw.into_iter().enumerate() {
        let field = |name: &str| format!("matchers.{index}.{name}");
        let is_regex = require(matcher.is_regex, &field("isRegex"))?;
        let name = require(matcher.name, &field("name"))?;
        let value = require(matcher.value, &field("value"))?;
        // Older clients do not know `isEqual`, and mean equal.
        let operator = match (is_regex, matcher.is_equal.unwrap_or(true)) {
            (false, true) => Operator::Equal,
            (false, false) => Operator::NotEqual,
            (true, true) => Operator::Matches,
            (true, false) => Operator::NotMatches,
        };
        parts.push((name, operator, value));
    }
    Ok(parts)
}

fn check_matchers(parts: Vec<(String, Operator, String)>) -> Result<Matchers, Refusal> {
    if parts.len() > MATCHERS_MAX {
        let text = format!("silence invalid: more than {MATCHERS_MAX} matchers");
        return Err(Refusal::Meaning(text));
    }
    let mut matchers = Vec::with_capacity(parts.len());
    for (index, (name, operator, value)) in parts.into_iter().enumerate() {
        let refuse = |reason: String| {
            Refusal::Meaning(format!("silence invalid: invalid label matcher {index}: {reason}"))
        };
        if !is_name(&name) {
            return Err(refuse(format!("invalid label name {name:?}")));
        }
        if name.len() > TEXT_BYTES_MAX || value.len() > TEXT_BYTES_MAX {
            return Err(refuse(format!("a text is longer than {TEXT_BYTES_MAX} bytes")));
        }
        matchers.push(Matcher::new(&name, operator, &value).map_err(refuse)?);
    }
    // Alertmanager asks only the positive ones, so that `team!="web"` alone is a silence.
    let is_positive = |it: &Matcher| matches!(it.operator(), Operator::Equal | Operator::Matches);
    if matchers.iter().all(|it| is_positive(it) && it.matches_value("")) {
        let text = "silence invalid: at least one matcher must not match the empty string";
        return Err(meaning(text));
    }
    Ok(Matchers(matchers))
}

/// Prometheus' classic rule for label names: `[a-zA-Z_][a-zA-Z0-9_]*`.
fn is_name(name: &str) -> bool {
    name.starts_with(|it: char| it.is_ascii_alphabetic() || it == '_')
        && name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    const B: &str = r#""startsAt":"2026-01-01T00:00:00Z","endsAt":"2030-01-01T00:00:00Z",
        "createdBy":"me","comment":"c""#;

    fn read(body: &str) -> Result<Command, Refusal> {
        parse(body.as_bytes(), "2026-11-22T17:00:00Z".parse().unwrap(), "new".to_owned())
    }

    #[test]
    fn a_good_silence_becomes_a_command() {
        for (matcher, expected) in [
            (r#"{"name":"a","value":"b","isRegex":false}"#, r#"{a="b"}"#),
            (r#"{"name":"a","value":"b","isRegex":false,"isEqual":false}"#, r#"{a!="b"}"#),
            (r#"{"name":"a","value":"b.","isRegex":true,"isEqual":true}"#, r#"{a=~"b."}"#),
            (
                r#"{"name":"a","value":"b","isRegex":false},
                {"name":"c","value":"","isRegex":true,"isEqual":false}"#,
                r#"{a="b",c!~""}"#,
            ),
        ] {
            for (id, replaces) in [("", None), ("x", Some("x".to_owned()))] {
                let body = format!(r#"{{"id":"{id}","matchers":[{matcher}],{B}}}"#);
                let expected = Command::SetSilence {
                    new_id: "new".to_owned(),
                    replaces,
                    matchers: expected.parse().unwrap(),
                    starts_at: "2026-01-01T00:00:00Z".parse().unwrap(),
                    ends_at: "2030-01-01T00:00:00Z".parse().unwrap(),
                    created_by: "me".to_owned(),
                    comment: "c".to_owned(),
                };
                assert_eq!(read(&body), Ok(expected), "{body}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_the_schema_gets_alertmanagers_codes() {
        let parsing = "parsing silence body from \"\" failed, because ";
        for (body, status, code, message) in [
            ("x".to_owned(), 400, 400, parsing),
            ("[]".to_owned(), 400, 400, parsing),
            ("{}".to_owned(), 422, 602, "comment in body is required"),
            (format!("{{{B}}}"), 422, 602, "matchers in body is required"),
            (format!(r#"{{"matchers":null,{B}}}"#), 422, 602, "matchers in body is required"),
            (
                format!(r#"{{"matchers":[],{B}}}"#),
                422,
                612,
                "matchers in body should have at least 1 items",
            ),
            (
                format!(r#"{{"matchers":[{{"name":"a","value":"b"}}],{B}}}"#),
                422,
                602,
                "matchers.0.isRegex in body is required",
            ),
            (
                format!(r#"{{"matchers":[{{"value":"b","isRegex":true}}],{B}}}"#),
                422,
                602,
                "matchers.0.name in body is required",
            ),
            (r#"{"comment":"","createdBy":"","endsAt":"soon"}"#.to_owned(), 400, 400, parsing),
        ] {
            let Err(Refusal::Schema(found, number, text)) = read(&body) else { panic!("{body}") };
            assert_eq!((found.as_u16(), number), (status, code), "{body}");
            assert!(text.starts_with(message), "{body}: {text}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_alertmanagers_text() {
        let matchers = r#"[{"name":"a","value":"b","isRegex":false}]"#;
        let who = r#""createdBy":"me","comment":"c""#;
        let with_times = |start: &str, end: &str| {
            format!(r#"{{"matchers":{matchers},"startsAt":"{start}","endsAt":"{end}",{who}}}"#)
        };
        let with_matcher = |matcher: &str| format!(r#"{{"matchers":[{matcher}],{B}}}"#);
        for (body, text) in [
            (
                with_times("2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z"),
                "Failed to create silence: end time can't be in the past",
            ),
            (
                with_times("2031-01-01T00:00:00Z", "2031-01-01T00:00:00Z"),
                "Failed to create silence: start time must be before end time",
            ),
            (
                with_times("9998-01-01T00:00:00Z", "9999-01-01T00:00:00Z"),
                "Failed to create silence: start time must be before end time",
            ),
            (
                with_matcher(r#"{"name":"1a","value":"b","isRegex":false}"#),
                "silence invalid: invalid label matcher 0: invalid label name \"1a\"",
            ),
            (
                with_matcher(r#"{"name":"a","value":"(","isRegex":true}"#),
                "silence invalid: invalid label matcher 0: bad regular expression",
            ),
            (
                with_matcher(r#"{"name":"a","value":"","isRegex":false}"#),
                "silence invalid: at least one matcher must not match the empty string",
            ),
            (
                with_matcher(r#"{"name":"a","value":".*","isRegex":true}"#),
                "silence invalid: at least one matcher must not match the empty string",
            ),
        ] {
            let Err(Refusal::Meaning(found)) = read(&body) else { panic!("{body}") };
            assert!(found.starts_with(text), "{body}: {found}");
        }
    }
}

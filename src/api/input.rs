//! How requests are read: bodies, queries and ids, strictly, with a hint when something is odd.

use super::access::Caller;
use super::error::ApiError;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::str::FromStr;

/// The largest body that a command may have, in bytes.
pub(super) const BODY_BYTES_MAX: usize = 1 << 20;

/// The longest name of a person, in bytes.
const NAME_BYTES_MAX: usize = 200;
/// The most items that one page of a listing may have.
const LIMIT_MAX: usize = 1000;
/// How many items one page of a listing has unless told otherwise.
const LIMIT_DEFAULT: usize = 100;

/// A JSON body. An empty one counts as `{}`.
pub(super) struct Input<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Input<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                ApiError::too_large(format!("the body is larger than {BODY_BYTES_MAX} bytes"))
            } else {
                ApiError::bad_request(format!("cannot read the body: {rejection}"))
            }
        })?;
        parse_body(&bytes).map(Self)
    }
}

fn parse_body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let bytes = if bytes.trim_ascii().is_empty() { b"{}" } else { bytes };
    serde_json::from_slice(bytes).map_err(|error| {
        let message = error.to_string();
        let refusal = ApiError::bad_request(format!("cannot use the body: {message}"));
        match suggestion(&message) {
            Some(hint) => refusal.hint(hint),
            None => refusal,
        }
    })
}

/// The query of a listing.
pub(super) struct Params<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query.map(|it| Self(it.0)).map_err(|rejection| {
            let text = rejection.body_text();
            let message = text.trim_start_matches("Failed to deserialize query string: ");
            let refusal = ApiError::bad_request(format!("cannot use the query: {message}"));
            match suggestion(message) {
                Some(hint) => refusal.hint(hint),
                None => refusal,
            }
        })
    }
}

/// Makes `did you mean` out of serde's message about an unknown field or variant.
fn suggestion(message: &str) -> Option<String> {
    let (wrong, expected) = message.split_once("unknown ")?.1.split_once(", expected ")?;
    let wrong = wrong.split('`').nth(1)?;
    let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    let best = known
        .iter()
        .map(|it| (strsim::damerau_levenshtein(wrong, it), it))
        .filter(|(distance, it)| *distance <= 1 + it.len() / 4)
        .min();
    Some(match best {
        Some((_, best)) => format!("did you mean `{best}`?"),
        None => format!("known here: {}", known.join(", ")),
    })
}

/// Reads the id in a path; a bad one is a thing that does not exist.
pub(super) fn parse_id<T: FromStr<Err = String>>(text: &str) -> Result<T, ApiError> {
    text.parse().map_err(ApiError::bad_request)
}

/// Reads a list with commas in which every word must be known.
pub(super) fn parse_words<T: Copy>(
    text: Option<&str>,
    known: &[(&'static str, T)],
) -> Result<Option<Vec<T>>, ApiError> {
    let Some(text) = text.filter(|it| !it.is_empty()) else { return Ok(None) };
    let word = |it: &str| {
        known.iter().find(|(name, _)| *name == it).map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            ApiError::bad_request(format!("unknown value `{it}`"))
                .hint(format!("known here: {}", names.join(", ")))
        })
    };
    text.split(',').map(|it| word(it.trim())).collect::<Result<_, _>>().map(Some)
}

/// How many items a page shall have: 1 to 1000.
pub(super) fn page_limit(limit: Option<usize>) -> Result<usize, ApiError> {
    match limit.unwrap_or(LIMIT_DEFAULT) {
        0 => Err(ApiError::bad_request("`limit` must be at least 1")),
        limit => Ok(limit.min(LIMIT_MAX)),
    }
}

/// A body that only says who asks.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ByBody {
    /// Who.
    pub by: Option<String>,
}

/// A body that says who asks, and why.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReasonBody {
    /// Who.
    pub by: Option<String>,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

impl Caller {
    /// Who gives the command: the bearer of the token, else whom the body names.
    pub(super) fn by(&self, body: Option<String>) -> Result<String, ApiError> {
        if body.as_ref().is_some_and(|it| it.len() > NAME_BYTES_MAX) {
            return Err(ApiError::bad_request(format!(
                "`by` is longer than {NAME_BYTES_MAX} bytes"
            )));
        }
        if body.as_ref().is_some_and(|it| it.chars().any(char::is_control)) {
            return Err(ApiError::bad_request("`by` has control characters"));
        }
        let named = || body.map(|it| it.trim().to_owned()).filter(|it| !it.is_empty());
        self.name.clone().or_else(named).ok_or_else(|| {
            ApiError::bad_request("`by` is missing: who gives this command?")
                .hint("add `\"by\": \"your name\"` to the body, or use a token")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Role;

    #[test]
    fn bodies_are_read_strictly() {
        let body: ByBody = parse_body(b" ").unwrap();
        assert_eq!(body.by, None);
        let refusal = parse_body::<ReasonBody>(br#"{"by":"a","reson":"b"}"#).err().unwrap();
        let text = format!("{refusal:?}");
        assert!(text.contains("unknown field `reson`"), "{text}");
        assert!(text.contains("did you mean `reason`?"), "{text}");
        assert_eq!(refusal.status(), StatusCode::BAD_REQUEST);
        let refusal = parse_body::<ByBody>(br#"{"alerts":[]}"#).err().unwrap();
        assert!(format!("{refusal:?}").contains("known here: by"), "{refusal:?}");
        for bad in [&b"[]"[..], b"{", b"\xff", b"{\"by\":1}", b"{} x"] {
            assert!(parse_body::<ByBody>(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_command_has_an_author() {
        let open = Caller { name: None, role: Role::Admin };
        assert_eq!(open.by(Some(" ada ".into())), Ok("ada".to_owned()));
        assert!(open.by(Some("  ".into())).is_err());
        assert!(open.by(Some("ada\nroot".into())).is_err());
        assert!(open.by(None).is_err());
        assert!(open.by(Some("a".repeat(NAME_BYTES_MAX + 1))).is_err());
        let known = Caller { name: Some("ci".into()), role: Role::Responder };
        assert_eq!(known.by(Some("ada".into())), Ok("ci".to_owned()));
    }

    #[test]
    fn word_lists_are_read_strictly() {
        let known = [("open", 1), ("closed", 2)];
        assert_eq!(parse_words(None, &known), Ok(None));
        assert_eq!(parse_words(Some("closed, open"), &known), Ok(Some(vec![2, 1])));
        assert!(parse_words(Some("open,shut"), &known).is_err());
        assert_eq!(page_limit(None), Ok(LIMIT_DEFAULT));
        assert_eq!(page_limit(Some(5000)), Ok(LIMIT_MAX));
        assert!(page_limit(Some(0)).is_err());
    }
}

//! Pings: `GET|HEAD|POST /heartbeat/{name}[/start|/fail|/log|/{exit code}]`, as healthchecks.io takes
//! them, its own addresses `/ping/{key}/{name}` and `/ping/{uuid}`, and Opsgenie's
//! `/v2/heartbeats/{name}/ping`.

use super::{Door, Keys, answer_error, answer_not_taken};
use crate::config;
use crate::domain::event::Event;
use crate::domain::heartbeat::{HeartbeatPing, HeartbeatRule, OUTPUT_BYTES_MAX, Signal};
use crate::engine::SubmitError;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use axum::{Json, Router};
use futures_util::StreamExt;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Instant;
use subtle::ConstantTimeEq;

/// How much of a longer body is read and forgotten, so that its sender hears our answer, in bytes.
const DRAINED_BYTES_MAX: usize = 64 << 20;

/// The addresses of pings.
pub(super) fn routes() -> Router<Arc<Door>> {
    let ping: MethodRouter<Arc<Door>> = get(ping).post(ping);
    let ping_by_key: MethodRouter<Arc<Door>> = get(ping_by_key).post(ping_by_key);
    Router::new()
        .route("/heartbeat/{name}", ping)
        .route("/heartbeat/{name}/{signal}", get(ping_with_signal).post(ping_with_signal))
        .route("/ping/{*rest}", ping_by_key)
        .route(
            "/v2/heartbeats/{name}/ping",
            get(ping_as_opsgenie)
                .post(ping_as_opsgenie)
                .put(ping_as_opsgenie)
                .patch(ping_as_opsgenie),
        )
}

/// What may stand behind a `?`.
#[derive(Deserialize)]
struct Options {
    /// The run that is meant.
    rid: Option<String>,
    /// The heartbeat's token, for senders that can set no header.
    key: Option<String>,
}

/// A ping that was not taken.
enum Refusal {
    /// Status, code, message, what to try.
    Bad(StatusCode, &'static str, String, &'static str),
    NotTaken(SubmitError),
}

async fn ping(
    State(door): State<Arc<Door>>,
    Path(name): Path<String>,
    Query(options): Query<Options>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(take(&door, (&name, ""), options, (&headers, body)).await)
}

async fn ping_with_signal(
    State(door): State<Arc<Door>>,
    Path((name, signal)): Path<(String, String)>,
    Query(options): Query<Options>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(take(&door, (&name, &signal), options, (&headers, body)).await)
}

/// An address of healthchecks.io: `/ping/{key}/{name}` or `/ping/{uuid}`, and perhaps a signal.
async fn ping_by_key(
    State(door): State<Arc<Door>>,
    Path(rest): Path<String>,
    Query(options): Query<Options>,
    body: Body,
) -> Response {
    let rules = door.handle.peek(|state| Arc::clone(&state.rules));
    let Some((name, signal)) = meant_by(&rules.heartbeats, &rest, &door.keys) else {
        // The key may be wrong, or the name: whoever guesses is not told which.
        return answer(Err(Refusal::Bad(
            StatusCode::NOT_FOUND,
            "unknown_heartbeat",
            "there is no heartbeat at this address".to_owned(),
            "`/ping/KEY/NAME`, or `/ping/UUID` where that is the heartbeat's `token`",
        )));
    };
    let ping = read_ping(name, signal, options.rid.as_deref());
    answer(match ping {
        Ok(ping) => submit(&door, ping, body).await,
        Err(refusal) => Err(refusal),
    })
}

/// Which heartbeat an address with a key in it means, and what it says of it; `None` = none, or
/// the key does not fit.
fn meant_by<'a>(
    rules: &'a [HeartbeatRule],
    rest: &'a str,
    keys: &Keys,
) -> Option<(&'a str, &'a str)> {
    let mut parts = rest.split('/');
    let (key, second, third) = (parts.next()?, parts.next(), parts.next());
    let is_last = parts.next().is_none();
    let by_name = rules.iter().find(|it| Some(it.rule.name.as_str()) == second);
    if let Some(rule) = by_name.filter(|_| is_last)
        && (is_token(rule, key) || rule.token.is_none() && keys(key))
    {
        return Some((&rule.rule.name, third.unwrap_or_default()));
    }
    let is_id = uuid::Uuid::try_parse(key).is_ok() && third.is_none();
    let rule = rules.iter().find(|it| is_id && is_token(it, key))?;
    Some((&rule.rule.name, second.unwrap_or_default()))
}

async fn ping_as_opsgenie(
    State(door): State<Arc<Door>>,
    Path(name): Path<String>,
    Query(options): Query<Options>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let began = Instant::now();
    let taken = take(&door, (&name, ""), options, (&headers, body)).await;
    let reply = |key: &str, text: &str| {
        let took = began.elapsed().as_secs_f64();
        let id = uuid::Uuid::new_v4().to_string();
        Json(serde_json::json!({key: text, "took": took, "requestId": id}))
    };
    match taken {
        Ok(()) => {
            (StatusCode::ACCEPTED, reply("result", "PONG - Heartbeat received")).into_response()
        }
        Err(Refusal::Bad(status, _, message, _)) => {
            (status, reply("message", &message)).into_response()
        }
        Err(Refusal::NotTaken(error)) => {
            answer_not_taken(&error, reply("message", &error.to_string()).into_response())
        }
    }
}

fn answer(taken: Result<(), Refusal>) -> Response {
    const LIMIT: HeaderName = HeaderName::from_static("ping-body-limit");
    match taken {
        Ok(()) => ([(LIMIT, OUTPUT_BYTES_MAX.to_string())], "OK").into_response(),
        Err(Refusal::Bad(status, code, message, hint)) => {
            answer_error((status, code), &message, hint)
        }
        Err(Refusal::NotTaken(error)) => {
            let status = (StatusCode::SERVICE_UNAVAILABLE, "unavailable");
            answer_not_taken(&error, answer_error(status, &error.to_string(), "send it again"))
        }
    }
}

/// Takes in a ping. It is durable when this returns well.
async fn take(
    door: &Door,
    (name, signal): (&str, &str),
    options: Options,
    (headers, body): (&HeaderMap, Body),
) -> Result<(), Refusal> {
    let rules = door.handle.peek(|state| Arc::clone(&state.rules));
    let Some(rule) = rules.heartbeats.iter().find(|it| it.rule.name == name) else {
        let message = format!("there is no heartbeat `{}`", name.escape_debug());
        let hint = "`watchkeeper heartbeat list` names them; declare it under `heartbeats:`";
        return Err(Refusal::Bad(StatusCode::NOT_FOUND, "unknown_heartbeat", message, hint));
    };
    check_token(rule, options.key.as_deref(), headers)?;
    submit(door, read_ping(name, signal, options.rid.as_deref())?, body).await
}

async fn submit(door: &Door, mut ping: HeartbeatPing, body: Body) -> Result<(), Refusal> {
    ping.output = read_output(body).await;
    door.submit_held(vec![Event::HeartbeatPinged(ping)]).await.map_err(Refusal::NotTaken)
}

/// Reads what the address of a ping says: the last part of its path, if any, and the id of a run.
/// Fails with a reason.
pub fn read_address(
    name: &str,
    signal: &str,
    run: Option<&str>,
) -> Result<HeartbeatPing, &'static str> {
    let signal = if signal.is_empty() { Some(Signal::Success) } else { Signal::parse(signal) };
    let signal = signal.ok_or("a ping ends in nothing, `start`, `fail`, `log`, or an exit code")?;
    let run = match run.filter(|it| !it.is_empty()) {
        None => None,
        Some(text) => {
            let id = uuid::Uuid::try_parse(text).map_err(|_| "`rid` must be a UUID")?;
            Some(id.to_string())
        }
    };
    Ok(HeartbeatPing { heartbeat: name.to_owned(), signal, run, output: String::new() })
}

fn read_ping(name: &str, signal: &str, run: Option<&str>) -> Result<HeartbeatPing, Refusal> {
    read_address(name, signal, run).map_err(|reason| {
        let hint =
            "for example `/heartbeat/backup/start?rid=…` and later `/heartbeat/backup/$?rid=…`";
        Refusal::Bad(StatusCode::BAD_REQUEST, "bad_ping", reason.to_owned(), hint)
    })
}

/// Reads the first part of a body. What is longer is no reason to lose the ping.
async fn read_output(body: Body) -> String {
    let mut kept = Vec::new();
    let mut seen = 0;
    let mut chunks = body.into_data_stream();
    while let Some(Ok(chunk)) = chunks.next().await {
        let room = OUTPUT_BYTES_MAX.saturating_sub(kept.len());
        kept.extend_from_slice(chunk.get(..room.min(chunk.len())).unwrap_or_default());
        seen += chunk.len();
        if seen > DRAINED_BYTES_MAX {
            break;
        }
    }
    clean(&kept)
}

/// Output as text without control characters, which would drive the terminal that shows it.
pub fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let shown =
        |it: char| if it.is_control() && it != '\n' && it != '\t' { '\u{fffd}' } else { it };
    let mut text: String = text.replace("\r\n", "\n").chars().map(shown).collect();
    text.truncate(text.floor_char_boundary(OUTPUT_BYTES_MAX));
    text
}

/// Whether a key is the token of a heartbeat's own. A secret that cannot be read is nobody's.
fn is_token(rule: &HeartbeatRule, key: &str) -> bool {
    let Some(token) = &rule.token else { return false };
    let name = &rule.rule.name;
    let secret = config::read_secret(name, token).unwrap_or_else(|error| {
        tracing::error!(heartbeat = name, %error, "this heartbeat takes no ping");
        String::new()
    });
    let is_equal: bool = key.as_bytes().ct_eq(secret.as_bytes()).into();
    is_equal && !secret.is_empty()
}

/// A heartbeat with a token takes `Authorization: Bearer`, Opsgenie's `GenieKey`, or `?key=`.
fn check_token(
    rule: &HeartbeatRule,
    key: Option<&str>,
    headers: &HeaderMap,
) -> Result<(), Refusal> {
    if rule.token.is_none() {
        return Ok(());
    }
    let header = headers.get(header::AUTHORIZATION).and_then(|it| it.to_str().ok());
    let given = header.and_then(|it| it.split_once(' ')).and_then(|(scheme, token)| {
        let is_known = ["bearer", "geniekey"].iter().any(|it| scheme.eq_ignore_ascii_case(it));
        is_known.then(|| token.trim())
    });
    let given = given.or(key).unwrap_or_default();
    if is_token(rule, given) {
        return Ok(());
    }
    let message = "this heartbeat needs its token".to_owned();
    let hint = "send `Authorization: Bearer TOKEN`, or `?key=TOKEN`";
    Err(Refusal::Bad(StatusCode::UNAUTHORIZED, "unauthorized", message, hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::rules::{Mode, SecretText};

    const RUN: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";

    #[test]
    fn an_address_says_what_happened() {
        for (signal, run, expected) in [
            ("", None, Ok((Signal::Success, None))),
            ("0", Some(RUN), Ok((Signal::Success, Some(RUN)))),
            ("start", Some("6BA7B8109DAD11D180B400C04FD430C8"), Ok((Signal::Start, Some(RUN)))),
            ("fail", Some(""), Ok((Signal::Fail(None), None))),
            ("log", None, Ok((Signal::Log, None))),
            ("1", None, Ok((Signal::Fail(Some(1)), None))),
            ("255", None, Ok((Signal::Fail(Some(255)), None))),
            ("256", None, Err("a ping ends in")),
            ("-1", None, Err("a ping ends in")),
            ("+1", None, Err("a ping ends in")),
            ("stop", None, Err("a ping ends in")),
            ("", Some("7"), Err("must be a UUID")),
        ] {
            let read = read_address("a", signal, run);
            match expected {
                Ok((signal, run)) => {
                    let ping = read.unwrap();
                    assert_eq!((ping.signal, ping.run.as_deref()), (signal, run), "{signal:?}");
                }
                Err(part) => assert!(read.unwrap_err().contains(part), "{signal}"),
            }
        }
    }

    #[tokio::test]
    async fn the_beginning_of_a_body_is_kept_and_no_control_character() {
        let body = [b"a\x1b[2Jb\r\n\tc\0".as_slice(), &vec![b'x'; 20_000]].concat();
        let text = read_output(Body::from(body)).await;
        assert!(text.starts_with("a\u{fffd}[2Jb\n\tc\u{fffd}xx"), "{text}");
        assert!(text.len() <= OUTPUT_BYTES_MAX && text.len() > OUTPUT_BYTES_MAX - 8);
        assert!(clean(&[0xff; OUTPUT_BYTES_MAX]).len() <= OUTPUT_BYTES_MAX);
        assert_eq!(read_output(Body::empty()).await, "");
    }

    #[test]
    fn an_address_of_healthchecks_means_a_heartbeat() {
        let rules = "heartbeats: [{name: backup, every: 1m}, {name: own, every: 1m}, {name: start, every: 1m}]";
        let rules = config::rules_from_texts(&[("h.yaml", rules)], Mode::Act).value.unwrap();
        let mut rules = rules.heartbeats.clone();
        rules[1].token = Some(SecretText::Text(RUN.to_owned()));
        let keys: Keys = Arc::new(|key| key == "ours");
        let own = format!("{RUN}/own");
        for (rest, expected) in [
            ("ours/backup", Some(("backup", ""))),
            ("ours/backup/start", Some(("backup", "start"))),
            ("ours/start", Some(("start", ""))),
            (RUN, Some(("own", ""))),
            (&format!("{RUN}/fail"), Some(("own", "fail"))),
            (&format!("{RUN}/start"), Some(("own", "start"))),
            (&own, Some(("own", ""))),
            (&format!("{own}/3"), Some(("own", "3"))),
            (&format!("{RUN}/backup"), Some(("own", "backup"))),
            ("ours/own", None),
            ("theirs/backup", None),
            ("ours", None),
            ("ours/backup/start/x", None),
            ("", None),
            ("/backup", None),
        ] {
            assert_eq!(meant_by(&rules, rest, &keys), expected, "{rest}");
        }
    }

    #[test]
    fn a_heartbeat_with_a_token_is_pinged_with_it_only() {
        let rules = "heartbeats: [{name: a, every: 1m}]";
        let rules = config::rules_from_texts(&[("h.yaml", rules)], Mode::Act).value.unwrap();
        let mut rule = rules.heartbeats[0].clone();
        rule.token = Some(SecretText::Text("sesame".to_owned()));
        let check = |header: &str, key: Option<&str>| {
            let mut headers = HeaderMap::new();
            if !header.is_empty() {
                headers.insert(header::AUTHORIZATION, header.parse().unwrap());
            }
            check_token(&rule, key, &headers).is_ok()
        };
        assert!(check("Bearer sesame", None) && check("GenieKey sesame", None));
        assert!(check("", Some("sesame")));
        for header in ["", "Bearer", "Bearer x", "Basic sesame", "sesame"] {
            assert!(!check(header, None), "{header}");
        }
        assert!(!check("", Some("")) && !check("", Some("sesame2")));
        rule.token = Some(SecretText::File("/nonexistent".to_owned()));
        assert!(check_token(&rule, Some(""), &HeaderMap::new()).is_err());
    }
}

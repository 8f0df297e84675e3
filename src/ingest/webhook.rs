//! Webhooks of any tool: `POST /ingest/{source}`, by a declared mapping, one that comes with us, or
//! the general mapper, which is the source `guess`.

use super::mapped::{Kind, Mapped};
use super::mapping::{Entries, Mapper};
use super::quota::{self, Quotas};
use super::sns::{self, Unproven};
use super::{
    Delivery, Door, Failure, alertmanager_webhook, answer_error, body, cloudevents, guess,
    signature, validate,
};
use crate::config;
use crate::domain::event::RejectedAlert;
use crate::domain::rules::RuleSet;
use crate::domain::source::{Mapping, Proof, ProofStyle, Quota, Source};
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The sources that are known, made anew when the rules change.
#[derive(Default)]
pub(super) struct Sources {
    declared: Mutex<Declared>,
    pub(super) quotas: Quotas,
}

/// The sources of a set of rules.
type Declared = (Arc<RuleSet>, BTreeMap<String, Arc<Known>>);

/// A source, ready to work.
pub(super) struct Known {
    pub(super) mapper: Result<Mapper, String>,
    /// Whether somebody wrote a mapping for it.
    pub(super) has_mapping: bool,
    /// How a sender shows that he may send, and the secret; empty = it cannot be read.
    pub(super) proof: Option<(Proof, String)>,
    pub(super) quota: Option<Quota>,
}

static BUILT_IN: LazyLock<BTreeMap<String, Arc<Known>>> =
    LazyLock::new(|| config::built_in_sources().iter().map(known).collect());

fn known(source: &Source) -> (String, Arc<Known>) {
    let name = source.rule.name.clone();
    let proof = source.proof.clone().map(|proof| {
        if matches!(proof.style, ProofStyle::Sns { .. }) {
            return (proof, String::new());
        }
        let secret = config::read_secret(&name, &proof.secret).unwrap_or_else(|error| {
            tracing::error!(source = name, %error, "this source takes nothing");
            String::new()
        });
        (proof, secret)
    });
    let mapper = Mapper::compile(&source.map);
    let has_mapping = source.map != Mapping::default();
    (name, Arc::new(Known { mapper, has_mapping, proof, quota: source.quota }))
}

impl Sources {
    pub(super) fn find(&self, rules: &Arc<RuleSet>, name: &str) -> Option<Arc<Known>> {
        self.declared(rules).1.get(name).or_else(|| BUILT_IN.get(name)).cloned()
    }

    /// The declared source whose token a key is.
    pub(super) fn find_by_key(
        &self,
        rules: &Arc<RuleSet>,
        key: &str,
    ) -> Option<(String, Arc<Known>)> {
        let declared = self.declared(rules);
        let found = declared.1.iter().find(|(_, it)| it.has_key(key));
        found.map(|(name, known)| (name.clone(), Arc::clone(known)))
    }

    fn declared(&self, rules: &Arc<RuleSet>) -> MutexGuard<'_, Declared> {
        let mut declared = self.declared.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&declared.0, rules) {
            *declared = (Arc::clone(rules), rules.sources.iter().map(known).collect());
        }
        declared
    }
}

/// Why a body is not taken: status, code, message, what to try.
pub(super) type Refusal = (StatusCode, &'static str, String, &'static str);

pub(super) async fn post(
    State(door): State<Arc<Door>>,
    Path(source): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => {
            return answer_error(
                (rejection.status(), "bad_body"),
                &rejection.body_text(),
                &format!("a body has at most {} bytes", super::BODY_BYTES_MAX),
            );
        }
    };
    if source == alertmanager_webhook::SOURCE {
        let counts = alertmanager_webhook::Counts::from_query(query.as_deref());
        return alertmanager_webhook::post(&door, &headers, &body, counts).await;
    }
    if source == cloudevents::SOURCE {
        return cloudevents::post(&door, &headers, &body).await;
    }
    let known = match door.let_in(&source, &headers, &body).await {
        Ok(known) => known,
        Err(refusal) => return answer_refusal(&refusal),
    };
    let entries = match door.entries(&source, known.as_deref(), (&headers, &body)) {
        Ok(entries) => entries,
        Err(Unread::Broken(reason)) => {
            return answer_error((StatusCode::BAD_REQUEST, "bad_body"), &reason, TRY_HINT);
        }
        Err(Unread::Strange(reason)) => {
            let refusal = ("bad_body", reason.as_str(), TRY_HINT);
            return door.set_aside(&source, (&headers, &body), refusal).await;
        }
    };
    let number = door.number(&source, &headers, &body);
    let sender = format!("source {source}");
    if number.as_ref().is_some_and(|it| door.seen.has((&sender, it))) {
        let body = json!({"status": "ok", "alerts": 0, "changes": 0, "left_out": 0,
            "duplicate": true});
        return Json(body).into_response();
    }
    let answer = deliver(&door, &source, &entries, (&headers, &body)).await;
    if let Some(number) = number.filter(|_| was_taken(&answer)) {
        door.seen.remember((&sender, &number));
    }
    answer
}

const TRY_HINT: &str = "`watchkeeper source try FILE` shows what a body becomes";

/// Why a body becomes nothing.
enum Unread {
    /// It is cut off, or in no form that we know.
    Broken(String),
    /// It is well-formed and not understood.
    Strange(String),
}

/// Headers in which senders number their deliveries.
const NUMBERS: [&str; 4] =
    ["idempotency-key", "webhook-id", "x-github-delivery", "x-amz-sns-message-id"];

/// Whether an answer to a delivery is the last word on it.
pub(super) fn was_taken(answer: &Response) -> bool {
    answer.status() != StatusCode::SERVICE_UNAVAILABLE
}

/// Why a body may not come in, with the seconds to wait where waiting helps.
pub(super) type Turned = (Option<u64>, Refusal);

pub(super) fn answer_refusal((wait, (status, code, message, hint)): &Turned) -> Response {
    let mut answer = answer_error((*status, code), message, hint);
    if let Some(seconds) = wait {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(*seconds));
    }
    answer
}

impl Door {
    /// By what a delivery is known when it comes again. What is signed cannot be changed by whoever
    /// repeats what he overheard.
    fn number(&self, source: &str, headers: &HeaderMap, body: &[u8]) -> Option<String> {
        let rules = self.handle.peek(|state| Arc::clone(&state.rules));
        let known = self.sources.find(&rules, source);
        let signed = known.and_then(|it| match &it.proof.as_ref()?.0.style {
            ProofStyle::Sns { .. } => sns::number(body),
            style => signature::number(style, headers),
        });
        let mut told = NUMBERS.iter().map(|it| text_of(headers, it));
        signed.or_else(|| told.find(|it| !it.is_empty()))
    }

    /// The source that a body is for, if it may come in; `None` = the general mapper. Fails with the
    /// seconds to wait, where waiting helps, and the refusal.
    async fn let_in(
        &self,
        source: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Option<Arc<Known>>, Turned> {
        if source == guess::NAME {
            self.check_quota(source)?;
            return Ok(None);
        }
        let rules = self.handle.peek(|state| Arc::clone(&state.rules));
        let Some(known) = self.sources.find(&rules, source) else {
            return Err((None, unknown(source)));
        };
        self.admit(source, &known, (headers, body), Timestamp::now()).await?;
        self.check_quota(source)?;
        Ok(Some(known))
    }

    /// What a body of a source becomes.
    fn entries(
        &self,
        source: &str,
        known: Option<&Known>,
        (headers, body): (&HeaderMap, &[u8]),
    ) -> Result<Entries, Unread> {
        if let Some(asked) = sns::subscription(body) {
            let proof = known.and_then(|it| it.proof.as_ref());
            let endpoint = match proof.map(|(proof, _)| &proof.style) {
                Some(ProofStyle::Sns { endpoint, .. }) => endpoint,
                _ => "",
            };
            self.sns.answer(source, &asked, endpoint);
            return Ok(vec![Ok(Mapped::left_out(asked.title))]);
        }
        let content_type = text_of(headers, header::CONTENT_TYPE.as_str());
        let value = body::read(body, &content_type).map_err(Unread::Broken)?;
        let entries = match known.map(|it| &it.mapper) {
            None => guess_entries(&value, body, Timestamp::now()),
            Some(Ok(mapper)) => mapper.map(&value, &texts_of(headers)),
            Some(Err(reason)) => Err(reason.clone()),
        };
        entries.map_err(Unread::Strange)
    }

    /// Whether a sender may send, and may send now.
    pub(super) async fn admit(
        &self,
        source: &str,
        known: &Known,
        request: (&HeaderMap, &[u8]),
        now: Timestamp,
    ) -> Result<(), Turned> {
        if let Some((proof, secret)) = &known.proof {
            let checked = match &proof.style {
                ProofStyle::Sns { .. } => self.sns.check(proof, request.1, now).await,
                _ => signature::check(proof, secret, request, now).map_err(Unproven::Wrong),
            };
            checked.map_err(|error| unproven(source, error))?;
        }
        if let Some(quota) = known.quota {
            let taken = self.sources.quotas.take(source, quota, Instant::now());
            taken.map_err(|wait| used_up(quota, wait))?;
        }
        Ok(())
    }

    /// Takes one body out of the quota that the settings give a source.
    pub(super) fn check_quota(&self, source: &str) -> Result<(), Turned> {
        self.use_quota(source).map_err(|(quota, wait)| used_up(quota, wait))
    }
}

fn used_up(quota: Quota, wait: Duration) -> Turned {
    let seconds = quota::whole_seconds(wait);
    let message = format!("this source may send {} bodies in {} s", quota.count, quota.per_seconds);
    let hint = "send it again later; see `quota` of the source, or `server.quotas`";
    (Some(seconds), (StatusCode::TOO_MANY_REQUESTS, "quota_used_up", message, hint))
}

fn unproven(source: &str, error: Unproven) -> Turned {
    match error {
        Unproven::Wrong(reason) => {
            tracing::warn!(source, reason, "a body was refused");
            let hint = "see `hmac`, `token` or `sns` of this source in the rules";
            (None, (StatusCode::UNAUTHORIZED, "unauthorized", reason.to_owned(), hint))
        }
        Unproven::Later(reason) => {
            tracing::warn!(
                source,
                reason,
                "a body was not taken; its sender was told to come again"
            );
            let status = StatusCode::SERVICE_UNAVAILABLE;
            (Some(1), (status, "unavailable", reason, "send it again later"))
        }
    }
}

fn unknown(source: &str) -> Refusal {
    let message = format!("there is no source `{}`", source.escape_debug());
    let hint = "`watchkeeper source list` names them; declare it under `sources:`, or send to \
                `/ingest/guess`, which takes any tool's bodies";
    (StatusCode::NOT_FOUND, "unknown_source", message, hint)
}

/// What the general mapper makes of a body; each alert keeps the body as it came.
pub(super) fn guess_entries(body: &Value, bytes: &[u8], now: Timestamp) -> Result<Entries, String> {
    let mut found = match cloudevents::wrapped(body, now) {
        Some(found) => found,
        None => guess::guess(body, now)?,
    };
    // Each alert of a body has its own copy; a little more than is kept, so that the cut is marked.
    let raw = bytes.get(..validate::ANNOTATION_BYTES_MAX + 4).unwrap_or(bytes);
    let raw = String::from_utf8_lossy(raw);
    for it in &mut found {
        it.annotations.insert("raw".to_owned(), raw.clone().into_owned());
        it.annotations.insert("confidence".to_owned(), it.confidence.to_string());
    }
    Ok(found.into_iter().map(Ok).collect())
}

/// The good alerts of some entries, and those that are refused.
pub(super) fn delivery(entries: &Entries, now: Timestamp) -> Delivery {
    let mut delivery = Delivery::default();
    for (index, entry) in (0..).zip(entries) {
        let received = match entry {
            Ok(it) => match it.kind {
                Kind::Alert => it.receive(now).map(|it| delivery.alerts.push(it)),
                Kind::Change => it.change(now).map(|it| delivery.changes.push(it)),
                Kind::Other => Ok(()),
            },
            Err(reason) => Err(reason.clone()),
        };
        match received {
            Ok(()) => {}
            Err(reason) => delivery.rejected.push(RejectedAlert { index, reason }),
        }
    }
    delivery
}

/// Delivers the entries of a body. What of it is refused is set aside with the whole body, as it was
/// `sent`.
pub(super) async fn deliver(
    door: &Door,
    source: &str,
    entries: &Entries,
    sent: (&HeaderMap, &[u8]),
) -> Response {
    let count = |kind| entries.iter().flatten().filter(|it| it.kind == kind).count();
    for it in entries.iter().flatten().filter(|it| it.kind == Kind::Other) {
        let (title, link) = (it.title.as_str(), it.link.as_str());
        tracing::info!(source, title, link, "an entry that is no alert and no change was left out");
    }
    match door.take_in(source, |now| Ok::<_, ()>(delivery(entries, now))).await {
        Ok(rejected) if rejected.is_empty() => {
            let [alerts, changes, left_out] = [Kind::Alert, Kind::Change, Kind::Other].map(count);
            let body = json!({"status": "ok", "alerts": alerts, "changes": changes,
                "left_out": left_out});
            Json(body).into_response()
        }
        Ok(rejected) => {
            let reasons = super::list_reasons(&rejected);
            let hint = if entries.len() > rejected.len() {
                "the other alerts were taken; `watchkeeper source try FILE` shows what a body becomes"
            } else {
                "`watchkeeper source try FILE` shows what a body becomes"
            };
            door.set_aside(source, sent, ("alerts_refused", &reasons, hint)).await
        }
        Err(Failure::Unreadable(())) => answer_error(
            (StatusCode::BAD_REQUEST, "bad_body"),
            "the body cannot be read",
            "send JSON",
        ),
        Err(Failure::NotTaken(error)) => super::answer_not_taken(
            &error,
            answer_error(
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
                &error.to_string(),
                "send it again",
            ),
        ),
    }
}

fn text_of(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or_default().to_owned()
}

/// The headers for a mapping, without those that may hold a secret.
pub(super) fn texts_of(headers: &HeaderMap) -> BTreeMap<String, String> {
    const SECRET: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];
    let texts = headers.iter().filter_map(|(name, value)| {
        let name = name.as_str();
        let is_secret =
            SECRET.contains(&name) || name.contains("token") || name.contains("signature");
        (!is_secret).then(|| Some((name.to_owned(), value.to_str().ok()?.to_owned())))?
    });
    texts.collect()
}

/// What a body of a source becomes, its sender's proof aside. Fails with a reason when the body is
/// nothing that the source sends.
pub(super) fn try_source(
    source: &Source,
    body: &Value,
    headers: &BTreeMap<String, String>,
) -> Result<Entries, String> {
    // What comes with us has no file, and is compiled once.
    match BUILT_IN.get(&source.rule.name).filter(|_| source.rule.file.is_empty()) {
        Some(known) => known.mapper.as_ref().map_err(Clone::clone)?.map(body, headers),
        None => Mapper::compile(&source.map)?.map(body, headers),
    }
}

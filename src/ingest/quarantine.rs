//! Bodies that are well-formed and mean nothing to us are kept for people to look at, and to be tried
//! again once a mapping is mended: a file each, few enough and small enough, the newest of them.

use super::quota::Quotas;
use super::{Door, answer_error, webhook};
use crate::domain::source::Quota;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// How many bodies are kept.
const BODIES_MAX: usize = 200;
/// How long they are in all, in bytes.
const BYTES_MAX: usize = 8 << 20;
/// The longest one that is kept, in bytes.
const BODY_BYTES_MAX: usize = 1 << 20;
/// The longest file that is read again: escapes make a body longer.
const FILE_BYTES_MAX: u64 = 7 << 20;
/// The longest reason that is kept, in letters.
const REASON_LETTERS_MAX: usize = 1000;
/// How many are written within a minute, whoever sends them.
const PACE: Quota = Quota { count: 60, per_seconds: 60 };

/// A body that was not understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// By which it is asked for; the same body of the same source has the same.
    pub id: String,
    /// To which source it was sent.
    pub source: String,
    /// When it came last.
    pub received_at: Timestamp,
    /// How often it came.
    pub count: u64,
    /// Why it was not understood.
    pub reason: String,
    /// As the sender said.
    pub content_type: String,
    /// What came with it, without what may be a secret.
    pub headers: BTreeMap<String, String>,
    /// What came.
    pub body: String,
}

/// What is kept.
#[derive(Default)]
pub(super) struct Quarantine {
    /// Where; `None` = in memory only.
    folder: Option<PathBuf>,
    /// The oldest first.
    bodies: Mutex<VecDeque<Arc<Quarantined>>>,
    pace: Quotas,
}

impl Quarantine {
    /// Reads what was kept before. What cannot be read is left where it is.
    pub(super) fn open(folder: PathBuf) -> Self {
        let mut bodies: Vec<Quarantined> = Vec::new();
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let is_ours = entry.file_name().to_string_lossy().ends_with(".json");
            let is_short = entry.metadata().is_ok_and(|it| it.len() <= FILE_BYTES_MAX);
            if is_ours && is_short {
                let text = std::fs::read(entry.path()).unwrap_or_default();
                bodies.extend(serde_json::from_slice::<Quarantined>(&text));
            }
        }
        bodies.retain(|it| it.id == id_of(&it.source, it.body.as_bytes()));
        bodies.sort_by_key(|it| it.received_at);
        let mut bodies = bodies.into_iter().map(Arc::new).collect();
        for old in shorten(&mut bodies) {
            drop(std::fs::remove_file(folder.join(format!("{}.json", old.id))));
        }
        Self { folder: Some(folder), bodies: Mutex::new(bodies), pace: Quotas::default() }
    }

    /// Keeps a body. Tells its id; `None` = it is too long, or too many come.
    async fn keep(&self, mut new: Quarantined) -> Option<String> {
        if new.body.len() > BODY_BYTES_MAX || self.pace.take("", PACE, Instant::now()).is_err() {
            return None;
        }
        let (new, old) = {
            let mut bodies = self.bodies.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(place) = bodies.iter().position(|it| it.id == new.id) {
                let known = bodies.remove(place);
                new.count += known.map_or(0, |it| it.count);
            }
            let new = Arc::new(new);
            bodies.push_back(Arc::clone(&new));
            (new, shorten(&mut bodies))
        };
        if let Err(error) = self.write(&new, &old).await {
            tracing::warn!(%error, "a quarantined body is kept in memory only");
        }
        Some(new.id.clone())
    }

    async fn write(&self, new: &Quarantined, old: &[Arc<Quarantined>]) -> std::io::Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let path = |it: &Quarantined| folder.join(format!("{}.json", it.id));
        for it in old {
            drop(tokio::fs::remove_file(path(it)).await);
        }
        tokio::fs::create_dir_all(folder).await?;
        // A file that is cut off by a crash is no JSON, and is passed over.
        tokio::fs::write(path(new), serde_json::to_vec(new)?).await
    }

    /// What is kept, the newest first.
    fn all(&self) -> Vec<Arc<Quarantined>> {
        let bodies = self.bodies.lock().unwrap_or_else(PoisonError::into_inner);
        bodies.iter().rev().cloned().collect()
    }
}

/// Takes the oldest out until what is left is little enough.
fn shorten(bodies: &mut VecDeque<Arc<Quarantined>>) -> Vec<Arc<Quarantined>> {
    let mut bytes: usize = bodies.iter().map(|it| it.body.len()).sum();
    let mut old = Vec::new();
    while bodies.len() > BODIES_MAX || bytes > BYTES_MAX {
        let Some(oldest) = bodies.pop_front() else { break };
        bytes -= oldest.body.len();
        old.push(oldest);
    }
    old
}

/// Names a body by what it is: the beginning of its SHA-256, with its source.
fn id_of(source: &str, body: &[u8]) -> String {
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    digest.update(source.as_bytes());
    digest.update(b"\0");
    digest.update(body);
    let digest = digest.finish();
    let number = digest.as_ref().iter().take(8).fold(0, |sum, it| sum << 8 | u64::from(*it));
    format!("{number:016x}")
}

impl Door {
    /// Keeps a body that is well-formed and was not understood, and answers its sender with the reason.
    pub(super) async fn set_aside(
        &self,
        source: &str,
        (headers, body): (&HeaderMap, &[u8]),
        (code, reason, hint): (&str, &str, &str),
    ) -> Response {
        self.metrics.quarantined(source);
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
        let id = self.quarantine.keep(Quarantined {
            id: id_of(source, body),
            source: source.to_owned(),
            received_at: Timestamp::now(),
            count: 1,
            reason: reason.chars().take(REASON_LETTERS_MAX).collect(),
            content_type: content_type.unwrap_or_default().to_owned(),
            headers: webhook::texts_of(headers),
            body: String::from_utf8_lossy(body).into_owned(),
        });
        let id = id.await;
        tracing::info!(source, reason, id, "a body was not understood");
        let error = json!({"code": code, "message": reason, "hint": hint, "quarantined": id});
        (StatusCode::BAD_REQUEST, Json(json!({"error": error}))).into_response()
    }
}

/// The listing, without the bodies themselves.
pub(super) async fn list(State(door): State<Arc<Door>>) -> Response {
    let items: Vec<Value> = door
        .quarantine
        .all()
        .iter()
        .map(|it| {
            json!({"id": it.id, "source": it.source, "received_at": it.received_at,
                "count": it.count, "reason": it.reason, "bytes": it.body.len()})
        })
        .collect();
    Json(json!({"items": items, "next_cursor": null})).into_response()
}

pub(super) async fn show(State(door): State<Arc<Door>>, Path(id): Path<String>) -> Response {
    match door.quarantine.all().iter().find(|it| it.id == id) {
        Some(found) => Json(found).into_response(),
        None => answer_error(
            (StatusCode::NOT_FOUND, "not_found"),
            &format!("no body is kept under `{}`", id.escape_debug()),
            "`watchkeeper source quarantine list` names them; the oldest are forgotten",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(number: usize, length: usize) -> Quarantined {
        let body = format!("{number}{}", "x".repeat(length));
        Quarantined {
            id: id_of("a", body.as_bytes()),
            source: "a".to_owned(),
            received_at: Timestamp::from_second(i64::try_from(number).unwrap()).unwrap(),
            count: 1,
            reason: "no title".to_owned(),
            content_type: String::new(),
            headers: BTreeMap::new(),
            body,
        }
    }

    #[tokio::test]
    async fn the_newest_are_kept_also_over_a_restart() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("quarantine");
        let quarantine = Quarantine::open(path.clone());
        for number in 0..12 {
            quarantine.keep(body(number, 800_000)).await.unwrap();
        }
        assert_eq!(quarantine.keep(body(12, BODY_BYTES_MAX + 1)).await, None, "too long");
        let again = quarantine.keep(body(11, 800_000)).await.unwrap();
        std::fs::write(path.join("0000000000000000.json"), "{\"id\": \"../../x\"").unwrap();
        let forged = Quarantined { id: "../x".to_owned(), ..body(99, 8) };
        let forged = serde_json::to_vec(&forged).unwrap();
        std::fs::write(path.join("forged.json"), forged).unwrap();
        let reopened = Quarantine::open(path.clone());
        for quarantine in [&quarantine, &reopened] {
            let all = quarantine.all();
            assert_eq!(all.len(), BYTES_MAX / 800_000);
            assert_eq!((all[0].id.as_str(), all[0].count), (again.as_str(), 2));
            assert_eq!(all[1].received_at.as_second(), 10, "the newest first");
        }
        assert_eq!(std::fs::read_dir(path).unwrap().count(), BYTES_MAX / 800_000 + 2);
    }

    #[tokio::test]
    async fn whoever_sends_without_end_fills_nothing() {
        let quarantine = Quarantine::default();
        let mut kept = 0;
        for number in 0..300 {
            kept += usize::from(quarantine.keep(body(number, 8)).await.is_some());
        }
        assert!((60..120).contains(&kept), "{kept}");
        let mut many = (0..500).map(|it| Arc::new(body(it, 8))).collect();
        assert_eq!(shorten(&mut many).len(), 500 - BODIES_MAX);
        assert_eq!(many[0].received_at.as_second(), 300);
    }
}

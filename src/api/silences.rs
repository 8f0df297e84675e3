//! Silences over REST.

mod preview;

use super::Context;
use super::access::Caller;
use super::error::ApiError;
use super::input::{ByBody, Input, Params, page_limit, parse_words};
use super::listing::Page;
use super::routes::{Answer, Operation};
use crate::domain::alert::AlertState;
use crate::domain::event::Command;
use crate::domain::matcher::{Matcher, Matchers};
use crate::domain::silence::{Silence, SilenceState};
use crate::domain::{Accepted, ObjectKey, State as Domain};
use axum::Json;
use axum::extract::{Path, State};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The routes of this file.
pub(super) fn operations() -> Vec<Operation> {
    const ONE: Answer = Answer::Json("Silence");
    vec![
        Operation::read("/api/v1/silences", "Lists silences", Answer::Page("Silence"), list).query(
            &[
                ("state", "pending, active, expired; several with commas"),
                ("cursor", "`next_cursor` of the page before"),
                ("limit", "items a page, 1 to 1000, 100 by default"),
            ],
        ),
        Operation::command("/api/v1/silences", "Makes a silence", "SilenceInput", ONE, create),
        Operation::read(
            "/api/v1/silences/preview",
            "Tells which alerts of the last days a silence would have held back",
            Answer::Json("SilencePreview"),
            preview::show,
        )
        .query(&[
            ("filter", "matchers, all of them: `{host=\"a\",env!=\"test\"}`"),
            ("days", "how far back, 1 to 365, 30 by default"),
        ]),
        Operation::read("/api/v1/silences/{id}", "Shows a silence", ONE, show),
        Operation::command("/api/v1/silences/{id}/expire", "Ends it now", "By", ONE, expire),
    ]
}

/// A silence as REST shows it.
#[derive(Clone, Debug, Serialize)]
struct SilenceView {
    id: Arc<str>,
    state: SilenceState,
    matchers: Vec<String>,
    starts_at: Timestamp,
    ends_at: Timestamp,
    updated_at: Timestamp,
    created_by: String,
    comment: String,
    from_file: bool,
    time_intervals: Vec<String>,
    alert_count: u64,
    firing_alerts: usize,
    warnings: Vec<String>,
}

/// How many alerts fire, and how many of them each silence holds back.
struct Firing<'a> {
    all: usize,
    by_silence: BTreeMap<&'a str, usize>,
}

impl<'a> Firing<'a> {
    fn of(state: &'a Domain) -> Self {
        let all = state.alerts.values().filter(|it| it.state == AlertState::Firing).count();
        Self { all, by_silence: state.firing_alerts_by_silence() }
    }
}

fn view(firing: &Firing<'_>, silence: &Silence, now: Timestamp) -> SilenceView {
    SilenceView {
        time_intervals: silence.time_intervals.iter().map(|it| it.rule.name.clone()).collect(),
        alert_count: silence.alert_count,
        firing_alerts: firing.by_silence.get(&*silence.id).copied().unwrap_or(0),
        warnings: warnings(silence, firing, now),
        id: silence.id.clone(),
        state: silence.state(now),
        matchers: silence.matchers.0.iter().map(ToString::to_string).collect(),
        starts_at: silence.starts_at,
        ends_at: silence.ends_at,
        updated_at: silence.updated_at,
        created_by: silence.created_by.clone(),
        comment: silence.comment.clone(),
        from_file: silence.from_file,
    }
}

/// What people should know of a silence.
fn warnings(silence: &Silence, firing: &Firing<'_>, now: Timestamp) -> Vec<String> {
    /// With fewer alerts "more than half" means little.
    const MANY: usize = 10;
    if silence.state(now) != SilenceState::Active {
        return Vec::new();
    }
    let held = firing.by_silence.get(&*silence.id).copied().unwrap_or(0);
    let mut warnings = Vec::new();
    if silence.alert_count == 0 {
        warnings.push("it has matched no alert since it began".to_owned());
    }
    if held >= MANY && held * 2 > firing.all {
        warnings.push(format!("it holds back {held} of the {} alerts that fire", firing.all));
    }
    if held > 0 && silence.warns_at() <= now {
        warnings.push(format!("it ends soon, and {held} of its alerts fire"));
    }
    warnings
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    state: Option<String>,
    cursor: Option<String>,
    limit: Option<usize>,
}

async fn list(
    State(context): State<Context>,
    Params(query): Params<ListQuery>,
) -> Result<Json<Page<SilenceView>>, ApiError> {
    const STATES: [SilenceState; 3] =
        [SilenceState::Pending, SilenceState::Active, SilenceState::Expired];
    let states = parse_words(query.state.as_deref(), &STATES.map(|it| (it.as_str(), it)))?;
    let limit = page_limit(query.limit)?;
    let now = Timestamp::now();
    let page = context
        .handle
        .read(|state| {
            let firing = Firing::of(state);
            let mut wanted = state
                .silences
                .values()
                .filter(|it| query.cursor.as_deref().is_none_or(|cursor| &*it.id > cursor))
                .filter(|it| states.as_ref().is_none_or(|known| known.contains(&it.state(now))))
                .peekable();
            let items: Vec<_> =
                wanted.by_ref().take(limit).map(|it| view(&firing, it, now)).collect();
            let last = items.last().map(|it| it.id.to_string());
            Page { items, next_cursor: wanted.peek().and(last) }
        })
        .await?;
    Ok(Json(page))
}

async fn show(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<SilenceView>, ApiError> {
    let now = Timestamp::now();
    let found = context
        .handle
        .read(|state| state.silences.get(&*id).map(|it| view(&Firing::of(state), it, now)));
    found.await?.map(Json).ok_or_else(|| ApiError::not_found(format!("there is no silence `{id}`")))
}

/// The body of a new silence.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SilenceInput {
    by: Option<String>,
    /// The silence that is changed.
    id: Option<String>,
    matchers: Vec<Matcher>,
    starts_at: Option<Timestamp>,
    ends_at: Option<Timestamp>,
    duration_seconds: Option<u32>,
    comment: String,
}

impl SilenceInput {
    fn command(self, by: &str, now: Timestamp) -> Result<Command, ApiError> {
        let starts_at = self.starts_at.unwrap_or(now);
        let ends_at = match (self.ends_at, self.duration_seconds) {
            (Some(at), None) => at,
            (None, Some(seconds)) => starts_at
                .max(now)
                .checked_add(SignedDuration::from_secs(i64::from(seconds)))
                .map_err(|_| ApiError::bad_request("the silence ends too far in the future"))?,
            _ => {
                return Err(ApiError::bad_request("say when the silence ends, in one way")
                    .hint("give either `ends_at` or `duration_seconds`"));
            }
        };
        if self.matchers.is_empty() {
            return Err(ApiError::bad_request("a silence needs at least one matcher")
                .hint("for example `\"matchers\": [\"host=\\\"a\\\"\"]`"));
        }
        if self.comment.trim().is_empty() {
            return Err(ApiError::bad_request("a silence needs a reason")
                .hint("say in `comment` why the alerts are held back"));
        }
        Ok(Command::SetSilence {
            new_id: uuid::Uuid::new_v4().to_string(),
            replaces: self.id,
            matchers: Matchers(self.matchers),
            starts_at,
            ends_at,
            created_by: by.to_owned(),
            comment: self.comment,
        })
    }
}

async fn create(
    State(context): State<Context>,
    caller: Caller,
    Input(body): Input<SilenceInput>,
) -> Result<Json<SilenceView>, ApiError> {
    let by = caller.by(body.by.clone())?;
    let mut body = body;
    if let (Some(id), None) = (&body.id, body.starts_at) {
        // A change that tells no start keeps the one that there is.
        let known = context.handle.read(|state| state.silences.get(&**id).map(|it| it.starts_at));
        body.starts_at = known.await?;
    }
    let command = body.command(&by, Timestamp::now())?;
    match context.handle.command(by, command).await? {
        Accepted::Object(ObjectKey::Silence(id)) => {
            show(State(context), Path(id.to_string())).await
        }
        Accepted::Object(_) | Accepted::Done | Accepted::AfterEffect(_) => {
            Err(ApiError::unavailable("the silence was made, but cannot be shown"))
        }
    }
}

async fn expire(
    State(context): State<Context>,
    Path(id): Path<String>,
    caller: Caller,
    Input(body): Input<ByBody>,
) -> Result<Json<SilenceView>, ApiError> {
    let by = caller.by(body.by)?;
    context.handle.command(by, Command::ExpireSilence { id: id.clone() }).await?;
    show(State(context), Path(id)).await
}

#[cfg(test)]
mod tests {
    use super::super::openapi::assert_schema;
    use super::super::samples;
    use super::*;

    #[test]
    fn the_view_is_as_documented() {
        let now: Timestamp = "2026-01-01T00:30:00Z".parse().unwrap();
        let json =
            serde_json::to_value(view(&Firing::of(&Domain::default()), &samples::silence(), now))
                .unwrap();
        assert_schema("Silence", &json);
        assert_eq!(json["state"], "active");
        assert_eq!(json["matchers"], serde_json::json!(["host=\"a\""]));
    }

    #[test]
    fn people_are_warned_of_a_silence() {
        let now: Timestamp = "2026-01-01T00:59:00Z".parse().unwrap();
        let silence = samples::silence();
        let told = |alert_count, held, all| {
            let by_silence = BTreeMap::from([(&*silence.id, held)]);
            let silence = Silence { alert_count, ..silence.clone() };
            warnings(&silence, &Firing { all, by_silence }, now).join("; ")
        };
        assert_eq!(told(0, 0, 9), "it has matched no alert since it began");
        assert_eq!(told(1, 1, 1), "it ends soon, and 1 of its alerts fire");
        assert!(told(12, 12, 20).starts_with("it holds back 12 of the 20 alerts that fire"));
        assert!(!told(12, 12, 200).contains("holds back"));
    }

    #[test]
    fn a_new_silence_has_an_end_and_matchers() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let command = |text: &str| {
            let input: SilenceInput = serde_json::from_str(text).unwrap();
            input.command("ada", now)
        };
        let made = command(r#"{"matchers":["a=\"b\""],"duration_seconds":60,"comment":"c"}"#);
        let Ok(Command::SetSilence { starts_at, ends_at, created_by, .. }) = made else {
            panic!("{made:?}");
        };
        assert_eq!((starts_at, created_by.as_str()), (now, "ada"));
        assert_eq!(ends_at.to_string(), "2026-01-01T00:01:00Z");
        for bad in [
            r#"{"matchers":["a=\"b\""],"comment":""}"#,
            r#"{"matchers":[],"duration_seconds":1,"comment":"c"}"#,
            r#"{"matchers":["a=b"],"duration_seconds":1,"comment":" "}"#,
            r#"{"matchers":["a=b"],"duration_seconds":1,"ends_at":"2027-01-01T00:00Z","comment":"c"}"#,
        ] {
            assert!(command(bad).is_err(), "{bad}");
        }
    }
}

//! Reports over REST: what made noise.

use super::Context;
use super::error::ApiError;
use super::input::Params;
use super::listing;
use super::routes::{Answer, Operation};
use crate::domain::State as Domain;
use crate::domain::alert::{Alert, Disposition};
use crate::domain::label::{Fingerprint, Labels};
use crate::domain::later;
use crate::domain::noise::{Advice, Change, Day, RuleAccount, Summary};
use crate::domain::problem::{Problem, ProblemId, ProblemState};
use crate::domain::rules::{Mode, Occasion};
use crate::store::{Kind, Scope};
use axum::Json;
use axum::extract::State;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::sync::Arc;

/// How far back a report looks unless told otherwise: a fortnight shows most of what comes again.
const SECONDS_DEFAULT: i64 = 14 * 24 * 3600;
/// How many accounts are read at once.
const CHUNK: usize = 500;
/// An alert recurs when it fired so often.
const RECURS_MIN: u64 = 3;
/// How many alerts that recur are named.
const ALERTS_MAX: usize = 20;

/// The routes of this file.
pub(super) fn operations() -> Vec<Operation> {
    let noise = Operation::read(
        "/api/v1/reports/noise",
        "Tells what fired, who was told, and who would have been",
        Answer::Json("NoiseReport"),
        noise,
    );
    vec![noise.query(&[
        ("since", "from the beginning of this time's day on, in UTC; a fortnight before `until` by default"),
        ("until", "to the end of this time's day; now by default"),
    ])]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoiseQuery {
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl NoiseQuery {
    /// The first day, and the one after the last.
    fn days(&self, now: Timestamp) -> Result<(Day, Day), ApiError> {
        let until = self.until.unwrap_or(now);
        let since = self.since.unwrap_or_else(|| later(until, -SECONDS_DEFAULT));
        // What ends at midnight does not reach into the next day.
        let last = until.checked_sub(SignedDuration::from_nanos(1)).unwrap_or(until);
        let (from, end) = (Day::of(since), Day::of(last).next());
        if from >= end {
            return Err(ApiError::bad_request("`since` must be before `until`"));
        }
        Ok((from, end))
    }
}

/// The report as REST shows it.
#[derive(Clone, Debug, Serialize)]
struct NoiseReport {
    since: Timestamp,
    until: Timestamp,
    days: u64,
    mode: Mode,
    fired: u64,
    held_back: u64,
    incidents: u64,
    acted_on: u64,
    by_itself: u64,
    pages_heard: u64,
    pages_sent: u64,
    pages_would_send: u64,
    heard: Vec<Heard>,
    told: Vec<Told>,
    rules: Vec<RuleView>,
    alerts: Vec<Recurring>,
    problems: Vec<Known>,
}

#[derive(Clone, Debug, Serialize)]
struct Heard {
    receiver: String,
    new: u64,
    changed: u64,
    repeated: u64,
    resolved: u64,
}

#[derive(Clone, Debug, Serialize)]
struct Told {
    receiver: String,
    occasion: Occasion,
    sent: u64,
    would_send: u64,
    failed: u64,
    muted: u64,
}

#[derive(Clone, Debug, Serialize)]
struct RuleView {
    rule: Arc<str>,
    fired: u64,
    silenced: u64,
    inhibited: u64,
    in_maintenance: u64,
    flapping: u64,
    opened: u64,
    joined: u64,
    reopened: u64,
    acted_on: u64,
    by_itself: u64,
    median_seconds: Option<u64>,
    pages_heard: u64,
    pages_sent: u64,
    pages_would_send: u64,
    new: u64,
    behind: Option<Behind>,
    advice: Vec<AdviceView>,
}

#[derive(Clone, Debug, Serialize)]
struct Behind {
    rule: String,
    count: u64,
}

#[derive(Clone, Debug, Serialize)]
struct AdviceView {
    change: Change,
    why: String,
}

#[derive(Clone, Debug, Serialize)]
struct Recurring {
    fingerprint: Fingerprint,
    rule: Arc<str>,
    labels: Option<Labels>,
    fired: u64,
}

#[derive(Clone, Debug, Serialize)]
struct Known {
    id: ProblemId,
    title: String,
    state: ProblemState,
    incidents: usize,
    last_seen: Timestamp,
}

async fn noise(
    State(context): State<Context>,
    Params(query): Params<NoiseQuery>,
) -> Result<Json<NoiseReport>, ApiError> {
    let (from, end) = query.days(Timestamp::now())?;
    let problem = |it: &Problem| Known {
        id: it.id,
        title: it.title.clone(),
        state: it.state,
        incidents: it.incidents.len(),
        last_seen: it.last_seen,
    };
    let seen = |it: &&Problem| (from..end).contains(&Day::of(it.last_seen));
    let look = |state: &Domain| {
        let problems: Vec<Known> = state.problems.values().filter(seen).map(problem).collect();
        (state.rules.mode, problems)
    };
    let (mode, problems) = context.handle.read(look).await?;
    let summary = sum_up(&context, from, end).await?;
    let alerts = recurring(&context, &summary).await?;
    let report = view(summary, (from, end), mode);
    Ok(Json(NoiseReport { alerts, problems, ..report }))
}

/// Adds the accounts of some days up.
async fn sum_up(context: &Context, from: Day, end: Day) -> Result<Summary, ApiError> {
    let mut summary = Summary::default();
    let first = format!("{from}/");
    let mut before = Some(format!("{end}/"));
    loop {
        let chunk = context.handle.list(Kind::Noise, Scope::All, before, CHUNK).await;
        let chunk = chunk.map_err(|error| ApiError::store(&error))?;
        for object in chunk.iter().filter(|it| it.id >= first) {
            summary.add(&listing::decode(object)?, from, end);
        }
        match chunk.last() {
            Some(last) if chunk.len() == CHUNK && last.id >= first => {
                before = Some(last.id.clone());
            }
            _ => return Ok(summary),
        }
    }
}

/// The alerts that fired most often, those of the same number in the order of their rules.
async fn recurring(context: &Context, summary: &Summary) -> Result<Vec<Recurring>, ApiError> {
    let mut found: Vec<Recurring> = (summary.series.iter())
        .filter(|(_, (_, fired))| *fired >= RECURS_MIN)
        .map(|(fingerprint, (rule, fired))| Recurring {
            fingerprint: *fingerprint,
            rule: rule.clone(),
            labels: None,
            fired: *fired,
        })
        .collect();
    found.sort_by_key(|it| (Reverse(it.fired), it.rule.clone(), it.fingerprint));
    found.truncate(ALERTS_MAX);
    for it in &mut found {
        let open = |state: &Domain| state.alerts.get(&it.fingerprint).map(|it| it.labels.clone());
        it.labels = context.handle.peek(open);
        if it.labels.is_none() {
            let closed = context.handle.get(Kind::Alert, it.fingerprint.to_string()).await;
            let closed = closed.map_err(|error| ApiError::store(&error))?;
            let alert: Option<Alert> = closed.as_ref().map(listing::decode).transpose()?;
            it.labels = alert.map(|it| it.labels);
        }
    }
    Ok(found)
}

fn view(summary: Summary, (from, end): (Day, Day), mode: Mode) -> NoiseReport {
    let total = summary.total;
    let heard: Vec<Heard> = (total.heard.into_iter())
        .map(|(receiver, it)| Heard {
            receiver,
            new: it.new,
            changed: it.changed,
            repeated: it.repeated,
            resolved: it.resolved,
        })
        .collect();
    let told: Vec<Told> = (total.told.into_iter())
        .flat_map(|(receiver, occasions)| {
            occasions.into_iter().map(move |(occasion, it)| Told {
                receiver: receiver.clone(),
                occasion,
                sent: it.sent,
                would_send: it.would_send,
                failed: it.failed,
                muted: it.muted,
            })
        })
        .collect();
    let accounts = summary.rules.values();
    let (fired, held_back) = accounts
        .fold((0, 0), |(fired, held_back), it| (fired + it.fired, held_back + it.held_back()));
    let mut rules: Vec<RuleView> = summary.rules.into_iter().map(rule).collect();
    rules.sort_by_key(|it| {
        let pages = it.pages_heard.max(it.pages_sent + it.pages_would_send);
        (Reverse(pages), Reverse(it.fired), it.rule.clone())
    });
    NoiseReport {
        since: from.begins_at(),
        until: end.begins_at(),
        days: summary.days,
        mode,
        fired,
        held_back,
        incidents: total.incidents_opened,
        acted_on: total.acted_on,
        by_itself: total.by_itself,
        pages_heard: heard.iter().map(|it| it.new + it.changed + it.repeated + it.resolved).sum(),
        pages_sent: told.iter().map(|it| it.sent).sum(),
        pages_would_send: told.iter().map(|it| it.would_send).sum(),
        heard,
        told,
        rules,
        alerts: Vec::new(),
        problems: Vec::new(),
    }
}

fn rule((rule, it): (Arc<str>, RuleAccount)) -> RuleView {
    let advice = it.advice().into_iter();
    let behind = it.most_behind().map(|(rule, count)| Behind { rule: rule.to_owned(), count });
    RuleView {
        rule,
        behind,
        advice: advice.map(|Advice { change, why }| AdviceView { change, why }).collect(),
        fired: it.fired,
        silenced: it.became(Disposition::Silenced),
        inhibited: it.became(Disposition::Inhibited),
        in_maintenance: it.became(Disposition::InMaintenance),
        flapping: it.became(Disposition::Flapping),
        opened: it.became(Disposition::Opened),
        joined: it.became(Disposition::Joined),
        reopened: it.became(Disposition::Reopened),
        acted_on: it.acted_on,
        by_itself: it.by_itself,
        median_seconds: it.lasted.median_seconds(),
        pages_heard: it.heard,
        pages_sent: it.sent,
        pages_would_send: it.would_send,
        new: it.new,
    }
}

#[cfg(test)]
mod tests {
    use super::super::openapi::assert_schema;
    use super::super::samples;
    use super::*;
    use crate::domain::event::Event;
    use crate::domain::noise::Page;
    use crate::domain::rules::RuleSet;
    use serde_json::{Value, json};

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn days_are_whole_days_of_utc() {
        let now = time("2026-11-23T12:00:00Z");
        for (since, until, expected) in [
            (None, None, Some(("2026-11-09", "2026-11-24"))),
            (Some("2026-11-24T01:00:00Z"), None, None),
            (Some("2026-11-23T13:00:00Z"), None, Some(("2026-11-23", "2026-11-24"))),
            (
                Some("2026-11-01T00:00:00Z"),
                Some("2026-11-03T00:00:00Z"),
                Some(("2026-11-01", "2026-11-03")),
            ),
            (Some("2026-11-01T00:00:00Z"), Some("2026-11-01T00:00:00Z"), None),
        ] {
            let query = NoiseQuery { since: since.map(time), until: until.map(time) };
            let days = query.days(now).ok().map(|(from, end)| (from.to_string(), end.to_string()));
            let expected = expected.map(|(from, end)| (from.to_owned(), end.to_owned()));
            assert_eq!(days, expected, "{since:?} {until:?}");
        }
    }

    #[test]
    fn the_view_is_as_documented() {
        let mut state = Domain::default();
        let now = time("2026-11-23T12:00:00Z");
        let rules = RuleSet { mode: Mode::Observe, ..RuleSet::default() };
        drop(state.apply(now, &Event::RulesLoaded(Arc::new(rules))));
        let labels = Labels::from_pairs([("alertname", "Down")]);
        let page = Page::new("pager", "{}", true, [(&labels, true)].into_iter());
        drop(state.apply(now, &Event::PageHeard(page)));
        let mut summary = Summary::default();
        let day = Day::of(now);
        for key in state.noise.keys() {
            summary.add(&state.noise.get(&key).unwrap(), day, day.next());
        }
        let mut report = view(summary, (day, day.next()), Mode::Observe);
        let recurring = Recurring {
            fingerprint: labels.fingerprint(),
            rule: "Down".into(),
            labels: Some(labels),
            fired: 3,
        };
        let problem = samples::problem();
        report.alerts.push(recurring);
        report.problems.push(Known {
            id: problem.id,
            title: problem.title,
            state: problem.state,
            incidents: 3,
            last_seen: problem.last_seen,
        });
        report.told.push(Told {
            receiver: "hook".to_owned(),
            occasion: Occasion::Opened,
            sent: 0,
            would_send: 1,
            failed: 0,
            muted: 0,
        });
        let json: Value = serde_json::to_value(&report).unwrap();
        assert_schema("NoiseReport", &json);
        for (schema, list) in [
            ("NoiseHeard", "heard"),
            ("NoiseTold", "told"),
            ("NoiseRule", "rules"),
            ("NoiseAlert", "alerts"),
            ("NoiseProblem", "problems"),
        ] {
            assert_schema(schema, &json[list][0]);
        }
        assert_schema("NoiseBehind", &json!({"rule": "DbDown", "count": 3}));
        assert_schema("NoiseAdvice", &json!({"change": Change::Merge, "why": ""}));
        assert_eq!(json["pages_heard"], 1);
        assert_eq!(json["rules"][0]["pages_heard"], 1);
        let new =
            json!({"receiver": "pager", "new": 1, "changed": 0, "repeated": 0, "resolved": 0});
        assert_eq!(json["heard"], json!([new]));
    }
}

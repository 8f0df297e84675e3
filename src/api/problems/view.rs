//! A problem as REST shows it: its life, and the record by which people judge it.

use crate::domain::change::ChangeId;
use crate::domain::incident::IncidentId;
use crate::domain::problem::{
    Forecasts, How, Interval, Problem, ProblemId, ProblemState, Recent, Rhythm, SharedTrait, Trend,
};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeSet;

/// A problem as REST shows it.
#[derive(Clone, Debug, Serialize)]
pub(in crate::api) struct ProblemView {
    pub(super) id: ProblemId,
    title: String,
    state: ProblemState,
    incidents: BTreeSet<IncidentId>,
    count: usize,
    first_seen: Timestamp,
    last_seen: Timestamp,
    detected_at: Timestamp,
    updated_at: Timestamp,
    period_seconds: Option<u64>,
    next_expected_at: Option<Timestamp>,
    confidence: u16,
    by_chance: bool,
    why: Vec<String>,
    detection: String,
    reason: String,
    merged_into: Option<ProblemId>,
    cause: String,
    workaround: String,
    runbook: Option<String>,
    fix: Option<ChangeId>,
    resolved_at: Option<Timestamp>,
    reopen_count: u32,
    occurrences: u32,
    recent: Recent,
    forecasts: Forecasts,
    rhythm: Option<Rhythm>,
    next_expected: Option<Interval>,
    trend: Option<TrendView>,
    impact_minutes: u64,
    breaches: u32,
    acted_on: u32,
    changed_before: u32,
    places: Vec<PlaceView>,
    traits: Vec<TraitView>,
    openings: Vec<OpeningView>,
    members: Vec<MemberView>,
}

#[derive(Clone, Debug, Serialize)]
struct TrendView {
    direction: &'static str,
    #[serde(flatten)]
    trend: Trend,
}

#[derive(Clone, Debug, Serialize)]
struct PlaceView {
    place: String,
    incidents: u32,
}

#[derive(Clone, Debug, Serialize)]
struct TraitView {
    #[serde(flatten)]
    told: SharedTrait,
    /// How many times as frequent it is inside as elsewhere; `None` = it is nowhere else.
    lift: Option<u64>,
}

#[derive(Clone, Debug, Serialize)]
struct OpeningView {
    alertname: String,
    place: String,
    count: u32,
    of: u32,
}

#[derive(Clone, Debug, Serialize)]
struct MemberView {
    incident: IncidentId,
    how: How,
    points: u16,
}

/// Makes the view of a problem.
pub(in crate::api) fn view(problem: &Problem) -> ProblemView {
    let figures = &problem.figures;
    let trend = |trend: Trend| TrendView { direction: trend.as_str(), trend };
    let lift = |it: &SharedTrait| {
        let inside = u64::from(it.inside) * 1_000_000 / u64::from(it.of.max(1));
        inside.checked_div(u64::from(it.elsewhere_ppm))
    };
    let places = figures.places.iter();
    let openings = figures.openings.iter();
    let members = figures.members.iter();
    ProblemView {
        id: problem.id,
        title: problem.title.clone(),
        state: problem.state,
        incidents: problem.incidents.clone(),
        count: problem.incidents.len(),
        first_seen: problem.first_seen,
        last_seen: problem.last_seen,
        detected_at: problem.detected_at,
        updated_at: problem.updated_at,
        period_seconds: problem.period_seconds,
        next_expected_at: problem.next_expected_at,
        confidence: problem.confidence,
        by_chance: problem.by_chance,
        why: problem.why.clone(),
        detection: problem.detection.clone(),
        reason: problem.reason.clone(),
        merged_into: problem.merged_into,
        cause: problem.cause.clone(),
        workaround: problem.workaround.clone(),
        runbook: problem.runbook.clone(),
        fix: problem.fix,
        resolved_at: problem.resolved_at,
        reopen_count: problem.reopen_count,
        occurrences: figures.occurrences,
        recent: figures.recent,
        forecasts: figures.forecasts,
        rhythm: figures.rhythm.clone(),
        next_expected: figures.next_expected,
        trend: figures.trend.map(trend),
        impact_minutes: figures.impact_minutes,
        breaches: figures.breaches,
        acted_on: figures.acted_on,
        changed_before: figures.changed_before,
        places: places
            .map(|(place, incidents)| PlaceView { place: place.clone(), incidents: *incidents })
            .collect(),
        traits: figures
            .traits
            .iter()
            .map(|it| TraitView { told: it.clone(), lift: lift(it) })
            .collect(),
        openings: openings
            .map(|it| OpeningView {
                alertname: it.symptom.alertname.clone(),
                place: it.symptom.place.clone(),
                count: it.count,
                of: it.of,
            })
            .collect(),
        members: members
            .map(|(id, it)| MemberView { incident: *id, how: it.how, points: it.points })
            .collect(),
    }
}

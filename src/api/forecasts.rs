//! Capacity forecasts over REST: files declare them; what the last look found, and why it is quiet.

use super::Context;
use super::error::ApiError;
use super::listing::Page;
use super::routes::{Answer, Operation};
use crate::domain::forecast::{ForecastRule, Look, Outlook};
use crate::domain::label::{Fingerprint, Labels};
use crate::telemetry::LastLook;
use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;

/// So many series of a forecast are shown, those that will be full first.
const SERIES_MAX: usize = 100;

/// The routes of this file.
pub(super) fn operations() -> Vec<Operation> {
    let list = "Lists capacity forecasts with what the last look found";
    vec![Operation::read("/api/v1/forecasts", list, Answer::Page("Forecast"), self::list)]
}

/// A forecast as REST shows it.
#[derive(Clone, Debug, Serialize)]
struct ForecastView {
    name: String,
    source: String,
    promql: String,
    limit: String,
    falling: bool,
    horizon_seconds: u32,
    look_back_seconds: u32,
    season_seconds: Option<u32>,
    every_seconds: u32,
    looked_at: Option<Timestamp>,
    error: Option<String>,
    series_count: usize,
    series: Vec<SeriesView>,
    file: String,
    line: u32,
}

/// A series as REST shows it.
#[derive(Clone, Debug, Serialize)]
struct SeriesView {
    labels: Labels,
    outlook: &'static str,
    expected_at: Option<Timestamp>,
    from: Option<Timestamp>,
    until: Option<Timestamp>,
    why: String,
    alert: Option<Fingerprint>,
}

fn view(rule: &ForecastRule, last: Option<&LastLook>) -> ForecastView {
    let looks = last.map(|it| it.looks.as_slice()).unwrap_or_default();
    let mut sorted: Vec<&Look> = looks.iter().collect();
    sorted.sort_by_key(|it| (matches!(it.outlook, Outlook::Quiet(_)), &it.series));
    ForecastView {
        name: rule.rule.name.clone(),
        source: rule.source.clone(),
        promql: rule.promql.clone(),
        limit: rule.limit.value.clone(),
        falling: rule.limit.is_falling,
        horizon_seconds: rule.horizon_seconds,
        look_back_seconds: rule.look_back_seconds,
        season_seconds: rule.season_seconds,
        every_seconds: rule.every_seconds,
        looked_at: last.and_then(|it| it.looked_at),
        error: last.and_then(|it| it.error.clone()),
        series_count: looks.len(),
        series: sorted.into_iter().take(SERIES_MAX).map(|it| series(rule, it)).collect(),
        file: rule.rule.file.clone(),
        line: rule.rule.line,
    }
}

fn series(rule: &ForecastRule, look: &Look) -> SeriesView {
    let foreseen = match &look.outlook {
        Outlook::Foreseen(it) => Some(it),
        Outlook::Reached | Outlook::Quiet(_) => None,
    };
    let why = match &look.outlook {
        Outlook::Reached => "it is reached".to_owned(),
        Outlook::Foreseen(it) => format!("{}, {}", it.when, it.why),
        Outlook::Quiet(quiet) => quiet.in_words().to_owned(),
    };
    let is_told = !matches!(look.outlook, Outlook::Quiet(_));
    let labels = rule.labels_of(&look.series).ok().filter(|_| is_told);
    SeriesView {
        labels: look.series.clone(),
        outlook: look.outlook.as_str(),
        expected_at: foreseen.map(|it| it.at),
        from: foreseen.map(|it| it.from),
        until: foreseen.map(|it| it.until),
        why,
        alert: labels.map(|it| it.fingerprint()),
    }
}

async fn list(State(context): State<Context>) -> Result<Json<Page<ForecastView>>, ApiError> {
    let rules = context.handle.read(|state| state.rules.forecasts.clone()).await?;
    let last = context.metrics.last_looks();
    let items = rules.iter().map(|it| view(it, last.get(&it.rule.name))).collect();
    Ok(Json(Page { items, next_cursor: None }))
}

#[cfg(test)]
mod tests {
    use super::super::openapi::assert_schema;
    use super::*;
    use crate::domain::forecast::{Foreseen, Limit, Quiet};

    #[test]
    fn the_view_is_as_documented_and_what_will_be_full_comes_first() {
        let at: Timestamp = "2026-01-01T00:30:00Z".parse().unwrap();
        let rule = ForecastRule {
            rule: std::sync::Arc::default(),
            source: "prod".to_owned(),
            promql: "disk".to_owned(),
            limit: Limit { value: "95".to_owned(), is_falling: false },
            horizon_seconds: 3600,
            look_back_seconds: 7200,
            every_seconds: 60,
            season_seconds: None,
            critical_seconds: 60,
            error_seconds: 600,
            labels: Vec::new(),
            annotations: Vec::new(),
        };
        let foreseen =
            Foreseen { at, from: at, until: at, when: "in 1 h".to_owned(), why: "x".to_owned() };
        let look = |name: &str, outlook| Look {
            series: Labels::from_pairs([("instance", name)]),
            outlook,
            is_held: false,
        };
        let looks =
            vec![look("a", Outlook::Quiet(Quiet::NoTrend)), look("b", Outlook::Foreseen(foreseen))];
        let last = LastLook { looked_at: Some(at), error: None, looks };
        let json = serde_json::to_value(view(&rule, Some(&last))).unwrap();
        assert_schema("Forecast", &json);
        assert_schema("ForecastSeries", &json["series"][0]);
        assert_eq!(json["series"][0]["labels"]["instance"], "b");
        assert_eq!(json["series"][0]["expected_at"], "2026-01-01T00:30:00Z");
        assert_eq!(json["series"][1]["outlook"], "no_trend");
        assert_schema("Forecast", &serde_json::to_value(view(&rule, None)).unwrap());
    }
}

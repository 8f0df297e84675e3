//! Reads measured values from Prometheus servers, and tells of those that will be full.

use super::poll::{client, data, question};
use super::{Delivery, Door, mapped, payload, validate};
use crate::config::PrometheusServer;
use crate::domain::event::{ReceivedAlert, RejectedAlert};
use crate::domain::forecast::{ForecastRule, Look, SOURCE};
use crate::domain::label::Labels;
use jiff::Timestamp;
use reqwest::Client;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 32 << 20;
/// The most series of a forecast.
const SERIES_MAX: usize = 1000;
/// How often we look whether it is time for a look, or the rules have changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Begins to look ahead; it goes on for ever, one question at a time.
pub fn begin(door: &Arc<Door>, servers: &[PrometheusServer]) -> Result<JoinHandle<()>, String> {
    let servers = servers.iter().map(|it| (it.name.clone(), it.clone())).collect();
    let forecaster = Forecaster {
        door: door.clone(),
        servers,
        client: client()?,
        due: BTreeMap::new(),
        failing: BTreeSet::new(),
    };
    Ok(tokio::spawn(forecaster.run()))
}

/// Series by their labels, with their readings on an even grid.
type Series = Vec<(Labels, Vec<Option<f64>>)>;

/// What is known of the forecasts that the rules declare.
struct Forecaster {
    door: Arc<Door>,
    servers: BTreeMap<String, PrometheusServer>,
    client: Client,
    /// When each of them is looked at next, by name, and as what it was declared then.
    due: BTreeMap<String, (ForecastRule, Instant)>,
    /// The names of those whose last look failed.
    failing: BTreeSet<String>,
}

impl Forecaster {
    async fn run(mut self) {
        loop {
            let is_changed = self.door.handle.peek(|state| {
                let rules = &state.rules.forecasts;
                let known = |it: &ForecastRule| {
                    self.due.get(&it.rule.name).is_some_and(|(known, _)| known == it)
                };
                rules.len() != self.due.len() || !rules.iter().all(known)
            });
            if is_changed {
                self.take_rules().await;
            }
            let now = Instant::now();
            let due = self.due.values().find(|(_, at)| *at <= now).map(|(rule, _)| rule.clone());
            match due {
                Some(rule) => self.look(rule).await,
                None => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    /// New forecasts are looked at at once; the alerts of those that are gone end.
    async fn take_rules(&mut self) {
        let (rules, over) = self.door.handle.peek(|state| {
            (state.rules.forecasts.clone(), state.forecasts_without_rule(Timestamp::now()))
        });
        let now = Instant::now();
        let before = std::mem::take(&mut self.due);
        for rule in rules {
            let known = before.get(&rule.rule.name).filter(|(known, _)| *known == rule);
            let at = known.map_or(now, |(_, at)| *at);
            self.due.insert(rule.rule.name.clone(), (rule, at));
        }
        for name in before.keys().filter(|it| !self.due.contains_key(*it)) {
            self.door.metrics.forget_forecast(name);
        }
        if !over.is_empty()
            && let Err(error) =
                self.door.append(SOURCE, Delivery { alerts: over, ..Delivery::default() }).await
        {
            tracing::warn!(%error, "alerts of forecasts that are gone did not end; they will run out");
        }
    }

    async fn look(&mut self, rule: ForecastRule) {
        let name = rule.rule.name.clone();
        let every = Duration::from_secs(rule.every_seconds.into());
        let result = self.look_ahead(&rule).await;
        match &result {
            Ok(_) => drop(self.failing.remove(&name)),
            Err(error) if self.failing.insert(name.clone()) => {
                tracing::warn!(forecast = name, error, "the forecast cannot be made");
            }
            Err(_) => {}
        }
        self.door.metrics.looked_ahead(&name, result);
        self.due.insert(name, (rule, Instant::now() + every));
    }

    /// Asks, looks, tells.
    async fn look_ahead(&self, rule: &ForecastRule) -> Result<Vec<Look>, String> {
        let source = &rule.source;
        let server = self.servers.get(source).ok_or_else(|| {
            format!("there is no `prometheus` of this name in the settings: `{source}`")
        })?;
        let now = Timestamp::now();
        let step = i64::from(rule.step_seconds());
        // All looks at a value see the same moments.
        let last = now.as_second() / step * step;
        let first = last - i64::from(rule.look_back_seconds) / step * step;
        let asked = [
            ("query", rule.promql.clone()),
            ("start", first.to_string()),
            ("end", last.to_string()),
            ("step", step.to_string()),
        ];
        let asking = question(&self.client, server, "/api/v1/query_range", &asked)?;
        let body = asking.read(ANSWER_BYTES_MAX).await?;
        let series = read(&body, (first, last), step)?;
        let at = Timestamp::from_second(last).unwrap_or(now);
        let looks = self.door.handle.look_ahead(rule.clone(), series, at).await?;
        let mut delivery = Delivery::default();
        for (index, look) in (0..).zip(&looks) {
            match rule.alert(look, now).and_then(|it| it.map(checked).transpose()) {
                Ok(alert) => delivery.alerts.extend(alert),
                Err(reason) => delivery.rejected.push(RejectedAlert { index, reason }),
            }
        }
        if !delivery.alerts.is_empty() || !delivery.rejected.is_empty() {
            self.door.append(SOURCE, delivery).await.map_err(|it| it.to_string())?;
        }
        Ok(looks)
    }
}

/// An alert with labels as all senders' must be.
fn checked(alert: ReceivedAlert) -> Result<ReceivedAlert, String> {
    let owned =
        |it: &Labels| it.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let (labels, annotations): (BTreeMap<_, _>, BTreeMap<_, _>) =
        (owned(&alert.labels), owned(&alert.annotations));
    let raw = payload::RawAlert {
        labels: mapped::pairs_of(&labels),
        annotations: mapped::pairs_of(&annotations),
        starts_at: payload::Value::Absent,
        ends_at: payload::Value::Absent,
        generator_url: payload::Value::Absent,
        status: payload::Value::Text("firing".into()),
    };
    let good = validate::check(&raw, validate::EndsBy::Status, Timestamp::now())?;
    Ok(ReceivedAlert { labels: good.labels, annotations: good.annotations, ..alert })
}

#[derive(Deserialize)]
struct Matrix {
    #[serde(rename = "resultType")]
    kind: String,
    result: serde_json::Value,
}

#[derive(Deserialize)]
struct RawSeries {
    metric: BTreeMap<String, String>,
    /// Without it the series is of histograms.
    values: Option<Vec<(f64, String)>>,
}

/// Reads the answer of `/api/v1/query_range`, from the first to the last time in seconds.
fn read(body: &[u8], (first, last): (i64, i64), step: i64) -> Result<Series, String> {
    let matrix: Matrix = data(body)?;
    if matrix.kind != "matrix" {
        return Err(format!("expected values over a time, not a `{}`", matrix.kind));
    }
    let all: Vec<RawSeries> = serde_json::from_value(matrix.result)
        .map_err(|error| format!("a broken answer: {error}"))?;
    if all.len() > SERIES_MAX {
        let count = all.len();
        return Err(format!("the query has more than {SERIES_MAX} series; narrow it: `{count}`"));
    }
    let count = usize::try_from((last - first) / step).unwrap_or_default() + 1;
    let series = all.into_iter().map(|it| {
        let values = it.values.ok_or("a histogram is no number")?;
        let mut readings = vec![None; count];
        for (at, text) in values {
            let place = grid_place(at, first, step).and_then(|it| readings.get_mut(it));
            let value = text.parse::<f64>().ok().filter(|it| it.is_finite());
            if let Some(place) = place {
                *place = value;
            }
        }
        Ok((Labels::from_pairs(it.metric), readings))
    });
    series.collect()
}

#[expect(clippy::cast_possible_truncation, reason = "a time in seconds")]
fn grid_place(at: f64, first: i64, step: i64) -> Option<usize> {
    let after = (at.round() as i64).checked_sub(first)?;
    usize::try_from(after / step).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_prometheus_is_put_on_an_even_grid() {
        let body = br#"{"status":"success","data":{"resultType":"matrix","result":[
            {"metric":{"__name__":"disk","instance":"a"},
             "values":[[100,"1"],[120.0,"2.5"],[130,"NaN"],[140,"+Inf"],[150,"4"],[999,"9"],[-5,"9"]]},
            {"metric":{},"values":[]}]}}"#;
        let series = read(body, (100, 150), 10).unwrap();
        let expected = [Some(1.0), None, Some(2.5), None, None, Some(4.0)];
        assert_eq!(series[0].1, expected);
        assert_eq!(series[0].0.to_string(), "{__name__=\"disk\", instance=\"a\"}");
        assert_eq!(series[1].1, [None; 6]);
    }

    #[test]
    fn what_is_no_answer_says_so() {
        let many = format!(
            r#"{{"status":"success","data":{{"resultType":"matrix","result":[{}]}}}}"#,
            vec![r#"{"metric":{},"values":[]}"#; SERIES_MAX + 1].join(",")
        );
        for (body, part) in [
            ("<html>", "no answer of Prometheus"),
            (r#"{"status":"error","error":"parse error"}"#, "parse error"),
            (
                r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#,
                "expected values over a time, not a `vector`",
            ),
            (
                r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{}}]}}"#,
                "a histogram is no number",
            ),
            (many.as_str(), "more than 1000 series"),
        ] {
            let error = read(body.as_bytes(), (100, 150), 10).unwrap_err();
            assert!(error.contains(part), "{body}: {error}");
        }
    }

    #[test]
    fn an_alert_with_labels_that_nobody_may_send_is_refused() {
        let alert = |name: &str| ReceivedAlert {
            labels: Labels::from_pairs([("alertname", "CapacityForecast"), (name, "x")]),
            annotations: Labels::default(),
            starts_at: None,
            ends: crate::domain::event::Ends::Timeout,
            generator_url: "".into(),
            identity: None,
        };
        assert_eq!(checked(alert("host")), Ok(alert("host")));
        assert!(checked(alert("a b")).is_err());
    }
}

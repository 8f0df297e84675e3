//! Histories out of Prometheus: what it answers to `query_range` for `ALERTS`.

use super::ToldAlert;
use crate::domain::event::Ends;
use crate::ingest::payload::{RawAlert, Value};
use crate::ingest::validate::{self, EndsBy};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use std::collections::BTreeMap;

/// The source of such a history.
const SOURCE: &str = "prometheus";
/// How far apart samples are, where no series has two. In milliseconds.
const STEP_DEFAULT: i64 = 60_000;

/// The answer of the API.
#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    result_type: String,
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    metric: BTreeMap<String, String>,
    values: Vec<(f64, String)>,
}

/// Reads an answer: a series fires from its first sample until a step after its last one without a
/// gap; what fires at the last sample of all goes on firing. Fails with the reason why it is refused.
pub fn read(text: &[u8]) -> Result<Vec<Result<ToldAlert, String>>, String> {
    let answer: Answer =
        serde_json::from_slice(text).map_err(|it| format!("it cannot be read: {it}"))?;
    let Data { result_type, result } = answer.data;
    if result_type != "matrix" {
        let shown = result_type.escape_debug();
        return Err(format!("it is no answer to `query_range`: resultType `{shown}`"));
    }
    let fires = |it: &&Series| it.metric.get("alertstate").is_some_and(|it| it == "firing");
    let series: Vec<(&Series, Vec<i64>)> =
        result.iter().filter(fires).map(|it| (it, moments(it))).collect();
    let gaps = series.iter().flat_map(|(_, it)| it.iter().zip(it.iter().skip(1)));
    let step = gaps.map(|(one, next)| next.saturating_sub(*one)).filter(|it| *it > 0).min();
    let step = step.unwrap_or(STEP_DEFAULT);
    let end = series.iter().filter_map(|(_, it)| it.last().copied()).max().unwrap_or(0);
    Ok(series.iter().flat_map(|(it, moments)| told(it, moments, step, end)).collect())
}

/// The times of a series' samples, in milliseconds.
#[expect(clippy::cast_possible_truncation, reason = "a time that is too large becomes the largest")]
fn moments(series: &Series) -> Vec<i64> {
    series.values.iter().map(|(seconds, _)| (seconds * 1000.0).round() as i64).collect()
}

fn told(series: &Series, moments: &[i64], step: i64, end: i64) -> Vec<Result<ToldAlert, String>> {
    let pairs = series.metric.iter().filter(|(it, _)| *it != "__name__" && *it != "alertstate");
    let pairs = pairs.map(|(name, value)| (name.into(), Value::Text(value.into())));
    let raw = RawAlert { labels: Value::Pairs(pairs.collect()), ..RawAlert::default() };
    let mut told = Vec::new();
    // Samples lie on a grid, but a time may be rounded.
    for run in
        moments.chunk_by(|one, next| next.saturating_sub(*one) <= step.saturating_add(step / 2))
    {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        let told_at = |milliseconds: i64, is_over: bool| {
            let at = Timestamp::from_millisecond(milliseconds)
                .map_err(|_| format!("a sample has no time: `{milliseconds}`"))?;
            let begun =
                at.saturating_sub(SignedDuration::from_millis(milliseconds.saturating_sub(*first)));
            let mut alert = validate::check(&raw, EndsBy::Time, at)?;
            alert.starts_at = begun.ok();
            alert.ends = if is_over { Ends::At(at) } else { Ends::WhenTold };
            Ok(ToldAlert { at, source: SOURCE.to_owned(), alert })
        };
        told.push(told_at(*first, false));
        if *last < end {
            told.push(told_at(last.saturating_add(step), true));
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_fires_while_it_has_samples() {
        let text = br#"{"status":"success","data":{"resultType":"matrix","result":[
            {"metric":{"__name__":"ALERTS","alertname":"A","alertstate":"firing"},
             "values":[[1000,"1"],[1060,"1"],[1240,"1"],[1300.001,"1"]]},
            {"metric":{"__name__":"ALERTS","alertname":"B","alertstate":"pending"},
             "values":[[1000,"1"],[2000,"1"]]},
            {"metric":{"__name__":"ALERTS","alertname":"C","alertstate":"firing"},
             "values":[[1300.001,"1"],[1360,"1"]]},
            {"metric":{"__name__":"ALERTS","bad name":"D","alertstate":"firing"},
             "values":[[1360,"1"]]}]}}"#;
        let told = read(text).unwrap();
        let found: Vec<(i64, &str, bool)> = (told.iter().flatten())
            .map(|it| {
                let name = it.alert.labels.get("alertname").unwrap();
                (it.at.as_second(), name, it.alert.ends == Ends::WhenTold)
            })
            .collect();
        let expected = [
            (1000, "A", true),
            (1119, "A", false),
            (1240, "A", true),
            (1360, "A", false),
            (1300, "C", true),
        ];
        assert_eq!(found, expected);
        let first = told[1].as_ref().unwrap();
        assert_eq!(first.alert.starts_at.unwrap().as_second(), 1000);
        assert!(told.last().unwrap().as_ref().unwrap_err().contains("invalid name"));
        let vector = br#"{"data":{"resultType":"vector","result":[]}}"#;
        assert!(read(vector).unwrap_err().contains("query_range"));
    }
}

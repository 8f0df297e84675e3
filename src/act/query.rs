//! Asks a Prometheus of the settings a question, and judges the answer.

use super::{outcome, within};
use crate::config::{self, Credentials, PrometheusServer};
use crate::domain::effect::{Outcome, OutcomeKind};
use cel::{Context, Program, Value};
use futures_util::StreamExt;
use reqwest::{Client, RequestBuilder};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The most of an answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// So many series are told.
const SERIES_TOLD: usize = 10;

/// A question, rendered.
pub(super) struct Question<'a> {
    pub(super) source: &'a str,
    pub(super) promql: &'a str,
    /// A CEL condition over `value`, `values` and `count`; empty = there is an answer.
    pub(super) assert: &'a str,
}

/// Asks, and says whether the answer is as it must be: then the code is 0, else 1. Without an
/// answer there is no code.
pub(super) async fn ask(
    client: &Client,
    servers: &BTreeMap<String, PrometheusServer>,
    question: &Question<'_>,
    (timeout, stop): (Duration, &CancellationToken),
) -> Outcome {
    let Some(server) = servers.get(question.source) else {
        let source = question.source;
        let detail = format!("there is no `prometheus` of this name in the settings: `{source}`");
        return outcome(OutcomeKind::Failed, detail);
    };
    let asking = async {
        match answer(client, server, question.promql).await {
            Ok(series) => judge(&series, question.assert),
            Err((result, error)) => outcome(result, format!("{}: {error}", server.name)),
        }
    };
    within(timeout, stop, asking).await
}

/// A series of an answer, or the one number that it is.
#[derive(Clone, Debug, PartialEq)]
struct Series {
    labels: BTreeMap<String, String>,
    value: f64,
}

#[derive(Deserialize)]
struct Answer {
    status: String,
    data: Option<Data>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    kind: String,
    result: serde_json::Value,
}

#[derive(Deserialize)]
struct Sample {
    metric: BTreeMap<String, String>,
    value: Option<(f64, String)>,
}

type Failure = (OutcomeKind, String);

async fn answer(
    client: &Client,
    server: &PrometheusServer,
    promql: &str,
) -> Result<Vec<Series>, Failure> {
    let retry = |error: String| (OutcomeKind::FailedRetryable, error);
    let mut url = reqwest::Url::parse(&format!("{}/api/v1/query", server.url))
        .map_err(|error| (OutcomeKind::Failed, format!("bad URL: {error}")))?;
    url.query_pairs_mut().append_pair("query", promql);
    let request = with_credentials(client.get(url), server).map_err(retry)?;
    let reply = request.send().await.map_err(|it| retry(it.without_url().to_string()))?;
    let status = reply.status();
    let mut body = Vec::new();
    let mut chunks = reply.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        body.extend_from_slice(&chunk.map_err(|it| retry(it.without_url().to_string()))?);
        if body.len() > ANSWER_BYTES_MAX {
            let text = format!("the answer has more than {ANSWER_BYTES_MAX} bytes");
            return Err((OutcomeKind::Failed, text));
        }
    }
    read(&body).map_err(|error| {
        let kind = if status.is_server_error() || status.as_u16() == 429 {
            OutcomeKind::FailedRetryable
        } else {
            OutcomeKind::Failed
        };
        (kind, format!("answered {status}: {error}"))
    })
}

fn with_credentials(
    request: RequestBuilder,
    server: &PrometheusServer,
) -> Result<RequestBuilder, String> {
    let read = |it| config::read_secret(&server.name, it).map_err(|it| it.to_string());
    Ok(match &server.credentials {
        None => request,
        Some(Credentials::Bearer(token)) => request.bearer_auth(read(token)?),
        Some(Credentials::Basic { username, password }) => {
            request.basic_auth(username, Some(read(password)?))
        }
    })
}

fn read(body: &[u8]) -> Result<Vec<Series>, String> {
    let answer: Answer =
        serde_json::from_slice(body).map_err(|_| "this is no answer of Prometheus".to_owned())?;
    let number = |text: &str| text.parse::<f64>().map_err(|_| format!("no number: `{text}`"));
    let broken = |error: serde_json::Error| format!("a broken answer: {error}");
    let data = answer.data.filter(|_| answer.status == "success");
    let data = data.ok_or_else(|| answer.error.unwrap_or(answer.status))?;
    match data.kind.as_str() {
        "vector" => {
            let samples: Vec<Sample> = serde_json::from_value(data.result).map_err(broken)?;
            let series = samples.into_iter().map(|it| {
                let (_, value) = it.value.ok_or("a histogram is no number")?;
                Ok(Series { labels: it.metric, value: number(&value)? })
            });
            series.collect()
        }
        "scalar" => {
            let (_, value): (f64, String) = serde_json::from_value(data.result).map_err(broken)?;
            Ok(vec![Series { labels: BTreeMap::new(), value: number(&value)? }])
        }
        _ => Err("ask for values at one time, not for a range or a text".to_owned()),
    }
}

/// Whether an answer is as it must be.
fn judge(series: &[Series], assert: &str) -> Outcome {
    let told: Vec<String> = series.iter().take(SERIES_TOLD).map(shown).collect();
    let holds = if assert.is_empty() { Ok(!series.is_empty()) } else { holds(series, assert) };
    let count = series.len();
    let (result, code, detail) = match holds {
        Ok(true) => (OutcomeKind::Succeeded, Some(0), format!("it holds; {count} series")),
        // Whether it is worth to ask again only the runbook knows: its `retry` decides.
        Ok(false) => {
            (OutcomeKind::FailedRetryable, Some(1), format!("it does not hold; {count} series"))
        }
        Err(error) => (OutcomeKind::Failed, None, format!("cannot be decided: {error}")),
    };
    Outcome { output_tail: told.join("\n"), code, ..outcome(result, detail) }
}

fn shown(series: &Series) -> String {
    let pairs = series.labels.iter().map(|(name, value)| format!("{name}={value:?}"));
    format!("{{{}}} {}", pairs.collect::<Vec<_>>().join(","), series.value)
}

fn holds(series: &[Series], assert: &str) -> Result<bool, String> {
    let program = Program::compile(assert).map_err(|error| error.to_string())?;
    let mut context = Context::default();
    let values: Vec<f64> = series.iter().map(|it| it.value).collect();
    let count = i64::try_from(values.len()).unwrap_or(i64::MAX);
    if let Some(first) = values.first() {
        context.add_variable_from_value("value", *first);
    }
    context.add_variable_from_value("values", values);
    context.add_variable_from_value("count", count);
    match program.execute(&context) {
        Ok(Value::Bool(answer)) => Ok(answer),
        Ok(_) => Err("`assert` gives neither true nor false".to_owned()),
        Err(_) if series.is_empty() => Err("there is no value".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: &str = r#"{"status":"success","data":{"resultType":"vector","result":[
        {"metric":{"job":"a"},"value":[1,"0.5"]},{"metric":{"job":"b"},"value":[1,"12"]}]}}"#;
    const NOTHING: &str = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
    const SCALAR: &str = r#"{"status":"success","data":{"resultType":"scalar","result":[1,"3"]}}"#;

    #[test]
    fn answers_are_judged() {
        for (body, assert, result, code) in [
            (UP, "", OutcomeKind::Succeeded, Some(0)),
            (UP, "value < 1.0", OutcomeKind::Succeeded, Some(0)),
            (UP, "value < 1", OutcomeKind::Succeeded, Some(0)),
            (UP, "value > 1", OutcomeKind::FailedRetryable, Some(1)),
            (UP, "count == 2 && values.exists(it, it > 10.0)", OutcomeKind::Succeeded, Some(0)),
            (UP, "values.all(it, it > 10.0)", OutcomeKind::FailedRetryable, Some(1)),
            (UP, "value", OutcomeKind::Failed, None),
            (UP, "nothing > 1", OutcomeKind::Failed, None),
            (NOTHING, "", OutcomeKind::FailedRetryable, Some(1)),
            (NOTHING, "value > 1.0", OutcomeKind::Failed, None),
            (NOTHING, "count == 0", OutcomeKind::Succeeded, Some(0)),
            (SCALAR, "value == 3.0", OutcomeKind::Succeeded, Some(0)),
        ] {
            let outcome = judge(&read(body.as_bytes()).unwrap(), assert);
            assert_eq!((outcome.result, outcome.code), (result, code), "{assert}: {outcome:?}");
        }
        let told = judge(&read(UP.as_bytes()).unwrap(), "").output_tail;
        assert_eq!(told, "{job=\"a\"} 0.5\n{job=\"b\"} 12");
    }

    #[test]
    fn what_is_no_answer_is_none() {
        for (body, part) in [
            ("", "no answer of Prometheus"),
            ("<html>", "no answer of Prometheus"),
            (r#"{"status":"error","error":"parse error"}"#, "parse error"),
            (
                r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#,
                "not for a range",
            ),
            (
                r#"{"status":"success","data":{"resultType":"scalar","result":[1,"x"]}}"#,
                "no number",
            ),
        ] {
            let error = read(body.as_bytes()).unwrap_err();
            assert!(error.contains(part), "{body}: {error}");
        }
    }
}

//! `forecasts:`: which measured values must not become full, and how far ahead people want to know.

use super::code::Code;
use super::expression::Names;
use super::fields::Fields;
use super::reader::Reader;
use super::yaml::Node;
use crate::domain::forecast::{ForecastRule, Limit};

/// How far back is looked unless told: a week.
const LOOK_BACK_SECONDS: u32 = 7 * 86_400;
/// How often unless told.
const EVERY_SECONDS: u32 = 600;
/// Nobody is told of a week in which this would be looked at every few seconds.
const EVERY_SECONDS_MIN: u32 = 1;
/// Unless told, an error is what comes within this part of the horizon,
const ERROR_PART: u32 = 3;
/// and critical what comes within this.
const CRITICAL_PART: u32 = 12;

/// An entry of `forecasts`.
pub(super) fn forecast(reader: &mut Reader<'_>, node: &Node) -> Option<ForecastRule> {
    let mut fields = Fields::open(reader, node)?;
    let rule = reader.name("forecast", &mut fields);
    let query = fields.required(reader, "query").and_then(|it| query(reader, it));
    let limit = limit(reader, &mut fields);
    let horizon = fields.required(reader, "horizon").map(|it| reader.positive_duration(it));
    let look_back = fields.optional("look_back").map(|it| reader.positive_duration(it));
    let look_back_seconds = look_back.unwrap_or(LOOK_BACK_SECONDS);
    let every = fields.optional("every").map(|it| reader.positive_duration(it));
    let season_node = fields.optional("season");
    let season = season_node.map(|it| reader.positive_duration(it));
    if let Some((node, season)) = season_node.zip(season)
        && season.saturating_mul(2) > look_back_seconds
    {
        let message = "a season can only be told from two of them";
        reader.report_hint(node.place, Code::BadValue, message, "let `look_back` be longer");
    }
    let severity_node = fields.optional("severity");
    let (critical, error) = severity(reader, severity_node, horizon.unwrap_or_default());
    let labels_node = fields.optional("labels");
    let annotations_node = fields.optional("annotations");
    let rule = ForecastRule {
        rule,
        source: String::new(),
        promql: String::new(),
        limit: Limit { value: String::new(), is_falling: false },
        horizon_seconds: horizon.unwrap_or_default(),
        look_back_seconds,
        every_seconds: every.unwrap_or(EVERY_SECONDS).max(EVERY_SECONDS_MIN),
        season_seconds: season,
        critical_seconds: critical,
        error_seconds: error,
        labels: templates(reader, labels_node),
        annotations: templates(reader, annotations_node),
    };
    fields.optional("description").map(|it| reader.text(it));
    fields.finish(reader);
    let (source, promql) = query?;
    horizon?;
    Some(ForecastRule { source, promql, limit: limit?, ..rule })
}

/// Whom to ask, and what.
fn query(reader: &mut Reader<'_>, node: &Node) -> Option<(String, String)> {
    let mut fields = Fields::open_like(reader, node, "source: prod, promql: disk_used_percent")?;
    let source = fields.required(reader, "source").map(|it| reader.filled_text(it));
    let promql = fields.required(reader, "promql").map(|it| reader.filled_text(it));
    fields.finish(reader);
    Some((source?, promql?))
}

/// `full`, or `empty` where the value falls.
fn limit(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> Option<Limit> {
    let (full, empty) = (fields.optional("full"), fields.optional("empty"));
    let (node, is_falling) = match (full, empty) {
        (Some(node), None) => (node, false),
        (None, Some(node)) => (node, true),
        _ => {
            let message = "a forecast has a value that it rises to or one that it falls to";
            let hint = "write `full: 95`, or `empty: 0` for what is used up";
            reader.report_hint(fields.place, Code::MissingField, message, hint);
            return None;
        }
    };
    let value = reader.text(node);
    if !value.parse::<f64>().is_ok_and(f64::is_finite) {
        reader.report(node.place, Code::WrongKind, format!("expected a number: `{value}`"));
        return None;
    }
    Some(Limit { value, is_falling })
}

/// With how much time left it is critical, and an error, in seconds.
fn severity(reader: &mut Reader<'_>, node: Option<&Node>, horizon: u32) -> (u32, u32) {
    let usual = (horizon / CRITICAL_PART, horizon / ERROR_PART);
    let Some(node) = node else { return usual };
    let Some(mut fields) = Fields::open_like(reader, node, "critical: 6h, error: 1d") else {
        return usual;
    };
    let critical = fields.optional("critical").map(|it| reader.duration(it));
    let error = fields.optional("error").map(|it| reader.duration(it));
    fields.finish(reader);
    (critical.unwrap_or(usual.0), error.unwrap_or(usual.1))
}

/// Templates over the labels of the series.
fn templates(reader: &mut Reader<'_>, node: Option<&Node>) -> Vec<(String, String)> {
    let Some(node) = node else { return Vec::new() };
    let names = Names::of(&["labels"]);
    let entries = reader.map(node).iter();
    entries.map(|(key, value)| (key.text.clone(), reader.template(value, &names))).collect()
}

#[cfg(test)]
mod tests {
    use crate::config::rules_from_texts;
    use crate::domain::rules::Mode;

    #[test]
    fn a_forecast_is_read_whole() {
        let text = "
forecasts:
  - name: disk
    query: {source: prod, promql: disk_used_percent}
    full: 95
    horizon: 3d
    look_back: 14d
    every: 5m
    season: 1d
    severity: {critical: 2h}
    labels: {host: '{{ labels.instance }}'}
    annotations: {runbook_url: 'https://wiki.example.org/disk'}
  - {name: quota, query: {source: prod, promql: left}, empty: -1.5e3, horizon: 12h}
";
        let checked = rules_from_texts(&[("f.yaml", text)], Mode::Act);
        assert_eq!(checked.findings, []);
        let forecasts = checked.value.unwrap().forecasts;
        let [disk, quota] = forecasts.as_slice() else { panic!("not two") };
        assert_eq!((disk.limit.value.as_str(), disk.limit.is_falling), ("95", false));
        assert_eq!((quota.limit.value.as_str(), quota.limit.is_falling), ("-1.5e3", true));
        assert_eq!((disk.critical_seconds, disk.error_seconds), (7200, 86_400));
        assert_eq!((quota.critical_seconds, quota.error_seconds), (3600, 14_400));
        assert_eq!((disk.look_back_seconds, quota.look_back_seconds), (14 * 86_400, 7 * 86_400));
        assert_eq!((disk.every_seconds, quota.every_seconds), (300, 600));
        assert_eq!((disk.season_seconds, quota.season_seconds), (Some(86_400), None));
        assert_eq!(disk.labels, [("host".to_owned(), "{{ labels.instance }}".to_owned())]);
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once_with_its_place() {
        let text = "
forecasts:
  - {name: a, query: {source: prod}, full: 95, horizon: 3d}
  - {name: b, query: {source: prod, promql: x}, horizon: 3d}
  - {name: c, query: {source: prod, promql: x}, full: much, horizon: 0s, every: 1}
  - {name: d, query: {source: prod, promql: x}, full: 1, empty: 1, horizon: 3d, more: 1}
  - {name: e, query: {source: prod, promql: x}, full: 1, horizon: 3d, season: 4d}
  - {name: f, query: {source: prod, promql: x}, full: 1, horizon: 3d, labels: {a: '{{ it }}'}}
  - {name: f, query: prod, full: .inf, horizon: 3d, severity: {bad: 1h}}
";
        let checked = rules_from_texts(&[("f.yaml", text)], Mode::Act);
        assert!(checked.value.is_none());
        let shown =
            |it: &crate::config::Finding| format!("{}:{} {}", it.line, it.column, it.message);
        let found: Vec<String> = checked.findings.iter().map(shown).collect();
        let expected = [
            "3:22 missing field `promql`",
            "4:5 a forecast has a value that it rises to or one that it falls to",
            "5:55 expected a number: `much`",
            "5:70 this cannot be zero",
            "5:81 a duration needs a unit: `1`",
            "6:5 a forecast has a value that it rises to or one that it falls to",
            "6:81 unknown field `more`",
            "7:79 a season can only be told from two of them",
            "8:83 a template here knows no name `it`",
            "9:12 a forecast of this name is there already: `f`",
            "9:22 expected a map, found a single value",
            "9:34 expected a number: `.inf`",
            "9:64 unknown field `bad`",
        ];
        assert_eq!(found, expected);
    }
}

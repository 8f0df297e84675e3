//! Measured values in a test: what a forecast reads, in the notation of Prometheus' own rule tests.

use crate::config::code::Code;
use crate::config::fields::Fields;
use crate::config::reader::Reader;
use crate::config::yaml::Node;
use crate::domain::label::Labels;

/// The kind of name that forecasts bear.
const FORECAST: &str = "forecast";
/// The most values of a series.
const VALUES_MAX: usize = 10_000;

/// What was measured until now.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// The forecast that reads it.
    pub forecast: String,
    /// Each series with its readings, the last of now, and as far apart as the forecast reads them.
    pub series: Vec<(Labels, Vec<Option<f64>>)>,
}

/// `readings` of an input.
pub(super) fn measurement(reader: &mut Reader<'_>, node: &Node) -> Option<Measurement> {
    let mut fields = Fields::open(reader, node)?;
    let forecast = fields.required(reader, "forecast").map(|node| {
        let name = reader.text(node);
        reader.refer(FORECAST, &name, node.place);
        name
    });
    let series = fields.required(reader, "series");
    let series = series.map(|it| reader.list(it)).unwrap_or_default();
    let series = series.iter().filter_map(|it| one_series(reader, it)).collect();
    fields.finish(reader);
    Some(Measurement { forecast: forecast?, series })
}

fn one_series(reader: &mut Reader<'_>, node: &Node) -> Option<(Labels, Vec<Option<f64>>)> {
    let mut fields = Fields::open(reader, node)?;
    let labels = fields.optional("labels").map(|it| reader.pairs(it)).unwrap_or_default();
    let labels = Labels::from_pairs(labels);
    let values = fields.required(reader, "values").and_then(|node| {
        let text = reader.text(node);
        let values = read(&text);
        let hint = "write `1 2 _ 3+0.5x10`: values, gaps, and ten steps of 0.5 up from 3";
        let report = |message| reader.report_hint(node.place, Code::BadValue, message, hint);
        values.map_err(report).ok()
    });
    fields.finish(reader);
    Some((labels, values?))
}

/// Reads values that are told one after the other: `5`, `_` for none, `_x3` for three times none,
/// `5+2x3` for 5, 7, 9, 11, `5x3` for four times 5.
fn read(text: &str) -> Result<Vec<Option<f64>>, String> {
    let mut values = Vec::new();
    for word in text.split_whitespace() {
        let bad = || format!("no series of values: `{word}`");
        let (first, times) = word.split_once('x').unwrap_or((word, "0"));
        let times: usize = times.parse().map_err(|_| bad())?;
        if values.len().saturating_add(times) >= VALUES_MAX {
            return Err(format!("more than {VALUES_MAX} values"));
        }
        if first == "_" {
            values.extend(std::iter::repeat_n(None, times.max(1)));
            continue;
        }
        // The sign of the step is not the one in front, nor that of an exponent.
        let is_sign = |(at, it): &(usize, char)| {
            let before = at.checked_sub(1).and_then(|it| first.as_bytes().get(it));
            *at > 0 && matches!(it, '+' | '-') && before.is_some_and(u8::is_ascii_digit)
        };
        let split = first.char_indices().find(is_sign).map_or(first.len(), |(at, _)| at);
        let (first, step) = first.split_at(split);
        let first: f64 = first.parse().map_err(|_| bad())?;
        let step: f64 = if step.is_empty() { 0.0 } else { step.parse().map_err(|_| bad())? };
        let mut value = first;
        for _ in 0..=times {
            values.push(Some(value));
            value += step;
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_in_tests_of_prometheus() {
        for (text, expected) in [
            ("", Ok(vec![])),
            ("1 _ -2.5", Ok(vec![Some(1.0), None, Some(-2.5)])),
            ("5+2x3", Ok(vec![Some(5.0), Some(7.0), Some(9.0), Some(11.0)])),
            ("5-2x1 _x2 3x1", Ok(vec![Some(5.0), Some(3.0), None, None, Some(3.0), Some(3.0)])),
            ("1e+3-1e2x1", Ok(vec![Some(1000.0), Some(900.0)])),
            ("1+x3", Err("no series of values: `1+x3`")),
            ("one", Err("no series of values: `one`")),
            ("1x10000", Err("more than 10000 values")),
            ("1x99999999999999999999", Err("no series of values: `1x99999999999999999999`")),
        ] {
            assert_eq!(read(text), expected.map_err(str::to_owned), "{text}");
        }
    }
}

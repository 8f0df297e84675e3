//! When measured values will be full: a robust slope with an interval, or why nothing is foretold.

mod shift;
#[cfg(test)]
mod tests;
mod trend;

use super::rhythm::in_words;
use crate::domain::forecast::{ForecastRule, Foreseen, Look, Outlook, Quiet};
use crate::domain::label::{Fingerprint, Labels};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;
use trend::{Crossing, Finding, Series};

/// The readings of a series, oldest first and as far apart as the rule says; `None` = there is none.
pub type Readings = (Labels, Vec<Option<f64>>);

/// Looks at each series of a rule, the last reading of which is of a time. `foretold` are the alerts
/// that fire already. Fails where a template of the rule cannot be filled in.
pub fn look_ahead(
    rule: &ForecastRule,
    series: Vec<Readings>,
    foretold: &BTreeSet<Fingerprint>,
    at: Timestamp,
) -> Result<Vec<Look>, String> {
    let look = |(labels, readings): Readings| {
        let is_held = foretold.contains(&rule.labels_of(&labels)?.fingerprint());
        let outlook = outlook(rule, &readings, is_held, at);
        Ok(Look { series: labels, outlook, is_held })
    };
    series.into_iter().map(look).collect()
}

fn outlook(rule: &ForecastRule, readings: &[Option<f64>], is_held: bool, at: Timestamp) -> Outlook {
    let sign = if rule.limit.is_falling { -1.0 } else { 1.0 };
    // The rule's reader took numbers only.
    let limit: f64 = rule.limit.value.parse().unwrap_or(f64::NAN);
    let rising: Vec<Option<f64>> = readings.iter().map(|it| it.map(|it| it * sign)).collect();
    let step = f64::from(rule.step_seconds());
    let series = Series {
        readings: &rising,
        limit: limit * sign,
        season: rule.season_seconds.map(|it| rounded(f64::from(it) / step)),
        horizon: f64::from(rule.horizon_seconds) / step,
        is_held,
    };
    match trend::look(&series) {
        Finding::Reached => Outlook::Reached,
        Finding::Foreseen(crossing) => Outlook::Foreseen(foreseen(rule, &crossing, sign, at)),
        Finding::TooFew => Outlook::Quiet(Quiet::TooFew),
        Finding::Stale => Outlook::Quiet(Quiet::Stale),
        Finding::SawTooth => Outlook::Quiet(Quiet::SawTooth),
        Finding::NoTrend => Outlook::Quiet(Quiet::NoTrend),
        Finding::Unsure => Outlook::Quiet(Quiet::Unsure),
        Finding::Later => Outlook::Quiet(Quiet::Later),
    }
}

fn foreseen(rule: &ForecastRule, crossing: &Crossing, sign: f64, at: Timestamp) -> Foreseen {
    let step = rule.step_seconds();
    let seconds = |readings: f64| whole(readings * f64::from(step));
    let after = |readings: f64| {
        at.checked_add(SignedDuration::from_secs(seconds(readings))).unwrap_or(Timestamp::MAX)
    };
    let Crossing { middle, from, until, slope, readings } = *crossing;
    let around = seconds((until - middle).max(middle - from));
    let when = format!("in {} ± {}", in_words(seconds(middle)), in_words(around));
    let (from, until) = (after(from), after(until));
    let per_day = shown(slope * sign * 86_400.0 / f64::from(step));
    let span = in_words(i64::from(step).saturating_mul(seconds_of(readings)));
    let why = format!(
        "{per_day} a day, by the median of the slopes between {readings} readings of {span}; nine in ten \
         times between {from:.0} and {until:.0}"
    );
    Foreseen { at: after(middle), from, until, when, why }
}

fn seconds_of(readings: usize) -> i64 {
    i64::try_from(readings).unwrap_or(i64::MAX)
}

#[expect(clippy::cast_possible_truncation, reason = "a time within some years, in seconds")]
fn whole(value: f64) -> i64 {
    value.round() as i64
}

fn rounded(value: f64) -> usize {
    usize::try_from(whole(value)).unwrap_or_default()
}

/// A number with three places that count, large ones in thousands.
fn shown(value: f64) -> String {
    let units = [(1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k"), (1.0, "")];
    let size = value.abs();
    let (unit, name) = units.into_iter().find(|(it, _)| size >= *it).unwrap_or((1.0, ""));
    let value = value / unit;
    let places = if value.abs() >= 100.0 {
        0
    } else if value.abs() >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:+.places$}{name}")
}

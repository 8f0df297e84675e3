//! The alerts that are sent: the same for the same seed, in two wire formats.
//!
//! The label `pod` of a series is unique, so that so many series are as many alerts for any server
//! that goes by the set of labels; the other labels repeat with the cardinalities that are asked
//! for. The annotation `loadgen` is the number of the series in 9 digits and the time of sending in
//! 19, in nanoseconds since 1970: of fixed width, so that it can be written over without
//! serialising anything again.

use bytes::Bytes;
use clap::ValueEnum;
use std::fmt::Write;
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The text just before a stamp.
pub(crate) const STAMP_KEY: &str = "\"loadgen\":\"";
const SERIES_DIGITS: usize = 9;
/// The width of the time in a stamp.
pub(crate) const TIME_DIGITS: usize = 19;
const STAMP_WIDTH: usize = SERIES_DIGITS + 1 + TIME_DIGITS;
/// About how long an alert is, in bytes.
const ALERT_BYTES: usize = 900;

const NAMES: [&str; 8] = [
    "HighErrorRate",
    "PodCrashLooping",
    "DiskFillingUp",
    "LatencyHigh",
    "CertificateExpiring",
    "ReplicaMismatch",
    "TargetDown",
    "QueueBacklog",
];
const SEVERITIES: [&str; 4] = ["critical", "warning", "warning", "info"];

/// A wire format.
#[derive(Clone, Copy, PartialEq, Debug, ValueEnum)]
pub(crate) enum Format {
    /// `POST /api/v2/alerts`, as Prometheus sends: a list of alerts.
    Alerts,
    /// The webhook of an Alertmanager, version 4: one group of alerts.
    Webhook,
}

/// How many values each label takes that repeats.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Shape {
    /// The same seed gives the same alerts, but for their times.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Names of alerts.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u64).range(1..))]
    alertnames: u64,
    /// Services.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    services: u64,
    /// Hosts.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
    hosts: u64,
}

/// When an alert began and when it ends, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Times {
    /// Its `startsAt`.
    pub(crate) starts_at: u64,
    /// Its `endsAt`.
    pub(crate) ends_at: u64,
}

/// A request's body, and what is in it.
pub(crate) struct Body {
    /// The body.
    pub(crate) bytes: Bytes,
    /// The series in it.
    pub(crate) series: Range<u64>,
    /// Where the times of its stamps are.
    pub(crate) stamps: Vec<usize>,
}

/// Numbers that look random, without any state: one step of Sebastiano Vigna's `SplitMix64`.
pub(crate) fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The time since 1970.
pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The time since 1970, in milliseconds.
pub(crate) fn now_milliseconds() -> u64 {
    u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX)
}

/// Writes a time as RFC 3339 in UTC, with milliseconds. The date is found as in "days to civil"
/// of Howard Hinnant's *chrono-Compatible Low-Level Date Algorithms*.
pub(crate) fn rfc3339(milliseconds: u64) -> String {
    let (seconds, fraction) = (milliseconds / 1000, milliseconds % 1000);
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:03}Z")
}

/// The same without zeros at the end of the fraction.
pub(crate) fn shortest_rfc3339(milliseconds: u64) -> String {
    let time = rfc3339(milliseconds);
    let time = time.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.');
    format!("{time}Z")
}

/// One of a list, by a number of any size.
fn pick(list: &[&'static str], number: u64) -> &'static str {
    let index = usize::try_from(number % list.len() as u64).unwrap_or_default();
    list.get(index).copied().unwrap_or_default()
}

/// Writes an alert as `POST /api/v2/alerts` and the webhook have it, but for the closing brace.
/// All values are ASCII without quotes.
fn write_alert(out: &mut String, shape: &Shape, id: u64, times: Times) {
    let name = format!("{}{:02}", pick(&NAMES, id), id % shape.alertnames);
    let severity = pick(&SEVERITIES, id % shape.alertnames);
    let service = (id / shape.alertnames) % shape.services;
    let random = mix(id ^ shape.seed.rotate_left(32));
    let host = random % shape.hosts;
    let (cluster, namespace, team) = (host % 4, service % 12, service % 8);
    let node = format!("node-{host:05}.dc1.example.net");
    let pod = format!("service-{service:03}-{:08x}-{id:07}", random >> 32);
    let (start, end) = (rfc3339(times.starts_at), rfc3339(times.ends_at));
    let written = write!(
        out,
        "{{\"labels\":{{\"alertname\":\"{name}\",\"severity\":\"{severity}\",\
         \"cluster\":\"eu-prod-{cluster}\",\"namespace\":\"ns-{namespace:02}\",\
         \"service\":\"service-{service:03}\",\"pod\":\"{pod}\",\"instance\":\"{node}:9100\",\
         \"job\":\"kube-state-metrics\",\"team\":\"team-{team}\",\
         \"prometheus\":\"monitoring/k8s\"}},\
         \"annotations\":{{\"summary\":\"{name} on service-{service:03} ({node})\",\
         \"description\":\"{name} has been firing for {pod} in eu-prod-{cluster}/\
         ns-{namespace:02} on {node} for more than 15 minutes; the error budget of \
         service-{service:03} is burning.\",\
         \"runbook_url\":\"https://runbooks.example.net/{name}\",{STAMP_KEY}{id:09}-{:019}\"}},\
         \"startsAt\":\"{start}\",\"endsAt\":\"{end}\",\
         \"generatorURL\":\"http://prometheus.example.net:9090/graph?\
         g0.expr=up%7Bjob%3D%22service-{service:03}%22%7D\"",
        0
    );
    written.expect("writing into a string does not fail");
}

/// Serialises alerts as a Prometheus does, each with its own times.
pub(crate) fn list(shape: &Shape, alerts: impl Iterator<Item = (u64, Times)>) -> Bytes {
    let mut text = String::with_capacity(64 * ALERT_BYTES);
    text.push('[');
    for (series, times) in alerts {
        if text.len() > 1 {
            text.push(',');
        }
        write_alert(&mut text, shape, series, times);
        text.push('}');
    }
    text.push(']');
    Bytes::from(text)
}

/// Serialises one body with the firing alerts of a range.
pub(crate) fn body(format: Format, shape: &Shape, series: Range<u64>, times: Times) -> Body {
    let bytes = match format {
        Format::Alerts => list(shape, series.clone().map(|it| (it, times))),
        Format::Webhook => webhook(shape, series.clone(), times),
    };
    let key = STAMP_KEY.len() + SERIES_DIGITS + 1;
    let stamps = memchr::memmem::find_iter(&bytes, STAMP_KEY).map(|at| at + key).collect();
    Body { bytes, series, stamps }
}

fn webhook(shape: &Shape, series: Range<u64>, times: Times) -> Bytes {
    let mut text = format!(
        "{{\"version\":\"4\",\"groupKey\":\"{{}}:{{batch=\\\"{}\\\"}}\",\"truncatedAlerts\":0,\
         \"status\":\"firing\",\"receiver\":\"loadgen\",\"groupLabels\":{{}},\
         \"commonLabels\":{{}},\"commonAnnotations\":{{}},\
         \"externalURL\":\"http://alertmanager.example.net:9093\",\"alerts\":[",
        series.start
    );
    let never = Times { ends_at: 0, ..times };
    for id in series.clone() {
        if id > series.start {
            text.push(',');
        }
        write_alert(&mut text, shape, id, never);
        let fingerprint = mix(id);
        write!(text, ",\"status\":\"firing\",\"fingerprint\":\"{fingerprint:016x}\"}}")
            .expect("writing into a string does not fail");
    }
    text.push_str("]}");
    // Alertmanager says year 1 for "no end yet".
    Bytes::from(text.replace("1970-01-01T00:00:00.000Z", "0001-01-01T00:00:00Z"))
}

/// The series and times (in nanoseconds since 1970) of all stamps in a text.
pub(crate) fn stamps(text: &[u8]) -> impl Iterator<Item = (u64, u64)> {
    memchr::memmem::find_iter(text, STAMP_KEY).filter_map(move |at| {
        let from = at + STAMP_KEY.len();
        let stamp = std::str::from_utf8(text.get(from..from + STAMP_WIDTH)?).ok()?;
        let (series, sent) = stamp.split_once('-')?;
        Some((series.parse().ok()?, sent.parse().ok()?))
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeSet;

    pub(crate) fn shape() -> Shape {
        Shape { seed: 1, alertnames: 40, services: 50, hosts: 200 }
    }

    #[test]
    fn times_are_rfc3339() {
        for (milliseconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_709_164_800_123, "2024-02-29T00:00:00.123Z"),
            (1_763_823_423_007, "2025-11-22T14:57:03.007Z"),
        ] {
            assert_eq!(rfc3339(milliseconds), expected);
        }
        assert_eq!(shortest_rfc3339(10_000), "1970-01-01T00:00:10Z");
        assert_eq!(shortest_rfc3339(10_020), "1970-01-01T00:00:10.02Z");
    }

    #[test]
    fn bodies_are_json_and_their_alerts_are_distinct() {
        let times = Times { starts_at: 1_763_823_423_007, ends_at: 1_763_823_424_000 };
        for format in [Format::Alerts, Format::Webhook] {
            let body = body(format, &shape(), 5..69, times);
            let value: Value = serde_json::from_slice(&body.bytes).unwrap();
            let list = if format == Format::Alerts { &value } else { &value["alerts"] };
            let list = list.as_array().unwrap();
            let labels: BTreeSet<_> = list.iter().map(|it| it["labels"].to_string()).collect();
            assert_eq!((list.len(), labels.len(), body.stamps.len()), (64, 64, 64));
            assert_eq!(list[0]["startsAt"], "2025-11-22T14:57:03.007Z");
            let end = if format == Format::Alerts { "2025-11-22T14:57:04.000Z" } else { "0001" };
            assert!(list[0]["endsAt"].as_str().unwrap().starts_with(end));
            let found: Vec<_> = stamps(&body.bytes).collect();
            assert_eq!((found.len(), found[0], found[63]), (64, (5, 0), (68, 0)));
            assert_eq!(&body.bytes[body.stamps[0]..][..TIME_DIGITS], b"0000000000000000000");
        }
    }
}

//! `heartbeats:`: what must be heard from again and again, and when.

use super::code::Code;
use super::fields::Fields;
use super::reader::Reader;
use super::yaml::Node;
use super::{cron_line, notification, secret};
use crate::domain::heartbeat::{ALERT_NAME, Feed, HeartbeatRule, Rhythm};
use crate::domain::incident::Severity;
use crate::domain::label::Labels;

/// The kind of name that heartbeats bear.
pub(super) const HEARTBEAT: &str = "heartbeat";
/// The grace unless told: five minutes.
const GRACE_SECONDS: u32 = 300;

/// An entry of `heartbeats`.
pub(super) fn heartbeat(reader: &mut Reader<'_>, node: &Node) -> Option<HeartbeatRule> {
    let mut fields = Fields::open(reader, node)?;
    let rule = reader.name(HEARTBEAT, &mut fields);
    let is_plain = |it: char| it.is_ascii_alphanumeric() || "._-".contains(it);
    if !rule.name.chars().all(is_plain) {
        let message = format!("a heartbeat's name stands in its address: `{}`", rule.name);
        let hint = "letters, digits, `.`, `_` and `-`";
        reader.report_hint(fields.place, Code::BadName, message, hint);
    }
    let rhythm = rhythm(reader, &mut fields);
    let grace = fields.optional("grace").map(|it| reader.positive_duration(it));
    let words = [Severity::Critical, Severity::Error, Severity::Warning, Severity::Info]
        .map(|it| (it.as_str(), it));
    let severity = fields.optional("severity").and_then(|it| reader.word(it, &words));
    let severity = severity.unwrap_or(Severity::Error).as_str().to_owned();
    let mut labels = vec![
        ("alertname", ALERT_NAME.to_owned()),
        ("heartbeat", rule.name.clone()),
        ("severity", severity),
    ];
    labels.extend(fields.optional("labels").map(|it| reader.pairs(it)).unwrap_or_default());
    let mut annotations = Vec::new();
    if let Some(node) = fields.optional("runbook") {
        let url = reader.text(node);
        notification::address(reader, node, &url);
        annotations.push(("runbook_url", url));
    }
    annotations
        .extend(fields.optional("annotations").map(|it| reader.pairs(it)).unwrap_or_default());
    let feed = fields.optional("from").and_then(|it| feed(reader, it));
    let token = fields.optional("token").map(|it| secret::read_hidden(reader, it));
    fields.optional("description").map(|it| reader.text(it));
    fields.finish(reader);
    Some(HeartbeatRule {
        rule,
        rhythm: rhythm?,
        grace_seconds: grace.unwrap_or(GRACE_SECONDS),
        labels: Labels::from_pairs(labels),
        annotations: Labels::from_pairs(annotations),
        feed,
        token,
    })
}

/// `every`, or `schedule` with its time zone.
fn rhythm(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> Option<Rhythm> {
    let (every, schedule) = (fields.optional("every"), fields.optional("schedule"));
    let zone = fields.optional("time_zone");
    match (every, schedule) {
        (Some(every), None) => {
            if let Some(zone) = zone {
                let message = "a period is the same in every time zone";
                reader.report_hint(zone.place, Code::BadValue, message, "take it out");
            }
            Some(Rhythm::Every(reader.positive_duration(every)))
        }
        (None, Some(schedule)) => {
            let (line, time_zone) = cron_line::schedule(reader, schedule, zone);
            Some(Rhythm::Cron { line, time_zone })
        }
        _ => {
            let message = "a heartbeat has a period or a schedule: one of the two";
            let hint = "write `every: 5m`, or `schedule: '0 2 * * *'` with a `time_zone`";
            reader.report_hint(fields.place, Code::MissingField, message, hint);
            None
        }
    }
}

/// `from`: what feeds it in place of pings.
fn feed(reader: &mut Reader<'_>, node: &Node) -> Option<Feed> {
    let mut fields = Fields::open_like(reader, node, "matchers: ['alertname=\"Watchdog\"']")?;
    let matchers_node = fields.optional("matchers");
    let matchers = reader.matchers(matchers_node);
    let source = fields.optional("source").map(|it| reader.filled_text(it));
    if source.is_none() && matchers.0.is_empty() {
        let message = "expected `matchers`, `source`, or both";
        let hint =
            "`{matchers: ['alertname=\"Watchdog\"']}`, or `{source: zabbix}` for any delivery";
        reader.report_hint(fields.place, Code::MissingField, message, hint);
    }
    let open_incidents = fields.optional("open_incidents").is_some_and(|it| reader.boolean(it));
    fields.finish(reader);
    Some(Feed { matchers, source, open_incidents })
}

#[cfg(test)]
mod tests {
    use crate::config::rules_from_texts;
    use crate::domain::heartbeat::Rhythm;
    use crate::domain::rules::Mode;

    #[test]
    fn a_heartbeat_is_read_whole() {
        let text = "
heartbeats:
  - name: nightly-backup
    schedule: '0 2 * * *'
    time_zone: Europe/Berlin
    grace: 1h
    severity: critical
    labels: {service: backup}
    runbook: https://wiki.example.org/backup
    annotations: {summary: the backup is missing}
    token: {env: BACKUP_KEY}
  - {name: watchdog, every: 2m, from: {matchers: ['alertname=\"Watchdog\"'], source: prometheus}}
  - {name: zabbix, schedule: {cron: '*/5 * * * *', time_zone: UTC}, from: {source: zabbix}}
";
        let checked = rules_from_texts(&[("h.yaml", text)], Mode::Act);
        assert_eq!(checked.findings, []);
        let heartbeats = checked.value.unwrap().heartbeats;
        let [backup, watchdog, zabbix] = heartbeats.as_slice() else { panic!("not three") };
        let cron = |line: &str, zone: &str| Rhythm::Cron {
            line: line.to_owned(),
            time_zone: zone.to_owned(),
        };
        assert_eq!(backup.rhythm, cron("0 2 * * *", "Europe/Berlin"));
        assert_eq!(
            backup.labels.to_string(),
            "{alertname=\"HeartbeatDown\", heartbeat=\"nightly-backup\", service=\"backup\", \
             severity=\"critical\"}"
        );
        assert_eq!(backup.annotations.get("runbook_url"), Some("https://wiki.example.org/backup"));
        assert_eq!((backup.grace_seconds, watchdog.grace_seconds), (3600, 300));
        assert_eq!(watchdog.rhythm, Rhythm::Every(120));
        assert!(watchdog.feed.as_ref().is_some_and(|it| !it.open_incidents));
        assert_eq!(zabbix.rhythm, cron("*/5 * * * *", "UTC"));
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once_with_its_place() {
        let text = "
heartbeats:
  - {name: 'a b', every: 5m}
  - {name: b}
  - {name: c, every: 5m, schedule: '0 2 * * *'}
  - {name: d, schedule: '0 25 * * *', time_zone: Mars/Olympus}
  - {name: e, every: 0s, grace: 0s, token: plain, severity: bad}
  - {name: f, every: 5m, time_zone: UTC, from: {}, more: 1}
";
        let checked = rules_from_texts(&[("h.yaml", text)], Mode::Act);
        assert!(checked.value.is_none());
        let found: Vec<String> = checked
            .findings
            .iter()
            .map(|it| format!("{}:{} {}", it.line, it.column, it.message))
            .collect();
        let expected = [
            "3:5 a heartbeat's name stands in its address: `a b`",
            "4:5 a heartbeat has a period or a schedule: one of the two",
            "5:5 a heartbeat has a period or a schedule: one of the two",
            "6:25 bad hour in the cron line: `25`",
            "6:50 unknown time zone: `Mars/Olympus`",
            "7:22 this cannot be zero",
            "7:33 this cannot be zero",
            "7:44 a token must not stand in this file",
            "7:61 unknown value `bad`",
            "8:37 a period is the same in every time zone",
            "8:48 expected `matchers`, `source`, or both",
            "8:52 unknown field `more`",
        ];
        assert_eq!(found, expected);
    }
}

//! Histories in files, a line for each fact: what an alert was told to be, what was changed, and when.

mod range;
mod webhooks;

pub use range::read as read_range;
pub use webhooks::read as read_webhook_line;

use super::changes;
use super::payload::{OneAlert, Value};
use super::validate::{self, EndsBy};
use crate::domain::change::{ChangeKind, ChangeState, ReceivedChange};
use crate::domain::event::{Ends, ReceivedAlert};
use jiff::Timestamp;
use serde::Deserialize;
use std::borrow::Cow;

/// The source of a line that names none.
const SOURCE: &str = "history";

/// A line of a history of alerts.
#[derive(Clone, Debug, PartialEq)]
pub struct ToldAlert {
    /// When it was told.
    pub at: Timestamp,
    /// Who told it.
    pub source: String,
    /// What was told. A line tells a transition, so that without an end it holds until the next word.
    pub alert: ReceivedAlert,
}

/// A line of a history of changes.
#[derive(Clone, Debug, PartialEq)]
pub struct ToldChange {
    /// When it was made.
    pub at: Timestamp,
    /// What was told.
    pub change: ReceivedChange,
}

/// `{"ts","source","alert"}`; the alert as in Alertmanager's API v2.
#[derive(Deserialize)]
struct AlertLine<'a> {
    #[serde(borrow)]
    ts: Cow<'a, str>,
    #[serde(borrow, default)]
    source: Option<Cow<'a, str>>,
    #[serde(borrow)]
    alert: OneAlert<'a>,
}

/// The time of any line.
#[derive(Deserialize)]
struct TimeLine<'a> {
    #[serde(borrow)]
    ts: Cow<'a, str>,
}

/// `{"ts","id","kind","service","version","author"}`, and what our own changes have beside.
#[derive(Deserialize)]
struct ChangeLine {
    ts: String,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    service: Option<String>,
    #[serde(default)]
    environment: Option<String>,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    author: Option<String>,
}

impl ToldAlert {
    /// Reads a line. Fails with the reason why it is refused.
    pub fn read(line: &[u8]) -> Result<Self, String> {
        let line: AlertLine<'_> = serde_json::from_slice(line).map_err(|it| unreadable(&it))?;
        let at = read_time(&line.ts)?;
        let mut alert = match &line.alert.0 {
            Value::Alert(raw) => validate::check(raw, EndsBy::Time, at)?,
            other => return Err(format!("an alert is an object, not {}", other.kind())),
        };
        if alert.ends == Ends::Timeout {
            alert.ends = Ends::WhenTold;
        }
        let source = line.source.filter(|it| !it.is_empty());
        let source = source.map_or_else(|| SOURCE.to_owned(), Cow::into_owned);
        Ok(Self { at, source, alert })
    }

    /// Reads the time of a line and no more; `None` where it has none.
    pub fn read_time(line: &[u8]) -> Option<Timestamp> {
        let line: TimeLine<'_> = serde_json::from_slice(line).ok()?;
        read_time(&line.ts).ok()
    }
}

impl ToldChange {
    /// Reads a line. Fails with the reason why it is refused.
    pub fn read(line: &[u8]) -> Result<Self, String> {
        let line: ChangeLine = serde_json::from_slice(line).map_err(|it| unreadable(&it))?;
        let at = read_time(&line.ts)?;
        let word = line.kind.unwrap_or_default();
        let service = line.service.unwrap_or_default();
        let version = line.version.unwrap_or_default();
        let what = if word.is_empty() { "change" } else { &word };
        let title = line
            .title
            .filter(|it| !it.is_empty())
            .unwrap_or_else(|| format!("{what} of {service} {version}").trim_end().to_owned());
        let change = ReceivedChange {
            external_id: line.id.unwrap_or_default(),
            time: Some(at),
            title,
            service,
            environment: line.environment.unwrap_or_default(),
            version,
            author: line.author.unwrap_or_default(),
            // A deployment, and whatever else is no kind, was decided for itself.
            kind: changes::kind(&word).unwrap_or(ChangeKind::Normal),
            state: ChangeState::Done,
            link: String::new(),
        };
        Ok(Self { at, change: changes::fit(change, at) })
    }
}

fn unreadable(error: &serde_json::Error) -> String {
    format!("it cannot be read: {error}")
}

fn read_time(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| {
        let shown = text.get(..text.floor_char_boundary(64)).unwrap_or_default();
        format!("ts is no time like `2026-01-31T12:00:00Z`: `{}`", shown.escape_debug())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_holds_until_the_next_word() {
        let read = |ends: &str| {
            let line = format!(
                r#"{{"ts":"2026-03-02T00:05:00Z","source":"x","alert":{{"labels":{{"a":"b"}},
                "startsAt":"2026-03-02T00:04:00Z"{ends}}}}}"#
            );
            ToldAlert::read(line.as_bytes()).unwrap()
        };
        assert_eq!(read("").alert.ends, Ends::WhenTold);
        assert_eq!(read(r#","endsAt":"0001-01-01T00:00:00Z""#).alert.ends, Ends::WhenTold);
        let told = read(r#","endsAt":"2026-03-02T00:05:00Z""#);
        assert_eq!(told.alert.ends, Ends::At(told.at));
        assert_eq!(told.source, "x");
    }

    #[test]
    fn refusals_have_reasons() {
        for (line, reason) in [
            ("", "cannot be read"),
            ("[]", "cannot be read"),
            (r#"{"alert":{"labels":{"a":"b"}}}"#, "missing field `ts`"),
            (r#"{"ts":"2026-03-02T00:00:00Z"}"#, "missing field `alert`"),
            (r#"{"ts":"now","alert":{"labels":{"a":"b"}}}"#, "ts is no time like"),
            (r#"{"ts":"2026-03-02T00:00:00Z","alert":7}"#, "an object, not a number"),
            (r#"{"ts":"2026-03-02T00:00:00Z","alert":{}}"#, "at least one label pair"),
        ] {
            let refused = ToldAlert::read(line.as_bytes()).unwrap_err();
            assert!(refused.contains(reason), "{line}: {refused}");
        }
        assert!(ToldChange::read(b"{}").unwrap_err().contains("missing field `ts`"));
    }

    #[test]
    fn a_deployment_is_a_normal_change() {
        let line = br#"{"ts":"2026-03-02T00:00:00Z","id":"C00001","kind":"deployment",
            "service":"cart-api","version":"v1.2","author":"dev1"}"#;
        let told = ToldChange::read(line).unwrap();
        assert_eq!(told.change.title, "deployment of cart-api v1.2");
        assert_eq!((told.change.kind, told.change.time), (ChangeKind::Normal, Some(told.at)));
        assert_eq!(told.change.external_id, "C00001");
        let line = br#"{"ts":"2026-03-02T00:00:00Z","kind":"Emergency"}"#;
        assert_eq!(ToldChange::read(line).unwrap().change.kind, ChangeKind::Emergency);
    }
}

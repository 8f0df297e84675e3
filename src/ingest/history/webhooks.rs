//! Histories of bodies that an Alertmanager sent to a webhook, one a line.

use super::{ToldAlert, read_time};
use crate::domain::event::Ends;
use crate::ingest::alertmanager_webhook::{self, SOURCE};
use jiff::Timestamp;
use serde::Deserialize;

/// The time at which a body was received, where whoever kept it wrote it down.
#[derive(Deserialize)]
struct Received {
    #[serde(default)]
    ts: Option<String>,
}

/// Reads a body. Each alert is told when the body was received, if it says so, else when it began or
/// ended. Fails with the reason why the body is refused; an alert may be refused by itself.
pub fn read(line: &[u8]) -> Result<Vec<Result<ToldAlert, String>>, String> {
    let received: Received =
        serde_json::from_slice(line).map_err(|it| format!("it cannot be read: {it}"))?;
    let received = received.ts.as_deref().map(read_time).transpose()?;
    let delivery = alertmanager_webhook::parse(line, received.unwrap_or(Timestamp::MAX));
    let delivery = delivery.map_err(|(_, _, message)| message)?;
    let refused = delivery.rejected.into_iter().map(|it| Err(it.reason));
    let told = delivery.alerts.into_iter().map(|alert| {
        let own = match alert.ends {
            // The status says that it is over, and nothing says when.
            Ends::At(at) => Some(at).filter(|it| *it < Timestamp::MAX),
            Ends::Timeout | Ends::WhenTold => alert.starts_at,
        };
        let at = received.or(own).ok_or("it tells no time")?;
        Ok(ToldAlert { at, source: SOURCE.to_owned(), alert })
    });
    Ok(told.chain(refused).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = r#"{"version":"4","status":"firing","alerts":[
        {"status":"firing","labels":{"alertname":"A"},"startsAt":"2026-03-02T00:01:00Z",
         "endsAt":"0001-01-01T00:00:00Z"},
        {"status":"resolved","labels":{"alertname":"B"},"startsAt":"2026-03-02T00:00:00Z",
         "endsAt":"2026-03-02T00:02:00Z"},
        {"status":"resolved","labels":{"alertname":"C"}},
        {"status":"gone","labels":{"alertname":"D"}}]"#;

    fn times(line: &str) -> Vec<Result<String, String>> {
        let told = read(line.as_bytes()).unwrap();
        told.into_iter().map(|it| it.map(|it| it.at.to_string())).collect()
    }

    #[test]
    fn each_alert_has_a_time() {
        let own = times(&format!("{BODY}}}"));
        let expected = ["2026-03-02T00:01:00Z", "2026-03-02T00:02:00Z"];
        assert_eq!(own.iter().flatten().collect::<Vec<_>>(), expected);
        assert_eq!(own[2], Err("it tells no time".to_owned()));
        assert!(own[3].as_ref().unwrap_err().contains("status must be"), "{own:?}");
        let received = times(&format!(r#"{BODY},"ts":"2026-03-02T00:03:00Z"}}"#));
        assert_eq!(received.iter().flatten().collect::<Vec<_>>(), ["2026-03-02T00:03:00Z"; 3]);
        assert!(read(b"{}").unwrap_err().contains("no list of `alerts`"));
    }
}

//! Delivers a notification to a receiver's webhook, once.

use super::{http, outcome};
use crate::domain::effect::{EffectKey, Outcome, OutcomeKind};
use crate::domain::rules::SecretText;
use reqwest::Client;
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// The time for one delivery.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest secret that is read from a file, in bytes.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Posts `body` to the receiver. What is said about it names scheme, host and port only, because
/// a webhook's URL is often a password.
pub(super) async fn deliver(
    client: &Client,
    url: &SecretText,
    body: &str,
    key: &EffectKey,
) -> Outcome {
    let text = match reveal(url).await {
        Ok(text) => text,
        // The file may be in the middle of being renewed.
        Err(detail) => return outcome(OutcomeKind::FailedRetryable, detail),
    };
    let built = http::parse_url(&text).and_then(|url| {
        let place = http::place(&url);
        let key = http::key_value(stable_key(key))?;
        Ok((http::post_json(client, url, body, key)?, place))
    });
    match built {
        Ok((request, place)) => {
            let mut outcome = http::exchange(client, request, &place, &[]).await;
            // The receiver knows the key, so a delivery that broke off may be done again.
            if outcome.code.is_none() {
                outcome.result = OutcomeKind::FailedRetryable;
            }
            outcome
        }
        Err(detail) => outcome(OutcomeKind::Failed, detail),
    }
}

/// A delivery that took too long may be done again, for the same reason.
pub(super) fn retry_after_timeout(mut outcome: Outcome) -> Outcome {
    if outcome.result == OutcomeKind::TimedOut {
        outcome.result = OutcomeKind::FailedRetryable;
    }
    outcome
}

/// `NTF-4` of `NTF-4/2`: the same for every attempt, so that a receiver can tell a repetition.
fn stable_key(key: &EffectKey) -> &str {
    key.0.rsplit_once('/').map_or(&*key.0, |(stable, _)| stable)
}

async fn reveal(secret: &SecretText) -> Result<String, String> {
    match secret {
        SecretText::Text(text) => Ok(text.trim().to_owned()),
        SecretText::File(path) => {
            let read = async {
                let mut text = String::new();
                let file = tokio::fs::File::open(path).await?;
                file.take(SECRET_BYTES_MAX).read_to_string(&mut text).await?;
                Ok(text.trim().to_owned())
            };
            read.await.map_err(|error: std::io::Error| {
                format!("cannot read the receiver's URL from its file: {error}: `{path}`")
            })
        }
        SecretText::Env(name) => std::env::var(name)
            .map(|text| text.trim().to_owned())
            .map_err(|_| format!("the receiver's URL is not in the environment: `{name}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_server::TestServer;
    use super::super::{Options, Performer};
    use super::*;
    use crate::domain::effect::{Effect, PlannedEffect};
    use crate::domain::rules::Occasion;

    async fn perform(url: SecretText, key: &str) -> Outcome {
        let effect = Effect::Deliver {
            receiver: "hook".to_owned(),
            url,
            occasion: Occasion::Opened,
            incident: None,
            body: r#"{"a":1}"#.into(),
        };
        // Nothing is allow-listed: a receiver's address needs no entry.
        let performer = Performer::new(Options::default()).unwrap();
        performer
            .perform(PlannedEffect { key: EffectKey(key.into()), idempotent: true, effect })
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn a_delivery_carries_body_and_stable_key() {
        let server = TestServer::start().await;
        let url = format!("http://bob:pa55@{}/status/200?token=s3cret", server.address);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("url");
        std::fs::write(&file, format!("{url}\n")).unwrap();
        let file = SecretText::File(file.display().to_string());
        for (url, key) in [(SecretText::Text(url), "NTF-4/1"), (file, "NTF-4/2")] {
            let outcome = perform(url, key).await;
            assert_eq!(outcome.result, OutcomeKind::Succeeded, "{}", outcome.detail);
            assert_eq!(outcome.detail, format!("http://{} answered 200 OK", server.address));
        }
        let seen = server.seen();
        assert_eq!(seen.len(), 2);
        for seen in seen {
            assert_eq!(seen.body, r#"{"a":1}"#);
            assert_eq!(seen.headers["idempotency-key"], "NTF-4");
            assert_eq!(seen.headers["content-type"], "application/json");
            assert!(seen.headers["authorization"].starts_with("Basic "));
        }
    }

    #[tokio::test]
    async fn failures_are_sorted_and_tell_no_secret() {
        let server = TestServer::start().await;
        let closed = {
            let server = TestServer::start().await;
            server.address
        };
        let at = |path: &str| {
            SecretText::Text(format!("http://u:s3cret@{}{path}?s3cret", server.address))
        };
        for (url, result) in [
            (at("/status/500"), OutcomeKind::FailedRetryable),
            (at("/status/429"), OutcomeKind::FailedRetryable),
            (at("/status/404"), OutcomeKind::Failed),
            (at("/redirect"), OutcomeKind::Failed),
            (at("/hang-up"), OutcomeKind::FailedRetryable),
            (SecretText::Text(format!("http://{closed}/s3cret")), OutcomeKind::FailedRetryable),
            (SecretText::Text("http://s3cret host/".to_owned()), OutcomeKind::Failed),
            (SecretText::Text("ftp://host/s3cret".to_owned()), OutcomeKind::Failed),
            (SecretText::Text("s3cret".to_owned()), OutcomeKind::Failed),
            (SecretText::File("/nowhere/url".to_owned()), OutcomeKind::FailedRetryable),
            (SecretText::Env("WATCHKEEPER_NO_SUCH".to_owned()), OutcomeKind::FailedRetryable),
        ] {
            let outcome = perform(url.clone(), "NTF-4/1").await;
            assert_eq!(outcome.result, result, "{url:?}: {}", outcome.detail);
            assert!(
                !outcome.detail.is_empty() && !outcome.detail.contains("s3cret"),
                "{}",
                outcome.detail
            );
        }
    }

    #[tokio::test]
    async fn a_delivery_without_an_answer_is_tried_again() {
        let timed_out = super::super::timed_out(TIMEOUT);
        assert_eq!(retry_after_timeout(timed_out).result, OutcomeKind::FailedRetryable);
        let stopped = super::super::stopped();
        assert_eq!(retry_after_timeout(stopped).result, OutcomeKind::Stopped);
    }
}

//! What an Alertmanager says of itself: `GET /api/v2/status`.

use super::{Context, DEFAULT_RECEIVER, Milliseconds, answer_unavailable, receiver_names};
use crate::domain::rules::RuleSet;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::sync::Arc;

pub(super) async fn get_status(State(context): State<Arc<Context>>) -> Response {
    match context.handle.read(|state| Arc::clone(&state.rules)).await {
        Ok(rules) => Json(render(&rules, &context.version, context.started_at)).into_response(),
        Err(error) => answer_unavailable(&error),
    }
}

/// Every field is required by the clients.
fn render(rules: &RuleSet, version: &str, started_at: Timestamp) -> Value {
    json!({
        "cluster": {"name": "watchkeeper", "status": "ready", "peers": []},
        "config": {"original": configuration(rules)},
        "uptime": Milliseconds(started_at),
        "versionInfo": {
            "branch": "watchkeeper",
            "buildDate": "",
            "buildUser": "",
            "goVersion": "none",
            "revision": env!("CARGO_PKG_VERSION"),
            "version": version,
        },
    })
}

/// The least configuration that Alertmanager's own tools accept: a route and the receivers by
/// name. Addresses are secrets. A JSON text is also a YAML text.
fn configuration(rules: &RuleSet) -> String {
    let mut yaml = format!("route:\n  receiver: {DEFAULT_RECEIVER}\nreceivers:\n");
    for name in receiver_names(rules) {
        writeln!(yaml, "- name: {}", Value::from(name)).expect("a text takes all that is written");
    }
    yaml
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::rules::{Receiver, RuleRef, SecretText};

    #[test]
    fn receivers_are_named_and_their_addresses_are_not() {
        let receiver = |name: &str| Receiver {
            rule: Arc::new(RuleRef { name: name.to_owned(), ..RuleRef::default() }),
            webhook_url: SecretText::Text("http://secret".to_owned()),
        };
        let rules = RuleSet {
            receivers: vec![receiver("a \"b\": c"), receiver("default")],
            ..RuleSet::default()
        };
        let status = render(&rules, "0.25.0", "2026-11-22T17:00:00Z".parse().unwrap());
        assert_eq!(
            status["config"]["original"],
            "route:\n  receiver: default\nreceivers:\n- name: \"default\"\n\
             - name: \"a \\\"b\\\": c\"\n"
        );
        assert_eq!(status["uptime"], "2026-11-22T17:00:00.000Z");
        assert_eq!(status["versionInfo"]["version"], "0.25.0");
        assert!(!status.to_string().contains("secret"));
    }
}

//! The routes of the doors for facts, as the OpenAPI document tells them. `ingest` serves them; their
//! bodies are the formats of others.

use super::access::word;
use crate::config::Role;
use serde_json::{Map, Value, json};

/// A route of a door.
pub(super) struct DoorRoute {
    /// In small letters.
    pub method: &'static str,
    /// The path; parameters stand in braces.
    pub path: &'static str,
    /// What it does, in a line.
    pub summary: &'static str,
    /// Who may; `None` = everybody, or whoever has the key that stands in the body.
    pub role: Option<Role>,
    /// What is answered, and when.
    pub answers: &'static [(&'static str, &'static str)],
}

const TAKEN: (&str, &str) = ("200", "What is good of it is on disk");
const ACCEPTED: (&str, &str) = ("202", "It is on disk");
const BAD: (&str, &str) =
    ("400", "It cannot be read, or a part of it was refused; the rest was taken");
const NO_TOKEN: (&str, &str) = ("401", "A token, or another proof, is needed");
const UNKNOWN: (&str, &str) = ("404", "There is no such thing");
const NONSENSE: (&str, &str) = ("422", "It is no alert");
const TOO_MANY: (&str, &str) = ("429", "The source has used up its quota");
const LATER: (&str, &str) = ("503", "Not now; try again after `Retry-After`");

const fn route(
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    answers: &'static [(&'static str, &'static str)],
) -> DoorRoute {
    DoorRoute { method, path, summary, role: Some(Role::Ingest), answers }
}

/// All of them, but for Alertmanager's own API, which has a document of its own.
pub(super) const ROUTES: [DoorRoute; 19] = [
    route(
        "post",
        "/ingest/{source}",
        "Takes a webhook: of an Alertmanager, a tool with a mapping, CloudEvents, or any other (`guess`)",
        &[TAKEN, BAD, NO_TOKEN, UNKNOWN, TOO_MANY, LATER],
    ),
    DoorRoute {
        role: None,
        ..route(
            "options",
            "/ingest/{source}",
            "Tells a sender of CloudEvents that asks first that its events are wanted",
            &[("200", "They are")],
        )
    },
    route(
        "post",
        "/heartbeat/{name}",
        "Takes a ping of a heartbeat: all is well",
        &[TAKEN, NO_TOKEN, UNKNOWN, LATER],
    ),
    route(
        "post",
        "/heartbeat/{name}/{signal}",
        "Takes a ping with `start`, `fail`, `log` or an exit code",
        &[TAKEN, BAD, NO_TOKEN, UNKNOWN, LATER],
    ),
    route(
        "post",
        "/v2/heartbeats/{name}/ping",
        "Takes a ping as Opsgenie does",
        &[ACCEPTED, NO_TOKEN, UNKNOWN, LATER],
    ),
    DoorRoute {
        role: None,
        ..route(
            "post",
            "/v2/enqueue",
            "Takes an event as PagerDuty does; its `routing_key` is a token that may deliver",
            &[ACCEPTED, BAD, NO_TOKEN, TOO_MANY, LATER],
        )
    },
    DoorRoute {
        role: None,
        ..route(
            "post",
            "/v2/change/enqueue",
            "Takes a change event as PagerDuty does",
            &[ACCEPTED, BAD, NO_TOKEN, TOO_MANY, LATER],
        )
    },
    DoorRoute {
        role: None,
        ..route("get", "/config", "Tells Alerta's client the severities", &[("200", "Done")])
    },
    route(
        "post",
        "/alert",
        "Takes an alert as Alerta does; also at `/api/alert`",
        &[("201", "It is on disk"), BAD, NO_TOKEN, LATER],
    ),
    DoorRoute {
        role: Some(Role::Responder),
        ..route(
            "put",
            "/alert/{id}/action",
            "Acknowledges or closes an alert as Alerta does",
            &[("200", "Done"), BAD, NO_TOKEN, UNKNOWN, LATER],
        )
    },
    DoorRoute {
        role: Some(Role::Responder),
        ..route(
            "put",
            "/alert/{id}/status",
            "The same, by the status that it should have",
            &[("200", "Done"), BAD, NO_TOKEN, UNKNOWN, LATER],
        )
    },
    route(
        "post",
        "/v2/alerts",
        "Takes an alert as Opsgenie does",
        &[ACCEPTED, NO_TOKEN, NONSENSE, LATER],
    ),
    DoorRoute {
        role: Some(Role::Viewer),
        ..route(
            "get",
            "/v2/alerts/{identifier}",
            "Shows an alert as Opsgenie does",
            &[("200", "Done"), NO_TOKEN, UNKNOWN, LATER],
        )
    },
    route(
        "post",
        "/v2/alerts/{identifier}/close",
        "Ends an alert as Opsgenie does",
        &[ACCEPTED, NO_TOKEN, NONSENSE, LATER],
    ),
    route(
        "post",
        "/v2/alerts/{identifier}/acknowledge",
        "Acknowledges the incident of an alert as Opsgenie does",
        &[ACCEPTED, NO_TOKEN, NONSENSE, LATER],
    ),
    route(
        "post",
        "/v2/alerts/{identifier}/notes",
        "Adds a note to the incident of an alert as Opsgenie does",
        &[ACCEPTED, NO_TOKEN, NONSENSE, LATER],
    ),
    route(
        "get",
        "/v2/alerts/requests/{id}",
        "Tells what came of a request as Opsgenie does",
        &[("200", "Done"), NO_TOKEN, UNKNOWN, LATER],
    ),
    DoorRoute {
        role: Some(Role::Viewer),
        ..route(
            "get",
            "/api/v1/quarantine",
            "Lists the bodies that were not understood, the newest first",
            &[("200", "Done"), NO_TOKEN],
        )
    },
    DoorRoute {
        role: Some(Role::Viewer),
        ..route(
            "get",
            "/api/v1/quarantine/{id}",
            "Shows a body that was not understood",
            &[("200", "Done"), NO_TOKEN, UNKNOWN],
        )
    },
];

/// A route in the OpenAPI document. Its bodies are not described: their own makers do that.
pub(super) fn operation(it: &DoorRoute) -> Value {
    let parts = it.path.split(['/', '-']).filter(|it| !it.is_empty());
    let parts: Vec<&str> = parts.map(|it| it.trim_matches(['{', '}'])).collect();
    let named = it.path.split('/').filter_map(|it| it.strip_prefix('{')?.strip_suffix('}'));
    let parameters: Vec<Value> = named
        .map(|name| {
            let schema = json!({"type": "string", "minLength": 1});
            json!({"name": name, "in": "path", "required": true, "schema": schema})
        })
        .collect();
    let answers = it.answers.iter().map(|(status, meaning)| {
        let content = json!({"application/json": {}});
        ((*status).to_owned(), json!({"description": meaning, "content": content}))
    });
    let mut operation = Map::new();
    let mut tell = |name: &str, value| operation.insert(name.to_owned(), value);
    tell("summary", json!(it.summary));
    tell("operationId", json!(format!("{}_{}", it.method, parts.join("_"))));
    tell("parameters", json!(parameters));
    tell("responses", Value::Object(answers.collect()));
    match it.role {
        Some(role) => {
            tell("security", json!([{"token": []}, {}]));
            tell("x-role", json!(word(role)));
        }
        None => drop(tell("security", json!([]))),
    }
    if matches!(it.method, "post" | "put") {
        tell("requestBody", json!({"content": {"application/json": {}}}));
    }
    Value::Object(operation)
}

#[cfg(test)]
mod tests {
    use super::super::routes;
    use super::*;
    use axum::http::Method;

    #[test]
    fn the_doors_have_the_roles_that_are_told() {
        let role_of = routes::role_of(&routes::operations());
        for it in ROUTES.iter().filter(|it| it.role.is_some()) {
            let method: Method = it.method.to_uppercase().parse().unwrap();
            assert_eq!(role_of(&method, it.path), it.role, "{method} {}", it.path);
        }
    }
}

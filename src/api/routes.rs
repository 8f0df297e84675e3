//! The one table of routes: the router, the roles and the OpenAPI document are made from it.

use super::access::{self, RoleOf};
use super::error::ApiError;
use super::{
    Context, alerts, articles, audit, changes, doctor, drafts, executions, explain, forecasts,
    freezes, heartbeats, incidents, maintenance, metrics, openapi, page, problems, reports,
    runbooks, services, silences, status, stream,
};
use crate::config::Role;
use axum::Router;
use axum::handler::Handler;
use axum::http::{Method, Uri};
use axum::middleware;
use axum::routing::{MethodRouter, get, post};
use std::collections::HashMap;
use std::sync::Arc;

/// A route with everything that must be known of it. There is no way to serve a path without one.
pub(super) struct Operation {
    /// `GET` or `POST`.
    pub method: Method,
    /// The path; parameters stand in braces.
    pub path: &'static str,
    /// What it does, in a line.
    pub summary: &'static str,
    /// Who may; `None` = everybody.
    pub role: Option<Role>,
    /// The parameters of the query, with their meaning.
    pub query: &'static [(&'static str, &'static str)],
    /// The schema of the body.
    pub request: Option<&'static str>,
    /// What is answered.
    pub response: Answer,
    handler: MethodRouter<Context>,
}

/// What a route answers.
#[derive(Clone, Copy)]
pub(super) enum Answer {
    /// JSON by this schema.
    Json(&'static str),
    /// A page of a listing of this schema.
    Page(&'static str),
    /// Something else, by media type.
    Other(&'static str),
}

impl Operation {
    /// A route that a viewer may look at.
    pub(super) fn read<H: Handler<T, Context>, T: 'static>(
        path: &'static str,
        summary: &'static str,
        response: Answer,
        handler: H,
    ) -> Self {
        let role = Some(Role::Viewer);
        let handler = get(handler);
        let method = Method::GET;
        Self { method, path, summary, role, query: &[], request: None, response, handler }
    }

    /// A route that changes something: for responders.
    pub(super) fn command<H: Handler<T, Context>, T: 'static>(
        path: &'static str,
        summary: &'static str,
        request: &'static str,
        response: Answer,
        handler: H,
    ) -> Self {
        let role = Some(Role::Responder);
        let (method, request) = (Method::POST, Some(request));
        let handler = post(handler);
        Self { method, path, summary, role, query: &[], request, response, handler }
    }

    /// Asks for another role; `None` = none.
    pub(super) fn role(mut self, role: Option<Role>) -> Self {
        self.role = role;
        self
    }

    /// Declares the parameters of the query.
    pub(super) fn query(mut self, query: &'static [(&'static str, &'static str)]) -> Self {
        self.query = query;
        self
    }

    /// Takes no body.
    pub(super) fn without_body(mut self) -> Self {
        self.request = None;
        self
    }
}

/// All of them.
pub(super) fn operations() -> Vec<Operation> {
    let mut operations = page::operations();
    operations.extend(alerts::operations());
    operations.extend(incidents::operations());
    operations.extend(silences::operations());
    operations.extend(maintenance::operations());
    operations.extend(forecasts::operations());
    operations.extend(freezes::operations());
    operations.extend(heartbeats::operations());
    operations.extend(problems::operations());
    operations.extend(articles::operations());
    operations.extend(audit::operations());
    operations.extend(changes::operations());
    operations.extend(runbooks::operations());
    operations.extend(services::operations());
    operations.extend(executions::operations());
    operations.extend(explain::operations());
    operations.extend(reports::operations());
    operations.extend(drafts::operations());
    operations.extend(stream::operations());
    operations.extend(status::operations());
    operations.extend(doctor::operations());
    operations.extend(metrics::operations());
    operations.extend(openapi::operations());
    operations
}

/// The router.
pub(super) fn router(operations: Vec<Operation>) -> Router<Context> {
    operations.into_iter().fold(Router::new(), |router, it| {
        let handler = as_command(&it.method, it.path, it.handler);
        router.route(it.path, handler)
    })
}

/// A handler that takes only JSON, which no form of a web page can send, if it serves a command.
pub(super) fn as_command<S: Clone + Send + Sync + 'static>(
    method: &Method,
    path: &str,
    handler: MethodRouter<S>,
) -> MethodRouter<S> {
    if *method == Method::GET || !path.starts_with("/api/v1/") {
        return handler;
    }
    handler.route_layer(middleware::from_fn(access::only_json))
}

/// Which role a method and a path need. What is in no table needs a viewer at least, so that
/// nothing is open by oversight; where several routes fit, the strictest role counts.
pub(super) fn role_of(operations: &[Operation]) -> RoleOf {
    // By method and number of segments, so that a request is compared with few.
    let mut table: HashMap<_, Vec<(&'static str, Option<Role>)>> = HashMap::new();
    for it in operations {
        let place = (it.method.clone(), it.path.split('/').count());
        table.entry(place).or_default().push((it.path, it.role));
    }
    Arc::new(move |method, path| {
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        let alike = table.get(&(method.clone(), path.split('/').count()));
        let fits = alike.into_iter().flatten().filter(|(it, _)| matches(it, path));
        match fits.map(|(_, role)| *role).max() {
            Some(role) => role,
            None => Some(role_of_other_door(method, path)),
        }
    })
}

/// Whether a path fits a template of as many segments, by the rules of axum: segment by segment,
/// as it was sent.
fn matches(template: &str, path: &str) -> bool {
    template
        .split('/')
        .zip(path.split('/'))
        .all(|(part, segment)| part == segment || part.starts_with('{') && !segment.is_empty())
}

/// The role for the routes of the other doors.
fn role_of_other_door(method: &Method, path: &str) -> Role {
    let reads = *method == Method::GET;
    let delivers = path.starts_with("/ingest/")
        || access::pinged(path).is_some()
        || path == "/api/v2/alerts" && !reads
        || matches!(path, "/alert" | "/api/alert") && !reads
        || (path == "/v2/alerts" || path.starts_with("/v2/alerts/")) && !reads
        || path.starts_with("/v2/alerts/requests/");
    if delivers {
        Role::Ingest
    } else if reads {
        Role::Viewer
    } else {
        Role::Responder
    }
}

/// Answers a path that nobody serves.
pub(super) async fn not_found(uri: Uri) -> ApiError {
    ApiError::not_found(format!("there is nothing at `{}`", uri.path()))
        .hint("`/api/v1/openapi.json` lists the paths")
}

/// Answers a method that a path does not know.
pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    ApiError::method_not_allowed(format!("`{}` does not know `{method}`", uri.path()))
        .hint("`/api/v1/openapi.json` lists what each path knows")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_told_and_guarded() {
        let operations = operations();
        let open: Vec<&str> =
            operations.iter().filter(|it| it.role.is_none()).map(|it| it.path).collect();
        let expected = ["/", "/page.css", "/page.js", "/icon.svg", "/-/healthy", "/-/ready"];
        assert_eq!(open, expected, "only these may be open");
        for it in &operations {
            assert!(it.summary.len() > 5 && !it.summary.ends_with('.'), "{}", it.path);
            let changes = it.method != Method::GET;
            assert!(!changes || it.role >= Some(Role::Responder), "{} changes something", it.path);
        }
    }

    #[test]
    fn each_path_finds_its_role() {
        let role_of = role_of(&operations());
        for (method, path, role) in [
            (Method::GET, "/", None),
            (Method::HEAD, "/-/healthy", None),
            (Method::GET, "/-/reload", Some(Role::Viewer)),
            (Method::POST, "/-/reload", Some(Role::Admin)),
            (Method::GET, "/metrics", Some(Role::Viewer)),
            (Method::GET, "/api/v1/incidents/INC-1", Some(Role::Viewer)),
            (Method::POST, "/api/v1/incidents/INC-1/ack", Some(Role::Responder)),
            (Method::POST, "/api/v1/runbooks/stop-all", Some(Role::Admin)),
            (Method::POST, "/api/v1/runbooks/restart/run", Some(Role::Responder)),
            (Method::POST, "//", Some(Role::Responder)),
            (Method::GET, "/-/healthy/", Some(Role::Viewer)),
        ] {
            assert_eq!(role_of(&method, path), role, "{method} {path}");
        }
    }

    #[test]
    fn the_other_doors_have_roles() {
        let role_of = role_of(&[]);
        for (method, path, role) in [
            (Method::POST, "/ingest/alertmanager", Role::Ingest),
            (Method::POST, "/api/v2/alerts", Role::Ingest),
            (Method::POST, "/alert", Role::Ingest),
            (Method::PUT, "/alert/732b30836e261245/action", Role::Responder),
            (Method::POST, "/v2/alerts/x/close", Role::Ingest),
            (Method::GET, "/v2/alerts/requests/x", Role::Ingest),
            (Method::GET, "/v2/alerts/x", Role::Viewer),
            (Method::GET, "/heartbeat/backup/start", Role::Ingest),
            (Method::HEAD, "/heartbeat/backup", Role::Ingest),
            (Method::GET, "/v2/heartbeats/backup/ping", Role::Ingest),
            (Method::GET, "/api/v2/alerts", Role::Viewer),
            (Method::POST, "/api/v2/silences", Role::Responder),
            (Method::DELETE, "/api/v2/silence/5e1f", Role::Responder),
            (Method::HEAD, "/api/v2/status", Role::Viewer),
            (Method::POST, "/something/else", Role::Responder),
        ] {
            assert_eq!(role_of(&method, path), Some(role), "{method} {path}");
        }
    }
}

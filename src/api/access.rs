//! Who may do what: the layer that every request passes first.
//!
//! A daemon on loopback needs no login, so a web page that the operator happens to visit must not
//! be able to drive it. Three checks see to that, with or without tokens: the `Host` must be ours
//! (against DNS rebinding), an `Origin` must be ours on whatever changes something, and commands
//! must come as JSON, which no HTML form can send.

use super::error::ApiError;
use crate::config::Role;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use subtle::ConstantTimeEq;

/// How long a request may take until its answer begins: a slow body, a stuck store.
const REQUEST_MAX: Duration = Duration::from_mins(1);

/// A static token, its text resolved.
#[derive(Clone)]
pub struct ResolvedToken {
    /// The bearer's name: the `by` of what he does.
    pub name: String,
    /// What he may do.
    pub role: Role,
    /// The token itself.
    pub token: String,
}

/// Never prints the token.
impl std::fmt::Debug for ResolvedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ResolvedToken({}, {:?})", self.name, self.role)
    }
}

/// What the checks need to know of the settings.
#[derive(Clone, Debug)]
pub struct Access {
    /// Where we listen, with the port that was given to us.
    pub listen: SocketAddr,
    /// The address under which people reach us.
    pub external_url: Option<String>,
    /// The tokens; none = everybody on loopback is an administrator, and nobody elsewhere.
    pub tokens: Vec<ResolvedToken>,
}

/// Who sent a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The name of his token; `None` = no tokens are configured.
    pub name: Option<String>,
    /// What he may do.
    pub role: Role,
}

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        _state: &S,
    ) -> Result<Self, ApiError> {
        // The layer puts it there; a router without the layer must not let anybody in.
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| ApiError::unauthorized("this path needs a token"))
    }
}

/// The role that a method and a path need; `None` = open to everybody.
pub(super) type RoleOf = Arc<dyn Fn(&Method, &str) -> Option<Role> + Send + Sync>;

/// What the layer works with.
#[derive(Clone)]
pub(super) struct Guard {
    /// The settings.
    pub access: Arc<Access>,
    /// The role that a method and a path need.
    pub role_of: RoleOf,
}

/// Checks a request, lets it through with its [`Caller`], and sets the headers of the answer.
pub(super) async fn layer(
    State(guard): State<Guard>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path().to_owned();
    let mut response = match guard.check(&request) {
        Ok(caller) => {
            if let Some(caller) = caller {
                if let Some(name) = caller.name.clone() {
                    request.extensions_mut().insert(super::alertmanager::Caller(name));
                }
                request.extensions_mut().insert(caller);
            }
            let answer = tokio::time::timeout(REQUEST_MAX, next.run(request)).await;
            answer.unwrap_or_else(|_| {
                let seconds = REQUEST_MAX.as_secs();
                let path = if pings_by_key(&path) { "/ping/…" } else { &path };
                tracing::warn!("a request to {path} was not done within {seconds} s");
                ApiError::unavailable(format!("not done within {seconds} s")).into_response()
            })
        }
        Err(refusal) => {
            let told = if pings_by_key(&path) { "/ping/…" } else { &path };
            tracing::debug!("refused {} {told}: {refusal}", request.method());
            refusal.answer_for(&path)
        }
    };
    set_headers(response.headers_mut(), &path);
    response
}

impl Guard {
    fn check(&self, request: &Request) -> Result<Option<Caller>, ApiError> {
        let headers = request.headers();
        let host = self.access.check_host(headers)?;
        let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        // A ping changes something, by whatever method.
        let path = request.uri().path();
        let is_ping = pinged(path).is_some() || pings_by_key(path);
        if changes || is_ping {
            self.access.check_origin(headers, host)?;
        }
        if is_ping {
            check_fetch_site(headers)?;
        }
        let caller = match (self.role_of)(request.method(), request.uri().path()) {
            None => None,
            Some(role) => Some(self.access.check_token(headers, role)?),
        };
        Ok(caller)
    }
}

/// The name of the heartbeat that a path pings.
pub(super) fn pinged(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("/heartbeat/").or_else(|| path.strip_prefix("/v2/heartbeats/"))?;
    rest.split('/').next()
}

/// Whether a path pings with a key that stands in it; its door checks the key.
pub(super) fn pings_by_key(path: &str) -> bool {
    path.starts_with("/ping/")
}

/// Refuses what a browser asks for in the name of a foreign page, such as an image: it carries no
/// `Origin`.
fn check_fetch_site(headers: &HeaderMap) -> Result<(), ApiError> {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    match site {
        None | Some(b"none" | b"same-origin") => Ok(()),
        Some(_) => Err(foreign_origin("(another site)")),
    }
}

/// The only value of a header; `Err` when it stands there twice or is no text.
fn single<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Result<Option<&'a str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(drop),
        (Some(_), Some(_)) => Err(()),
    }
}

impl Access {
    /// Finds the `Host`, if it is ours.
    fn check_host<'a>(&self, headers: &'a HeaderMap) -> Result<&'a str, ApiError> {
        let host = single(headers, &header::HOST).ok().flatten().unwrap_or_default();
        if self.host_is_ours(host) {
            return Ok(host);
        }
        Err(ApiError::forbidden("foreign_host", format!("this is not the daemon's host: `{host}`"))
            .hint("use the address it listens on, or set `server.external_url`"))
    }

    fn host_is_ours(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        if self.external_origin().is_some_and(|(_, external)| external == host) {
            return true;
        }
        let (name, port) = split_port(&host);
        let ip: Option<IpAddr> = match name.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
            Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            None => name.parse().ok(),
        };
        if !self.is_loopback() {
            // Reached by address; there are tokens then, and rebinding needs a name.
            return ip.is_some() || name == "localhost";
        }
        let ours = name == "localhost" || ip.is_some_and(|it| it.is_loopback());
        ours && port.unwrap_or(80) == self.listen.port()
    }

    fn is_loopback(&self) -> bool {
        self.listen.ip().to_canonical().is_loopback()
    }

    /// Scheme and `host[:port]` of the external address.
    fn external_origin(&self) -> Option<(String, String)> {
        let url = self.external_url.as_deref()?;
        let (scheme, rest) = url.split_once("://")?;
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (scheme, host) = (scheme.to_ascii_lowercase(), host.to_ascii_lowercase());
        let default_port = if scheme == "https" { ":443" } else { ":80" };
        let host = host.strip_suffix(default_port).unwrap_or(&host).to_owned();
        (!host.is_empty()).then_some((scheme, host))
    }

    /// Refuses what a foreign web page sends. Programs send no `Origin`.
    fn check_origin(&self, headers: &HeaderMap, host: &str) -> Result<(), ApiError> {
        let Ok(origin) = single(headers, &header::ORIGIN) else {
            return Err(foreign_origin("(unreadable)"));
        };
        let Some(origin) = origin else { return Ok(()) };
        let lower = origin.to_ascii_lowercase();
        let external = self.external_origin().map(|(scheme, host)| format!("{scheme}://{host}"));
        let own = format!("http://{}", host.to_ascii_lowercase());
        if lower == own || external.is_some_and(|it| it == lower) {
            Ok(())
        } else {
            Err(foreign_origin(origin))
        }
    }

    /// Whether a key that stands in a body, as a routing key does, is one that may deliver.
    pub fn may_deliver(&self, key: &str) -> bool {
        let needs_none = self.tokens.is_empty() && self.is_loopback();
        needs_none || self.find(key).is_some_and(|it| allows(it.role, Role::Ingest))
    }

    fn find(&self, given: &str) -> Option<&ResolvedToken> {
        let mut found = None;
        // Every token is compared in full, so that time tells nothing about any of them.
        for token in &self.tokens {
            let equal: bool = token.token.as_bytes().ct_eq(given.as_bytes()).into();
            if equal && !token.token.is_empty() {
                found = Some(token);
            }
        }
        found
    }

    /// Finds who sends a request, if he may do what needs a role.
    fn check_token(&self, headers: &HeaderMap, needed: Role) -> Result<Caller, ApiError> {
        if self.tokens.is_empty() && self.is_loopback() {
            return Ok(Caller { name: None, role: Role::Admin });
        }
        let Some(given) = bearer(headers) else {
            return Err(ApiError::unauthorized("this path needs a token")
                .hint("send `Authorization: Bearer TOKEN`"));
        };
        let token =
            self.find(given).ok_or_else(|| ApiError::unauthorized("the token is not known"))?;
        if !allows(token.role, needed) {
            return Err(ApiError::forbidden(
                "role_missing",
                format!("this needs the role {}, not `{}`", word(needed), word(token.role)),
            ));
        }
        Ok(Caller { name: Some(token.name.clone()), role: token.role })
    }
}

fn foreign_origin(origin: &str) -> ApiError {
    let message = format!("a page from elsewhere may not do this: `{origin}`");
    ApiError::forbidden("foreign_origin", message)
        .hint("behind a proxy set `server.external_url` to the address in the browser")
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    /// Ours, and the words of Alerta's and Opsgenie's senders for the same.
    const SCHEMES: [&str; 3] = ["bearer", "key", "geniekey"];
    let (scheme, token) = single(headers, &header::AUTHORIZATION).ok()??.split_once(' ')?;
    SCHEMES.iter().any(|it| scheme.eq_ignore_ascii_case(it)).then(|| token.trim())
}

/// Whether a role is enough. `Ingest` may only deliver, and a viewer may not.
fn allows(role: Role, needed: Role) -> bool {
    match (role, needed) {
        (Role::Ingest, needed) => needed == Role::Ingest,
        (role, Role::Ingest) => role >= Role::Responder,
        (role, needed) => role >= needed,
    }
}

/// A role as it is written in settings and in the OpenAPI document.
pub(super) fn word(role: Role) -> &'static str {
    match role {
        Role::Ingest => "ingest",
        Role::Viewer => "viewer",
        Role::Responder => "responder",
        Role::Admin => "admin",
    }
}

/// Splits `host:port`; the brackets of an IPv6 address stay.
fn split_port(host: &str) -> (&str, Option<u16>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => match port.parse() {
            Ok(port) => (name, Some(port)),
            Err(_) => (host, None),
        },
        _ => (host, None),
    }
}

/// Lets a command in that comes as JSON. It stands at each command, not before all paths, so that one
/// that nobody serves is answered as such.
pub(super) async fn only_json(request: Request, next: Next) -> Response {
    match check_content_type(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let given = single(headers, &header::CONTENT_TYPE).ok().flatten().unwrap_or_default();
    let media_type = given.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(ApiError::unsupported_media_type(format!("a command must be JSON, not `{given}`"))
        .hint("send `Content-Type: application/json`"))
}

/// Headers that keep browsers from doing more than the page needs.
fn set_headers(headers: &mut HeaderMap, path: &str) {
    const POLICY: &str = "default-src 'self'; base-uri 'none'; object-src 'none'; \
         form-action 'self'; frame-ancestors 'none'";
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if path.starts_with("/api/") {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

#[cfg(test)]
mod tests;

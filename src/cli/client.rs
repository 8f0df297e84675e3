//! The client of the REST API: every command but the daemon's own goes through here.

use super::failure::{Failure, Result};
use super::output;
use reqwest::{Method, Url};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::time::Duration;

/// The time for one request. A command waits for the server's durable decision, no more.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest time that something is followed.
const STREAM_TIMEOUT: Duration = Duration::from_hours(24);
/// The time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The most entries asked for at once.
const PAGE_MAX: usize = 500;

/// A server's address with what it takes to talk to it.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    server: Url,
    token: Option<String>,
}

/// A listing to ask for.
pub struct Listing<'a> {
    /// Where, for example `["incidents"]`.
    pub path: &'a [&'a str],
    /// What narrows it; entries without a value are left out.
    pub query: &'a [(&'a str, String)],
    /// The most entries wanted.
    pub limit: usize,
}

impl Client {
    /// Prepares to talk to a server; sends nothing yet. The scheme of the address may be left out.
    pub fn new(server: &str, token: Option<String>) -> Result<Self> {
        let with_scheme =
            if server.contains("://") { server.to_owned() } else { format!("http://{server}") };
        let server = Url::parse(&with_scheme)
            .ok()
            .filter(|it| matches!(it.scheme(), "http" | "https") && it.has_host())
            .ok_or_else(|| Failure::Usage(format!("bad server address: `{server}`")))?;
        choose_cryptography();
        let mut builder = reqwest::Client::builder()
            .timeout(REQUEST_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("watchkeeper-cli/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&server) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| {
            Failure::Usage(format!("cannot make an HTTP client: {}", chain(&error)))
        })?;
        Ok(Self { http, server, token: token.filter(|it| !it.is_empty()) })
    }

    /// The server's address, without a slash at the end.
    pub fn server(&self) -> &str {
        self.server.as_str().trim_end_matches('/')
    }

    /// Reads an object of our API.
    pub async fn get(&self, path: &[&str], query: &[(&str, String)]) -> Result<Value> {
        let mut url = self.url("v1", path)?;
        for (name, value) in query.iter().filter(|(_, value)| !value.is_empty()) {
            url.query_pairs_mut().append_pair(name, value);
        }
        self.send(Method::GET, url, None).await
    }

    /// Tells the server to do something.
    pub async fn post(&self, path: &[&str], body: Value) -> Result<Value> {
        self.send(Method::POST, self.url("v1", path)?, Some(body)).await
    }

    /// Posts to the Alertmanager API.
    pub async fn post_alertmanager(&self, path: &[&str], body: Value) -> Result<Value> {
        self.send(Method::POST, self.url("v2", path)?, Some(body)).await
    }

    /// Reads a listing, page by page, until it ends or there are enough entries.
    pub async fn list(&self, listing: &Listing<'_>) -> Result<Value> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let wanted = listing.limit.saturating_sub(items.len()).clamp(1, PAGE_MAX);
            let mut query = listing.query.to_vec();
            query.push(("limit", wanted.to_string()));
            query.push(("cursor", cursor.clone()));
            let page = self.get(listing.path, &query).await?;
            items.extend(output::items(&page).iter().cloned());
            let next = output::field(&page, "next_cursor");
            if next.is_empty() || next == cursor || items.len() >= listing.limit {
                let next = if next.is_empty() { Value::Null } else { Value::String(next) };
                items.truncate(listing.limit);
                return Ok(json!({"items": items, "next_cursor": next}));
            }
            cursor = next;
        }
    }

    /// Joins the address and a path; each entry stays one segment, whatever it contains.
    fn url(&self, version: &str, path: &[&str]) -> Result<Url> {
        let mut url = self.server.clone();
        if let Some(bad) = path.iter().find(|it| matches!(**it, "" | "." | "..")) {
            return Err(Failure::Usage(format!("this cannot be a name: `{bad}`")));
        }
        url.path_segments_mut()
            .map_err(|()| Failure::Usage(format!("bad server address: `{}`", self.server)))?
            .pop_if_empty()
            .extend(["api", version])
            .extend(path);
        Ok(url)
    }

    /// Reads what the server tells for as long as it goes on.
    pub async fn stream(&self, path: &[&str]) -> Result<reqwest::Response> {
        let mut request = self.http.get(self.url("v1", path)?).timeout(STREAM_TIMEOUT);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let reply = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = reply.status().as_u16();
        if (200..300).contains(&status) {
            return Ok(reply);
        }
        let text = reply.text().await.map_err(|error| self.unreachable(&error))?;
        Err(refusal(status, &text))
    }

    async fn send(&self, method: Method, url: Url, body: Option<Value>) -> Result<Value> {
        let mut request = self.http.request(method, url);
        if let Some(body) = body {
            request = request.json(&body);
        }
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let reply = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = reply.status().as_u16();
        let text = reply.text().await.map_err(|error| self.unreachable(&error))?;
        if !(200..300).contains(&status) {
            return Err(refusal(status, &text));
        }
        if text.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text)
            .map_err(|error| Failure::BadReply(format!("it is no JSON: {error}")))
    }

    /// That the server gave no answer, or not all of it.
    pub fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let reason = if error.is_timeout() { "no answer in time".to_owned() } else { chain(error) };
        Failure::Unreachable { server: self.server().to_owned(), reason }
    }
}

/// Chooses ring for TLS in the whole process; no HTTP client can be made before.
pub fn choose_cryptography() {
    // Fails when there is one already, which is as good.
    rustls::crypto::ring::default_provider().install_default().unwrap_or(());
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|it| it.is_loopback())
}

/// The innermost reason: the outer ones only repeat the address.
fn chain(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Reads an error of our API, of the Alertmanager API, or of something in between.
fn refusal(status: u16, text: &str) -> Failure {
    let value: Value = serde_json::from_str(text).unwrap_or(Value::Null);
    let error = value.get("error").unwrap_or(&value);
    let told = match error {
        Value::String(text) => text.clone(),
        _ => error.get("message").and_then(Value::as_str).unwrap_or_default().to_owned(),
    };
    let message =
        if told.is_empty() { format!("the server answered with status `{status}`") } else { told };
    let hint = error.get("hint").and_then(Value::as_str).filter(|it| !it.is_empty());
    Failure::Refused { status, message, hint: hint.map(str::to_owned) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use axum::extract::{Path, Query, Request};
    use axum::http::{HeaderMap, StatusCode};
    use axum::routing::{any, get};
    use std::collections::BTreeMap;

    /// Serves a router on a free port for the rest of the test.
    pub(crate) async fn serve(router: axum::Router) -> Client {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Client::new(&address.to_string(), Some("secret".to_owned())).unwrap()
    }

    #[tokio::test]
    async fn statuses_become_exit_codes_with_the_servers_words() {
        let router = axum::Router::new().route(
            "/api/v1/status/{status}",
            get(|Path(status): Path<u16>| async move {
                let body = json!({"error": {"code": "x", "message": "no", "hint": "try"}});
                (StatusCode::from_u16(status).unwrap(), body.to_string())
            }),
        );
        let client = serve(router).await;
        for (status, code) in [(400, 2), (401, 4), (403, 4), (404, 1), (409, 1), (422, 1), (503, 3)]
        {
            let failure = client.get(&["status", &status.to_string()], &[]).await.unwrap_err();
            assert_eq!(failure.exit_code(), code, "{status}");
            assert_eq!(failure.report(), "error: no\nhint: try");
        }
        let missing = client.get(&["nothing"], &[]).await.unwrap_err();
        assert_eq!(missing.report(), "error: the server answered with status `404`");
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_not_reached() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let client = Client::new(&address, None).unwrap();
        let failure = client.get(&["incidents"], &[]).await.unwrap_err();
        assert_eq!(failure.exit_code(), 3);
        assert!(failure.report().contains(&address), "{}", failure.report());
    }

    #[tokio::test]
    async fn a_reply_that_is_no_json_is_an_error() {
        let client =
            serve(axum::Router::new().route("/api/v1/x", get(|| async { "<html>" }))).await;
        assert_eq!(client.get(&["x"], &[]).await.unwrap_err().exit_code(), 1);
    }

    #[tokio::test]
    async fn names_stay_one_segment_and_the_token_is_sent() {
        let router =
            axum::Router::new().fallback(any(|headers: HeaderMap, it: Request| async move {
                let header =
                    |name: &str| headers.get(name).map(|it| it.to_str().unwrap().to_owned());
                let (token, kind) = (header("authorization"), header("content-type"));
                json!({"uri": it.uri().to_string(), "token": token, "type": kind}).to_string()
            }));
        let client = serve(router).await;
        let reply = client.post(&["incidents", "../x?y", "ack"], json!({})).await.unwrap();
        assert_eq!(reply["uri"], "/api/v1/incidents/..%2Fx%3Fy/ack");
        assert_eq!(reply["token"], "Bearer secret");
        assert_eq!(reply["type"], "application/json");
        assert_eq!(client.get(&[".."], &[]).await.unwrap_err().exit_code(), 2);
    }

    #[tokio::test]
    async fn pages_are_followed_up_to_the_limit() {
        let router = axum::Router::new().route(
            "/api/v1/numbers",
            get(|Query(query): Query<BTreeMap<String, String>>| async move {
                let number = |name: &str| query.get(name).map_or(0, |it| it.parse().unwrap());
                let (from, to) =
                    (number("cursor"), 10.min(number("cursor") + number("limit").min(4)));
                let next = (to < 10).then(|| to.to_string());
                json!({"items": (from..to).collect::<Vec<i32>>(), "next_cursor": next}).to_string()
            }),
        );
        let client = serve(router).await;
        let numbers = async |limit| {
            client.list(&Listing { path: &["numbers"], query: &[], limit }).await.unwrap()
        };
        let listing = numbers(100).await;
        assert_eq!(listing["items"].as_array().unwrap().len(), 10);
        assert!(listing["next_cursor"].is_null());
        let listing = numbers(6).await;
        assert_eq!(listing, json!({"items": [0, 1, 2, 3, 4, 5], "next_cursor": "6"}));
    }

    #[test]
    fn addresses_may_leave_out_the_scheme() {
        for (address, expected) in [
            ("127.0.0.1:9377", Some("http://127.0.0.1:9377")),
            ("https://a.example/base/", Some("https://a.example/base")),
            ("ftp://a", None),
            ("", None),
        ] {
            let client = Client::new(address, None);
            assert_eq!(client.ok().as_ref().map(Client::server), expected, "{address}");
        }
    }
}

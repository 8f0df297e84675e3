//! Sends the request of an http step to an allow-listed destination, and nowhere else.

use super::address::Resolver;
use super::outcome;
use super::output::{Output, Secrets};
use crate::domain::effect::{EffectKey, Outcome, OutcomeKind};
use futures_util::StreamExt;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Request, Response, StatusCode, Url};
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// The most of a reply that is read, in bytes.
const REPLY_BYTES_MAX: u64 = 64 * 1024;
/// The time for making a connection; a step's own time holds as well.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The header that tells a receiver that it has seen this deed before.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Headers that say where a request begins, ends and goes; they are the client's alone.
const HEADERS_REFUSED: [&str; 5] =
    ["connection", "content-length", "host", "transfer-encoding", "upgrade"];
/// Methods that a step may use.
const METHODS: [Method; 5] =
    [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// A host and a port, as a parsed URL names them: lower case, numbers in their usual form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Destination {
    host: String,
    port: u16,
}

impl Destination {
    fn of(url: &Url) -> Option<Self> {
        Some(Self { host: url.host_str()?.to_owned(), port: url.port_or_known_default()? })
    }
}

/// Reads `host:port`, with `[…]` around an IPv6 address.
impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = || format!("a destination in `http_allow` is `host:port`, not `{text}`");
        let (host, port) = text.rsplit_once(':').ok_or_else(error)?;
        if host.contains(['/', '@', '?', '#', '\\', '*']) || host.is_empty() {
            return Err(error());
        }
        let port = port.parse().map_err(|_| error())?;
        let url = Url::parse(&format!("http://{host}:{port}/")).map_err(|_| error())?;
        Ok(Self { host: url.host_str().ok_or_else(error)?.to_owned(), port })
    }
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// An http step, rendered.
pub(super) struct Call<'a> {
    pub(super) method: &'a str,
    pub(super) url: &'a str,
    pub(super) headers: &'a BTreeMap<String, String>,
    pub(super) body: Option<&'a str>,
    pub(super) expect_status: &'a [u16],
}

/// The client for all requests: it follows no redirect, asks no proxy of the environment, and
/// trusts the certificates that the system trusts.
pub(super) fn client() -> Result<Client, String> {
    client_with(None)
}

/// The same, but names lead only where a resolver lets them.
pub(super) fn client_with(resolver: Option<&Resolver>) -> Result<Client, String> {
    let builder = || match resolver {
        Some(resolver) => builder().dns_resolver(Arc::new(resolver.clone())),
        None => builder(),
    };
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("the process has a TLS provider already");
    }
    builder().build().or_else(|error| {
        // A machine without certificates can still reach plain HTTP; TLS then fails by itself.
        tracing::warn!(error = causes(&error), "no trusted certificates: https will not work");
        builder()
            .tls_certs_only([])
            .build()
            .map_err(|error| format!("cannot make an HTTP client: {}", causes(&error)))
    })
}

fn builder() -> reqwest::ClientBuilder {
    Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(Duration::from_secs(30))
        .user_agent(concat!("watchkeeper/", env!("CARGO_PKG_VERSION")))
}

/// Does an http step, if it may be done.
pub(super) async fn call(
    client: &Client,
    allow: &BTreeSet<Destination>,
    call: &Call<'_>,
    key: &EffectKey,
) -> Outcome {
    match request(client, allow, call, key) {
        Ok((request, place)) => exchange(client, request, &place, call.expect_status).await,
        Err(detail) => outcome(OutcomeKind::Failed, detail),
    }
}

/// Builds the request of a step, or says why it may not be sent. Also returns where it goes, in
/// words that hold no secret.
pub(super) fn request(
    client: &Client,
    allow: &BTreeSet<Destination>,
    call: &Call<'_>,
    key: &EffectKey,
) -> Result<(Request, String), String> {
    let method = METHODS.into_iter().find(|it| it.as_str() == call.method).ok_or_else(|| {
        format!("the method must be GET, POST, PUT, PATCH or DELETE, not `{}`", call.method)
    })?;
    let url = parse_url(call.url)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the URL names a user; put credentials into a header".to_owned());
    }
    let destination = Destination::of(&url).ok_or("the URL has no host")?;
    if !allow.contains(&destination) {
        return Err(format!(
            "not allowed; if it should be, add it to `http_allow`: `{destination}`"
        ));
    }
    let place = place(&url);
    let mut request = client.request(method, url).headers(headers(call.headers, key)?);
    if let Some(body) = call.body {
        request = request.body(body.to_owned());
    }
    let request = request.build().map_err(|error| causes(&error.without_url()))?;
    Ok((request, place))
}

/// Parses an http or https URL. Characters that parsers are known to disagree on are refused.
pub(super) fn parse_url(text: &str) -> Result<Url, String> {
    if text.contains(|it: char| it.is_control() || it.is_whitespace() || it == '\\') {
        return Err("the URL has a blank, a control character or a `\\` in it".to_owned());
    }
    let url = Url::parse(text).map_err(|error| format!("bad URL: {error}"))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(format!("the URL must begin with http or https, not `{other}`")),
    }
}

/// Scheme, host and port: user, path and query may be secrets.
pub(super) fn place(url: &Url) -> String {
    Destination::of(url).map_or_else(String::new, |it| format!("{}://{it}", url.scheme()))
}

fn headers(pairs: &BTreeMap<String, String>, key: &EffectKey) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let header = HeaderName::from_str(name)
            .ok()
            .filter(|it| !HEADERS_REFUSED.contains(&it.as_str()))
            .ok_or_else(|| format!("a step may not set the header `{}`", name.escape_debug()))?;
        // The value is not shown: it may be a password.
        let value = HeaderValue::from_str(value).map_err(|_| {
            format!("a line break or control character is in the value of header `{header}`")
        })?;
        headers.insert(header, value);
    }
    headers.insert(IDEMPOTENCY_KEY, key_value(&key.0)?);
    Ok(headers)
}

/// The value of the idempotency header.
pub(super) fn key_value(key: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(key).map_err(|_| format!("bad effect key `{}`", key.escape_debug()))
}

/// Builds a JSON POST with an idempotency key.
pub(super) fn post_json(
    client: &Client,
    url: Url,
    body: &str,
    key: HeaderValue,
) -> Result<Request, String> {
    client
        .post(url)
        .header(reqwest::header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
        .header(IDEMPOTENCY_KEY, key)
        .body(body.to_owned())
        .build()
        .map_err(|error| causes(&error.without_url()))
}

/// Sends a request and reads the reply; `expect_status` empty = any 2xx.
pub(super) async fn exchange(
    client: &Client,
    request: Request,
    place: &str,
    expect_status: &[u16],
) -> Outcome {
    let response = match client.execute(request).await {
        Ok(response) => response,
        Err(error) => {
            // Before there is a connection nothing was asked, so asking again is harmless.
            let result =
                if error.is_connect() { OutcomeKind::FailedRetryable } else { OutcomeKind::Failed };
            return outcome(result, format!("{place}: {}", causes(&error.without_url())));
        }
    };
    let status = response.status();
    let (output_tail, note) = read_reply(response).await;
    let mut detail = format!("{place} answered {status}{note}");
    if status.is_redirection() {
        detail.push_str("; redirects are not followed");
    }
    Outcome {
        output_tail,
        code: Some(i32::from(status.as_u16())),
        ..outcome(judge(status, expect_status), detail)
    }
}

fn judge(status: StatusCode, expect_status: &[u16]) -> OutcomeKind {
    let expected = match expect_status {
        [] => status.is_success(),
        list => list.contains(&status.as_u16()),
    };
    if expected {
        OutcomeKind::Succeeded
    } else if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        OutcomeKind::FailedRetryable
    } else {
        OutcomeKind::Failed
    }
}

/// The beginning and the end of what is read of a reply, and what to say about the rest. The status decides, so a
/// reply that breaks off is no failure.
async fn read_reply(response: Response) -> (String, String) {
    let mut output = Output::default();
    let mut chunks = response.bytes_stream();
    let mut note = String::new();
    while let Some(chunk) = chunks.next().await {
        let Ok(chunk) = chunk else {
            "; the reply broke off".clone_into(&mut note);
            break;
        };
        let room = usize::try_from(REPLY_BYTES_MAX.saturating_sub(output.seen)).unwrap_or_default();
        output.push(chunk.get(..room.min(chunk.len())).unwrap_or_default());
        if chunk.len() > room {
            note = format!("; the reply was cut after {REPLY_BYTES_MAX} bytes");
            break;
        }
    }
    (output.text(&Secrets::default()).0, note)
}

/// An error with all that caused it; reqwest's own text stops at the first.
fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::test_server::{Seen, TestServer};
    use super::*;

    fn step<'a>(url: &'a str, headers: &'a BTreeMap<String, String>) -> Call<'a> {
        Call { method: "POST", url, headers, body: Some("{}"), expect_status: &[] }
    }

    fn check(url: &str, allow: &[&str]) -> Result<(Request, String), String> {
        let allow = allow.iter().map(|it| it.parse().unwrap()).collect();
        request(&client().unwrap(), &allow, &step(url, &BTreeMap::new()), &EffectKey("k".into()))
    }

    #[test]
    fn only_listed_destinations_are_reached() {
        let allow =
            ["db.example:80", "api.example:8443", "127.0.0.1:80", "[::1]:9000", "Api.Example:443"];
        for (url, allowed) in [
            ("http://db.example/x?y", true),
            ("http://DB.example:80/", true),
            ("https://api.example/", true),
            ("https://api.example:8443/", true),
            ("http://[::1]:9000/", true),
            ("http://[0:0:0:0:0:0:0:1]:9000/", true),
            // The same address in another spelling is the same destination.
            ("http://2130706433/", true),
            ("http://0x7f.1/", true),
            ("http://127.0.0.1:81/", false),
            ("http://api.example/", false),
            ("http://db.example./", false),
            ("http://db.example.evil.example/", false),
            ("http://evil.example/db.example:80", false),
            ("http://evil.example#@db.example/", false),
            ("http://evil.example?@db.example:80/", false),
            ("http://db.example@evil.example/", false),
            ("http://user:password@db.example/", false),
            ("http://user@db.example/", false),
            ("http://db.example\\@evil.example/", false),
            ("http://evil.example\\.db.example/", false),
            ("http://db.example\t.evil.example/", false),
            ("http://db.exam\nple/", false),
            (" http://db.example/", false),
            ("http://[::ffff:127.0.0.1]/", false),
            ("http://169.254.169.254/latest", false),
            ("http://2852039166/", false),
            ("http://localhost/", false),
            ("ftp://db.example:80/", false),
            ("file:///etc/passwd", false),
            ("gopher://db.example:80/", false),
            ("//db.example/", false),
            ("db.example", false),
            ("", false),
        ] {
            assert_eq!(check(url, &allow).is_ok(), allowed, "{url:?}");
        }
        let refusal = check("http://evil.example:81/s3cret?s3cret", &allow).unwrap_err();
        assert_eq!(
            refusal,
            "not allowed; if it should be, add it to `http_allow`: `evil.example:81`"
        );
    }

    #[test]
    fn bad_destinations_are_refused() {
        for text in
            ["a", "a:", ":80", "a:b", "http://a:80", "a:80/x", "u@a:80", "*:80", "a b:80", "::1"]
        {
            assert!(text.parse::<Destination>().is_err(), "{text}");
        }
    }

    #[test]
    fn headers_cannot_break_out() {
        let allow = ["a.example:80".parse().unwrap()].into();
        for (name, value, good) in [
            ("X-Note", "fine", true),
            ("X-Note", "a\r\nHost: evil.example", false),
            ("X-Note", "a\nb", false),
            ("X-Note", "a\0b", false),
            ("X-Note: a\r\nX", "b", false),
            ("host", "evil.example", false),
            ("Content-Length", "5", false),
            ("Transfer-Encoding", "chunked", false),
            ("", "b", false),
        ] {
            let headers = [(name.to_owned(), value.to_owned())].into();
            let call = step("http://a.example/", &headers);
            let built = request(&client().unwrap(), &allow, &call, &EffectKey("k".into()));
            assert_eq!(built.is_ok(), good, "{name:?}: {value:?}");
            assert!(good || !built.unwrap_err().contains(['\r', '\n']));
        }
        let headers = BTreeMap::new();
        let call = Call { method: "CONNECT", ..step("http://a.example/", &headers) };
        assert!(request(&client().unwrap(), &allow, &call, &EffectKey("k".into())).is_err());
    }

    async fn send(server: &TestServer, path: &str, expect_status: &[u16]) -> Outcome {
        let client = client().unwrap();
        let allow = [server.address.to_string().parse().unwrap()].into();
        let url = format!("http://{}{path}", server.address);
        let headers = [("X-Note".to_owned(), "hello".to_owned())].into();
        let step = Call { expect_status, ..step(&url, &headers) };
        call(&client, &allow, &step, &EffectKey("EXE-9/restart/1".into())).await
    }

    #[tokio::test]
    async fn the_status_decides() {
        let server = TestServer::start().await;
        for (path, expect_status, result) in [
            ("/status/200", &[][..], OutcomeKind::Succeeded),
            ("/status/204", &[], OutcomeKind::Succeeded),
            ("/status/204", &[200], OutcomeKind::Failed),
            ("/status/404", &[200, 404], OutcomeKind::Succeeded),
            ("/status/404", &[], OutcomeKind::Failed),
            ("/status/302", &[], OutcomeKind::Failed),
            ("/status/429", &[], OutcomeKind::FailedRetryable),
            ("/status/503", &[], OutcomeKind::FailedRetryable),
            ("/status/503", &[503], OutcomeKind::Succeeded),
        ] {
            let outcome = send(&server, path, expect_status).await;
            assert_eq!(outcome.result, result, "{path} {expect_status:?}: {}", outcome.detail);
            assert!(path.ends_with(&outcome.code.unwrap().to_string()));
        }
    }

    #[tokio::test]
    async fn the_request_carries_its_key_and_follows_no_redirect() {
        let server = TestServer::start().await;
        let outcome = send(&server, "/redirect", &[]).await;
        assert_eq!(outcome.result, OutcomeKind::Failed);
        assert!(outcome.detail.ends_with("redirects are not followed"), "{}", outcome.detail);
        let seen = server.seen();
        let [Seen { path, headers, body, .. }] = seen.as_slice() else { panic!("{seen:?}") };
        assert_eq!((path.as_str(), body.as_str()), ("/redirect", "{}"));
        assert_eq!(headers["idempotency-key"], "EXE-9/restart/1");
        assert_eq!(headers["user-agent"], concat!("watchkeeper/", env!("CARGO_PKG_VERSION")));
        assert_eq!(headers["x-note"], "hello");
    }

    #[tokio::test]
    async fn a_long_reply_is_cut() {
        let server = TestServer::start().await;
        let outcome = send(&server, "/long", &[]).await;
        assert_eq!(outcome.result, OutcomeKind::Succeeded);
        assert!(outcome.detail.ends_with("cut after 65536 bytes"), "{}", outcome.detail);
        assert!(outcome.output_tail.len() <= 4096 && outcome.output_tail.ends_with('x'));
        let outcome = send(&server, "/status/200", &[]).await;
        assert_eq!(outcome.output_tail, "status 200");
    }

    #[tokio::test]
    async fn no_connection_is_worth_another_attempt() {
        let server = TestServer::start().await;
        let address = server.address;
        drop(server);
        let client = client().unwrap();
        let url = Url::parse(&format!("http://{address}/s3cret?s3cret")).unwrap();
        let request = client.get(url).build().unwrap();
        let outcome = exchange(&client, request, "there", &[]).await;
        assert_eq!(outcome.result, OutcomeKind::FailedRetryable);
        assert!(outcome.detail.starts_with("there: "), "{}", outcome.detail);
        assert!(!outcome.detail.contains("s3cret"));
    }

    #[test]
    fn a_machine_without_certificates_still_has_a_client() {
        assert!(client().is_ok() && builder().tls_certs_only([]).build().is_ok());
    }
}

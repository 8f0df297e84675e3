//! What the layer lets through: host, origin, content type and token against each other.

use super::*;
use crate::api::{guarded, routes};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::routing::{delete, get, post};
use tower::ServiceExt;

const ROLES: [(&str, Role); 4] = [
    ("t-ingest", Role::Ingest),
    ("t-viewer", Role::Viewer),
    ("t-responder", Role::Responder),
    ("t-admin", Role::Admin),
];

fn access(listen: &str, external_url: Option<&str>, with_tokens: bool) -> Access {
    let token = |(text, role): (&str, Role)| ResolvedToken {
        name: text.replace("t-", "the "),
        role,
        token: text.to_owned(),
    };
    Access {
        listen: listen.parse().unwrap(),
        external_url: external_url.map(str::to_owned),
        tokens: if with_tokens { ROLES.map(token).to_vec() } else { Vec::new() },
    }
}

/// The real roles, with handlers that tell who came in.
fn router(access: Access) -> Router {
    let operations = routes::operations();
    let role_of = routes::role_of(&operations);
    let known = |caller: Caller| async move { caller.name.unwrap_or_default() };
    let mut router = Router::new()
        .route("/ingest/alertmanager", post(|| async {}))
        .route("/api/v2/alerts", get(|| async {}).post(|| async {}))
        .route("/api/v2/silences", post(|| async {}))
        .route("/api/v2/silence/{id}", delete(|| async {}));
    for it in &operations {
        let handler = match (it.method == Method::GET, it.role) {
            (true, None) => get(|| async {}),
            (true, Some(_)) => get(known),
            (false, _) => post(known),
        };
        router = router.route(it.path, routes::as_command(&it.method, it.path, handler));
    }
    guarded(router, Guard { access: Arc::new(access), role_of })
}

async fn send(router: &Router, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

const ACK: &str = "/api/v1/incidents/INC-1/ack";
const JSON: (&str, &str) = ("content-type", "application/json");
const OURS: (&str, &str) = ("host", "127.0.0.1:9377");

#[tokio::test]
async fn a_foreign_host_comes_nowhere() {
    let loopback = || access("127.0.0.1:9377", None, false);
    let elsewhere = || access("0.0.0.0:9377", Some("https://watch.example/"), true);
    let proxied = || access("127.0.0.1:9377", Some("https://watch.example:8443"), false);
    for (access, host, status) in [
        (loopback(), "127.0.0.1:9377", 200),
        (loopback(), "LOCALHOST:9377", 200),
        (loopback(), "[::1]:9377", 200),
        (loopback(), "127.0.0.1", 403),
        (loopback(), "127.0.0.1:80", 403),
        (loopback(), "evil.example:9377", 403),
        (loopback(), "127.0.0.1.evil.example:9377", 403),
        (loopback(), "localhost:9377.evil.example", 403),
        (loopback(), "192.0.2.1:9377", 403),
        (loopback(), "", 403),
        (access("127.0.0.1:80", None, false), "localhost", 200),
        (proxied(), "watch.example:8443", 200),
        (proxied(), "watch.example", 403),
        (proxied(), "localhost:9377", 200),
        (elsewhere(), "192.0.2.1:9377", 200),
        (elsewhere(), "[2001:db8::1]:9377", 200),
        (elsewhere(), "watch.example", 200),
        (elsewhere(), "evil.example", 403),
    ] {
        let router = router(access);
        for path in ["/-/healthy", "/", "/nowhere"] {
            let answer = send(&router, "GET", path, &[("host", host)]).await;
            let expected = match (status, path) {
                (200, "/nowhere") => 404,
                _ => status,
            };
            // With tokens, what does not exist is not told to those without one.
            let actual = if answer.status() == 401 { 404 } else { answer.status().as_u16() };
            assert_eq!(actual, expected, "{host} {path}");
        }
    }
    let router = router(loopback());
    let twice = send(&router, "GET", "/", &[OURS, ("host", "evil.example")]).await;
    assert_eq!(twice.status(), 403, "two hosts");
    assert_eq!(send(&router, "GET", "/", &[]).await.status(), 403, "no host");
}

#[tokio::test]
async fn a_foreign_page_changes_nothing() {
    let router = router(access("127.0.0.1:9377", Some("https://watch.example"), false));
    for (origin, is_ours) in [
        ("http://127.0.0.1:9377", true),
        ("https://watch.example", true),
        ("http://localhost:9377", false),
        ("https://127.0.0.1:9377", false),
        ("http://127.0.0.1:8080", false),
        ("http://watch.example", false),
        ("https://watch.example.evil.example", false),
        ("http://evil.example", false),
        ("null", false),
        ("", false),
    ] {
        for (method, path) in [
            ("POST", ACK),
            ("POST", "/-/reload"),
            ("POST", "/api/v2/alerts"),
            ("POST", "/api/v2/silences"),
            ("DELETE", "/api/v2/silence/5e1f"),
            ("POST", "/ingest/alertmanager"),
        ] {
            let answer = send(&router, method, path, &[OURS, JSON, ("origin", origin)]).await;
            let expected = if is_ours { 200 } else { 403 };
            assert_eq!(answer.status(), expected, "{origin} {method} {path}");
        }
        let answer = send(&router, "GET", "/api/v1/incidents", &[OURS, ("origin", origin)]).await;
        assert_eq!(answer.status(), 200, "{origin} reads, but the browser keeps it from the page");
        assert!(!answer.headers().contains_key("access-control-allow-origin"));
    }
    let twice = [OURS, JSON, ("origin", "http://127.0.0.1:9377"), ("origin", "null")];
    assert_eq!(send(&router, "POST", ACK, &twice).await.status(), 403);
    assert_eq!(send(&router, "OPTIONS", ACK, &[OURS]).await.status(), 405, "no preflight");
}

#[tokio::test]
async fn a_form_is_no_command() {
    let router = router(access("127.0.0.1:9377", None, false));
    for (content_type, status) in [
        (Some("application/json"), 200),
        (Some("Application/JSON; charset=utf-8"), 200),
        (None, 415),
        (Some("text/plain"), 415),
        (Some("application/x-www-form-urlencoded"), 415),
        (Some("multipart/form-data; boundary=application/json"), 415),
        (Some("application/jsonp"), 415),
    ] {
        let mut headers = vec![OURS];
        headers.extend(content_type.map(|it| ("content-type", it)));
        let answer = send(&router, "POST", ACK, &headers).await;
        assert_eq!(answer.status(), status, "{content_type:?}");
    }
    assert_eq!(send(&router, "POST", "/-/reload", &[OURS]).await.status(), 200);
}

#[tokio::test]
async fn what_nobody_serves_is_told_as_such_in_whatever_form_it_comes() {
    let router = router(access("127.0.0.1:9377", None, false));
    for (method, path, status, allowed) in [
        ("POST", "/api/v1/incident/INC-1/ack", 404, None),
        ("POST", "/api/v1/", 404, None),
        ("DELETE", "/api/v1/nothing", 404, None),
        ("POST", "/api/v3/alerts", 404, None),
        ("POST", "/api/v1/incidents", 405, Some("GET,HEAD")),
        ("DELETE", "/api/v1/incidents/INC-1", 405, Some("GET,HEAD")),
        ("PUT", ACK, 405, Some("POST")),
    ] {
        for form in [None, Some("application/json"), Some("application/x-www-form-urlencoded")] {
            let mut headers = vec![OURS];
            headers.extend(form.map(|it| ("content-type", it)));
            let answer = send(&router, method, path, &headers).await;
            assert_eq!(answer.status(), status, "{method} {path} {form:?}");
            let told = answer.headers().get("allow").map(|it| it.to_str().unwrap());
            assert_eq!(told, allowed, "{method} {path}");
            let body = to_bytes(answer.into_body(), 1000).await.unwrap();
            let body = String::from_utf8_lossy(&body).into_owned();
            assert!(body.contains("/api/v1/openapi.json"), "a hint: {body}");
        }
    }
}

/// The status that a token must get on a route.
fn expected(token: Option<&str>, needed: Option<Role>) -> u16 {
    let Some(needed) = needed else { return 200 };
    let role = ROLES.iter().find(|(text, _)| token == Some(*text)).map(|(_, role)| *role);
    let enough: &[Role] = match needed {
        Role::Ingest => &[Role::Ingest, Role::Responder, Role::Admin],
        Role::Viewer => &[Role::Viewer, Role::Responder, Role::Admin],
        Role::Responder => &[Role::Responder, Role::Admin],
        Role::Admin => &[Role::Admin],
    };
    match role {
        None => 401,
        Some(role) if enough.contains(&role) => 200,
        Some(_) => 403,
    }
}

#[tokio::test]
async fn each_route_lets_in_whom_it_should() {
    let router = router(access("0.0.0.0:9377", None, true));
    let mut cases: Vec<(Method, String, Option<Role>)> = routes::operations()
        .into_iter()
        .map(|it| (it.method, it.path.replace("{id}", "x").replace("{name}", "x"), it.role))
        .map(|(method, path, role)| (method, path.replace("{fingerprint}", "x"), role))
        .collect();
    for (method, path, role) in [
        (Method::POST, "/ingest/alertmanager", Role::Ingest),
        (Method::POST, "/api/v2/alerts", Role::Ingest),
        (Method::GET, "/api/v2/alerts", Role::Viewer),
        (Method::POST, "/api/v2/silences", Role::Responder),
        (Method::DELETE, "/api/v2/silence/x", Role::Responder),
    ] {
        cases.push((method, path.to_owned(), Some(role)));
    }
    let tokens = ROLES.iter().map(|(text, _)| Some(*text)).chain([None, Some("t-admi"), Some("")]);
    for token in tokens {
        let value = format!("Bearer {}", token.unwrap_or_default());
        for (method, path, role) in &cases {
            let mut headers = vec![OURS, JSON];
            headers.extend(token.map(|_| ("authorization", value.as_str())));
            let answer = send(&router, method.as_str(), path, &headers).await;
            assert_eq!(answer.status(), expected(token, *role), "{token:?} {method} {path}");
        }
    }
}

#[tokio::test]
async fn the_token_gives_the_name() {
    let with_tokens = router(access("0.0.0.0:9377", None, true));
    let answer =
        send(&with_tokens, "POST", ACK, &[OURS, JSON, ("authorization", "bearer t-responder")])
            .await;
    let body = to_bytes(answer.into_body(), 1000).await.unwrap();
    assert_eq!(body, "the responder");
    let basic = [OURS, JSON, ("authorization", "Basic t-responder")];
    let answer = send(&with_tokens, "POST", ACK, &basic).await;
    assert_eq!(answer.status(), 401);
    assert!(answer.headers().contains_key("www-authenticate"));
    let text = format!("{:?}", access("0.0.0.0:1", None, true));
    assert!(!text.contains("t-ingest"), "a token is printed: {text}");
}

#[tokio::test]
async fn without_tokens_only_loopback_is_trusted() {
    for (listen, status) in
        [("127.0.0.1:9377", 200), ("[::ffff:127.0.0.1]:9377", 200), ("0.0.0.0:9377", 401)]
    {
        let router = router(access(listen, None, false));
        assert_eq!(send(&router, "GET", "/metrics", &[OURS]).await.status(), status, "{listen}");
    }
}

#[tokio::test]
async fn an_empty_token_is_nobodys() {
    let mut access = access("0.0.0.0:9377", None, true);
    access.tokens[3].token.clear();
    let router = router(access);
    for value in ["Bearer ", "Bearer  ", "Bearer"] {
        let answer = send(&router, "GET", "/metrics", &[OURS, ("authorization", value)]).await;
        assert_eq!(answer.status(), 401, "{value:?}");
    }
}

#[tokio::test]
async fn every_answer_binds_the_browser() {
    let router = router(access("127.0.0.1:9377", None, false));
    for (method, path, headers, status) in [
        ("GET", "/", vec![OURS], 200),
        ("GET", "/api/v1/incidents", vec![OURS], 200),
        ("GET", "/api/v1/nothing", vec![OURS], 404),
        ("GET", ACK, vec![OURS], 405),
        ("GET", "/", vec![], 403),
    ] {
        let answer = send(&router, method, path, &headers).await;
        assert_eq!(answer.status(), status, "{method} {path}");
        let header = |name: &str| {
            answer.headers().get(name).map(|it| it.to_str().unwrap().to_owned()).unwrap_or_default()
        };
        let policy = header("content-security-policy");
        assert!(policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"));
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("referrer-policy"), "no-referrer");
        assert_eq!(header("cache-control") == "no-store", path.starts_with("/api/"), "{path}");
        if status >= 400 {
            let body = to_bytes(answer.into_body(), 10_000).await.unwrap();
            let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert!(json["error"]["code"].is_string(), "{json}");
            assert!(json["error"]["message"].is_string(), "{json}");
        }
    }
}

//! A real HTTP server on a free port, for the tests of this module.

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio_util::task::AbortOnDropHandle;

/// A request that came in.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) path: String,
    /// Its parameter `query`, decoded.
    pub(super) query: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: String,
}

type Log = Arc<Mutex<Vec<Seen>>>;

/// It listens until it is dropped.
pub(super) struct TestServer {
    pub(super) address: SocketAddr,
    log: Log,
    _serving: AbortOnDropHandle<()>,
}

impl TestServer {
    pub(super) async fn start() -> Self {
        let log = Log::default();
        let router = Router::new()
            .route("/status/{status}", any(status))
            .route(
                "/redirect",
                any(|| async { (StatusCode::FOUND, [(header::LOCATION, "/trap")]) }),
            )
            .route("/trap", any(|| async { "trapped" }))
            .route("/long", any(|| async { "x".repeat(300_000) }))
            .route("/slow", any(std::future::pending::<()>))
            .route("/hang-up", any(hang_up))
            .layer(axum::middleware::from_fn_with_state(Arc::clone(&log), record));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, log, _serving: AbortOnDropHandle::new(serving) }
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.log.lock().unwrap().clone()
    }
}

async fn status(Path(status): Path<u16>) -> Response {
    (StatusCode::from_u16(status).unwrap(), format!("status {status}")).into_response()
}

async fn hang_up() {
    // Ends the connection's task, and with it the connection, before there is an answer.
    panic!("hang up, as the test wants");
}

fn query_of(uri: &axum::http::Uri) -> String {
    let url = reqwest::Url::parse(&format!("http://host{uri}")).unwrap();
    let found = url.query_pairs().find(|(name, _)| name == "query");
    found.map(|(_, value)| value.into_owned()).unwrap_or_default()
}

async fn record(
    State(log): State<Log>,
    request: Request,
    next: axum::middleware::Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let headers = parts
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    log.lock().unwrap().push(Seen {
        path: parts.uri.path().to_owned(),
        query: query_of(&parts.uri),
        headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    });
    next.run(Request::from_parts(parts, body.into())).await
}

//! What people and programs see: HTTP, auth, the page, `/metrics`.
//!
//! [`assemble`] puts our own routes (one table, see `routes`) and those of the other doors behind
//! one layer of checks (see [`access`]); [`serve`] bounds connections and ends in time.

pub mod access;
pub mod alertmanager;
mod alerts;
mod articles;
mod audit;
pub mod bodies;
mod changes;
mod doctor;
mod doors;
mod drafts;
pub mod error;
mod executions;
mod explain;
mod follow;
mod forecasts;
mod freezes;
mod heartbeats;
mod incidents;
mod input;
mod listener;
mod listing;
mod maintenance;
mod metrics;
mod openapi;
mod page;
mod problems;
mod reports;
mod routes;
mod runbooks;
#[cfg(test)]
mod samples;
mod services;
mod silences;
mod status;
mod stream;

pub use access::{Access, ResolvedToken};

use crate::domain::heartbeat::HeartbeatRule;
use crate::engine::Handle;
use crate::telemetry::Metrics;
use axum::extract::DefaultBodyLimit;
use axum::http::Method;
use axum::{Router, middleware};
use jiff::Timestamp;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// How long requests that are under way may take to end when the daemon stops.
const DRAIN: Duration = Duration::from_secs(2);

/// Asks whoever reads the files to read them now.
#[derive(Clone)]
pub struct Reloader(pub mpsc::Sender<ReloadOrder>);

/// That the files are to be read.
pub struct ReloadOrder {
    /// Who says so; `None` = nobody is known by a name.
    pub by: Option<String>,
    /// The answer says in a line what was loaded, or lists the findings.
    pub done: oneshot::Sender<Result<String, String>>,
}

/// What our routes work with. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The engine.
    pub handle: Handle,
    /// What is counted.
    pub metrics: Metrics,
    /// Address and tokens.
    pub access: Arc<Access>,
    /// For `/-/reload`.
    pub reloader: Reloader,
    /// Cancelled when the daemon begins to stop: live streams end then.
    pub stopping: CancellationToken,
    /// When the daemon started.
    pub started_at: Timestamp,
}

/// Puts everything that HTTP serves behind the checks of [`access`]. `others` are the routes of
/// the other doors: `/api/v2/*` and `/ingest/*`.
pub fn assemble(own: Context, others: Vec<Router>) -> Router {
    let operations = routes::operations();
    let role_of = unless_proven(own.handle.clone(), routes::role_of(&operations));
    let guard = access::Guard { access: own.access.clone(), role_of };
    let own = routes::router(operations)
        .layer(DefaultBodyLimit::max(input::BODY_BYTES_MAX))
        .with_state(own);
    let router = others.into_iter().fold(own, Router::merge);
    guarded(router, guard)
}

/// A declared source or a heartbeat with a proof of its own needs no token of ours: its sender has none
/// to send. The door checks that proof. PagerDuty's senders have their key in the body, and its door
/// checks that. Whoever asks first whether his events are wanted, or which severities there are, learns
/// nothing of ours.
fn unless_proven(handle: Handle, role_of: access::RoleOf) -> access::RoleOf {
    const KEY_IN_BODY: [&str; 2] = ["/v2/enqueue", "/v2/change/enqueue"];
    Arc::new(move |method, path| {
        if *method == Method::POST && KEY_IN_BODY.contains(&path) {
            return None;
        }
        if access::pings_by_key(path) {
            return None;
        }
        let asks_first = *method == Method::OPTIONS && path.starts_with("/ingest/");
        let asks_words = *method == Method::GET && matches!(path, "/config" | "/api/config");
        if asks_first || asks_words {
            return None;
        }
        let name = path.strip_prefix("/ingest/").filter(|_| *method == Method::POST);
        let is_proven = name.is_some_and(|name| {
            handle.peek(|state| {
                state.rules.sources.iter().any(|it| it.rule.name == name && it.proof.is_some())
            })
        });
        let is_proven = is_proven
            || access::pinged(path).is_some_and(|name| {
                let proven = |it: &HeartbeatRule| it.rule.name == name && it.token.is_some();
                handle.peek(|state| state.rules.heartbeats.iter().any(proven))
            });
        if is_proven { None } else { role_of(method, path) }
    })
}

fn guarded(router: Router, guard: access::Guard) -> Router {
    router
        .fallback(routes::not_found)
        .method_not_allowed_fallback(routes::method_not_allowed)
        .layer(middleware::from_fn_with_state(guard, access::layer))
}

/// Serves until `shutdown` resolves, then lets requests under way end, for at most 2 seconds of the
/// 5 that a stop may take. What is still open after that ends with the process.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let stopping = CancellationToken::new();
    let told = stopping.clone();
    let signal = async move {
        shutdown.await;
        told.cancel();
    };
    let bounded = listener::Bounded::new(listener);
    let mut server =
        Box::pin(axum::serve(bounded, router).with_graceful_shutdown(signal).into_future());
    tokio::select! {
        result = &mut server => return result,
        () = stopping.cancelled() => {}
    }
    let ended = tokio::time::timeout(DRAIN, server).await;
    ended.unwrap_or_else(|_| {
        tracing::warn!("connections were still open {} s after the stop", DRAIN.as_secs());
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_hanging_request_does_not_hold_up_the_stop() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/hang", get(std::future::pending::<()>))
            .route("/quick", get(|| async { "quick" }));
        let token = CancellationToken::new();
        let server = tokio::spawn(serve(listener, router, token.clone().cancelled_owned()));

        let mut quick = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = b"GET /quick HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        quick.write_all(request).await.unwrap();
        let mut answer = String::new();
        quick.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("quick"), "{answer}");

        let mut hanging = tokio::net::TcpStream::connect(address).await.unwrap();
        hanging.write_all(b"GET /hang HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut slow = tokio::net::TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET /quick HT").await.unwrap();

        token.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(5), server).await;
        assert!(ended.is_ok_and(|it| it.is_ok_and(|it| it.is_ok())));
    }
}

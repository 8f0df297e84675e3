//! `loadgen sink`: a receiver of notifications that measures how long each alert took to arrive.
//!
//! It answers 200 to any POST and looks in the body for the stamps of `loadgen send --stamp`. The
//! first notification of a series counts, with the time since its stamp. `GET` shows the figures,
//! `DELETE` forgets them. Sender and sink must share a clock, that is: run on one machine.

use crate::alerts;
use crate::latency::Latencies;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

/// Where to listen.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The address.
    #[arg(long, default_value = "127.0.0.1:19099")]
    listen: String,
}

struct Totals {
    posts: u64,
    seen: HashSet<u64>,
    latencies: Latencies,
}

impl Totals {
    fn new() -> Self {
        Self { posts: 0, seen: HashSet::new(), latencies: Latencies::new() }
    }

    fn take(&mut self, body: &[u8], now: Duration) {
        self.posts += 1;
        for (series, sent) in alerts::stamps(body) {
            if self.seen.insert(series) && sent > 0 {
                self.latencies.record(now.saturating_sub(Duration::from_nanos(sent)));
            }
        }
    }

    fn report(&self) -> Value {
        json!({
            "posts": self.posts, "series": self.seen.len(),
            "first_notification_milliseconds": self.latencies.report(),
        })
    }
}

/// Receives until it is ended.
pub(crate) async fn run(options: Options) -> anyhow::Result<Value> {
    let listener = tokio::net::TcpListener::bind(&options.listen).await?;
    let totals = Rc::new(RefCell::new(Totals::new()));
    loop {
        let (stream, _) = listener.accept().await?;
        let totals = totals.clone();
        tokio::task::spawn_local(async move {
            let service = service_fn(|request| answer(request, totals.clone()));
            let http = hyper::server::conn::http1::Builder::new();
            // A sender that hangs up does no harm here.
            drop(http.serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    totals: Rc<RefCell<Totals>>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let mut text = String::new();
    match *request.method() {
        Method::GET => text = totals.borrow().report().to_string() + "\n",
        Method::DELETE => *totals.borrow_mut() = Totals::new(),
        _ => {
            let body = request.into_body().collect().await?.to_bytes();
            totals.borrow_mut().take(&body, alerts::since_1970());
        }
    }
    Ok(Response::new(Full::new(Bytes::from(text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_notification_of_a_series_counts() {
        let body = |series: u64| format!("{}{series:09}-{:019}\"", alerts::STAMP_KEY, 1_000_000);
        let mut totals = Totals::new();
        totals.take((body(1) + &body(2)).as_bytes(), Duration::from_millis(3));
        totals.take(body(1).as_bytes(), Duration::from_millis(900));
        let report = totals.report();
        assert_eq!((report["posts"].as_u64(), report["series"].as_u64()), (Some(2), Some(2)));
        let latency = &report["first_notification_milliseconds"];
        assert_eq!(latency["count"], 2);
        assert!(latency["max"].as_f64().unwrap() < 3.0, "{latency}");
    }
}

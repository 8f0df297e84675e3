//! One connection to the server: kept open, dialled again when the server closed it.

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::time::Duration;

/// How long an answer is waited for. Prometheus waits so long.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a whole list is waited for: it may hold hundreds of megabytes.
const READ_TIMEOUT: Duration = Duration::from_mins(2);

/// Where requests go: an address to dial, a path, and the headers that all requests share.
#[derive(Clone)]
pub(crate) struct Target {
    address: String,
    path: String,
    headers: HeaderMap,
}

impl Target {
    /// Reads an `http://` address, and headers of the form `Name: value`.
    pub(crate) fn parse(url: &str, more: &[String]) -> anyhow::Result<Self> {
        let Some(rest) = url.strip_prefix("http://") else {
            bail!("a target begins with `http://`, not `{url}`");
        };
        let slash = rest.find('/').unwrap_or(rest.len());
        let (host, path) = rest.split_at(slash);
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_str(host)?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for line in more {
            let pair = line.split_once(':').map(|it| (it.0.trim(), it.1.trim()));
            let (name, value) =
                pair.with_context(|| format!("a header is `Name: value`, not `{line}`"))?;
            headers.insert(HeaderName::try_from(name)?, HeaderValue::from_str(value)?);
        }
        let address = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { address, path: path.to_owned(), headers })
    }

    /// The same server and headers, at another path.
    pub(crate) fn at(&self, path: &str) -> Self {
        Self { path: path.to_owned(), ..self.clone() }
    }
}

/// A connection with at most one request under way.
pub(crate) struct Connection {
    target: Target,
    sender: Option<http1::SendRequest<Full<Bytes>>>,
    /// How often it was dialled.
    pub(crate) dials: u64,
}

impl Connection {
    /// Dials with the first request.
    pub(crate) fn new(target: Target) -> Self {
        Self { target, sender: None, dials: 0 }
    }

    /// Posts a body and reads the whole answer, for 10 s at most.
    pub(crate) async fn post(&mut self, body: Bytes) -> anyhow::Result<StatusCode> {
        let mut leave = |_: &Bytes| {};
        let asked = tokio::time::timeout(TIMEOUT, self.ask(Method::POST, body, &mut leave));
        asked.await.context("no answer within 10 s")?
    }

    /// Reads an answer piece by piece, for two minutes at most.
    pub(crate) async fn read(
        &mut self,
        mut take: impl FnMut(&Bytes),
    ) -> anyhow::Result<StatusCode> {
        let asked =
            tokio::time::timeout(READ_TIMEOUT, self.ask(Method::GET, Bytes::new(), &mut take));
        asked.await.context("no whole answer within two minutes")?
    }

    /// Goes on with another path.
    pub(crate) fn turn_to(&mut self, path: &str) {
        self.target = self.target.at(path);
    }

    async fn ask(
        &mut self,
        method: Method,
        body: Bytes,
        take: &mut impl FnMut(&Bytes),
    ) -> anyhow::Result<StatusCode> {
        let mut sender = self.ready().await?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = self.target.path.parse()?;
        *request.headers_mut() = self.target.headers.clone();
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            if let Some(piece) = frame?.data_ref() {
                take(piece);
            }
        }
        self.sender = Some(sender);
        Ok(status)
    }

    async fn ready(&mut self) -> anyhow::Result<http1::SendRequest<Full<Bytes>>> {
        if let Some(mut sender) = self.sender.take()
            && sender.ready().await.is_ok()
        {
            return Ok(sender);
        }
        let stream = tokio::net::TcpStream::connect(&self.target.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // How it ends shows in the request that was under way.
        tokio::task::spawn_local(async move { drop(connection.await) });
        self.dials += 1;
        Ok(sender)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read() {
        for (url, address, path) in [
            ("http://127.0.0.1:9093/api/v2/alerts", "127.0.0.1:9093", "/api/v2/alerts"),
            ("http://host", "host:80", "/"),
        ] {
            let target = Target::parse(url, &["X-A: b".to_owned()]).unwrap();
            assert_eq!((&*target.address, &*target.path), (address, path), "{url}");
            assert_eq!(target.headers["x-a"], "b");
        }
        assert!(Target::parse("https://host/", &[]).is_err());
        assert!(Target::parse("http://host/", &["none".to_owned()]).is_err());
    }
}

//! HTTP from the outside: a client that sends any header, and a receiver that records.

use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Reply {
    /// The body as JSON; panics with the body when it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {} {}", self.status, self.body))
    }
}

/// Sends one request on a connection of its own. A header given here replaces the usual one.
pub(crate) fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Reply> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.set_write_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(request_head(address, method, path, headers, body.len()).as_bytes())?;
    // A server that refuses a body may answer and close before it has read all of it.
    let written = stream.write_all(body);
    let mut reader = BufReader::new(stream);
    match read_reply(&mut reader) {
        Ok(reply) => Ok(reply),
        Err(error) => written.and(Err(error)),
    }
}

fn request_head(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    length: usize,
) -> String {
    let mut all = BTreeMap::from([
        ("host".to_owned(), address.to_string()),
        ("connection".to_owned(), "close".to_owned()),
        ("content-length".to_owned(), length.to_string()),
    ]);
    for (name, value) in headers {
        all.insert(name.to_ascii_lowercase(), (*value).to_owned());
    }
    let mut head = format!("{method} {path} HTTP/1.1\r\n");
    for (name, value) in all {
        head.extend([name.as_str(), ": ", &value, "\r\n"]);
    }
    head + "\r\n"
}

/// Opens a stream that stays open and reads on, for server-sent events.
pub(crate) fn open_stream(
    address: SocketAddr,
    path: &str,
) -> io::Result<(u16, BufReader<TcpStream>)> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let headers = [("accept", "text/event-stream"), ("connection", "keep-alive")];
    stream.write_all(request_head(address, "GET", path, &headers, 0).as_bytes())?;
    let mut reader = BufReader::new(stream);
    let (first, _) = read_head(&mut reader)?;
    Ok((status_of(&first)?, reader))
}

fn read_reply(reader: &mut BufReader<TcpStream>) -> io::Result<Reply> {
    let (first, headers) = read_head(reader)?;
    let status = status_of(&first)?;
    let chunked = headers.get("transfer-encoding").is_some_and(|it| it.contains("chunked"));
    let mut body = Vec::new();
    if chunked {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let size = u64::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
            reader.by_ref().take(size).read_to_end(&mut body)?;
            reader.read_line(&mut String::new())?;
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = headers.get("content-length") {
        let length: u64 = length.parse().map_err(io::Error::other)?;
        reader.take(length).read_to_end(&mut body)?;
    } else {
        reader.read_to_end(&mut body)?;
    }
    Ok(Reply { status, headers, body: String::from_utf8_lossy(&body).into_owned() })
}

fn status_of(first: &str) -> io::Result<u16> {
    first
        .split(' ')
        .nth(1)
        .and_then(|it| it.parse().ok())
        .ok_or_else(|| io::Error::other(format!("not a status line: `{first}`")))
}

fn read_head(reader: &mut impl BufRead) -> io::Result<(String, BTreeMap<String, String>)> {
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    Ok((first.trim().to_owned(), headers))
}

/// A request that came to a [`Receiver`].
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) at: Timestamp,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Value,
}

impl Received {
    /// What a notification is about: `opened`, `resolved`, …
    pub(crate) fn occasion(&self) -> &str {
        self.body["occasion"].as_str().unwrap_or_default()
    }

    /// The incident that it names.
    pub(crate) fn incident(&self) -> &str {
        self.body["incident"]["id"]
            .as_str()
            .or_else(|| self.body["incident"].as_str())
            .unwrap_or_default()
    }

    /// The key by which a receiver knows a repetition.
    pub(crate) fn key(&self) -> &str {
        self.headers.get("idempotency-key").map_or("", String::as_str)
    }
}

/// A server of somebody else: takes every request, records it, answers 200 unless told otherwise.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    stopped: Arc<AtomicBool>,
    delay_milliseconds: Arc<AtomicU64>,
    answer: Arc<Mutex<String>>,
}

impl Receiver {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            received: Arc::default(),
            stopped: Arc::default(),
            delay_milliseconds: Arc::default(),
            answer: Arc::default(),
        };
        server.answer(200, "ok");
        let received = server.received.clone();
        let stopped = server.stopped.clone();
        let delay = server.delay_milliseconds.clone();
        let answer = server.answer.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                let received = received.clone();
                let (delay, answer) = (delay.clone(), answer.clone());
                // A sender that was killed ends its connection with an error; that is its affair.
                std::thread::spawn(move || serve(stream, &received, (&delay, &answer)).ok());
            }
        });
        server
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// From now on answers come this much later.
    pub(crate) fn answer_after(&self, delay: Duration) {
        let milliseconds = u64::try_from(delay.as_millis()).unwrap();
        self.delay_milliseconds.store(milliseconds, Ordering::SeqCst);
    }

    /// From now on answers are these.
    pub(crate) fn answer(&self, status: u16, body: &str) {
        let length = body.len();
        *self.answer.lock().unwrap() =
            format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{body}");
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// Everything that came to a path.
    pub(crate) fn received_at(&self, path: &str) -> Vec<Received> {
        self.received().into_iter().filter(|it| it.path == path).collect()
    }

    /// Everything that was told on an occasion.
    pub(crate) fn told(&self, occasion: &str) -> Vec<Received> {
        self.received().into_iter().filter(|it| it.occasion() == occasion).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
    }
}

fn serve(
    stream: TcpStream,
    received: &Mutex<Vec<Received>>,
    (delay_milliseconds, answer): (&AtomicU64, &Mutex<String>),
) -> io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let (first, headers) = read_head(&mut reader)?;
        let length = headers.get("content-length").and_then(|it| it.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        received.lock().unwrap().push(Received { at: Timestamp::now(), path, headers, body });
        std::thread::sleep(Duration::from_millis(delay_milliseconds.load(Ordering::SeqCst)));
        let answer = answer.lock().unwrap().clone();
        writer.write_all(answer.as_bytes())?;
    }
}

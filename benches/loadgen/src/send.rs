//! `loadgen send`: posts alerts as fast as they are taken, or at a fixed rate.

use crate::alerts::{self, Body, Format, Shape, TIME_DIGITS, Times};
use crate::connection::{Connection, Target};
use crate::latency::Latencies;
use crate::process;
use bytes::Bytes;
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, mpsc};

/// How many due requests may wait for a connection.
const DUE_MAX: usize = 1 << 20;

/// What to send, where, and how fast.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Where to post, for example `http://127.0.0.1:9093/api/v2/alerts`.
    #[arg(long)]
    target: String,
    /// The wire format of the bodies.
    #[arg(long, value_enum, default_value = "alerts")]
    format: Format,
    /// How many alerts, each different.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    alerts: u64,
    /// The number of the first, to go on where an earlier run stopped.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Sends all of them again after this pause in seconds; repeat it for further passes.
    #[arg(long)]
    again_after: Vec<u64>,
    /// Alerts a request.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..))]
    batch: u64,
    /// Connections, each with at most one request under way.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    connections: u64,
    /// Alerts a second. Latency then counts from when a request was due, not from when a
    /// connection was free. Left out: as fast as they are taken.
    #[arg(long)]
    rate: Option<f64>,
    #[command(flatten)]
    shape: Shape,
    /// Seconds since the alerts began.
    #[arg(long, default_value_t = 60)]
    age: u64,
    /// Seconds until the alerts end.
    #[arg(long, default_value_t = 86_400)]
    active_for: u64,
    /// Writes the time of sending into each alert, for `loadgen sink`.
    #[arg(long)]
    stamp: bool,
    /// A further header, `Name: value`; may be repeated.
    #[arg(long)]
    header: Vec<String>,
    /// The server's process, to tell what it spends.
    #[arg(long)]
    pid: Option<u32>,
    /// Appends the number of each series that was accepted to this file, for `loadgen list`.
    #[arg(long)]
    accepted: Option<PathBuf>,
    /// Prints the first body and stops.
    #[arg(long)]
    show: bool,
}

/// Sends, and reports on each pass.
pub(crate) async fn run(options: Options) -> anyhow::Result<Value> {
    let target = Target::parse(&options.target, &options.header)?;
    let bodies = Rc::new(serialise(&options));
    let first = bodies.first().map(|it| it.bytes.clone()).unwrap_or_default();
    if options.show {
        return Ok(serde_json::from_slice(&first)?);
    }
    let accepted = match &options.accepted {
        Some(path) => {
            let file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
            Some(Rc::new(RefCell::new(std::io::BufWriter::new(file))))
        }
        None => None,
    };
    let mut passes = vec![pass(&options, &target, &bodies, accepted.as_ref()).await?];
    for seconds in &options.again_after {
        tokio::time::sleep(Duration::from_secs(*seconds)).await;
        passes.push(pass(&options, &target, &bodies, accepted.as_ref()).await?);
    }
    if let Some(file) = accepted {
        file.borrow_mut().flush()?;
    }
    Ok(json!({
        "target": options.target, "alerts": options.alerts, "batch": options.batch,
        "connections": options.connections, "first_body_bytes": first.len(), "passes": passes,
    }))
}

fn serialise(options: &Options) -> Vec<Body> {
    let now = alerts::now_milliseconds();
    let times =
        Times { starts_at: now - options.age * 1000, ends_at: now + options.active_for * 1000 };
    let end = options.first + options.alerts;
    let batch = usize::try_from(options.batch).unwrap_or(usize::MAX);
    (options.first..end)
        .step_by(batch)
        .map(|from| from..(from + options.batch).min(end))
        .map(|series| alerts::body(options.format, &options.shape, series, times))
        .collect()
}

type AcceptedFile = Rc<RefCell<std::io::BufWriter<std::fs::File>>>;

/// What all connections of a pass count together.
struct Totals {
    latencies: Latencies,
    requests: u64,
    accepted: u64,
    dials: u64,
    statuses: BTreeMap<u16, u64>,
    errors: BTreeMap<String, u64>,
    accepted_file: Option<AcceptedFile>,
}

/// Which request is next, and when it is due.
enum Schedule {
    AtOnce(Cell<usize>),
    Timed(Mutex<mpsc::Receiver<(usize, Instant)>>),
}

impl Schedule {
    /// The next request; past the last one there may be more.
    async fn next(&self) -> Option<(usize, Option<Instant>)> {
        match self {
            Self::AtOnce(next) => Some((next.replace(next.get() + 1), None)),
            Self::Timed(due) => due.lock().await.recv().await.map(|it| (it.0, Some(it.1))),
        }
    }
}

/// Sends all bodies once.
async fn pass(
    options: &Options,
    target: &Target,
    bodies: &Rc<Vec<Body>>,
    accepted_file: Option<&AcceptedFile>,
) -> anyhow::Result<Value> {
    let totals = Rc::new(RefCell::new(Totals {
        latencies: Latencies::new(),
        requests: 0,
        accepted: 0,
        dials: 0,
        statuses: BTreeMap::new(),
        errors: BTreeMap::new(),
        accepted_file: accepted_file.cloned(),
    }));
    let before = options.pid.map(process::usage);
    let own_before = process::usage(std::process::id()).cpu_seconds;
    let begin = Instant::now();
    let schedule = Rc::new(match options.rate {
        Some(rate) => {
            let gap = Duration::from_secs_f64(options.batch as f64 / rate);
            Schedule::Timed(Mutex::new(start_clock(begin, gap, bodies.len())))
        }
        None => Schedule::AtOnce(Cell::new(0)),
    });
    let connect = |_| {
        let mut connection = Connection::new(target.clone());
        let (bodies, totals) = (bodies.clone(), totals.clone());
        let (schedule, stamp) = (schedule.clone(), options.stamp);
        tokio::task::spawn_local(async move {
            while let Some((number, due)) = schedule.next().await {
                let Some(body) = bodies.get(number) else { break };
                post(&mut connection, body, (due, stamp), &totals).await;
            }
            totals.borrow_mut().dials += connection.dials;
        })
    };
    let workers: Vec<_> = (0..options.connections).map(connect).collect();
    for worker in workers {
        worker.await?;
    }
    let seconds = begin.elapsed().as_secs_f64();
    let totals = totals.borrow();
    let server = options
        .pid
        .zip(before)
        .map(|(pid, before)| process::report(before, process::usage(pid), totals.accepted));
    Ok(json!({
        "seconds": seconds, "requests": totals.requests, "statuses": totals.statuses,
        "errors": totals.errors, "dials": totals.dials, "accepted": totals.accepted,
        "accepted_per_second": totals.accepted as f64 / seconds,
        "latency_milliseconds": totals.latencies.report(),
        "own_cpu_seconds": process::usage(std::process::id()).cpu_seconds - own_before,
        "server": server,
    }))
}

/// Tells due times from a thread of its own: the system sleeps to within about 0.1 ms, the timer of
/// the runtime only to 1 ms.
fn start_clock(begin: Instant, gap: Duration, count: usize) -> mpsc::Receiver<(usize, Instant)> {
    let (sender, receiver) = mpsc::channel(DUE_MAX);
    std::thread::spawn(move || {
        let mut due = begin;
        for number in 0..count {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if sender.blocking_send((number, due)).is_err() {
                break;
            }
            due += gap;
        }
    });
    receiver
}

async fn post(
    connection: &mut Connection,
    body: &Body,
    (due, stamp): (Option<Instant>, bool),
    totals: &RefCell<Totals>,
) {
    let bytes = if stamp { stamped(body) } else { body.bytes.clone() };
    let begin = due.unwrap_or_else(Instant::now);
    let result = connection.post(bytes).await;
    let took = begin.elapsed();
    let failed = result.is_err();
    totals.borrow_mut().count(body, took, result);
    if failed {
        // A server that is down is not asked without a pause.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Totals {
    fn count(&mut self, body: &Body, took: Duration, result: anyhow::Result<hyper::StatusCode>) {
        self.requests += 1;
        self.latencies.record(took);
        let status = match result {
            Ok(status) => status,
            Err(error) => {
                *self.errors.entry(format!("{error:#}")).or_default() += 1;
                return;
            }
        };
        *self.statuses.entry(status.as_u16()).or_default() += 1;
        if !status.is_success() {
            return;
        }
        self.accepted += body.series.end - body.series.start;
        if let Some(file) = &self.accepted_file {
            for series in body.series.clone() {
                writeln!(file.borrow_mut(), "{series}").expect("the file can be written");
            }
        }
    }
}

/// A copy of a body with the time of now in all of its stamps.
fn stamped(body: &Body) -> Bytes {
    let mut copy = body.bytes.to_vec();
    let now = format!("{:0TIME_DIGITS$}", alerts::since_1970().as_nanos());
    for at in &body.stamps {
        if let Some(time) = copy.get_mut(*at..*at + now.len()) {
            time.copy_from_slice(now.as_bytes());
        }
    }
    Bytes::from(copy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::tests::shape;

    #[test]
    fn a_stamp_is_the_time_of_sending() {
        let times = Times { starts_at: 0, ends_at: 0 };
        let body = alerts::body(Format::Alerts, &shape(), 3..5, times);
        let before = alerts::since_1970().as_nanos();
        let found: Vec<_> = alerts::stamps(&stamped(&body)).collect();
        assert_eq!((found[0].0, found[1].0), (3, 4));
        assert!(u128::from(found[0].1) >= before && found[0].1 == found[1].1);
    }
}

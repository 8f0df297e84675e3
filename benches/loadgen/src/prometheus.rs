//! `loadgen prometheus`: sends as a Prometheus does, and looks whether anything that was accepted is lost.
//!
//! The alerts are spread over rule groups that are evaluated one after the other within an
//! interval. An evaluation puts its alerts into the queue, a single sender takes them out in
//! batches; what does not fit and what is not answered with 2xx is dropped, as Prometheus does it
//! (`notifier` and `rules/alerting.go` in its source). Every alert is sent again each interval: while
//! it fires with an end four intervals ahead, after it was resolved with its end.

mod series;
mod watcher;

use crate::alerts::{self, Shape, Times};
use crate::connection::{Connection, Target};
use crate::process::mebibytes;
use serde_json::{Value, json};
use series::Series;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};
use watcher::Watched;

/// What to send, and what is asked of the server.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The server, for example `http://127.0.0.1:9377`.
    #[arg(long)]
    target: String,
    /// Its process, whose memory is watched.
    #[arg(long)]
    pid: u32,
    /// How many alerts, each different.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    series: u64,
    /// How many groups of rules they are spread over.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    groups: u64,
    /// How often each alert is sent.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    evaluations: u64,
    /// Seconds between two evaluations of a group.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..))]
    interval: u64,
    /// How many of 1,000 alerts are resolved, or fire again, with each evaluation.
    #[arg(long, default_value_t = 10)]
    changes: u64,
    /// Alerts a request at most; 64 up to Prometheus 2.x, 256 since then.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..))]
    batch: u64,
    /// How many alerts may wait to be sent.
    #[arg(long, default_value_t = 10_000)]
    queue: usize,
    #[command(flatten)]
    shape: Shape,
    /// The most resident memory that is good, in MiB.
    #[arg(long, default_value_t = 512.0)]
    resident_mib_max: f64,
    /// The longest that `/-/ready` and `/metrics` may take, in seconds.
    #[arg(long, default_value_t = 1.0)]
    answer_seconds_max: f64,
}

impl Options {
    /// How far ahead the end of a firing alert is, in milliseconds.
    fn lead(&self) -> u64 {
        4 * 1000 * self.interval
    }
}

/// An alert that waits to be sent.
#[derive(Clone, Copy)]
struct Waiting {
    series: u64,
    times: Times,
    fires: bool,
}

/// What the sender shares with the rules.
#[derive(Default)]
struct Notifier {
    queue: VecDeque<Waiting>,
    is_over: bool,
    sent: u64,
    accepted: u64,
    did_not_fit: u64,
    refused: BTreeMap<String, u64>,
    /// The last report of each series that was accepted; `None` = a later one did not get 200,
    /// so that nobody knows.
    last_accepted: BTreeMap<u64, Option<Waiting>>,
}

impl Notifier {
    /// Puts alerts into the queue; the oldest give way.
    fn push(&mut self, alert: Waiting, capacity: usize) {
        self.sent += 1;
        self.queue.push_back(alert);
        if self.queue.len() > capacity {
            self.queue.pop_front();
            self.did_not_fit += 1;
        }
    }

    /// Remembers what became of a request.
    fn answered(&mut self, batch: &[Waiting], answer: anyhow::Result<hyper::StatusCode>) {
        let count = batch.len() as u64;
        let reason = match answer {
            Ok(status) if status.is_success() => {
                self.accepted += count;
                self.last_accepted.extend(batch.iter().map(|it| (it.series, Some(*it))));
                return;
            }
            Ok(status) => status.to_string(),
            Err(error) => format!("{error:#}"),
        };
        *self.refused.entry(reason).or_default() += count;
        self.last_accepted.extend(batch.iter().map(|it| (it.series, None)));
    }
}

/// Sends, watches, looks for what was accepted, and reports. Fails only if it cannot.
pub(crate) async fn run(options: Options) -> anyhow::Result<Value> {
    let target = Target::parse(&options.target, &[])?;
    let notifier = Rc::new(RefCell::new(Notifier::default()));
    let watching =
        tokio::task::spawn_local(watcher::watch(target.clone(), options.pid, notifier.clone()));
    let begin = Instant::now();
    let sender = tokio::task::spawn_local(send(
        Connection::new(target.at("/api/v2/alerts")),
        notifier.clone(),
        (options.shape.clone(), usize::try_from(options.batch)?),
    ));
    evaluate(&options, &notifier).await;
    notifier.borrow_mut().is_over = true;
    sender.await?;
    let seconds = begin.elapsed().as_secs_f64();
    let watched = watching.await?;
    let found = watcher::read_alerts(&target).await?;
    // A report that says nothing new is answered without writing it down as long as half of the
    // time until the written end remains: so much sooner than its last end an alert may be over.
    let surely_active_until = alerts::now_milliseconds() + options.lead() / 2;
    let lost = lost(&notifier.borrow(), &found, surely_active_until);
    Ok(report(&options, &notifier.borrow(), (seconds, &watched), &lost))
}

/// Evaluates the groups when they are due.
async fn evaluate(options: &Options, notifier: &RefCell<Notifier>) {
    let interval = Duration::from_secs(options.interval);
    let mut series: Vec<Series> = (0..options.series).map(Series::new).collect();
    let group = usize::try_from(options.series.div_ceil(options.groups)).unwrap_or(usize::MAX);
    let groups = u32::try_from(options.groups).unwrap_or(u32::MAX);
    let mut due = tokio::time::Instant::now();
    for evaluation in 0..options.evaluations {
        for members in series.chunks_mut(group) {
            tokio::time::sleep_until(due).await;
            let now = alerts::now_milliseconds();
            for one in members {
                one.evaluate(options.shape.seed, evaluation, (now, options.changes));
                let (times, fires) = one.report(now, options.lead());
                let alert = Waiting { series: one.id, times, fires };
                notifier.borrow_mut().push(alert, options.queue);
            }
            due += interval / groups;
        }
    }
}

/// Takes batches out of the queue until it is empty and nothing more comes.
async fn send(
    mut connection: Connection,
    notifier: Rc<RefCell<Notifier>>,
    (shape, batch): (Shape, usize),
) {
    loop {
        let taken: Vec<Waiting> = {
            let mut notifier = notifier.borrow_mut();
            let count = notifier.queue.len().min(batch);
            notifier.queue.drain(..count).collect()
        };
        if taken.is_empty() {
            if notifier.borrow().is_over {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        }
        let body = alerts::list(&shape, taken.iter().map(|it| (it.series, it.times)));
        let answer = connection.post(body).await;
        notifier.borrow_mut().answered(&taken, answer);
    }
}

/// The accepted alerts that are not there as they were accepted, with a reason. Those that end
/// before `surely_active_until` may be over.
fn lost(
    notifier: &Notifier,
    found: &BTreeMap<u64, watcher::Found>,
    surely_active_until: u64,
) -> Vec<String> {
    let mut reasons = Vec::new();
    for (series, report) in &notifier.last_accepted {
        let Some(last) = report else { continue };
        let starts_at = alerts::shortest_rfc3339(last.times.starts_at);
        let reason = match found.get(series) {
            None => "is not there".to_owned(),
            Some(it) if it.starts_at != starts_at => {
                format!("began at `{}` instead of `{starts_at}`", it.starts_at)
            }
            Some(it) if it.state == "firing" && !last.fires => "fires".to_owned(),
            Some(it)
                if it.state != "firing"
                    && last.fires
                    && last.times.ends_at > surely_active_until =>
            {
                format!("is `{}`", it.state)
            }
            Some(_) => continue,
        };
        reasons.push(format!("series {series} {reason}"));
    }
    reasons
}

fn report(
    options: &Options,
    notifier: &Notifier,
    (seconds, watched): (f64, &Watched),
    lost: &[String],
) -> Value {
    let dropped = notifier.sent - notifier.accepted;
    let time = (options.interval * options.evaluations) as f64;
    let answers = watched.longest_ready.max(watched.longest_metrics).as_secs_f64();
    let resident = mebibytes(watched.resident_bytes_max);
    let check = |what: &str, figure: String, is_good: bool| json!({"what": what, "figure": figure, "is_good": is_good});
    let unknown = notifier.last_accepted.values().filter(|it| it.is_none()).count();
    json!({
        "checks": [
            check(
                "everything was delivered in time",
                format!(
                    "{} of {} alerts of {} series within {seconds:.1} s",
                    notifier.accepted, notifier.sent, options.series
                ),
                // The last evaluation begins before the time is over; its alerts are on their way.
                dropped == 0 && seconds < time + 1.0,
            ),
            check(
                "nothing that got 200 is lost",
                format!("{} series looked for, {} lost", notifier.last_accepted.len() - unknown, lost.len()),
                lost.is_empty() && notifier.accepted > 0,
            ),
            check(
                "resident memory stays in bounds",
                format!("{resident:.0} MiB at most, {:.0} allowed", options.resident_mib_max),
                resident > 0.0 && resident < options.resident_mib_max,
            ),
            check(
                "/-/ready and /metrics answer",
                format!(
                    "{} looks, {} failed, the slowest after {:.0} ms and {:.0} ms",
                    watched.looks,
                    watched.failures,
                    watched.longest_ready.as_secs_f64() * 1000.0,
                    watched.longest_metrics.as_secs_f64() * 1000.0
                ),
                watched.looks > 0 && watched.failures == 0 && answers < options.answer_seconds_max,
            ),
        ],
        "cpu_seconds": watched.cpu_seconds,
        "did_not_fit_into_the_queue": notifier.did_not_fit,
        "refused": notifier.refused,
        "unknown_series": unknown,
        "lost": lost.iter().take(20).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::StatusCode;
    use watcher::Found;

    fn waiting(series: u64, fires: bool) -> Waiting {
        Waiting { series, times: Times { starts_at: 1000, ends_at: 9000 }, fires }
    }

    #[test]
    fn the_oldest_give_way_and_only_what_was_accepted_is_looked_for() {
        let mut notifier = Notifier::default();
        for series in 0..5 {
            notifier.push(waiting(series, true), 3);
        }
        let queue: Vec<u64> = notifier.queue.iter().map(|it| it.series).collect();
        assert_eq!((queue, notifier.did_not_fit), (vec![2, 3, 4], 2));
        notifier.answered(&[waiting(2, true)], Ok(StatusCode::OK));
        notifier.answered(&[waiting(3, true)], Ok(StatusCode::SERVICE_UNAVAILABLE));
        notifier.answered(&[waiting(4, true)], Ok(StatusCode::OK));
        notifier.answered(&[waiting(4, true)], Err(anyhow::anyhow!("cut off")));
        assert_eq!((notifier.accepted, notifier.refused.len()), (2, 2));
        assert_eq!(lost(&notifier, &BTreeMap::new(), 0), ["series 2 is not there"]);
    }

    #[test]
    fn what_is_not_as_it_was_accepted_is_lost() {
        let mut notifier = Notifier::default();
        let (began, other) = ("1970-01-01T00:00:01Z", "1970-01-01T00:00:00.999Z");
        for (fires, state, starts_at, now, count) in [
            (true, "firing", began, 0, 0),
            (true, "firing", other, 0, 1),
            (true, "resolved", began, 0, 1),
            (true, "expired", began, 9000, 0),
            (false, "resolved", began, 0, 0),
            (false, "firing", began, 0, 1),
        ] {
            notifier.answered(&[waiting(7, fires)], Ok(StatusCode::OK));
            let found = Found { state: state.to_owned(), starts_at: starts_at.to_owned() };
            let lost = lost(&notifier, &BTreeMap::from([(7, found)]), now);
            assert_eq!(lost.len(), count, "{fires} {state} {starts_at} {now}: {lost:?}");
        }
    }
}

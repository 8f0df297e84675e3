//! The daemon's side: an order to the executor, what the program prints, and what came of it.

use super::super::command::Task;
use super::super::output::Kept;
use super::super::{outcome, stopped};
use super::frame::{self, Frame, Hello, Order};
use crate::domain::effect::{Outcome, OutcomeKind};
use std::hash::BuildHasher;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

/// For so long an executor is looked for that is not there: it may be starting anew.
const REACHED_WITHIN: Duration = Duration::from_secs(5);
/// How long it may take to greet.
const GREETED_WITHIN: Duration = Duration::from_secs(5);
/// The time between the first two tries; it doubles from try to try.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// How long an executor may take to accept an order.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);
/// How long after a program's time its end may be told: it waits for what ran before, and ends all.
const TOLD_WITHIN: Duration = Duration::from_secs(30);
/// How long after a stop the end of a program may be told.
const ENDED_WITHIN: Duration = Duration::from_secs(8);

/// Nobody knows whether a program did what it should: who kept it is gone.
#[derive(Debug)]
pub struct Lost(pub(in crate::act) String);

/// The way to an executor. Cheap to clone.
#[derive(Clone)]
pub struct Executor {
    shared: Arc<Shared>,
}

struct Shared {
    socket: PathBuf,
    /// What this daemon is called over all its lives.
    daemon: String,
    /// This life of it.
    life: String,
}

/// Why an executor did not greet.
enum Away {
    /// It may be there in a moment.
    NotNow(String),
    /// It has said no.
    Refused(String),
}

impl Executor {
    pub(in crate::act) fn new(socket: PathBuf, daemon: String) -> Self {
        let life = uuid::Uuid::new_v4().to_string();
        Self { shared: Arc::new(Shared { socket, daemon, life }) }
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.shared.socket
    }

    /// Looks whether it is there and would take orders; fails with the reason why not.
    pub async fn greet(&self) -> Result<(), String> {
        self.connect().await.map(drop).map_err(|away| self.told(away))
    }

    /// Has a program run, to its end, to its deadline, or until it is stopped.
    pub(in crate::act) async fn run(
        &self,
        (key, task): (String, Task),
        kept: &Kept,
        timeout: Duration,
        stop: &CancellationToken,
    ) -> Result<Outcome, Lost> {
        let reached = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(stopped()),
            reached = tokio::time::timeout(timeout, self.reach()) => reached,
        };
        let not_begun = |reason: String| {
            let detail = format!("the step did not begin: {reason}");
            Ok(outcome(OutcomeKind::FailedRetryable, detail))
        };
        let mut stream = match reached {
            Ok(Ok(stream)) => stream,
            Ok(Err(reason)) => return not_begun(reason),
            Err(_) => {
                return not_begun("its time was up before the executor was reached".to_owned());
            }
        };
        let order = Order {
            key,
            daemon: self.shared.daemon.clone(),
            life: self.shared.life.clone(),
            timeout_milliseconds: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
            task,
        };
        let bytes = match Frame::Run(Box::new(order)).bytes() {
            Ok(bytes) => bytes,
            Err(error) => {
                let detail = format!("the executor takes no order as long as this: {error}");
                return Ok(outcome(OutcomeKind::Failed, detail));
            }
        };
        // Of half an order nothing comes.
        match tokio::time::timeout(TAKEN_WITHIN, stream.write_all(&bytes)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return not_begun(format!("the executor went away: {error}")),
            Err(_) => return not_begun("the executor does not take the order".to_owned()),
        }
        let (mut from, mut to) = stream.split();
        let mut following = pin!(follow(&mut from, kept));
        tokio::select! {
            biased;
            told = &mut following => told.map_err(Lost),
            () = stop.cancelled() => {
                // This ends the program; a socket that is closed already says the same.
                to.shutdown().await.unwrap_or_default();
                match tokio::time::timeout(ENDED_WITHIN, following).await {
                    Ok(Ok(outcome)) => Ok(outcome),
                    Ok(Err(_)) | Err(_) => Ok(stopped()),
                }
            }
            () = tokio::time::sleep(timeout.saturating_add(TOLD_WITHIN)) => {
                Err(Lost("the executor does not answer any more".to_owned()))
            }
        }
    }

    /// A connection on which an order may be given, after some tries.
    async fn reach(&self) -> Result<UnixStream, String> {
        let deadline = Instant::now() + REACHED_WITHIN;
        let mut pause = FIRST_PAUSE;
        loop {
            let away = match self.connect().await {
                Ok(stream) => return Ok(stream),
                Err(away) => away,
            };
            let wait = pause + jitter(pause);
            if matches!(away, Away::Refused(_)) || Instant::now() + wait > deadline {
                return Err(self.told(away));
            }
            tokio::time::sleep(wait).await;
            pause *= 2;
        }
    }

    async fn connect(&self) -> Result<UnixStream, Away> {
        let greeting = async {
            let mut stream = UnixStream::connect(&self.shared.socket)
                .await
                .map_err(|error| Away::NotNow(error.to_string()))?;
            let said = frame::write(&mut stream, &Frame::Hello(Hello::ours())).await;
            // One that refuses may have closed its side, and then its word tells more.
            let heard = frame::read(&mut stream).await;
            match (heard, said) {
                (Ok(Some(Frame::Hello(hello))), Ok(())) => {
                    hello.check().map_err(Away::Refused).map(|()| stream)
                }
                (Ok(Some(Frame::Refused(reason))), _) => Err(Away::Refused(reason)),
                (Ok(Some(Frame::Run(_) | Frame::Output(_) | Frame::Ended(_))), _) => {
                    Err(Away::Refused("it is no executor".to_owned()))
                }
                (Ok(None), _) => Err(Away::NotNow("it went away".to_owned())),
                (Err(error), _) | (Ok(Some(Frame::Hello(_))), Err(error)) => {
                    Err(Away::NotNow(error))
                }
            }
        };
        tokio::time::timeout(GREETED_WITHIN, greeting).await.unwrap_or_else(|_| {
            Err(Away::NotNow(format!("no greeting within {} s", GREETED_WITHIN.as_secs())))
        })
    }

    fn told(&self, away: Away) -> String {
        let socket = self.shared.socket.display();
        match away {
            Away::NotNow(reason) => format!(
                "the executor cannot be reached, does `watchkeeper executor` run? {reason}: `{socket}`"
            ),
            Away::Refused(reason) => {
                format!("the executor does not take orders from this daemon: {reason}: `{socket}`")
            }
        }
    }
}

/// Keeps what a program prints, until its end is told.
async fn follow(from: &mut (impl AsyncRead + Unpin), kept: &Kept) -> Result<Outcome, String> {
    loop {
        match frame::read(from).await? {
            Some(Frame::Output(chunk)) => kept.push(&chunk),
            Some(Frame::Ended(outcome)) => return Ok(*outcome),
            Some(Frame::Hello(_) | Frame::Run(_) | Frame::Refused(_)) => {
                return Err("the executor talks nonsense".to_owned());
            }
            None => return Err("the executor went away".to_owned()),
        }
    }
}

/// Up to half a pause, so that those who wait do not all come at once.
pub(crate) fn jitter(pause: Duration) -> Duration {
    let random = std::hash::RandomState::new().hash_one(0) % 1000;
    pause / 2 * u32::try_from(random).unwrap_or_default() / 1000
}

//! The executor: takes orders from the users that it knows, and starts, follows and ends programs.

use super::super::command;
use super::super::outcome;
use super::super::output::Sink;
use super::frame::{self, Frame, Hello, Order};
use super::permit::Permit;
use super::socket::Socket;
use crate::domain::effect::{Outcome, OutcomeKind};
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How many connections there may be beside those whose programs run.
const GREETINGS_MAX: usize = 32;
/// How long the other side may take to say who it is and what it wants.
const WORDS_WITHIN: Duration = Duration::from_secs(10);
/// How long the other side may not take what it is told.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);
/// How long what the daemon started in a former life may take to end.
const FORMER_WITHIN: Duration = Duration::from_secs(15);
/// How long a stop waits for all programs to end.
const STOP_WITHIN: Duration = Duration::from_secs(8);
/// How soon it is tried again when no connection can be taken.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// For so long it is looked whether who gave an order is still there.
const STILL_THERE: Duration = Duration::from_millis(1);
/// Parts of output that wait to be sent.
const CHUNKS_MAX: usize = 8;

/// Whom an executor serves, and how far.
#[derive(Clone, Debug)]
pub struct Bounded {
    /// The numbers of the users who may give orders.
    pub users: Vec<u32>,
    /// What it starts at all.
    pub permit: Permit,
    /// How many programs run at once.
    pub programs_max: usize,
}

/// What all connections share.
struct Shared {
    bounded: Bounded,
    /// By what our keepers are known.
    mark: String,
    programs: Semaphore,
    /// Whose programs run, or are being ended.
    running: Mutex<BTreeMap<u64, Whose>>,
    /// Rises when a program has ended.
    ended: watch::Sender<u64>,
    stopping: CancellationToken,
}

/// Whose a program is.
#[derive(Clone, PartialEq, Eq)]
struct Whose {
    daemon: String,
    life: String,
    key: String,
}

/// Serves until it is told to stop; then ends all programs, and says nothing of them to daemons: to
/// those they are lost, as after a crash.
pub async fn serve(
    mut socket: Socket,
    bounded: Bounded,
    stopping: CancellationToken,
) -> std::io::Result<()> {
    let Some(listener) = socket.take_listener() else { return Ok(()) };
    let listener = UnixListener::from_std(listener)?;
    let connections = Arc::new(Semaphore::new(bounded.programs_max + GREETINGS_MAX));
    let shared = Arc::new(Shared {
        mark: socket.mark(),
        programs: Semaphore::new(bounded.programs_max),
        running: Mutex::default(),
        ended: watch::channel(0).0,
        stopping: stopping.clone(),
        bounded,
    });
    let under_way = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopping.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(AGAIN_AFTER).await;
                continue;
            }
        };
        let user = match shared.known_user(&stream) {
            Ok(user) => user,
            Err(reason) => {
                refuse(&stream, reason);
                continue;
            }
        };
        let Ok(place) = connections.clone().try_acquire_owned() else {
            refuse(&stream, "too many connections at once".to_owned());
            continue;
        };
        let shared = shared.clone();
        under_way.spawn(async move {
            if let Err(reason) = shared.attend(stream, user).await {
                tracing::warn!(user, reason, "a connection was given up");
            }
            drop(place);
        });
    }
    // The socket itself stays ours until all programs have ended.
    drop(listener);
    under_way.close();
    if tokio::time::timeout(STOP_WITHIN, under_way.wait()).await.is_err() {
        tracing::warn!(programs = under_way.len(), "some programs did not end in time");
    }
    Ok(())
}

/// Says why nothing comes of a connection, if that can be said at once.
fn refuse(stream: &UnixStream, reason: String) {
    tracing::warn!(reason, "a connection was refused");
    if let Ok(bytes) = Frame::Refused(reason).bytes() {
        // Who does not hear it is told by the end of the connection.
        stream.try_write(&bytes).unwrap_or_default();
    }
}

impl Shared {
    /// Who is on the other side, if that is one of those who may be. The kernel says so.
    fn known_user(&self, stream: &UnixStream) -> Result<u32, String> {
        let peer = stream.peer_cred().map_err(|error| format!("nobody knows who asks: {error}"))?;
        if self.bounded.users.contains(&peer.uid()) {
            return Ok(peer.uid());
        }
        Err(format!(
            "the user with the number {} may not give orders here: it has no `--allow-user`",
            peer.uid()
        ))
    }

    /// A connection, from the greeting to the end of its program.
    async fn attend(&self, mut stream: UnixStream, user: u32) -> Result<(), String> {
        let (mut from, mut to) = stream.split();
        match hear(&mut from).await? {
            Some(Frame::Hello(hello)) => {
                if let Err(reason) = hello.check() {
                    return say(&mut to, &Frame::Refused(reason)).await;
                }
            }
            None => return Ok(()),
            Some(_) => return Err("it does not begin with a greeting".to_owned()),
        }
        say(&mut to, &Frame::Hello(Hello::ours())).await?;
        let mut order = match hear(&mut from).await? {
            Some(Frame::Run(order)) => order,
            // It only wanted to know whether we are here.
            None => return Ok(()),
            Some(_) => return Err("it does not go on with an order".to_owned()),
        };
        let Some(outcome) = self.carry_out(&mut order, (&mut from, &mut to), user).await? else {
            return Ok(());
        };
        say(&mut to, &Frame::Ended(Box::new(outcome))).await
    }

    /// Starts a program and follows it. `None` when nobody is to be told what came of it.
    async fn carry_out(
        &self,
        order: &mut Order,
        (from, to): (&mut (impl AsyncRead + Unpin), &mut (impl AsyncWrite + Unpin)),
        user: u32,
    ) -> Result<Option<Outcome>, String> {
        let (key, program) = (order.key.clone(), order.task.argv.first().cloned());
        let program = program.unwrap_or_default();
        let refused = |result, reason: String| {
            tracing::warn!(user, key, program, reason, "a program was not started");
            Ok(Some(outcome(result, reason)))
        };
        if let Err(reason) = self.bounded.permit.check(&mut order.task) {
            return refused(OutcomeKind::Failed, reason);
        }
        let Ok(_room) = self.programs.try_acquire() else {
            let reason = format!("the executor has {} programs running", self.bounded.programs_max);
            return refused(OutcomeKind::FailedRetryable, reason);
        };
        let Ok(_entry) = tokio::time::timeout(FORMER_WITHIN, self.enter(order)).await else {
            let reason = "what was started before for this step, or by a former life of the daemon, \
                          has not ended yet";
            return refused(OutcomeKind::FailedRetryable, reason.to_owned());
        };
        // Any further word, and the end of words, means that the program is not wanted any more.
        let mut word = [0];
        if tokio::time::timeout(STILL_THERE, from.read(&mut word)).await.is_ok() {
            return Ok(None);
        }
        tracing::info!(user, key, program, "a program is started");
        let stop = self.stopping.child_token();
        let (sink, chunks) = mpsc::channel(CHUNKS_MAX);
        let timeout = Duration::from_millis(order.timeout_milliseconds);
        let sink = Sink::Sent(sink);
        let running = command::run(&order.task, Some(&self.mark), sink, timeout, &stop);
        let telling = async {
            let told = send_on(to, chunks).await;
            if told.is_err() {
                stop.cancel();
            }
            told
        };
        let mut both = pin!(async { tokio::join!(running, telling) });
        let (outcome, told) = tokio::select! {
            biased;
            both = &mut both => both,
            _ = from.read(&mut word) => {
                stop.cancel();
                both.await
            }
        };
        tracing::info!(user, key, program, detail = outcome.detail, "a program is over");
        told?;
        let is_cut_off = outcome.result == OutcomeKind::Stopped && self.stopping.is_cancelled();
        Ok((!is_cut_off).then_some(outcome))
    }

    /// Waits until nothing runs any more that the same daemon started in a former life, or for the
    /// same attempt, so that nothing is done twice at once.
    async fn enter(&self, order: &Order) -> Entry<'_> {
        let Order { daemon, life, key, .. } = order;
        let whose = Whose { daemon: daemon.clone(), life: life.clone(), key: key.clone() };
        let mut ended = self.ended.subscribe();
        loop {
            if let Some(number) = self.try_enter(&whose) {
                return Entry { shared: self, number };
            }
            // It cannot be closed: the sender is ours.
            ended.changed().await.unwrap_or_default();
        }
    }

    fn try_enter(&self, whose: &Whose) -> Option<u64> {
        let mut running = self.running();
        let mut of_same = running.values().filter(|it| it.daemon == whose.daemon);
        if of_same.any(|it| it.life != whose.life || it.key == whose.key) {
            return None;
        }
        let number = running.last_key_value().map_or(0, |(last, _)| last + 1);
        running.insert(number, whose.clone());
        Some(number)
    }

    /// Nothing panics while it holds the lock, so a poisoned one is still right.
    fn running(&self) -> MutexGuard<'_, BTreeMap<u64, Whose>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A program among those that run; dropped when it has ended with all that it started.
struct Entry<'a> {
    shared: &'a Shared,
    number: u64,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.shared.running().remove(&self.number);
        self.shared.ended.send_modify(|it| *it += 1);
    }
}

async fn hear(from: &mut (impl AsyncRead + Unpin)) -> Result<Option<Frame>, String> {
    let heard = tokio::time::timeout(WORDS_WITHIN, frame::read(from)).await;
    heard.unwrap_or_else(|_| Err(format!("no word within {} s", WORDS_WITHIN.as_secs())))
}

async fn say(to: &mut (impl AsyncWrite + Unpin), words: &Frame) -> Result<(), String> {
    let said = tokio::time::timeout(TAKEN_WITHIN, frame::write(to, words)).await;
    said.unwrap_or_else(|_| Err(format!("not taken within {} s", TAKEN_WITHIN.as_secs())))
}

/// Sends what a program prints, until it prints no more or nobody takes it.
async fn send_on(
    to: &mut (impl AsyncWrite + Unpin),
    mut chunks: mpsc::Receiver<Vec<u8>>,
) -> Result<(), String> {
    while let Some(chunk) = chunks.recv().await {
        say(to, &Frame::Output(chunk)).await?;
    }
    Ok(())
}

//! How deeds are done: an effect in, its outcome out.
//!
//! A deed is tried once, within its time. Trying again is for `domain` to decide; only what an
//! executor lost, and what may be done twice, is begun again here, as after a crash of the daemon.

mod address;
mod command;
mod confine;
pub mod executor;
mod family;
#[cfg(test)]
mod hostile;
mod http;
pub mod launch;
mod live;
mod notify;
mod output;
mod program;
mod query;
#[cfg(test)]
mod test_server;

use crate::config::PrometheusServer;
use crate::domain::effect::{Effect, EffectKey, Outcome, OutcomeKind, PlannedEffect};
use crate::domain::rules::Action;
pub use confine::is_possible as can_confine;
pub use executor::{Executor, Lost};
use http::Destination;
pub use live::{Board, Printed};
use output::Secrets;
use program::Place;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long `stop_all` waits: the 2 s between TERM and KILL, and a little for the rest.
const STOP_ALL_WAIT: Duration = Duration::from_millis(2900);
/// How often a program is begun that may be done twice, when one executor after the other is lost.
const BEGINS_MAX: u32 = 3;
/// How long it is waited before it is begun again.
const BEGIN_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What deeds need to know of the daemon's settings.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `host:port` destinations that http steps may reach, and ranges of addresses that are not
    /// public and to which their names may lead. Receivers' addresses need no entry.
    pub http_allow: Vec<String>,
    /// Servers that steps may ask.
    pub prometheus: Vec<PrometheusServer>,
    /// Texts that are masked in what programs print and servers answer.
    pub secrets: Vec<String>,
    /// By what the keepers of programs are known again in the next life: the data folder. `None`
    /// starts programs without a keeper and without bounds; for tests of other things.
    pub keeper_mark: Option<String>,
    /// The socket of the executor that starts all programs; `None` = this process starts them.
    pub executor: Option<PathBuf>,
}

/// Does deeds. Cheap to clone.
#[derive(Clone)]
pub struct Performer {
    shared: Arc<Shared>,
}

struct Shared {
    http_allow: BTreeSet<Destination>,
    prometheus: BTreeMap<String, PrometheusServer>,
    secrets: Secrets,
    place: Place,
    /// What programs print while they run.
    board: Arc<Board>,
    /// For receivers and for servers of the settings.
    client: reqwest::Client,
    /// For http steps: names lead only where they may.
    careful: reqwest::Client,
    /// How to stop what is being done.
    running: Mutex<BTreeMap<EffectKey, CancellationToken>>,
    /// Cancelled when the daemon stops; every token in `running` is its child.
    all: CancellationToken,
    /// Counts what is being done, for `stop_all` to wait for.
    deeds: TaskTracker,
}

impl Performer {
    /// Builds it; fails when no HTTP client can be made, or when an entry of `http_allow` is not
    /// `host:port`.
    pub fn new(options: Options) -> Result<Self, String> {
        let (ranges, places): (Vec<String>, Vec<String>) =
            options.http_allow.into_iter().partition(|it| it.contains('/') && !it.contains("://"));
        let http_allow = places.into_iter().map(|it| it.parse()).collect::<Result<_, _>>()?;
        let ranges = ranges.into_iter().map(|it| it.parse()).collect::<Result<_, _>>()?;
        let servers = options.prometheus.into_iter();
        let place = match options.executor {
            Some(socket) => {
                let daemon = options.keeper_mark.unwrap_or_default();
                Place::Executor(Executor::new(socket, daemon))
            }
            None => Place::Here { keeper_mark: options.keeper_mark },
        };
        let shared = Shared {
            http_allow,
            prometheus: servers.map(|it| (it.name.clone(), it)).collect(),
            secrets: Secrets::new(options.secrets),
            place,
            board: Arc::default(),
            client: http::client()?,
            careful: http::client_with(Some(&address::Resolver::new(ranges)))?,
            running: Mutex::default(),
            all: CancellationToken::new(),
            deeds: TaskTracker::new(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// What the programs of steps print while they run.
    pub fn board(&self) -> Arc<Board> {
        self.shared.board.clone()
    }

    /// The way to the executor that starts all programs, if there is one.
    pub fn executor(&self) -> Option<Executor> {
        match &self.shared.place {
            Place::Executor(executor) => Some(executor.clone()),
            Place::Here { .. } => None,
        }
    }

    /// Does one deed, within its time. Never panics; every end is an [`Outcome`], but that of a
    /// program that was lost with its executor and must not be done twice: nobody knows it.
    /// `DetectProblems` is not for here: the engine does it with `learn`. [`Performer::stop`] finds
    /// the deed from this call on, also before the future is first polled.
    pub fn perform(
        &self,
        effect: PlannedEffect,
    ) -> impl Future<Output = Result<Outcome, Lost>> + Send + use<> {
        let began = Instant::now();
        let counted = self.shared.deeds.token();
        let running = Shared::begin(&self.shared, &effect.key);
        let performer = self.clone();
        async move {
            let _counted = counted;
            let mut outcome = performer.bring_about(&effect, &running.stop).await?;
            outcome.duration_milliseconds =
                u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            Ok(outcome)
        }
    }

    /// Begins a deed, and again what may be done twice and was lost, a few times.
    async fn bring_about(
        &self,
        effect: &PlannedEffect,
        stop: &CancellationToken,
    ) -> Result<Outcome, Lost> {
        let mut begins = 0;
        while !stop.is_cancelled() {
            let lost = match self.dispatch(effect, stop).await {
                Ok(outcome) => return Ok(outcome),
                Err(lost) => lost,
            };
            begins += 1;
            tracing::warn!(key = %effect.key, begins, reason = lost.0, "a program was lost");
            if !effect.idempotent {
                return Err(lost);
            }
            if begins == BEGINS_MAX {
                let detail = format!("it was lost {begins} times with its executor: {}", lost.0);
                return Ok(outcome(OutcomeKind::FailedRetryable, detail));
            }
            let pause = BEGIN_AGAIN_AFTER + executor::jitter(BEGIN_AGAIN_AFTER);
            // Whoever stops it is heard at the top.
            drop(tokio::time::timeout(pause, stop.cancelled()).await);
        }
        Ok(stopped())
    }

    async fn dispatch(
        &self,
        planned: &PlannedEffect,
        stop: &CancellationToken,
    ) -> Result<Outcome, Lost> {
        let client = &self.shared.client;
        Ok(match &planned.effect {
            Effect::RunStep { execution, step, action, timeout_seconds } => {
                let timeout = Duration::from_secs(u64::from(*timeout_seconds));
                match action {
                    Action::Command { argv, bounds } => {
                        let environment = [
                            ("WATCHKEEPER_EXECUTION", execution.to_string()),
                            ("WATCHKEEPER_STEP", step.clone()),
                            ("WATCHKEEPER_IDEMPOTENCY_KEY", planned.key.to_string()),
                        ];
                        let program = program::Program {
                            argv,
                            bounds,
                            environment: &environment,
                            secrets: &self.shared.secrets,
                            place: &self.shared.place,
                            board: Some((&self.shared.board, &planned.key)),
                        };
                        program::run(&program, timeout, stop).await?
                    }
                    Action::Http { method, url, headers, body, expect_status } => {
                        let body = body.as_deref();
                        let call = http::Call { method, url, headers, body, expect_status };
                        let (careful, allow) = (&self.shared.careful, &self.shared.http_allow);
                        let exchange = http::call(careful, allow, &call, &planned.key);
                        let mut outcome = within(timeout, stop, exchange).await;
                        outcome.output_tail = self.shared.secrets.mask(&outcome.output_tail);
                        outcome
                    }
                    Action::Query { source, promql, assert } => {
                        let question = query::Question { source, promql, assert };
                        let servers = &self.shared.prometheus;
                        query::ask(client, servers, &question, (timeout, stop)).await
                    }
                    Action::Wait { .. }
                    | Action::Set { .. }
                    | Action::Notify { .. }
                    | Action::Approval(_)
                    | Action::Runbook { .. }
                    | Action::Change(_)
                    | Action::Tool(_) => outcome(
                        OutcomeKind::Failed,
                        format!("`{}` is not done here", action.as_str()),
                    ),
                }
            }
            Effect::StopStep { step } => {
                self.stop(step);
                outcome(OutcomeKind::Succeeded, "the order to stop was given")
            }
            Effect::Deliver { url, body, .. } => {
                let post = notify::deliver(client, url, body, &planned.key);
                let outcome = within(notify::TIMEOUT, stop, post).await;
                notify::retry_after_timeout(outcome)
            }
            Effect::DetectProblems { detection } => outcome(
                OutcomeKind::Failed,
                format!("detection is not done here, ask `learn` for `{detection}`"),
            ),
        })
    }

    /// Ends a step that is being done: its whole process group, or its request. The `perform` of
    /// that step then returns `Stopped`. Does nothing if the step is not being done.
    pub fn stop(&self, step: &EffectKey) {
        if let Some(token) = self.shared.running().get(step) {
            token.cancel();
        }
    }

    /// Ends everything that is being done (TERM, then KILL after 2 s). For the daemon's own stop:
    /// what is asked for afterwards ends as `Stopped` without being begun.
    pub async fn stop_all(&self) {
        self.shared.all.cancel();
        self.shared.deeds.close();
        if tokio::time::timeout(STOP_ALL_WAIT, self.shared.deeds.wait()).await.is_err() {
            tracing::warn!(deeds = self.shared.deeds.len(), "some deeds did not end in time");
        }
    }
}

impl Shared {
    /// Nothing panics while it holds the lock, so a poisoned one is still right.
    fn running(&self) -> MutexGuard<'_, BTreeMap<EffectKey, CancellationToken>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(shared: &Arc<Self>, key: &EffectKey) -> Running {
        let stop = shared.all.child_token();
        shared.running().insert(key.clone(), stop.clone());
        Running { shared: shared.clone(), key: key.clone(), stop }
    }
}

/// Keeps a deed in the list of what is being done, also when its future is dropped.
struct Running {
    shared: Arc<Shared>,
    key: EffectKey,
    stop: CancellationToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.running().remove(&self.key);
    }
}

/// Waits for a request, but not longer than its time, nor longer than it is wanted.
async fn within(
    timeout: Duration,
    stop: &CancellationToken,
    deed: impl Future<Output = Outcome>,
) -> Outcome {
    tokio::select! {
        biased;
        () = stop.cancelled() => stopped(),
        result = tokio::time::timeout(timeout, deed) => result.unwrap_or_else(|_| timed_out(timeout)),
    }
}

fn outcome(result: OutcomeKind, detail: impl Into<String>) -> Outcome {
    Outcome {
        result,
        detail: detail.into(),
        output_tail: String::new(),
        code: None,
        duration_milliseconds: 0,
    }
}

fn stopped() -> Outcome {
    outcome(OutcomeKind::Stopped, "stopped")
}

fn timed_out(timeout: Duration) -> Outcome {
    outcome(OutcomeKind::TimedOut, format!("took longer than its time of {} s", timeout.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::execution::ExecutionId;

    fn step(key: &str, script: &str) -> PlannedEffect {
        let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
        PlannedEffect {
            key: EffectKey(key.into()),
            idempotent: true,
            effect: Effect::RunStep {
                execution: ExecutionId(9),
                step: "restart".to_owned(),
                action: Action::command(argv),
                timeout_seconds: 60,
            },
        }
    }

    async fn done(performer: &Performer, effect: PlannedEffect) -> Outcome {
        performer.perform(effect).await.unwrap()
    }

    async fn until_running(performer: &Performer, count: usize) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while performer.shared.running().len() < count {
            assert!(Instant::now() < deadline, "the deeds did not begin");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn stop_ends_one_step_and_leaves_the_other() {
        let performer = Performer::new(Options::default()).unwrap();
        let one = tokio::spawn({
            let performer = performer.clone();
            async move { done(&performer, step("EXE-1/a/1", "sleep 60")).await }
        });
        let other = tokio::spawn({
            let performer = performer.clone();
            async move { done(&performer, step("EXE-2/a/1", "sleep 1; echo done")).await }
        });
        until_running(&performer, 2).await;
        let order = PlannedEffect {
            key: EffectKey("EXE-1/stop".into()),
            idempotent: true,
            effect: Effect::StopStep { step: EffectKey("EXE-1/a/1".into()) },
        };
        assert_eq!(done(&performer, order).await.result, OutcomeKind::Succeeded);
        assert_eq!(one.await.unwrap().result, OutcomeKind::Stopped);
        let other = other.await.unwrap();
        assert_eq!((other.result, other.output_tail.as_str()), (OutcomeKind::Succeeded, "done\n"));
        assert!(other.duration_milliseconds >= 1000);
        assert!(performer.shared.running().is_empty());
        performer.stop(&EffectKey("EXE-7/a/1".into()));
    }

    #[tokio::test]
    async fn stop_all_ends_even_what_ignores_term() {
        let performer = Performer::new(Options::default()).unwrap();
        let stubborn = tokio::spawn({
            let performer = performer.clone();
            let effect = step("EXE-1/a/1", "trap '' TERM; while :; do sleep 0.1; done");
            async move { done(&performer, effect).await }
        });
        until_running(&performer, 1).await;
        let began = Instant::now();
        performer.stop_all().await;
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        assert_eq!(stubborn.await.unwrap().result, OutcomeKind::Stopped);
        let late = done(&performer, step("EXE-2/a/1", "echo no")).await;
        assert_eq!((late.result, late.output_tail.as_str()), (OutcomeKind::Stopped, ""));
    }

    fn request(key: &str, url: String, timeout_seconds: u32) -> PlannedEffect {
        let method = "POST".to_owned();
        let (headers, expect_status) = (BTreeMap::new(), Vec::new());
        let action = Action::Http { method, url, headers, body: None, expect_status };
        let (execution, step) = (ExecutionId(9), "tell".to_owned());
        let effect = Effect::RunStep { execution, step, action, timeout_seconds };
        PlannedEffect { key: EffectKey(key.into()), idempotent: true, effect }
    }

    #[tokio::test]
    async fn a_request_ends_at_its_deadline_when_stopped_and_when_not_allowed() {
        let server = test_server::TestServer::start().await;
        let http_allow = vec![server.address.to_string()];
        let performer = Performer::new(Options { http_allow, ..Options::default() }).unwrap();
        let slow = format!("http://{}/slow", server.address);
        let outcome = done(&performer, request("EXE-1/tell/1", slow.clone(), 1)).await;
        assert_eq!(outcome.result, OutcomeKind::TimedOut);
        let waiting = tokio::spawn({
            let performer = performer.clone();
            async move { done(&performer, request("EXE-2/tell/1", slow, 60)).await }
        });
        until_running(&performer, 1).await;
        performer.stop(&EffectKey("EXE-2/tell/1".into()));
        assert_eq!(waiting.await.unwrap().result, OutcomeKind::Stopped);
        let elsewhere = format!("http://127.0.0.1:{}/trap", server.address.port() ^ 1);
        let outcome = done(&performer, request("EXE-3/tell/1", elsewhere, 60)).await;
        assert_eq!(outcome.result, OutcomeKind::Failed);
        assert!(outcome.detail.contains("`http_allow`"), "{}", outcome.detail);
    }

    #[tokio::test]
    async fn detection_is_refused_and_bad_settings_too() {
        let performer = Performer::new(Options::default()).unwrap();
        let effect = Effect::DetectProblems { detection: "default".to_owned() };
        let key = EffectKey("detect/default/1".into());
        let outcome = done(&performer, PlannedEffect { key, idempotent: true, effect }).await;
        assert_eq!(outcome.result, OutcomeKind::Failed);
        let http_allow = vec!["http://a:1/x".to_owned()];
        let options = Options { http_allow, ..Options::default() };
        assert!(Performer::new(options).is_err_and(|it| it.contains("`http://a:1/x`")));
    }
}

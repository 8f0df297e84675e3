//! The command `serve`: the daemon, put together.

mod outward;

use super::{check, output};
use crate::act::{self, Performer};
use crate::api::{self, Access, Reloader, ResolvedToken, alertmanager};
use crate::config::{self, Checked, Credentials, Level, Settings};
use crate::domain::event::Event;
use crate::domain::rules::RuleSet;
use crate::engine::{self, Handle};
use crate::ingest;
use crate::store;
use crate::telemetry::{LogFormat, Metrics, start_logging};
use anyhow::Context as _;
use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What the daemon is told by its command line.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The settings file.
    pub config: Option<PathBuf>,
    /// The data folder.
    pub data: Option<PathBuf>,
    /// The rules folder.
    pub rules: Option<PathBuf>,
    /// Where to listen.
    pub listen: Option<String>,
    /// Whether the log is JSON.
    pub log_json: bool,
}

/// Runs the daemon until it is told to stop.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    start_logging(if options.log_json { LogFormat::Json } else { LogFormat::Text });
    let Some(settings) = settings_of(options)? else { return Ok(ExitCode::from(2)) };
    let runtime = runtime()?;
    // Before the rules are read, so that a change in the meantime is seen.
    let watch = runtime.block_on(async { RulesWatch::begin(&settings) });
    let checked = config::read_rules_for(&settings);
    tell(&checked);
    let Some(rules) = checked.value else {
        output::say("the daemon does not start on rules with errors");
        return Ok(ExitCode::from(2));
    };
    let result = runtime.block_on(serve(settings, rules, watch));
    // A step's reader or a lingering connection must not hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(200));
    result.map(|()| ExitCode::SUCCESS)
}

/// What serves requests. The watch and the inbox have threads of their own, so that one processor
/// is left to them: where there are two, handing requests from thread to thread costs more than a
/// second one brings.
pub(super) fn runtime() -> io::Result<tokio::runtime::Runtime> {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    let workers = processors.saturating_sub(1).max(1);
    tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()
}

/// The settings of the file, with what the command line says in their place.
fn settings_of(options: &Options) -> anyhow::Result<Option<Settings>> {
    let checked = config::read_settings(options.config.as_deref());
    tell(&checked);
    let Some(mut settings) = checked.value else { return Ok(None) };
    if let Some(data) = &options.data {
        settings.data.clone_from(data);
    }
    if let Some(rules) = &options.rules {
        settings.rules.clone_from(rules);
    }
    if let Some(listen) = &options.listen {
        settings.listen = listen
            .parse()
            .with_context(|| format!("--listen takes an address and a port, not `{listen}`"))?;
    }
    if let Err(reason) = settings.validate() {
        output::say(&format!("error: {reason}"));
        return Ok(None);
    }
    Ok(Some(settings))
}

/// Prints what the files' check found.
fn tell<T>(checked: &Checked<T>) {
    if !checked.findings.is_empty() {
        output::say(&check::text(&checked.findings));
    }
}

async fn serve(settings: Settings, rules: RuleSet, watch: RulesWatch) -> anyhow::Result<()> {
    let tokens = (settings.tokens.iter())
        .map(|it| {
            let token = config::read_token(it)?;
            Ok(ResolvedToken { name: it.name.clone(), role: it.role, token })
        })
        .collect::<Result<Vec<_>, config::Error>>()?;
    let metrics = Metrics::new();
    let handle = start_engine(&settings, &metrics)?;
    // While the disk is full the rules of the last run hold, and these are tried again.
    let loaded = load(&handle, rules, None).await;
    if let Err(error) = &loaded {
        tracing::error!(%error, "the rules were read, but are not in force yet");
    }
    metrics.reload(loaded.is_ok());

    let listener = TcpListener::bind(settings.listen)
        .await
        .with_context(|| format!("cannot listen on `{}`", settings.listen))?;
    let address = listener.local_addr()?;
    let stopping = CancellationToken::new();
    let (reload, reloads) = mpsc::channel(4);
    let again = loaded.is_err().then_some(RELOAD_AGAIN);
    let reloader =
        Reloads { settings: settings.clone(), handle: handle.clone(), metrics: metrics.clone() };
    let reloading = tokio::spawn(reloader.on_change(watch, reloads, again));
    let snapshots = tokio::spawn(take_snapshots(handle.clone(), snapshots_of(&settings)));
    let external_url = settings.external_url.clone();
    let started_at = jiff::Timestamp::now();
    let access = Arc::new(Access { listen: address, external_url, tokens });
    let keys: ingest::Keys = {
        let access = access.clone();
        Arc::new(move |key| access.may_deliver(key))
    };
    let context = api::Context {
        handle: handle.clone(),
        metrics: metrics.clone(),
        access,
        reloader: Reloader(reload),
        stopping: stopping.clone(),
        started_at,
    };
    metrics.stand_as_alertmanager(&settings.alertmanager_version);
    let door = ingest::Door::new(handle.clone(), metrics.clone(), keys);
    let door = Arc::new(limited(door, &settings));
    let outward = outward::begin(&settings, &door, &handle, &metrics)?;
    let doors = vec![
        ingest::routes(door),
        alertmanager::routes(Arc::new(alertmanager::Context {
            handle: handle.clone(),
            version: settings.alertmanager_version.clone(),
            started_at,
        })),
    ];
    announce(&settings.data, address);
    let told = stopping.clone();
    tokio::spawn(async move {
        wait_for_signal().await;
        told.cancel();
    });
    api::serve(listener, api::assemble(context, doors), stopping.cancelled_owned()).await?;
    reloading.abort();
    snapshots.abort();
    outward.iter().for_each(tokio::task::JoinHandle::abort);
    let last = take_snapshot(&handle, snapshots_of(&settings));
    if tokio::time::timeout(SNAPSHOT_TIMEOUT, last).await.is_err() {
        tracing::warn!("there is no time for a snapshot");
    }
    handle.stop().await;
    tracing::info!("stopped");
    Ok(())
}

/// The door with its limits.
fn limited(door: ingest::Door, settings: &Settings) -> ingest::Door {
    door.with_alerts_max(settings.alerts_max)
        .with_quotas(settings.quotas.clone())
        .with_quarantine(settings.data.join("quarantine"))
}

/// What must not be shown in the outputs of steps.
fn secrets_of(settings: &Settings) -> Vec<String> {
    let tokens = settings.tokens.iter().filter_map(|it| config::read_token(it).ok());
    let servers = settings.prometheus.iter().filter_map(|it| {
        let secret = match it.credentials.as_ref()? {
            Credentials::Bearer(token) => token,
            Credentials::Basic { password, .. } => password,
        };
        config::read_secret(&it.name, secret).ok()
    });
    tokens.chain(servers).collect()
}

fn start_engine(settings: &Settings, metrics: &Metrics) -> anyhow::Result<Handle> {
    std::fs::create_dir_all(&settings.data)
        .with_context(|| format!("cannot make the data folder `{}`", settings.data.display()))?;
    let mark = settings.data.canonicalize()?.display().to_string();
    let options = act::Options {
        http_allow: settings.http_allow.clone(),
        prometheus: settings.prometheus.clone(),
        secrets: secrets_of(settings),
        keeper_mark: Some(mark.clone()),
        executor: settings.executor.clone(),
    };
    let performer = Performer::new(options).map_err(|error| anyhow::anyhow!(error))?;
    let stranded = act::launch::end_stranded(&mark);
    if stranded > 0 {
        tracing::warn!(stranded, "programs of steps of a former life were ended");
    }
    let folder = settings.data.join("store");
    let engine: Option<store::Engine> = settings.engine.as_deref().map(str::parse).transpose()?;
    let snapshots = snapshots_of(settings);
    let open = move || -> Result<Arc<dyn store::Store>, store::Error> {
        Ok(Arc::new(store::care::open_healing(engine, &folder, &snapshots)?))
    };
    let options = engine::Options {
        open: Box::new(open),
        performer,
        metrics: metrics.clone(),
        retention_seconds: settings.retention_seconds,
        audit_retention_seconds: settings.audit_retention(),
    };
    Ok(engine::start(options)?)
}

/// How long after the start the first snapshot is taken.
const SNAPSHOT_FIRST: Duration = Duration::from_mins(1);
/// How often snapshots are taken from then on.
const SNAPSHOT_EVERY: Duration = Duration::from_hours(1);
/// How long a stop waits for the last one.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(3);

/// Where the snapshots are.
fn snapshots_of(settings: &Settings) -> PathBuf {
    settings.data.join("snapshots")
}

/// Takes snapshots, for ever.
async fn take_snapshots(handle: Handle, folder: PathBuf) {
    let mut wait = SNAPSHOT_FIRST;
    loop {
        tokio::time::sleep(wait).await;
        take_snapshot(&handle, folder.clone()).await;
        wait = SNAPSHOT_EVERY;
    }
}

/// Writes what is open into a file of its own, for the day when the store is damaged.
async fn take_snapshot(handle: &Handle, folder: PathBuf) {
    match handle.snapshot(folder).await {
        Ok(path) => tracing::info!(path = %path.display(), "a snapshot was taken"),
        Err(error) => tracing::error!(%error, "no snapshot could be taken"),
    }
}

/// Tells the engine new rules, unless they are those in force, and who asked for them.
async fn load(
    handle: &Handle,
    rules: RuleSet,
    by: Option<String>,
) -> Result<(), engine::SubmitError> {
    if handle.peek(|state| *state.rules == rules) {
        return Ok(());
    }
    let revision = rules.revision.clone();
    let rules = Arc::new(rules);
    let event = match by {
        Some(by) => Event::RulesReloaded { by, rules },
        None => Event::RulesLoaded(rules),
    };
    handle.submit(vec![event]).await?;
    handle.settle().await?;
    tracing::info!(revision, "rules loaded");
    Ok(())
}

/// How soon rules that could not be taken, because the disk was full, are tried again.
const RELOAD_AGAIN: Duration = Duration::from_secs(2);

/// Why rules are not in force.
enum Unloaded {
    /// They have errors.
    Bad(String),
    /// The log could not take them.
    NotTaken(String),
}

/// The watch over the rules' files.
struct RulesWatch {
    /// Watches until it is dropped.
    watcher: Result<config::Watcher, config::Error>,
    notices: mpsc::Receiver<()>,
}

impl RulesWatch {
    /// Begins to watch. Must be called within a tokio runtime.
    fn begin(settings: &Settings) -> Self {
        let (notice, notices) = mpsc::channel(1);
        let folders = vec![settings.rules.clone(), config::models_beside(&settings.rules)];
        Self { watcher: config::watch(folders, notice), notices }
    }
}

/// Who reads the rules again.
struct Reloads {
    settings: Settings,
    handle: Handle,
    metrics: Metrics,
}

impl Reloads {
    /// Reads the rules again when the files change, somebody asks, or it is time to try `again`.
    /// All or nothing: rules with errors leave the old ones in force.
    async fn on_change(
        self,
        mut watch: RulesWatch,
        mut asked: mpsc::Receiver<api::ReloadOrder>,
        mut again: Option<Duration>,
    ) {
        if let Err(error) = &watch.watcher {
            tracing::warn!(%error, "changes of the rules are not seen; reload by POST /-/reload");
        }
        let mut hangup = signal(SignalKind::hangup()).ok();
        loop {
            let order = tokio::select! {
                Some(order) = asked.recv() => Some(order),
                Some(()) = watch.notices.recv() => None,
                () = hang_up(&mut hangup) => None,
                () = sleep(again) => None,
            };
            let by = order.as_ref().and_then(|it| it.by.clone());
            let result = reload(&self.settings, &self.handle, by).await;
            self.metrics.reload(result.is_ok());
            again = matches!(result, Err(Unloaded::NotTaken(_))).then_some(RELOAD_AGAIN);
            let result = result.map_err(|error| match error {
                Unloaded::Bad(text) => {
                    tracing::error!("the rules have errors; the old ones stay in force\n{text}");
                    text
                }
                Unloaded::NotTaken(text) => {
                    tracing::warn!("the rules are not in force yet, and are tried again: {text}");
                    text
                }
            });
            if let Some(order) = order {
                order.done.send(result).unwrap_or_default();
            }
        }
    }
}

async fn hang_up(hangup: &mut Option<tokio::signal::unix::Signal>) {
    match hangup {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Waits for so long; for ever, if not told.
async fn sleep(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

async fn reload(
    settings: &Settings,
    handle: &Handle,
    by: Option<String>,
) -> Result<String, Unloaded> {
    let checking = settings.clone();
    let checked = tokio::task::spawn_blocking(move || config::read_rules_for(&checking));
    let checked = checked.await.map_err(|error| Unloaded::Bad(error.to_string()))?;
    let files = checked.files;
    let Some(rules) = checked.value else {
        return Err(Unloaded::Bad(check::text(&checked.findings)));
    };
    let warnings = checked.findings.iter().filter(|it| it.level == Level::Warning).count();
    let revision = rules.revision.clone();
    load(handle, rules, by).await.map_err(|error| Unloaded::NotTaken(error.to_string()))?;
    Ok(format!("{files} files loaded, revision {revision}, {warnings} warnings"))
}

/// Says where we listen: on stderr for people, in a file for programs. A full disk must not keep
/// the daemon from starting: what it knows can still be read.
fn announce(data: &Path, address: SocketAddr) {
    let url = format!("http://{address}");
    let file = data.join("listen");
    if let Err(error) = std::fs::write(&file, format!("{url}\n")) {
        tracing::warn!(%error, file = %file.display(), "the address could not be written down");
    }
    output::say(&format!("listening on {url}"));
}

/// Returns at Ctrl-C or at a stop order of the system.
pub(super) async fn wait_for_signal() {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        tracing::error!("signals cannot be heard; end the process to stop it");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("stopping");
}

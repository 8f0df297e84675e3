//! The command `demo`: a seeded day of a shop, played into a daemon of its own.

pub mod folder;
pub mod on_call;
pub mod player;
pub mod report;
pub mod screen;
pub mod shop;
pub mod site;

use super::client::Client;
use super::failure::Failure;
use super::output;
use super::serve::{self, runtime};
use anyhow::Context;
use jiff::Timestamp;
use on_call::OnCall;
use player::Player;
use report::Picture;
use screen::Screen;
use serde_json::json;
use site::Site;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// How often alerts that are due are sent.
const TICK: Duration = Duration::from_millis(100);
/// How often the daemon is asked how it stands.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The time for the daemon to start, and to stop.
const DAEMON_TIMEOUT: Duration = Duration::from_secs(15);
/// The time for what still runs at the end of the day to end.
const AFTERMATH: Duration = Duration::from_secs(20);

/// How the day is played.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// How many times faster than real; 720 is a day in two minutes
    #[arg(long, default_value_t = 720, value_parser = clap::value_parser!(u32).range(1..=3600))]
    speed: u32,
    /// What the day is made from; the same seed gives the same day
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Do not try to open a browser
    #[arg(long)]
    headless: bool,
    /// Where the daemon listens; a free port if not told
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: String,
}

/// Plays the day, then stays up until it is told to stop.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let folder = tempfile::Builder::new().prefix("watchkeeper-demo-").tempdir()?;
    log_into(folder.path())?;
    let runtime = runtime()?;
    let result = runtime.block_on(watch(arguments, folder.path()));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Starts the daemon and the shop, and waits for the end of the demo.
async fn watch(arguments: &Arguments, folder: &Path) -> anyhow::Result<ExitCode> {
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let site = Site::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let shop = listener.local_addr()?.to_string();
    tokio::spawn(site.clone().serve(listener));
    let options = folder::prepare(folder, &shop, arguments.speed, &arguments.listen)?;
    let mut daemon = tokio::task::spawn_blocking(move || serve::run(&options));
    // A signal reaches the daemon too, which may be the quicker one: look for the signal first.
    let ended = tokio::select! {
        biased;
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
        ended = &mut daemon => return daemon_end(ended),
        failed = live(arguments, folder, &site) => Some(failed),
    };
    // A signal has reached the daemon as well.
    stop(daemon, ended.is_some()).await;
    match ended {
        Some(Err(error)) => Err(error),
        Some(Ok(())) | None => Ok(ExitCode::SUCCESS),
    }
}

/// Sends the log to a file, because the screen is for people.
fn log_into(folder: &Path) -> anyhow::Result<()> {
    let file = std::fs::File::create(folder.join("demo.log"))?;
    // One that is already there stays.
    tracing_subscriber::fmt().json().with_writer(std::sync::Mutex::new(file)).try_init().ok();
    Ok(())
}

/// The end of a daemon that nobody here told to stop.
fn daemon_end(
    ended: Result<anyhow::Result<ExitCode>, tokio::task::JoinError>,
) -> anyhow::Result<ExitCode> {
    ended.context("the demo's daemon failed")?.context("the demo's daemon failed")
}

/// Waits for the daemon's end; before that it is told to stop, if it does not know yet.
async fn stop(daemon: tokio::task::JoinHandle<anyhow::Result<ExitCode>>, tell: bool) {
    let own = rustix::process::getpid();
    let interrupt = rustix::process::Signal::INT;
    if tell && let Err(error) = rustix::process::kill_process(own, interrupt) {
        output::say(&format!("warning: cannot stop the daemon: {error}"));
    }
    if tokio::time::timeout(DAEMON_TIMEOUT, daemon).await.is_err() {
        output::say("warning: the daemon did not stop in time");
    }
}

/// The day, its summary, and then nothing more until somebody stops it.
async fn live(arguments: &Arguments, folder: &Path, site: &Site) -> anyhow::Result<()> {
    let server = wait_for_daemon(folder).await?;
    let client = Client::new(&server, None)?;
    output::say(&format!(
        "demo: a shop's day in {} s (seed {}); its data is in a temporary folder, gone at the end\n",
        shop::DAY_SECONDS / arguments.speed,
        arguments.seed,
    ));
    if !arguments.headless {
        open_browser(&server);
    }
    let begun = Instant::now();
    let mut player = Player::new(shop::plan(arguments.seed), arguments.speed, Timestamp::now());
    let picture = play(&client, &mut player, site)
        .await
        .map_err(|failure| worded(&failure, "the daemon answered badly"))?;
    let counts = (player.sent(), site.notifications());
    output::print(&report::summary(&picture, counts, begun.elapsed()))?;
    output::print(&format!("\n{}", report::next_commands(&picture, &server)))?;
    output::say("\nthe daemon stays up; Ctrl-C ends it");
    std::future::pending().await
}

fn worded(failure: &Failure, what: &str) -> anyhow::Error {
    anyhow::anyhow!("{what}: {failure}")
}

/// Waits until the daemon says where it listens, and answers there.
async fn wait_for_daemon(folder: &Path) -> anyhow::Result<String> {
    let deadline = Instant::now() + DAEMON_TIMEOUT;
    loop {
        if let Some(server) = folder::listen_address(folder) {
            let client = Client::new(&server, None)?;
            let answer = client.get(&["incidents"], &[]).await;
            match answer {
                Ok(_) => return Ok(server),
                Err(failure) if Instant::now() > deadline || failure.exit_code() != 3 => {
                    return Err(worded(&failure, "the demo's daemon does not answer"));
                }
                Err(_) => {}
            }
        }
        anyhow::ensure!(Instant::now() < deadline, "the demo's daemon did not start in time");
        tokio::time::sleep(TICK).await;
    }
}

/// Plays the day and its aftermath, looks for what recurs, and gives the picture at the end.
async fn play(
    client: &Client,
    player: &mut Player,
    site: &Site,
) -> super::failure::Result<Picture> {
    let mut screen = Screen::on_stderr();
    let mut on_call = OnCall::default();
    let mut looked_at: Option<Instant> = None;
    let mut over_since: Option<Instant> = None;
    loop {
        let now = Timestamp::now();
        player.send_due(client, &site.cured_at(), now).await?;
        if looked_at.is_none_or(|it| it.elapsed() >= LOOK_EVERY) {
            looked_at = Some(Instant::now());
            let picture = Picture::take(client).await?;
            for deed in on_call.act(client, &picture).await? {
                site.tell(deed);
            }
            let counts = (player.sent(), site.notifications());
            let clock = player.clock_seconds(now);
            let block = report::live(&picture, clock, counts, &site.happenings());
            screen.draw(&block, &report::live_line(&picture, clock, counts.0));
            if player.is_over(now) {
                let since = *over_since.get_or_insert_with(Instant::now);
                if !picture.is_busy() || since.elapsed() > AFTERMATH {
                    break;
                }
            }
        }
        tokio::time::sleep(TICK).await;
    }
    screen.end();
    client.post(&["problems", "detect"], json!({"by": "demo"})).await?;
    let picture = settled_picture(client).await?;
    declare_known(client, &picture).await?;
    Picture::take(client).await
}

/// What the shop's people know of its faults: a part of the problem's title, the cause, how to live with
/// it, the runbook that does it.
const KNOWN: [(&str, &str, &str, &str); 2] = [
    ("DiskSpaceLow", "the log of orders is never rotated", "give it more room", "expand-volume"),
    (
        "QueueConsumerStuck",
        "the consumer does not see that its connection is gone",
        "restart it",
        "restart-consumer",
    ),
];

/// Somebody puts down what is known, so that the next incident of that kind is told.
async fn declare_known(client: &Client, picture: &Picture) -> super::failure::Result<()> {
    for problem in &picture.problems {
        let title = output::field(problem, "title");
        let known = KNOWN.iter().find(|(part, ..)| title.contains(part));
        if let Some((_, cause, workaround, runbook)) = known {
            let body = json!({
                "by": "demo", "cause": cause, "workaround": workaround, "runbook": runbook,
            });
            let id = output::field(problem, "id");
            client.post(&["problems", &id, "known-error"], body).await?;
        }
    }
    Ok(())
}

/// The picture after the detection's verdict has arrived.
async fn settled_picture(client: &Client) -> super::failure::Result<Picture> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let picture = Picture::take(client).await?;
        if !picture.problems.is_empty() || Instant::now() > deadline {
            return Ok(picture);
        }
        tokio::time::sleep(TICK).await;
    }
}

/// Tries to show the page; a machine without a browser is no error.
fn open_browser(server: &str) {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let null = std::process::Stdio::null;
    let child = std::process::Command::new(opener)
        .arg(server)
        .stdin(null())
        .stdout(null())
        .stderr(null())
        .spawn()
        .context("no browser");
    if child.is_err() {
        output::say(&format!("open {server}/ in a browser to watch"));
    }
}

//! Starts a program with an argument list, waits for it, and ends its whole family in time.

use super::output::{Sink, read_output};
use super::{family, launch, outcome, stopped, timed_out};
use crate::domain::effect::{Outcome, OutcomeKind};
use crate::domain::rules::{Limits, Paths};
use rustix::fs::{Access, access};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// The only variables that a program gets from the environment of who starts it, which holds secrets.
const ENVIRONMENT_KEPT: [&str; 3] = ["PATH", "HOME", "LANG"];
/// Where programs are looked for if who starts them was started without a `PATH`.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// From TERM to KILL.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// How long a keeper may take to end everything: its own grace, and the sweeping up.
const KEEPER_GRACE: Duration = Duration::from_secs(7);
/// How long the output may stay open after the program itself has ended.
const OUTPUT_GRACE: Duration = Duration::from_secs(1);
/// How long the kernel may take to end what got KILL, and to close its pipes.
const KILL_GRACE: Duration = Duration::from_millis(300);

/// A program that is ready to be started, with all texts in it: what an executor is sent, too.
/// Without `Debug`, since its variables may be secrets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Task {
    pub(super) argv: Vec<String>,
    pub(super) directory: Option<String>,
    /// Variables beside those of [`ENVIRONMENT_KEPT`].
    pub(super) environment: BTreeMap<String, String>,
    pub(super) limits: Limits,
    pub(super) user: Option<String>,
    pub(super) stdin: Option<String>,
    pub(super) paths: Option<Paths>,
}

/// Runs a program on behalf of this process, to its end, to its deadline, or until it is stopped.
/// What it starts ends with it. With a mark a keeper stands before it; see
/// [`super::Options::keeper_mark`].
pub(super) async fn run(
    task: &Task,
    keeper_mark: Option<&str>,
    sink: Sink,
    timeout: Duration,
    stop: &CancellationToken,
) -> Outcome {
    let Some(name) = task.argv.first() else {
        return outcome(OutcomeKind::Failed, "the command is empty: it needs a program in `argv`");
    };
    let mut child = match prepare(task, name, keeper_mark).and_then(|mut it| it.spawn()) {
        Ok(child) => child,
        Err(error) => return not_started(name, &error),
    };
    let mut group = Group::led_by(&mut child);
    if let (Some(text), Some(lifeline)) = (&task.stdin, &mut group.lifeline) {
        let write = lifeline.write_all(text.as_bytes());
        // A keeper that does not take it will not start the program, either.
        if !matches!(tokio::time::timeout(KEEPER_GRACE, write).await, Ok(Ok(()))) {
            tracing::warn!(program = %name, "a program did not get what it should read");
        }
    }
    let mut reader = read_output(&mut child, sink);
    let mut outcome = tokio::select! {
        biased;
        () = stop.cancelled() => stopped(),
        status = child.wait() => match status {
            Ok(status) => ended(status),
            Err(error) => outcome(OutcomeKind::Failed, format!("waiting for it failed: {error}")),
        },
        () = tokio::time::sleep(timeout) => timed_out(timeout),
    };
    let exited = !matches!(outcome.result, OutcomeKind::Stopped | OutcomeKind::TimedOut);
    if exited && !closed_within(OUTPUT_GRACE, &mut reader).await {
        outcome.detail.push_str("; what it left behind held its output open and was ended");
        group.end(&mut child).await;
    } else if !exited {
        group.end(&mut child).await;
    }
    // What has left the group may still hold the output open; that is not waited for.
    if !reader.is_finished() && !closed_within(KILL_GRACE, &mut reader).await {
        outcome.detail.push_str("; something outside its process group holds its output open");
    }
    group.leader = None;
    outcome
}

fn prepare(task: &Task, name: &str, keeper_mark: Option<&str>) -> std::io::Result<Command> {
    let kept = ENVIRONMENT_KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    let mut command = if keeper_mark.is_some() {
        // Whoever becomes the program later cannot tell the daemon in words why it could not.
        find(name, &own_path(), task.directory.as_deref())?;
        let mut command = Command::new(launch::PROGRAM);
        let order = launch::Order {
            argv: task.argv.clone(),
            limits: task.limits.clone(),
            user: task.user.clone(),
            stdin_bytes: task.stdin.as_ref().map_or(0, String::len),
            paths: task.paths.clone(),
        };
        command.args(launch::arguments(&order)).env_clear().stdin(Stdio::piped());
        command
    } else if task.user.is_some() || task.stdin.is_some() || task.paths.is_some() {
        let text = "`user`, `stdin` and `paths` need the launcher";
        return Err(std::io::Error::new(ErrorKind::Unsupported, text));
    } else {
        let mut command = Command::new(name);
        command.args(task.argv.iter().skip(1)).env_clear();
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    };
    if let Some(directory) = &task.directory {
        command.current_dir(directory);
    }
    command
        .env("PATH", PATH_DEFAULT)
        .envs(kept)
        .envs(&task.environment)
        // Last, since it must be what it is, whatever the step says.
        .envs(keeper_mark.map(|mark| (launch::KEEPER_MARK, mark)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    Ok(command)
}

/// Where this process looks for programs.
pub(super) fn own_path() -> String {
    std::env::var("PATH").unwrap_or_else(|_| PATH_DEFAULT.to_owned())
}

/// Looks whether a program is there and may be executed, where the system would look.
fn find(name: &str, path: &str, directory: Option<&str>) -> std::io::Result<()> {
    let found = |path: &Path| access(path, Access::EXEC_OK).is_ok() && path.is_file();
    if name.contains('/') {
        let place = Path::new(directory.unwrap_or(".")).join(name);
        return match std::fs::metadata(&place) {
            Err(error) => Err(error),
            Ok(_) if found(&place) => Ok(()),
            Ok(_) => Err(ErrorKind::PermissionDenied.into()),
        };
    }
    let is_there = path.split(':').any(|it| found(&Path::new(it).join(name)));
    if is_there { Ok(()) } else { Err(ErrorKind::NotFound.into()) }
}

fn not_started(program: &str, error: &std::io::Error) -> Outcome {
    let (result, detail) = match error.kind() {
        ErrorKind::NotFound => (
            OutcomeKind::Failed,
            format!("program not found: is it, and its interpreter, on the PATH? `{program}`"),
        ),
        ErrorKind::PermissionDenied => {
            (OutcomeKind::Failed, format!("who starts it may not execute `{program}`"))
        }
        ErrorKind::WouldBlock | ErrorKind::OutOfMemory | ErrorKind::ExecutableFileBusy => {
            (OutcomeKind::FailedRetryable, format!("no room to start `{program}`: {error}"))
        }
        _ => (OutcomeKind::Failed, format!("cannot start `{program}`: {error}")),
    };
    outcome(result, detail)
}

fn ended(status: ExitStatus) -> Outcome {
    let Some(code) = status.code() else {
        let number = status.signal().unwrap_or_default();
        // Rustix prints `"Signal::KILL"`, with the quotes.
        let name = Signal::from_named_raw(number).map_or_else(
            || number.to_string(),
            |it| format!("{it:?}").replace("Signal::", "SIG").replace('"', ""),
        );
        return outcome(OutcomeKind::Failed, format!("ended by signal {name}"));
    };
    // Whether a bad exit is worth another attempt only the runbook knows: its `retry` decides.
    let result = if code == 0 { OutcomeKind::Succeeded } else { OutcomeKind::FailedRetryable };
    Outcome { code: Some(code), ..outcome(result, format!("exit code {code}")) }
}

/// Whether both outputs are closed, after waiting for that a while.
async fn closed_within(time: Duration, reader: &mut AbortOnDropHandle<()>) -> bool {
    tokio::time::timeout(time, reader).await.is_ok()
}

/// A program with all that it started: the end of its keeper's lifeline, or a process group that is
/// killed when it is dropped, unless its leader was forgotten before.
struct Group {
    leader: Option<Pid>,
    /// When this is closed, the keeper ends everything; also when the daemon is gone.
    lifeline: Option<ChildStdin>,
}

impl Group {
    fn led_by(child: &mut Child) -> Self {
        let leader = child.id().and_then(|it| i32::try_from(it).ok()).and_then(Pid::from_raw);
        Self { leader, lifeline: child.stdin.take() }
    }

    /// TERM to all; KILL to those that are still there after the grace.
    async fn end(&mut self, child: &mut Child) {
        let Some(pid) = self.leader else { return };
        if let Some(lifeline) = self.lifeline.take() {
            drop(lifeline);
            if tokio::time::timeout(KEEPER_GRACE, wait_for(child)).await.is_err() {
                tracing::warn!(?pid, "a keeper did not end what it keeps");
                while family::signal(pid, Signal::KILL) > 0 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                signal(pid, Signal::KILL);
            }
            return;
        }
        signal(pid, Signal::TERM);
        let gone = async {
            wait_for(child).await;
            while test_kill_process_group(pid).is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(TERM_GRACE, gone).await.is_err() {
            signal(pid, Signal::KILL);
            if tokio::time::timeout(KILL_GRACE, wait_for(child)).await.is_err() {
                tracing::warn!(?pid, "a program did not end on KILL");
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A keeper that is killed could keep nothing; its lifeline is closed by this drop.
        if self.lifeline.is_none()
            && let Some(pid) = self.leader
        {
            signal(pid, Signal::KILL);
        }
    }
}

async fn wait_for(child: &mut Child) {
    if let Err(error) = child.wait().await {
        tracing::warn!(%error, "waiting for a program failed");
    }
}

fn signal(group: Pid, signal: Signal) {
    // The group being gone already is what we want.
    if let Err(error) = kill_process_group(group, signal) {
        tracing::debug!(%error, ?group, ?signal, "a process group got no signal");
    }
}

#[cfg(test)]
mod tests {
    use super::super::output::Secrets;
    use super::super::program::{self, Place, Program};
    use super::*;
    use crate::domain::rules::Bounds;
    use std::time::Instant;

    async fn sh(script: &str, timeout: Duration) -> Outcome {
        let argv = ["sh", "-c", script].map(str::to_owned);
        start(&argv, timeout).await
    }

    async fn start(argv: &[String], timeout: Duration) -> Outcome {
        let program = Program {
            argv,
            bounds: &Bounds::default(),
            environment: &[("WATCHKEEPER_STEP", "a".to_owned())],
            secrets: &Secrets::default(),
            place: &Place::Here { keeper_mark: None },
            board: None,
        };
        program::run(&program, timeout, &CancellationToken::new()).await.unwrap()
    }

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn every_end_has_its_outcome() {
        for (script, result, code, detail, tail) in [
            (
                "echo out; echo err >&2",
                OutcomeKind::Succeeded,
                Some(0),
                "exit code 0",
                "out\nerr\n",
            ),
            ("echo no; exit 3", OutcomeKind::FailedRetryable, Some(3), "exit code 3", "no\n"),
            ("kill -9 $$", OutcomeKind::Failed, None, "ended by signal SIGKILL", ""),
            ("kill -TERM $$", OutcomeKind::Failed, None, "ended by signal SIGTERM", ""),
        ] {
            let outcome = sh(script, LONG).await;
            assert_eq!((outcome.result, outcome.code), (result, code), "{script}");
            assert_eq!((outcome.detail.as_str(), outcome.output_tail.len()), (detail, tail.len()));
        }
    }

    #[tokio::test]
    async fn what_cannot_start_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("no-program");
        std::fs::write(&file, "x").unwrap();
        for (argv, part) in [
            (vec!["watchkeeper-no-such-program".to_owned()], "program not found"),
            (vec![file.display().to_string()], "may not execute"),
            (vec!["echo".to_owned(), "a\0b".to_owned()], "cannot start"),
            (vec![], "needs a program"),
        ] {
            let outcome = start(&argv, LONG).await;
            assert_eq!(outcome.result, OutcomeKind::Failed);
            assert!(outcome.detail.contains(part), "{}", outcome.detail);
        }
    }

    #[tokio::test]
    async fn no_shell_reads_the_arguments() {
        let directory = tempfile::tempdir().unwrap();
        let canary = directory.path().join("canary");
        let touch = format!("touch {}", canary.display());
        let arguments = [
            format!("$({touch})"),
            format!("`{touch}`"),
            format!("; {touch}"),
            format!("a\n{touch}"),
        ];
        let argv: Vec<_> =
            ["printf", "%s|"].map(str::to_owned).into_iter().chain(arguments.clone()).collect();
        let outcome = start(&argv, LONG).await;
        assert_eq!(outcome.output_tail, arguments.map(|it| it + "|").concat());
        assert!(!canary.exists());
    }

    #[tokio::test]
    async fn the_environment_is_ours_alone() {
        // Cargo sets many variables for its tests; none may reach the program.
        assert!(std::env::vars().any(|(name, _)| name.starts_with("CARGO")));
        let outcome = start(&["env".to_owned()], LONG).await;
        let names: Vec<_> =
            outcome.output_tail.lines().filter_map(|it| it.split('=').next()).collect();
        assert!(names.contains(&"PATH") && names.contains(&"WATCHKEEPER_STEP"), "{names:?}");
        for name in names {
            assert!(ENVIRONMENT_KEPT.contains(&name) || name == "WATCHKEEPER_STEP", "{name}");
        }
    }

    #[tokio::test]
    async fn a_flood_is_cut_and_its_end_is_kept() {
        let outcome = sh("head -c 3000000 /dev/zero | tr '\\0' x; printf END", LONG).await;
        assert_eq!(outcome.result, OutcomeKind::Succeeded);
        assert!(outcome.output_tail.len() <= 4096);
        assert!(outcome.output_tail.starts_with("xxx") && outcome.output_tail.ends_with("xEND"));
        let cut = "exit code 0; 2995971 bytes in the middle of its output were cut";
        assert_eq!(outcome.detail, cut);
    }

    fn is_alive(pid: i32) -> bool {
        // A killed process that nobody has waited for yet is dead all the same.
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        state
            .rsplit(')')
            .next()
            .and_then(|it| it.split_whitespace().next())
            .is_some_and(|it| it != "Z")
    }

    async fn gone(pid: i32) -> bool {
        let deadline = Instant::now() + Duration::from_secs(5);
        while is_alive(pid) && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        !is_alive(pid)
    }

    #[tokio::test]
    async fn the_deadline_ends_the_whole_family() {
        for script in [
            "sleep 61 & echo $!; wait",
            // The grandchild ignores TERM and holds no pipe: only KILL to the group reaches it.
            "sh -c 'trap \"\" TERM; echo $$; exec >/dev/null 2>&1; while :; do sleep 0.1; done' & wait",
        ] {
            let began = Instant::now();
            let outcome = sh(script, Duration::from_secs(1)).await;
            assert_eq!(outcome.result, OutcomeKind::TimedOut, "{script}");
            assert_eq!(outcome.detail, "took longer than its time of 1 s");
            assert!(began.elapsed() < Duration::from_secs(6));
            let pid = outcome.output_tail.trim().parse().unwrap();
            assert!(gone(pid).await, "{script}");
        }
    }

    #[tokio::test]
    async fn an_open_pipe_does_not_hang_it() {
        let began = Instant::now();
        let outcome = sh("sleep 62 & echo $!", LONG).await;
        assert_eq!((outcome.result, outcome.code), (OutcomeKind::Succeeded, Some(0)));
        assert!(outcome.detail.contains("held its output open"), "{}", outcome.detail);
        assert!(began.elapsed() < Duration::from_secs(8));
        assert!(gone(outcome.output_tail.trim().parse().unwrap()).await);
    }

    #[tokio::test]
    async fn a_daemon_that_closed_its_output_is_left_alone() {
        let outcome = sh("sleep 5 >/dev/null 2>&1 & echo $!", LONG).await;
        assert_eq!(outcome.detail, "exit code 0");
        let pid: i32 = outcome.output_tail.trim().parse().unwrap();
        assert!(is_alive(pid));
        signal(Pid::from_raw(pid).unwrap(), Signal::KILL);
    }

    #[tokio::test]
    async fn a_dropped_deed_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        let script = format!("sleep 63 & echo $! > {0}.new; mv {0}.new {0}; wait", file.display());
        let deed = tokio::spawn(async move { sh(&script, LONG).await });
        let deadline = Instant::now() + Duration::from_secs(10);
        while !file.exists() {
            assert!(Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let pid = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
        deed.abort();
        assert!(gone(pid).await);
    }
}

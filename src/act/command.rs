//! Starts a program with an argument list, waits for it, and ends its whole family in time.

use super::{Tail, outcome, stopped, timed_out};
use crate::domain::effect::{Outcome, OutcomeKind};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// The only variables that a program gets from the daemon's own environment, which holds secrets.
const ENVIRONMENT_KEPT: [&str; 3] = ["PATH", "HOME", "LANG"];
/// Where programs are looked for if the daemon itself was started without a `PATH`.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// From TERM to KILL.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// How long the output may stay open after the program itself has ended.
const OUTPUT_GRACE: Duration = Duration::from_secs(1);
/// How long the kernel may take to end what got KILL, and to close its pipes.
const KILL_GRACE: Duration = Duration::from_millis(300);

/// Runs a program to its end, to its deadline, or until it is stopped. The program leads a process
/// group of its own, so that what it starts ends with it.
pub(super) async fn run(
    argv: &[String],
    environment: &[(&str, String)],
    timeout: Duration,
    stop: &CancellationToken,
) -> Outcome {
    let Some((program, arguments)) = argv.split_first() else {
        return outcome(OutcomeKind::Failed, "the command is empty: it needs a program in `argv`");
    };
    let mut child = match prepare(program, arguments, environment).spawn() {
        Ok(child) => child,
        Err(error) => return not_started(program, &error),
    };
    let mut group = Group::led_by(&child);
    let (mut reader, tail) = read_output(&mut child);
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
    let (text, cut) = tail.lock().unwrap_or_else(PoisonError::into_inner).text();
    if cut > 0 {
        outcome.detail = format!("{}; the first {cut} bytes of output were cut", outcome.detail);
    }
    outcome.output_tail = text;
    outcome
}

fn prepare(program: &str, arguments: &[String], environment: &[(&str, String)]) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", PATH_DEFAULT)
        .envs(ENVIRONMENT_KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    command
}

fn not_started(program: &str, error: &std::io::Error) -> Outcome {
    let (result, detail) = match error.kind() {
        ErrorKind::NotFound => (
            OutcomeKind::Failed,
            format!(
                "program not found: is it, and its interpreter, on the daemon's PATH? `{program}`"
            ),
        ),
        ErrorKind::PermissionDenied => {
            (OutcomeKind::Failed, format!("the daemon's user may not execute `{program}`"))
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

/// Reads a program's two outputs as they come, until both are closed.
fn read_output(child: &mut Child) -> (AbortOnDropHandle<()>, Arc<Mutex<Tail>>) {
    let tail = Arc::new(Mutex::new(Tail::default()));
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let reading = {
        let tail = Arc::clone(&tail);
        async move {
            tokio::join!(pour(stdout, &tail), pour(stderr, &tail));
        }
    };
    (AbortOnDropHandle::new(tokio::spawn(reading)), tail)
}

/// Whether both outputs are closed, after waiting for that a while.
async fn closed_within(time: Duration, reader: &mut AbortOnDropHandle<()>) -> bool {
    tokio::time::timeout(time, reader).await.is_ok()
}

async fn pour(from: Option<impl AsyncRead + Unpin>, tail: &Mutex<Tail>) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; 8192];
    // A pipe that cannot be read is as good as closed: the exit code decides.
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let chunk = buffer.get(..count).unwrap_or_default();
        tail.lock().unwrap_or_else(PoisonError::into_inner).push(chunk);
    }
}

/// A process group that is killed when it is dropped, unless its leader was forgotten before.
struct Group {
    leader: Option<Pid>,
}

impl Group {
    fn led_by(child: &Child) -> Self {
        let leader = child.id().and_then(|it| i32::try_from(it).ok()).and_then(Pid::from_raw);
        Self { leader }
    }

    /// TERM to all; KILL to those that are still there after the grace.
    async fn end(&self, child: &mut Child) {
        let Some(pid) = self.leader else { return };
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
        if let Some(pid) = self.leader {
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
    use super::*;
    use std::time::Instant;

    async fn sh(script: &str, timeout: Duration) -> Outcome {
        let argv = ["sh", "-c", script].map(str::to_owned);
        run(&argv, &[("WATCHKEEPER_STEP", "a".to_owned())], timeout, &CancellationToken::new())
            .await
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
            let outcome = run(&argv, &[], LONG, &CancellationToken::new()).await;
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
        let outcome = run(&argv, &[], LONG, &CancellationToken::new()).await;
        assert_eq!(outcome.output_tail, arguments.map(|it| it + "|").concat());
        assert!(!canary.exists());
    }

    #[tokio::test]
    async fn the_environment_is_ours_alone() {
        // Cargo sets many variables for its tests; none may reach the program.
        assert!(std::env::vars().any(|(name, _)| name.starts_with("CARGO")));
        let environment = [("WATCHKEEPER_STEP", "a".to_owned())];
        let argv = ["env".to_owned()];
        let outcome = run(&argv, &environment, LONG, &CancellationToken::new()).await;
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
        assert_eq!(outcome.output_tail.len(), 4096);
        assert!(outcome.output_tail.ends_with("xEND"));
        assert_eq!(outcome.detail, "exit code 0; the first 2995907 bytes of output were cut");
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

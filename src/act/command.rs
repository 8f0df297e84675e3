//! Starts a program with an argument list, waits for it, and ends its whole family in time.

use super::live::Board;
use super::output::{Secrets, read_output};
use super::{family, launch, outcome, stopped, timed_out};
use crate::config;
use crate::domain::effect::{EffectKey, Outcome, OutcomeKind};
use crate::domain::rules::{Bounds, SecretText};
use rustix::fs::{Access, access};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// The only variables that a program gets from the daemon's own environment, which holds secrets.
const ENVIRONMENT_KEPT: [&str; 3] = ["PATH", "HOME", "LANG"];
/// Where programs are looked for if the daemon itself was started without a `PATH`.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// From TERM to KILL.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// How long a keeper may take to end everything: its own grace, and the sweeping up.
const KEEPER_GRACE: Duration = Duration::from_secs(7);
/// How long the output may stay open after the program itself has ended.
const OUTPUT_GRACE: Duration = Duration::from_secs(1);
/// How long the kernel may take to end what got KILL, and to close its pipes.
const KILL_GRACE: Duration = Duration::from_millis(300);

/// A program as a step orders it.
pub(super) struct Program<'a> {
    pub(super) argv: &'a [String],
    pub(super) bounds: &'a Bounds,
    /// What the daemon tells it.
    pub(super) environment: &'a [(&'a str, String)],
    /// What is masked in its output.
    pub(super) secrets: &'a Secrets,
    /// See [`super::Options::keeper_mark`].
    pub(super) keeper_mark: Option<&'a str>,
    /// Where what it prints is seen at once, and under which name.
    pub(super) board: Option<(&'a Arc<Board>, &'a EffectKey)>,
}

/// Runs a program to its end, to its deadline, or until it is stopped. What it starts ends with it.
pub(super) async fn run(
    program: &Program<'_>,
    timeout: Duration,
    stop: &CancellationToken,
) -> Outcome {
    let Some(name) = program.argv.first() else {
        return outcome(OutcomeKind::Failed, "the command is empty: it needs a program in `argv`");
    };
    let (own, secrets) = match own_environment(program) {
        Ok(environment) => environment,
        // The file may be in the middle of being renewed.
        Err(error) => return outcome(OutcomeKind::FailedRetryable, error),
    };
    let mut command = match prepare(program, name) {
        Ok(command) => command,
        Err(error) => return not_started(name, &error),
    };
    let mut child = match command.envs(own).spawn() {
        Ok(child) => child,
        Err(error) => return not_started(name, &error),
    };
    let mut group = Group::led_by(&mut child);
    if let (Some(text), Some(lifeline)) = (&program.bounds.stdin, &mut group.lifeline) {
        let write = lifeline.write_all(text.as_bytes());
        // A keeper that does not take it will not start the program, either.
        if !matches!(tokio::time::timeout(KEEPER_GRACE, write).await, Ok(Ok(()))) {
            tracing::warn!(program = %name, "a program did not get what it should read");
        }
    }
    let printing = program.board.map(|(board, key)| board.begin(key, secrets.clone()));
    let (mut reader, output) = read_output(&mut child, printing);
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
    let (text, cut) = output.lock().unwrap_or_else(PoisonError::into_inner).text(&secrets);
    if cut > 0 {
        outcome.detail =
            format!("{}; {cut} bytes in the middle of its output were cut", outcome.detail);
    }
    outcome.output_tail = text;
    outcome
}

/// The variables that the step sets, and the secrets that are masked because of them.
fn own_environment(program: &Program<'_>) -> Result<(BTreeMap<String, String>, Secrets), String> {
    let mut variables = BTreeMap::new();
    let mut hidden = Vec::new();
    for (name, value) in &program.bounds.environment {
        let text = match value {
            SecretText::Text(text) => text.clone(),
            SecretText::File(_) | SecretText::Env(_) => {
                let text = config::read_secret(name, value).map_err(|it| it.to_string())?;
                hidden.push(text.clone());
                text
            }
        };
        variables.insert(name.clone(), text);
    }
    Ok((variables, program.secrets.with(hidden)))
}

fn prepare(program: &Program<'_>, name: &str) -> std::io::Result<Command> {
    let path = std::env::var("PATH").unwrap_or_else(|_| PATH_DEFAULT.to_owned());
    let kept = ENVIRONMENT_KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    let mut command = if let Some(mark) = program.keeper_mark {
        // Whoever becomes the program later cannot tell the daemon in words why it could not.
        find(name, &path, program.bounds.directory.as_deref())?;
        let mut command = Command::new(launch::PROGRAM);
        let order = launch::Order {
            argv: program.argv.to_vec(),
            limits: program.bounds.limits.clone(),
            user: program.bounds.user.clone(),
            stdin_bytes: program.bounds.stdin.as_ref().map_or(0, String::len),
            paths: program.bounds.paths.clone(),
        };
        command.args(launch::arguments(&order)).env_clear();
        command.env(launch::KEEPER_MARK, mark).stdin(Stdio::piped());
        command
    } else if program.bounds.user.is_some()
        || program.bounds.stdin.is_some()
        || program.bounds.paths.is_some()
    {
        let text = "`user`, `stdin` and `paths` need the launcher";
        return Err(std::io::Error::new(ErrorKind::Unsupported, text));
    } else {
        let mut command = Command::new(name);
        command.args(program.argv.iter().skip(1)).env_clear();
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    };
    if let Some(directory) = &program.bounds.directory {
        command.current_dir(directory);
    }
    command
        .env("PATH", PATH_DEFAULT)
        .envs(kept)
        .envs(program.environment.iter().map(|(name, value)| (name, value)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    Ok(command)
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
    use super::*;
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
            keeper_mark: None,
            board: None,
        };
        run(&program, timeout, &CancellationToken::new()).await
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

//! Starts a step's program in bounds: our own binary between the daemon and the program.
//!
//! ```text
//!   daemon ──lifeline──► keeper ──► the binary again, which limits itself and becomes the program
//! ```
//!
//! The keeper is the parent of everything that the program leaves behind, wherever it hides: it is
//! a subreaper. When its lifeline, a pipe, is closed, because the time is up or because the daemon
//! is gone, it ends them all. A program that did what it should may leave something running that
//! does not hold its output; anything else ends with it.

use super::{confine, family};
use crate::domain::rules::{Limits, Paths};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitOptions, WaitStatus, getpid, getuid, set_child_subreaper,
    setrlimit, wait,
};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The program that becomes keeper: this one, also when its file was replaced meanwhile.
pub const PROGRAM: &str = "/proc/self/exe";
/// The variable by which a keeper is known; the program does not get it.
pub const KEEPER_MARK: &str = "WATCHKEEPER_KEEPER";
/// From TERM to KILL.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// How long what is left behind may hold the output open.
const OUTPUT_GRACE: Duration = Duration::from_secs(1);
/// How often what takes a while is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The exit code when the program could not be started.
const NOT_STARTED: u8 = 126;

/// What is to be started, and its bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// What it may use.
    pub limits: Limits,
    /// As which user it runs; `None` = as the daemon.
    pub user: Option<String>,
    /// How many bytes of the lifeline are for it to read, the first ones.
    pub stdin_bytes: usize,
    /// Where it may read and write; `None` = where its user may.
    pub paths: Option<Paths>,
}

/// The arguments by which this binary becomes a keeper.
pub fn arguments(order: &Order) -> Vec<String> {
    let Order { argv, limits, user, stdin_bytes, paths } = order;
    let mut arguments: Vec<String> = vec!["launch".to_owned()];
    arguments.push(format!("--processes={}", limits.processes));
    arguments.push(format!("--files={}", limits.files));
    arguments.extend(limits.memory_bytes.map(|it| format!("--memory-bytes={it}")));
    arguments.extend(limits.file_bytes.map(|it| format!("--file-bytes={it}")));
    arguments.extend(limits.cpu_seconds.map(|it| format!("--cpu-seconds={it}")));
    arguments.extend(limits.new_privileges.then(|| "--new-privileges".to_owned()));
    arguments.extend(user.as_ref().map(|it| format!("--user={it}")));
    arguments.extend((*stdin_bytes > 0).then(|| format!("--stdin-bytes={stdin_bytes}")));
    if let Some(paths) = paths {
        arguments.push("--confined".to_owned());
        arguments.extend(paths.read.iter().map(|it| format!("--read={it}")));
        arguments.extend(paths.write.iter().map(|it| format!("--write={it}")));
        arguments.extend(paths.best_effort.then(|| "--best-effort".to_owned()));
    }
    arguments.push("--".to_owned());
    arguments.extend(argv.iter().cloned());
    arguments
}

/// The children of a keeper and their end.
struct Family {
    keeper: Pid,
    /// Whether everything is to end.
    ending: AtomicBool,
    /// Whether there is no time for a grace.
    hurry: AtomicBool,
}

impl Family {
    /// TERM to all, KILL to what is still there after the grace, until the process ends.
    fn end(&self, grace: Duration) {
        if self.ending.swap(true, Ordering::SeqCst) {
            return;
        }
        family::signal(self.keeper, Signal::TERM);
        let deadline = Instant::now() + grace;
        while Instant::now() < deadline && !self.hurry.load(Ordering::SeqCst) {
            std::thread::sleep(LOOK_EVERY);
        }
        loop {
            // What forks is not faster than this: a process that got KILL forks no more.
            family::signal(self.keeper, Signal::KILL);
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn begin_to_end(self: &Arc<Self>, grace: Duration) {
        let family = self.clone();
        std::thread::spawn(move || family.end(grace));
    }
}

/// Says something into the program's output.
fn note(text: &str) {
    // If nobody reads it, nobody misses it.
    drop(writeln!(std::io::stderr(), "watchkeeper: {text}"));
}

/// Keeps a program: starts it, waits for it, and ends what must end.
pub fn keep(order: &Order) -> ExitCode {
    let limits = &order.limits;
    let mut inside = arguments(order);
    inside.insert(1, "--inside".to_owned());
    let family = Arc::new(Family {
        keeper: getpid(),
        ending: AtomicBool::new(false),
        hurry: AtomicBool::new(false),
    });
    // Without this a double fork would escape.
    if let Err(error) = set_child_subreaper(Some(family.keeper)) {
        note(&format!("cannot become a subreaper: {error}"));
        return ExitCode::from(NOT_STARTED);
    }
    let mut command = Command::new(PROGRAM);
    let stdin = if order.stdin_bytes > 0 { Stdio::piped() } else { Stdio::null() };
    command.args(inside).env_remove(KEEPER_MARK).stdin(stdin).process_group(0);
    let child = match command.spawn() {
        Ok(mut child) => {
            if let Some(stdin) = child.stdin.take() {
                pass_on(stdin, order.stdin_bytes);
            }
            child
        }
        Err(error) => {
            note(&format!("cannot start: {error}"));
            return ExitCode::from(NOT_STARTED);
        }
    };
    hold_lifeline(&family);
    count(&family, limits.processes as usize);
    let status = wait_for_all(&family, Pid::from_child(&child));
    leave_as(status)
}

/// Gives the program what it is to read: the first bytes of the lifeline.
fn pass_on(mut to: std::process::ChildStdin, bytes: usize) {
    let mut text = Vec::new();
    let mut first = std::io::stdin().lock().take(bytes as u64);
    if first.read_to_end(&mut text).is_err() || text.len() < bytes {
        // The daemon is gone, which the lifeline will tell, too.
        return;
    }
    // A program need not read it.
    std::thread::spawn(move || drop(to.write_all(&text)));
}

/// Ends everything when the daemon closes the pipe, or is gone.
fn hold_lifeline(family: &Arc<Family>) {
    let family = family.clone();
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut buffer = [0; 64];
        while matches!(stdin.read(&mut buffer), Ok(1..)) {}
        family.end(TERM_GRACE);
    });
}

/// Ends everything when there are too many processes: root has no such limit of its own.
fn count(family: &Arc<Family>, most: usize) {
    let family = family.clone();
    std::thread::spawn(move || {
        let before = family::count_all().unwrap_or_default();
        loop {
            std::thread::sleep(LOOK_EVERY);
            let is_many = family::count_all().is_none_or(|it| it > before + most / 2);
            if is_many && family::descendants(family.keeper).len() > most {
                note(&format!("more than {most} processes; all of them were ended"));
                family.hurry.store(true, Ordering::SeqCst);
                return family.end(Duration::ZERO);
            }
        }
    });
}

/// Waits for the program and for everything that must end with it.
fn wait_for_all(family: &Arc<Family>, main: Pid) -> Option<WaitStatus> {
    let mut status = None;
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, ended))) if pid == main => {
                status = Some(ended);
                let did_it = ended.exit_status() == Some(0);
                if did_it && !family.ending.load(Ordering::SeqCst) {
                    if is_quiet(family) {
                        return status;
                    }
                    note("what it left behind held its output open and was ended");
                }
                family.begin_to_end(TERM_GRACE);
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return status,
        }
    }
}

/// Whether nothing that was left behind holds the output, after waiting for that a while.
fn is_quiet(family: &Family) -> bool {
    let number = |path| fs::metadata(path).map(|it| it.ino()).ok();
    let outputs: Vec<u64> =
        ["/proc/self/fd/1", "/proc/self/fd/2"].into_iter().filter_map(number).collect();
    let deadline = Instant::now() + OUTPUT_GRACE;
    loop {
        let left = family::descendants(family.keeper);
        if !left.iter().any(|it| family::holds(*it, &outputs)) {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Ends as the program ended.
fn leave_as(status: Option<WaitStatus>) -> ExitCode {
    let Some(status) = status else { return ExitCode::from(NOT_STARTED) };
    if let Some(signal) = status.terminating_signal() {
        if let Some(signal) = Signal::from_named_raw(signal) {
            family::send(getpid(), signal);
        }
        return ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX));
    }
    let code = status.exit_status().unwrap_or_default();
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

/// Limits this process and becomes the program. Returns only when that cannot be done.
pub fn become_program(order: &Order) -> ExitCode {
    let Some((program, arguments)) = order.argv.split_first() else {
        note("there is no program to start");
        return ExitCode::from(NOT_STARTED);
    };
    let account = match order.user.as_deref().map(account).transpose() {
        Ok(account) => account,
        Err(error) => {
            note(&error);
            return ExitCode::from(NOT_STARTED);
        }
    };
    let user = account.as_ref().map_or_else(|| getuid().as_raw(), |it| it.user);
    if let Err(error) = limit(&order.limits, user) {
        note(&format!("cannot limit `{program}`: {error}"));
        return ExitCode::from(NOT_STARTED);
    }
    match order.paths.as_ref().map_or(Ok(true), confine::confine) {
        Ok(true) => {}
        Ok(false) => note("this kernel has no Landlock: the program runs without `paths`"),
        Err(error) => {
            note(&error);
            return ExitCode::from(NOT_STARTED);
        }
    }
    let mut command = Command::new(program);
    command.args(arguments);
    if let Some(Account { name, user, group, home }) = account {
        command.uid(user).gid(group).env("HOME", home).env("USER", &name).env("LOGNAME", name);
    }
    let error = command.exec();
    note(&format!("cannot start `{program}`: {error}"));
    ExitCode::from(NOT_STARTED)
}

/// A user of this machine.
pub(super) struct Account {
    name: String,
    pub(super) user: u32,
    group: u32,
    home: String,
}

/// Finds a user in the system's own list.
pub(super) fn account(name: &str) -> Result<Account, String> {
    let list = fs::read_to_string("/etc/passwd")
        .map_err(|error| format!("cannot read the list of users: {error}"))?;
    let find = |line: &str| {
        let mut fields = line.split(':');
        let is_it = fields.next() == Some(name);
        let (user, group) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        let home = fields.nth(1)?.to_owned();
        is_it.then(|| Account { name: name.to_owned(), user, group, home })
    };
    list.lines().find_map(find).ok_or_else(|| format!("this machine has no user `{name}`"))
}

fn limit(limits: &Limits, user: u32) -> Result<(), String> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: rustix::io::Errno| format!("{what}: {error}")
    };
    // What the daemon inherited from whoever started it is none of the program's business.
    close_fds::set_fds_cloexec(3, &[]);
    // The system counts all that the user has, and root not at all; this holds for whom it becomes.
    let others = family::count_of_user(user) as u64;
    let bounds = [
        (Resource::Core, Some(0), "core"),
        (Resource::Nofile, Some(u64::from(limits.files)), "files"),
        (Resource::As, limits.memory_bytes, "memory"),
        (Resource::Fsize, limits.file_bytes, "file size"),
        (Resource::Cpu, limits.cpu_seconds.map(u64::from), "processor time"),
        (Resource::Nproc, Some(others + u64::from(limits.processes)), "processes"),
    ];
    for (resource, bound, name) in bounds {
        if let Some(bound) = bound {
            let most = rustix::process::getrlimit(resource).maximum;
            let bound = Some(most.map_or(bound, |it| bound.min(it)));
            let both = Rlimit { current: bound, maximum: bound };
            setrlimit(resource, both).map_err(failed(name))?;
        }
    }
    if !limits.new_privileges {
        rustix::thread::set_no_new_privs(true).map_err(failed("no_new_privs"))?;
    }
    Ok(())
}

/// Ends what keepers of a former life of the daemon left; called before anything is done. Returns
/// how many there were.
pub fn end_stranded(mark: &str) -> usize {
    let wanted = format!("{KEEPER_MARK}={mark}");
    let is_ours = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|it| *it == 0).any(|it| it == wanted.as_bytes())
    };
    let stranded: Vec<Pid> = family::all().filter(is_ours).filter_map(Pid::from_raw).collect();
    for keeper in &stranded {
        // The keeper adopts what is orphaned meanwhile, so that it goes last.
        while family::signal(*keeper, Signal::KILL) > 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
        family::send(*keeper, Signal::KILL);
    }
    stranded.len()
}

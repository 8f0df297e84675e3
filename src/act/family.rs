//! The processes that descend from one, as `/proc` knows them: found, told to end, ended.

use rustix::process::{Pid, Signal, kill_process};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// The numbers of all processes.
pub(super) fn all() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|it| it.file_name().to_str()?.parse().ok())
}

/// A process' parent, unless it is over already.
fn parent_of(pid: i32) -> Option<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(parent)
}

/// Everything that descends from a process and is not over, itself not included.
pub(super) fn descendants(of: Pid) -> Vec<Pid> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for pid in all() {
        if let Some(parent) = parent_of(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = BTreeSet::new();
    let mut waiting = vec![of.as_raw_nonzero().get()];
    while let Some(pid) = waiting.pop() {
        for child in children.get(&pid).into_iter().flatten() {
            if found.insert(*child) {
                waiting.push(*child);
            }
        }
    }
    found.into_iter().filter_map(Pid::from_raw).collect()
}

/// Sends a signal to everything that descends from a process. Tells how many there were.
pub(super) fn signal(of: Pid, signal: Signal) -> usize {
    let found = descendants(of);
    for pid in &found {
        send(*pid, signal);
    }
    found.len()
}

/// Sends a signal to a process; one that is gone already is as we want it.
pub(super) fn send(pid: Pid, signal: Signal) {
    if let Err(error) = kill_process(pid, signal) {
        tracing::trace!(%error, ?pid, "a process got no signal");
    }
}

/// Whether a process holds one of these files, by their numbers, open.
pub(super) fn holds(pid: Pid, files: &[u64]) -> bool {
    let folder = PathBuf::from(format!("/proc/{}/fd", pid.as_raw_nonzero()));
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|it| fs::metadata(it.path()).ok()).any(|it| files.contains(&it.ino()))
}

/// How many processes and threads the system has.
pub(super) fn count_all() -> Option<usize> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}

/// How many processes and threads a user has.
pub(super) fn count_of_user(user: u32) -> usize {
    let is_his = |pid: &i32| fs::metadata(format!("/proc/{pid}")).is_ok_and(|it| it.uid() == user);
    let threads = |pid: i32| fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    all().filter(is_his).map(threads).sum()
}

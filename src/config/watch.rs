//! Tells when the files below some folders have changed, whichever way they were changed.
//!
//! Editors write a new file and rename it, or truncate and write; a ConfigMap swaps a link to a
//! folder. So an event of the kernel is only a reason to look: what counts is whether the contents
//! differ from those last seen. Every ten seconds one looks without a reason, because network file
//! systems and containers lose events.

use super::Error;
use super::files::Files;
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

/// How long nothing must happen before one looks: an editor's save is several events.
const QUIET: Duration = Duration::from_millis(200);
/// The longest wait for quiet, in a folder where something happens all the time.
const QUIET_WAIT_MAX: Duration = Duration::from_secs(2);
/// How often one looks although the kernel says nothing.
const POLL: Duration = Duration::from_secs(10);

/// Watches until it is dropped.
pub struct Watcher {
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Watches folders, which need not exist yet, and sends once for each change of the files
/// below them that are read. A signal that waits already is enough, so a channel with room for one will do.
/// Must be called within a tokio runtime.
pub fn watch(folders: Vec<PathBuf>, changed: mpsc::Sender<()>) -> Result<Watcher, Error> {
    watch_every(folders, changed, POLL)
}

fn watch_every(
    folders: Vec<PathBuf>,
    changed: mpsc::Sender<()>,
    poll: Duration,
) -> Result<Watcher, Error> {
    let runtime = tokio::runtime::Handle::try_current().map_err(|_| Error::NoRuntime)?;
    // The kernel reports absolute paths only for watches on absolute paths.
    let folders: Vec<PathBuf> =
        folders.into_iter().map(|it| std::path::absolute(&it).unwrap_or(it)).collect();
    let (waker, woken) = mpsc::channel(1);
    let mut kernel = kernel_watcher(folders.clone(), waker);
    watch_again(kernel.as_mut(), &folders);
    // Read here, so that a change right after this function returns is noticed.
    let seen = contents(&folders);
    let task = runtime.spawn(run(kernel, folders, woken, Loop { changed, poll, seen }));
    Ok(Watcher { task })
}

struct Loop {
    changed: mpsc::Sender<()>,
    poll: Duration,
    /// The hash of the contents last seen.
    seen: String,
}

async fn run(
    mut kernel: Option<RecommendedWatcher>,
    folders: Vec<PathBuf>,
    mut woken: mpsc::Receiver<()>,
    mut state: Loop,
) {
    loop {
        match timeout(state.poll, woken.recv()).await {
            Ok(Some(())) => quiet(&mut woken).await,
            // Without the kernel's word (its sender is gone) there is only the poll.
            Ok(None) => tokio::time::sleep(state.poll).await,
            Err(_) => {}
        }
        let looked_at = folders.clone();
        let looking = tokio::task::spawn_blocking(move || {
            // A swapped link leads elsewhere now, and a new folder is not watched yet.
            watch_again(kernel.as_mut(), &looked_at);
            (kernel, contents(&looked_at))
        });
        let Ok((returned, now)) = looking.await else { return };
        kernel = returned;
        if now != state.seen {
            state.seen = now;
            if state.changed.send(()).await.is_err() {
                return;
            }
        }
    }
}

/// Waits until nothing has happened for a while.
async fn quiet(woken: &mut mpsc::Receiver<()>) {
    let end = Instant::now() + QUIET_WAIT_MAX;
    while Instant::now() < end {
        match timeout_at(end.min(Instant::now() + QUIET), woken.recv()).await {
            Ok(Some(())) => {}
            Ok(None) | Err(_) => return,
        }
    }
}

/// Asks the kernel for events; `None` when it has none to give.
fn kernel_watcher(folders: Vec<PathBuf>, waker: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let handler = move |event: notify::Result<notify::Event>| {
        let of_interest = match &event {
            Ok(event) => {
                !is_reading(event.kind)
                    && (event.need_rescan()
                        || event.paths.iter().any(|path| {
                            folders.iter().any(|it| path.starts_with(it) || it.starts_with(path))
                        }))
            }
            Err(_) => true,
        };
        if of_interest && let Err(mpsc::error::TrySendError::Closed(())) = waker.try_send(()) {
            tracing::trace!("a change came after the end of the watch");
        }
    };
    notify::recommended_watcher(handler)
        .inspect_err(|error| {
            tracing::warn!(%error, "the kernel tells no file changes; looking every 10 s instead");
        })
        .ok()
}

/// Whether an event is only that somebody reads, as we do ourselves.
fn is_reading(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write))
}

/// Watches each folder with all below it, and the nearest folder above it that exists, so that a
/// folder that appears, is renamed or is a link that is swapped is noticed.
fn watch_again(kernel: Option<&mut RecommendedWatcher>, folders: &[PathBuf]) {
    let Some(kernel) = kernel else { return };
    for folder in folders {
        let above = folder.ancestors().skip(1).find(|it| it.is_dir());
        if let Some(above) = above {
            watch_one(kernel, above, RecursiveMode::NonRecursive);
        }
        // The watch is on what the path led to when it was set, so it is set anew each time.
        if let Err(error) = kernel.unwatch(folder) {
            tracing::trace!(%error, "was not watched: {}", folder.display());
        }
        if folder.is_dir() {
            watch_one(kernel, folder, RecursiveMode::Recursive);
        }
    }
}

fn watch_one(kernel: &mut RecommendedWatcher, path: &Path, mode: RecursiveMode) {
    if let Err(error) = kernel.watch(path, mode) {
        tracing::debug!(%error, "cannot watch {}; it is looked at every 10 s", path.display());
    }
}

/// A hash of everything below the folders, files that cannot be read included.
fn contents(folders: &[PathBuf]) -> String {
    let mut files = Files::default();
    for folder in folders {
        files.add_folder(folder);
    }
    let unreadable: Vec<String> =
        files.findings.iter().map(|it| it.file.display().to_string()).collect();
    format!("{} {}", files.revision(), unreadable.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    const DEADLINE: Duration = Duration::from_secs(5);

    /// A folder in which the files of a case live, and the signals.
    struct Case {
        root: tempfile::TempDir,
        signals: mpsc::Receiver<()>,
        _watcher: Watcher,
    }

    /// Polls seldom, so that what is seen in time is seen by the kernel's word.
    fn begin(prepare: impl Fn(&Path)) -> Case {
        let root = tempfile::tempdir().unwrap();
        prepare(root.path());
        let (sender, signals) = mpsc::channel(1);
        let folders = ["rules", "models"].map(|it| root.path().join(it)).to_vec();
        let watcher = watch_every(folders, sender, Duration::from_mins(10)).unwrap();
        Case { root, signals, _watcher: watcher }
    }

    async fn expect_one(case: &mut Case) {
        timeout(DEADLINE, case.signals.recv()).await.expect("no signal in time").unwrap();
        // Once: whatever belongs to the same change has been waited for.
        let more = timeout(QUIET * 3, case.signals.recv()).await;
        assert!(more.is_err(), "a second signal for one change");
    }

    fn one_file(root: &Path) {
        fs::create_dir(root.join("rules")).unwrap();
        fs::write(root.join("rules/a.yaml"), "old").unwrap();
    }

    /// As the kubelet does it.
    fn config_map(root: &Path) {
        let rules = root.join("rules");
        fs::create_dir_all(rules.join("..2026_01")).unwrap();
        fs::write(rules.join("..2026_01/a.yaml"), "old").unwrap();
        symlink("..2026_01", rules.join("..data")).unwrap();
        symlink("..data/a.yaml", rules.join("a.yaml")).unwrap();
    }

    #[tokio::test]
    async fn a_file_that_is_renamed_into_place_is_seen() {
        let mut case = begin(one_file);
        let rules = case.root.path().join("rules");
        fs::write(rules.join(".a.yaml.swp"), "new").unwrap();
        fs::rename(rules.join(".a.yaml.swp"), rules.join("a.yaml")).unwrap();
        expect_one(&mut case).await;
    }

    #[tokio::test]
    async fn a_file_that_is_truncated_and_written_is_seen() {
        let mut case = begin(one_file);
        let path = case.root.path().join("rules/a.yaml");
        drop(fs::File::create(&path).unwrap());
        fs::write(&path, "new").unwrap();
        expect_one(&mut case).await;
    }

    #[tokio::test]
    async fn a_deleted_file_is_seen() {
        let mut case = begin(one_file);
        fs::remove_file(case.root.path().join("rules/a.yaml")).unwrap();
        expect_one(&mut case).await;
    }

    #[tokio::test]
    async fn a_swapped_config_map_is_seen_every_time() {
        let mut case = begin(config_map);
        let rules = case.root.path().join("rules");
        for version in ["..2026_02", "..2026_03"] {
            fs::create_dir(rules.join(version)).unwrap();
            fs::write(rules.join(version).join("a.yaml"), version).unwrap();
            symlink(version, rules.join("..data_tmp")).unwrap();
            fs::rename(rules.join("..data_tmp"), rules.join("..data")).unwrap();
            expect_one(&mut case).await;
        }
    }

    #[tokio::test]
    async fn a_folder_that_is_a_swapped_link_is_seen_and_watched() {
        let mut case = begin(|root| {
            for version in ["v1", "v2"] {
                fs::create_dir(root.join(version)).unwrap();
                fs::write(root.join(version).join("a.yaml"), version).unwrap();
            }
            symlink("v1", root.join("rules")).unwrap();
        });
        let root = case.root.path().to_owned();
        symlink("v2", root.join("next")).unwrap();
        fs::rename(root.join("next"), root.join("rules")).unwrap();
        expect_one(&mut case).await;
        fs::write(root.join("v2/a.yaml"), "newer").unwrap();
        expect_one(&mut case).await;
    }

    #[tokio::test]
    async fn a_folder_that_appears_later_is_seen_and_watched() {
        let mut case = begin(|_| {});
        let models = case.root.path().join("models");
        fs::create_dir(&models).unwrap();
        fs::write(models.join("a.yaml"), "old").unwrap();
        expect_one(&mut case).await;
        fs::create_dir(models.join("sub")).unwrap();
        fs::write(models.join("sub/b.yaml"), "new").unwrap();
        expect_one(&mut case).await;
    }

    #[tokio::test]
    async fn what_leaves_the_contents_as_they_are_is_no_change() {
        let mut case = begin(one_file);
        fs::write(case.root.path().join("rules/a.yaml"), "old").unwrap();
        fs::write(case.root.path().join("rules/notes.md"), "text").unwrap();
        assert!(timeout(QUIET * 5, case.signals.recv()).await.is_err());
    }

    #[tokio::test]
    async fn without_the_kernels_word_a_change_is_seen_by_looking() {
        let root = tempfile::tempdir().unwrap();
        one_file(root.path());
        let folders = vec![root.path().join("rules")];
        let (changed, mut signals) = mpsc::channel(1);
        let (_, woken) = mpsc::channel(1);
        let seen = contents(&folders);
        let poll = Duration::from_millis(50);
        let task = tokio::spawn(run(None, folders, woken, Loop { changed, poll, seen }));
        fs::write(root.path().join("rules/a.yaml"), "new").unwrap();
        timeout(DEADLINE, signals.recv()).await.unwrap().unwrap();
        task.abort();
    }
}

//! What happens when the disk is full: on a real small file system.

use crate::contract::copy_folder;
use crate::model::{Model, at, noise, object};
use crate::{ENGINES, small};
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use watchkeeper::domain::event::{CorrelationDomain, Event};
use watchkeeper::store::{Batch, Commit, Error, Kind, Record, Store, Turn};

/// The size of the records that fill a disk quickly, in bytes.
const LARGE: usize = 20_000;

/// A file system of 24 MiB in memory.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Mounts one; `None` where that is not permitted.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"])
            .arg(folder.path())
            .output();
        match mount {
            Ok(output) if output.status.success() => Some(Self(folder)),
            other => {
                println!("skipped: a tmpfs cannot be mounted here: {other:?}");
                None
            }
        }
    }

    fn store(&self) -> PathBuf {
        self.0.path().join("store")
    }

    /// Takes up space, all that is left if need be.
    fn take(&self, name: &str, bytes: usize) {
        let mut file = File::create(self.0.path().join(name)).unwrap();
        let page = [1; 4096];
        for _ in 0..bytes / page.len() {
            if file.write_all(&page).is_err() {
                return;
            }
        }
    }

    fn give_back(&self, name: &str) {
        std::fs::remove_file(self.0.path().join(name)).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|it| it.success()), "the small disk stays mounted");
    }
}

fn append(seq: u64, size: usize) -> Batch {
    let event = Event::RecordPoisoned { seq, reason: noise(seq, size) };
    let record = Record { seq, correlation_domain: CorrelationDomain(0), events: vec![event] };
    Batch { appends: vec![record], ..Batch::default() }
}

fn results(seq: u64) -> Batch {
    let turns = vec![Turn { now: at(seq), seq: Some(seq), poisoned: false }];
    let puts = vec![object(Kind::Incident, format!("INC-{seq}"), "open")];
    Batch { commit: Some(Commit { turns, puts, ..Commit::default() }), ..Batch::default() }
}

/// Appends until the store takes no more; returns the last `seq` that it took, and why.
fn fill(store: &dyn Store, model: &mut Model, seq: u64, size: usize) -> (u64, Error) {
    fill_with(store, model, seq, &|seq| append(seq, size))
}

fn fill_with(
    store: &dyn Store,
    model: &mut Model,
    mut seq: u64,
    batch: &dyn Fn(u64) -> Batch,
) -> (u64, Error) {
    loop {
        let batch = batch(seq + 1);
        match store.write(&batch) {
            Ok(()) => model.write(&batch),
            Err(error) => return (seq, error),
        }
        seq += 1;
        assert!(seq < 100_000, "24 MiB cannot hold this");
    }
}

#[test]
fn a_full_disk_refuses_keeps_and_recovers() {
    for (name, open) in ENGINES {
        let Some(disk) = SmallDisk::mount() else { return };
        disk.take("other", 6 << 20);
        let store = open(&disk.store());
        let mut model = Model::default();
        let (seq, error) = fill(&*store, &mut model, 0, LARGE);
        assert!(matches!(error, Error::Full(_)), "{error}");
        assert!(seq > 100, "24 MiB are hardly used: {seq} records of 20 kB");
        println!("{name}: full after {seq} records; {:?}", store.health());

        let start = Instant::now();
        assert!(matches!(store.write(&append(seq + 1, LARGE)), Err(Error::Full(_))));
        assert!(start.elapsed() < Duration::from_millis(100), "refused late");
        model.assert_same(&*store);
        store.write(&results(seq)).expect("results of turns are still written");
        model.write(&results(seq));

        // Now somebody else takes the very last byte: results go on in the store's own space.
        disk.take("rest", 24 << 20);
        model.assert_same(&*store);
        assert!(matches!(store.write(&append(seq + 1, LARGE)), Err(Error::Full(_))));
        for count in 0..300 {
            match store.write(&results(seq)) {
                Ok(()) => model.write(&results(seq)),
                Err(Error::Full(_)) if count > 100 => break,
                Err(error) => panic!("after {count} results on the full disk: {error}"),
            }
        }
        model.assert_same(&*store);
        drop(store);
        for round in 0..3 {
            disk.take(&format!("rest {round}"), 24 << 20);
            let store = open(&disk.store());
            model.assert_same(&*store);
            assert!(matches!(store.write(&append(seq + 1, LARGE)), Err(Error::Full(_))));
            disk.take(&format!("more {round}"), 24 << 20);
            model.assert_same(&*store);
        }
        let store = open(&disk.store());
        for round in 0..3 {
            disk.give_back(&format!("rest {round}"));
            disk.give_back(&format!("more {round}"));
        }
        disk.give_back("rest");
        disk.give_back("other");
        let (more, error) = fill(&*store, &mut model, seq, LARGE);
        assert!(matches!(error, Error::Full(_)), "{error}");
        assert!(more > seq + 50, "the space that came back is hardly used: {}", more - seq);
        model.assert_same(&*store);
        drop(store);
        model.assert_same(&*open(&disk.store()));
    }
}

/// Somebody else takes all the space and gives it back, at any moment of a write: the store may
/// refuse, but it never fails, and reads go on.
#[test]
fn space_that_comes_and_goes_never_stops_a_store() {
    for (name, open) in ENGINES {
        let Some(disk) = SmallDisk::mount() else { return };
        let store = open(&disk.store());
        let mut model = Model::default();
        let stopped = AtomicBool::new(false);
        let (mut seq, mut refused) = (0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stopped.load(Ordering::SeqCst) {
                    disk.take("thief", 24 << 20);
                    std::thread::sleep(Duration::from_millis(5));
                    disk.give_back("thief");
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
            for round in 0..2000_u64 {
                let mut batch = append(seq + 1, 500);
                if round % 3 == 0 {
                    batch = results(seq);
                }
                match store.write(&batch) {
                    Ok(()) => {
                        model.write(&batch);
                        seq += batch.appends.len() as u64;
                    }
                    Err(Error::Full(_)) => refused += 1,
                    Err(error) => {
                        stopped.store(true, Ordering::SeqCst);
                        panic!("{name}: after {seq} records: {error}");
                    }
                }
                if round % 200 == 0 {
                    model.assert_same(&*store);
                }
            }
            stopped.store(true, Ordering::SeqCst);
        });
        println!("{name}: {seq} records were taken, {refused} batches were refused");
        assert!(seq > 0 && refused > 0, "{seq} taken, {refused} refused");
        model.assert_same(&*store);
        drop(store);
        model.assert_same(&*open(&disk.store()));
    }
}

/// When sled's own files are on another disk than the folder, the end of that disk counts.
#[test]
fn the_end_of_the_databases_own_disk_is_noticed_before_sled_meets_it() {
    let Some(disk) = SmallDisk::mount() else { return };
    let folder = tempfile::tempdir().unwrap();
    let open = || watchkeeper::store::sled::open(folder.path(), small()).unwrap();
    drop(open());
    let database = folder.path().join("sled");
    copy_folder(&database, &disk.store());
    std::fs::remove_dir_all(&database).unwrap();
    std::os::unix::fs::symlink(disk.store(), &database).unwrap();

    disk.take("other", 12 << 20);
    let store = open();
    let mut model = Model::default();
    let large = |seq| {
        let mut batch = results(seq);
        let commit = batch.commit.as_mut().unwrap();
        commit.turns[0].seq = None;
        commit.puts.push(object(Kind::Rules, format!("rules-{seq}"), noise(seq, LARGE)));
        batch
    };
    let (seq, error) = fill_with(&store, &mut model, 0, &large);
    assert!(seq > 0 && matches!(error, Error::Full(_)), "after {seq} results: {error}");
    store.write(&append(1, LARGE)).unwrap();
    model.write(&append(1, LARGE));
    model.assert_same(&store);
    disk.give_back("other");
    store.write(&large(seq + 1)).unwrap();
    model.write(&large(seq + 1));
    model.assert_same(&store);
}

//! What a power loss can leave of a store: thousands of images of its folder, each of which must
//! open and hold everything that was acknowledged. `crash_images/disk.rs` tells what is modelled.
#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::print_stdout, reason = "a test tells what it saw")]

#[path = "crash_images/disk.rs"]
mod disk;
#[path = "crash_images/judge.rs"]
mod judge;
#[path = "crash_images/lot.rs"]
mod lot;
#[path = "crash_images/plain.rs"]
mod plain;
#[path = "crash_images/recording.rs"]
mod recording;
#[path = "crash_images/workload.rs"]
mod workload;

use disk::{Disk, Loss};
use judge::{Failure, check_store, files, judge_images, leave_image};
use lot::Lot;
use recording::{Recording, WORKLOAD, record, watched_folder};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use watchkeeper::store::{self, EmbeddedStore, Engine, Error, Options};

/// Where the store is below the root; two folders that it has to make itself.
const STORE: &str = "data/store";
/// How many images a run makes of each engine, if `WATCHKEEPER_IMAGES` does not tell.
const IMAGES: usize = 1_000;
/// How many images the controls make.
const CONTROL_IMAGES: usize = 200;
/// How many images are made of one recording.
const IMAGES_PER_RECORDING: usize = 250;
/// How many images are checked at once.
const THREADS: usize = 2;
/// What all chance follows from, if `WATCHKEEPER_IMAGES_SEED` does not tell.
const SEED: u64 = 1;

/// Opens the store in a folder, or makes it. The other thread may be about to start a recorder, and
/// a child holds on to the locks of this process until it has become another program.
fn open(engine: Engine, folder: &Path) -> Result<EmbeddedStore, Error> {
    let patience = Instant::now() + Duration::from_secs(10);
    loop {
        let options = Options { cache_bytes: 4 * 1024 * 1024, ..Options::default() };
        match store::open(engine, folder, options) {
            Err(error) if error.to_string().contains("in use") && Instant::now() < patience => {
                std::thread::sleep(Duration::from_millis(5));
            }
            opened => return opened,
        }
    }
}

/// A new folder, in memory if there is room.
fn room() -> TempDir {
    let memory = Path::new("/dev/shm");
    let is_roomy = rustix::fs::statvfs(memory).is_ok_and(|it| it.f_bavail * it.f_frsize > 1 << 30);
    let mut builder = tempfile::Builder::new();
    builder.prefix("watchkeeper-images-");
    if is_roomy { builder.tempdir_in(memory) } else { builder.tempdir() }.unwrap()
}

/// Plays the child, if this process is one.
fn run_workload_as_child() -> bool {
    let Ok(workload) = std::env::var(WORKLOAD) else { return false };
    let root = watched_folder();
    let (name, argument) = workload.split_once(' ').unwrap();
    match name {
        "plain" => plain::run(&root, argument == "synced"),
        name => {
            workload::run(name.parse().unwrap(), &root.join(STORE), argument.parse().unwrap());
        }
    }
    true
}

/// The recorder misses nothing: what it saw adds up to the real folder, byte for byte.
#[test]
fn a_recorded_workload_adds_up_to_its_folder() {
    if run_workload_as_child() {
        return;
    }
    for engine in Engine::ALL {
        let recording = record(&format!("{} {SEED}", engine.name()), |_| ());
        let mut disk = Disk::default();
        recording.steps.iter().for_each(|it| disk.apply(it));
        let image = room();
        disk.build(Loss::Nothing, &mut Lot::new(SEED), image.path());
        let (image, real) = (files(image.path()), files(&recording.root()));
        assert!(image.keys().eq(real.keys()), "{:?} {:?}", image.keys(), real.keys());
        let same = image.iter().filter(|(name, bytes)| real.get(*name) == Some(bytes)).count();
        assert_eq!(same, real.len(), "files that are the same");
        println!("{}: {} steps, {same} files the same", engine.name(), recording.steps.len());
    }
}

#[test]
fn sled_keeps_what_it_acknowledged() {
    keeps_what_it_acknowledged(Engine::Sled);
}

#[test]
fn redb_keeps_what_it_acknowledged() {
    keeps_what_it_acknowledged(Engine::Redb);
}

/// The images bite: sled alone loses what its `flush` acknowledged, and with `fdatasync` after each
/// flush it still does not open after a power loss soon after it was made.
#[test]
fn without_our_guards_images_are_bad() {
    for (workload, sentence) in [("plain flushed", "lost"), ("plain synced", "does not open")] {
        let recording = record(workload, |_| ());
        let failures = judge_images(&recording, (SEED, CONTROL_IMAGES), &plain::check);
        let found = failures.iter().filter(|it| it.why.starts_with(sentence)).count();
        let bad = failures.len();
        println!("{workload}: {CONTROL_IMAGES} images, {bad} bad, {found} of them: {sentence}");
        assert!(found > CONTROL_IMAGES / 20, "the images find nothing");
    }
}

fn keeps_what_it_acknowledged(engine: Engine) {
    let number = |name| std::env::var(name).ok().map(|it| it.parse::<usize>().expect("a number"));
    let images = number("WATCHKEEPER_IMAGES").unwrap_or(IMAGES);
    let seed = number("WATCHKEEPER_IMAGES_SEED").map_or(SEED, |it| it as u64);
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut before: Option<Recording> = None;
                while let Some(left) = images
                    .checked_sub(next.fetch_add(IMAGES_PER_RECORDING, Ordering::Relaxed))
                    .filter(|it| *it > 0)
                {
                    let seed = seed.wrapping_add(left as u64);
                    // Every second one goes on with what a power loss left of the one before.
                    let recording = record(&format!("{} {seed}", engine.name()), |root| {
                        if let Some(before) = &before {
                            leave_image(before, seed, root);
                        }
                    });
                    let count = left.min(IMAGES_PER_RECORDING);
                    let failed = judge_images(&recording, (seed, count), &|root, promise| {
                        check_store(engine, root, promise)
                    });
                    let told = failed.into_iter().map(|it| told(seed, it));
                    failures.lock().unwrap().extend(told);
                    before = if before.is_none() { Some(recording) } else { None };
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    println!("{}: {images} images, seed {seed}, {} bad", engine.name(), failures.len());
    failures.iter().take(10).for_each(|it| println!("{it}"));
    assert!(failures.is_empty(), "{} of {images} images are bad", failures.len());
}

/// A failure in words; its image stays on the disk.
fn told(seed: u64, Failure { place: (cut, loss), why, image }: Failure) -> String {
    let kept = image.map_or(String::new(), |it| format!(", kept in `{}`", it.keep().display()));
    format!("recording {seed}, after step {cut}, {loss:?} lost{kept}: {why}")
}

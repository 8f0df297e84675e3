//! Damage anywhere in a store's folder: everything is there, or it is told. Never a lie.
#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use crate::care::lines;
use crate::model::{at, batch};
use crate::small;
use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use watchkeeper::domain::event::Event;
use watchkeeper::store::{EmbeddedStore, Engine, Error, Object, Store, care, open, snapshot};

/// How many stores are damaged; `WATCHKEEPER_DAMAGES` says otherwise.
const DAMAGES: u64 = 2000;
/// How much is written into a store before.
const BATCHES: u64 = 90;
/// Every so many damaged stores is healed.
const HEAL_EVERY: u64 = 5;
/// Longer than this is a hang.
const CASE_TIMEOUT: Duration = Duration::from_secs(30);

fn damages() -> u64 {
    std::env::var("WATCHKEEPER_DAMAGES").ok().map_or(DAMAGES, |it| it.parse().unwrap())
}

/// A store as it was written.
struct Good {
    engine: Engine,
    left: Left,
    /// Each file with its path in the folder; the reserve holds nothing.
    files: Vec<(PathBuf, Vec<u8>)>,
    lines: Vec<String>,
    objects: Vec<Object>,
    snapshots: tempfile::TempDir,
}

/// Memory, where there is some for files: the disk has no part in this.
fn quick_folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// How the store was left before it is damaged.
#[derive(Clone, Copy, Debug)]
enum Left {
    /// Closed and opened again, so that the engine has tidied up.
    Closed,
    /// As `kill -9` leaves it: the engine must go through what it wrote last.
    Killed,
}

fn good(engine: Engine, left: Left) -> Good {
    let place = quick_folder();
    let folder = place.path().join("store");
    let mut store = open(engine, &folder, small()).unwrap();
    for n in 1..=BATCHES {
        store.write(&batch(n)).unwrap();
    }
    while store.retain(at(5), 50).unwrap() > 0 {}
    let snapshots = quick_folder();
    snapshot::take(&store, snapshots.path(), at(1000)).unwrap();
    let (lines, objects) = (lines(&store).unwrap(), store.load().unwrap().objects);
    if matches!(left, Left::Closed) {
        drop(store);
        store = open(engine, &folder, small()).unwrap();
    }
    let mut files = Vec::new();
    collect(&folder, &folder, &mut files);
    drop(store);
    files.sort();
    Good { engine, left, files, lines, objects, snapshots }
}

fn collect(folder: &Path, top: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, top, files);
        } else if !path.ends_with("reserve") {
            let name = path.strip_prefix(top).unwrap().to_owned();
            files.push((name, fs::read(&path).unwrap()));
        }
    }
}

/// Numbers that follow from a seed (`SplitMix64`).
struct Lot(u64);

impl Lot {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) >> 1).unwrap() % end.max(1)
    }
}

/// Damages one file; the database's own more often than the others. Tells what was done.
fn damage(files: &mut [(PathBuf, Vec<u8>)], lot: &mut Lot) -> String {
    let largest = (0..files.len()).max_by_key(|it| files[*it].1.len()).unwrap();
    let number = if lot.below(4) > 0 { largest } else { lot.below(files.len()) };
    let (name, bytes) = &mut files[number];
    let place = lot.below(bytes.len());
    let what = match lot.below(4) {
        0 => {
            bytes.truncate(place);
            "cut off"
        }
        1 => {
            let page = place / 4096 * 4096;
            let end = (page + 4096).min(bytes.len());
            bytes[page..end].fill(0);
            "page of zeros"
        }
        _ if bytes.is_empty() => "empty as before",
        _ => {
            bytes[place] ^= 1 << lot.below(8);
            "bit flipped"
        }
    };
    format!("{} at {place} of {}", what, name.display())
}

/// Opens a damaged store and asks it for everything. Tells how it ended.
fn ask(good: &Good, seed: u64) -> &'static str {
    let place = quick_folder();
    let folder = place.path().join("store");
    let mut files = good.files.clone();
    let what = damage(&mut files, &mut Lot(seed));
    write(&files, &folder);
    let case = format!("seed {seed}, {} {:?}: {what}", good.engine.name(), good.left);
    match open(good.engine, &folder, small()) {
        Err(Error::Unusable(_)) => "refused",
        Err(Error::Damaged(_)) => {
            if seed.is_multiple_of(HEAL_EVERY) {
                // What was opened is not what it was: an engine mends some damage while it refuses it.
                fs::remove_dir_all(&folder).unwrap();
                write(&files, &folder);
                return heal(good, &folder, &case);
            }
            "told at the opening"
        }
        Err(other) => panic!("{case}: neither good nor damaged: {other}"),
        Ok(store) => look(good, &store, &case),
    }
}

fn write(files: &[(PathBuf, Vec<u8>)], folder: &Path) {
    for (name, bytes) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// What opened holds every open object, and its history or the word that it does not.
fn look(good: &Good, store: &EmbeddedStore, case: &str) -> &'static str {
    let loaded = store.load().unwrap();
    assert!(loaded.objects == good.objects, "{case}: open objects are lost");
    let findings = store.verify();
    match lines(store) {
        Ok(lines) => {
            assert!(lines == good.lines, "{case}: the history is not the same");
            // Marks that are not exported may be named all the same.
            "all there"
        }
        Err(error) => {
            assert!(!findings.is_empty(), "{case}: not named, but {error}");
            "history told"
        }
    }
}

/// Opens it as the daemon does. An engine whose threads race may refuse a damage once and mend it
/// the next time; then nothing is healed, and all must be there as in any store that opens.
fn heal(good: &Good, folder: &Path, case: &str) -> &'static str {
    let store = care::open_healing(Some(good.engine), folder, good.snapshots.path()).unwrap();
    let loaded = store.load().unwrap();
    let records = store.records(loaded.watermark, 10).unwrap();
    let last = records.last().map(|it| &it.events[..]);
    let Some([Event::StoreHealed(healing)]) = last else { return look(good, &store, case) };
    assert!(loaded.objects == good.objects, "{case}: not as in the snapshot");
    assert!(Path::new(&healing.aside).join(good.engine.name()).exists(), "{case}");
    "healed"
}

/// Each damage is one case; the two threads share them.
#[test]
fn a_damaged_store_never_panics_never_hangs_and_never_lies() {
    quiet_panics();
    let goods: Vec<Good> = Engine::ALL
        .into_iter()
        .flat_map(|engine| [Left::Closed, Left::Killed].map(|left| good(engine, left)))
        .collect();
    let next = AtomicU64::new(0);
    let failed = AtomicBool::new(false);
    let ends: Mutex<BTreeMap<(&str, &str), u64>> = Mutex::default();
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= damages() || failed.load(Ordering::SeqCst) {
                return;
            }
            let good = &goods[usize::try_from(seed).unwrap() % goods.len()];
            let begun = Instant::now();
            let end = catch_unwind(AssertUnwindSafe(|| ask(good, seed)));
            assert!(begun.elapsed() < CASE_TIMEOUT, "seed {seed} hangs");
            let Ok(end) = end else {
                failed.store(true, Ordering::SeqCst);
                panic!("seed {seed}, {}: failed or panicked", good.engine.name());
            };
            *ends.lock().unwrap().entry((good.engine.name(), end)).or_default() += 1;
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(work);
        }
    });
    assert!(!WE_PANICKED.load(Ordering::SeqCst));
    for ((engine, end), count) in ends.lock().unwrap().iter() {
        println!("{engine}: {end}: {count}");
    }
}

/// Whether our own code panicked, though it was caught.
static WE_PANICKED: AtomicBool = AtomicBool::new(false);

/// The engines panic on some damage, which is caught and is no news.
fn quiet_panics() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map_or("", |it| it.file());
        WE_PANICKED.fetch_or(place.starts_with("src/"), Ordering::SeqCst);
        if place.starts_with("src/") || place.starts_with("tests/") {
            tell(panic);
        }
    }));
}

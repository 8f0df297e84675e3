//! What every engine behind `trait Store` must do. Another engine is one more line in `ENGINES`.
#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::print_stdout, reason = "a test tells what it saw")]

#[path = "store/care.rs"]
mod care;
#[path = "store/contract.rs"]
mod contract;
#[path = "store/corrupt.rs"]
mod corrupt;
#[path = "store/crash.rs"]
mod crash;
#[path = "store/disk_full.rs"]
mod disk_full;
#[path = "store/folder.rs"]
mod folder;
#[path = "store/history.rs"]
mod history;
#[path = "store/model.rs"]
mod model;
#[path = "store/redb.rs"]
mod redb;
#[path = "store/sled.rs"]
mod sled;

use std::path::Path;
use watchkeeper::store::{self, Store};

/// How an engine opens a store in a folder.
type Open<'a> = &'a dyn Fn(&Path) -> Box<dyn Store>;

/// An engine's name, and how it opens a store.
type Engine = (&'static str, fn(&Path) -> Box<dyn Store>);

/// All engines.
const ENGINES: &[Engine] = &[
    ("sled", |folder| Box::new(store::open(store::Engine::Sled, folder, small()).unwrap())),
    ("redb", |folder| Box::new(store::open(store::Engine::Redb, folder, small()).unwrap())),
];

/// Options for many small stores at once.
fn small() -> store::Options {
    store::Options { cache_bytes: 4 * 1024 * 1024, ..Default::default() }
}

/// Runs a check on each engine, each in a new folder.
fn on_each_engine(check: fn(Open<'_>, &Path)) {
    for (name, open) in ENGINES {
        println!("engine: {name}");
        let folder = tempfile::tempdir().unwrap();
        check(open, &folder.path().join("store"));
    }
}

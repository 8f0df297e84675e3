//! A store's folder: whose it is, which version wrote it, and that one process has it at a time.

use crate::model::{Model, batch};
use crate::{ENGINES, on_each_engine, small};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use watchkeeper::store::{Engine, Error, Store, open};

/// Tells the child process which folder to open, and with which engine.
const FOLDER: &str = "WATCHKEEPER_TEST_STORE";
const ENGINE: &str = "WATCHKEEPER_TEST_ENGINE";

fn refusal(engine: Engine, folder: &Path) -> String {
    match open(engine, folder, small()) {
        Err(Error::Unusable(why) | Error::Damaged(why)) => why,
        Err(other) => panic!("not as unusable, but: {other}"),
        Ok(_) => panic!("opened"),
    }
}

fn filled(store: &dyn Store) -> Model {
    let mut model = Model::default();
    for n in 1..=10 {
        store.write(&batch(n)).unwrap();
        model.write(&batch(n));
    }
    model
}

#[test]
fn the_folder_of_another_engine_or_a_newer_program_is_refused() {
    for engine in Engine::ALL {
        let folder = tempfile::tempdir().unwrap();
        let model = filled(&open(engine, folder.path(), small()).unwrap());
        for other in Engine::ALL.into_iter().filter(|it| *it != engine) {
            let why = refusal(other, folder.path());
            let way_out = format!("watchkeeper store migrate --to {}", other.name());
            assert!(why.contains(&way_out) && why.contains(engine.name()), "{why}");
        }
        let label = folder.path().join("STORE");
        let ours = fs::read(&label).unwrap();
        let newer = format!(r#"{{"engine":"{}","format":99}}"#, engine.name());
        for (theirs, expected) in [(newer.as_str(), "newer version"), ("", "restore it")] {
            fs::write(&label, theirs).unwrap();
            let why = refusal(engine, folder.path());
            assert!(why.contains(expected), "{why}");
        }
        fs::remove_file(&label).unwrap();
        assert!(refusal(engine, folder.path()).contains("STORE"));
        fs::write(&label, ours).unwrap();
        model.assert_same(&open(engine, folder.path(), small()).unwrap());
    }
}

#[test]
fn missing_data_are_not_taken_for_a_new_store() {
    for engine in Engine::ALL {
        let folder = tempfile::tempdir().unwrap();
        filled(&open(engine, folder.path(), small()).unwrap());
        let database = folder.path().join(engine.name());
        fs::rename(&database, folder.path().join("elsewhere")).unwrap();
        assert!(refusal(engine, folder.path()).contains("missing"));
        fs::create_dir(&database).unwrap();
        assert!(refusal(engine, folder.path()).contains("restore a backup"), "an empty folder");
    }
}

#[test]
fn one_store_is_open_once() {
    for engine in Engine::ALL {
        let folder = tempfile::tempdir().unwrap();
        let store = open(engine, folder.path(), small()).unwrap();
        let why = refusal(engine, folder.path());
        assert!(why.contains(&std::process::id().to_string()), "{why}");
        drop(store);
        open(engine, folder.path(), small()).unwrap();
    }
}

/// A second process is refused as long as the first one lives, and finds all that it wrote.
#[test]
fn two_processes_never_write_one_store() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        hold(&std::env::var(ENGINE).unwrap(), Path::new(&folder));
    }
    for (name, open) in ENGINES {
        let folder = tempfile::tempdir().unwrap();
        let holder = start(name, folder.path());
        let engine = name.parse().unwrap();
        for _ in 0..3 {
            let why = refusal(engine, folder.path());
            assert!(why.contains(&holder.0.id().to_string()), "{name}: {why}");
        }
        drop(holder);
        let mut model = Model::default();
        (1..=10).for_each(|n| model.write(&batch(n)));
        let store = open(folder.path());
        model.assert_same(&*store);
        store.write(&batch(11)).unwrap();
        model.write(&batch(11));
        model.assert_same(&*store);
    }
}

/// A process that has a store open; it ends with `kill -9`.
struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Starts a process that opens the store, writes, and tells when it has.
fn start(engine: &str, folder: &Path) -> Holder {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["folder::two_processes_never_write_one_store", "--exact", "--nocapture"])
        .env(FOLDER, folder)
        .env(ENGINE, engine)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|it| it == "written"), "the process ended");
    Holder(child)
}

fn hold(engine: &str, folder: &Path) -> ! {
    let store = open(engine.parse().unwrap(), folder, small()).unwrap();
    filled(&store);
    println!("\nwritten");
    loop {
        std::thread::park();
    }
}

#[test]
fn a_store_that_is_opened_again_and_again_stays_as_it_is() {
    on_each_engine(|open, folder| {
        let model = filled(&*open(folder));
        for _ in 0..10 {
            model.assert_same(&*open(folder));
        }
    });
}

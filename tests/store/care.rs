//! Care of a store: its content as a whole, backups, snapshots, healing, and stores of old.

use crate::contract::copy_folder;
use crate::model::{Model, at, batch};
use crate::small;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use watchkeeper::domain::event::Event;
use watchkeeper::store::{EmbeddedStore, Engine, Error, Kind, Scope, Store, care, open, snapshot};

/// A store in which something is old enough to be removed, and its model.
fn filled(engine: Engine, folder: &Path) -> Model {
    let store = open(engine, folder, small()).unwrap();
    let mut model = Model::default();
    for n in 1..=30 {
        store.write(&batch(n)).unwrap();
        model.write(&batch(n));
    }
    model
}

/// Everything that is in a store, a line for each entry.
pub(crate) fn lines(store: &EmbeddedStore) -> Result<Vec<String>, Error> {
    let mut lines = Vec::new();
    store.export(&mut |entry| {
        lines.push(serde_json::to_string(&entry).unwrap());
        Ok(())
    })?;
    Ok(lines)
}

/// A folder with a store's folder in it, as a daemon has it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn store(&self) -> PathBuf {
        self.0.path().join("store")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What stands beside the store.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn other(engine: Engine) -> Engine {
    Engine::ALL.into_iter().find(|it| *it != engine).unwrap()
}

#[test]
fn a_backup_restored_into_either_engine_is_the_same_store() {
    for engine in Engine::ALL {
        let place = Place::new();
        let mut model = filled(engine, &place.store());
        let store = open(engine, &place.store(), small()).unwrap();
        while store.retain(at(10), 50).unwrap() > 0 {}
        let expected = lines(&store).unwrap();
        assert!(expected.len() > 100, "{}", expected.len());
        let open_before = (store.load().unwrap().objects, store.load().unwrap().effects);
        drop(store);
        model.write(&batch(31));
        let file = place.path("backup");
        let count = care::backup(&place.store(), &file, at(0)).unwrap();
        assert_eq!(count, expected.len() as u64);
        for target in [None, Some(other(engine))] {
            let folder = place.path(target.map_or("same", Engine::name));
            let (header, entries) = care::restore(&file, &folder, target).unwrap();
            assert_eq!((header.made_at, entries), (at(0), count));
            let store = open(target.unwrap_or(engine), &folder, small()).unwrap();
            assert_eq!(lines(&store).unwrap(), expected);
            assert_eq!(store.verify(), Vec::<String>::new());
            let loaded = store.load().unwrap();
            assert_eq!((loaded.objects, loaded.effects), open_before);
            // It goes on as the first one would.
            store.write(&batch(31)).unwrap();
            while store.retain(at(25), 50).unwrap() > 0 {}
            model.assert_history(&store);
        }
        assert!(care::restore(&file, &place.store(), None).is_err(), "there is a store already");
    }
}

#[test]
fn a_damaged_backup_restores_nothing() {
    let place = Place::new();
    filled(Engine::Redb, &place.store());
    let file = place.path("backup");
    care::backup(&place.store(), &file, at(0)).unwrap();
    let mut bytes = fs::read(&file).unwrap();
    bytes.truncate(bytes.len() - 10);
    fs::write(&file, bytes).unwrap();
    let error = care::restore(&file, &place.path("new"), None).unwrap_err().to_string();
    assert!(error.contains("line "), "{error}");
    assert_eq!(place.names(), ["backup", "store"]);
}

#[test]
fn compacting_and_migrating_change_nothing_but_the_files() {
    for engine in Engine::ALL {
        let place = Place::new();
        let model = filled(engine, &place.store());
        let expected = lines(&open(engine, &place.store(), small()).unwrap()).unwrap();
        care::compact(&place.store()).unwrap();
        model.assert_same(&open(engine, &place.store(), small()).unwrap());
        assert!(care::migrate(&place.store(), engine).is_err(), "it is there already");
        let done = care::migrate(&place.store(), other(engine)).unwrap();
        assert_eq!((done.entries, done.to.as_str()), (expected.len() as u64, other(engine).name()));
        let store = open(other(engine), &place.store(), small()).unwrap();
        assert_eq!(lines(&store).unwrap(), expected);
        model.assert_same(&store);
        assert_eq!(place.names(), ["store"]);
        let why = care::compact(&place.store()).unwrap_err().to_string();
        assert!(why.contains("stop it"), "{why}");
    }
}

#[test]
fn compacting_gives_space_back() {
    for engine in Engine::ALL {
        let place = Place::new();
        let store = open(engine, &place.store(), small()).unwrap();
        for n in 1..=120 {
            store.write(&batch(n)).unwrap();
        }
        while store.retain(at(118), 200).unwrap() > 0 {}
        drop(store);
        let done = care::compact(&place.store()).unwrap();
        println!("{}: {} to {} bytes", done.to, done.disk_bytes_before, done.disk_bytes);
        assert!(done.disk_bytes < done.disk_bytes_before);
    }
}

#[test]
fn stats_count_what_is_there() {
    for engine in Engine::ALL {
        let place = Place::new();
        filled(engine, &place.store());
        let store = open(engine, &place.store(), small()).unwrap();
        let stats = store.stats().unwrap();
        assert_eq!((stats.records, stats.last_seq, stats.watermark), (30, 30, 29));
        let closed = store.list(Kind::Incident, Scope::Closed, None, 100).unwrap().len() as u64;
        assert_eq!(stats.closed[&Kind::Incident], closed);
        let open = store.list(Kind::Incident, Scope::Open, None, 100).unwrap().len() as u64;
        assert_eq!(stats.open[&Kind::Incident], open);
        let exported: usize = lines(&store).unwrap().iter().map(String::len).sum();
        assert!(stats.live_bytes > exported as u64 / 4, "{} of {exported}", stats.live_bytes);
        assert!(stats.live_bytes < stats.disk_bytes, "{stats:?}");
    }
}

/// The newest snapshots stay; one that is damaged is passed over.
#[test]
fn a_damaged_store_is_healed_from_the_newest_good_snapshot() {
    for engine in Engine::ALL {
        let place = Place::new();
        let snapshots = place.path("snapshots");
        filled(engine, &place.store());
        let store = open(engine, &place.store(), small()).unwrap();
        for hour in 0..5 {
            snapshot::take(&store, &snapshots, at(hour * 3600)).unwrap();
        }
        let expected = store.load().unwrap();
        drop(store);
        let kept = snapshot::list(&snapshots);
        assert_eq!(kept.len(), snapshot::KEPT);
        fs::write(&kept[0], "damaged").unwrap();
        fs::write(place.store().join(engine.name()).join("db"), [7; 5000]).unwrap();
        let store = care::open_healing(Some(engine), &place.store(), &snapshots).unwrap();
        let loaded = store.load().unwrap();
        assert_eq!(loaded.objects, expected.objects);
        assert_eq!((loaded.watermark, loaded.last_seq), (expected.watermark, 31));
        assert_eq!(loaded.last_turn_at, expected.last_turn_at);
        let keys = |it: &[(_, bool)]| it.len();
        assert_eq!(keys(&loaded.effects), keys(&expected.effects));
        assert!(loaded.effects.iter().all(|it| it.1), "what must not be done twice is claimed");
        assert_eq!(store.timeline("INC-27", 0, 10).unwrap().len(), 1);
        assert_eq!(store.verify(), Vec::<String>::new());
        let records = store.records(loaded.watermark, 10).unwrap();
        let [Event::StoreHealed(healing)] = &records[1].events[..] else { panic!("{records:?}") };
        assert_eq!(healing.snapshot_at, Some(at(3 * 3600)));
        assert_eq!(healing.objects, expected.objects.len() as u64);
        assert!(Path::new(&healing.aside).join("STORE").exists(), "{}", healing.aside);
        drop(store);
        // Once healed it stays so.
        let store = care::open_healing(Some(engine), &place.store(), &snapshots).unwrap();
        assert_eq!(store.load().unwrap().last_seq, 31);
        assert_eq!(place.names().len(), 3, "{:?}", place.names());
    }
}

#[test]
fn without_a_snapshot_a_damaged_store_begins_anew_and_tells() {
    let place = Place::new();
    filled(Engine::Sled, &place.store());
    fs::write(place.store().join("sled/db"), "damaged").unwrap();
    let store =
        care::open_healing(Some(Engine::Sled), &place.store(), &place.path("none")).unwrap();
    let records = store.records(0, 10).unwrap();
    let [Event::StoreHealed(healing)] = &records[0].events[..] else { panic!("{records:?}") };
    assert_eq!((records.len(), healing.snapshot_at, healing.objects), (1, None, 0));
}

/// Where no engine is named, a store keeps its own, and a new one is made with redb.
#[test]
fn a_store_keeps_its_engine() {
    let place = Place::new();
    let none = place.path("none");
    let opened = || care::open_healing(None, &place.store(), &none);
    assert_eq!(opened().unwrap().health().engine, "redb");
    fs::remove_dir_all(place.store()).unwrap();
    let model = filled(Engine::Sled, &place.store());
    let store = opened().unwrap();
    model.assert_same(&store);
    assert_eq!(store.health().engine, "sled");
    drop(store);
    fs::remove_file(place.store().join("STORE")).unwrap();
    let refused = opened().err().unwrap().to_string();
    assert!(refused.contains("without its file `STORE`"), "{refused}");
}

/// What a crash in the midst of care leaves behind is put right at the next start.
#[test]
fn what_a_crash_left_is_cleared_up() {
    let place = Place::new();
    let model = filled(Engine::Redb, &place.store());
    copy_folder(&place.store(), &place.path("store.rewriting"));
    copy_folder(&place.store(), &place.path("store.healing-20260101T000000000Z"));
    let none = place.path("none");
    let held = open(Engine::Redb, &place.store(), small()).unwrap();
    let busy =
        care::open_healing(Some(Engine::Redb), &place.store(), &none).err().unwrap().to_string();
    assert!(busy.contains("stop it") && place.path("store.rewriting").exists(), "{busy}");
    drop(held);
    model.assert_same(&care::open_healing(Some(Engine::Redb), &place.store(), &none).unwrap());
    assert_eq!(place.names(), ["store", "store.corrupt-20260101T000000000Z"]);
}

/// The store that version 0.1.0 left when it was killed, in which alerts fire, an incident is
/// acknowledged and one closed, and a step is running.
#[test]
fn the_store_of_version_0_1_0_opens() {
    let place = Place::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/0.1.0");
    copy_folder(&golden, &place.store());
    let packed = place.store().join("sled/db.zst");
    let bytes = zstd::decode_all(File::open(&packed).unwrap()).unwrap();
    fs::write(place.store().join("sled/db"), bytes).unwrap();
    fs::remove_file(packed).unwrap();
    for _ in 0..2 {
        let store = open(Engine::Sled, &place.store(), small()).unwrap();
        assert_eq!(store.verify(), Vec::<String>::new());
        let stats = store.stats().unwrap();
        assert_eq!((stats.open[&Kind::Incident], stats.closed[&Kind::Incident]), (3, 1));
        assert_eq!((stats.open[&Kind::Execution], stats.records), (2, stats.last_seq));
        let incident = store.get(Kind::Incident, "INC-1").unwrap().unwrap();
        let incident: serde_json::Value = serde_json::from_slice(&incident.body).unwrap();
        assert_eq!(incident["owner"], "ann");
        let timeline = store.timeline("INC-1", 0, 100).unwrap();
        assert!(timeline.iter().any(|(_, it)| it.text == "kept from 0.1.0"), "{timeline:?}");
        assert!(store.load().unwrap().effects.iter().any(|it| it.1), "the step was claimed");
        drop(store);
        let label = fs::read_to_string(place.store().join("STORE")).unwrap();
        assert!(label.contains("\"format\":2"), "{label}");
    }
    care::migrate(&place.store(), Engine::Redb).unwrap();
}

//! What only the redb engine does: how it takes a disk that is full or fails, and its damage.

use crate::model::{Model, batch};
use crate::small;
use ::redb::StorageBackend;
use ::redb::backends::FileBackend;
use std::fs::{self, File};
use std::io::{Error as IoError, ErrorKind, Result as IoResult};
use std::path::Path;
use std::sync::{Arc, Mutex};
use watchkeeper::store::redb::{OpenBackend, open, open_on};
use watchkeeper::store::{Batch, EmbeddedStore, Error, Store};

/// What will go wrong.
#[derive(Debug)]
struct Trouble {
    /// Whether it is a write or a sync.
    at_sync: bool,
    /// After how many more of these; it goes wrong once.
    after: u64,
    kind: ErrorKind,
}

/// A file that fails when told to.
#[derive(Debug)]
struct Disturbed(FileBackend, Arc<Mutex<Option<Trouble>>>);

impl Disturbed {
    fn meet(&self, at_sync: bool) -> IoResult<()> {
        let mut trouble = self.1.lock().unwrap();
        match &mut *trouble {
            Some(it) if it.at_sync == at_sync && it.after == 0 => {
                Err(IoError::from(trouble.take().unwrap().kind))
            }
            Some(it) if it.at_sync == at_sync => {
                it.after -= 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl StorageBackend for Disturbed {
    fn len(&self) -> IoResult<u64> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> IoResult<()> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> IoResult<()> {
        self.meet(false)?;
        self.0.set_len(len)
    }
    fn sync_data(&self) -> IoResult<()> {
        self.meet(true)?;
        self.0.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> IoResult<()> {
        self.meet(false)?;
        self.0.write(offset, data)
    }
}

/// A store on such a file.
struct Place {
    folder: tempfile::TempDir,
    trouble: Arc<Mutex<Option<Trouble>>>,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), trouble: Arc::default() }
    }

    fn open(&self) -> EmbeddedStore {
        let trouble = self.trouble.clone();
        let backend: Arc<OpenBackend> = Arc::new(move |path: &Path| {
            let file = File::options();
            let file =
                file.clone().create(true).truncate(false).read(true).write(true).open(path)?;
            let file = FileBackend::new(file).map_err(IoError::other)?;
            Ok(Box::new(Disturbed(file, trouble.clone())) as Box<dyn StorageBackend>)
        });
        open_on(self.folder.path(), small(), backend).unwrap()
    }

    fn plan(&self, at_sync: bool, after: u64, kind: ErrorKind) {
        *self.trouble.lock().unwrap() = Some(Trouble { at_sync, after, kind });
    }

    /// Whether what was planned did not come to pass.
    fn is_spared(&self) -> bool {
        self.trouble.lock().unwrap().take().is_some()
    }
}

/// Wherever in a write the space ends, nothing of it is there, and the store goes on.
#[test]
fn a_write_that_meets_the_end_of_the_disk_is_refused_as_a_whole() {
    let place = Place::new();
    let store = place.open();
    let mut model = Model::default();
    let mut refused = 0;
    for n in 1..=15 {
        let (records, decisions) = apart(batch(n));
        store.write(&records).unwrap();
        model.write(&records);
        for after in 0.. {
            place.plan(false, after, ErrorKind::StorageFull);
            let result = store.write(&decisions);
            // redb may also do without what it could not write, as when it would shorten its file.
            if place.is_spared() || result.is_ok() {
                result.unwrap();
                break;
            }
            assert!(matches!(result, Err(Error::Full(_))), "batch {n}, write {after}: {result:?}");
            refused += 1;
            model.assert_same(&store);
        }
        model.write(&decisions);
        model.assert_same(&store);
    }
    println!("{refused} writes were refused");
    assert!(refused > 100, "{refused}");
    drop(store);
    model.assert_same(&place.open());
}

/// The records of a batch, which do not come into the database, and the rest of it.
fn apart(mut batch: Batch) -> (Batch, Batch) {
    let appends = std::mem::take(&mut batch.appends);
    (Batch { appends, ..Batch::default() }, batch)
}

/// Any other trouble stops the store; what was acknowledged is there when it is opened again, and
/// of what was not nothing or all.
#[test]
fn a_disk_that_fails_stops_the_store_until_it_is_opened_again() {
    let place = Place::new();
    let mut model = Model::default();
    let mut n = 1;
    let mut store = place.open();
    for after in 0..3 {
        for (at_sync, kind) in
            [(true, ErrorKind::StorageFull), (true, ErrorKind::Other), (false, ErrorKind::Other)]
        {
            store.write(&batch(n)).unwrap();
            model.write(&batch(n));
            n += 1;
            let (records, decisions) = apart(batch(n));
            store.write(&records).unwrap();
            model.write(&records);
            place.plan(at_sync, after, kind);
            let result = store.write(&decisions);
            if place.is_spared() {
                result.unwrap();
                model.write(&decisions);
                n += 1;
                continue;
            }
            assert!(matches!(result, Err(Error::Failed(_))), "{result:?}");
            assert!(matches!(store.write(&decisions), Err(Error::Failed(_))), "it went on");
            drop(store);
            store = place.open();
            let turns = store.turns(0, usize::MAX).unwrap().len();
            if turns == model.turn_count() && decisions.commit.is_some() {
                store.write(&decisions).unwrap();
            }
            model.write(&decisions);
            n += 1;
            model.assert_same(&store);
        }
    }
}

/// What is done to the file's bytes.
type Spoil<'a> = &'a dyn Fn(&mut Vec<u8>);

#[test]
fn damage_is_told() {
    let spoils: [(&str, Spoil<'_>); 4] = [
        ("emptied", &|bytes| bytes.clear()),
        ("cut in half", &|bytes| bytes.truncate(bytes.len() / 2)),
        ("without a head", &|bytes| bytes[..4096].fill(0)),
        ("of another program", &|bytes| bytes.fill(b'x')),
    ];
    for (what, spoil) in spoils {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), small()).unwrap();
        (1..=30).for_each(|n| store.write(&batch(n)).unwrap());
        drop(store);
        let file = folder.path().join("redb/db");
        let mut bytes = fs::read(&file).unwrap();
        spoil(&mut bytes);
        fs::write(&file, bytes).unwrap();
        match open(folder.path(), small()) {
            Err(Error::Damaged(why)) => {
                assert!(why.contains("restore a backup"), "{what}: {why}");
                println!("{what}: {why}");
            }
            other => panic!("{what}: {:?}", other.map(drop)),
        }
        assert!(file.exists());
    }
}

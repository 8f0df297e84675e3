//! The other engine: sled 0.34, behind guards that make its acknowledgement durable.
//!
//! sled's own `flush` is not durable against power loss: on Linux it only starts the write-back.
//! So each write is followed by an `fdatasync` of the database's file, a new database is made
//! aside and moved into place, and no value is so large that sled would put it into a file of its
//! own (`embedded::encode`). sled cannot go on after an error: then the store must be opened again.
//! So space is taken before a write, and a write that finds none is refused before sled sees it
//! (`space`).
//!
//! A reader sees a batch whole or not at all; it may see it a moment before it is durable.

mod space;

use super::embedded::encode::Writes;
use super::embedded::folder::{self, is_full, sync_folder};
use super::embedded::{
    Driver, EmbeddedStore, Entries, Map, Purpose, Trouble, View, damaged, failed, panic_text, read,
};
use super::{Engine, Error, Loaded, Options};
use space::{SEGMENT_BYTES, Space};
use std::fs::{self, File};
use std::path::Path;
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

/// How long a database that was just closed in this process may hold on to its files.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens the store in `folder`, or makes it; see [`super::open`].
pub fn open(folder: &Path, options: Options) -> Result<EmbeddedStore, Error> {
    folder::open(folder, &options, &SledDriver { folder, options: &options })
}

/// How sled is made and opened in a store's folder.
struct SledDriver<'a> {
    folder: &'a Path,
    options: &'a Options,
}

impl Driver for SledDriver<'_> {
    fn engine(&self) -> Engine {
        Engine::Sled
    }

    fn create(&self, database: &Path) -> Result<(), Error> {
        let (db, _) = open_database(database, self.options).map_err(|it| it.told(database))?;
        db.flush().map(drop).map_err(|e| failed("write a new database", &e))
    }

    fn open(&self, database: &Path) -> Result<(Box<dyn Map>, Loaded), Trouble> {
        folder::free_reserve(self.folder, self.options).map_err(Trouble::Other)?;
        remove_half_made_snapshots(database).map_err(Trouble::Other)?;
        let (db, read) = open_database(database, self.options)?;
        let map = SledMap::new(db, database, self).map_err(Trouble::Other)?;
        Ok((Box::new(map), read))
    }
}

/// The database, open.
struct SledMap {
    db: ::sled::Db,
    /// Our own handle of the database's file, to make it durable.
    file: File,
    space: Mutex<Space>,
    /// Held for writing while a batch is applied and for reading during a read, so that a read
    /// that takes several looks sees one state.
    visible: RwLock<()>,
}

impl SledMap {
    fn new(db: ::sled::Db, database: &Path, driver: &SledDriver<'_>) -> Result<Self, Error> {
        // sled renames its snapshot file at each start without making the rename durable.
        sync_folder(Some(database))?;
        let file = File::options().read(true).write(true).open(database.join("db"));
        let file = file.map_err(|e| failed("open the database's file", &e))?;
        file.sync_data().map_err(|e| failed("make the database's file durable", &e))?;
        let space = Mutex::new(Space::new(driver.folder, &file, driver.options)?);
        Ok(Self { db, file, space, visible: RwLock::new(()) })
    }

    /// Applies writes and makes them durable.
    fn make_durable(&self, writes: Writes) -> Result<(), Error> {
        let mut batch = ::sled::Batch::default();
        let mut keys = Vec::with_capacity(writes.len());
        for (key, value) in writes {
            match value {
                Some(value) => batch.insert(key.as_slice(), value),
                None => batch.remove(key.as_slice()),
            }
            keys.push(key);
        }
        let applied = {
            let _hidden = self.visible.write().unwrap_or_else(PoisonError::into_inner);
            self.db.apply_batch(batch)
        };
        applied.map_err(|e| failed("apply a batch", &e))?;
        for key in keys {
            // sled splits and joins pages when they are next looked at. Done here, it is part of
            // this write, and a read on a full disk need not write.
            self.db.contains_key(key).map_err(|e| failed("look at what was applied", &e))?;
        }
        self.db.flush().map_err(|e| failed("flush the database", &e))?;
        self.file.sync_data().map_err(|e| failed("make the database durable", &e))
    }
}

impl Map for SledMap {
    fn engine(&self) -> Engine {
        Engine::Sled
    }

    fn view(&self) -> Result<Box<dyn View + '_>, Error> {
        let visible = self.visible.read().unwrap_or_else(PoisonError::into_inner);
        Ok(Box::new(SledView { db: &self.db, _visible: Some(visible) }))
    }

    fn secure(&self, writes: &Writes, purpose: Purpose) -> Result<(), Error> {
        self.space.lock().unwrap_or_else(PoisonError::into_inner).secure(writes, purpose)
    }

    fn write(&self, writes: Writes) -> Result<(), Error> {
        self.make_durable(writes)?;
        self.space.lock().unwrap_or_else(PoisonError::into_inner).keep();
        Ok(())
    }
}

/// The database as it is while nothing is applied.
struct SledView<'a> {
    db: &'a ::sled::Db,
    /// `None` while the database is being opened.
    _visible: Option<RwLockReadGuard<'a, ()>>,
}

impl View for SledView<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let value = self.db.get(key).map_err(|e| unread("read a value", &e))?;
        Ok(value.map(|it| it.to_vec()))
    }

    fn range(&self, start: &[u8], end: &[u8]) -> Entries<'_> {
        Box::new(self.db.range(start..end).map(|entry| {
            let (key, value) = entry.map_err(|e| unread("read the database", &e))?;
            Ok((key.to_vec(), value.to_vec()))
        }))
    }
}

/// Removes a snapshot of sled's page table that was being written when an earlier start was cut
/// short. sled would take it for the newest one and refuse to open; the one before is still there.
fn remove_half_made_snapshots(database: &Path) -> Result<(), Error> {
    let remove = || -> std::io::Result<()> {
        for entry in fs::read_dir(database)? {
            let path = entry?.path();
            if path.extension().is_some_and(|it| it == "generating") {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    };
    remove().map_err(|e| failed("remove a half-made snapshot of the database", &e))
}

/// The error of the store for one that sled met while it was reading.
fn unread(what: &str, error: &::sled::Error) -> Error {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    match error {
        ::sled::Error::Io(e) if !matches!(e.kind(), InvalidData | UnexpectedEof) => failed(what, e),
        other => damaged(&format!("cannot {what}: {other}")),
    }
}

/// Opens sled in a thread of its own, because it panics on some kinds of damage.
fn open_database(path: &Path, options: &Options) -> Result<(::sled::Db, Loaded), Trouble> {
    // Without sled's own flusher nothing is written behind our back: each write is flushed
    // anyway, and space is reclaimed within writes.
    let config = ::sled::Config::new()
        .path(path)
        .cache_capacity(options.cache_bytes)
        .segment_size(SEGMENT_BYTES)
        .flush_every_ms(None);
    let deadline = Instant::now() + CLOSE_TIMEOUT;
    loop {
        let config = config.clone();
        let builder = std::thread::Builder::new().name("store-open".to_owned());
        let thread = builder.spawn(move || {
            // What a start needs is read at once, so that damage there shows here.
            config.open().map(|db| {
                let read = read::load(&SledView { db: &db, _visible: None });
                read.map(|it| (db, it))
            })
        });
        let opened = thread.map_err(|e| Trouble::Other(failed("start a thread", &e)))?.join();
        let error = match opened {
            Ok(Ok(read)) => return read.map_err(Trouble::from),
            Ok(Err(error)) => error,
            Err(panic) => return Err(Trouble::Damaged(panic_text(&*panic))),
        };
        match error {
            // We hold our own lock, so this can only be a closed database of this process that
            // still writes its last buffers.
            ::sled::Error::Io(e)
                if e.to_string().contains("could not acquire lock")
                    && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(20));
            }
            ::sled::Error::Io(e) if is_full(&e) => {
                let why = format!("cannot open the database: `{e}`");
                return Err(Trouble::Other(Error::Full(why)));
            }
            ::sled::Error::Io(e) if e.kind() != std::io::ErrorKind::UnexpectedEof => {
                return Err(Trouble::Other(failed("open the database", &e)));
            }
            other => return Err(Trouble::Damaged(other.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Batch, Commit, Kind, Object, Scope, Store};
    use jiff::Timestamp;
    use std::cell::OnceCell;
    use std::process::Command;

    /// Opens sled as always, and shows it before the store has it.
    struct Shown<'a>(SledDriver<'a>, &'a dyn Fn(&SledMap));

    impl Driver for Shown<'_> {
        fn engine(&self) -> Engine {
            self.0.engine()
        }

        fn create(&self, database: &Path) -> Result<(), Error> {
            self.0.create(database)
        }

        fn open(&self, database: &Path) -> Result<(Box<dyn Map>, Loaded), Trouble> {
            let (db, read) = open_database(database, self.0.options)?;
            let map = SledMap::new(db, database, &self.0).map_err(Trouble::Other)?;
            (self.1)(&map);
            Ok((Box::new(map), read))
        }
    }

    fn open_shown(folder: &Path, show: &dyn Fn(&SledMap)) -> EmbeddedStore {
        let options = Options::default();
        let driver = Shown(SledDriver { folder, options: &options }, show);
        folder::open(folder, &options, &driver).unwrap()
    }

    #[test]
    fn a_half_made_snapshot_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        drop(open(folder.path(), Options::default()).unwrap());
        let snapshot = folder.path().join("sled/snap.00000000FFFFFFFF.generating");
        fs::write(&snapshot, "half").unwrap();
        drop(open(folder.path(), Options::default()).unwrap());
        assert!(!snapshot.exists());
    }

    fn put(seq: u64) -> Batch {
        // 20 kB that do not compress.
        let mut lot = seq;
        let noise = std::iter::repeat_with(|| {
            lot = lot.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b'!' + u8::try_from((lot >> 33) % 90).unwrap())
        });
        let body = noise.take(20_000).collect::<String>().into_bytes();
        let object = Object { kind: Kind::Rules, id: format!("rules {seq}"), body };
        let commit = Commit { puts: vec![object], ..Commit::default() };
        Batch { commit: Some(commit), ..Batch::default() }
    }

    /// sled splits a page that has grown when it is next looked at. If that were a read, it would
    /// write, and on a full disk it would fail.
    #[test]
    fn reading_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let db = OnceCell::new();
        let store = open_shown(folder.path(), &|map| drop(db.set(map.db.clone())));
        for seq in 1..=200 {
            let mut commit = put(seq).commit.unwrap();
            for number in 0..seq % 30 {
                let (kind, body) = (Kind::Incident, vec![b'x'; 200]);
                commit.puts.push(Object { kind, id: format!("INC-{}", seq * 7 + number), body });
                commit.deletes.push((kind, format!("INC-{}", seq * 6 + number * 2)));
            }
            store.write(&Batch { commit: Some(commit), ..Batch::default() }).unwrap();
            store.load().unwrap();
            store.records(0, usize::MAX).unwrap();
            store.list(Kind::Incident, Scope::All, None, usize::MAX).unwrap();
            assert_eq!(
                db.get().unwrap().flush().unwrap(),
                0,
                "bytes were written by reading after {seq}"
            );
        }
    }

    /// Where no space can be taken ahead, somebody else may take the last of it while sled
    /// writes. Then sled cannot go on, but nothing that was acknowledged is lost, and opening it
    /// again heals it, also while the disk is still full. sled's files are on a small disk here,
    /// and the store looks for space on the large one.
    #[test]
    fn a_real_end_of_the_disk_stops_sled_until_it_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let disk = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=12m", "tmpfs"])
            .arg(disk.path())
            .status();
        if !mount.is_ok_and(|it| it.success()) {
            // Not permitted here.
            return;
        }
        drop(open(folder.path(), Options::default()).unwrap());
        let database = folder.path().join("sled");
        let moved = Command::new("mv").arg(&database).arg(disk.path()).status();
        assert!(moved.unwrap().success());
        std::os::unix::fs::symlink(disk.path().join("sled"), &database).unwrap();

        // The reserve is on the other disk; this stands for it.
        let reserve = disk.path().join("reserve");
        fs::copy(folder.path().join("reserve"), &reserve).unwrap();
        let store = open_shown(folder.path(), &|map| {
            map.file.set_len(map.file.metadata().unwrap().len()).unwrap();
            map.space.lock().unwrap().take_nothing_ahead();
        });
        let mut seq = 0;
        let error = loop {
            match store.write(&put(seq + 1)) {
                Ok(()) => seq += 1,
                Err(error) => break error,
            }
        };
        assert!(seq > 0 && matches!(error, Error::Failed(_)), "after {seq} writes: {error}");
        assert!(matches!(store.write(&put(seq + 1)), Err(Error::Failed(_))));
        assert!(matches!(store.retain(Timestamp::MAX, 9), Err(Error::Failed(_))));
        drop(store);
        fs::remove_file(&reserve).unwrap();
        let store = open(folder.path(), Options::default()).unwrap();
        // The batch that failed may be there, as a whole.
        let objects = store.load().unwrap().objects;
        assert!(objects.len() as u64 >= seq, "{seq} acknowledged, {} there", objects.len());
        for (object, seq) in objects.iter().zip(1..) {
            assert_eq!(put(seq).commit.unwrap().puts, std::slice::from_ref(object));
        }
        assert!(matches!(store.write(&put(objects.len() as u64 + 1)), Err(Error::Full(_))));
        drop(store);
        assert!(Command::new("umount").arg(disk.path()).status().unwrap().success());
    }
}

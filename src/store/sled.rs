//! The default engine: sled 0.34, behind guards that make its acknowledgement durable.
//!
//! sled's own `flush` is not durable against power loss: on Linux it only starts the write-back.
//! So each write is followed by an `fdatasync` of the database's file, a new database is made
//! aside and moved into place, and no value is so large that sled would put it into a file of its
//! own (`encode`). sled cannot go on after an error: then the store must be opened again. So space
//! is taken before a write, and a write that finds none is refused before sled sees it (`space`).
//!
//! A reader sees a batch whole or not at all; it may see it a moment before it is durable.

mod create;
mod encode;
mod keys;
mod read;
mod retain;
mod space;
mod witness;
mod write;

use super::{Batch, Error, Health, Kind, Loaded, Object, Record, Scope, Store, Turn};
use crate::domain::incident::TimelineEntry;
use encode::Staged;
use jiff::Timestamp;
use space::{Purpose, Space};
use std::any::Any;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError, RwLock};
use write::Writer;

/// The engine's name in the file `STORE`.
const ENGINE: &str = "sled";

/// How a store is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How much memory sled's page cache may take, in bytes.
    pub cache_bytes: u64,
    /// Below this much free space nothing new is taken in, in bytes. Results of turns and removals
    /// go on in the space that the store has taken before; where the file system gives none ahead,
    /// down to half and to a quarter of this.
    pub free_bytes_min: u64,
    /// Moves a damaged database away, never deletes it, and starts with an empty one; or goes on
    /// with what is left, if only its end is lost. If not, a damaged database does not open.
    pub set_aside_corrupt: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: 64 * 1024 * 1024,
            free_bytes_min: 4 * 1024 * 1024,
            set_aside_corrupt: false,
        }
    }
}

/// A store in a folder.
pub struct SledStore {
    /// The database. Declared first, so that it is closed before the lock is given up.
    db: ::sled::Db,
    /// Our own handle of the database's file, to make it durable.
    file: File,
    folder: PathBuf,
    set_aside: Option<PathBuf>,
    witness: witness::Witness,
    writer: Mutex<(Writer, Space)>,
    /// Held for writing while a batch is applied and for reading during a read, so that a read
    /// that takes several looks sees one state.
    visible: RwLock<()>,
    /// Why the store takes no more writes.
    failed: OnceLock<String>,
    _lock: File,
}

/// Opens the store in `folder`, or makes it. Fails with [`Error::Unusable`] when a person must
/// act, with [`Error::Full`] when there is no space even to open it.
pub fn open(folder: &Path, options: Options) -> Result<SledStore, Error> {
    let create::Opened { db, file, lock, set_aside } = create::open(folder, &options)?;
    let space = Space::new(folder, &file, &options)?;
    let writer = catch(|| Writer::new(&db))?;
    let (witness, set_aside) = create::check_extent(folder, writer.extent(), &options, set_aside)?;
    Ok(SledStore {
        db,
        file,
        folder: folder.to_owned(),
        set_aside,
        witness,
        writer: Mutex::new((writer, space)),
        visible: RwLock::new(()),
        failed: OnceLock::new(),
        _lock: lock,
    })
}

impl SledStore {
    /// Where the damaged database is now that was found in the folder, or the file that tells how
    /// much of it is lost; `None` = it was good.
    pub fn set_aside(&self) -> Option<&Path> {
        self.set_aside.as_deref()
    }

    /// Refuses if an earlier write failed.
    fn check_writable(&self) -> Result<(), Error> {
        let Some(why) = self.failed.get() else { return Ok(()) };
        Err(Error::Failed(format!("open the store again after `{why}`")))
    }

    /// Applies a batch and makes it durable.
    fn make_durable(&self, staged: Staged<'_>) -> Result<(), Error> {
        let (batch, keys) = staged.into_batch();
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

    /// Does one write, and remembers if it fails: the database is in an unknown state then.
    fn write_guarded<T>(&self, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let result = catch(work);
        if let Err(Error::Failed(why) | Error::Unusable(why)) = &result {
            self.failed.get_or_init(|| why.clone());
        }
        result
    }

    /// Does one read.
    fn read_guarded<T>(&self, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let _visible = self.visible.read().unwrap_or_else(PoisonError::into_inner);
        catch(work)
    }
}

impl Store for SledStore {
    fn write(&self, batch: &Batch) -> Result<(), Error> {
        self.check_writable()?;
        let purpose = if batch.appends.is_empty() { Purpose::Commit } else { Purpose::Append };
        let mut guard = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let (writer, space) = &mut *guard;
        self.write_guarded(|| {
            let (staged, next) = writer.stage(&self.db, batch)?;
            if staged.len() == 0 {
                return Ok(());
            }
            space.secure(&staged, purpose)?;
            self.make_durable(staged)?;
            writer.adopt(next);
            self.witness.note(writer.extent());
            space.keep();
            Ok(())
        })
    }

    fn load(&self) -> Result<Loaded, Error> {
        self.read_guarded(|| read::load(&self.db))
    }

    fn records(&self, after: u64, limit: usize) -> Result<Vec<Record>, Error> {
        self.read_guarded(|| read::records(&self.db, after, limit))
    }

    fn turns(&self, after: u64, limit: usize) -> Result<Vec<(u64, Turn)>, Error> {
        self.read_guarded(|| read::turns(&self.db, after, limit))
    }

    fn get(&self, kind: Kind, id: &str) -> Result<Option<Object>, Error> {
        self.read_guarded(|| read::get(&self.db, kind, id))
    }

    fn list(
        &self,
        kind: Kind,
        scope: Scope,
        before: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Object>, Error> {
        self.read_guarded(|| read::list(&self.db, (kind, scope), before, limit))
    }

    fn timeline(
        &self,
        id: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, TimelineEntry)>, Error> {
        self.read_guarded(|| read::timeline(&self.db, id, after, limit))
    }

    fn retain(&self, before: Timestamp, budget: usize) -> Result<usize, Error> {
        self.check_writable()?;
        let mut guard = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let (writer, space) = &mut *guard;
        self.write_guarded(|| {
            let (staged, removed) = writer.stage_retain(&self.db, before, budget)?;
            if removed > 0 {
                space.secure(&staged, Purpose::Removal)?;
                self.make_durable(staged)?;
            }
            Ok(removed)
        })
    }

    fn health(&self) -> Health {
        Health {
            engine: ENGINE,
            disk_bytes: read::disk_bytes(&self.folder),
            free_bytes: space::free_bytes(&self.folder),
        }
    }
}

/// Turns a panic of sled into an error.
fn catch<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(damaged(&panic_text(&*panic))))
}

/// The text of a panic.
fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|it| (*it).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}

/// Something could not be done; `what` follows the words "cannot".
fn failed(what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::Failed(format!("cannot {what}: `{error}`"))
}

/// What was read is not what was written.
fn damaged(what: &str) -> Error {
    Error::Failed(format!("the database is damaged; restore a backup: `{what}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{CorrelationDomain, Event};
    use std::process::Command;

    fn append(seq: u64) -> Batch {
        // 20 kB that do not compress.
        let mut lot = seq;
        let noise = std::iter::repeat_with(|| {
            lot = lot.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b'!' + u8::try_from((lot >> 33) % 90).unwrap())
        });
        let event = Event::RecordPoisoned { seq, reason: noise.take(20_000).collect() };
        let record = Record { seq, correlation_domain: CorrelationDomain(0), events: vec![event] };
        Batch { appends: vec![record], ..Batch::default() }
    }

    /// sled splits a page that has grown when it is next looked at. If that were a read, it would
    /// write, and on a full disk it would fail.
    #[test]
    fn reading_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), Options::default()).unwrap();
        for seq in 1..=200 {
            let mut commit = crate::store::Commit::default();
            for number in 0..seq % 30 {
                let (kind, body) = (Kind::Incident, vec![b'x'; 200]);
                commit.puts.push(Object { kind, id: format!("INC-{}", seq * 7 + number), body });
                commit.deletes.push((kind, format!("INC-{}", seq * 6 + number * 2)));
            }
            store.write(&Batch { commit: Some(commit), ..append(seq) }).unwrap();
            store.load().unwrap();
            store.records(0, usize::MAX).unwrap();
            store.list(Kind::Incident, Scope::All, None, usize::MAX).unwrap();
            assert_eq!(store.db.flush().unwrap(), 0, "bytes were written by reading after {seq}");
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
        std::fs::copy(folder.path().join("reserve"), &reserve).unwrap();
        let store = open(folder.path(), Options::default()).unwrap();
        store.file.set_len(store.file.metadata().unwrap().len()).unwrap();
        store.writer.lock().unwrap().1.take_nothing_ahead();
        let mut seq = 0;
        let error = loop {
            match store.write(&append(seq + 1)) {
                Ok(()) => seq += 1,
                Err(error) => break error,
            }
        };
        assert!(seq > 0 && matches!(error, Error::Failed(_)), "after {seq} records: {error}");
        assert!(matches!(store.write(&append(seq + 1)), Err(Error::Failed(_))));
        assert!(matches!(store.retain(Timestamp::MAX, 9), Err(Error::Failed(_))));
        drop(store);
        std::fs::remove_file(&reserve).unwrap();
        let store = open(folder.path(), Options::default()).unwrap();
        // The batch that failed may be there, as a whole.
        let records = store.records(0, usize::MAX).unwrap();
        assert!(records.len() as u64 >= seq, "{seq} acknowledged, {} there", records.len());
        for record in &records {
            assert_eq!(append(record.seq).appends, std::slice::from_ref(record));
        }
        assert!(matches!(store.write(&append(records.len() as u64 + 1)), Err(Error::Full(_))));
        drop(store);
        assert!(Command::new("umount").arg(disk.path()).status().unwrap().success());
    }
}

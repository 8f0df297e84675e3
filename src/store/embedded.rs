//! What the embedded engines share: everything above a map of bytes to bytes.
//!
//! An engine is a [`Map`] and a [`Driver`] that makes and opens it. How batches become keys and
//! values (`write`, `keys`, `encode`), how they are read (`read`) and how they leave again
//! (`retain`) is the same for all, and so is the folder around the engine's files (`folder`).

mod digest;
pub(super) mod encode;
pub(super) mod folder;
mod inbox;
mod keys;
pub(super) mod read;
mod retain;
mod transfer;
mod upgrade;
mod witness;
mod write;

use super::{Batch, Engine, Error, Health, Kind, Loaded, Object, Record, Scope, Store, Turn};
use crate::domain::event::Event;
use crate::domain::incident::TimelineEntry;
use encode::Writes;
use inbox::Inbox;
use jiff::Timestamp;
use std::any::Any;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
pub use transfer::Stats;
use witness::Extent;
use write::Writer;

/// A key with its value.
pub(super) type Entry = (Vec<u8>, Vec<u8>);

/// Entries in the order of their keys.
pub(super) type Entries<'a> = Box<dyn DoubleEndedIterator<Item = Result<Entry, Error>> + 'a>;

/// What an engine is to us: a map of bytes to bytes on disk, in the order of its keys.
pub(super) trait Map: Send + Sync {
    /// Which engine it is.
    fn engine(&self) -> Engine;

    /// The state that it is in now. One thread looks at one at a time, and not while it writes.
    fn view(&self) -> Result<Box<dyn View + '_>, Error>;

    /// Takes the space that writes may need; [`Error::Full`] means that it cannot be had.
    fn secure(&self, writes: &Writes, purpose: Purpose) -> Result<(), Error>;

    /// Applies writes, all of them or none, and makes them durable. One writer at a time.
    fn write(&self, writes: Writes) -> Result<(), Error>;
}

/// One state of a map, which stays as it is while it is looked at.
pub(super) trait View {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;

    /// The entries from one key on, up to but without another.
    fn range(&self, start: &[u8], end: &[u8]) -> Entries<'_>;

    /// The entries whose keys begin alike.
    fn prefix(&self, prefix: &[u8]) -> Entries<'_> {
        self.range(prefix, &keys::end_of(prefix))
    }
}

/// How an engine makes and opens its database.
pub(super) trait Driver {
    /// Which engine it is; its name is also that of the database in the store's folder.
    fn engine(&self) -> Engine;

    /// Makes an empty database, which need not be durable yet.
    fn create(&self, database: &Path) -> Result<(), Error>;

    /// Opens a database, and reads what a start reads, so that damage there shows here.
    fn open(&self, database: &Path) -> Result<(Box<dyn Map>, Loaded), Trouble>;
}

/// Why a database does not open.
pub(super) enum Trouble {
    /// Its files are not as they must be.
    Damaged(String),
    /// Something else; trying again may help.
    Other(Error),
}

impl From<Error> for Trouble {
    /// Only what was read and is not what was written is damage; a disk that fails is not.
    fn from(error: Error) -> Self {
        match error {
            Error::Damaged(why) => Self::Damaged(why),
            other => Self::Other(other),
        }
    }
}

/// What a write is for; in falling order of what must be left over after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It writes down what was decided about something that was taken in.
    Commit,
    /// It removes something, so that space comes back.
    Removal,
}

/// A store in a folder, with an engine that runs in this process.
pub struct EmbeddedStore {
    /// The database. Declared first, so that it is closed before the lock is given up.
    map: Box<dyn Map>,
    inbox: Inbox,
    folder: PathBuf,
    witness: witness::Witness,
    writer: Mutex<Writer>,
    /// What was read when it was opened, until somebody asks for it or something is written.
    read: Mutex<Option<Loaded>>,
    /// Why the store takes no more writes.
    failed: OnceLock<String>,
    _lock: File,
}

/// Brings facts into the form in which they are stored.
pub(super) fn pack(events: &[Event]) -> Result<Vec<u8>, Error> {
    inbox::pack(events)
}

/// Reads the records of a file of the inbox.
pub(super) fn decode_records(file: &[u8]) -> Result<Vec<Record>, Error> {
    inbox::decode(file)
}

impl EmbeddedStore {
    /// Refuses if an earlier write failed.
    fn check_writable(&self) -> Result<(), Error> {
        let Some(why) = self.failed.get() else { return Ok(()) };
        Err(Error::Failed(format!("open the store again after `{why}`")))
    }

    /// Does one write, and remembers if it fails: the database is in an unknown state then.
    fn write_guarded<T>(&self, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let result = catch(work);
        if let Err(Error::Failed(why) | Error::Damaged(why) | Error::Unusable(why)) = &result {
            self.failed.get_or_init(|| why.clone());
        }
        result
    }

    /// Writes a batch with decisions; its records first, once there is room for all of it.
    fn write_decisions(&self, batch: &Batch) -> Result<(), Error> {
        let prepared = self.inbox.prepare(&batch.appends, &batch.packed)?;
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let (staged, next) = writer.stage(&*self.map.view()?, batch)?;
        self.map.secure(&staged, Purpose::Commit)?;
        prepared.write()?;
        if !staged.is_empty() {
            self.map.write(staged).map_err(|error| match error {
                Error::Full(why) if !batch.appends.is_empty() => Error::Failed(why),
                error => error,
            })?;
        }
        writer.adopt(next);
        self.note(&writer);
        Ok(())
    }

    /// Notes how far everything is durable.
    fn note(&self, writer: &Writer) {
        self.witness.note(Extent { record: self.inbox.last(), ..writer.extent() });
    }

    /// Takes what was read when it was opened, if that still is what there is.
    fn take_read(&self) -> Option<Loaded> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Does one read.
    fn read_guarded<T>(
        &self,
        work: impl FnOnce(&dyn View) -> Result<T, Error>,
    ) -> Result<T, Error> {
        catch(|| work(&*self.map.view()?))
    }
}

impl Store for EmbeddedStore {
    fn write(&self, batch: &Batch) -> Result<(), Error> {
        self.check_writable()?;
        self.write_guarded(|| {
            if batch.commit.is_some() || !batch.claims.is_empty() {
                drop(self.take_read());
                return self.write_decisions(batch);
            }
            self.inbox.prepare(&batch.appends, &batch.packed)?.write()?;
            self.witness.note(Extent { record: self.inbox.last(), ..Extent::default() });
            Ok(())
        })
    }

    fn load(&self) -> Result<Loaded, Error> {
        let mut loaded = match self.take_read() {
            Some(read) => read,
            None => self.read_guarded(read::load)?,
        };
        loaded.last_seq = loaded.last_seq.max(self.inbox.last());
        Ok(loaded)
    }

    fn records(&self, after: u64, limit: usize) -> Result<Vec<Record>, Error> {
        self.read_guarded(|view| {
            let first = read::first_record(view)?;
            self.inbox.records(after.max(first.saturating_sub(1)), limit)
        })
    }

    fn turns(&self, after: u64, limit: usize) -> Result<Vec<(u64, Turn)>, Error> {
        self.read_guarded(|view| read::turns(view, after, limit))
    }

    fn get(&self, kind: Kind, id: &str) -> Result<Option<Object>, Error> {
        self.read_guarded(|view| read::get(view, kind, id))
    }

    fn list(
        &self,
        kind: Kind,
        scope: Scope,
        before: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Object>, Error> {
        self.read_guarded(|view| read::list(view, (kind, scope), before, limit))
    }

    fn timeline(
        &self,
        id: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, TimelineEntry)>, Error> {
        self.read_guarded(|view| read::timeline(view, id, after, limit))
    }

    fn retain(&self, before: Timestamp, budget: usize) -> Result<usize, Error> {
        self.check_writable()?;
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.take_read());
        self.write_guarded(|| {
            let (removals, next, removed) =
                writer.stage_retain(&*self.map.view()?, before, budget)?;
            if removed > 0 {
                self.map.secure(&removals, Purpose::Removal)?;
                self.map.write(removals)?;
                writer.adopt(next);
                self.note(&writer);
                self.inbox.remove_before(read::first_record(&*self.map.view()?)?)?;
            }
            Ok(removed)
        })
    }

    fn health(&self) -> Health {
        let engine = self.map.engine().name();
        Health {
            engine,
            disk_bytes: folder::size_of(&self.folder.join(engine)) + self.inbox.disk_bytes(),
            free_bytes: folder::free_bytes(&self.folder),
        }
    }
}

/// Turns a panic of an engine into an error.
pub(super) fn catch<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(damaged(&panic_text(&*panic))))
}

/// The text of a panic.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|it| (*it).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}

/// Something could not be done; `what` follows the words "cannot".
pub(super) fn failed(what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::Failed(format!("cannot {what}: `{error}`"))
}

/// What was read is not what was written.
pub(super) fn damaged(what: &str) -> Error {
    Error::Damaged(format!("the database is damaged; restore a backup: `{what}`"))
}

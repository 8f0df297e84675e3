//! The default engine: redb, whose commits are durable by themselves.
//!
//! One table holds all keys. A write is one transaction with the durability `Immediate`; a reader
//! sees the state that was committed last. When its disk is full in the middle of a write, redb
//! takes nothing more until it is opened again: that is done here, and a write of which nothing is
//! there counts as refused. To make that rare, space is looked for before each write, and some is
//! kept for what must still be written then (`space`).

mod disk;
mod space;

use super::embedded::encode::Writes;
use super::embedded::folder::{self, is_full};
use super::embedded::{
    Driver, EmbeddedStore, Entries, Map, Purpose, Trouble, View, catch, damaged, failed, read,
};
use super::{Engine, Error, Loaded, Options};
use ::redb::backends::FileBackend;
use ::redb::{
    Builder, Database, DatabaseError, ReadOnlyTable, ReadableDatabase, StorageBackend,
    StorageError, TableDefinition,
};
use disk::Disk;
use space::Space;
use std::fs::File;
use std::io::{
    self,
    ErrorKind::{InvalidData, UnexpectedEof},
};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

/// The one table.
const TABLE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("watchkeeper");

/// Opens what redb reads and writes in place of a file, by the file's path. It is called again
/// when the database must be opened again.
pub type OpenBackend = dyn Fn(&Path) -> io::Result<Box<dyn StorageBackend>> + Send + Sync;

/// Opens the store in `folder`, or makes it; see [`super::open`].
pub fn open(folder: &Path, options: Options) -> Result<EmbeddedStore, Error> {
    let file = |path: &Path| -> io::Result<Box<dyn StorageBackend>> {
        let file =
            File::options().create(true).truncate(false).read(true).write(true).open(path)?;
        Ok(Box::new(FileBackend::new(file).map_err(io::Error::other)?))
    };
    open_on(folder, options, Arc::new(file))
}

/// As [`open`], on storage of the caller's own: for tests that record or disturb what is written.
pub fn open_on(
    folder: &Path,
    options: Options,
    backend: Arc<OpenBackend>,
) -> Result<EmbeddedStore, Error> {
    let driver = RedbDriver { folder: folder.to_owned(), options, backend };
    folder::open(folder, &options, &driver)
}

/// How redb is made and opened in a store's folder.
#[derive(Clone)]
struct RedbDriver {
    folder: PathBuf,
    options: Options,
    backend: Arc<OpenBackend>,
}

impl RedbDriver {
    fn builder(&self) -> Builder {
        let mut builder = Builder::new();
        builder.set_cache_size(usize::try_from(self.options.cache_bytes).unwrap_or(usize::MAX));
        builder
    }

    /// Opens the database and reads what a start reads, so that damage there shows here.
    fn open_database(&self, database: &Path) -> Result<(Database, Loaded), Trouble> {
        let backend = (self.backend)(&database.join("db"))
            .map_err(|e| Trouble::Other(failed("open the database's file", &e)))?;
        // redb would make a new database of an empty file.
        if backend.len().is_ok_and(|it| it == 0) {
            return Err(Trouble::Damaged("the database's file is empty".to_owned()));
        }
        let opened = catch(|| Ok(self.builder().create_with_backend(Disk(backend))));
        let db = opened.map_err(|e| Trouble::Damaged(e.to_string()))?.map_err(trouble)?;
        let read = catch(|| read::load(&RedbView { table: open_table(&db)?, _open: None }))?;
        Ok((db, read))
    }
}

impl Driver for RedbDriver {
    fn engine(&self) -> Engine {
        Engine::Redb
    }

    fn create(&self, database: &Path) -> Result<(), Error> {
        std::fs::create_dir(database).map_err(|e| failed("make a folder", &e))?;
        let backend = (self.backend)(&database.join("db"));
        let backend = backend.map_err(|e| failed("make the database's file", &e))?;
        let create = || -> Result<(), ::redb::Error> {
            let db = self.builder().create_with_backend(Disk(backend))?;
            apply(&db, &Writes::new())?;
            Ok(db.close()?)
        };
        create().map_err(|e| told("make a new database", e))
    }

    fn open(&self, database: &Path) -> Result<(Box<dyn Map>, Loaded), Trouble> {
        folder::free_reserve(&self.folder, &self.options).map_err(Trouble::Other)?;
        let (db, read) = self.open_database(database)?;
        let map = RedbMap {
            db: RwLock::new(Some(db)),
            database: database.to_owned(),
            space: Mutex::new(Space::new(&self.folder, &self.options)),
            driver: self.clone(),
        };
        Ok((Box::new(map), read))
    }
}

/// The database, open.
struct RedbMap {
    /// `None` = it could not be opened again.
    db: RwLock<Option<Database>>,
    database: PathBuf,
    space: Mutex<Space>,
    driver: RedbDriver,
}

impl RedbMap {
    /// Opens the database again, when nobody looks at it.
    fn open_again(&self) -> Result<(), Error> {
        let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        drop(db.take());
        let opened = self.driver.open_database(&self.database);
        let (opened, _) = opened.map_err(|it| it.told(&self.database))?;
        *db = Some(opened);
        Ok(())
    }

    /// Whether everything is as writes would make it.
    fn holds(&self, writes: &Writes) -> Result<bool, Error> {
        let view = self.view()?;
        for (key, value) in writes {
            if view.get(key)? != *value {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Map for RedbMap {
    fn engine(&self) -> Engine {
        Engine::Redb
    }

    fn view(&self) -> Result<Box<dyn View + '_>, Error> {
        let open = self.db.read().unwrap_or_else(PoisonError::into_inner);
        // The table lives on its own; the guard keeps the database from being opened again.
        let db = open.as_ref().ok_or_else(closed)?;
        let table = open_table(db)?;
        Ok(Box::new(RedbView { table, _open: Some(open) }))
    }

    fn secure(&self, writes: &Writes, _: Purpose) -> Result<(), Error> {
        self.space.lock().unwrap_or_else(PoisonError::into_inner).secure(writes)
    }

    fn write(&self, writes: Writes) -> Result<(), Error> {
        let applied = {
            let open = self.db.read().unwrap_or_else(PoisonError::into_inner);
            apply(open.as_ref().ok_or_else(closed)?, &writes)
        };
        match applied {
            Ok(()) => self.space.lock().unwrap_or_else(PoisonError::into_inner).keep(),
            Err(::redb::Error::Io(error)) if is_full(&error) => {
                self.open_again()?;
                if !self.holds(&writes)? {
                    return Err(Error::Full(format!("cannot write a transaction: `{error}`")));
                }
            }
            Err(error) => return Err(told("write a transaction", error)),
        }
        Ok(())
    }
}

/// One committed state of the database.
struct RedbView<'a> {
    table: ReadOnlyTable<&'static [u8], &'static [u8]>,
    /// `None` while the database is being opened.
    _open: Option<RwLockReadGuard<'a, Option<Database>>>,
}

impl View for RedbView<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let value = self.table.get(key).map_err(|e| told("read a value", e))?;
        Ok(value.map(|it| it.value().to_vec()))
    }

    fn range(&self, start: &[u8], end: &[u8]) -> Entries<'_> {
        match self.table.range(start..end) {
            Ok(entries) => Box::new(entries.map(|entry| {
                let (key, value) = entry.map_err(|e| told("read the database", e))?;
                Ok((key.value().to_vec(), value.value().to_vec()))
            })),
            Err(error) => Box::new(std::iter::once(Err(told("read the database", error)))),
        }
    }
}

/// Opens the table of the last committed state.
fn open_table(db: &Database) -> Result<ReadOnlyTable<&'static [u8], &'static [u8]>, Error> {
    let reading = db.begin_read().map_err(|e| told("begin to read", e))?;
    reading.open_table(TABLE).map_err(|e| told("open the table", e))
}

/// Applies writes as one transaction, which is durable when this returns.
fn apply(db: &Database, writes: &Writes) -> Result<(), ::redb::Error> {
    let transaction = db.begin_write()?;
    {
        let mut table = transaction.open_table(TABLE)?;
        for (key, value) in writes {
            match value {
                Some(value) => drop(table.insert(key.as_slice(), value.as_slice())?),
                None => drop(table.remove(key.as_slice())?),
            }
        }
    }
    Ok(transaction.commit()?)
}

/// The error of the store for one of redb's; `what` follows the words "cannot".
fn told(what: &str, error: impl Into<::redb::Error>) -> Error {
    use ::redb::Error as Met;
    match error.into() {
        Met::Corrupted(why) => damaged(&why),
        Met::Io(e) if matches!(e.kind(), InvalidData | UnexpectedEof) => damaged(&e.to_string()),
        it @ (Met::TableDoesNotExist(_)
        | Met::TableTypeMismatch { .. }
        | Met::TableIsMultimap(_)
        | Met::TypeDefinitionChanged { .. }) => damaged(&it.to_string()),
        other => failed(what, &other),
    }
}

fn closed() -> Error {
    Error::Failed("the database could not be opened again".to_owned())
}

/// Why a database does not open.
fn trouble(error: DatabaseError) -> Trouble {
    match error {
        DatabaseError::Storage(StorageError::Io(e)) if is_full(&e) => {
            Trouble::Other(Error::Full(format!("cannot open the database: `{e}`")))
        }
        DatabaseError::Storage(StorageError::Io(e))
            if !matches!(e.kind(), InvalidData | UnexpectedEof) =>
        {
            Trouble::Other(failed("open the database", &e))
        }
        DatabaseError::Storage(other) => Trouble::Damaged(other.to_string()),
        other => Trouble::Other(failed("open the database", &other)),
    }
}

//! How a store's folder is made, locked, checked and opened.
//!
//! ```text
//! FOLDER/STORE         whose it is: engine and format version
//! FOLDER/LOCK          held while a process has the store open; tells its id
//! FOLDER/reserve       space that is given back when the disk is full
//! FOLDER/acknowledged  how far the store was written, at least
//! FOLDER/inbox/        the records
//! FOLDER/sled/         the engine's own files; or redb/
//! ```

use super::super::{Engine, Error, Options};
use super::inbox::Inbox;
use super::upgrade;
use super::witness::{self, Extent, Witness};
use super::write::Writer;
use super::{Driver, EmbeddedStore, Map, Purpose, Trouble, catch, damaged, digest, failed, keys};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, TryLockError};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Mutex, OnceLock};

/// The version of the keys and values; raised when an older program could not read them.
const FORMAT: u32 = 2;
/// In this version the records stood in the database.
const FORMAT_WITHOUT_INBOX: u32 = 1;

/// The content of the file `STORE`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Label {
    /// Which engine's files these are.
    engine: String,
    /// The version of the keys and values in them.
    format: u32,
}

/// Opens the store in `folder`, or makes it.
pub(in super::super) fn open(
    folder: &Path,
    options: &Options,
    driver: &dyn Driver,
) -> Result<EmbeddedStore, Error> {
    make_folder(folder)?;
    let lock = take_lock(folder)?;
    let format = check_label(folder, driver.engine())?;
    let database = folder.join(driver.engine().name());
    if format.is_some() && !database.exists() {
        return Err(Error::Unusable(format!(
            "the store's data are missing; restore a backup, or remove `{}` to start empty: `{}`",
            folder.join("STORE").display(),
            database.display()
        )));
    }
    if !database.exists() {
        create_database(&database, folder, driver)?;
    }
    let (map, read) = driver.open(&database).map_err(|it| it.told(&database))?;
    let inbox = Inbox::open(folder, options)?;
    let writer = catch(|| bring_up_to_date(folder, (&*map, &inbox), format))?;
    // What a start reads is looked at before, so that damage there shows here.
    inbox.check(writer.watermark())?;
    let record = inbox.last().max(writer.watermark());
    let witness = check_extent(folder, Extent { record, ..writer.extent() })?;
    inbox.clear_tail()?;
    Ok(EmbeddedStore {
        map,
        inbox,
        folder: folder.to_owned(),
        witness,
        writer: Mutex::new(writer),
        read: Mutex::new(Some(read)),
        failed: OnceLock::new(),
        _lock: lock,
    })
}

/// Writes what a database of this format has, if it is new or older, and then the label.
fn bring_up_to_date(
    folder: &Path,
    (map, inbox): (&dyn Map, &Inbox),
    format: Option<u32>,
) -> Result<Writer, Error> {
    let is_used = map.view()?.range(&[], &keys::digest()).next().is_some() || inbox.last() > 0;
    if format.is_none() && is_used {
        return Err(Error::Unusable(format!(
            "a database without its file `STORE`, perhaps of another program; move it away or put \
             the file back: `{}`",
            folder.display()
        )));
    }
    if format == Some(FORMAT_WITHOUT_INBOX) {
        upgrade::move_records(map, inbox)?;
    }
    let has_digest = digest::read(&*map.view()?)?.is_some();
    let writer = Writer::new(&*map.view()?)?;
    if format == Some(FORMAT) {
        return if has_digest { Ok(writer) } else { Err(damaged("its digest is lost")) };
    }
    let digest = writer.stage_digest()?;
    map.secure(&digest, Purpose::Commit)?;
    map.write(digest)?;
    write_label(folder, map.engine())?;
    Ok(writer)
}

impl Trouble {
    /// As the store tells it.
    pub(in super::super) fn told(self, database: &Path) -> Error {
        match self {
            Self::Other(error) => error,
            Self::Damaged(why) => Error::Damaged(format!(
                "the database is damaged; start the daemon, which sets it aside and goes on from \
                 a snapshot, or restore a backup: `{}`: `{why}`",
                database.display()
            )),
        }
    }
}

/// Makes a folder and those above it, so that a power loss does not take them away again.
fn make_folder(folder: &Path) -> Result<(), Error> {
    if folder.exists() {
        return Ok(());
    }
    let above = folder.parent().filter(|it| !it.as_os_str().is_empty());
    above.map_or(Ok(()), make_folder)?;
    let made = fs::create_dir(folder);
    made.map_err(|e| failed(&format!("make the folder `{}`", folder.display()), &e))?;
    sync_folder(above)
}

/// Locks a folder for this process; fails with [`Error::Unusable`] if another one has it.
pub(in super::super) fn take_lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join("LOCK");
    let file = File::options().create(true).truncate(false).read(true).write(true).open(&path);
    let mut file = file.map_err(|e| failed(&format!("open `{}`", path.display()), &e))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let known = file.read_to_string(&mut holder).is_ok() && !holder.trim().is_empty();
            let holder = if known { holder.trim() } else { "unknown" };
            return Err(Error::Unusable(format!(
                "the store is in use by the process with the id {holder}; stop it, or use another \
                 data folder: `{}`",
                folder.display()
            )));
        }
        Err(TryLockError::Error(e)) => {
            return Err(failed(&format!("lock `{}`", path.display()), &e));
        }
    }
    // Only a hint for people: a full disk must not keep us from opening.
    let note = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    if let Err(error) = note {
        tracing::debug!(%error, path = %path.display(), "the process id is not noted");
    }
    Ok(file)
}

/// The label of a folder; `None` = it has none.
fn read_label(folder: &Path) -> Result<Option<Label>, Error> {
    let path = folder.join("STORE");
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(&format!("read `{}`", path.display()), &e)),
    };
    serde_json::from_slice(&text).map(Some).map_err(|e| {
        Error::Unusable(format!(
            "cannot read `{}`; restore it from a backup: `{e}`",
            path.display()
        ))
    })
}

/// The engine whose store a folder holds; `None` = it holds none.
pub(in super::super) fn engine_of(folder: &Path) -> Result<Option<Engine>, Error> {
    read_label(folder)?.map(|it| it.engine.parse()).transpose()
}

/// The format of the folder's label, if it has one; an error if it is not ours.
fn check_label(folder: &Path, engine: Engine) -> Result<Option<u32>, Error> {
    let Some(label) = read_label(folder)? else { return Ok(None) };
    if label.engine != engine.name() {
        let engine = engine.name();
        return Err(Error::Unusable(format!(
            "the store in `{}` belongs to another engine than `{engine}`; move it over with \
             `watchkeeper store migrate --to {engine}`, or set `store.engine` to its own: `{}`",
            folder.display(),
            label.engine
        )));
    }
    if label.format > FORMAT {
        return Err(Error::Unusable(format!(
            "the store in `{}` was written by a newer version of this program, in format {}; \
             install that version: this one reads formats up to `{FORMAT}`",
            folder.display(),
            label.format
        )));
    }
    Ok(Some(label.format))
}

/// Refuses a database that lost what was acknowledged.
fn check_extent(folder: &Path, found: Extent) -> Result<Witness, Error> {
    let (witness, noted) = Witness::open(folder)?;
    let Some(noted) = noted.filter(|it| it.exceeds(found)) else {
        return Ok(witness);
    };
    Err(Error::Damaged(format!(
        "the database is damaged: {noted} were acknowledged, but it ends with {found}; start the \
         daemon, which sets it aside and goes on from a snapshot, or restore a backup, or remove \
         this file to go on without the rest: `{}`",
        folder.join(witness::NAME).display()
    )))
}

fn write_label(folder: &Path, engine: Engine) -> Result<(), Error> {
    let write = || -> std::io::Result<()> {
        let label = Label { engine: engine.name().to_owned(), format: FORMAT };
        let temporary = folder.join("STORE.new");
        let mut file = File::create(&temporary)?;
        serde_json::to_writer(&file, &label)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&temporary, folder.join("STORE"))
    };
    write().map_err(|e| failed("write the file `STORE`", &e))?;
    sync_folder(Some(folder))
}

/// Makes an empty database that survives a power loss from its first moment on. No engine syncs
/// the names of its files, and sled not even its settings: a store that lost power within its
/// first half minute did not open again.
fn create_database(database: &Path, folder: &Path, driver: &dyn Driver) -> Result<(), Error> {
    let temporary = folder.join(format!("{}.new", driver.engine().name()));
    if temporary.exists() {
        fs::remove_dir_all(&temporary).map_err(|e| failed("remove a half-made database", &e))?;
    }
    driver.create(&temporary)?;
    let sync = || -> std::io::Result<()> {
        for entry in fs::read_dir(&temporary)? {
            File::open(entry?.path())?.sync_all()?;
        }
        File::open(&temporary)?.sync_all()?;
        remove_if_there(&folder.join(witness::NAME))?;
        fs::rename(&temporary, database)
    };
    sync().map_err(|e| failed("put a new database in place", &e))?;
    sync_folder(Some(folder))
}

/// Makes the names in a folder durable.
pub(in super::super) fn sync_folder(folder: Option<&Path>) -> Result<(), Error> {
    let folder = folder.unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|it| it.sync_all())
        .map_err(|e| failed(&format!("make the folder `{}` durable", folder.display()), &e))
}

/// Whether an error means that there is no space, or no more for us.
pub(in super::super) fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

/// The space that is left for a folder's files, in bytes; 0 if that cannot be known.
pub(in super::super) fn free_bytes(folder: &Path) -> u64 {
    rustix::fs::statvfs(folder).map_or(0, |it| it.f_bavail.saturating_mul(it.f_frsize))
}

/// The size of a database's files, in bytes.
pub(super) fn size_of(database: &Path) -> u64 {
    let entries = fs::read_dir(database).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(it) if it.is_dir() => size_of(&entry.path()),
        it => it.map_or(0, |it| it.len()),
    };
    entries.map(size).sum()
}

/// Gives back the reserve if space is short, so that the engine can be opened.
pub(in super::super) fn free_reserve(folder: &Path, options: &Options) -> Result<(), Error> {
    if free_bytes(folder) >= options.free_bytes_min {
        return Ok(());
    }
    remove_if_there(&folder.join("reserve")).map_err(|e| failed("free the reserve", &e))
}

/// Removes a file; it is well if there is none.
pub(in super::super) fn remove_if_there(path: &Path) -> std::io::Result<()> {
    fs::remove_file(path).or_else(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(e),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_others_are_refused_with_a_way_out() {
        let cases = [
            ("{\"engine\":\"redb\",\"format\":1}", "store migrate --to sled"),
            ("{\"engine\":\"sled\",\"format\":3}", "newer version"),
            ("{\"engine\":", "restore it"),
        ];
        for (text, expected) in cases {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("STORE"), text).unwrap();
            let error = check_label(folder.path(), Engine::Sled).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_half_made_database_is_made_anew() {
        for engine in Engine::ALL {
            let folder = tempfile::tempdir().unwrap();
            let half = folder.path().join(format!("{}.new", engine.name()));
            fs::create_dir(&half).unwrap();
            fs::write(half.join("conf"), "half").unwrap();
            fs::write(half.join("db"), "half").unwrap();
            let store = super::super::super::open(engine, folder.path(), Options::default());
            store.unwrap();
            assert!(!half.exists());
        }
    }
}

//! How a store's folder is made, locked, checked and opened.
//!
//! ```text
//! FOLDER/STORE         whose it is: engine and format version
//! FOLDER/LOCK          held while a process has the store open; tells its id
//! FOLDER/reserve       space that is given back when a full disk keeps sled from opening
//! FOLDER/acknowledged  how far the store was written, at least
//! FOLDER/sled/         sled's own files
//! ```

use super::super::Error;
use super::space::{self, SEGMENT_BYTES, remove_if_there};
use super::witness::{self, Extent, Witness};
use super::{ENGINE, Options, failed};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The version of the keys and values; raised when an older program could not read them.
const FORMAT: u32 = 1;

/// How long a database that was just closed in this process may hold on to its files.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The content of the file `STORE`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Label {
    /// Which engine's files these are.
    engine: String,
    /// The version of the keys and values in them.
    format: u32,
}

/// A store's folder, opened.
pub(super) struct Opened {
    /// The database.
    pub(super) db: ::sled::Db,
    /// Our own handle of the database's file, to make it durable.
    pub(super) file: File,
    /// Held as long as the store is open.
    pub(super) lock: File,
    /// Where a damaged database was moved to.
    pub(super) set_aside: Option<PathBuf>,
}

/// Opens the store in `folder`, or makes it.
pub(super) fn open(folder: &Path, options: &Options) -> Result<Opened, Error> {
    let at = |e| failed(&format!("make the folder `{}`", folder.display()), &e);
    if !folder.exists() {
        fs::create_dir_all(folder).map_err(at)?;
        sync_folder(folder.parent().filter(|it| !it.as_os_str().is_empty()))?;
    }
    let lock = take_lock(folder)?;
    let labelled = check_label(folder)?;
    space::free_reserve(folder, options)?;
    let database = folder.join("sled");
    if labelled && !database.exists() && !options.set_aside_corrupt {
        return Err(Error::Unusable(format!(
            "the store's data are missing; restore a backup, or remove `{}` to start empty: `{}`",
            folder.join("STORE").display(),
            database.display()
        )));
    }
    if !database.exists() {
        create_database(folder, options)?;
    }
    let (db, set_aside) = match open_database(&database, options) {
        Ok(db) => (db, None),
        Err(Trouble::Damaged(why)) if options.set_aside_corrupt => {
            let aside = set_aside(folder, "sled", &why)?;
            create_database(folder, options)?;
            (open_database(&database, options).map_err(|it| it.told(&database))?, Some(aside))
        }
        Err(trouble) => return Err(trouble.told(&database)),
    };
    if !labelled {
        if !db.is_empty() {
            return Err(Error::Unusable(format!(
                "a database without its file `STORE`, perhaps of another program; move it away or \
                 put the file back: `{}`",
                database.display()
            )));
        }
        write_label(folder)?;
    }
    // sled renames its snapshot file at each start without making the rename durable.
    sync_folder(Some(&database))?;
    let file = File::options().read(true).write(true).open(database.join("db"));
    let file = file.map_err(|e| failed("open the database's file", &e))?;
    file.sync_data().map_err(|e| failed("make the database's file durable", &e))?;
    Ok(Opened { db, file, lock, set_aside })
}

fn take_lock(folder: &Path) -> Result<File, Error> {
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

/// Whether the folder has a label; an error if it is not ours.
fn check_label(folder: &Path) -> Result<bool, Error> {
    let path = folder.join("STORE");
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(failed(&format!("read `{}`", path.display()), &e)),
    };
    let label: Label = serde_json::from_slice(&text).map_err(|e| {
        Error::Unusable(format!(
            "cannot read `{}`; restore it from a backup: `{e}`",
            path.display()
        ))
    })?;
    if label.engine != ENGINE {
        return Err(Error::Unusable(format!(
            "the folder `{}` belongs to another engine than `{ENGINE}`; set `store.engine`, or use \
             another data folder: `{}`",
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
    Ok(true)
}

/// Refuses a database that lost what was acknowledged, or goes on without it if that is wanted.
pub(super) fn check_extent(
    folder: &Path,
    found: Extent,
    options: &Options,
    aside: Option<PathBuf>,
) -> Result<(Witness, Option<PathBuf>), Error> {
    let (witness, noted) = Witness::open(folder)?;
    let Some(noted) = noted.filter(|it| it.record > found.record || it.turn > found.turn) else {
        return Ok((witness, aside));
    };
    let path = folder.join(witness::NAME);
    let why = format!(
        "the database is damaged: record {} and turn {} were acknowledged, but it ends with record \
         {} and turn {}; restore a backup, or remove this file to go on without the rest: `{}`",
        noted.record,
        noted.turn,
        found.record,
        found.turn,
        path.display()
    );
    if !options.set_aside_corrupt {
        return Err(Error::Unusable(why));
    }
    let aside = set_aside(folder, witness::NAME, &why)?;
    let (witness, _) = Witness::open(folder)?;
    witness.note(found);
    Ok((witness, Some(aside)))
}

fn write_label(folder: &Path) -> Result<(), Error> {
    let write = || -> std::io::Result<()> {
        let label = Label { engine: ENGINE.to_owned(), format: FORMAT };
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

/// Makes an empty database that survives a power loss from its first moment on. sled itself never
/// syncs its settings and its folder: a store that lost power within its first half minute did
/// not open again.
fn create_database(folder: &Path, options: &Options) -> Result<(), Error> {
    let temporary = folder.join("sled.new");
    if temporary.exists() {
        fs::remove_dir_all(&temporary).map_err(|e| failed("remove a half-made database", &e))?;
    }
    let db = open_database(&temporary, options).map_err(|it| it.told(&temporary))?;
    db.flush().map_err(|e| failed("write a new database", &e))?;
    drop(db);
    let sync = || -> std::io::Result<()> {
        for entry in fs::read_dir(&temporary)? {
            File::open(entry?.path())?.sync_all()?;
        }
        File::open(&temporary)?.sync_all()?;
        remove_if_there(&folder.join(witness::NAME))?;
        fs::rename(&temporary, folder.join("sled"))
    };
    sync().map_err(|e| failed("put a new database in place", &e))?;
    sync_folder(Some(folder))
}

/// Makes the names in a folder durable.
fn sync_folder(folder: Option<&Path>) -> Result<(), Error> {
    let folder = folder.unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|it| it.sync_all())
        .map_err(|e| failed(&format!("make the folder `{}` durable", folder.display()), &e))
}

/// Moves something damaged away, under a name that tells when.
fn set_aside(folder: &Path, name: &str, why: &str) -> Result<PathBuf, Error> {
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%6fZ");
    let aside = folder.join(format!("{name}.corrupt-{now}"));
    fs::rename(folder.join(name), &aside).map_err(|e| failed("set what is damaged aside", &e))?;
    sync_folder(Some(folder))?;
    tracing::error!(why, aside = %aside.display(), "the database is damaged and was set aside");
    Ok(aside)
}

/// Why sled does not open.
enum Trouble {
    /// Its files are not as they must be.
    Damaged(String),
    /// Something else; trying again may help.
    Other(Error),
}

impl Trouble {
    fn told(self, database: &Path) -> Error {
        match self {
            Self::Other(error) => error,
            Self::Damaged(why) => Error::Unusable(format!(
                "the database is damaged; restore a backup, or move it away and start empty \
                 (nothing is deleted): `{}`: `{why}`",
                database.display()
            )),
        }
    }
}

/// Opens sled in a thread of its own, because it panics on some kinds of damage.
fn open_database(path: &Path, options: &Options) -> Result<::sled::Db, Trouble> {
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
            config.open().map(|db| super::read::check(&db).map(|()| db))
        });
        let opened = thread.map_err(|e| Trouble::Other(failed("start a thread", &e)))?.join();
        let error = match opened {
            Ok(Ok(read)) => return read.map_err(|e| Trouble::Damaged(e.to_string())),
            Ok(Err(error)) => error,
            Err(panic) => return Err(Trouble::Damaged(super::panic_text(&*panic))),
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

/// Whether an error means that there is no space, or no more for us.
fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_others_are_refused_with_a_way_out() {
        let cases = [
            ("{\"engine\":\"redb\",\"format\":1}", "another engine"),
            ("{\"engine\":\"sled\",\"format\":2}", "newer version"),
            ("{\"engine\":", "restore it"),
        ];
        for (text, expected) in cases {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("STORE"), text).unwrap();
            let error = check_label(folder.path()).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_half_made_database_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sled.new")).unwrap();
        fs::write(folder.path().join("sled.new/conf"), "half").unwrap();
        let opened = open(folder.path(), &Options::default()).unwrap();
        assert!(opened.db.is_empty());
        assert!(!folder.path().join("sled.new").exists());
    }
}

//! Care of a store whose daemon is stopped, and healing of one that is damaged.
//!
//! A store is never changed in place here: a new folder is made beside it, and the two change
//! places in one step. So at each moment one whole store has the name.
//!
//! ```text
//! DATA/store                   the store
//! DATA/store.rewriting         a new one that is being made, or the old one that is not needed
//! DATA/store.healing-TIME      a new one for a damaged one, or the damaged one
//! DATA/store.corrupt-TIME      the damaged one; a person looks at it and removes it
//! DATA/snapshots               what is open, hourly and at each stop
//! ```

use super::archive::{self, Content, Entry, Header, Writer};
use super::embedded::folder::{engine_of, sync_folder, take_lock};
use super::{Batch, EmbeddedStore, Engine, Error, Options, Record, Store, open, snapshot};
use crate::domain::event::{CorrelationDomain, Event, Healing};
use jiff::Timestamp;
use rustix::fs::{CWD, RenameFlags};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How many entries are imported in one step.
const IMPORT_ENTRIES: usize = 256;
/// A store whose files are larger than this many times what is in them is compacted at a start …
const COMPACT_RATIO: u64 = 4;
/// … if they are larger than this, in bytes.
const COMPACT_BYTES_MIN: u64 = 1 << 30;

/// How long an engine may hold on to its files after it was closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens the store in a folder. A damaged one is set aside, never deleted, and made anew from the
/// newest good snapshot; the first record of the new one tells of it. One that takes much more
/// space than it needs is compacted. Where no engine is named, it is that of the store.
pub fn open_healing(
    engine: Option<Engine>,
    folder: &Path,
    snapshots: &Path,
) -> Result<EmbeddedStore, Error> {
    let options = Options::default();
    clear_up(folder)?;
    let engine = match engine {
        Some(engine) => engine,
        None => found_engine(folder)?.unwrap_or_default(),
    };
    let store = match open(engine, folder, options) {
        Err(Error::Damaged(damage)) => {
            heal((engine, folder), snapshots, damage, Timestamp::now())?;
            open(engine, folder, options)?
        }
        other => other?,
    };
    if !is_worth_compacting(store.health().disk_bytes, store.live_bytes()) {
        return Ok(store);
    }
    drop(store);
    match compact(folder) {
        Ok(rewritten) => tracing::info!(?rewritten, "the store was compacted"),
        // It is a comfort, not a need.
        Err(error) => tracing::warn!(%error, "the store could not be compacted"),
    }
    open(engine, folder, options)
}

fn is_worth_compacting(disk_bytes: u64, live_bytes: u64) -> bool {
    disk_bytes > COMPACT_BYTES_MIN && disk_bytes / COMPACT_RATIO > live_bytes
}

/// Sets a damaged store aside and puts one in its place that is made from the newest good
/// snapshot in `snapshots`.
fn heal(
    (engine, folder): (Engine, &Path),
    snapshots: &Path,
    damage: String,
    now: Timestamp,
) -> Result<(), Error> {
    tracing::error!(damage, "the store is damaged; it is made anew from a snapshot");
    // Whoever has it open may not be healed under his feet.
    let _lock = closed(engine, folder)?;
    let time = now.strftime("%Y%m%dT%H%M%S%3fZ").to_string();
    let (new, aside) = (beside(folder, &format!("healing-{time}")), corrupt(folder, &time));
    let snapshot = snapshot::newest_good(snapshots);
    let snapshot_at = snapshot.as_ref().map(|it| it.at);
    let (entries, objects) = snapshot::as_of_now(snapshot);
    let told = aside.display().to_string();
    let healing = Healing { damage, aside: told, snapshot_at, healed_at: now, objects };
    let record = Record {
        seq: snapshot::last_seq(&entries) + 1,
        correlation_domain: CorrelationDomain::default(),
        events: vec![Event::StoreHealed(healing)],
    };
    let made = || -> Result<(), Error> {
        let store = open(engine, &new, Options::default())?;
        for part in entries.chunks(IMPORT_ENTRIES) {
            store.import(part)?;
        }
        store.write(&Batch { appends: vec![record], ..Batch::default() })
    };
    if let Err(error) = made().and_then(|()| exchange(&new, folder)) {
        remove(&new);
        return Err(error);
    }
    rename(&new, &aside)?;
    tracing::error!(?snapshot_at, objects, aside = %aside.display(), "the store was made anew");
    Ok(())
}

/// What a rewriting did.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Rewritten {
    /// The engine's name before.
    pub from: String,
    /// The engine's name now.
    pub to: String,
    /// How many entries there are.
    pub entries: u64,
    /// The size of the files before, in bytes.
    pub disk_bytes_before: u64,
    /// The size of the files now, in bytes.
    pub disk_bytes: u64,
}

/// Writes the store in a folder anew, so that it takes no more space than it needs.
pub fn compact(folder: &Path) -> Result<Rewritten, Error> {
    let engine = known_engine(folder)?;
    rewrite(folder, engine, engine)
}

/// Moves the store in a folder over to another engine.
pub fn migrate(folder: &Path, to: Engine) -> Result<Rewritten, Error> {
    let from = known_engine(folder)?;
    if from == to {
        let name = to.name();
        return Err(Error::Unusable(format!("the store is one of this engine already: `{name}`")));
    }
    rewrite(folder, from, to)
}

fn rewrite(folder: &Path, from: Engine, to: Engine) -> Result<Rewritten, Error> {
    clear_up(folder)?;
    let old = open(from, folder, Options::default())?;
    let new_folder = beside(folder, "rewriting");
    let made = || -> Result<Rewritten, Error> {
        let new = open(to, &new_folder, Options::default())?;
        let entries = copy(&mut |take| old.export(take), &new)?;
        if lines(&old)? != lines(&new)? {
            return Err(Error::Failed("the copy is not the same; try again".to_owned()));
        }
        Ok(Rewritten {
            from: from.name().to_owned(),
            to: to.name().to_owned(),
            entries,
            disk_bytes_before: old.health().disk_bytes,
            disk_bytes: new.health().disk_bytes,
        })
    };
    let made = made();
    drop(old);
    let rewritten = made.and_then(|it| {
        let _locks = (closed(from, folder)?, closed(to, &new_folder)?);
        exchange(&new_folder, folder).map(|()| it)
    });
    // After the exchange the old store has this name.
    remove(&new_folder);
    rewritten
}

/// Where entries come from.
type Source<'a> =
    &'a mut dyn FnMut(&mut dyn FnMut(Entry) -> Result<(), Error>) -> Result<(), Error>;

/// Imports everything that a source gives. Returns how many entries it were.
fn copy(source: Source<'_>, to: &EmbeddedStore) -> Result<u64, Error> {
    let mut waiting = Vec::with_capacity(IMPORT_ENTRIES);
    let mut count = 0;
    source(&mut |entry| {
        waiting.push(entry);
        count += 1;
        if waiting.len() < IMPORT_ENTRIES {
            return Ok(());
        }
        to.import(&std::mem::take(&mut waiting))
    })?;
    if !waiting.is_empty() {
        to.import(&waiting)?;
    }
    Ok(count)
}

/// The number of entries of a store, and a check number over them.
fn lines(store: &EmbeddedStore) -> Result<(u64, u32), Error> {
    let mut check = crc32fast::Hasher::new();
    let mut count = 0;
    store.export(&mut |entry| {
        let line = serde_json::to_vec(&entry).map_err(|e| Error::Failed(e.to_string()))?;
        check.update(&line);
        count += 1;
        Ok(())
    })?;
    Ok((count, check.finalize()))
}

/// Writes everything that is in the store of a folder into a file. Returns how many entries it has.
pub fn backup(folder: &Path, file: &Path, now: Timestamp) -> Result<u64, Error> {
    let engine = known_engine(folder)?;
    let store = open(engine, folder, Options::default())?;
    let mut writer = Writer::create(file, &Header::new(Content::Whole, engine.name(), now))?;
    store.export(&mut |entry| writer.put(&entry))?;
    writer.finish()
}

/// Makes the store of a folder from a file; the folder must not be there, or be empty. Without an
/// engine it is the one that the file came from. Returns the header and the number of entries.
pub fn restore(file: &Path, folder: &Path, engine: Option<Engine>) -> Result<(Header, u64), Error> {
    if fs::read_dir(folder).is_ok_and(|mut it| it.next().is_some()) {
        return Err(Error::Unusable(format!(
            "a store is made only where there is none; move the old one away: `{}`",
            folder.display()
        )));
    }
    // The whole file is looked at before anything is written.
    let header = archive::read(file, &mut |_| Ok(()))?;
    let engine = match engine {
        Some(engine) => engine,
        None => header.engine.parse()?,
    };
    let new_folder = beside(folder, "rewriting");
    remove(&new_folder);
    let made = || -> Result<u64, Error> {
        let new = open(engine, &new_folder, Options::default())?;
        copy(&mut |take| archive::read(file, take).map(drop), &new)
    };
    let entries = made().and_then(|it| rename(&new_folder, folder).map(|()| it));
    if entries.is_err() {
        remove(&new_folder);
    }
    Ok((header, entries?))
}

/// The engine of the store in a folder.
pub fn known_engine(folder: &Path) -> Result<Engine, Error> {
    engine_of(folder)?
        .ok_or_else(|| Error::Unusable(format!("there is no store in `{}`", folder.display())))
}

/// The same, also where the store has lost its label: then it is that of the database.
fn found_engine(folder: &Path) -> Result<Option<Engine>, Error> {
    let with_database = || Engine::ALL.into_iter().find(|it| folder.join(it.name()).exists());
    Ok(engine_of(folder)?.or_else(with_database))
}

/// Ends what a crash cut off: gives a damaged store its name, and removes what is not needed. The
/// store is locked meanwhile: another process may be making what looks left over.
fn clear_up(folder: &Path) -> Result<(), Error> {
    let parent = folder.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let healing = beside(folder, "healing-").to_string_lossy().into_owned();
    let rewriting = beside(folder, "rewriting");
    let paths = fs::read_dir(parent).into_iter().flatten().flatten();
    let paths: Vec<_> = paths.map(|it| parent.join(it.file_name())).collect();
    let time_of = |path: &Path| path.to_string_lossy().strip_prefix(&healing).map(str::to_owned);
    let is_left = |path: &PathBuf| time_of(path).is_some() || *path == rewriting;
    if !folder.exists() || !paths.iter().any(is_left) {
        return Ok(());
    }
    let _lock = take_lock(folder)?;
    for path in paths {
        if let Some(time) = time_of(&path) {
            rename(&path, &corrupt(folder, &time))?;
        }
    }
    remove(&rewriting);
    Ok(())
}

/// Locks a folder whose store was closed, once the engine has let go of its files: sled writes by
/// their path in the background for a moment more.
fn closed(engine: Engine, folder: &Path) -> Result<File, Error> {
    let lock = take_lock(folder)?;
    let path = folder.join(engine.name()).join("db");
    let deadline = Instant::now() + CLOSE_TIMEOUT;
    while let Ok(file) = File::open(&path)
        && let Err(TryLockError::WouldBlock) = file.try_lock()
    {
        if Instant::now() > deadline {
            let path = path.display();
            return Err(Error::Failed(format!("the engine does not let go of `{path}`")));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(lock)
}

/// A name beside a folder's.
fn beside(folder: &Path, what: &str) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(".");
    name.push(what);
    PathBuf::from(name)
}

fn corrupt(folder: &Path, time: &str) -> PathBuf {
    beside(folder, &format!("corrupt-{time}"))
}

/// Lets two folders change places in one step, durably.
fn exchange(one: &Path, other: &Path) -> Result<(), Error> {
    rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).map_err(|e| {
        Error::Failed(format!(
            "cannot put `{}` in the place of `{}`; the file system must be able to exchange two \
             folders: `{e}`",
            one.display(),
            other.display()
        ))
    })?;
    sync_folder(other.parent().filter(|it| !it.as_os_str().is_empty()))
}

fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(|e| {
        Error::Failed(format!("cannot name `{}` `{}`: `{e}`", from.display(), to.display()))
    })?;
    sync_folder(to.parent().filter(|it| !it.as_os_str().is_empty()))
}

/// Removes a folder that is not needed; if that fails, it is done at the next start.
fn remove(folder: &Path) {
    if let Err(error) = fs::remove_dir_all(folder)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, folder = %folder.display(), "what is not needed stays");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_compacted_when_it_is_large_and_mostly_empty() {
        let gib = 1 << 30;
        for (disk, live, expected) in [
            (gib / 2, 0, false),
            (2 * gib, gib, false),
            (2 * gib, gib / 3, true),
            (5 * gib, gib + 1, true),
            (4 * gib, gib, false),
        ] {
            assert_eq!(is_worth_compacting(disk, live), expected, "{live} of {disk}");
        }
    }
}

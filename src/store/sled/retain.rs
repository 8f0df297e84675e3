//! How what is old leaves the store, a little at a time.

use super::super::Error;
use super::encode::{self, Staged};
use super::write::{StoredTurns, Writer};
use super::{failed, keys, read};
use jiff::Timestamp;

impl Writer {
    /// Prepares the removal of at most `budget` values from before a time; tells how many it is.
    /// Turns go a commit at a time, and the last commit's stay: they hold the watermark.
    pub(super) fn stage_retain<'a>(
        &'a mut self,
        db: &'a ::sled::Db,
        before: Timestamp,
        budget: usize,
    ) -> Result<(Staged<'a>, usize), Error> {
        let mut staged = Staged::new(db, &mut self.compressor);
        let mut left = budget;
        remove_orphans(&mut staged, db, &mut left)?;
        remove_turns(&mut staged, db, before, &mut left)?;
        remove_closed(&mut staged, db, before, &mut left)?;
        Ok((staged, budget - left))
    }
}

/// Removes records whose turns are gone.
fn remove_orphans(staged: &mut Staged<'_>, db: &::sled::Db, left: &mut usize) -> Result<(), Error> {
    let first = db.scan_prefix([keys::TURNS]).next().transpose();
    let Some((key, head)) = first.map_err(|e| failed("read the turns", &e))? else {
        return Ok(());
    };
    let stored: StoredTurns = read::parse(&encode::value(db, &key, &head)?)?;
    // Records are applied in order, so those before the first kept turn's were applied earlier.
    let first_kept = stored.turns.iter().find_map(|it| it.seq);
    let end = first_kept.unwrap_or(stored.watermark.saturating_add(1));
    for key in db.range(keys::record(0)..keys::record(end)).keys().take(*left) {
        staged.remove(&key.map_err(|e| failed("read the inbox", &e))?)?;
        *left -= 1;
    }
    Ok(())
}

/// Removes commits' turns that are old; their records follow with the next call.
fn remove_turns(
    staged: &mut Staged<'_>,
    db: &::sled::Db,
    before: Timestamp,
    left: &mut usize,
) -> Result<(), Error> {
    let mut commits = db.scan_prefix([keys::TURNS]).peekable();
    while let Some(entry) = commits.next() {
        if *left == 0 || commits.peek().is_none() {
            break;
        }
        let (key, head) = entry.map_err(|e| failed("read the turns", &e))?;
        let stored: StoredTurns = read::parse(&encode::value(db, &key, &head)?)?;
        if stored.turns.last().is_some_and(|it| it.now >= before) {
            break;
        }
        staged.remove(&key)?;
        *left -= 1;
    }
    Ok(())
}

/// Removes objects that were closed before a time, each after its timeline.
fn remove_closed(
    staged: &mut Staged<'_>,
    db: &::sled::Db,
    before: Timestamp,
    left: &mut usize,
) -> Result<(), Error> {
    let mut end = vec![keys::CLOSED_AT];
    end.extend(keys::time(before));
    for key in db.range(vec![keys::CLOSED_AT]..end).keys() {
        let key = key.map_err(|e| failed("read what is closed", &e))?;
        let time = key.get(1..9).unwrap_or_default();
        let Some((kind, id)) = keys::kind_and_id(&key, 9) else { continue };
        let closed = keys::object(keys::CLOSED, kind, &id);
        let head = db.get(&closed).map_err(|e| failed("read a closed object", &e))?;
        let value = head.map(|head| encode::value(db, &closed, &head)).transpose()?;
        // It may have been closed again later; then only this mark of the first time goes.
        if value.is_some_and(|it| it.starts_with(time)) {
            let is_open = db.contains_key(keys::object(keys::OPEN, kind, &id));
            if !is_open.map_err(|e| failed("look for an open object", &e))? {
                for entry in db.scan_prefix(keys::timeline_of(&id)).keys().take(*left) {
                    staged.remove(&entry.map_err(|e| failed("read a timeline", &e))?)?;
                    *left -= 1;
                }
            }
            if *left == 0 {
                break;
            }
            staged.remove(&closed)?;
        } else if *left == 0 {
            break;
        }
        staged.remove(&key)?;
        *left -= 1;
    }
    Ok(())
}

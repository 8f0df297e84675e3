//! How what is old leaves the store, a little at a time.

use super::super::Error;
use super::encode::{self, Staged, Writes};
use super::write::{Next, StoredTurns, Writer};
use super::{View, keys, read};
use jiff::Timestamp;

impl Writer {
    /// Prepares the removal of at most `budget` values from before a time; tells how many it is.
    /// Turns go a commit at a time, and the last commit's stay: they hold the watermark.
    pub(super) fn stage_retain(
        &self,
        view: &dyn View,
        before: Timestamp,
        budget: usize,
    ) -> Result<(Writes, Next, usize), Error> {
        let (mut staged, next) = self.begin(view);
        let mut left = budget;
        remove_orphans(&mut staged, view, &mut left)?;
        remove_turns(&mut staged, view, before, &mut left)?;
        remove_closed(&mut staged, view, before, &mut left)?;
        let (writes, next) = next.with_digest(staged.into_writes()?);
        Ok((writes, next, budget - left))
    }
}

/// Removes records whose turns are gone: notes which one is the first that stays.
fn remove_orphans(staged: &mut Staged<'_>, view: &dyn View, left: &mut usize) -> Result<(), Error> {
    let first = view.prefix(&[keys::TURNS]).next().transpose();
    let Some((key, head)) = first? else {
        return Ok(());
    };
    let stored: StoredTurns = read::parse(&encode::value(view, &key, &head)?)?;
    // Records are applied in order, so those before the first kept turn's were applied earlier.
    let first_kept = stored.turns.iter().find_map(|it| it.seq);
    let end = first_kept.unwrap_or(stored.watermark.saturating_add(1));
    let known = read::first_record(view)?;
    let first = end.min(known.saturating_add(*left as u64));
    if first > known {
        *left = left.saturating_sub(usize::try_from(first - known).unwrap_or(usize::MAX));
        staged.put(vec![keys::FIRST_RECORD], &first.to_be_bytes())?;
    }
    Ok(())
}

/// Removes commits' turns that are old; their records follow with the next call.
fn remove_turns(
    staged: &mut Staged<'_>,
    view: &dyn View,
    before: Timestamp,
    left: &mut usize,
) -> Result<(), Error> {
    let mut commits = view.prefix(&[keys::TURNS]).peekable();
    while let Some(entry) = commits.next() {
        if *left == 0 || commits.peek().is_none() {
            break;
        }
        let (key, head) = entry?;
        let stored: StoredTurns = read::parse(&encode::value(view, &key, &head)?)?;
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
    view: &dyn View,
    before: Timestamp,
    left: &mut usize,
) -> Result<(), Error> {
    let mut end = vec![keys::CLOSED_AT];
    end.extend(keys::time(before));
    for entry in view.range(&[keys::CLOSED_AT], &end) {
        let (key, _) = entry?;
        let time = key.get(1..9).unwrap_or_default();
        let Some((kind, id)) = keys::kind_and_id(&key, 9) else { continue };
        let closed = keys::object(keys::CLOSED, kind, &id);
        let value =
            view.get(&closed)?.map(|head| encode::value(view, &closed, &head)).transpose()?;
        // It may have been closed again later; then only this mark of the first time goes.
        if value.is_some_and(|it| it.starts_with(time)) {
            if view.get(&keys::object(keys::OPEN, kind, &id))?.is_none() {
                for entry in view.prefix(&keys::timeline_of(&id)).take(*left) {
                    staged.remove(&entry?.0)?;
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

//! Stores of older formats: what must move before they can be used.

use super::super::{Error, Record};
use super::encode::{self, Writes};
use super::inbox::Inbox;
use super::{Map, Purpose, damaged, keys, read};

/// How many records are moved in one step.
const STEP: usize = 256;

/// In format 1 the records stood in the database, without a digest. Moves them into the inbox; may
/// be cut off at any place and begun again.
pub(super) fn move_records(map: &dyn Map, inbox: &Inbox) -> Result<(), Error> {
    loop {
        let view = map.view()?;
        let mut writes = Writes::new();
        let mut records: Vec<Record> = Vec::with_capacity(STEP);
        for entry in view.prefix(&[keys::RECORD]).take(STEP) {
            let (key, head) = entry?;
            let value = encode::value(&*view, &key, &head)?;
            // Before its text stands which record came before it.
            let text = value.get(size_of::<u64>()..).ok_or_else(|| damaged("a cut record"))?;
            records.push(read::parse(text)?);
            for number in 0..encode::piece_count(&head).unwrap_or(0) {
                writes.insert(keys::piece(&key, number), None);
            }
            writes.insert(key, None);
        }
        if records.is_empty() {
            return Ok(());
        }
        let last = inbox.last();
        records.retain(|it| it.seq > last);
        inbox.prepare(&records, &[])?.write()?;
        drop(view);
        map.secure(&writes, Purpose::Removal)?;
        map.write(writes)?;
    }
}

//! Drives sled without our guards, to see that the images find what it loses.

use crate::judge::Promise;
use crate::recording::{Remark, Remarks};
use std::fs::File;
use std::path::Path;

/// How many values are written.
const VALUES: u64 = 300;

/// Writes values with sled's own `flush`, and tells each as acknowledged. With `is_synced` the
/// folder is made durable, and each flush is followed by the `fdatasync` that our store does; then
/// only the settings that sled writes when it makes a database are not.
pub(crate) fn run(folder: &Path, is_synced: bool) {
    let mut remarks = Remarks::new();
    remarks.add(&Remark::Opening);
    let db = sled::open(folder).unwrap();
    let file = File::open(folder.join("db")).unwrap();
    if is_synced {
        File::open(folder).unwrap().sync_all().unwrap();
    }
    remarks.add(&Remark::Opened);
    remarks.add(&Remark::Acknowledged(0, "0".to_owned()));
    for number in 1..=VALUES {
        remarks.add(&Remark::Begun(number));
        db.insert(number.to_be_bytes(), value(number)).unwrap();
        db.flush().unwrap();
        if is_synced {
            file.sync_data().unwrap();
        }
        remarks.add(&Remark::Acknowledged(number, number.to_string()));
    }
}

/// An image must open and hold each value that was acknowledged.
pub(crate) fn check(folder: &Path, promise: &Promise<'_>) -> Result<(), String> {
    let db = sled::open(folder).map_err(|e| format!("does not open: {e}"))?;
    let mut count: u64 = 0;
    for entry in db.iter() {
        let (key, bytes) = entry.map_err(|e| format!("cannot be read: {e}"))?;
        count += 1;
        if key != count.to_be_bytes() || bytes != value(count) {
            return Err(format!("value {count} is another"));
        }
    }
    if promise.allowed.contains(&count.to_string().as_str()) {
        return Ok(());
    }
    Err(format!("lost: {count} are there, acknowledged: {:?}", promise.allowed))
}

fn value(number: u64) -> Vec<u8> {
    number.to_be_bytes().repeat(100)
}

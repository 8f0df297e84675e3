//! What redb reads and writes: storage that tells a full disk only where nothing was made durable.

use super::super::embedded::folder::is_full;
use ::redb::StorageBackend;
use std::io;

/// Storage for redb. It has no locks of its own: the store's folder is locked as a whole.
#[derive(Debug)]
pub(super) struct Disk(pub(super) Box<dyn StorageBackend>);

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    /// Some file systems find only here that there is no space. Then it is not known what of the
    /// transaction is on the disk, so that it must not look like a write that was refused.
    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data().map_err(|e| if is_full(&e) { io::Error::other(e) } else { e })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }
}

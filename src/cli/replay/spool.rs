//! Lines that become known in any order, written in order of their numbers.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Where a line lies; no length = there is none.
#[derive(Clone, Copy, Default)]
struct Place {
    offset: u64,
    length: u32,
}

/// Lines on their way into a file. They wait in a nameless file beside it, so that they take no
/// memory.
pub(super) struct Spool {
    waiting: BufWriter<File>,
    written: u64,
    places: Vec<Place>,
}

impl Spool {
    /// An empty one in a folder.
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        let waiting = BufWriter::new(tempfile::tempfile_in(folder)?);
        Ok(Self { waiting, written: 0, places: Vec::new() })
    }

    /// Takes in the line with a number, from 0.
    pub(super) fn put(&mut self, number: u64, line: &[u8]) -> io::Result<()> {
        let index = usize::try_from(number).map_err(io::Error::other)?;
        if self.places.len() <= index {
            self.places.resize(index + 1, Place::default());
        }
        let length = u32::try_from(line.len()).map_err(io::Error::other)?;
        if let Some(place) = self.places.get_mut(index) {
            *place = Place { offset: self.written, length };
        }
        self.waiting.write_all(line)?;
        self.written += line.len() as u64;
        Ok(())
    }

    /// Writes the lines in order of their numbers, each as `finish` makes it.
    pub(super) fn write(
        self,
        path: &Path,
        mut finish: impl FnMut(usize, &mut Vec<u8>),
    ) -> io::Result<()> {
        let waiting = self.waiting.into_inner().map_err(io::IntoInnerError::into_error)?;
        let mut out = BufWriter::new(File::create(path)?);
        let mut line = Vec::new();
        for (number, place) in self.places.iter().enumerate().filter(|(_, it)| it.length > 0) {
            line.resize(place.length as usize, 0);
            waiting.read_exact_at(&mut line, place.offset)?;
            finish(number, &mut line);
            line.push(b'\n');
            out.write_all(&line)?;
        }
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_in_order_of_their_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(folder.path()).unwrap();
        for (number, line) in [(5, "five"), (1, "one"), (3, "three")] {
            spool.put(number, line.as_bytes()).unwrap();
        }
        let path = folder.path().join("out");
        spool.write(&path, |number, line| line.extend(number.to_string().bytes())).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one1\nthree3\nfive5\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left");
    }
}

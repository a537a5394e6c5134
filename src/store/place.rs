//! Where a stored blob is, for readers that want any part of it, from any thread.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::Arc;

/// The bytes of one blob, **unverified**.
#[derive(Debug)]
pub struct BlobPlace<'a> {
    pub(super) bytes: PlaceBytes<'a>,
    pub(super) size: u64,
}

#[derive(Debug)]
pub(super) enum PlaceBytes<'a> {
    Memory(Arc<[u8]>),
    /// A part of a file that the store holds open.
    Part(&'a File, u64),
    /// A whole file.
    File(File),
}

/// Device, inode, size, and the times of the last change in nanoseconds: they differ when a file was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp([i128; 5]);

impl BlobPlace<'_> {
    /// Returns the size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads from a position inside the blob; zero bytes only at its end.
    ///
    /// Errors: the system's; a file that is shorter than it was when the store was opened.
    pub fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(position)).unwrap_or(usize::MAX);
        let most = left.min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let count = match &self.bytes {
            PlaceBytes::Memory(bytes) => {
                let rest = usize::try_from(position).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
                let count = rest.len().min(most);
                buffer[..count].copy_from_slice(&rest[..count]);
                count
            }
            PlaceBytes::Part(file, offset) => file.read_at(&mut buffer[..most], offset + position)?,
            PlaceBytes::File(file) => file.read_at(&mut buffer[..most], position)?,
        };
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file was cut while it was read"));
        }
        Ok(count)
    }

    /// Returns the file that has the bytes, and the position of the first of them; `None` for bytes in memory.
    #[must_use]
    pub fn file(&self) -> Option<(&File, u64)> {
        match &self.bytes {
            PlaceBytes::Memory(_) => None,
            PlaceBytes::Part(file, offset) => Some((file, *offset)),
            PlaceBytes::File(file) => Some((file, 0)),
        }
    }

    /// Returns values that change when the bytes do; the same for all bytes in memory, which do not change.
    pub fn stamp(&self) -> io::Result<Stamp> {
        let Some((file, _)) = self.file() else { return Ok(Stamp([0; 5])) };
        let metadata = file.metadata()?;
        let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Ok(Stamp([
            i128::from(metadata.dev()),
            i128::from(metadata.ino()),
            i128::from(metadata.size()),
            nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        ]))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn parts_are_read_within_the_blob_and_a_change_is_seen() {
        let mut file = crate::stream::nameless_file(&std::env::temp_dir()).unwrap();
        file.write_all(b"xxabcdyy").unwrap();
        for place in [
            BlobPlace { bytes: PlaceBytes::Part(&file, 2), size: 4 },
            BlobPlace { bytes: PlaceBytes::Memory(Arc::from(&b"abcd"[..])), size: 4 },
        ] {
            let mut buffer = [0; 8];
            assert_eq!(place.read_at(&mut buffer, 1).unwrap(), 3);
            assert_eq!(&buffer[..3], b"bcd");
            assert_eq!(place.read_at(&mut buffer, 4).unwrap(), 0);
            assert_eq!(place.read_at(&mut buffer, 9).unwrap(), 0);
            assert_eq!(place.stamp().unwrap(), place.stamp().unwrap());
        }
        let place = BlobPlace { bytes: PlaceBytes::Part(&file, 2), size: 4 };
        let before = place.stamp().unwrap();
        file.set_len(3).unwrap();
        assert_ne!(place.stamp().unwrap(), before);
        let mut buffer = [0; 8];
        assert_eq!(place.read_at(&mut buffer, 0).unwrap(), 1);
        let error = place.read_at(&mut buffer, 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}

//! Where a stored blob is, for readers that want any part of it, from any thread.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use crate::model::Digest;
use crate::stream::{FilePart, ReadAt};

use super::StoreError;
use super::remote_blobs::RemoteBlobs;

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
    Part(&'a dyn ReadAt, u64),
    /// A whole file.
    File(Arc<File>),
    /// Elsewhere; what is there is found out by opening it.
    Remote(&'a dyn RemoteBlobs, Digest),
}

/// Device, inode, size, and the times of the last change in nanoseconds: they differ when a file was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp([i128; 5]);

impl<'a> BlobPlace<'a> {
    /// Returns the size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Tells whether the bytes are not on this machine: each reading of them may give others.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        match &self.bytes {
            PlaceBytes::Remote(..) => true,
            PlaceBytes::Part(file, _) => file.as_file().is_none(),
            PlaceBytes::Memory(_) | PlaceBytes::File(_) => false,
        }
    }

    /// Tells whether the bytes are there; those of this machine were found when the store was opened.
    pub fn is_there(&self) -> Result<bool, StoreError> {
        match &self.bytes {
            PlaceBytes::Remote(blobs, digest) => blobs.has(digest, self.size),
            PlaceBytes::Memory(_) | PlaceBytes::Part(..) | PlaceBytes::File(_) => Ok(true),
        }
    }

    /// Opens the bytes from a position to their end.
    ///
    /// Errors: [`StoreError::Gone`] and [`StoreError::Remote`] of bytes elsewhere. Reading gives the system's errors, and
    /// one for a file that is shorter than it was when the store was opened.
    pub fn reader(&self, from: u64) -> Result<Box<dyn Read + Send + 'a>, StoreError> {
        let left = self.size.saturating_sub(from);
        Ok(match &self.bytes {
            PlaceBytes::Memory(bytes) => {
                let mut reader = Cursor::new(Arc::clone(bytes));
                reader.set_position(from);
                Box::new(reader)
            }
            PlaceBytes::Part(file, offset) => file.part(offset + from, left),
            PlaceBytes::File(file) => Box::new(FilePart::new(Arc::clone(file), from, left)),
            PlaceBytes::Remote(blobs, digest) => Box::new(blobs.open(digest, self.size, from)?.take(left)),
        })
    }

    /// Returns values that change when the bytes do; the same for bytes in memory, which do not change, and for those
    /// elsewhere, which are written once.
    pub fn stamp(&self) -> io::Result<Stamp> {
        let file: &File = match &self.bytes {
            PlaceBytes::Memory(_) | PlaceBytes::Remote(..) => return Ok(Stamp([0; 5])),
            PlaceBytes::Part(file, _) => match file.as_file() {
                Some(file) => file,
                None => return Ok(Stamp([0; 5])),
            },
            PlaceBytes::File(file) => file,
        };
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
    use std::path::Path;

    use super::*;

    /// One blob that may be read once.
    #[derive(Debug)]
    struct Elsewhere(Option<Digest>);

    impl RemoteBlobs for Elsewhere {
        fn open(&self, digest: &Digest, _: u64, from: u64) -> Result<Box<dyn Read + Send + '_>, StoreError> {
            match self.has(digest, 4)? {
                true => Ok(Box::new(io::repeat(b'x').take(6 - from))),
                false => Err(StoreError::Gone { place: "`there`".to_owned(), digest: digest.clone() }),
            }
        }

        fn has(&self, digest: &Digest, _: u64) -> Result<bool, StoreError> {
            Ok(self.0.as_ref() == Some(digest))
        }
    }

    fn read(place: &BlobPlace<'_>, from: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        place.reader(from).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn parts_are_read_within_the_blob_and_a_change_is_seen() {
        let mut file = crate::stream::nameless_file(&std::env::temp_dir()).unwrap();
        file.write_all(b"xxabcdyy").unwrap();
        for place in [
            BlobPlace { bytes: PlaceBytes::Part(&file, 2), size: 4 },
            BlobPlace { bytes: PlaceBytes::Memory(Arc::from(&b"abcd"[..])), size: 4 },
        ] {
            for (from, expected) in [(0, &b"abcd"[..]), (1, b"bcd"), (4, b""), (9, b"")] {
                assert_eq!(read(&place, from), expected, "{from}");
            }
            assert_eq!(place.stamp().unwrap(), place.stamp().unwrap());
            assert!(place.is_there().unwrap() && !place.is_remote());
        }
        let place = BlobPlace { bytes: PlaceBytes::Part(&file, 2), size: 4 };
        let before = place.stamp().unwrap();
        file.set_len(3).unwrap();
        assert_ne!(place.stamp().unwrap(), before);
        let mut reader = place.reader(0).unwrap();
        let mut buffer = [0; 8];
        assert_eq!(reader.read(&mut buffer).unwrap(), 1);
        assert_eq!(reader.read(&mut buffer).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn bytes_elsewhere_are_asked_for_when_they_are_read() {
        let digest = Digest::sha256_of(b"a");
        let (there, gone) = (Elsewhere(Some(digest.clone())), Elsewhere(None));
        let place = |blobs| BlobPlace { bytes: PlaceBytes::Remote(blobs, digest.clone()), size: 4 };
        assert_eq!(read(&place(&there), 1), b"xxx", "no more than the blob has");
        assert!(place(&there).is_there().unwrap() && place(&there).is_remote());
        assert!(!place(&gone).is_there().unwrap());
        assert!(matches!(place(&gone).reader(0), Err(StoreError::Gone { .. })));
    }

    #[test]
    fn a_stamp_has_the_size_and_the_time_of_change_in_nanoseconds() {
        use std::time::{Duration, UNIX_EPOCH};
        let mut file = crate::stream::nameless_file(&std::env::temp_dir()).unwrap();
        file.write_all(b"abcd").unwrap();
        file.set_modified(UNIX_EPOCH + Duration::new(5, 7)).unwrap();
        let place = BlobPlace { bytes: PlaceBytes::Part(&file, 1), size: 2 };
        let Stamp([_, inode, size, modified, _]) = place.stamp().unwrap();
        assert_eq!((size, modified), (4, 5_000_000_007));
        assert_eq!(inode, i128::from(file.metadata().unwrap().ino()));
    }

    #[test]
    fn a_stamp_tells_files_and_devices_apart() {
        let stamp = |path: &Path| {
            let file = Arc::new(File::open(path).unwrap());
            BlobPlace { bytes: PlaceBytes::File(file), size: 0 }.stamp().unwrap()
        };
        let scratch = testkit::scratch::Scratch::new("stamps");
        let path = scratch.write("file", "x");
        let metadata = path.metadata().unwrap();
        let changed = i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec());
        let Stamp([device, inode, size, _, found]) = stamp(&path);
        assert_eq!((device, inode, size, found), (metadata.dev().into(), metadata.ino().into(), 1, changed));
        assert_ne!(stamp(Path::new("/proc/self/stat")), stamp(&path));
    }
}

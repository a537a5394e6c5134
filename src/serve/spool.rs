//! Pushed bytes in one file without a name, so that many uploads at once need only one file handle.
//!
//! An upload reserves pieces of the file as it grows, small ones first, so that uploads at once do not wait for each
//! other. A piece is sparse until it is written. The file ends with the process.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, fallocate};

use crate::model::{Algorithm, Digest, Hasher, limits};
use crate::stream::{FileError, fitting, nameless_file};

/// Sizes of an upload's pieces, bytes; the last size is repeated.
const PIECES: [u64; 4] = [64 << 10, 1 << 20, 4 << 20, 16 << 20];

/// The file.
#[derive(Debug)]
pub(super) struct Spool {
    file: File,
    folder: PathBuf,
    /// Where the next piece begins.
    end: AtomicU64,
    limit: u64,
}

/// A piece of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    offset: u64,
    size: u64,
}

/// Bytes that were pushed, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Pushed {
    pieces: Vec<Piece>,
    size: u64,
}

impl Pushed {
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    fn room(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.size).sum::<u64>() - self.size
    }

    /// Returns the place of a byte in the file, and how many bytes follow it there.
    fn locate(&self, position: u64) -> Option<(u64, u64)> {
        let mut before = 0;
        for piece in &self.pieces {
            if position < before + piece.size {
                let inside = position - before;
                return Some((piece.offset + inside, piece.size - inside));
            }
            before += piece.size;
        }
        None
    }
}

impl Spool {
    /// Opens the file in a folder.
    pub(super) fn create(folder: &Path) -> Result<Self, FileError> {
        let (file, folder) = (nameless_file(folder)?, folder.to_owned());
        Ok(Self { file, folder, end: AtomicU64::new(0), limit: limits::COLLECTED_BYTES })
    }

    /// Returns the folder that has the file, for messages.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Adds bytes to an upload.
    ///
    /// Errors: those of writing; [`io::ErrorKind::QuotaExceeded`] beyond [`limits::COLLECTED_BYTES`].
    pub(super) fn append(&self, upload: &mut Pushed, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if upload.room() == 0 {
                self.enlarge(upload)?;
            }
            let (offset, left) = upload.locate(upload.size).unwrap_or_default();
            let most = fitting(left, bytes.len());
            self.file.write_all_at(&bytes[..most], offset)?;
            upload.size += most as u64;
            bytes = &bytes[most..];
        }
        Ok(())
    }

    fn enlarge(&self, upload: &mut Pushed) -> io::Result<()> {
        let size = PIECES.get(upload.pieces.len()).or(PIECES.last()).copied().unwrap_or_default();
        let offset = self.end.fetch_add(size, Ordering::Relaxed);
        if offset.saturating_add(size) > self.limit {
            let text = format!("more than {} bytes were pushed", self.limit);
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, text));
        }
        match upload.pieces.last_mut() {
            // Adjacent pieces are joined. The first few are not, because their number decides the size of the next one.
            Some(last) if upload_is_long(size) && last.offset + last.size == offset => last.size += size,
            _ => upload.pieces.push(Piece { offset, size }),
        }
        Ok(())
    }

    pub(super) fn read_at(&self, pushed: &Pushed, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let left = pushed.size.saturating_sub(position);
        let Some((offset, together)) = pushed.locate(position).filter(|_| left > 0) else { return Ok(0) };
        let most = fitting(together.min(left), buffer.len());
        match self.file.read_at(&mut buffer[..most], offset)? {
            0 if most > 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => Ok(count),
        }
    }

    /// Frees the space of an upload in the file system.
    pub(super) fn drop_upload(&self, upload: &Pushed) {
        for piece in &upload.pieces {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            // A file system without holes frees the space only when the process ends.
            let _ = fallocate(&self.file, flags, piece.offset, piece.size);
        }
    }

    /// Computes the digest of what was pushed.
    pub(super) fn digest(&self, pushed: &Pushed, algorithm: Algorithm) -> io::Result<Digest> {
        let mut hasher: Hasher = algorithm.hasher();
        let (mut buffer, mut position) = (vec![0; 256 * 1024], 0);
        loop {
            match self.read_at(pushed, &mut buffer, position)? {
                0 => return Ok(hasher.finish()),
                count => {
                    hasher.update(&buffer[..count]);
                    position += count as u64;
                }
            }
        }
    }
}

fn upload_is_long(size: u64) -> bool {
    Some(&size) == PIECES.last()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spool() -> Spool {
        Spool::create(&std::env::temp_dir()).unwrap()
    }

    #[test]
    fn uploads_that_grow_in_turns_stay_apart() {
        let spool = spool();
        let (mut one, mut two) = (Pushed::default(), Pushed::default());
        for round in 0..40_u8 {
            spool.append(&mut one, &vec![round; 100_000]).unwrap();
            spool.append(&mut two, &vec![100 + round; 70_000]).unwrap();
        }
        let expected = |first: u8, size: usize| -> Vec<u8> {
            (0..40).flat_map(|round| vec![first + round; size]).collect()
        };
        for (upload, expected) in [(&one, expected(0, 100_000)), (&two, expected(100, 70_000))] {
            assert_eq!(upload.size(), expected.len() as u64);
            let digest = spool.digest(upload, Algorithm::Sha256).unwrap();
            assert_eq!(digest, Digest::sha256_of(&expected));
        }
        spool.drop_upload(&two);
        assert_eq!(spool.digest(&one, Algorithm::Sha256).unwrap(), Digest::sha256_of(&expected(0, 100_000)));
        let mut buffer = [0; 4];
        assert_eq!(spool.read_at(&one, &mut buffer, one.size()).unwrap(), 0);
        assert_eq!(spool.read_at(&one, &mut buffer, one.size() - 2).unwrap(), 2);
    }

    #[test]
    fn one_byte_more_than_the_limit_is_refused() {
        let spool = Spool { limit: 64 << 10, ..spool() };
        let mut upload = Pushed::default();
        spool.append(&mut upload, &vec![1; 64 << 10]).unwrap();
        let error = spool.append(&mut upload, b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
        assert_eq!(error.to_string(), "more than 65536 bytes were pushed");
    }
}

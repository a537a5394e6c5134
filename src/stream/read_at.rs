//! A file that is read at any position, from several threads: one of this machine, or one that a server sends in parts.

use std::borrow::Borrow;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use super::fit::fitting;

/// Bytes of a known number that do not change while they are read.
pub trait ReadAt: fmt::Debug + Send + Sync {
    /// Returns the number of bytes.
    fn size(&self) -> io::Result<u64>;

    /// Reads some bytes at a position; none only at the end.
    ///
    /// Cost: where a server has the file, one request for each position that is far from those before.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;

    /// Returns a reader of `length` bytes from a position; it opens nothing before its first read.
    ///
    /// Errors: reading gives [`io::ErrorKind::UnexpectedEof`] when the file ends before them.
    fn part(&self, position: u64, length: u64) -> Box<dyn Read + Send + '_>;

    /// Returns the file of this machine, if it is one.
    fn as_file(&self) -> Option<&File> {
        None
    }
}

impl ReadAt for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, position)
    }

    fn part(&self, position: u64, length: u64) -> Box<dyn Read + Send + '_> {
        Box::new(FilePart { file: self, position, left: length })
    }

    fn as_file(&self) -> Option<&File> {
        Some(self)
    }
}

/// Reads a part of a file with positioned reads, so that threads do not disturb each other.
#[derive(Debug)]
pub struct FilePart<F> {
    file: F,
    position: u64,
    left: u64,
}

impl<F: Borrow<File>> FilePart<F> {
    /// Starts at a position; `length` bytes are read.
    #[must_use]
    pub fn new(file: F, position: u64, length: u64) -> Self {
        Self { file, position, left: length }
    }
}

impl<F: Borrow<File>> Read for FilePart<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = fitting(self.left, buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let file: &File = self.file.borrow();
        let count = FileExt::read_at(file, &mut buffer[..most], self.position)?;
        if count == 0 {
            return Err(cut_at(self.position));
        }
        self.position += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// Makes the error for a file that ended before its bytes did.
fn cut_at(position: u64) -> io::Error {
    let text = format!("the file was cut at byte {position} while it was read");
    io::Error::new(io::ErrorKind::UnexpectedEof, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_its_bytes_or_says_where_the_file_was_cut() {
        let scratch = testkit::scratch::Scratch::new("read-at");
        let file = File::open(scratch.write("file", "0123456789")).unwrap();
        assert_eq!(ReadAt::size(&file).unwrap(), 10);
        assert!(ReadAt::as_file(&file).is_some());
        let mut two = [0; 2];
        assert_eq!((ReadAt::read_at(&file, &mut two, 9).unwrap(), two[0]), (1, b'9'));
        let read = |position, length| {
            let mut text = String::new();
            file.part(position, length).read_to_string(&mut text).map(|_| text)
        };
        assert_eq!(read(3, 4).unwrap(), "3456");
        assert_eq!(read(0, 0).unwrap(), "");
        let error = read(8, 3).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(error.to_string(), "the file was cut at byte 10 while it was read");
    }
}

//! Reading and writing a file at a position of the reader's own, so that several threads can share one open file.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;

/// Writes at its own moving position; the file's position is not used.
#[derive(Debug)]
pub struct WriteFrom<'a> {
    file: &'a File,
    position: u64,
}

impl<'a> WriteFrom<'a> {
    /// Starts at a position, in bytes from the start of the file.
    #[must_use]
    pub fn new(file: &'a File, position: u64) -> Self {
        Self { file, position }
    }

    /// Returns the position of the next byte.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }
}

impl Write for WriteFrom<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all_at(bytes, self.position)?;
        self.position += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads at its own moving position; the file's position is not used.
#[derive(Debug)]
pub struct ReadFrom<'a> {
    file: &'a File,
    position: u64,
}

impl<'a> ReadFrom<'a> {
    /// Starts at a position, in bytes from the start of the file.
    #[must_use]
    pub fn new(file: &'a File, position: u64) -> Self {
        Self { file, position }
    }
}

impl Read for ReadFrom<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buffer, self.position)?;
        self.position += n as u64;
        Ok(n)
    }
}

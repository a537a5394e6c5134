//! Reading and writing a file from a position of one's own, so that several users do not disturb one another.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;

/// Writes at a moving position, whatever the file's own one is.
#[derive(Debug)]
pub struct WriteFrom<'a> {
    file: &'a File,
    position: u64,
}

impl<'a> WriteFrom<'a> {
    /// Begins at a position.
    #[must_use]
    pub fn new(file: &'a File, position: u64) -> Self {
        Self { file, position }
    }

    /// Returns where the next byte goes.
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

/// Reads at a moving position, whatever the file's own one is.
#[derive(Debug)]
pub struct ReadFrom<'a> {
    file: &'a File,
    position: u64,
}

impl<'a> ReadFrom<'a> {
    /// Begins at a position.
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

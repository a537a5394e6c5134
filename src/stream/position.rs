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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_and_writers_of_one_file_keep_their_own_positions() {
        let path = std::env::temp_dir().join(format!("imgrelay-position-{}", std::process::id()));
        std::fs::write(&path, "0123456789").unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let mut writer = WriteFrom::new(&file, 4);
        writer.write_all(b"ab").unwrap();
        writer.write_all(b"c").unwrap();
        writer.flush().unwrap();
        assert_eq!(writer.position(), 7);
        let (mut one, mut two) = (ReadFrom::new(&file, 2), ReadFrom::new(&file, 6));
        let mut three = [0; 3];
        one.read_exact(&mut three).unwrap();
        assert_eq!(&three, b"23a");
        let mut rest = String::new();
        two.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "c789");
        one.read_exact(&mut three).unwrap();
        assert_eq!(&three, b"bc7", "the other reader did not move this one");
        assert_eq!(ReadFrom::new(&file, 11).read(&mut three).unwrap(), 0, "nothing after the end");
        std::fs::remove_file(path).unwrap();
    }
}

//! The digest of a stream that is not stored: what a layer's `diff_id` would be, without compressing it.

use std::io::{self, Write};

use crate::model::{Algorithm, Digest, Hasher};

use super::{BlockSink, cancel};

/// Bytes hashed at once; fits the second-level cache.
const BUFFER_BYTES: usize = 256 * 1024;

/// Hashes what is written to it and keeps nothing.
#[derive(Debug)]
pub struct DiffIdWriter {
    hasher: Hasher,
    buffer: Vec<u8>,
    filled: usize,
    total: u64,
}

impl Default for DiffIdWriter {
    fn default() -> Self {
        Self { hasher: Algorithm::Sha256.hasher(), buffer: vec![0; BUFFER_BYTES], filled: 0, total: 0 }
    }
}

impl DiffIdWriter {
    fn hash(&mut self) -> io::Result<()> {
        cancel::check()?;
        self.hasher.update(&self.buffer[..self.filled]);
        self.total += self.filled as u64;
        self.filled = 0;
        Ok(())
    }

    /// Returns the digest and the number of bytes.
    pub fn finish(mut self) -> io::Result<(Digest, u64)> {
        self.hash()?;
        Ok((self.hasher.finish(), self.total))
    }
}

impl BlockSink for DiffIdWriter {
    fn space(&mut self) -> io::Result<&mut [u8]> {
        if self.filled == self.buffer.len() {
            self.hash()?;
        }
        Ok(&mut self.buffer[self.filled..])
    }

    fn advance(&mut self, read: usize) {
        self.filled = (self.filled + read).min(self.buffer.len());
    }
}

impl Write for DiffIdWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let space = self.space()?;
        let n = bytes.len().min(space.len());
        space[..n].copy_from_slice(&bytes[..n]);
        self.advance(n);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_hashed_whichever_way_they_come() {
        let bytes: Vec<u8> = (0..BUFFER_BYTES + 3).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let mut writer = DiffIdWriter::default();
        writer.write_all(&bytes[..7]).unwrap();
        let mut at = 7;
        while at < bytes.len() {
            let space = writer.space().unwrap();
            let n = space.len().min(bytes.len() - at).min(10_000);
            space[..n].copy_from_slice(&bytes[at..at + n]);
            writer.advance(n);
            at += n;
        }
        assert_eq!(writer.finish().unwrap(), (Digest::sha256_of(&bytes), bytes.len() as u64));
    }
}

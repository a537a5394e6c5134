//! Little-endian numbers, checksums and byte ranges of a zip file.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;

use libdeflater::Crc;

use crate::stream::fitting;

/// Bytes of the header in front of an entry's content, without name and extra fields (APPNOTE 4.3.7).
pub(super) const LOCAL_LEN: usize = 30;
/// [`LOCAL_LEN`] for arithmetic on offsets.
pub(super) const LOCAL_BYTES: u64 = LOCAL_LEN as u64;

/// Reads a number of a record whose length the caller has checked.
pub(super) fn u16_at(record: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([record[at], record[at + 1]])
}

/// As [`u16_at`], for four bytes.
pub(super) fn u32_at(record: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]])
}

/// As [`u16_at`], for eight bytes.
pub(super) fn u64_at(record: &[u8], at: usize) -> u64 {
    u64::from(u32_at(record, at)) | u64::from(u32_at(record, at + 4)) << 32
}

/// Returns the CRC-32 of bytes in memory.
pub(super) fn crc_of(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// A range of a file, read by position, so that several readers do not disturb one another.
#[derive(Debug)]
pub(super) struct Span<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl<'a> Span<'a> {
    pub(super) fn new(file: &'a File, offset: u64, size: u64) -> Self {
        Self { file, offset, left: size }
    }
}

impl Read for Span<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = fitting(self.left, buffer.len());
        let n = self.file.read_at(&mut buffer[..most], self.offset)?;
        self.offset += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use testkit::scratch::Scratch;

    use super::*;

    #[test]
    fn numbers_are_little_endian() {
        let bytes = [9, 1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(u16_at(&bytes, 1), 0x0201);
        assert_eq!(u32_at(&bytes, 1), 0x0403_0201);
        assert_eq!(u64_at(&bytes, 1), 0x0807_0605_0403_0201);
    }

    #[test]
    fn the_checksum_is_crc_32() {
        // The check value of CRC-32/ISO-HDLC.
        assert_eq!(crc_of(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_span_ends_where_it_should_and_does_not_move_the_file() {
        let scratch = Scratch::new("zip-span");
        let file = File::open(scratch.write("f", "0123456789")).unwrap();
        let mut found = String::new();
        Span::new(&file, 2, 5).read_to_string(&mut found).unwrap();
        assert_eq!(found, "23456");
        found.clear();
        Span::new(&file, 8, 5).read_to_string(&mut found).unwrap();
        assert_eq!(found, "89", "the file is shorter");
    }
}

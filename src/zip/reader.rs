//! One entry's content: unpacked while it is read, and compared with what the directory declares.

use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt as _;

use flate2::bufread::DeflateDecoder;
use libdeflater::Crc;

use crate::stream::fitting;

use super::bytes::{LOCAL_BYTES, LOCAL_LEN, Span, crc_of, u16_at, u32_at};
use super::entry::Entry;
use super::{EntryProblem, ZipError};

const LOCAL: u32 = 0x0403_4b50;
/// Bytes of compressed data read at once.
const BUFFER_BYTES: usize = 64 * 1024;

#[derive(Debug)]
enum Body<'a> {
    Stored(Span<'a>),
    Deflated(Box<DeflateDecoder<BufReader<Span<'a>>>>),
}

/// Reads an entry's content; it has to be read to the end and [`EntryReader::finish`]ed.
#[derive(Debug)]
pub struct EntryReader<'a> {
    entry: &'a Entry,
    body: Body<'a>,
    crc: CrcSum,
    read: u64,
}

/// A checksum that can be printed.
struct CrcSum(Crc);

impl std::fmt::Debug for CrcSum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08x}", self.0.sum())
    }
}

impl<'a> EntryReader<'a> {
    pub(super) fn open(file: &'a File, entry: &'a Entry) -> Result<Self, ZipError> {
        let wrong = |problem| ZipError::entry(&entry.path, problem);
        let local = |what, found| wrong(EntryProblem::Local { what, found });
        let mut fixed = [0; LOCAL_LEN];
        file.read_exact_at(&mut fixed, entry.offset)?;
        if u32_at(&fixed, 0) != LOCAL {
            return Err(local("signature", format!("{:08x}", u32_at(&fixed, 0))));
        }
        if u16_at(&fixed, 8) != entry.method {
            return Err(local("compression method", u16_at(&fixed, 8).to_string()));
        }
        let [name, extra] = [26, 28].map(|at| u64::from(u16_at(&fixed, at)));
        let mut raw = vec![0; usize::try_from(name).unwrap_or(0)];
        file.read_exact_at(&mut raw, entry.offset + LOCAL_BYTES)?;
        if crc_of(&raw) != entry.raw_name {
            return Err(local("name", format!("`{}`", String::from_utf8_lossy(&raw))));
        }
        let start = entry.offset + LOCAL_BYTES + name + extra;
        if start.saturating_add(entry.compressed) > entry.limit {
            return Err(wrong(EntryProblem::Overlap));
        }
        let span = Span::new(file, start, entry.compressed);
        let body = match entry.method {
            0 => Body::Stored(span),
            _ => {
                let most = fitting(entry.compressed, BUFFER_BYTES).max(1);
                Body::Deflated(Box::new(DeflateDecoder::new(BufReader::with_capacity(most, span))))
            }
        };
        Ok(Self { entry, body, crc: CrcSum(Crc::new()), read: 0 })
    }

    fn wrong(&self, problem: EntryProblem) -> ZipError {
        ZipError::entry(&self.entry.path, problem)
    }

    /// Reads into `buffer`, any number of bytes; `Ok(0)` at the end.
    ///
    /// Errors: [`EntryProblem::Longer`] with the first byte beyond the declared size, however much would follow.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ZipError> {
        let left = self.entry.size - self.read;
        // It asks for one byte more than the declared size.
        let most = fitting(left.saturating_add(1), buffer.len());
        let buffer = &mut buffer[..most];
        let n = match &mut self.body {
            Body::Stored(span) => span.read(buffer)?,
            Body::Deflated(decoder) => match decoder.read(buffer) {
                Ok(n) => n,
                Err(error) => return Err(self.wrong(EntryProblem::Deflate(error))),
            },
        };
        if n as u64 > left {
            return Err(self.wrong(EntryProblem::Longer(self.entry.size)));
        }
        self.crc.0.update(&buffer[..n]);
        self.read += n as u64;
        Ok(n)
    }

    /// Reads until `buffer` is full or the content ends.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, ZipError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read(&mut buffer[filled..])? {
                0 => break,
                n => filled += n,
            }
        }
        Ok(filled)
    }

    /// Checks that the content was what the directory declares, to its last byte.
    pub fn finish(mut self) -> Result<(), ZipError> {
        let mut probe = [0; 1];
        while self.read(&mut probe)? > 0 {}
        if self.read < self.entry.size {
            return Err(self.wrong(EntryProblem::Shorter { declared: self.entry.size, found: self.read }));
        }
        if let Body::Deflated(decoder) = &self.body
            && decoder.total_in() < self.entry.compressed
        {
            return Err(self.wrong(EntryProblem::Trailing(self.entry.compressed - decoder.total_in())));
        }
        let found = self.crc.0.sum();
        if found != self.entry.crc {
            return Err(self.wrong(EntryProblem::Checksum { declared: self.entry.crc, found }));
        }
        Ok(())
    }

    /// Reads the whole content, at most `limit` bytes; `None` when it declares more.
    pub fn read_whole(mut self, limit: u64) -> Result<Option<Vec<u8>>, ZipError> {
        if self.entry.size > limit {
            return Ok(None);
        }
        let mut bytes = vec![0; usize::try_from(self.entry.size).unwrap_or(0)];
        self.fill(&mut bytes)?;
        self.finish()?;
        Ok(Some(bytes))
    }
}

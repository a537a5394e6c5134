//! Writing a tar as a stream: entries in the order given, data padded, an explicit end.

use std::io::{self, Write};

use super::header::{self, END_OF_ARCHIVE, Header};

/// Writes a tar to any writer. The end of the archive is written by [`Writer::finish`], never on drop.
#[derive(Debug)]
pub struct Writer<W> {
    inner: W,
    scratch: Vec<u8>,
    entries: u64,
}

impl<W: Write> Writer<W> {
    /// Starts an archive.
    pub fn new(inner: W) -> Self {
        Self { inner, scratch: Vec::with_capacity(3 * header::BLOCK), entries: 0 }
    }

    /// Writes an entry's header; the caller then writes exactly `header.size` bytes to [`Writer::data`] and
    /// calls [`Writer::pad`].
    pub fn header(&mut self, header: &Header<'_>) -> io::Result<()> {
        self.scratch.clear();
        header::encode(header, &mut self.scratch);
        self.entries += 1;
        self.inner.write_all(&self.scratch)
    }

    /// Gives access to the stream for an entry's data.
    pub fn data(&mut self) -> &mut W {
        &mut self.inner
    }

    /// Writes the zero bytes after data of this size.
    pub fn pad(&mut self, size: u64) -> io::Result<()> {
        const ZEROS: [u8; header::BLOCK] = [0; header::BLOCK];
        self.inner.write_all(&ZEROS[..header::padding(size)])
    }

    /// Writes an entry whose data is in memory.
    pub fn entry(&mut self, header: &Header<'_>, data: &[u8]) -> io::Result<()> {
        debug_assert_eq!(header.size, data.len() as u64, "the header's size is the data's");
        self.header(header)?;
        self.inner.write_all(data)?;
        self.pad(header.size)
    }

    /// Returns how many entries were written so far.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Writes the end of the archive and returns the stream.
    pub fn finish(mut self) -> io::Result<W> {
        self.inner.write_all(&END_OF_ARCHIVE)?;
        Ok(self.inner)
    }
}

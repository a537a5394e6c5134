//! A tar being written whose entries have fixed headers and reserved places.
//!
//! A blob whose size is known gets its place reserved and may be filled from another thread, at any time, and
//! again from its start after a failed transfer. A blob whose size is not known yet (a layer being packed) is
//! written at the end of the file and its header put in front of it afterwards. The file is never read back.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::stream::{AtomicFile, FileError, WriteFrom, nameless_file};
use crate::tar::header::{self, BLOCK, END_OF_ARCHIVE, EntryType, Header};

/// Permission bits of every entry; owner is 0:0 and the time 1970, so that nothing but content shows.
const ENTRY_MODE: u32 = 0o644;

/// Where the tar goes.
#[derive(Clone, Debug)]
pub enum LayoutTarget {
    /// A file that appears whole or not at all.
    File(PathBuf),
    /// A nameless file in this folder, handed back at the end to be copied to a pipe.
    Spool(PathBuf),
}

impl LayoutTarget {
    /// Returns the file, or the folder of a spool, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Spool(path) => path,
        }
    }

    /// Returns the folder it lies in: the place for files that become part of it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        match self {
            Self::Spool(folder) => folder,
            Self::File(path) => match path.parent() {
                Some(folder) if !folder.as_os_str().is_empty() => folder,
                _ => Path::new("."),
            },
        }
    }
}

/// What a finished layout tar is.
#[derive(Debug)]
pub struct WrittenLayout {
    /// Bytes of the tar.
    pub size: u64,
    /// The nameless file, when the target was [`LayoutTarget::Spool`]; positioned anywhere.
    pub spool: Option<File>,
}

/// A tar being written.
#[derive(Debug)]
pub struct SlotTar {
    output: Output,
    end: u64,
}

#[derive(Debug)]
enum Output {
    File(AtomicFile),
    Spool(File, PathBuf),
}

impl Output {
    fn file(&self) -> &File {
        match self {
            Self::File(file) => file.file(),
            Self::Spool(file, _) => file,
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::File(file) => file.target(),
            Self::Spool(_, folder) => folder,
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), FileError> {
        self.file().write_all_at(bytes, offset).map_err(|error| FileError::io("write", self.path(), error))
    }
}

/// A reserved place for one blob; filled through [`BlobSlot::writer`], from any thread.
#[derive(Debug)]
pub struct BlobSlot {
    file: File,
    path: PathBuf,
    offset: u64,
    size: u64,
}

impl BlobSlot {
    /// Returns a writer that begins at the blob's first byte; asking again begins again.
    #[must_use]
    pub fn writer(&self) -> SlotWriter<'_> {
        SlotWriter { slot: self, written: 0 }
    }

    /// Makes the error for a write that failed, with the path of the tar.
    #[must_use]
    pub fn failed(&self, error: io::Error) -> FileError {
        FileError::io("write", &self.path, error)
    }
}

/// Writes into a [`BlobSlot`], never beyond its end.
#[derive(Debug)]
pub struct SlotWriter<'a> {
    slot: &'a BlobSlot,
    written: u64,
}

impl Write for SlotWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.written + bytes.len() as u64 > self.slot.size {
            let message =
                format!("a blob of {} bytes has more bytes than its descriptor says", self.slot.size);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        self.slot.file.write_all_at(bytes, self.slot.offset + self.written)?;
        self.written += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SlotTar {
    /// Starts a tar.
    ///
    /// Errors: the target's folder is missing, not writable, or the target is not a regular file.
    pub fn create(target: &LayoutTarget) -> Result<Self, FileError> {
        let output = match target {
            LayoutTarget::File(path) => Output::File(AtomicFile::create(path, 0o666)?),
            LayoutTarget::Spool(folder) => Output::Spool(nameless_file(folder)?, folder.clone()),
        };
        Ok(Self { output, end: 0 })
    }

    /// Adds a file that is in memory.
    pub fn entry(&mut self, name: &str, data: &[u8]) -> Result<(), FileError> {
        let size = data.len() as u64;
        let mut bytes = Vec::with_capacity(2 * BLOCK + data.len());
        header::encode(&entry_header(name.as_bytes(), size), &mut bytes);
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len() + header::padding(size), 0);
        self.output.write_at(&bytes, self.end)?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Reserves the place of a file of known size, to be filled before [`SlotTar::finish`].
    pub fn reserve(&mut self, name: &str, size: u64) -> Result<BlobSlot, FileError> {
        let mut blocks = Vec::new();
        header::encode(&entry_header(name.as_bytes(), size), &mut blocks);
        self.output.write_at(&blocks, self.end)?;
        let offset = self.end + blocks.len() as u64;
        self.end = offset + size + header::padding(size) as u64;
        Ok(BlobSlot { file: self.another_handle()?, path: self.output.path().to_owned(), offset, size })
    }

    /// Returns a writer behind the end, leaving room for one header.
    pub(super) fn tail(&self) -> WriteFrom<'_> {
        WriteFrom::new(self.output.file(), self.end + BLOCK as u64)
    }

    /// Keeps what was written behind the end as a file of this name and size.
    pub(super) fn keep_tail(&mut self, name: &str, size: u64) -> Result<(), FileError> {
        let block = header::encode_one_block(&entry_header(name.as_bytes(), size));
        self.output.write_at(&block, self.end)?;
        self.end += BLOCK as u64 + size + header::padding(size) as u64;
        Ok(())
    }

    /// Ends the archive and puts the file in place.
    pub fn finish(self) -> Result<WrittenLayout, FileError> {
        self.output.write_at(&END_OF_ARCHIVE, self.end)?;
        let size = self.end + END_OF_ARCHIVE.len() as u64;
        // A dropped stream may have left bytes beyond the end.
        self.output
            .file()
            .set_len(size)
            .map_err(|error| FileError::io("write", self.output.path(), error))?;
        match self.output {
            Output::File(file) => {
                file.commit()?;
                Ok(WrittenLayout { size, spool: None })
            }
            Output::Spool(file, _) => Ok(WrittenLayout { size, spool: Some(file) }),
        }
    }

    fn another_handle(&self) -> Result<File, FileError> {
        let file = self.output.file().try_clone();
        file.map_err(|error| FileError::io("write", self.output.path(), error))
    }
}

fn entry_header(path: &[u8], size: u64) -> Header<'_> {
    Header { path, kind: EntryType::File, mode: ENTRY_MODE, size, link: b"", mtime: 0 }
}

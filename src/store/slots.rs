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
use crate::tar::header::{self, BLOCK, END_OF_ARCHIVE, EntryType, Header, Owner};

/// Permission bits of every entry; owner is 0:0 and the time 1970, so that the bytes depend on the content only.
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

    /// Returns a writer after the end, leaving room for one header.
    pub(super) fn tail(&self) -> WriteFrom<'_> {
        WriteFrom::new(self.output.file(), self.end + BLOCK as u64)
    }

    /// Keeps what was written after the end as a file of this name and size.
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
    Header { path, kind: EntryType::File, mode: ENTRY_MODE, size, link: b"", mtime: 0, owner: Owner::ROOT }
}

#[cfg(test)]
mod tests {
    use testkit::scratch::Scratch;

    use crate::tar::Reader;

    use super::*;

    /// Name, mode, time and data of every entry, and the length of the file.
    fn contents(file: &File) -> Vec<(String, u32, i64, Vec<u8>)> {
        let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        let mut reader = Reader::new(&bytes[..]);
        let mut found = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            let mut data = Vec::new();
            io::Read::read_to_end(&mut reader, &mut data).unwrap();
            assert_eq!((entry.uid, entry.gid), (0, 0));
            found.push((String::from_utf8(entry.path).unwrap(), entry.mode, entry.mtime, data));
        }
        found
    }

    fn spooled(write: impl FnOnce(&mut SlotTar)) -> (File, u64) {
        let mut tar = SlotTar::create(&LayoutTarget::Spool(std::env::temp_dir())).unwrap();
        write(&mut tar);
        let written = tar.finish().unwrap();
        (written.spool.expect("a spool is handed back"), written.size)
    }

    #[test]
    fn entries_slots_and_tails_follow_one_another() {
        let (file, size) = spooled(|tar| {
            tar.entry("first", b"hello").unwrap();
            let slot = tar.reserve("slot", 600).unwrap();
            {
                let mut tail = tar.tail();
                tail.write_all(&[b't'; 700]).unwrap();
            }
            tar.keep_tail("tail", 700).unwrap();
            tar.entry("empty", b"").unwrap();
            tar.entry(&"n".repeat(120), &[b'l'; 512]).unwrap();
            // Filled last, in two writes, after what follows it.
            let mut writer = slot.writer();
            writer.write_all(&[b's'; 500]).unwrap();
            writer.write_all(&[b'S'; 100]).unwrap();
            writer.flush().unwrap();
        });
        let slot = [vec![b's'; 500], vec![b'S'; 100]].concat();
        let expected = [
            ("first".to_owned(), b"hello".to_vec()),
            ("slot".to_owned(), slot),
            ("tail".to_owned(), vec![b't'; 700]),
            ("empty".to_owned(), Vec::new()),
            ("n".repeat(120), vec![b'l'; 512]),
        ];
        let expected: Vec<_> = expected.into_iter().map(|(name, data)| (name, 0o644, 0, data)).collect();
        assert_eq!(contents(&file), expected);
        // Headers: five and a PAX header of two blocks; data: 1 + 2 + 2 + 0 + 1; the end: 2.
        assert_eq!((size, file.metadata().unwrap().len()), (15 * 512, 15 * 512));
    }

    #[test]
    fn a_slot_is_filled_again_from_its_start_and_never_beyond_its_end() {
        let (file, _) = spooled(|tar| {
            let slot = tar.reserve("slot", 4).unwrap();
            tar.entry("next", b"next").unwrap();
            slot.writer().write_all(b"bad").unwrap();
            let mut writer = slot.writer();
            writer.write_all(b"good").unwrap();
            let error = writer.write_all(b"!").unwrap_err();
            assert_eq!(error.to_string(), "a blob of 4 bytes has more bytes than its descriptor says");
            let error = slot.writer().write_all(b"12345").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        });
        let expected = [("slot", "good"), ("next", "next")];
        let expected = expected.map(|(name, data)| (name.to_owned(), 0o644, 0, data.as_bytes().to_vec()));
        assert_eq!(contents(&file), expected);
    }

    #[test]
    fn a_tail_that_is_not_kept_leaves_nothing() {
        let (file, size) = spooled(|tar| {
            tar.entry("a", b"1").unwrap();
            let mut tail = tar.tail();
            assert_eq!(tail.position(), 1024 + 512, "room for one header");
            tail.write_all(&[b'x'; 5000]).unwrap();
        });
        assert_eq!(size, 4 * 512);
        assert_eq!(file.metadata().unwrap().len(), size);
        assert_eq!(contents(&file), [("a".to_owned(), 0o644, 0, b"1".to_vec())]);
    }

    #[test]
    fn a_file_appears_when_it_is_finished() {
        let scratch = Scratch::new("slots");
        let path = scratch.join("out.tar");
        let mut tar = SlotTar::create(&LayoutTarget::File(path.clone())).unwrap();
        tar.entry("a", b"1").unwrap();
        assert!(!path.exists());
        let written = tar.finish().unwrap();
        assert_eq!((written.size, written.spool.is_none()), (2048, true));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 2048);
    }

    #[test]
    fn errors_name_the_tar() {
        let scratch = Scratch::new("slots-errors");
        let path = scratch.join("out.tar");
        let mut tar = SlotTar::create(&LayoutTarget::File(path.clone())).unwrap();
        let slot = tar.reserve("slot", 1).unwrap();
        let error = slot.failed(io::Error::from(io::ErrorKind::StorageFull)).to_string();
        assert!(error.contains("out.tar") && error.starts_with("cannot write"), "{error}");
        assert_eq!(tar.output.path(), path);
        let spool = SlotTar::create(&LayoutTarget::Spool(scratch.path().to_owned())).unwrap();
        assert_eq!(spool.output.path(), scratch.path());
    }

    #[test]
    fn the_folder_of_a_target_is_where_its_parts_belong() {
        for (target, path, folder) in [
            (LayoutTarget::File("a/b.tar".into()), "a/b.tar", "a"),
            (LayoutTarget::File("b.tar".into()), "b.tar", "."),
            (LayoutTarget::File("/b.tar".into()), "/b.tar", "/"),
            (LayoutTarget::Spool("/tmp".into()), "/tmp", "/tmp"),
        ] {
            assert_eq!((target.path(), target.folder()), (Path::new(path), Path::new(folder)), "{target:?}");
        }
    }
}

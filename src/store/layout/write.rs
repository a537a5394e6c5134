//! Writing an OCI layout tar: each blob once, to its final place, in a fixed order with fixed headers.
//!
//! A blob whose size is known gets its place reserved and may be filled from another thread, at any time, and
//! again from its start after a failed transfer. A blob whose size is not known yet (a layer being packed) is
//! written at the end of the file and its header put in front of it afterwards. The file is never read back.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::model::{Descriptor, Digest, ImageIndex, RawDocument, media_type};
use crate::stream::{AtomicFile, FileError, nameless_file};
use crate::tar::header::{self, BLOCK, END_OF_ARCHIVE, EntryType, Header};

/// Permission bits of every entry; owner is 0:0 and the time 1970, so that nothing but content shows.
const ENTRY_MODE: u32 = 0o644;
const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Where the tar goes.
#[derive(Clone, Debug)]
pub enum LayoutTarget {
    /// A file that appears whole or not at all.
    File(PathBuf),
    /// A nameless file in this folder, handed back at the end to be copied to a pipe.
    Spool(PathBuf),
}

/// The top of a layout: what `index.json` says, and docker's own table of contents if it is to be there.
#[derive(Clone, Debug, Default)]
pub struct LayoutIndex {
    /// Entries of `index.json`, in order.
    pub manifests: Vec<Descriptor>,
    /// The image that `manifest.json` describes, with the names `docker load` gives it.
    pub docker: Option<DockerImage>,
}

/// One image in the terms of docker's `manifest.json`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DockerImage {
    /// Path of the configuration inside the tar.
    pub config: String,
    /// Full references with tags.
    pub repo_tags: Vec<String>,
    /// Paths of the layers inside the tar, lowest first.
    pub layers: Vec<String>,
}

impl DockerImage {
    /// Describes an image whose blobs are in the layout.
    #[must_use]
    pub fn new(config: &Digest, layers: &[Descriptor], repo_tags: Vec<String>) -> Self {
        let layers = layers.iter().map(|layer| blob_path(&layer.digest)).collect();
        Self { config: blob_path(config), repo_tags, layers }
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

/// Returns the path of a blob inside a layout.
#[must_use]
pub(super) fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

/// An OCI layout tar being written.
#[derive(Debug)]
pub struct LayoutTarWriter {
    output: Output,
    end: u64,
    blobs: BTreeMap<Digest, u64>,
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
    offset: u64,
    size: u64,
}

impl BlobSlot {
    /// Returns a writer that begins at the blob's first byte; asking again begins again.
    #[must_use]
    pub fn writer(&self) -> SlotWriter<'_> {
        SlotWriter { slot: self, written: 0 }
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

impl LayoutTarWriter {
    /// Starts a layout tar.
    ///
    /// Errors: the target's folder is missing, not writable, or the target is not a regular file.
    pub fn create(target: &LayoutTarget) -> Result<Self, FileError> {
        let output = match target {
            LayoutTarget::File(path) => Output::File(AtomicFile::create(path, 0o666)?),
            LayoutTarget::Spool(folder) => Output::Spool(nameless_file(folder)?, folder.clone()),
        };
        let mut writer = Self { output, end: 0, blobs: BTreeMap::new() };
        writer.entry("oci-layout", OCI_LAYOUT)?;
        Ok(writer)
    }

    /// Tells whether a blob has its place already.
    #[must_use]
    pub fn contains(&self, digest: &Digest) -> bool {
        self.blobs.contains_key(digest)
    }

    /// Adds a blob that is in memory, once.
    pub fn add_bytes(&mut self, digest: &Digest, bytes: &[u8]) -> Result<(), FileError> {
        if !self.contains(digest) {
            self.entry(&blob_path(digest), bytes)?;
            self.blobs.insert(digest.clone(), bytes.len() as u64);
        }
        Ok(())
    }

    /// Adds a manifest or index, once, as its bytes.
    pub fn add_document(&mut self, document: &RawDocument) -> Result<(), FileError> {
        self.add_bytes(document.digest(), document.bytes())
    }

    /// Reserves the place of a blob of known size; `None` if it has one already.
    ///
    /// The caller has to fill it with verified bytes before [`LayoutTarWriter::finish`].
    pub fn reserve(&mut self, digest: &Digest, size: u64) -> Result<Option<BlobSlot>, FileError> {
        if self.contains(digest) {
            return Ok(None);
        }
        let mut blocks = Vec::new();
        header::encode(&entry_header(blob_path(digest).as_bytes(), size), &mut blocks);
        self.output.write_at(&blocks, self.end)?;
        let offset = self.end + blocks.len() as u64;
        self.end = offset + size + header::padding(size) as u64;
        self.blobs.insert(digest.clone(), size);
        let file = self.output.file().try_clone();
        let file = file.map_err(|error| FileError::io("write", self.output.path(), error))?;
        Ok(Some(BlobSlot { file, offset, size }))
    }

    /// Adds a blob whose size and digest turn out while `produce` writes it.
    ///
    /// `produce` returns the digest and size of what it wrote; a blob that is there already is dropped again.
    pub fn add_stream<T, E: From<FileError>>(
        &mut self,
        produce: impl FnOnce(&mut (dyn Write + Send)) -> Result<(Digest, u64, T), E>,
    ) -> Result<T, E> {
        let path = self.output.path().to_owned();
        let data = self.end + BLOCK as u64;
        let file = self.output.file().try_clone().map_err(|error| FileError::io("write", &path, error))?;
        let mut tail = TailWriter { file, offset: data };
        let (digest, size, result) = produce(&mut tail)?;
        debug_assert_eq!(tail.offset - data, size, "the producer counts what it writes");
        if !self.contains(&digest) {
            let name = blob_path(&digest);
            let block = header::encode_one_block(&entry_header(name.as_bytes(), size));
            self.output.write_at(&block, self.end)?;
            self.end = data + size + header::padding(size) as u64;
            self.blobs.insert(digest, size);
        }
        Ok(result)
    }

    /// Writes `index.json` and docker's `manifest.json`, ends the archive and puts the file in place.
    pub fn finish(mut self, index: &LayoutIndex) -> Result<WrittenLayout, FileError> {
        let document = RawDocument::of_index(ImageIndex {
            schema_version: 2,
            media_type: Some(media_type::OCI_INDEX.to_owned()),
            artifact_type: None,
            manifests: index.manifests.clone(),
            subject: None,
            annotations: crate::model::Annotations::new(),
        });
        self.entry("index.json", document.bytes())?;
        if let Some(docker) = &index.docker {
            let bytes = serde_json::to_vec(&[docker]).expect("a struct of strings is always JSON");
            self.entry("manifest.json", &bytes)?;
        }
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

    fn entry(&mut self, name: &str, data: &[u8]) -> Result<(), FileError> {
        let size = data.len() as u64;
        let mut bytes = Vec::with_capacity(2 * BLOCK + data.len());
        header::encode(&entry_header(name.as_bytes(), size), &mut bytes);
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len() + header::padding(size), 0);
        self.output.write_at(&bytes, self.end)?;
        self.end += bytes.len() as u64;
        Ok(())
    }
}

fn entry_header(path: &[u8], size: u64) -> Header<'_> {
    Header { path, kind: EntryType::File, mode: ENTRY_MODE, size, link: b"", mtime: 0 }
}

/// Appends at a moving offset, so that nothing depends on the file's shared position.
struct TailWriter {
    file: File,
    offset: u64,
}

impl Write for TailWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all_at(bytes, self.offset)?;
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

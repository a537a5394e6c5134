//! A Cloud Foundry app as a tree of files: the same list whether it came as a folder or as a zip.
//!
//! First everything is listed and judged, then layers are written from the list, in any grouping and as often as
//! needed; contents stay where they are until then. The rules are kpack's extraction and Cloud Foundry's packaging
//! (docs/cloud-foundry.md); what kpack would silently change is either written as it will come out, or refused.

mod archive;
mod collect;
mod error;
mod folder;
mod ignore;
mod layers;
mod units;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::stream::{BlockSink, FileError};
use crate::tar::header::{EntryType, Header};
use crate::tree::{FileIdentity, SymlinkPolicy, reopen};
use crate::zip::Archive;

use super::entries::{EntryWriter, LayerForm, UnpackedLayer, hash_layer, write_layer};
use super::{EntryRules, PackError, PackedLayer};

pub use error::SourceError;
pub use layers::{Layering, MOST_LAYERS};

/// What is taken from a folder or zip.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// Exact paths that are left out, besides what `.cfignore` and cf's defaults leave out.
    pub exclusions: Vec<String>,
    /// What becomes of links: [`SymlinkPolicy::Copy`] or [`SymlinkPolicy::Refuse`]; kpack drops those that are kept.
    pub symlinks: SymlinkPolicy,
    /// Most bytes of all files together.
    pub size_limit: u64,
    /// Keep permission bits, but for those without which the app could not be built.
    pub preserve_permissions: bool,
    /// How entries look.
    pub rules: EntryRules,
    /// Device and inode of a file to leave out: the archive that is being replaced.
    pub skip: Option<(u64, u64)>,
}

/// One file, or one folder that has nothing in it.
#[derive(Clone, Debug)]
pub struct SourceEntry {
    /// Path inside the image, `/`-separated bytes.
    pub path: Vec<u8>,
    /// Permission bits as they are written.
    pub mode: u32,
    content: Content,
}

impl SourceEntry {
    /// Returns the bytes of a file; 0 for a folder.
    #[must_use]
    pub fn size(&self) -> u64 {
        match &self.content {
            Content::Folder => 0,
            Content::Disk { size, .. } | Content::Zip { size, .. } => *size,
        }
    }
}

/// Where an entry's bytes are.
#[derive(Clone, Debug)]
enum Content {
    Folder,
    Disk {
        size: u64,
        identity: FileIdentity,
        /// Where it really is, if a link led there.
        real: Option<Box<Path>>,
    },
    Zip {
        size: u64,
        index: usize,
    },
}

/// An app, listed: files and empty folders in the order they are packed.
#[derive(Debug)]
pub struct SourceTree {
    path: PathBuf,
    archive: Option<Archive>,
    entries: Vec<SourceEntry>,
    links: Option<CopiedLinks>,
    mtime: u32,
}

/// Files that were reached through symbolic links and are stored as copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopiedLinks {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub first: Vec<u8>,
}

impl SourceTree {
    /// Lists a folder, or a zip, jar or war.
    ///
    /// Shape: in walk order (`b`, `b/c`, `b.txt`), each path once, folders only where nothing is in them: layers made
    /// of any part of the list share no path, and every reader makes the folders above a file by itself.
    /// Errors: [`SourceError`] and [`crate::tree::TreeError`], with the entry's name, before any content is packed.
    /// Cost: each file of a folder is opened once; memory grows with the number of entries, not with their sizes.
    pub fn list(path: &Path, options: &SourceOptions) -> Result<Self, PackError> {
        let failed = |error| FileError::io("read", path, error);
        // Looked at first, because opening a pipe would wait for ever.
        let metadata = std::fs::metadata(path).map_err(failed)?;
        let (archive, collected) = if metadata.is_dir() {
            (None, folder::list(path, options)?)
        } else if metadata.is_file() {
            let file = File::open(path).map_err(failed)?;
            let zip = |source| SourceError::Zip { path: path.to_owned(), source };
            let archive = Archive::open(file).map_err(zip)?;
            let collected = archive::list(path, &archive, options)?;
            (Some(archive), collected)
        } else {
            return Err(SourceError::NotASource { path: path.to_owned() }.into());
        };
        let (entries, links) = collected.finish()?;
        // Copied links are found where they really are.
        let path = if archive.is_none() { path.canonicalize().map_err(failed)? } else { path.to_owned() };
        Ok(Self { path, archive, entries, links, mtime: options.rules.mtime })
    }

    /// Returns files and empty folders, in order.
    #[must_use]
    pub fn entries(&self) -> &[SourceEntry] {
        &self.entries
    }

    /// Returns what became of symbolic links, if there were any.
    #[must_use]
    pub fn copied_links(&self) -> Option<&CopiedLinks> {
        self.links.as_ref()
    }

    /// Returns the entries of each layer, by number, lowest layer first.
    #[must_use]
    pub fn layers(&self, layering: Layering) -> Vec<Vec<usize>> {
        layers::layers(&self.entries, layering)
    }

    /// Packs some of the entries, by number and in order, into one layer that is written to `sink`.
    pub fn pack(
        &self,
        entries: &[usize],
        form: LayerForm,
        sink: &mut (dyn Write + Send),
        progress: &dyn Fn(u64),
    ) -> Result<PackedLayer, PackError> {
        write_layer(form, sink, progress, |writer| self.write(entries, writer))
    }

    /// Computes the `diff_id` of the layer that [`SourceTree::pack`] would make, in one reading.
    pub fn hash(&self, entries: &[usize], progress: &dyn Fn(u64)) -> Result<UnpackedLayer, PackError> {
        hash_layer(progress, |writer| self.write(entries, writer))
    }

    fn write<S: BlockSink>(
        &self,
        entries: &[usize],
        writer: &mut EntryWriter<'_, S>,
    ) -> Result<(), PackError> {
        for entry in entries.iter().filter_map(|number| self.entries.get(*number)) {
            let is_folder = matches!(entry.content, Content::Folder);
            let kind = if is_folder { EntryType::Directory } else { EntryType::File };
            let (path, mode) = (entry.path.as_slice(), entry.mode);
            let header = Header { path, kind, mode, size: entry.size(), link: b"", mtime: self.mtime };
            self.write_entry(entry, &header, writer)?;
        }
        Ok(())
    }

    fn write_entry<S: BlockSink>(
        &self,
        entry: &SourceEntry,
        header: &Header<'_>,
        writer: &mut EntryWriter<'_, S>,
    ) -> Result<(), PackError> {
        match &entry.content {
            Content::Folder => writer.entry(header),
            Content::Disk { identity, real, .. } => {
                let path = match real {
                    Some(real) => real.to_path_buf(),
                    None => self.path.join(folder::as_path(&entry.path)),
                };
                let mut file = reopen(&path, *identity)?;
                writer.file(header, |space| Ok(file.read(space)?))?;
                Ok(file.finish()?)
            }
            Content::Zip { index, .. } => {
                let zip = |source| SourceError::Zip { path: self.path.clone(), source };
                let Some((archive, packed)) =
                    self.archive.as_ref().and_then(|archive| Some((archive, archive.entries().get(*index)?)))
                else {
                    return Ok(());
                };
                let mut file = archive.open_entry(packed).map_err(zip)?;
                writer.file(header, |space| Ok(file.read(space).map_err(zip)?))?;
                Ok(file.finish().map_err(zip)?)
            }
        }
    }
}

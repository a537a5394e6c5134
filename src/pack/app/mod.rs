//! A Cloud Foundry app as a tree of files: the same list whether it came as a folder or as a zip.
//!
//! First all entries are listed and checked, then layers are written from the list, in any grouping and as often as
//! needed; contents are read only then. The rules are those of kpack's extraction and Cloud Foundry's packaging
//! (docs/cloud-foundry.md); what kpack would silently change is written as kpack extracts it, or refused.

mod archive;
mod collect;
mod entry;
mod error;
mod folder;
mod ignore;
mod layers;
mod resources;
mod restored_file;
#[cfg(test)]
mod tests;
mod units;

use std::fs::File;
use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::model::{FileHasher, FileSum};
use crate::stream::{BlockSink, FileError, ReadFrom, lock};
use crate::tar::header::{EntryType, Header, Owner};
use crate::tree::reopen;
use crate::zip::Archive;
pub use crate::zip::Backslashes;

use super::entries::{EntryWriter, LayerEncoding, UnpackedLayer, hash_layer, write_layer};
use super::{PackError, PackedLayer};

use collect::Collector;
use entry::Content;
pub use entry::{AppEntry, AppOptions, CopiedLinks};
pub use error::AppError;
pub use layers::{LayerSplit, MOST_LAYERS};
pub use resources::{MatchRequest, Resource, ResourceError, parse_resources};
pub use restored_file::{RestoredFile, RestoredFiles};

/// An app, listed: files and empty folders in the order they are packed.
#[derive(Debug)]
pub struct AppTree {
    path: PathBuf,
    archive: Option<Archive>,
    entries: Vec<AppEntry>,
    links: Option<CopiedLinks>,
    links_left_out: u64,
    mtime: u32,
    restored: Option<RestoredFiles>,
    /// SHA-1 and size of the files that were packed, by number; only if an upload left files out.
    sums: Mutex<Vec<Option<FileSum>>>,
}

/// Opens a zip, jar or war.
fn open_archive(path: &Path) -> Result<Archive, PackError> {
    let failed = |error| FileError::io("read", path, error);
    // Its type is checked first, because opening a pipe would wait for ever.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(AppError::NotAnApp { path: path.to_owned() }.into());
    }
    let file = File::open(path).map_err(failed)?;
    let zip = |source| AppError::Zip { path: path.to_owned(), source };
    Ok(Archive::open(file).map_err(zip)?)
}

impl AppTree {
    /// Lists a folder, or a zip, jar or war.
    ///
    /// Shape: in walk order (`b`, `b/c`, `b.txt`), each path once, folders only where nothing is in them: layers made
    /// of any part of the list share no path, and every reader makes the folders above a file by itself.
    /// Errors: [`AppError`] and [`crate::tree::TreeError`], with the entry's name, before any content is packed.
    /// Cost: each file of a folder is opened once; memory grows with the number of entries, not with their sizes.
    pub fn list(path: &Path, options: &AppOptions) -> Result<Self, PackError> {
        let failed = |error| FileError::io("read", path, error);
        if std::fs::metadata(path).map_err(failed)?.is_dir() {
            let collected = folder::list(path, options)?;
            // Copied links are found where they really are.
            let real = path.canonicalize().map_err(failed)?;
            return Self::of(path, real, None, collected, options);
        }
        let archive = open_archive(path)?;
        let collected = archive::list(path, Some(&archive), &[], options)?;
        Self::of(path, path.to_owned(), Some(archive), collected, options)
    }

    /// Lists the entries of an uploaded zip, if there is one, together with the files that an earlier image has of the
    /// app.
    ///
    /// Links of the zip are followed to files of either. `name` is the list of resources, for messages about an app
    /// without an upload.
    /// Shape and errors: as [`AppTree::list`]; also a path that comes from both.
    pub fn with_restored(
        upload: Option<&Path>,
        name: &Path,
        options: &AppOptions,
        restored: RestoredFiles,
    ) -> Result<Self, PackError> {
        let path = upload.unwrap_or(name);
        if upload.is_some_and(Path::is_dir) {
            return Err(AppError::CompletedFolder { path: path.to_owned() }.into());
        }
        let archive = upload.map(open_archive).transpose()?;
        let collected = archive::list(path, archive.as_ref(), &restored.entries, options)?;
        let tree = Self::of(path, path.to_owned(), archive, collected, options)?;
        let sums = Mutex::new(vec![None; tree.entries.len()]);
        Ok(Self { sums, restored: Some(restored), ..tree })
    }

    /// Returns what the files are, as far as they were packed or hashed; nothing for an app that is listed whole.
    #[must_use]
    pub fn sums(&self) -> Vec<FileSum> {
        lock(&self.sums).iter().flatten().copied().collect()
    }

    /// `path` is what was given, `real` where files are read.
    fn of(
        path: &Path,
        real: PathBuf,
        archive: Option<Archive>,
        collected: Collector,
        options: &AppOptions,
    ) -> Result<Self, PackError> {
        let (entries, links, links_left_out) = collected.finish();
        if entries.is_empty() {
            return Err(AppError::Empty { path: path.to_owned() }.into());
        }
        let (mtime, sums) = (options.rules.mtime, Mutex::default());
        Ok(Self { path: real, archive, entries, links, links_left_out, mtime, restored: None, sums })
    }

    /// Returns files and empty folders, in order.
    #[must_use]
    pub fn entries(&self) -> &[AppEntry] {
        &self.entries
    }

    /// Returns what was done with symbolic links, if there were any.
    #[must_use]
    pub fn copied_links(&self) -> Option<&CopiedLinks> {
        self.links.as_ref()
    }

    /// Returns how many symbolic links were left out.
    #[must_use]
    pub fn links_left_out(&self) -> u64 {
        self.links_left_out
    }

    /// Returns what a `\\` in the names of a zip is; see [`Archive::backslashes`].
    #[must_use]
    pub fn backslashes(&self) -> Option<&Backslashes> {
        self.archive.as_ref().and_then(Archive::backslashes)
    }

    /// Returns the entries of each layer, by number, lowest layer first.
    #[must_use]
    pub fn layers(&self, layer_split: LayerSplit) -> Vec<Vec<usize>> {
        layers::layers(&self.entries, layer_split)
    }

    /// Packs some of the entries, by number and in order, into one layer that is written to `sink`.
    pub fn pack(
        &self,
        entries: &[usize],
        encoding: LayerEncoding,
        sink: &mut (dyn Write + Send),
        progress: &dyn Fn(u64),
    ) -> Result<PackedLayer, PackError> {
        write_layer(encoding, sink, progress, |writer| self.write(entries, writer))
    }

    /// Computes the `diff_id` of the layer that [`AppTree::pack`] would make, in one reading.
    pub fn hash(&self, entries: &[usize], progress: &dyn Fn(u64)) -> Result<UnpackedLayer, PackError> {
        hash_layer(progress, |writer| self.write(entries, writer))
    }

    fn write<S: BlockSink>(
        &self,
        entries: &[usize],
        writer: &mut EntryWriter<'_, S>,
    ) -> Result<(), PackError> {
        for (number, entry) in entries.iter().filter_map(|number| Some((number, self.entries.get(*number)?)))
        {
            let is_folder = matches!(entry.content, Content::Folder);
            let kind = if is_folder { EntryType::Directory } else { EntryType::File };
            let (path, mode) = (entry.path.as_slice(), entry.mode);
            let header = Header {
                path,
                kind,
                mode,
                size: entry.size(),
                link: b"",
                mtime: self.mtime,
                owner: Owner::ROOT,
            };
            let sum = self.write_entry(entry, &header, writer)?;
            if let Some(place) = lock(&self.sums).get_mut(*number) {
                *place = sum;
            }
        }
        Ok(())
    }

    /// Writes an entry, and returns the sum of the file if that is wanted.
    fn write_entry<S: BlockSink>(
        &self,
        entry: &AppEntry,
        header: &Header<'_>,
        writer: &mut EntryWriter<'_, S>,
    ) -> Result<Option<FileSum>, PackError> {
        let mut hasher = self.restored.as_ref().map(|_| FileHasher::default());
        let mut hash = |space: &[u8], count: usize| {
            if let Some(hasher) = &mut hasher {
                hasher.update(space.get(..count).unwrap_or_default());
            }
            count
        };
        let missing = || PackError::Sink(std::io::ErrorKind::NotFound.into());
        match &entry.content {
            Content::Folder => {
                writer.entry(header)?;
                return Ok(None);
            }
            Content::Disk { identity, real, .. } => {
                let path = match real {
                    Some(real) => real.to_path_buf(),
                    None => self.path.join(folder::as_path(&entry.path)),
                };
                let mut file = reopen(&path, *identity)?;
                writer.file(header, |space| {
                    let count = file.read(space)?;
                    Ok(hash(space, count))
                })?;
                file.finish()?;
            }
            Content::Zip { index, .. } => {
                let zip = |source| AppError::Zip { path: self.path.clone(), source };
                let archive = self.archive.as_ref().ok_or_else(missing)?;
                let packed = archive.entries().get(*index).ok_or_else(missing)?;
                let mut file = archive.open_entry(packed).map_err(zip)?;
                writer.file(header, |space| {
                    let count = file.read(space).map_err(zip)?;
                    Ok(hash(space, count))
                })?;
                file.finish().map_err(zip)?;
            }
            Content::Completed { index, size } => {
                let restored = self.restored.as_ref().ok_or_else(missing)?;
                let found = restored.entries.get(*index).ok_or_else(missing)?;
                let mut bytes = ReadFrom::new(&found.file, found.offset).take(*size);
                writer.file(header, |space| Ok(bytes.read(space)?))?;
                return Ok(Some(found.resource.sum));
            }
        }
        Ok(hasher.map(FileHasher::finish))
    }
}

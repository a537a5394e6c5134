//! One layer from any number of folders and files: each file read once, hashed, compressed and written on the way.
//!
//! The tar is imgpkg's, byte for byte: see `docs/formats/layer.md`. Source: image-spec layer.md; imgpkg's recipe.

use std::cell::Cell;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::lock::BUNDLE_FOLDER;
use crate::stream::{BlockWriter, CompressionLevel};
use crate::tar::header::{EntryType, Header, Owner};
use crate::tree::{Content, Entry, EntryKind, Filter, SymlinkPolicy, Visitor, walk};

use super::entries::{EntryWriter, LayerEncoding, PackedLayer, write_layer};
use super::error::{PackError, WHITEOUT};
use super::{MediaTypes, ModeRule};

/// How a layer is made.
#[derive(Clone, Debug, Default)]
pub struct LayerOptions {
    /// What is left out.
    pub filter: Filter,
    /// What is done with symbolic links.
    pub symlinks: SymlinkPolicy,
    /// Keep all permission bits instead of the owner's only.
    pub preserve_permissions: bool,
    /// How it is compressed.
    pub compression: CompressionLevel,
    /// Which media type it gets.
    pub media_types: MediaTypes,
    /// Compressing threads, none to do all on the calling one; does not change the result.
    pub threads: usize,
    /// Device and inode of a file to leave out: the archive that is being replaced.
    pub skip: Option<(u64, u64)>,
    /// The one `.imgpkg` folder that may be there, as found by [`super::find_bundle`]; any other is an error.
    /// `None` allows any number (plain images).
    pub only_bundle_folder: Option<PathBuf>,
}

/// Packs roots, in the order given, into one layer that is written to `sink`.
///
/// Shape: each folder contributes its contents, each file itself under its own name.
/// Errors: [`PackError`]; on error `sink` holds an incomplete layer.
/// Cost: reads each file once; memory is a fixed set of blocks plus the names of the largest folder (and all
/// paths, when there is more than one root).
pub fn pack_layer(
    roots: &[PathBuf],
    options: &LayerOptions,
    sink: &mut (dyn Write + Send),
    progress: &dyn Fn(u64),
) -> Result<PackedLayer, PackError> {
    let encoding = LayerEncoding {
        compression: options.compression,
        media_types: options.media_types,
        threads: options.threads,
    };
    let left_out = Cell::new(0);
    let layer = write_layer(encoding, sink, progress, |writer| {
        let mut packer = Packer {
            writer,
            options,
            seen: HashSet::new(),
            remember: roots.len() > 1,
            roots,
            root: Cell::new(0),
            left_out: &left_out,
        };
        for (number, root) in roots.iter().enumerate() {
            packer.root.set(number);
            walk(root, &options.filter.of_root(number), options.symlinks, options.skip, &mut packer)?;
        }
        Ok(())
    })?;
    Ok(PackedLayer { links_left_out: left_out.get(), ..layer })
}

struct Packer<'a, 'w, 's> {
    writer: &'a mut EntryWriter<'w, BlockWriter<'s>>,
    options: &'a LayerOptions,
    /// Paths of files so far, with the number of their root; only kept for several roots.
    seen: HashSet<Vec<u8>>,
    remember: bool,
    roots: &'a [PathBuf],
    root: Cell<usize>,
    left_out: &'a Cell<u64>,
}

impl Packer<'_, '_, '_> {
    fn path_in_root(&self, path: &[u8]) -> PathBuf {
        let root = self.roots.get(self.root.get()).cloned().unwrap_or_default();
        // A root that is a file is its own entry, under its name.
        let is_root = path == b"." || (root.file_name() == Some(OsStr::from_bytes(path)) && !root.is_dir());
        if is_root { root } else { root.join(OsStr::from_bytes(path)) }
    }

    fn check_duplicate(&mut self, entry: &Entry) -> Result<(), PackError> {
        // Folders may come from several roots: that is how trees are merged.
        if !self.remember || entry.kind == EntryKind::Directory || self.seen.insert(entry.path.clone()) {
            return Ok(());
        }
        let relative = PathBuf::from(OsStr::from_bytes(&entry.path));
        let now = self.root.get();
        let has = |root: &&PathBuf| {
            root.join(&relative).symlink_metadata().is_ok() || root.file_name() == relative.file_name()
        };
        let first = self.roots.iter().take(now).find(has).or(self.roots.first()).cloned();
        let second = self.roots.get(now).cloned().unwrap_or_default();
        Err(PackError::Duplicate { path: relative, first: first.unwrap_or_default(), second })
    }

    fn check_bundle_folder(&self, entry: &Entry) -> Result<(), PackError> {
        let Some(expected) = &self.options.only_bundle_folder else { return Ok(()) };
        if entry.kind != EntryKind::Directory || entry.name() != BUNDLE_FOLDER.as_bytes() {
            return Ok(());
        }
        let found = self.path_in_root(&entry.path);
        if found == *expected {
            return Ok(());
        }
        Err(PackError::SecondBundle { found, expected: expected.clone() })
    }

    fn check_whiteout(&self, entry: &Entry) -> Result<(), PackError> {
        if entry.name().starts_with(WHITEOUT.as_bytes()) {
            return Err(PackError::Whiteout { path: self.path_in_root(&entry.path) });
        }
        Ok(())
    }

    fn mode(&self, entry: &Entry) -> u32 {
        match (&entry.kind, self.options.preserve_permissions) {
            (EntryKind::Symlink { .. }, _) => 0o777,
            (_, true) => entry.mode,
            (EntryKind::Directory, false) => ModeRule::Owner.folder(),
            (EntryKind::File { .. }, false) => ModeRule::Owner.file(entry.mode),
        }
    }
}

impl Visitor for Packer<'_, '_, '_> {
    type Error = PackError;

    fn entry(&mut self, entry: &Entry, content: Content<'_>) -> Result<(), PackError> {
        self.check_duplicate(entry)?;
        self.check_bundle_folder(entry)?;
        self.check_whiteout(entry)?;
        let (kind, size, link) = match &entry.kind {
            EntryKind::Directory => (EntryType::Directory, 0, &b""[..]),
            EntryKind::File { size } => (EntryType::File, *size, &b""[..]),
            EntryKind::Symlink { target } => (EntryType::Symlink, 0, target.as_slice()),
        };
        let mode = self.mode(entry);
        let header = Header { path: &entry.path, kind, mode, size, link, mtime: 0, owner: Owner::ROOT };
        let Content::File(mut file) = content else { return self.writer.entry(&header) };
        self.writer.file(&header, |space| Ok(file.read(space)?))?;
        Ok(file.finish()?)
    }

    fn left_out(&mut self, _link: &Path) {
        self.left_out.set(self.left_out.get() + 1);
    }
}

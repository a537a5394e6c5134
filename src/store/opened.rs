//! An opened store of any kind: its roots, and where the bytes of each digest are.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::Digest;
use crate::tar::EndMark;

use super::archive::{Archive, Span};
use super::layout::Directory;
use super::left_out::{LeftOut, LeftOutBlobs};
use super::place::{BlobPlace, PlaceBytes};
use super::remote_blobs::RemoteBlobs;
use super::{Remark, Root, StoreError, StoreKind};

/// Where the bytes of one digest are.
#[derive(Clone, Debug)]
pub(super) enum Held {
    /// In the tar.
    Archive(Span),
    /// In memory: documents that a format keeps inside another one, or that were made for it.
    Memory(Arc<[u8]>),
    /// A file of its own in a layout directory.
    Directory(u64),
    /// Elsewhere, of this size.
    Remote(u64),
}

impl Held {
    fn size(&self) -> u64 {
        match self {
            Self::Archive(span) => span.size,
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Directory(size) | Self::Remote(size) => *size,
        }
    }
}

/// What the blobs are read from.
#[derive(Debug)]
pub(super) enum Backing {
    Archive(Archive),
    Directory(Directory),
    Remote(Box<dyn RemoteBlobs>),
}

/// A file or folder that images are read from, one blob at a time, in any order, from several threads.
///
/// The kinds of store differ only in how they fill this; see [`super::open()`].
#[derive(Debug)]
pub struct Store {
    pub(super) path: PathBuf,
    pub(super) kind: StoreKind,
    pub(super) roots: Vec<Root>,
    pub(super) held: BTreeMap<Digest, Held>,
    pub(super) backing: Backing,
    pub(super) remarks: Vec<Remark>,
    /// Images were left out by [`Store::keep_only`].
    pub(super) is_narrowed: bool,
    pub(super) delta: Delta,
}

/// What a store was written without, and where it is taken from.
#[derive(Debug, Default)]
pub(super) struct Delta {
    pub(super) left_out: LeftOutBlobs,
    pub(super) bases: Vec<Store>,
}

impl Store {
    /// Makes the store of a tar of any kind, of which nothing was left out.
    pub(super) fn of_archive(
        path: &Path,
        kind: StoreKind,
        roots: Vec<Root>,
        held: BTreeMap<Digest, Held>,
        archive: Archive,
        mut remarks: Vec<Remark>,
    ) -> Self {
        if archive.end_mark == EndMark::Missing {
            remarks.push(Remark::NoEndMark);
        }
        let (path, backing) = (path.to_owned(), Backing::Archive(archive));
        Self { path, kind, roots, held, backing, remarks, is_narrowed: false, delta: Delta::default() }
    }

    /// Makes a store of blobs elsewhere, each with its size, to complete others from; it lists no image.
    #[must_use]
    pub fn of_blobs(path: &Path, sizes: BTreeMap<Digest, u64>, blobs: Box<dyn RemoteBlobs>) -> Self {
        let held = sizes.into_iter().map(|(digest, size)| (digest, Held::Remote(size))).collect();
        let (path, backing, delta) = (path.to_owned(), Backing::Remote(blobs), Delta::default());
        let (roots, remarks) = (Vec::new(), Vec::new());
        Self { path, kind: StoreKind::Remote, roots, held, backing, remarks, is_narrowed: true, delta }
    }

    /// Returns what the store is, for messages: `` OCI layout tar `app.tar` ``.
    #[must_use]
    pub fn describe(&self) -> String {
        let kind = match self.kind {
            StoreKind::OciLayoutTar => "OCI layout tar",
            StoreKind::OciLayoutDirectory => "OCI layout folder",
            StoreKind::DockerArchive => "docker-save tar",
            StoreKind::ImgpkgTar => "imgpkg tar",
            StoreKind::Remote => "image store",
        };
        format!("{kind} `{}`", self.path.display())
    }

    /// Returns the file or folder it is in.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns which of the known kinds it is.
    #[must_use]
    pub fn kind(&self) -> StoreKind {
        self.kind
    }

    /// Returns the top-level images in file order; empty only for [`Store::of_blobs`].
    #[must_use]
    pub fn roots(&self) -> &[Root] {
        &self.roots
    }

    /// Tells whether `index.json` is itself the only image: the list of its platforms.
    #[must_use]
    pub fn is_one_index(&self) -> bool {
        let is_layout = matches!(self.kind, StoreKind::OciLayoutTar | StoreKind::OciLayoutDirectory);
        let in_memory =
            |root: &Root| matches!(self.held.get(&root.image.descriptor.digest), Some(Held::Memory(_)));
        is_layout && self.roots.iter().all(in_memory)
    }

    /// Leaves one image in the list of top-level images; the blobs stay.
    pub fn keep_only(&mut self, root: Root) {
        self.roots = vec![root];
        self.is_narrowed = true;
    }

    /// Tells whether there are images that [`Store::roots`] does not list any longer.
    #[must_use]
    pub fn is_narrowed(&self) -> bool {
        self.is_narrowed
    }

    /// Returns the size in bytes of a stored blob, or `None` when the store does not hold it.
    #[must_use]
    pub fn blob_size(&self, digest: &Digest) -> Option<u64> {
        match self.held.get(digest) {
            Some(held) => Some(held.size()),
            None => self.base_with(digest)?.blob_size(digest),
        }
    }

    /// Opens the bytes stored for a digest, **unverified**; use [`super::open_verified`] unless the caller hashes.
    ///
    /// Errors: [`StoreError::Missing`] when the store does not hold it, [`StoreError::LeftOut`] when no base does either.
    pub fn open_unverified(&self, digest: &Digest) -> Result<Box<dyn Read + Send + '_>, StoreError> {
        match (self.held.get(digest), &self.backing) {
            (Some(Held::Memory(bytes)), _) => Ok(Box::new(Cursor::new(Arc::clone(bytes)))),
            (Some(Held::Archive(span)), Backing::Archive(archive)) => Ok(archive.reader(*span)),
            (Some(Held::Directory(_)), Backing::Directory(directory)) => directory.open_blob(digest),
            (Some(Held::Remote(size)), Backing::Remote(blobs)) => blobs.open(digest, *size, 0),
            (Some(_), _) => unreachable!("each kind of store fills `held` for its own backing"),
            (None, _) => match self.base_with(digest) {
                Some(base) => base.open_unverified(digest),
                None => Err(self.missing(digest)),
            },
        }
    }

    /// Finds the bytes stored for a digest, **unverified**, to read any part of them; elsewhere they are not asked for yet.
    ///
    /// Errors: as those of [`Store::open_unverified`].
    pub fn place(&self, digest: &Digest) -> Result<BlobPlace<'_>, StoreError> {
        let Some(held) = self.held.get(digest) else {
            if let Some(base) = self.base_with(digest) {
                return base.place(digest);
            }
            return Err(self.missing(digest));
        };
        let bytes = match (held, &self.backing) {
            (Held::Memory(bytes), _) => PlaceBytes::Memory(Arc::clone(bytes)),
            (Held::Archive(span), Backing::Archive(archive)) => PlaceBytes::Part(archive.file(), span.offset),
            (Held::Directory(_), Backing::Directory(directory)) => {
                PlaceBytes::File(Arc::new(directory.open_file_of(digest)?))
            }
            (Held::Remote(_), Backing::Remote(blobs)) => PlaceBytes::Remote(&**blobs, digest.clone()),
            (Held::Archive(_) | Held::Directory(_) | Held::Remote(_), _) => {
                unreachable!("each kind of store fills `held` for its own backing")
            }
        };
        Ok(BlobPlace { bytes, size: held.size() })
    }

    fn missing(&self, digest: &Digest) -> StoreError {
        let (path, digest) = (self.path.clone(), digest.clone());
        match self.delta.left_out.contains_key(&digest) {
            true => StoreError::LeftOut { path, digest },
            false => StoreError::Missing { path, digest },
        }
    }

    /// Returns the blobs that the store was written without, in order of digest.
    pub fn left_out(&self) -> impl Iterator<Item = &LeftOut> {
        self.delta.left_out.values()
    }

    /// Returns which of them no base holds.
    pub fn lacking(&self) -> impl Iterator<Item = &LeftOut> {
        self.left_out().filter(|blob| self.blob_size(&blob.digest).is_none())
    }

    /// Takes what the store was written without from another one.
    pub fn complete_from(&mut self, base: Self) {
        self.delta.bases.push(base);
    }

    /// Returns the file or folder that a blob is read from: one of the bases, or the store itself.
    #[must_use]
    pub fn path_of(&self, digest: &Digest) -> &Path {
        match self.base_with(digest).filter(|_| !self.held.contains_key(digest)) {
            Some(base) => base.path_of(digest),
            None => &self.path,
        }
    }

    fn base_with(&self, digest: &Digest) -> Option<&Self> {
        self.delta.left_out.get(digest)?;
        self.delta.bases.iter().find(|base| base.blob_size(digest).is_some())
    }

    /// Returns the digests of everything stored, referenced or not, in order of digest.
    #[must_use]
    pub fn blobs(&self) -> Vec<Digest> {
        self.held.keys().cloned().collect()
    }

    /// Returns what was noticed while opening that is not damage.
    #[must_use]
    pub fn remarks(&self) -> &[Remark] {
        &self.remarks
    }
}

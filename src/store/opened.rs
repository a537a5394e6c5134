//! An opened store of any kind: its roots, and where the bytes of each digest are.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::Digest;

use super::archive::{Archive, Span};
use super::layout::Directory;
use super::{ImageStore, Remark, Root, StoreError, StoreKind};

/// Where the bytes of one digest are.
#[derive(Clone, Debug)]
pub(super) enum Held {
    /// In the tar.
    Archive(Span),
    /// In memory: documents that a format keeps inside another one, or that were made for it.
    Memory(Arc<[u8]>),
    /// A file of its own in a layout directory.
    Directory(u64),
}

impl Held {
    fn size(&self) -> u64 {
        match self {
            Self::Archive(span) => span.size,
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Directory(size) => *size,
        }
    }
}

/// What the blobs are read from.
#[derive(Debug)]
pub(super) enum Place {
    Archive(Archive),
    Directory(Directory),
}

/// The one implementation of [`ImageStore`]; the kinds differ only in how they fill it.
#[derive(Debug)]
pub(super) struct OpenedStore {
    pub(super) path: PathBuf,
    pub(super) kind: StoreKind,
    pub(super) roots: Vec<Root>,
    pub(super) held: BTreeMap<Digest, Held>,
    pub(super) place: Place,
    pub(super) remarks: Vec<Remark>,
}

impl OpenedStore {
    fn missing(&self, digest: &Digest) -> StoreError {
        StoreError::Missing { path: self.path.clone(), digest: digest.clone() }
    }
}

impl ImageStore for OpenedStore {
    fn describe(&self) -> String {
        let kind = match self.kind {
            StoreKind::OciLayoutTar => "OCI layout tar",
            StoreKind::OciLayoutDirectory => "OCI layout folder",
            StoreKind::DockerArchive => "docker-save tar",
            StoreKind::ImgpkgTar => "imgpkg tar",
        };
        format!("{kind} `{}`", self.path.display())
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn kind(&self) -> StoreKind {
        self.kind
    }

    fn roots(&self) -> &[Root] {
        &self.roots
    }

    fn blob_size(&self, digest: &Digest) -> Option<u64> {
        self.held.get(digest).map(Held::size)
    }

    fn open_blob(&self, digest: &Digest) -> Result<Box<dyn Read + Send + '_>, StoreError> {
        match (self.held.get(digest), &self.place) {
            (Some(Held::Memory(bytes)), _) => Ok(Box::new(Cursor::new(Arc::clone(bytes)))),
            (Some(Held::Archive(span)), Place::Archive(archive)) => Ok(Box::new(archive.reader(*span))),
            (Some(Held::Directory(_)), Place::Directory(directory)) => directory.open_blob(digest),
            _ => Err(self.missing(digest)),
        }
    }

    fn blobs(&self) -> Vec<Digest> {
        self.held.keys().cloned().collect()
    }

    fn remarks(&self) -> &[Remark] {
        &self.remarks
    }
}

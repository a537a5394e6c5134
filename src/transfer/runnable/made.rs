//! Newly made images as a source: new layers in a file, new documents in memory, all else from the base.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::model::{Descriptor, Digest, RawDocument, Repository};
use crate::stream::{BlobStream, VerifyingReader};
use crate::transfer::produce::Spooled;
use crate::transfer::{ImageSource, TransferError};

/// New images, and the sources of everything below them.
pub struct MadeSource<'a> {
    pub(super) place: PathBuf,
    pub(super) layers: Vec<Spooled>,
    pub(super) configs: BTreeMap<Digest, Vec<u8>>,
    pub(super) documents: Vec<RawDocument>,
    pub(super) bases: Vec<&'a dyn ImageSource>,
}

impl std::fmt::Debug for MadeSource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MadeSource").field("layers", &self.layers).finish_non_exhaustive()
    }
}

impl<'a> MadeSource<'a> {
    fn layer(&self, digest: &Digest) -> Option<&Spooled> {
        self.layers.iter().find(|layer| layer.descriptor.digest == *digest)
    }

    fn document(&self, digest: &Digest) -> Option<&RawDocument> {
        self.documents.iter().find(|document| document.digest() == digest)
    }

    fn is_made(&self, digest: &Digest) -> bool {
        self.layer(digest).is_some() || self.configs.contains_key(digest) || self.document(digest).is_some()
    }

    /// Returns the base to read a document or blob from; the last one if no base has it, for its error.
    fn base(&self, digest: &Digest) -> Result<&'a dyn ImageSource, TransferError> {
        let found = self.bases.iter().find(|base| !base.lacks(digest)).or(self.bases.last());
        let missing = || TransferError::Nowhere { digest: digest.clone(), place: self.label() };
        found.copied().ok_or_else(missing)
    }
}

impl ImageSource for MadeSource<'_> {
    fn label(&self) -> String {
        self.bases.first().map_or_else(|| self.place.display().to_string(), |base| base.label())
    }

    fn place_of(&self, digest: &Digest) -> String {
        match self.base(digest) {
            Ok(base) if !self.is_made(digest) => base.place_of(digest),
            _ => self.label(),
        }
    }

    fn read_document(&self, descriptor: &Descriptor) -> Result<RawDocument, TransferError> {
        match self.document(&descriptor.digest) {
            Some(document) => Ok(document.clone()),
            None => self.base(&descriptor.digest)?.read_document(descriptor),
        }
    }

    fn open_blob(&self, descriptor: &Descriptor) -> Result<BlobStream<'_>, TransferError> {
        if let Some(layer) = self.layer(&descriptor.digest) {
            return Ok(layer.open());
        }
        if let Some(config) = self.configs.get(&descriptor.digest) {
            let (digest, size) = (descriptor.digest.clone(), descriptor.size);
            return Ok(VerifyingReader::new(config.as_slice(), digest, size).boxed());
        }
        self.base(&descriptor.digest)?.open_blob(descriptor)
    }

    fn lacks(&self, digest: &Digest) -> bool {
        !self.is_made(digest) && self.bases.iter().all(|base| base.lacks(digest))
    }

    fn repository_of(&self, digest: &Digest) -> Option<Repository> {
        // A new document or layer is in no registry yet.
        if self.is_made(digest) { None } else { self.base(digest).ok()?.repository_of(digest) }
    }
}

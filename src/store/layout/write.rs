//! Writing an OCI layout tar: each blob once, to its final place, in a fixed order with fixed headers.

use std::collections::BTreeMap;
use std::io::Write;

use serde::Serialize;

use crate::model::{Annotations, Descriptor, Digest, ImageIndex, RawDocument, media_type};
use crate::stream::FileError;

use super::super::slots::{BlobSlot, LayoutTarget, SlotTar, WrittenLayout};

const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// The top of a layout: what `index.json` says, and docker's own table of contents if it is to be there.
#[derive(Clone, Debug, Default)]
pub struct LayoutIndex {
    /// Entries of `index.json`, in order.
    pub manifests: Vec<Descriptor>,
    /// The image that `manifest.json` describes, with the names `docker load` gives it.
    pub docker: Option<DockerImage>,
    /// Annotations of `index.json`.
    pub annotations: Annotations,
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

/// Returns the path of a blob inside a layout.
#[must_use]
pub(super) fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

/// An OCI layout tar being written.
#[derive(Debug)]
pub struct LayoutTarWriter {
    tar: SlotTar,
    blobs: BTreeMap<Digest, u64>,
}

impl LayoutTarWriter {
    /// Starts a layout tar.
    ///
    /// Errors: the target's folder is missing, not writable, or the target is not a regular file.
    pub fn create(target: &LayoutTarget) -> Result<Self, FileError> {
        let mut tar = SlotTar::create(target)?;
        tar.entry("oci-layout", OCI_LAYOUT)?;
        Ok(Self { tar, blobs: BTreeMap::new() })
    }

    /// Tells whether a blob has its place already.
    #[must_use]
    pub fn contains(&self, digest: &Digest) -> bool {
        self.blobs.contains_key(digest)
    }

    /// Adds a blob that is in memory, once.
    pub fn add_bytes(&mut self, digest: &Digest, bytes: &[u8]) -> Result<(), FileError> {
        if !self.contains(digest) {
            self.tar.entry(&blob_path(digest), bytes)?;
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
        let slot = self.tar.reserve(&blob_path(digest), size)?;
        self.blobs.insert(digest.clone(), size);
        Ok(Some(slot))
    }

    /// Adds a blob whose size and digest are known only when `produce` has written it.
    ///
    /// `produce` returns the digest and size of what it wrote; a blob that is there already is dropped again.
    pub fn add_stream<T, E: From<FileError>>(
        &mut self,
        produce: impl FnOnce(&mut (dyn Write + Send)) -> Result<(Digest, u64, T), E>,
    ) -> Result<T, E> {
        let mut tail = self.tar.tail();
        let start = tail.position();
        let (digest, size, result) = produce(&mut tail)?;
        debug_assert_eq!(tail.position() - start, size, "the producer counts what it writes");
        if !self.contains(&digest) {
            self.tar.keep_tail(&blob_path(&digest), size)?;
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
            annotations: index.annotations.clone(),
        });
        self.tar.entry("index.json", document.bytes())?;
        if let Some(docker) = &index.docker {
            let bytes = serde_json::to_vec(&[docker]).expect("a struct of strings is always JSON");
            self.tar.entry("manifest.json", &bytes)?;
        }
        self.tar.finish()
    }
}

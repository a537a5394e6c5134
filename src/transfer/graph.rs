//! The graph below a root: every document and every blob once, children before parents.

use std::collections::HashSet;

use crate::model::{Descriptor, Digest, Document, RawDocument, limits};

use super::events::Warning;
use super::{ImageSource, TransferError, sparse};

/// Everything that has to move with a root.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Manifests and indexes, children before parents, each once; the roots among them.
    pub documents: Vec<RawDocument>,
    /// Layers, configurations and foreign children, each once: those of one image together, its layers first, because
    /// an image that is packed has its configuration only when its layers are done.
    pub blobs: Vec<Descriptor>,
    seen: HashSet<Digest>,
    /// Bytes of the documents.
    kept: u64,
    /// Images of an index that the source does not hold are passed over if it holds others.
    only_present: bool,
}

impl Graph {
    /// Reads everything below the root.
    ///
    /// Errors: [`TransferError::TooMany`] beyond [`limits::NESTING`], [`limits::DOCUMENTS`] and
    /// [`limits::GRAPH_BYTES`].
    pub fn of(source: &dyn ImageSource, root: &Descriptor) -> Result<Self, TransferError> {
        let mut graph = Self::default();
        graph.add(source, root)?;
        Ok(graph)
    }

    /// As [`Graph::of`], without the images of an index that the source does not hold while it holds others of it.
    pub fn of_present(source: &dyn ImageSource, root: &Descriptor) -> Result<Self, TransferError> {
        let mut graph = Self { only_present: true, ..Self::default() };
        graph.add(source, root)?;
        Ok(graph)
    }

    /// Adds another root and what hangs below it, without what is there already.
    pub fn add(&mut self, source: &dyn ImageSource, root: &Descriptor) -> Result<(), TransferError> {
        self.visit(source, root, 0)
    }

    /// Returns the document with this digest.
    #[must_use]
    pub fn document(&self, digest: &Digest) -> Option<&RawDocument> {
        self.documents.iter().find(|document| document.digest() == digest)
    }

    /// Returns the digests of everything.
    pub fn digests(&self) -> impl Iterator<Item = &Digest> {
        self.documents.iter().map(RawDocument::digest).chain(self.blobs.iter().map(|blob| &blob.digest))
    }

    /// Returns a warning for each image below `root` that has some of the layers that were left out.
    ///
    /// Shape: images in the order of the documents; each layer at the first image that has it. `label` names the root.
    pub(super) fn left_out(&self, root: &Digest, label: &str, layers: &[Digest]) -> Vec<Warning> {
        let mut left: HashSet<&Digest> = layers.iter().collect();
        let mut warnings = Vec::new();
        for document in &self.documents {
            let Document::Manifest(manifest) = document.document() else { continue };
            let own = manifest.layers.iter().map(|layer| &layer.digest);
            let own: Vec<Digest> = own.filter(|layer| left.remove(layer)).cloned().collect();
            if own.is_empty() {
                continue;
            }
            let is_root = document.digest() == root;
            let image = if is_root { label.to_owned() } else { document.digest().to_string() };
            let index = (!is_root).then(|| label.to_owned());
            warnings.push(Warning::NonDistributableSkipped { image, index, layers: own });
        }
        warnings
    }

    /// Returns the bytes of everything together.
    #[must_use]
    pub fn size(&self) -> u64 {
        let documents: u64 = self.documents.iter().map(|document| document.bytes().len() as u64).sum();
        documents + self.blobs.iter().map(|blob| blob.size).sum::<u64>()
    }

    fn visit(
        &mut self,
        source: &dyn ImageSource,
        descriptor: &Descriptor,
        depth: usize,
    ) -> Result<(), TransferError> {
        if !self.seen.insert(descriptor.digest.clone()) {
            return Ok(());
        }
        if !descriptor.is_index() && !descriptor.is_manifest() {
            self.blobs.push(descriptor.clone());
            return Ok(());
        }
        let too_many =
            |what, limit| TransferError::TooMany { subject: format!("`{}`", source.label()), what, limit };
        if depth > limits::NESTING {
            return Err(too_many("levels of nested indexes", limits::NESTING));
        }
        if self.seen.len() > limits::DOCUMENTS {
            return Err(too_many("manifests and blobs below one root", limits::DOCUMENTS));
        }
        let document = source.read_document(descriptor)?;
        self.kept += document.bytes().len() as u64;
        if self.kept > limits::GRAPH_BYTES {
            let limit = usize::try_from(limits::GRAPH_BYTES).unwrap_or(usize::MAX);
            return Err(too_many("bytes of manifests and indexes below one root", limit));
        }
        match document.document() {
            Document::Index(index) => {
                let lacking = sparse::lacking(source, index);
                if !lacking.is_empty() && !self.only_present {
                    return Err(sparse::error(source, index, &descriptor.digest, &lacking));
                }
                let lacking: HashSet<&Digest> = lacking.iter().map(|child| &child.digest).collect();
                for child in index.manifests.iter().filter(|child| !lacking.contains(&child.digest)) {
                    self.visit(source, child, depth + 1)?;
                }
            }
            Document::Manifest(manifest) => {
                for blob in manifest.layers.iter().chain(std::iter::once(&manifest.config)) {
                    // What a manifest points at is a blob, independent of its type.
                    if self.seen.insert(blob.digest.clone()) {
                        self.blobs.push(blob.clone());
                    }
                }
            }
        }
        self.documents.push(document);
        Ok(())
    }
}

//! What clients pushed to this server: blobs, documents, tags; and which images become the tar at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;

use crate::model::{Descriptor, Digest, Document, RawDocument, Tag, Target, limits};
use crate::stream::{FileError, lock};

use super::spool::{Pushed, Spool};
use super::uploads::Uploads;

/// Pushed blobs, documents and tags.
#[derive(Debug)]
pub struct Collected {
    pub(super) spool: Spool,
    pub(super) uploads: Uploads,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    blobs: BTreeMap<Digest, Pushed>,
    documents: BTreeMap<Digest, RawDocument>,
    /// Bytes of the documents.
    bytes: u64,
    repositories: BTreeMap<String, BTreeMap<Tag, Digest>>,
    /// Images that had a tag once; one of these that has no tag now was replaced.
    once_tagged: BTreeSet<Digest>,
    /// Manifests that were refused, each with a digest that is missing.
    incomplete: BTreeMap<Digest, Digest>,
}

/// Why a manifest is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Documents,
    Bytes,
}

/// An image that goes into the tar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectedImage {
    /// Its manifest or index.
    pub descriptor: Descriptor,
    /// Repository and tag of each of its names, in order; none for a referrer, or for an image that was pushed by
    /// digest only.
    pub names: Vec<(String, Tag)>,
}

impl Collected {
    /// Prepares for pushes; blobs are stored in a file without a name in this folder.
    ///
    /// Errors: those of creating the file.
    pub fn new(folder: &Path) -> Result<Self, FileError> {
        Ok(Self { spool: Spool::create(folder)?, uploads: Uploads::default(), state: Mutex::default() })
    }

    pub(super) fn blob(&self, digest: &Digest) -> Option<Pushed> {
        lock(&self.state).blobs.get(digest).cloned()
    }

    /// Stores a verified blob; drops one that is stored already.
    pub(super) fn keep_blob(&self, digest: &Digest, pushed: Pushed) {
        let mut state = lock(&self.state);
        if state.blobs.contains_key(digest) {
            drop(state);
            self.spool.drop_upload(&pushed);
        } else {
            let _ = state.blobs.insert(digest.clone(), pushed);
        }
    }

    /// Removes a blob; returns whether it was there.
    pub(super) fn forget_blob(&self, digest: &Digest) -> bool {
        // A client may be reading it, so its space is not freed.
        lock(&self.state).blobs.remove(digest).is_some()
    }

    pub(super) fn has_repository(&self, name: &str) -> bool {
        lock(&self.state).repositories.contains_key(name)
    }

    pub(super) fn repositories(&self) -> Vec<String> {
        lock(&self.state).repositories.keys().cloned().collect()
    }

    pub(super) fn tags(&self, name: &str) -> Vec<String> {
        let state = lock(&self.state);
        let tags = state.repositories.get(name).into_iter().flatten();
        tags.map(|(tag, _)| tag.to_string()).collect()
    }

    pub(super) fn document(&self, name: &str, target: &Target) -> Option<RawDocument> {
        let state = lock(&self.state);
        let digest = match target {
            Target::Digest(digest) => digest,
            Target::Tag(tag) => state.repositories.get(name)?.get(tag)?,
        };
        state.documents.get(digest).cloned()
    }

    pub(super) fn referrers(&self, subject: &Digest) -> Vec<Descriptor> {
        let state = lock(&self.state);
        let about = |document: &&RawDocument| {
            document.document().subject().is_some_and(|found| found.digest == *subject)
        };
        state.documents.values().filter(about).map(RawDocument::as_referrer).collect()
    }

    /// Records a manifest that was refused because something is missing.
    pub(super) fn refuse(&self, digest: &Digest, missing: &Digest) {
        let _ = lock(&self.state).incomplete.insert(digest.clone(), missing.clone());
    }

    /// Stores a manifest or index under its digest, and under a tag if it has one.
    pub(super) fn keep_document(
        &self,
        name: &str,
        target: &Target,
        document: RawDocument,
    ) -> Result<(), Full> {
        let mut state = lock(&self.state);
        let digest = document.digest().clone();
        if !state.documents.contains_key(&digest) {
            let bytes = state.bytes + document.bytes().len() as u64;
            if state.documents.len() >= limits::DOCUMENTS {
                return Err(Full::Documents);
            }
            if bytes > limits::GRAPH_BYTES {
                return Err(Full::Bytes);
            }
            state.bytes = bytes;
            let _ = state.documents.insert(digest.clone(), document);
        }
        let _ = state.incomplete.remove(&digest);
        let tags = state.repositories.entry(name.to_owned()).or_default();
        if let Target::Tag(tag) = target {
            let _ = tags.insert(tag.clone(), digest.clone());
            let _ = state.once_tagged.insert(digest);
        }
        Ok(())
    }

    /// Removes a tag, or a manifest with all its tags; returns whether it was there.
    pub(super) fn forget_document(&self, name: &str, target: &Target) -> bool {
        let mut state = lock(&self.state);
        match target {
            Target::Tag(tag) => {
                state.repositories.get_mut(name).is_some_and(|tags| tags.remove(tag).is_some())
            }
            Target::Digest(digest) => {
                let Some(document) = state.documents.remove(digest) else { return false };
                state.bytes -= document.bytes().len() as u64;
                for tags in state.repositories.values_mut() {
                    tags.retain(|_, found| found != digest);
                }
                true
            }
        }
    }

    /// Returns a manifest that was refused because something is missing, and the missing digest.
    #[must_use]
    pub fn incomplete(&self) -> Option<(Digest, Digest)> {
        lock(&self.state).incomplete.iter().next().map(|(image, missing)| (image.clone(), missing.clone()))
    }

    /// Returns the images for the tar: those with tags, their referrers, and those that were pushed by digest only.
    ///
    /// An image whose tag moved to another image is left out.
    #[must_use]
    pub fn images(&self) -> Vec<CollectedImage> {
        let state = lock(&self.state);
        let mut images: Vec<CollectedImage> = Vec::new();
        for (repository, tags) in &state.repositories {
            for (tag, digest) in tags {
                let Some(document) = state.documents.get(digest) else { continue };
                let name = (repository.clone(), tag.clone());
                match images.iter_mut().find(|image| image.descriptor.digest == *digest) {
                    Some(image) => image.names.push(name),
                    None => {
                        images.push(CollectedImage { descriptor: document.descriptor(), names: vec![name] });
                    }
                }
            }
        }
        let children: BTreeSet<&Digest> = state.documents.values().flat_map(children).collect();
        for (digest, document) in &state.documents {
            let is_top = !children.contains(digest) && !state.once_tagged.contains(digest);
            if is_top && document.document().subject().is_none() {
                images.push(CollectedImage { descriptor: document.descriptor(), names: Vec::new() });
            }
        }
        state.add_referrers(&mut images);
        images
    }
}

impl State {
    /// Adds the referrers of images that are there; those of a replaced image are left out.
    fn add_referrers(&self, images: &mut Vec<CollectedImage>) {
        let mut reached = BTreeSet::new();
        let mut open: Vec<Digest> = images.iter().map(|image| image.descriptor.digest.clone()).collect();
        let mut about: BTreeMap<&Digest, Vec<&RawDocument>> = BTreeMap::new();
        for document in self.documents.values() {
            if let Some(subject) = document.document().subject() {
                about.entry(&subject.digest).or_default().push(document);
                // Its subject was not pushed here, so it is an image of its own.
                if !self.documents.contains_key(&subject.digest) {
                    self.add(images, &mut open, document);
                }
            }
        }
        while let Some(digest) = open.pop() {
            if !reached.insert(digest.clone()) {
                continue;
            }
            if let Some(document) = self.documents.get(&digest) {
                open.extend(children(document).cloned());
            }
            for document in about.get(&digest).into_iter().flatten() {
                self.add(images, &mut open, document);
            }
        }
    }

    fn add(&self, images: &mut Vec<CollectedImage>, open: &mut Vec<Digest>, document: &RawDocument) {
        open.push(document.digest().clone());
        if !images.iter().any(|image| image.descriptor.digest == *document.digest()) {
            images.push(CollectedImage { descriptor: document.descriptor(), names: Vec::new() });
        }
    }
}

/// Returns the digests of the documents that an index points at.
fn children(document: &RawDocument) -> impl Iterator<Item = &Digest> {
    let manifests = match document.document() {
        Document::Index(index) => index.manifests.as_slice(),
        Document::Manifest(_) => &[],
    };
    manifests.iter().map(|child| &child.digest)
}

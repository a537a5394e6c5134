//! One source over several sources, with documents and small blobs that were made from them.
//!
//! An index of images from several tars is a new document over bytes that stay where they are: a copy reads
//! the new document from memory, and everything below it from the source that holds it.

use std::io::Cursor;

use crate::model::{Descriptor, Digest, RawDocument, Repository};
use crate::stream::{BlobStream, VerifyingReader};

use super::{ImageSource, TransferError};

/// Several sources as one; each document or blob is read from the first source that holds it.
pub struct CombinedSource<'a> {
    label: String,
    sources: Vec<&'a dyn ImageSource>,
    made: Vec<RawDocument>,
    blobs: Vec<(Descriptor, Vec<u8>)>,
}

impl std::fmt::Debug for CombinedSource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CombinedSource").field("label", &self.label).finish_non_exhaustive()
    }
}

impl<'a> CombinedSource<'a> {
    /// Combines sources; `label` names the whole in messages.
    #[must_use]
    pub fn new(label: String, sources: Vec<&'a dyn ImageSource>) -> Self {
        Self { label, sources, made: Vec::new(), blobs: Vec::new() }
    }

    /// Adds documents that no source holds.
    #[must_use]
    pub fn with(mut self, documents: impl IntoIterator<Item = RawDocument>) -> Self {
        self.made.extend(documents);
        self
    }

    /// Adds small blobs that no source holds.
    #[must_use]
    pub fn with_blobs(mut self, blobs: impl IntoIterator<Item = (Descriptor, Vec<u8>)>) -> Self {
        self.blobs.extend(blobs);
        self
    }

    fn blob(&self, digest: &Digest) -> Option<&[u8]> {
        self.blobs.iter().find(|(blob, _)| blob.digest == *digest).map(|(_, bytes)| bytes.as_slice())
    }

    fn made(&self, digest: &Digest) -> Option<&RawDocument> {
        self.made.iter().find(|document| document.digest() == digest)
    }

    /// Returns the source to read a document or blob from; the last one if no source has it, for its error.
    fn holder(&self, digest: &Digest) -> Option<&'a dyn ImageSource> {
        let holds = |source: &&&dyn ImageSource| !source.lacks(digest);
        self.sources.iter().find(holds).or(self.sources.last()).copied()
    }

    fn missing(&self, digest: &Digest) -> TransferError {
        TransferError::Nowhere { digest: digest.clone(), place: self.label.clone() }
    }
}

impl ImageSource for CombinedSource<'_> {
    fn label(&self) -> String {
        self.label.clone()
    }

    fn place_of(&self, digest: &Digest) -> String {
        match (self.made(digest), self.blob(digest), self.holder(digest)) {
            (None, None, Some(source)) => source.place_of(digest),
            _ => self.label(),
        }
    }

    fn read_document(&self, descriptor: &Descriptor) -> Result<RawDocument, TransferError> {
        match (self.made(&descriptor.digest), self.holder(&descriptor.digest)) {
            (Some(made), _) => Ok(made.clone()),
            (None, Some(source)) => source.read_document(descriptor),
            (None, None) => Err(self.missing(&descriptor.digest)),
        }
    }

    fn open_blob(&self, descriptor: &Descriptor) -> Result<BlobStream<'_>, TransferError> {
        if let Some(bytes) = self.blob(&descriptor.digest) {
            let (digest, size) = (descriptor.digest.clone(), descriptor.size);
            return Ok(VerifyingReader::new(Box::new(Cursor::new(bytes)), digest, size));
        }
        let holder = self.holder(&descriptor.digest).ok_or_else(|| self.missing(&descriptor.digest))?;
        holder.open_blob(descriptor)
    }

    fn lacks(&self, digest: &Digest) -> bool {
        self.made(digest).is_none()
            && self.blob(digest).is_none()
            && self.sources.iter().all(|source| source.lacks(digest))
    }

    fn repository_of(&self, digest: &Digest) -> Option<Repository> {
        match (self.made(digest), self.blob(digest)) {
            (Some(_), _) | (_, Some(_)) => None,
            (None, None) => self.holder(digest)?.repository_of(digest),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::super::in_memory::{InMemory, blob, image, index};
    use super::*;
    use crate::model::media_type;

    #[test]
    fn each_document_and_blob_comes_from_the_source_that_holds_it() {
        let (one, two) = (image(&["one"]), image(&["two"]));
        let made = index(&[(&one, "linux/amd64"), (&two, "linux/arm64")]);
        let (layer, extra) = (blob(media_type::OCI_LAYER, b"two"), blob(media_type::OCI_LAYER, b"extra"));
        let first = InMemory::of(&[&one]);
        let second = InMemory {
            blobs: vec![layer.clone()],
            repository: Some("reg.example/second".parse().unwrap()),
            ..InMemory::of(&[&two])
        };
        let all = CombinedSource::new("all".to_owned(), vec![&first, &second])
            .with([made.clone()])
            .with_blobs([extra.clone()]);
        assert_eq!(all.label(), "all");
        for document in [&one, &two, &made] {
            assert_eq!(all.read_document(&document.descriptor()).unwrap().digest(), document.digest());
            assert!(!all.lacks(document.digest()));
        }
        for (descriptor, bytes) in [&layer, &extra] {
            let mut found = Vec::new();
            all.open_blob(descriptor).unwrap().read_to_end(&mut found).unwrap();
            assert_eq!(found, *bytes);
            assert!(!all.lacks(&descriptor.digest));
        }
        // A made document is in no repository.
        assert_eq!(all.repository_of(made.digest()), None);
        assert_eq!(all.repository_of(&extra.0.digest), None);
        assert_eq!(all.repository_of(one.digest()), None, "the first source is no repository");
        assert_eq!(all.repository_of(two.digest()), second.repository);
        let absent = image(&["absent"]);
        assert!(all.lacks(absent.digest()));
        let error = all.read_document(&absent.descriptor()).unwrap_err();
        let TransferError::Nowhere { place, .. } = &error else { panic!("{error}") };
        assert_eq!(place, "memory", "the last source says that it is missing");
        let none = CombinedSource::new("none".to_owned(), Vec::new());
        let error = none.read_document(&absent.descriptor()).unwrap_err();
        let TransferError::Nowhere { place, digest } = &error else { panic!("{error}") };
        assert_eq!((place.as_str(), digest), ("none", absent.digest()));
        assert!(none.open_blob(&layer.0).is_err() && none.repository_of(two.digest()).is_none());
    }
}

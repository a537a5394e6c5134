//! A source in memory for unit tests, which can lack documents and blobs.

use std::io::Cursor;

use crate::model::{Descriptor, Digest, RawDocument, Repository, media_type};
use crate::stream::{BlobStream, VerifyingReader};

use super::{ImageSource, TransferError};

/// Documents and blobs in memory; everything else is lacking.
#[derive(Default)]
pub(super) struct InMemory {
    pub(super) documents: Vec<RawDocument>,
    pub(super) blobs: Vec<(Descriptor, Vec<u8>)>,
    pub(super) repository: Option<Repository>,
}

impl InMemory {
    pub(super) fn of(documents: &[&RawDocument]) -> Self {
        Self { documents: documents.iter().map(|document| (*document).clone()).collect(), ..Self::default() }
    }
}

impl ImageSource for InMemory {
    fn label(&self) -> String {
        "memory".to_owned()
    }

    fn read_document(&self, descriptor: &Descriptor) -> Result<RawDocument, TransferError> {
        let found = self.documents.iter().find(|document| *document.digest() == descriptor.digest);
        let (digest, place) = (descriptor.digest.clone(), self.label());
        found.cloned().ok_or(TransferError::Nowhere { digest, place })
    }

    fn open_blob(&self, descriptor: &Descriptor) -> Result<BlobStream<'_>, TransferError> {
        let (digest, place) = (descriptor.digest.clone(), self.label());
        match self.blobs.iter().find(|(blob, _)| blob.digest == descriptor.digest) {
            Some((_, bytes)) => {
                Ok(VerifyingReader::new(Box::new(Cursor::new(bytes)), digest, descriptor.size))
            }
            None => Err(TransferError::Nowhere { digest, place }),
        }
    }

    fn lacks(&self, digest: &Digest) -> bool {
        let document = self.documents.iter().any(|document| document.digest() == digest);
        !document && !self.blobs.iter().any(|(blob, _)| blob.digest == *digest)
    }

    fn repository_of(&self, _: &Digest) -> Option<Repository> {
        self.repository.clone()
    }
}

/// Returns a blob with its descriptor.
pub(super) fn blob(kind: &str, bytes: &[u8]) -> (Descriptor, Vec<u8>) {
    (Descriptor::new(kind, Digest::sha256_of(bytes), bytes.len() as u64), bytes.to_vec())
}

/// Returns a manifest of layers, which are named by their contents; its configuration is `{}`.
pub(super) fn image(layers: &[&str]) -> RawDocument {
    let layers: Vec<Descriptor> =
        layers.iter().map(|layer| blob(media_type::OCI_LAYER, layer.as_bytes()).0).collect();
    with_config(&blob(media_type::OCI_CONFIG, b"{}").0, &layers)
}

/// Returns a manifest.
pub(super) fn with_config(config: &Descriptor, layers: &[Descriptor]) -> RawDocument {
    let text = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": layers,
    });
    RawDocument::parse(text.to_string().into_bytes(), Some(media_type::OCI_MANIFEST)).unwrap()
}

/// Returns an index of documents, each with its platform; without one for an empty text.
pub(super) fn index(children: &[(&RawDocument, &str)]) -> RawDocument {
    let entry = |(document, platform): &(&RawDocument, &str)| {
        let mut entry = document.descriptor();
        entry.platform = (!platform.is_empty()).then(|| platform.parse().unwrap());
        entry
    };
    let manifests: Vec<Descriptor> = children.iter().map(entry).collect();
    let text = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests,
    });
    RawDocument::parse(text.to_string().into_bytes(), Some(media_type::OCI_INDEX)).unwrap()
}

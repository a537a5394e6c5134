//! The platforms of an index as a table: each image once, with its attestations in the index.
//!
//! Reads nothing: the documents of the index are in a [`Graph`] already.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::{Digest, Document, ImageManifest, Platform, RawDocument, limits};

use super::Graph;

/// Annotation of a layer with a statement: what the statement is about (in-toto, `predicateType`).
const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";

/// An image of an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlatformRow {
    /// `os/architecture[/variant]`; `None` if the index does not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Digest of the image's manifest.
    pub digest: Digest,
    /// Bytes of the image: manifest, configuration and layers.
    pub size: u64,
    /// The tar holds other images of the index, but not this one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
    /// The image's attestations in the index, in document order.
    pub attestations: Vec<AttestationRow>,
}

/// A manifest of an index about one of its images (BuildKit's provenance and SBOM).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AttestationRow {
    /// Digest of the manifest.
    pub digest: Digest,
    /// Types of the statements in it, such as `https://slsa.dev/provenance/v1`.
    pub predicate_types: Vec<String>,
}

/// Returns the images of an index in document order, those of nested indexes in their place; none for an image.
#[must_use]
pub fn platform_rows(graph: &Graph, root: &Digest) -> Vec<PlatformRow> {
    let mut rows = Vec::new();
    let mut attestations = Vec::new();
    if let Some(document) = graph.document(root) {
        collect(graph, document, 0, &mut rows, &mut attestations);
    }
    for (image, attestation) in attestations {
        let about = rows.iter_mut().filter(|row| row.digest == image);
        about.for_each(|row| row.attestations.push(attestation.clone()));
    }
    rows
}

fn collect(
    graph: &Graph,
    document: &RawDocument,
    depth: usize,
    rows: &mut Vec<PlatformRow>,
    attestations: &mut Vec<(Digest, AttestationRow)>,
) {
    let Document::Index(index) = document.document() else { return };
    for child in &index.manifests {
        let Some(document) = graph.document(&child.digest) else { continue };
        match (document.document(), child.attested_image()) {
            (Document::Index(_), _) if depth < limits::NESTING => {
                collect(graph, document, depth + 1, rows, attestations);
            }
            (Document::Index(_), _) => {}
            (Document::Manifest(manifest), Some(image)) => {
                let digest = child.digest.clone();
                let predicate_types = predicate_types(manifest);
                attestations.push((image, AttestationRow { digest, predicate_types }));
            }
            (Document::Manifest(manifest), None) => rows.push(PlatformRow {
                platform: child.platform.as_ref().map(Platform::to_string),
                digest: child.digest.clone(),
                size: image_size(document, manifest),
                absent: false,
                attestations: Vec::new(),
            }),
        }
    }
}

/// Returns the types of the statements that a manifest holds, each once, in order.
pub(super) fn predicate_types(manifest: &ImageManifest) -> Vec<String> {
    let mut types: Vec<String> = Vec::new();
    for kind in manifest.layers.iter().filter_map(|layer| layer.annotations.get(PREDICATE_TYPE)) {
        if !types.contains(kind) {
            types.push(kind.clone());
        }
    }
    types
}

/// Returns what an image consists of, with the bytes of each: manifest, configuration and layers.
pub(super) fn image_parts(document: &RawDocument, manifest: &ImageManifest) -> BTreeMap<Digest, u64> {
    let blobs = manifest.layers.iter().chain([&manifest.config]);
    let blobs = blobs.map(|blob| (blob.digest.clone(), blob.size));
    blobs.chain([(document.digest().clone(), document.bytes().len() as u64)]).collect()
}

/// Returns the bytes of an image as stored: what it names twice is there once.
pub(super) fn image_size(document: &RawDocument, manifest: &ImageManifest) -> u64 {
    image_parts(document, manifest).into_values().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Annotations, keys, media_type};
    use crate::pack::{IndexAttestation, IndexImage, compose_index};
    use crate::transfer::{ImageSource, TransferError};

    /// Documents in memory.
    struct Documents(Vec<RawDocument>);

    impl ImageSource for Documents {
        fn label(&self) -> String {
            "documents".to_owned()
        }

        fn read_document(&self, descriptor: &crate::model::Descriptor) -> Result<RawDocument, TransferError> {
            let found = self.0.iter().find(|document| *document.digest() == descriptor.digest);
            let place = self.label();
            found.cloned().ok_or(TransferError::Nowhere { digest: descriptor.digest.clone(), place })
        }

        fn open_blob(
            &self,
            descriptor: &crate::model::Descriptor,
        ) -> Result<crate::stream::BlobStream<'_>, TransferError> {
            let place = self.label();
            Err(TransferError::Nowhere { digest: descriptor.digest.clone(), place })
        }
    }

    fn manifest(layers: &serde_json::Value) -> RawDocument {
        let config = serde_json::json!({
            "mediaType": media_type::OCI_CONFIG,
            "digest": format!("sha256:{}", "0".repeat(64)),
            "size": 2,
        });
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": layers,
        });
        RawDocument::parse(manifest.to_string().into_bytes(), Some(media_type::OCI_MANIFEST)).unwrap()
    }

    #[test]
    fn attestations_are_listed_with_their_image_and_are_no_platform() {
        let layer = |digit: &str, size: u64, annotations: serde_json::Value| {
            let digest = format!("sha256:{}", digit.repeat(64));
            serde_json::json!([{
                "mediaType": media_type::OCI_LAYER, "digest": digest, "size": size, "annotations": annotations,
            }])
        };
        let image = manifest(&layer("1", 100, serde_json::json!({})));
        let kind = "https://slsa.dev/provenance/v1";
        let attestation = manifest(&layer("2", 7, serde_json::json!({ PREDICATE_TYPE: kind })));
        let mut about = attestation.descriptor();
        about.annotations = [
            (keys::REFERENCE_TYPE.to_owned(), keys::ATTESTATION_MANIFEST.to_owned()),
            (keys::REFERENCE_DIGEST.to_owned(), image.digest().to_string()),
        ]
        .into();
        let listed = IndexImage {
            descriptor: image.descriptor(),
            platform: "linux/arm64".parse().unwrap(),
            label: "a.tar".to_owned(),
        };
        let attested =
            IndexAttestation { descriptor: about, image: image.digest().clone(), label: "a.tar".to_owned() };
        let index = compose_index(vec![listed], vec![attested], Annotations::new()).unwrap();
        let root = index.descriptor();
        let source = Documents(vec![image.clone(), attestation.clone(), index]);
        let rows = platform_rows(&Graph::of(&source, &root).unwrap(), &root.digest);
        let expected = PlatformRow {
            platform: Some("linux/arm64".to_owned()),
            digest: image.digest().clone(),
            size: image.bytes().len() as u64 + 102,
            absent: false,
            attestations: vec![AttestationRow {
                digest: attestation.digest().clone(),
                predicate_types: vec![kind.to_owned()],
            }],
        };
        assert_eq!(rows, [expected]);
        let alone = Graph::of(&source, &image.descriptor()).unwrap();
        assert_eq!(platform_rows(&alone, image.digest()), []);
    }
}

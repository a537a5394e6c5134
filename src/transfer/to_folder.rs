//! Writes an OCI layout folder in the form of Concourse's registry-image resource.
//!
//! An index becomes `index.json` as it is, byte for byte; a single image gets an `index.json` around it, and a file
//! that says that the image is meant.

use std::fs::File;
use std::path::Path;

use crate::model::{Descriptor, Digest, ImageIndex, RawDocument, media_type};
use crate::stream::{FileError, Overwrite, StagedFolder};

use super::blob_copy::BlobCopier;
use super::contents::warn_of_left_behind;
use super::events::{Event, Observer};
use super::{Graph, ImageSource, TransferError, workers};

/// File beside `index.json` with the digest of the one image that is meant.
///
/// Source: registry-image-resource 1.10, `format: oci-layout`.
pub const SINGLE_IMAGE: &str = "single-image-digest";
/// The content of `oci-layout`.
const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Copies a root and everything below it into an OCI layout folder, which replaces an older one.
///
/// Errors: after any error the target is as it was and nothing else is left.
pub fn copy_to_folder(
    source: &dyn ImageSource,
    root: &Descriptor,
    target: &Path,
    concurrency: usize,
    observer: &dyn Observer,
) -> Result<Graph, TransferError> {
    let graph = Graph::of(source, root)?;
    let staging = StagedFolder::create(target, Overwrite::Replace, 0o022)?;
    let folder = staging.path();
    let mut algorithms: Vec<&str> = Vec::new();
    let digests = graph.blobs.iter().map(|blob| &blob.digest);
    for digest in digests.chain(graph.documents.iter().map(RawDocument::digest)) {
        let name = digest.algorithm().name();
        if !algorithms.contains(&name) {
            let path = folder.join("blobs").join(name);
            std::fs::create_dir_all(&path).map_err(|error| FileError::io("create", &path, error))?;
            algorithms.push(name);
        }
    }
    observer.event(Event::Planned {
        blobs: graph.blobs.len() as u64,
        bytes: graph.blobs.iter().map(|blob| blob.size).sum(),
    });
    let copier = BlobCopier::new(source, observer);
    workers::for_each_blob(&graph.blobs, concurrency, |blob| blob.size, |blob| fill(&copier, blob, folder))?;
    for document in graph.documents.iter().filter(|document| *document.digest() != root.digest) {
        write(&blob_path(folder, document.digest()), document.bytes())?;
    }
    if let Some(document) = graph.document(&root.digest) {
        match document.manifest() {
            None => write(&folder.join("index.json"), document.bytes())?,
            Some(_) => {
                write(&blob_path(folder, document.digest()), document.bytes())?;
                write(&folder.join("index.json"), &index_of(document))?;
                write(&folder.join(SINGLE_IMAGE), root.digest.to_string().as_bytes())?;
            }
        }
    }
    write(&folder.join("oci-layout"), OCI_LAYOUT)?;
    warn_of_left_behind(&staging.publish()?, observer);
    Ok(graph)
}

/// Makes the index around one image.
fn index_of(document: &RawDocument) -> Vec<u8> {
    crate::model::to_json(&ImageIndex {
        schema_version: 2,
        media_type: Some(media_type::OCI_INDEX.to_owned()),
        artifact_type: None,
        manifests: vec![document.descriptor()],
        subject: None,
        annotations: std::collections::BTreeMap::new(),
    })
}

fn blob_path(folder: &Path, digest: &Digest) -> std::path::PathBuf {
    folder.join("blobs").join(digest.algorithm().name()).join(digest.hex())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), TransferError> {
    Ok(std::fs::write(path, bytes).map_err(|error| FileError::io("write", path, error))?)
}

/// Writes one blob.
fn fill(copier: &BlobCopier<'_>, blob: &Descriptor, folder: &Path) -> Result<(), TransferError> {
    let path = blob_path(folder, &blob.digest);
    let failed = |error| FileError::io("write", &path, error);
    copier.with_retry(blob, || {
        let mut file = File::create(&path).map_err(failed)?;
        copier.copy_blob(blob, &mut file, &failed)
    })
}

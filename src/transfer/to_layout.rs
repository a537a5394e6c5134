//! Writes an OCI layout tar: reserves slots in a fixed order; several threads fill them with verified blobs.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;

use crate::model::{Descriptor, Digest, keys};
use crate::store::layout::{LayoutTarWriter, LayoutTarget};
use crate::store::{LeftOut, NamedImage, left_out_to_text};

use super::blob_copy::BlobCopier;
use super::events::{Event, Observer, Warning};
use super::root_names::layout_index;
use super::{Graph, ImageSource, TransferError, workers};

/// A request to write a layout tar.
#[derive(Clone, Debug)]
pub struct LayoutRequest {
    /// The target.
    pub target: LayoutTarget,
    /// The roots in order, with their names.
    pub roots: Vec<NamedImage>,
    /// Blobs moved at the same time.
    pub concurrency: usize,
    /// Also fetch non-distributable layers.
    pub include_non_distributable: bool,
}

/// The written tar.
#[derive(Debug)]
pub struct LayoutReport {
    /// Bytes of the tar.
    pub size: u64,
    /// The nameless file, for [`LayoutTarget::Spool`].
    pub spool: Option<File>,
    /// Everything below the roots, also what the tar lacks.
    pub graph: Graph,
    /// The blobs that were left out.
    pub left_out: Vec<LeftOut>,
}

/// Copies roots and everything below them from a source into an OCI layout tar.
///
/// Shape: each image's layers and its configuration, then documents, children first: the same input gives the same
/// bytes with any timing, and the bytes that packing writes.
/// Errors: nothing is visible at the target after one.
pub fn copy_to_layout(
    source: &dyn ImageSource,
    request: &LayoutRequest,
    observer: &dyn Observer,
) -> Result<LayoutReport, TransferError> {
    copy_delta_to_layout(source, request, &BTreeMap::new(), observer)
}

/// As [`copy_to_layout`], without the layers in `others`, which maps each to the name of an image that has it; the tar
/// records what it lacks.
///
/// Errors: those of [`copy_to_layout`].
pub fn copy_delta_to_layout(
    source: &dyn ImageSource,
    request: &LayoutRequest,
    others: &BTreeMap<Digest, String>,
    observer: &dyn Observer,
) -> Result<LayoutReport, TransferError> {
    let skip = |blob: &&Descriptor| blob.is_non_distributable() && !request.include_non_distributable;
    let mut graph = Graph::default();
    for root in &request.roots {
        let before = graph.blobs.len();
        graph.add(source, &root.descriptor)?;
        let new = &graph.blobs[before..];
        let layers: Vec<Digest> = new.iter().filter(skip).map(|blob| blob.digest.clone()).collect();
        for warning in graph.left_out(&root.descriptor.digest, &root.label(), &layers) {
            observer.event(Event::Warning(&warning));
        }
    }
    if request.include_non_distributable && !graph.blobs.iter().any(Descriptor::is_non_distributable) {
        observer.event(Event::Warning(&Warning::NothingNonDistributable));
    }
    let left_out = left_out(&graph, others);
    let is_left_out: HashSet<&Digest> = left_out.iter().map(|blob| &blob.digest).collect();
    let mut writer = LayoutTarWriter::create(&request.target)?;
    let mut slots = Vec::new();
    for blob in graph.blobs.iter().filter(|blob| !skip(blob) && !is_left_out.contains(&blob.digest)) {
        if let Some(slot) = writer.reserve(&blob.digest, blob.size)? {
            slots.push((blob, slot));
        }
    }
    let bytes = slots.iter().map(|(blob, _)| blob.size).sum();
    observer.event(Event::Planned { blobs: slots.len() as u64, bytes });
    let copier = BlobCopier::new(source, observer);
    workers::for_each_blob(
        &slots,
        request.concurrency,
        |(blob, _)| blob.size,
        |(blob, slot)| copier.fill(blob, slot),
    )?;
    for document in &graph.documents {
        writer.add_document(document)?;
        observer.event(Event::ManifestFinished { descriptor: &document.descriptor(), present: false });
    }
    let mut index = layout_index(&request.roots, &graph.documents);
    if !left_out.is_empty() {
        // docker's table names every layer, and docker loads no image without one.
        index.docker = None;
        index.annotations.insert(keys::WITHOUT.to_owned(), left_out_to_text(&left_out));
    }
    let written = writer.finish(&index)?;
    Ok(LayoutReport { size: written.size, spool: written.spool, graph, left_out })
}

/// Returns the layers of a graph that others have, in the order of the graph; configurations are never left out.
fn left_out(graph: &Graph, others: &BTreeMap<Digest, String>) -> Vec<LeftOut> {
    let manifests = graph.documents.iter().filter_map(|document| document.manifest());
    let configs: HashSet<&Digest> = manifests.map(|manifest| &manifest.config.digest).collect();
    let has = |blob: &Descriptor| {
        let from = others.get(&blob.digest).filter(|_| !configs.contains(&blob.digest))?;
        Some(LeftOut { digest: blob.digest.clone(), size: blob.size, from: from.clone() })
    };
    graph.blobs.iter().filter_map(has).collect()
}

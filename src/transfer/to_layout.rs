//! Writes an OCI layout tar: reserves places in a fixed order, which several threads fill with verified blobs.

use std::fs::File;

use crate::model::{Descriptor, Digest};
use crate::store::NamedImage;
use crate::store::layout::{LayoutTarWriter, LayoutTarget};

use super::blob_copy::BlobCopier;
use super::events::{Event, Observer, Warning};
use super::root_names::layout_index;
use super::{Graph, ImageSource, TransferError, workers};

/// What is to be written.
#[derive(Clone, Debug)]
pub struct LayoutRequest {
    /// Where to.
    pub target: LayoutTarget,
    /// The roots, first one first, with their names.
    pub roots: Vec<NamedImage>,
    /// Blobs moved at the same time.
    pub concurrency: usize,
    /// Also fetch layers that may not be distributed.
    pub include_non_distributable: bool,
}

/// What was written.
#[derive(Debug)]
pub struct LayoutReport {
    /// Bytes of the tar.
    pub size: u64,
    /// The nameless file, for [`LayoutTarget::Spool`].
    pub spool: Option<File>,
    /// Everything that is in it.
    pub graph: Graph,
}

/// Copies roots and all that hangs below them from a source into an OCI layout tar.
///
/// Shape: each image's layers and its configuration, then documents, children first: the same input gives the same
/// bytes with any timing, and those that packing gives.
/// Errors: nothing is visible at the target after one.
pub fn copy_to_layout(
    source: &dyn ImageSource,
    request: &LayoutRequest,
    observer: &dyn Observer,
) -> Result<LayoutReport, TransferError> {
    let skip = |blob: &&Descriptor| blob.is_non_distributable() && !request.include_non_distributable;
    let mut graph = Graph::default();
    for root in &request.roots {
        let before = graph.blobs.len();
        graph.add(source, &root.descriptor)?;
        let new = graph.blobs.get(before..).unwrap_or_default();
        let layers: Vec<Digest> = new.iter().filter(skip).map(|blob| blob.digest.clone()).collect();
        for warning in graph.left_out(&root.descriptor.digest, &root.label(), &layers) {
            observer.event(Event::Warning(&warning));
        }
    }
    if request.include_non_distributable && !graph.blobs.iter().any(Descriptor::is_non_distributable) {
        observer.event(Event::Warning(&Warning::NothingNonDistributable));
    }
    let mut writer = LayoutTarWriter::create(&request.target)?;
    let mut slots = Vec::new();
    for blob in graph.blobs.iter().filter(|blob| !skip(blob)) {
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
    let index = layout_index(&request.roots, &graph.documents);
    let written = writer.finish(&index)?;
    Ok(LayoutReport { size: written.size, spool: written.spool, graph })
}

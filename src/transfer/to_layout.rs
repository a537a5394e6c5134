//! Into an OCI layout tar: places reserved in a fixed order, filled by several threads, verified on the way.

use std::fs::File;
use std::io::{self, BufRead as _};

use crate::model::{Descriptor, Digest};
use crate::store::NamedImage;
use crate::store::layout::{BlobSlot, LayoutTarWriter, LayoutTarget};
use crate::stream::FileError;

use super::events::{BlobOutcome, Event, Observer, Warning};
use super::root_names::layout_index;
use super::workers::{self, Verified};
use super::{Graph, ImageSource, TransferError};

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
/// bytes whatever the timing, and those that packing gives.
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
        if !layers.is_empty() {
            let warning = Warning::NonDistributableSkipped { image: root.label(), layers };
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
    workers::for_each(&slots, request.concurrency, |(blob, slot)| fill(source, blob, slot, observer))?;
    for document in &graph.documents {
        writer.add_document(document)?;
        observer.event(Event::ManifestFinished { descriptor: &document.descriptor(), present: false });
    }
    let index = layout_index(&request.roots, &graph.documents);
    let written = writer.finish(&index)?;
    Ok(LayoutReport { size: written.size, spool: written.spool, graph })
}

/// Fills one place; a transfer that turned out wrong is done once more from its start.
pub(super) fn fill(
    source: &dyn ImageSource,
    blob: &Descriptor,
    slot: &BlobSlot,
    observer: &dyn Observer,
) -> Result<(), TransferError> {
    observer.event(Event::BlobStarted { descriptor: blob });
    if let Err(error) = fill_once(source, blob, slot, observer) {
        if !error.is_mismatch() || source.repository_of(&blob.digest).is_none() {
            return Err(error);
        }
        observer.event(Event::BlobRestarted { digest: &blob.digest });
        fill_once(source, blob, slot, observer)?;
    }
    observer.event(Event::BlobFinished { descriptor: blob, outcome: BlobOutcome::Transferred });
    Ok(())
}

fn fill_once(
    source: &dyn ImageSource,
    blob: &Descriptor,
    slot: &BlobSlot,
    observer: &dyn Observer,
) -> Result<(), TransferError> {
    pour(source, blob, &mut slot.writer(), &|error| slot.failed(error), observer)
}

/// Writes a blob's verified bytes; `failed` names what could not be written.
pub(super) fn pour(
    source: &dyn ImageSource,
    blob: &Descriptor,
    to: &mut dyn io::Write,
    failed: &dyn Fn(io::Error) -> FileError,
    observer: &dyn Observer,
) -> Result<(), TransferError> {
    let from = source.open_for_copy(blob)?;
    // Ahead of the writer the reader does not wait for the disk, nor the disk for it.
    let from_registry = source.repository_of(&blob.digest).is_some();
    let verified = if from_registry { Verified::Using } else { Verified::Reading };
    let broken = |error| TransferError::from_read(&source.label(), &format!("blob `{}`", blob.digest), error);
    std::thread::scope(|scope| {
        let mut from = workers::ahead(scope, blob, from, verified).map_err(broken)?;
        loop {
            let piece = match from.fill_buf() {
                Ok(piece) => piece,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(broken(error)),
            };
            if piece.is_empty() {
                return Ok(());
            }
            to.write_all(piece).map_err(failed)?;
            let count = piece.len();
            from.consume(count);
            observer.event(Event::BlobProgress { digest: &blob.digest, bytes: count as u64 });
        }
    })
}

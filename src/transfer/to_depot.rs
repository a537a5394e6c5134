//! Copies images into an image store: the blobs that it lacks, then documents, then an entry for each tag.
//!
//! An entry lists its image first, then what belongs to it: the images that a bundle names, signatures.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::depot::{Depot, DepotError, Version};
use crate::lock::cosign_subject;
use crate::model::{Descriptor, Digest, RawDocument, Tag};
use crate::store::{ImageName, NamedImage};

use super::blob_push::{Open, check_held, with_body};
use super::events::{BlobOutcome, Event, Observer, Warning};
use super::read_ahead::ThreadPermits;
use super::root_names::index_entries;
use super::{Collection, Graph, ImageSource, Member, Role, TransferError, workers};

/// An image to be copied into a store.
#[derive(Clone, Debug)]
pub struct DepotImage {
    /// The image.
    pub root: NamedImage,
    /// The tags that it gets, in this order; at least one.
    pub tags: Vec<Tag>,
    /// What belongs to it.
    pub belonging: Vec<NamedImage>,
}

/// A request to copy images into a store.
#[derive(Clone, Debug)]
pub struct DepotRequest {
    /// The images.
    pub images: Vec<DepotImage>,
    /// Blobs moved at the same time.
    pub concurrency: usize,
    /// Also copy non-distributable layers.
    pub include_non_distributable: bool,
    /// Read back what was written.
    pub verify_upload: bool,
}

/// The result of a copy.
#[derive(Clone, Debug, Default)]
pub struct DepotReport {
    /// The version of each tag, in the order of the images and their tags.
    pub versions: Vec<Version>,
    /// Bytes that were written: blobs and documents.
    pub sent: u64,
    /// Bytes that the store had already.
    pub reused: u64,
}

impl Collection {
    /// Returns the images for a store; `tags` gives the tags of each member.
    ///
    /// Errors: the first image without a tag, by its number.
    pub fn for_depot(
        &self,
        source: &dyn ImageSource,
        tags: &dyn Fn(&Member) -> Vec<Tag>,
    ) -> Result<Result<Vec<DepotImage>, Digest>, TransferError> {
        let named = self.named();
        let roots = || self.members.iter().zip(&named).filter(|(member, _)| member.role == Role::Root);
        let is_only = roots().count() == 1;
        let mut images = Vec::new();
        for (member, root) in roots() {
            let tags = tags(member);
            if tags.is_empty() {
                return Ok(Err(member.descriptor.digest.clone()));
            }
            let belongs = match is_only {
                true => None,
                false => Some(self.belonging_to(source, member)?),
            };
            let others = self.members.iter().zip(&named).filter(|(other, _)| other.role != Role::Root);
            let belonging = others.filter(|(other, _)| {
                belongs.as_ref().is_none_or(|belongs| belongs.contains(&other.descriptor.digest))
            });
            let belonging = belonging.map(|(_, other)| other.clone()).collect();
            images.push(DepotImage { root: root.clone(), tags, belonging });
        }
        Ok(Ok(images))
    }

    /// Returns which members belong to one of several roots: the images that it names as a bundle, and what is
    /// attached.
    fn belonging_to(
        &self,
        source: &dyn ImageSource,
        root: &Member,
    ) -> Result<HashSet<Digest>, TransferError> {
        let mut belonging = HashSet::new();
        let mut kept: HashSet<Digest> = HashSet::new();
        let mut keep = |member: &Member, belonging: &mut HashSet<Digest>| -> Result<(), TransferError> {
            let documents = Graph::of_present(source, &member.descriptor)?.documents;
            kept.extend(documents.iter().map(|document| document.digest().clone()));
            belonging.insert(member.descriptor.digest.clone());
            Ok(())
        };
        keep(root, &mut belonging)?;
        if root.bundle.is_some() {
            for member in self.members.iter().filter(|member| member.role == Role::Referenced) {
                keep(member, &mut belonging)?;
            }
        }
        let mut rest: Vec<&Member> =
            self.members.iter().filter(|member| member.role == Role::Attached).collect();
        loop {
            let mut later = Vec::new();
            let before = rest.len();
            for member in rest {
                match is_about(source, member, &kept)? {
                    true => {
                        kept.insert(member.descriptor.digest.clone());
                        belonging.insert(member.descriptor.digest.clone());
                    }
                    false => later.push(member),
                }
            }
            rest = later;
            if rest.len() == before {
                return Ok(belonging);
            }
        }
    }
}

/// Tells whether an attached manifest refers to one of these.
fn is_about(
    source: &dyn ImageSource,
    member: &Member,
    kept: &HashSet<Digest>,
) -> Result<bool, TransferError> {
    let by_tag = |tag: &Tag| cosign_subject(tag.as_str()).is_some_and(|subject| kept.contains(&subject));
    if member.tags().iter().any(by_tag) {
        return Ok(true);
    }
    let document = source.read_document(&member.descriptor)?;
    Ok(document.document().subject().is_some_and(|subject| kept.contains(&subject.digest)))
}

/// Copies images and everything below them into a store.
///
/// Order: objections to what is about to be deleted, missing blobs in parallel, missing documents, entries, `index.json`.
/// Errors: after one no tag has a version that does not have all its content.
/// Cost: where everything is there, one request for each blob and document.
pub fn copy_to_depot(
    source: &dyn ImageSource,
    depot: &Depot,
    request: &DepotRequest,
    observer: &dyn Observer,
) -> Result<DepotReport, TransferError> {
    let graph = graph(source, request, observer)?;
    let skip = |blob: &&Descriptor| blob.is_non_distributable() && !request.include_non_distributable;
    let blobs: Vec<&Descriptor> = graph.blobs.iter().filter(|blob| !skip(blob)).collect();
    for blob in &blobs {
        // What a delta tar lacks may be in the store.
        if source.lacks(&blob.digest) && !depot.holds(blob)? {
            check_held(source, blob, || source.label())?;
        }
    }
    let bytes = blobs.iter().map(|blob| blob.size).sum();
    observer.event(Event::Planned { blobs: blobs.len() as u64, bytes });
    let copy = Copy {
        source,
        depot,
        observer,
        permits: ThreadPermits::default(),
        sent: AtomicU64::new(0),
        verify: request.verify_upload,
    };
    let needed: Vec<&Digest> = blobs
        .iter()
        .map(|blob| &blob.digest)
        .chain(graph.documents.iter().map(RawDocument::digest))
        .collect();
    for attempt in 1.. {
        let waiting = || observer.event(Event::Warning(&Warning::StoreIsCollected { store: depot.label() }));
        let protection = depot.protect(&needed, &waiting)?;
        workers::for_each(&blobs, request.concurrency, |blob| copy.blob(blob))?;
        workers::for_each(&graph.documents, request.concurrency, |document| copy.document(document))?;
        // What was found may be deleted if it took too long; then only what is gone is sent again.
        if depot.is_protected(protection, attempt)? {
            break;
        }
    }
    let mut versions = Vec::new();
    for image in &request.images {
        for tag in &image.tags {
            let entries = entries(image, tag);
            let (version, _) = depot.write_entry(tag, &image.root.descriptor, &entries)?;
            versions.push(version);
        }
    }
    depot.write_index()?;
    let sent = copy.sent.into_inner();
    let skipped: u64 = graph.blobs.iter().filter(skip).map(|blob| blob.size).sum();
    Ok(DepotReport { versions, sent, reused: (graph.size() - skipped).saturating_sub(sent) })
}

/// Collects everything that the store has to hold.
fn graph(
    source: &dyn ImageSource,
    request: &DepotRequest,
    observer: &dyn Observer,
) -> Result<Graph, TransferError> {
    let skip = |blob: &&Descriptor| blob.is_non_distributable() && !request.include_non_distributable;
    let mut graph = Graph::default();
    for image in request.images.iter().flat_map(|image| std::iter::once(&image.root).chain(&image.belonging))
    {
        let before = graph.blobs.len();
        graph.add(source, &image.descriptor)?;
        let new = graph.blobs.get(before..).unwrap_or_default();
        let layers: Vec<Digest> = new.iter().filter(skip).map(|blob| blob.digest.clone()).collect();
        for warning in graph.left_out(&image.descriptor.digest, &image.label(), &layers) {
            observer.event(Event::Warning(&warning));
        }
    }
    if request.include_non_distributable && !graph.blobs.iter().any(Descriptor::is_non_distributable) {
        observer.event(Event::Warning(&Warning::NothingNonDistributable));
    }
    Ok(graph)
}

/// Makes what an entry lists: the image under its tag, then what belongs to it.
///
/// The origin of an image is kept. Its full name is not, because it would say that the image is still there.
fn entries(image: &DepotImage, tag: &Tag) -> Vec<Descriptor> {
    let names = vec![ImageName { tag: Some(tag.clone()), reference: None }];
    let root = NamedImage { names, ..image.root.clone() };
    let mut images = vec![root];
    images.extend(image.belonging.iter().cloned());
    index_entries(&images)
}

/// A running copy.
struct Copy<'a> {
    source: &'a dyn ImageSource,
    depot: &'a Depot,
    observer: &'a dyn Observer,
    permits: ThreadPermits,
    sent: AtomicU64,
    verify: bool,
}

impl Copy<'_> {
    fn blob(&self, blob: &Descriptor) -> Result<(), TransferError> {
        if self.depot.holds(blob)? {
            let outcome = BlobOutcome::Present;
            self.observer.event(Event::BlobFinished { descriptor: blob, outcome });
            return Ok(());
        }
        self.observer.event(Event::BlobStarted { descriptor: blob });
        match self.write(blob) {
            // The bytes from a registry did not match; it may be a fault of the network, so they are fetched once more.
            Err(error) if error.is_mismatch() && self.source.repository_of(&blob.digest).is_some() => {
                self.observer.event(Event::BlobRestarted { digest: &blob.digest });
                self.write(blob)?;
            }
            result => result?,
        }
        if self.verify {
            self.depot.read_back(blob)?;
        }
        self.sent.fetch_add(blob.size, Ordering::Relaxed);
        let outcome = BlobOutcome::Transferred;
        self.observer.event(Event::BlobFinished { descriptor: blob, outcome });
        Ok(())
    }

    fn write(&self, blob: &Descriptor) -> Result<(), TransferError> {
        let open: &Open<'_> = &|| self.source.open_for_copy(blob);
        let progress = |bytes| self.observer.event(Event::BlobProgress { digest: &blob.digest, bytes });
        with_body(open, blob, self.observer, &self.permits, |body| {
            self.depot.write_blob(blob, body, &progress)
        })
        .map_err(|error| from_write(&self.source.label(), error))
    }

    fn document(&self, document: &RawDocument) -> Result<(), TransferError> {
        let descriptor = document.descriptor();
        let present = self.depot.holds(&descriptor)?;
        if !present {
            self.depot.write_document(document)?;
            if self.verify {
                self.depot.read_back(&descriptor)?;
            }
            self.sent.fetch_add(descriptor.size, Ordering::Relaxed);
        }
        self.observer.event(Event::ManifestFinished { descriptor: &descriptor, present });
        Ok(())
    }
}

/// Makes the error for a write: that of the source if reading the body failed.
fn from_write(place: &str, error: DepotError) -> TransferError {
    match error {
        DepotError::Source(error) => match error.downcast::<TransferError>() {
            Ok(error) => error,
            Err(error) => TransferError::from_read(place, "a blob", error),
        },
        error => error.into(),
    }
}

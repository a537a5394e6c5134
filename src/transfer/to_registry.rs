//! Into a registry: what is missing, blobs first, then documents, tags last of all.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Scope;

use crate::model::{Descriptor, Digest, RawDocument, Repository, Tag, Target};
use crate::registry::{BlobBody, Client, PushOutcome, PushStart, TagState};
use crate::stream::{BlobStream, into_value, lock};

use super::events::{BlobOutcome, Event, Observer, Warning};
use super::read_ahead::{HashOn, ThreadPermits, read_ahead_if_large};
use super::{Graph, ImageSource, TransferError, workers};

/// What is to be pushed, and where.
#[derive(Clone, Debug)]
pub struct PushRequest {
    /// Repository at the registry.
    pub repository: Repository,
    /// Roots with the tags each is to have there; without a tag it is pushed by digest.
    pub roots: Vec<(Descriptor, Vec<Tag>)>,
    /// Blobs that were sent there a moment ago, and are not asked for again.
    pub sent: BTreeSet<Digest>,
    /// Blobs moved at the same time.
    pub concurrency: usize,
    /// Also push layers that may not be distributed.
    pub include_non_distributable: bool,
}

/// What a push did.
#[derive(Clone, Debug, Default)]
pub struct PushReport {
    /// How many blobs went which way.
    pub blobs: BTreeMap<BlobOutcome, u64>,
    /// Bytes of blobs sent.
    pub bytes_sent: u64,
    /// Manifests and indexes written.
    pub documents_written: u64,
    /// Everything that is in the registry now; empty for roots that were there already.
    pub graph: Graph,
}

/// Pushes roots and all that hangs below them.
///
/// Order: everything local is looked at first; then blobs, then documents, children first; a root's tags last.
/// Where a root is there already only its tags are written, and those only where they differ.
/// Errors: after one no tag has been written that did not have all its content.
pub fn push_to_registry(
    source: &dyn ImageSource,
    client: &Client,
    request: &PushRequest,
    observer: &dyn Observer,
) -> Result<PushReport, TransferError> {
    let mut report = PushReport::default();
    for (root, tags) in &request.roots {
        push_root(source, client, request, (root, tags), observer, &mut report)?;
    }
    Ok(report)
}

fn push_root(
    source: &dyn ImageSource,
    client: &Client,
    request: &PushRequest,
    (root, tags): (&Descriptor, &[Tag]),
    observer: &dyn Observer,
    report: &mut PushReport,
) -> Result<(), TransferError> {
    let repository = &request.repository;
    // Where every tag is right already, one HEAD for each is all there is to do.
    let mut wanting = Vec::new();
    for tag in tags {
        let there = client.head_manifest(repository, &Target::Tag(tag.clone()))?;
        if there.is_none_or(|there| there.digest != root.digest) {
            wanting.push(tag);
        }
    }
    let by_digest = Target::Digest(root.digest.clone());
    let present = wanting.len() < tags.len() || client.head_manifest(repository, &by_digest)?.is_some();
    let present = present
        && !(request.include_non_distributable && layers_were_left_out(source, client, repository, root)?);
    let document = source.read_document(root)?;
    if present {
        observer.event(Event::ManifestFinished { descriptor: root, present: true });
    } else {
        push_content(source, client, request, root, observer, report)?;
        if wanting.is_empty() {
            client.push_manifest(repository, &by_digest, &document)?;
            report.documents_written += 1;
        }
        observer.event(Event::ManifestFinished { descriptor: root, present: false });
    }
    for tag in tags {
        if wanting.contains(&tag) {
            client.push_manifest(repository, &Target::Tag(tag.clone()), &document)?;
            report.documents_written += 1;
        }
        observer.event(Event::TagWritten { repository, tag, digest: &root.digest });
    }
    if let Some(tag) = wanting.last() {
        confirm(client, repository, tag, &root.digest, observer)?;
    }
    Ok(())
}

/// Tells whether an image came into a repository without layers that may not be distributed.
///
/// Cost: one HEAD for each such layer, none for an image without.
pub(super) fn layers_were_left_out(
    source: &dyn ImageSource,
    client: &Client,
    repository: &Repository,
    root: &Descriptor,
) -> Result<bool, TransferError> {
    for blob in Graph::of(source, root)?.blobs.iter().filter(|blob| blob.is_non_distributable()) {
        if !client.has_blob(repository, blob)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Asks the registry what the tag points at, so that the report is true. A tag that is not shown yet is a warning.
pub(super) fn confirm(
    client: &Client,
    repository: &Repository,
    tag: &Tag,
    expected: &Digest,
    observer: &dyn Observer,
) -> Result<(), TransferError> {
    match client.confirm_tag(repository, tag, expected)? {
        TagState::AsWritten => Ok(()),
        TagState::Absent => {
            let warning =
                Warning::TagNotShown { tag: format!("{repository}:{tag}"), digest: expected.clone() };
            observer.event(Event::Warning(&warning));
            Ok(())
        }
        TagState::Other(found) => {
            Err(TransferError::TagMoved { tag: tag.to_string(), expected: expected.clone(), found })
        }
    }
}

/// Pushes everything below a root, but not the root's own document.
fn push_content(
    source: &dyn ImageSource,
    client: &Client,
    request: &PushRequest,
    root: &Descriptor,
    observer: &dyn Observer,
    report: &mut PushReport,
) -> Result<(), TransferError> {
    let graph = Graph::of(source, root)?;
    let mut wanted = Vec::new();
    let mut skipped = Vec::new();
    for blob in &graph.blobs {
        if blob.is_non_distributable() && !request.include_non_distributable {
            skipped.push(blob.digest.clone());
            observer.event(Event::BlobFinished { descriptor: blob, outcome: BlobOutcome::Skipped });
        } else {
            check_held(source, blob, || root.digest.to_string())?;
            wanted.push(blob);
        }
    }
    if !skipped.is_empty() {
        *report.blobs.entry(BlobOutcome::Skipped).or_default() += skipped.len() as u64;
        let warning = Warning::NonDistributableSkipped { image: source.label(), layers: skipped };
        observer.event(Event::Warning(&warning));
    }
    let bytes = wanted.iter().map(|blob| blob.size).sum();
    observer.event(Event::Planned { blobs: wanted.len() as u64, bytes });
    let done = std::sync::Mutex::new(report);
    let permits = ThreadPermits::default();
    workers::for_each(&wanted, request.concurrency, |blob| {
        if request.sent.contains(&blob.digest) {
            return Ok(());
        }
        let outcome = push_blob(source, client, &request.repository, &[], blob, &permits, observer)?;
        let mut report = lock(&done);
        *report.blobs.entry(outcome).or_default() += 1;
        report.bytes_sent += if outcome == BlobOutcome::Transferred { blob.size } else { 0 };
        Ok(())
    })?;
    let report = into_value(done);
    for document in graph.documents.iter().filter(|document| *document.digest() != root.digest) {
        let present = push_child(client, request, document)?;
        report.documents_written += u64::from(!present);
        observer.event(Event::ManifestFinished { descriptor: &document.descriptor(), present });
    }
    report.graph = graph;
    Ok(())
}

/// Makes sure, before anything is sent, that the source does not lack a blob.
pub(super) fn check_held(
    source: &dyn ImageSource,
    blob: &Descriptor,
    image: impl Fn() -> String,
) -> Result<(), TransferError> {
    if !source.lacks(&blob.digest) {
        return Ok(());
    }
    if blob.is_non_distributable() {
        let (layer, image, place) = (blob.digest.clone(), format!("`{}`", image()), source.label());
        return Err(TransferError::NonDistributableMissing { layer, image, place });
    }
    // Opening it gives the source's own words for what is missing.
    source.open_blob(blob).map(|_| ())
}

/// Pushes a blob of a source, or has it mounted from where the source has it or from one of `mount_from`.
pub(super) fn push_blob(
    source: &dyn ImageSource,
    client: &Client,
    repository: &Repository,
    mount_from: &[Repository],
    blob: &Descriptor,
    permits: &ThreadPermits,
    observer: &dyn Observer,
) -> Result<BlobOutcome, TransferError> {
    let mount_from: Vec<Repository> = source
        .repository_of(&blob.digest)
        .into_iter()
        .chain(mount_from.iter().cloned())
        .filter(|from| from != repository && from.registry() == repository.registry())
        .collect();
    let start = PushStart::Ask(&mount_from);
    let push = BlobPush { client, repository, start, blob, source_label: &source.label(), observer, permits };
    push.send(&|| source.open_for_copy(blob))
}

/// Opens a blob at its first byte.
pub(super) type Open<'a> = dyn Fn() -> Result<BlobStream<'a>, TransferError> + Sync + 'a;

/// One blob on its way to a repository.
pub(super) struct BlobPush<'a> {
    pub(super) client: &'a Client,
    pub(super) repository: &'a Repository,
    /// How it begins.
    pub(super) start: PushStart<'a>,
    pub(super) blob: &'a Descriptor,
    /// Where it comes from, for messages.
    pub(super) source_label: &'a str,
    pub(super) observer: &'a dyn Observer,
    pub(super) permits: &'a ThreadPermits,
}

impl BlobPush<'_> {
    pub(super) fn send<'a>(&'a self, open: &'a Open<'a>) -> Result<BlobOutcome, TransferError> {
        let Self { client, blob, observer, permits, .. } = *self;
        observer.event(Event::BlobStarted { descriptor: blob });
        let progress = |bytes| observer.event(Event::BlobProgress { digest: &blob.digest, bytes });
        let outcome = std::thread::scope(|scope| {
            let body = Body { open, blob, observer, scope, permits, opened: AtomicBool::new(false) };
            client.push_blob(self.repository, blob, &body, self.start, &progress)
        })
        .map_err(|error| TransferError::from_push(self.source_label, error))?;
        let outcome = match outcome {
            PushOutcome::Uploaded => BlobOutcome::Transferred,
            PushOutcome::Mounted => BlobOutcome::Mounted,
            PushOutcome::Present => BlobOutcome::Present,
        };
        observer.event(Event::BlobFinished { descriptor: blob, outcome });
        Ok(outcome)
    }
}

/// Pushes a document below the root by digest; tells whether it was there.
fn push_child(client: &Client, request: &PushRequest, document: &RawDocument) -> Result<bool, TransferError> {
    let target = Target::Digest(document.digest().clone());
    if client.head_manifest(&request.repository, &target)?.is_some() {
        return Ok(true);
    }
    client.push_manifest(&request.repository, &target, document)?;
    Ok(false)
}

/// A blob that can be opened for each attempt; every opening after the first is a new beginning.
struct Body<'scope, 'env> {
    open: &'env Open<'env>,
    blob: &'env Descriptor,
    observer: &'env dyn Observer,
    scope: &'scope Scope<'scope, 'env>,
    permits: &'env ThreadPermits,
    opened: AtomicBool,
}

impl BlobBody for Body<'_, '_> {
    fn open(&self) -> io::Result<Box<dyn Read + Send + '_>> {
        if self.opened.swap(true, Ordering::Relaxed) {
            self.observer.event(Event::BlobRestarted { digest: &self.blob.digest });
        }
        let reader = (self.open)().map_err(io::Error::other)?;
        Ok(read_ahead_if_large(self.scope, self.permits, self.blob, reader, HashOn::Reader)?)
    }
}

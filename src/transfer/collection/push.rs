//! A collection into one repository: what is missing of all images at once, bundles after what they name, the
//! tags that users know last of all.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};

use crate::lock::{default_tag, locations_tag, repository_based_tag};
use crate::model::{Descriptor, Digest, RawDocument, Repository, Tag, Target};
use crate::registry::{Client, PushStart, RegistryError};
use crate::stream::{into_value, lock};

use super::super::events::{BlobOutcome, Event, Observer, Warning};
use super::super::one_file::OneFileImage;
use super::super::read_ahead::ThreadPermits;
use super::super::to_registry::{check_held, confirm, layers_were_left_out, push_blob};
use super::super::{Graph, ImageSource, TransferError, workers};
use super::locations::locations_image;
use super::{Collection, ImageLocator, Member, Role};

/// Which tags keep images from being cleaned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultTags {
    /// imgpkg's `sha256-<hex>.imgpkg`.
    ByDigest,
    /// The same with the end of the name of the repository the image came from.
    ByRepository,
}

/// Where a collection goes, and how.
#[derive(Clone, Debug)]
pub struct CollectionRequest {
    /// The one repository that gets everything.
    pub repository: Repository,
    /// Tags that every image gets besides its own.
    pub default_tags: DefaultTags,
    /// Images and blobs moved at the same time.
    pub concurrency: usize,
    /// Also push layers that may not be distributed.
    pub include_non_distributable: bool,
}

/// What was done.
#[derive(Clone, Debug, Default)]
pub struct CollectionReport {
    /// How many blobs went which way.
    pub blobs: BTreeMap<BlobOutcome, u64>,
    /// Images that were there already.
    pub present: u64,
    /// Manifests, indexes and tags written.
    pub documents_written: u64,
}

/// Pushes a collection.
///
/// Order: what is there already is found out by one HEAD for each image; then all missing blobs, the images that
/// nothing depends on, bundles from the innermost out, their locations, recorded tags, those of roots last.
/// Errors: after one no recorded tag has been written that did not have all its content.
/// Cost: where everything is there, one HEAD for each image, tag and locations image.
pub fn push_collection(
    locator: &ImageLocator<'_>,
    client: &Client,
    collection: &Collection,
    request: &CollectionRequest,
    observer: &dyn Observer,
) -> Result<CollectionReport, TransferError> {
    let push = Push {
        locator,
        client,
        collection,
        request,
        observer,
        report: Mutex::default(),
        written: Written::default(),
        permits: ThreadPermits::default(),
    };
    let missing = push.missing()?;
    let graphs = push.graphs(&missing)?;
    push.warn(&missing, &graphs);
    push.blobs(&graphs)?;
    push.documents(&missing, &graphs)?;
    push.locations()?;
    push.tags()?;
    Ok(into_value(push.report))
}

struct Push<'a> {
    locator: &'a ImageLocator<'a>,
    client: &'a Client,
    collection: &'a Collection,
    request: &'a CollectionRequest,
    observer: &'a dyn Observer,
    report: Mutex<CollectionReport>,
    written: Written,
    permits: ThreadPermits,
}

/// Which documents were written, and by whom one is being written.
///
/// Two writings of one document at the same time are more than docker's registry bears: one may read what the other
/// has half written, and refuse it. And an index must not come before a child that another thread is still writing.
#[derive(Default)]
struct Written(Mutex<HashMap<Digest, Arc<Mutex<bool>>>>);

impl Written {
    /// Runs `write` while no other thread writes this document, and tells it whether the document was written before.
    fn alone(
        &self,
        document: &Digest,
        write: impl FnOnce(bool) -> Result<(), TransferError>,
    ) -> Result<(), TransferError> {
        let mut all = lock(&self.0);
        let own = Arc::clone(all.entry(document.clone()).or_default());
        drop(all);
        let mut written = lock(&own);
        write(*written)?;
        *written = true;
        Ok(())
    }
}

impl Push<'_> {
    fn count(&self, change: impl FnOnce(&mut CollectionReport)) {
        change(&mut lock(&self.report));
    }

    /// Returns what a member is asked for under, and pushed under first.
    fn first_target(&self, member: &Member) -> Target {
        let digest = &member.descriptor.digest;
        match (self.request.default_tags, member.role) {
            (_, Role::Attached) => Target::Digest(digest.clone()),
            (DefaultTags::ByDigest, _) => Target::Tag(default_tag(digest)),
            (DefaultTags::ByRepository, _) => {
                let tag = match &member.origin {
                    Some(origin) => repository_based_tag(origin.repository.name(), digest),
                    None => default_tag(digest),
                };
                Target::Tag(tag)
            }
        }
    }

    /// Finds the members that are not in the repository yet, in order.
    fn missing(&self) -> Result<Vec<&Member>, TransferError> {
        let missing: Mutex<HashSet<Digest>> = Mutex::default();
        workers::for_each(&self.collection.members, self.request.concurrency, |member| {
            let there = self.client.head_manifest(&self.request.repository, &self.first_target(member))?;
            let digest = &member.descriptor.digest;
            if there.is_some_and(|there| there.digest == *digest) && !self.layers_were_left_out(member)? {
                self.count(|report| report.present += 1);
                self.observer
                    .event(Event::ManifestFinished { descriptor: &member.descriptor, present: true });
            } else {
                lock(&missing).insert(digest.clone());
            }
            Ok(())
        })?;
        let missing = into_value(missing);
        let wanted = |member: &&Member| missing.contains(&member.descriptor.digest);
        Ok(self.collection.members.iter().filter(wanted).collect())
    }

    fn layers_were_left_out(&self, member: &Member) -> Result<bool, TransferError> {
        let Self { locator, client, request, .. } = *self;
        Ok(request.include_non_distributable
            && layers_were_left_out(locator, client, &request.repository, &member.descriptor)?)
    }

    fn graphs(&self, missing: &[&Member]) -> Result<HashMap<Digest, Graph>, TransferError> {
        let graphs: Mutex<HashMap<Digest, Graph>> = Mutex::default();
        workers::for_each(missing, self.request.concurrency, |member| {
            let graph = Graph::of(self.locator, &member.descriptor)?;
            lock(&graphs).insert(member.descriptor.digest.clone(), graph);
            Ok(())
        })?;
        Ok(into_value(graphs))
    }

    fn is_skipped(&self, blob: &Descriptor) -> bool {
        blob.is_non_distributable() && !self.request.include_non_distributable
    }

    fn warn(&self, missing: &[&Member], graphs: &HashMap<Digest, Graph>) {
        let mut any = false;
        for member in missing {
            let Some(graph) = graphs.get(&member.descriptor.digest) else { continue };
            any |= graph.blobs.iter().any(Descriptor::is_non_distributable);
            let layers: Vec<Digest> = graph
                .blobs
                .iter()
                .filter(|blob| self.is_skipped(blob))
                .map(|blob| blob.digest.clone())
                .collect();
            if !layers.is_empty() {
                let warning = Warning::NonDistributableSkipped { image: member.label(), layers };
                self.observer.event(Event::Warning(&warning));
            }
        }
        if self.request.include_non_distributable && !any && !missing.is_empty() {
            self.observer.event(Event::Warning(&Warning::NothingNonDistributable));
        }
    }

    fn blobs(&self, graphs: &HashMap<Digest, Graph>) -> Result<(), TransferError> {
        let mut seen = HashSet::new();
        let mut wanted: Vec<(&Descriptor, Option<Repository>)> = Vec::new();
        for member in &self.collection.members {
            let Some(graph) = graphs.get(&member.descriptor.digest) else { continue };
            // A tar that goes back to where it came from need not be sent.
            let origin = member.origin.as_ref().map(|origin| origin.repository.clone());
            for blob in &graph.blobs {
                if self.is_skipped(blob) {
                    self.count(|report| *report.blobs.entry(BlobOutcome::Skipped).or_default() += 1);
                } else if seen.insert(&blob.digest) {
                    check_held(self.locator, blob, || member.label())?;
                    wanted.push((blob, origin.clone()));
                }
            }
        }
        let bytes = wanted.iter().map(|(blob, _)| blob.size).sum();
        self.observer.event(Event::Planned { blobs: wanted.len() as u64, bytes });
        workers::for_each(&wanted, self.request.concurrency, |(blob, origin)| {
            let Self { locator, client, observer, permits, .. } = self;
            let outcome = push_blob(
                *locator,
                client,
                &self.request.repository,
                origin.as_slice(),
                blob,
                permits,
                *observer,
            )?;
            self.count(|report| *report.blobs.entry(outcome).or_default() += 1);
            Ok(())
        })
    }

    fn documents(&self, missing: &[&Member], graphs: &HashMap<Digest, Graph>) -> Result<(), TransferError> {
        let push = |member: &&Member| {
            let Some(graph) = graphs.get(&member.descriptor.digest) else { return Ok(()) };
            graph.documents.iter().try_for_each(|document| {
                let is_root = *document.digest() == member.descriptor.digest;
                self.written.alone(document.digest(), |written| match written && !is_root {
                    true => Ok(()),
                    false => self.document(member, document, is_root),
                })
            })
        };
        // What is attached follows what it is attached to, and bundles follow what they name.
        let plain = |member: &&&Member| member.bundle.is_none() && member.role != Role::Attached;
        let images: Vec<&Member> = missing.iter().filter(plain).copied().collect();
        workers::for_each(&images, self.request.concurrency, push)?;
        missing.iter().rev().filter(|member| member.bundle.is_some()).try_for_each(push)?;
        missing.iter().filter(|member| member.role == Role::Attached).try_for_each(push)
    }

    fn document(&self, member: &Member, document: &RawDocument, is_root: bool) -> Result<(), TransferError> {
        let repository = &self.request.repository;
        let target = match is_root {
            true => self.first_target(member),
            false => Target::Digest(document.digest().clone()),
        };
        // The children of an index have no tag to be asked for.
        let present = !is_root && self.client.head_manifest(repository, &target)?.is_some();
        if !present {
            self.client.push_manifest(repository, &target, document)?;
            self.count(|report| report.documents_written += 1);
        }
        self.observer.event(Event::ManifestFinished { descriptor: &document.descriptor(), present });
        Ok(())
    }

    /// Writes for each bundle where its images are, if all of them are here.
    fn locations(&self) -> Result<(), TransferError> {
        let bundles: Vec<&Member> =
            self.collection.members.iter().filter(|member| member.bundle.is_some()).collect();
        workers::for_each(&bundles, self.request.concurrency, |member| {
            let lock = member.bundle.as_ref().and_then(|lock| self.collection.locations(lock));
            match lock {
                Some(locations) => self.locations_of(member, &locations_image(&locations)),
                None => Ok(()),
            }
        })
    }

    fn locations_of(&self, member: &Member, image: &OneFileImage) -> Result<(), TransferError> {
        let repository = &self.request.repository;
        let tag = locations_tag(&member.descriptor.digest);
        let target = Target::Tag(tag.clone());
        let there = self.client.head_manifest(repository, &target)?;
        if let Some(there) = &there {
            if there.digest == *image.manifest.digest() {
                return Ok(());
            }
            // imgpkg's own: the same content, compressed in another way.
            let known = self.client.fetch_manifest(repository, &target)?;
            let config = |document: &RawDocument| document.manifest().map(|one| one.config.digest.clone());
            if config(&known) == config(&image.manifest) {
                return Ok(());
            }
        }
        // Bundles that name the same images have the same locations.
        self.written.alone(image.manifest.digest(), |written| {
            if !written {
                for (descriptor, bytes) in &image.blobs {
                    self.client.push_blob(repository, descriptor, bytes, PushStart::Ask(&[]), &|_| {})?;
                }
                let by_content = Target::Tag(default_tag(image.manifest.digest()));
                self.client.push_manifest(repository, &by_content, &image.manifest)?;
                self.count(|report| report.documents_written += 1);
            }
            Ok(())
        })?;
        match self.client.push_manifest(repository, &target, &image.manifest) {
            // It is a cache: where tags cannot be changed, the old one has to do.
            Err(RegistryError::Rejected { .. } | RegistryError::Refused { .. }) if there.is_some() => {}
            result => result?,
        }
        self.count(|report| report.documents_written += 1);
        let digest = image.manifest.digest();
        self.observer.event(Event::TagWritten { repository, tag: &tag, digest });
        Ok(())
    }

    /// Writes the recorded tags; those of the roots last.
    fn tags(&self) -> Result<(), TransferError> {
        let (roots, others): (Vec<&Member>, Vec<&Member>) =
            self.collection.members.iter().partition(|member| member.role == Role::Root);
        workers::for_each(&others, self.request.concurrency, |member| {
            member.tags().iter().try_for_each(|tag| self.tag(member, tag))
        })?;
        roots
            .iter()
            .rev()
            .try_for_each(|member| member.tags().iter().try_for_each(|tag| self.tag(member, tag)))
    }

    fn tag(&self, member: &Member, tag: &Tag) -> Result<(), TransferError> {
        let repository = &self.request.repository;
        let digest = &member.descriptor.digest;
        let there = self.client.head_manifest(repository, &Target::Tag(tag.clone()))?;
        if there.is_none_or(|there| there.digest != *digest) {
            let document = self.locator.read_document(&member.descriptor)?;
            self.client.push_manifest(repository, &Target::Tag(tag.clone()), &document)?;
            confirm(self.client, repository, tag, digest, self.observer)?;
            self.count(|report| report.documents_written += 1);
        }
        self.observer.event(Event::TagWritten { repository, tag, digest });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_document_is_written_by_one_at_a_time_and_by_the_others_not_again() {
        let written = Written::default();
        let (inside, first) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let documents = [Digest::sha256_of(b"a"), Digest::sha256_of(b"b")];
        for document in &documents {
            let failed = written.alone(document, |_| Err(TransferError::Internal { what: "a test" }));
            assert!(failed.is_err());
        }
        let work = |number: &usize| {
            let document = &documents[number % 2];
            written.alone(document, |written| {
                if number.is_multiple_of(2) {
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two at a time");
                    std::thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                }
                first.fetch_add(usize::from(!written), Ordering::SeqCst);
                Ok(())
            })
        };
        workers::for_each(&(0..64).collect::<Vec<usize>>(), 8, work).unwrap();
        assert_eq!(first.into_inner(), 2, "a failure is no writing, and each is written once");
    }
}

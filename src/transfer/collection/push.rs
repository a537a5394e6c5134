//! Pushes a collection into one repository: every image also gets imgpkg's tag; a bundle is pushed after the images it
//! names; its locations image is pushed before the recorded tags.

use std::collections::BTreeSet;

use crate::lock::{default_tag, locations_tag, repository_based_tag};
use crate::model::{Digest, RawDocument, Repository, Target};
use crate::registry::{Client, PushStart, RegistryError};

use super::super::events::{Event, Observer, Warning};
use super::super::one_file::OneFileImage;
use super::super::read_ahead::ThreadPermits;
use super::super::to_registry::{ImagePush, RepositoryPush, Written};
use super::super::{TransferError, workers};
use super::locations::locations_image;
use super::{Collection, ImageLocator, Member, Role};

/// Which tags protect images from a registry's garbage collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultTags {
    /// imgpkg's `sha256-<hex>.imgpkg`.
    ByDigest,
    /// The same with the end of the name of the repository the image came from.
    ByRepository,
    /// None: images have their own tags, and those without are found by digest alone.
    None,
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
    /// Also push non-distributable layers.
    pub include_non_distributable: bool,
    /// Blobs that the repository was just found to have; they get no HEAD request.
    pub present: BTreeSet<Digest>,
}

/// Pushes a collection.
///
/// Order: as `RepositoryPush::run`. Documents: the images that nothing depends on, bundles from the innermost out,
/// what is attached; then the locations of bundles; then recorded tags, those of roots last.
/// Errors: after one no recorded tag has been written that did not have all its content.
/// Cost: where everything is there, one HEAD for each image, tag and locations image.
pub fn push_collection(
    locator: &ImageLocator<'_>,
    client: &Client,
    collection: &Collection,
    request: &CollectionRequest,
    observer: &dyn Observer,
) -> Result<(), TransferError> {
    let count = collection.members.len();
    let members = collection.members.iter().enumerate();
    let images: Vec<ImagePush<'_>> = members
        .map(|(number, member)| ImagePush {
            descriptor: &member.descriptor,
            label: member.label(),
            name: member.label(),
            tags: member.tags(),
            first: Some(first_target(member, request.default_tags)),
            // A tar that returns to its origin can be mounted there.
            mount_from: member.origin.as_ref().map(|origin| origin.repository.clone()),
            document_turn: match (member.role, &member.bundle) {
                // A collection names bundles before what they name.
                (_, Some(_)) => count - number,
                (Role::Attached, None) => count + 1 + number,
                (Role::Root | Role::Referenced, None) => 0,
            },
            tag_turn: if member.role == Role::Root { count - number } else { 0 },
        })
        .collect();
    let push = RepositoryPush {
        source: locator,
        client,
        repository: &request.repository,
        sent: &request.present,
        concurrency: request.concurrency,
        include_non_distributable: request.include_non_distributable,
        observer,
        permits: ThreadPermits::default(),
        written: Written::default(),
    };
    let met = push.run(&images, &|push| locations(push, collection, request.default_tags))?;
    if request.include_non_distributable && met.missing > 0 && met.non_distributable == 0 {
        observer.event(Event::Warning(&Warning::NothingNonDistributable));
    }
    Ok(())
}

/// Returns the tag or digest of a member's first HEAD and PUT requests.
fn first_target(member: &Member, default_tags: DefaultTags) -> Target {
    let digest = &member.descriptor.digest;
    match (default_tags, member.role, &member.origin) {
        (_, Role::Attached, _) | (DefaultTags::None, ..) => Target::Digest(digest.clone()),
        (DefaultTags::ByRepository, _, Some(origin)) => {
            Target::Tag(repository_based_tag(origin.repository.name(), digest))
        }
        (DefaultTags::ByRepository | DefaultTags::ByDigest, ..) => Target::Tag(default_tag(digest)),
    }
}

/// Pushes a locations image for each bundle whose images are all in the collection.
fn locations(
    push: &RepositoryPush<'_>,
    collection: &Collection,
    default_tags: DefaultTags,
) -> Result<(), TransferError> {
    let bundles: Vec<&Member> = collection.members.iter().filter(|member| member.bundle.is_some()).collect();
    workers::for_each(&bundles, push.concurrency, |member| {
        let lock = member.bundle.as_ref().and_then(|lock| collection.locations(lock));
        match lock {
            Some(locations) => push_locations(push, member, &locations_image(&locations), default_tags),
            None => Ok(()),
        }
    })
}

fn push_locations(
    push: &RepositoryPush<'_>,
    member: &Member,
    image: &OneFileImage,
    default_tags: DefaultTags,
) -> Result<(), TransferError> {
    let repository = push.repository;
    let tag = locations_tag(&member.descriptor.digest);
    let target = Target::Tag(tag.clone());
    let there = push.client.head_manifest(repository, &target)?;
    if let Some(there) = &there {
        if there.digest == *image.manifest.digest() {
            return Ok(());
        }
        // imgpkg wrote it: the same content in another compression.
        let known = push.client.fetch_manifest(repository, &target)?;
        let config = |document: &RawDocument| document.manifest().map(|one| one.config.digest.clone());
        if config(&known) == config(&image.manifest) {
            return Ok(());
        }
    }
    // Bundles that name the same images have the same locations.
    push.written.alone(image.manifest.digest(), |written| {
        if !written {
            workers::for_each(&image.blobs, push.concurrency, |(descriptor, bytes)| {
                push.client.push_blob(repository, descriptor, bytes, PushStart::Ask(&[]), &|_| {})?;
                Ok(())
            })?;
            // The tag of the locations protects them from garbage collection too.
            if default_tags != DefaultTags::None {
                let by_content = Target::Tag(default_tag(image.manifest.digest()));
                push.client.push_manifest(repository, &by_content, &image.manifest)?;
            }
        }
        Ok(true)
    })?;
    match push.client.push_manifest(repository, &target, &image.manifest) {
        // The locations are only a cache: where tags cannot be changed, the old one stays.
        Err(RegistryError::Rejected { .. } | RegistryError::Refused { .. }) if there.is_some() => {}
        result => result?,
    }
    let digest = image.manifest.digest();
    push.observer.event(Event::TagWritten { repository, tag: &tag, digest, unchanged: false });
    Ok(())
}

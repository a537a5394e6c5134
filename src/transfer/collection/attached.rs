//! Artifacts that are attached to an image: cosign's tags, and the referrers of OCI 1.1.

use std::collections::HashSet;

use crate::lock::{cosign_subject, cosign_tag, locations_tag};
use crate::model::{Digest, Reference, Repository, Tag, Target, keys};
use crate::store::ImageName;

use super::super::{Graph, ImageSource as _, TransferError, workers};
use super::{Attached, Collection, Gathering, ImageLocator, Member, Role, is_absence};

/// Endings of the tags cosign uses.
const COSIGN: [&str; 3] = ["sig", "att", "sbom"];

/// Marks the roots of a tar that are signatures or other referrers of another root.
///
/// A root is one by a tag in cosign's form or a `subject`, and only if the tar holds the image it is about.
pub(super) fn mark(locator: &ImageLocator<'_>, roots: &mut [Member]) -> Result<(), TransferError> {
    if roots.len() < 2 {
        return Ok(());
    }
    name_saved(roots);
    let mut names: HashSet<Tag> = HashSet::new();
    for root in roots.iter() {
        names.extend(COSIGN.map(|what| cosign_tag(&root.descriptor.digest, what)));
    }
    // A root that the tar marks as its main image stays a root, even if it refers to others.
    let marked = roots.iter().any(|root| root.role == Role::Referenced);
    for root in roots.iter_mut().filter(|root| !marked || root.role == Role::Referenced) {
        let document = locator.read_document(&root.descriptor)?;
        // The subject may be an index or the manifest of one platform, which has no entry of its own in `index.json`.
        let of_held = |tag: &Tag| cosign_subject(tag.as_str()).is_some_and(|image| locator.holds(&image));
        let has_subject = document.document().subject().is_some_and(|subject| locator.holds(&subject.digest));
        if has_subject || root.tags().iter().any(|tag| names.contains(tag) || of_held(tag)) {
            root.role = Role::Attached;
        }
    }
    Ok(())
}

/// Gives the entries that `cosign save` wrote the tags they have in a registry: such a folder has one image, and each
/// other entry has only a kind.
///
/// Source: cosign 2.5 `pkg/oci/layout/write.go`.
fn name_saved(roots: &mut [Member]) {
    let kind = |member: &Member| {
        let kind = member.descriptor.annotations.get(keys::COSIGN_KIND)?;
        kind.strip_prefix(keys::COSIGN_KIND_START).map(str::to_owned)
    };
    let is_image = |member: &&Member| matches!(kind(member).as_deref(), Some("image" | "imageIndex"));
    let images: Vec<Digest> =
        roots.iter().filter(is_image).map(|member| member.descriptor.digest.clone()).collect();
    let [image] = images.as_slice() else { return };
    for root in roots.iter_mut().filter(|root| root.names.is_empty()) {
        let what = match kind(root).as_deref() {
            Some("sigs") => "sig",
            Some("atts") => "att",
            _ => continue,
        };
        root.names.push(ImageName { tag: Some(cosign_tag(image, what)), reference: None });
    }
}

/// Removes the mark from members that a bundle names: those are images of the bundle.
pub(super) fn unmark_referenced(collection: &mut Collection) {
    let locks = collection.members.iter().filter_map(|member| member.bundle.as_ref());
    let named: HashSet<Digest> =
        locks.flat_map(|lock| &lock.images).filter_map(|image| image.image.digest.clone()).collect();
    for member in collection.members.iter_mut().filter(|member| member.role == Role::Attached) {
        if named.contains(&member.descriptor.digest) {
            member.role = Role::Referenced;
        }
    }
}

/// Adds what is attached to the members and to the children of indexes, in the order of the members.
///
/// Each platform of an index may have a signature or SBOM of its own, which the index's referrers do not include. A
/// repository that refuses the request counts as one without attached manifests.
pub(super) fn attach(
    locator: &ImageLocator<'_>,
    collection: &mut Collection,
    options: &Gathering,
) -> Result<(), TransferError> {
    if locator.client().is_none() || options.attached == Attached::default() {
        return Ok(());
    }
    let mut level: Vec<(Digest, Repository)> = Vec::new();
    if options.attached.locations {
        attach_locations(locator, collection, options.concurrency)?;
    }
    let mut known: HashSet<Digest> =
        collection.members.iter().map(|member| member.descriptor.digest.clone()).collect();
    for member in collection.members.iter().filter(|member| member.role != Role::Attached) {
        let Some((digest, repository)) = place_of(locator, member) else { continue };
        level.push((digest, repository.clone()));
        if member.descriptor.is_index() {
            let below = Graph::of(locator, &member.descriptor)?;
            let children = below.documents.iter().map(|document| document.digest().clone());
            level.extend(
                children.filter(|child| known.insert(child.clone())).map(|child| (child, repository.clone())),
            );
        }
    }
    // A signature may have a referrer of its own; the depth is bounded.
    for _ in 0..4 {
        if level.is_empty() {
            break;
        }
        let mut new = attached_to(locator, &level, options)?;
        new.retain(|member| known.insert(member.descriptor.digest.clone()));
        // Only referrers nest; cosign's tags name images.
        level = if options.attached.referrers {
            new.iter().filter_map(|member| place_of(locator, member)).collect()
        } else {
            Vec::new()
        };
        collection.members.append(&mut new);
    }
    Ok(())
}

/// Adds the locations image of each bundle that has one.
fn attach_locations(
    locator: &ImageLocator<'_>,
    collection: &mut Collection,
    concurrency: usize,
) -> Result<(), TransferError> {
    let bundles = collection.members.iter().filter(|member| member.bundle.is_some());
    let bundles: Vec<(Digest, Repository)> = bundles.filter_map(|member| place_of(locator, member)).collect();
    let found = workers::parallel_map(&bundles, concurrency, |(digest, repository)| {
        under_tag(locator, repository, locations_tag(digest))
    })?;
    collection.members.extend(found.into_iter().flatten());
    Ok(())
}

/// Reads what a tag of a repository names; `None` if the tag is absent or the registry refuses.
fn under_tag(
    locator: &ImageLocator<'_>,
    repository: &Repository,
    tag: Tag,
) -> Result<Option<Member>, TransferError> {
    match locator.fetch(repository, &Target::Tag(tag.clone())) {
        Ok(document) => {
            // Without its repository: the tag stays the same in any repository.
            let names = vec![ImageName { tag: Some(tag), reference: None }];
            Ok(Some(attached(document.descriptor(), names, repository)))
        }
        Err(TransferError::Registry(error)) if is_absence(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn place_of(locator: &ImageLocator<'_>, member: &Member) -> Option<(Digest, Repository)> {
    let digest = member.descriptor.digest.clone();
    let repository = locator.repository_of(&digest);
    let repository = repository.or_else(|| Some(member.origin.as_ref()?.repository.clone()))?;
    Some((digest, repository))
}

/// Where an attached manifest is.
enum Attachment<'a> {
    /// It may be under this tag.
    Tag(&'a Repository, Tag),
    /// The registry lists it.
    Listed(&'a Repository, Digest),
}

/// Reads what is attached to images, in the order of the images; cosign's tags come before the referrers of an image.
///
/// Cost: the lists of referrers are requested together, and then all manifests.
fn attached_to(
    locator: &ImageLocator<'_>,
    images: &[(Digest, Repository)],
    options: &Gathering,
) -> Result<Vec<Member>, TransferError> {
    let lists = match options.attached.referrers {
        true => workers::parallel_map(images, options.concurrency, |(digest, repository)| {
            listed_referrers(locator, repository, digest)
        })?,
        false => images.iter().map(|_| Vec::new()).collect(),
    };
    let mut wanted: Vec<Attachment<'_>> = Vec::new();
    for ((digest, repository), list) in images.iter().zip(lists) {
        if options.attached.cosign {
            wanted.extend(COSIGN.map(|what| Attachment::Tag(repository, cosign_tag(digest, what))));
        }
        wanted.extend(list.into_iter().map(|entry| Attachment::Listed(repository, entry)));
    }
    let found = workers::parallel_map(&wanted, options.concurrency, |attachment| match attachment {
        Attachment::Tag(repository, tag) => under_tag(locator, repository, tag.clone()),
        Attachment::Listed(repository, digest) => {
            let document = locator.fetch(repository, &Target::Digest(digest.clone()))?;
            Ok(Some(attached(document.descriptor(), Vec::new(), repository)))
        }
    })?;
    Ok(found.into_iter().flatten().collect())
}

/// Returns the digests of an image's referrers.
fn listed_referrers(
    locator: &ImageLocator<'_>,
    repository: &Repository,
    digest: &Digest,
) -> Result<Vec<Digest>, TransferError> {
    let Some(client) = locator.client() else { return Ok(Vec::new()) };
    match client.referrers(repository, digest) {
        Ok(list) => Ok(list.into_iter().map(|entry| entry.digest).collect()),
        Err(error) if is_absence(&error) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn attached(descriptor: crate::model::Descriptor, names: Vec<ImageName>, repository: &Repository) -> Member {
    let origin: Reference = repository.with_digest(descriptor.digest.clone());
    Member { descriptor, names, origin: Some(origin), role: Role::Attached, bundle: None }
}

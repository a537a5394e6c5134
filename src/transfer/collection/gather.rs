//! Finds everything that belongs to a bundle: level by level, several images at a time, one request for each.

use std::collections::HashSet;

use crate::lock::{ImagesLock, locations_tag};
use crate::model::{Config, Descriptor, Digest, Document, Reference, Repository, Target, keys, limits};

use super::super::events::{Event, Observer};
use super::super::{ImageSource, TransferError, workers};
use super::bundle_lock::read_images_lock;
use super::{Collection, Gathering, ImageLocator, Member, Role, attached, is_absence};

/// An image that a bundle names.
struct Wanted<'a> {
    image: &'a Reference,
    digest: &'a Digest,
    /// The repository of the bundle, where copies of its images are.
    home: Option<Repository>,
    /// All images of the bundle are in its repository, or at least the first one is.
    at_home: bool,
}

/// Gathers what belongs to the roots.
///
/// Shape: roots in the order given, then level by level in the order of the lock files; an image that is named twice is
/// listed once. Candidates are the bundle's repository first, then the recorded reference; where the first image of a
/// bundle is not in its repository, the recorded reference is tried first for the others.
/// Errors: [`TransferError::NotFound`] for an image that no candidate has.
/// Cost: for each image one request for its manifest and one for its configuration, for each bundle also one for
/// its layer and one for its locations.
pub fn gather(
    locator: &ImageLocator<'_>,
    roots: Vec<Member>,
    options: &Gathering,
    observer: &dyn Observer,
) -> Result<Collection, TransferError> {
    let mut seen: HashSet<Digest> = HashSet::new();
    let mut frontier = roots;
    frontier.retain(|member| seen.insert(member.descriptor.digest.clone()));
    attached::mark(locator, &mut frontier)?;
    let mut collection = Collection::default();
    for _ in 0..limits::NESTING {
        inspect(locator, &mut frontier, options.concurrency)?;
        let from = collection.members.len();
        collection.members.append(&mut frontier);
        if !options.thick {
            break;
        }
        if collection.members.len() > limits::DOCUMENTS {
            let (what, limit) = ("images in one bundle", limits::DOCUMENTS);
            return Err(TransferError::TooMany { subject: format!("`{}`", locator.label()), what, limit });
        }
        let wanted = wanted(locator, &collection.members[from..], &mut seen)?;
        if wanted.is_empty() {
            return finish(locator, collection, options);
        }
        observer.event(Event::Gathering { images: (collection.members.len() + wanted.len()) as u64 });
        frontier = locate(locator, &wanted, options.concurrency)?;
    }
    if options.thick {
        let (what, limit) = ("levels of nested bundles", limits::NESTING);
        return Err(TransferError::TooMany { subject: format!("`{}`", locator.label()), what, limit });
    }
    finish(locator, collection, options)
}

/// Adds what is attached to the images that were found.
fn finish(
    locator: &ImageLocator<'_>,
    mut collection: Collection,
    options: &Gathering,
) -> Result<Collection, TransferError> {
    attached::unmark_referenced(&mut collection);
    read_children(locator, &collection, options.concurrency)?;
    attached::attach(locator, &mut collection, options)?;
    Ok(collection)
}

/// Finds out which members are bundles, and what those name.
fn inspect(
    locator: &ImageLocator<'_>,
    members: &mut [Member],
    concurrency: usize,
) -> Result<(), TransferError> {
    let found =
        workers::parallel_map(members, concurrency, |member| bundle_lock(locator, &member.descriptor))?;
    for (member, lock) in members.iter_mut().zip(found) {
        member.bundle = lock;
    }
    Ok(())
}

/// Reads what an image names, if it is a bundle.
pub(in crate::transfer) fn bundle_lock(
    locator: &ImageLocator<'_>,
    descriptor: &Descriptor,
) -> Result<Option<ImagesLock>, TransferError> {
    let document = locator.read_document(descriptor)?;
    let Document::Manifest(manifest) = document.document() else { return Ok(None) };
    if crate::model::media_type::is_image_config(&manifest.config.media_type) {
        locator.keep_blob(&manifest.config)?;
    }
    let is_bundle = |config: Config| config.config.labels.contains_key(keys::BUNDLE_LABEL);
    if !locator.read_config(manifest)?.is_some_and(is_bundle) {
        return Ok(None);
    }
    for layer in &manifest.layers {
        locator.keep_blob(layer)?;
    }
    read_images_lock(locator, manifest).map(Option::unwrap_or_default).map(Some)
}

/// Lists the images that bundles name and that are not listed yet, with their candidate repositories.
fn wanted<'a>(
    locator: &ImageLocator<'_>,
    bundles: &'a [Member],
    seen: &mut HashSet<Digest>,
) -> Result<Vec<Wanted<'a>>, TransferError> {
    let mut wanted: Vec<Wanted<'a>> = Vec::new();
    for bundle in bundles {
        let Some(lock) = &bundle.bundle else { continue };
        let mut new: Vec<Wanted<'a>> = Vec::new();
        let home = locator.repository_of(&bundle.descriptor.digest);
        for image in lock.images.iter().map(|image| &image.image) {
            let Some(digest) = &image.digest else { continue };
            if seen.insert(digest.clone()) {
                new.push(Wanted { image, digest, home: home.clone(), at_home: true });
            }
        }
        let at_home = match (&home, new.first()) {
            (Some(home), Some(first)) => are_at_home(locator, home, &bundle.descriptor.digest, first)?,
            _ => false,
        };
        wanted.extend(new.into_iter().map(|wanted| Wanted { at_home, ..wanted }));
    }
    Ok(wanted)
}

/// Tells whether a bundle's images are likely in its repository: it has locations, or the first image is there.
fn are_at_home(
    locator: &ImageLocator<'_>,
    home: &Repository,
    bundle: &Digest,
    first: &Wanted<'_>,
) -> Result<bool, TransferError> {
    if first.image.repository == *home || has_locations(locator, home, bundle)? {
        return Ok(true);
    }
    match locator.fetch(home, &Target::Digest(first.digest.clone())) {
        Ok(_) => Ok(true),
        Err(TransferError::Registry(error)) if is_absence(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Tells whether a repository has a locations image, which says that it holds all images of a bundle.
pub(in crate::transfer) fn has_locations(
    locator: &ImageLocator<'_>,
    home: &Repository,
    bundle: &Digest,
) -> Result<bool, TransferError> {
    if locator.client().is_none() {
        return Ok(false);
    }
    // A GET where HEAD would be enough: only GET requests go to mirrors.
    match locator.fetch(home, &Target::Tag(locations_tag(bundle))) {
        Ok(_) => Ok(true),
        Err(TransferError::Registry(error)) if is_absence(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads the manifests of what is wanted.
fn locate(
    locator: &ImageLocator<'_>,
    wanted: &[Wanted<'_>],
    concurrency: usize,
) -> Result<Vec<Member>, TransferError> {
    workers::parallel_map(wanted, concurrency, |wanted| locate_one(locator, wanted))
}

fn locate_one(locator: &ImageLocator<'_>, wanted: &Wanted<'_>) -> Result<Member, TransferError> {
    let mut candidates: Vec<Repository> = wanted.home.iter().cloned().collect();
    if !candidates.contains(&wanted.image.repository) {
        candidates.push(wanted.image.repository.clone());
    }
    if !wanted.at_home {
        candidates.reverse();
    }
    // `are_at_home` may have read it already.
    if let Some(known) = locator.repository_of(wanted.digest) {
        candidates.retain(|candidate| *candidate != known);
        candidates.insert(0, known.clone());
        if let Ok(document) = locator.read_document(&Descriptor::new("", wanted.digest.clone(), 0)) {
            return Ok(member(document.descriptor(), wanted.image));
        }
    }
    let document = locator.find(wanted.digest, &candidates).map_err(|error| TransferError::NotFound {
        image: wanted.image.to_string(),
        source: Box::new(error),
    })?;
    Ok(member(document.descriptor(), wanted.image))
}

fn member(descriptor: Descriptor, origin: &Reference) -> Member {
    let (names, origin) = (Vec::new(), Some(origin.clone()));
    Member { descriptor, names, origin, role: Role::Referenced, bundle: None }
}

/// Reads the images of several indexes at a time, so that later steps find them in memory.
fn read_children(
    locator: &ImageLocator<'_>,
    collection: &Collection,
    concurrency: usize,
) -> Result<(), TransferError> {
    let indexes: Vec<&Descriptor> =
        collection.members.iter().map(|member| &member.descriptor).filter(|root| root.is_index()).collect();
    workers::for_each(&indexes, concurrency, |index| {
        super::super::Graph::of_present(locator, index).map(|_| ())
    })
}

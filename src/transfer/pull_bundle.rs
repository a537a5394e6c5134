//! Extracts a bundle and its nested bundles into a folder, and rewrites lock files for the images' new repository.

use std::io::Write as _;
use std::os::fd::OwnedFd;

use rustix::fs::{self as rfs, Mode, OFlags};
use rustix::io::Errno;

use crate::lock::{BUNDLE_FOLDER, IMAGES_LOCK_FILE, ImagesLock, LockedImage};
use crate::model::{Repository, Target};
use crate::stream::FileError;
use crate::tar::Policy;

use super::collection::{has_locations, is_absence};
use super::contents::{NO_MANIFEST, extract, pull_staged};
use super::events::Observer;
use super::{Collection, ImageLocator, ImageSource, Member, PullReport, PullRequest, TransferError, workers};

/// Folder of nested bundles inside `.imgpkg`.
const NESTED_FOLDER: &str = "bundles";

/// Extracts a bundle, and the collection's other bundles below `.imgpkg/bundles/` of it.
///
/// Shape: nested bundles are side by side, each once, in a folder named after its digest. If all images of a bundle are
/// in its repository, its lock file is rewritten to name them there, else it stays; this is decided for each bundle.
/// Errors: as [`super::pull_contents`].
pub fn pull_bundle(
    locator: &ImageLocator<'_>,
    collection: &Collection,
    root: &Member,
    options: &PullRequest,
    observer: &dyn Observer,
) -> Result<PullReport, TransferError> {
    let nested: Vec<&Member> = collection
        .members
        .iter()
        .filter(|member| member.bundle.is_some() && member.descriptor.digest != root.descriptor.digest)
        .collect();
    let bundles: Vec<&Member> = std::iter::once(root).chain(nested.iter().copied()).collect();
    let concurrency = options.concurrency;
    let locks =
        workers::parallel_map(&bundles, concurrency, |member| relocated(locator, member, concurrency))?;
    let manifest = locator.read_document(&root.descriptor)?;
    let policy = Policy { include: options.include.clone(), ..Policy::contents(options.umask) };
    pull_staged(locator, manifest, options, &policy, observer, &|folder| {
        if let Some(lock) = locks.first().and_then(Option::as_ref) {
            rewrite(folder, lock, options)?;
        }
        for (member, lock) in nested.iter().zip(locks.iter().skip(1)) {
            let into = nested_folder(folder, member, options)?;
            let document = locator.read_document(&member.descriptor)?;
            let manifest = document.manifest().ok_or(NO_MANIFEST)?;
            let policy = Policy::contents(options.umask);
            extract(
                locator,
                manifest,
                into.try_clone().map_err(failed(options))?,
                policy,
                concurrency,
                observer,
            )?;
            if let Some(lock) = lock {
                rewrite(&into, lock, options)?;
            }
        }
        Ok(())
    })
}

/// Returns the rewritten lock file; `None` if an image is not in the bundle's repository, or all are named there
/// already.
fn relocated(
    locator: &ImageLocator<'_>,
    member: &Member,
    concurrency: usize,
) -> Result<Option<ImagesLock>, TransferError> {
    let (Some(lock), Some(home)) = (&member.bundle, locator.repository_of(&member.descriptor.digest)) else {
        return Ok(None);
    };
    // A lock file that is right already keeps its author's bytes.
    if lock.images.iter().all(|image| image.image.repository == home) {
        return Ok(None);
    }
    let at_home = has_locations(locator, &home, &member.descriptor.digest)?
        || all_at_home(locator, &home, lock, concurrency)?;
    let moved = |image: &LockedImage| LockedImage {
        image: match &image.image.digest {
            Some(digest) => home.with_digest(digest.clone()),
            None => image.image.clone(),
        },
        annotations: image.annotations.clone(),
    };
    Ok(at_home.then(|| ImagesLock { images: lock.images.iter().map(moved).collect() }))
}

/// Sends a HEAD request for each image in the bundle's repository, until one is absent.
fn all_at_home(
    locator: &ImageLocator<'_>,
    home: &Repository,
    lock: &ImagesLock,
    concurrency: usize,
) -> Result<bool, TransferError> {
    let Some(client) = locator.client() else { return Ok(false) };
    let is_there = |image: &LockedImage| {
        let Some(digest) = &image.image.digest else { return Ok(false) };
        match client.head_manifest(home, &Target::Digest(digest.clone())) {
            Ok(found) => Ok(found.is_some()),
            Err(error) if is_absence(&error) => Ok(false),
            Err(error) => Err(TransferError::from(error)),
        }
    };
    // The first one alone, because a bundle that was never copied has none there.
    let Some((first, others)) = lock.images.split_first() else { return Ok(false) };
    Ok(is_there(first)?
        && workers::parallel_map(others, concurrency, is_there)?.into_iter().all(|there| there))
}

fn failed<E: Into<std::io::Error>>(options: &PullRequest) -> impl Fn(E) -> FileError {
    |error| FileError::io("write to", &options.target, error)
}

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens a folder inside another, never through a link; creates it if it is absent.
fn folder_in(parent: &OwnedFd, name: &str, options: &PullRequest) -> Result<OwnedFd, TransferError> {
    match rfs::mkdirat(parent, name, Mode::from_raw_mode(0o777 & !options.umask)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(failed(options)(error).into()),
    }
    Ok(rfs::openat(parent, name, FOLDER, Mode::empty()).map_err(failed(options))?)
}

fn nested_folder(root: &OwnedFd, member: &Member, options: &PullRequest) -> Result<OwnedFd, TransferError> {
    let digest = &member.descriptor.digest;
    let name = format!("{}-{}", digest.algorithm().name(), digest.hex());
    let folder = folder_in(&folder_in(root, BUNDLE_FOLDER, options)?, NESTED_FOLDER, options)?;
    folder_in(&folder, &name, options)
}

/// Rewrites the lock file, if it was extracted.
fn rewrite(root: &OwnedFd, lock: &ImagesLock, options: &PullRequest) -> Result<(), TransferError> {
    let folder = match rfs::openat(root, BUNDLE_FOLDER, FOLDER, Mode::empty()) {
        Ok(folder) => folder,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(failed(options)(error).into()),
    };
    // A new file of the same mode, because the old one may be read-only.
    let mode = match rfs::statat(&folder, IMAGES_LOCK_FILE, rfs::AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat.st_mode,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(failed(options)(error).into()),
    };
    rfs::unlinkat(&folder, IMAGES_LOCK_FILE, rfs::AtFlags::empty()).map_err(failed(options))?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(mode & 0o777);
    let file = rfs::openat(&folder, IMAGES_LOCK_FILE, flags, mode).map_err(failed(options))?;
    rfs::fchmod(&file, mode).map_err(failed(options))?;
    Ok(std::fs::File::from(file).write_all(lock.to_yaml().as_bytes()).map_err(failed(options))?)
}

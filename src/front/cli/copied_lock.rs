//! The lock that `copy` writes, with the new references of the images.

use super::open_source::OpenedSource;
use super::placing::Placing;
use crate::front::failure::{Failure, message};
use crate::front::flag::Flag;
use crate::lock::{BundleLock, ImagesLock, LockedImage};
use crate::model::Reference;
use crate::transfer::{Collection, ImageLocator, ImageSource as _, Member, Role};

/// Makes the lock with the new references: of the main bundle, if there is one, else of all images.
pub(super) fn lock_of(
    opened: &OpenedSource,
    locator: &ImageLocator<'_>,
    collection: &Collection,
    placing: Placing<'_>,
) -> Result<String, Failure> {
    if let Some(root) = collection.root_bundle() {
        let image = placing.first(collection, root)?.with_digest(root.descriptor.digest.clone());
        return Ok(BundleLock { image, tag: root.tags().first().cloned() }.to_yaml());
    }
    if collection.has_bundles() {
        return Err(Failure::refused(message!(
            format!("`{}` holds several bundles, and ", locator.label()),
            Flag::LOCK_OUTPUT,
            " writes a lock for one"
        ))
        .hint(message!("copy the bundle you want with ", Flag::BUNDLE.mention().short())));
    }
    let at = |image: &LockedImage| -> Result<LockedImage, Failure> {
        let member = image.image.digest.as_ref().and_then(|digest| collection.member(digest));
        let there = member.map(|member| placed(collection, placing, member)).transpose()?;
        let annotations = image.annotations.clone();
        Ok(LockedImage { image: there.unwrap_or_else(|| image.image.clone()), annotations })
    };
    if let Some(lock) = opened.images_lock() {
        let images = lock.images.iter().map(at).collect::<Result<_, _>>()?;
        return Ok(ImagesLock { images }.to_yaml());
    }
    // Attached artifacts are copied with their image.
    let mut members: Vec<&Member> =
        collection.members.iter().filter(|member| member.role != Role::Attached).collect();
    members.sort_by_key(|member| member.label());
    let image = |member: &&Member| {
        let image = placed(collection, placing, member)?;
        Ok(LockedImage { image, annotations: LockedImage::read_annotations(&member.descriptor.annotations) })
    };
    let images = members.iter().map(image).collect::<Result<_, Failure>>()?;
    Ok(ImagesLock { images }.to_yaml())
}

/// Returns the reference of an image after the push.
fn placed(collection: &Collection, placing: Placing<'_>, member: &Member) -> Result<Reference, Failure> {
    Ok(placing.first(collection, member)?.with_digest(member.descriptor.digest.clone()))
}

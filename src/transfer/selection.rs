//! Selects one image of a store that has several, with the images of a bundle and the referrers that belong to it.
//!
//! Works on roots, before anything is gathered, so that damage in the other images does not matter.

use std::collections::{BTreeSet, HashSet};

use crate::lock::cosign_subject;
use crate::model::Digest;
use crate::store::{Root, Selector, Store};

use super::collection::bundle_lock;
use super::{Graph, ImageLocator, ImageSource, TransferError};

/// Selects an image of a store, and what belongs to it.
///
/// Shape: the selected root first, then the roots that it names as a bundle and its signatures and other referrers, in
/// the order of the store. A bundle that names one of them is marked as the main bundle.
/// Errors: those of [`Selector::find`]; a selected image that cannot be read.
pub fn select(store: &Store, selector: &Selector) -> Result<Vec<Root>, TransferError> {
    let mut chosen = selector.find(store)?;
    let digest = chosen.image.descriptor.digest.clone();
    let others = || store.roots().iter().filter(|root| root.image.descriptor.digest != digest);
    let locator = ImageLocator::over(store, None);
    let named = named_by(&locator, &chosen, store.roots())?;
    chosen.is_root_bundle = !named.is_empty();
    let mut kept = named.clone();
    kept.insert(digest.clone());
    for root in std::iter::once(&chosen).chain(others().filter(|root| named.contains(digest_of(root)))) {
        let documents = Graph::of(store, &root.image.descriptor)?.documents;
        kept.extend(documents.iter().map(|document| document.digest().clone()));
    }
    let mut rest: Vec<&Root> = others().filter(|root| !named.contains(digest_of(root))).collect();
    // A referrer may have referrers of its own.
    loop {
        let (new, later): (Vec<&Root>, Vec<&Root>) = rest
            .iter()
            .copied()
            .partition(|root| subjects(store, root).iter().any(|digest| kept.contains(digest)));
        kept.extend(new.iter().map(|root| digest_of(root).clone()));
        rest = later;
        if new.is_empty() {
            break;
        }
    }
    let belonging = others().filter(|root| kept.contains(digest_of(root))).cloned();
    let belonging: Vec<Root> = belonging.map(|root| Root { is_root_bundle: false, ..root }).collect();
    Ok(std::iter::once(chosen).chain(belonging).collect())
}

/// Returns what selects the image that is meant: what was requested, else the digest that the image has to have where
/// `index.json` is itself the list of one image's platforms and has an image with this digest.
///
/// Tools that write such a list show the digests of the images in it; nothing shows that of `index.json`.
#[must_use]
pub fn selector_for(store: &Store, asked: Option<&Selector>, expected: Option<&Digest>) -> Option<Selector> {
    let by_digest = || {
        let selector = Selector::Digest(expected.filter(|_| store.is_one_index())?.clone());
        selector.find(store).is_ok().then_some(selector)
    };
    asked.cloned().or_else(by_digest)
}

fn digest_of(root: &Root) -> &Digest {
    &root.image.descriptor.digest
}

/// Returns the roots that a bundle names, those that nested bundles name, and so on; none for a plain image.
fn named_by(
    locator: &ImageLocator<'_>,
    chosen: &Root,
    roots: &[Root],
) -> Result<HashSet<Digest>, TransferError> {
    let mut named = HashSet::new();
    let mut next = vec![chosen];
    while let Some(root) = next.pop() {
        let Some(lock) = bundle_lock(locator, &root.image.descriptor)? else { continue };
        let digests: HashSet<&Digest> =
            lock.images.iter().filter_map(|image| image.image.digest.as_ref()).collect();
        for root in roots.iter().filter(|root| digests.contains(digest_of(root))) {
            if digest_of(root) != digest_of(chosen) && named.insert(digest_of(root).clone()) {
                next.push(root);
            }
        }
    }
    Ok(named)
}

/// Returns the digests that a root refers to; none for a root that cannot be read.
fn subjects(store: &Store, root: &Root) -> BTreeSet<Digest> {
    let document = store.read_document(&root.image.descriptor).ok();
    let subject = document.and_then(|document| Some(document.document().subject()?.digest.clone()));
    let tags = root.image.names.iter().filter_map(|name| name.tag.as_ref());
    subject.into_iter().chain(tags.filter_map(|tag| cosign_subject(tag.as_str()))).collect()
}

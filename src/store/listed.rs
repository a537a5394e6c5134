//! Documents that the indexes of a store list: the images of a multi-platform image.
//!
//! Indexes that cannot be read are passed over; reading them later reports why.

use std::collections::BTreeMap;

use crate::model::{Descriptor, Digest, limits};

use super::opened::Store;
use super::{Root, read_document};

/// Returns what the indexes of a store list, and the indexes below them, each once, with its first entry.
///
/// Cost: reads every index, at most [`limits::GRAPH_BYTES`] of them.
pub(super) fn listed(store: &Store) -> BTreeMap<Digest, Descriptor> {
    let mut listed = BTreeMap::new();
    let mut bytes_left = limits::GRAPH_BYTES;
    let mut pending: Vec<(Descriptor, usize)> =
        store.roots().iter().map(|root| (root.image.descriptor.clone(), 1)).collect();
    while let Some((descriptor, depth)) = pending.pop() {
        if !descriptor.is_index() || depth > limits::NESTING || descriptor.size > bytes_left {
            continue;
        }
        let Ok(document) = read_document(store, &descriptor) else { continue };
        bytes_left -= descriptor.size;
        for child in document.index().map(|index| index.manifests.as_slice()).unwrap_or_default() {
            // An index that names itself, by a digest that no content can have, is left to the check of documents.
            if child.digest != descriptor.digest && !listed.contains_key(&child.digest) {
                listed.insert(child.digest.clone(), child.clone());
                pending.push((child.clone(), depth + 1));
            }
        }
    }
    listed
}

/// Makes a root of an image that an index of the store lists; `None` where none lists it or the store does not hold it.
///
/// It has no name: those of its index belong to the index.
pub(super) fn listed_root(store: &Store, digest: &Digest) -> Option<Root> {
    store.blob_size(digest)?;
    let entry = listed(store).remove(digest)?;
    Some(Root::new(Descriptor { platform: None, ..entry }))
}

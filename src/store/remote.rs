//! Images whose blobs are fetched one by one from somewhere else: a bucket, a shared folder, a web server.
//!
//! A list of images and a way to open a blob make a [`Store`] like any other. Its documents are read when it is opened,
//! which tells the sizes of all blobs below them. Knows neither protocols nor where the list came from.

use std::path::Path;

use crate::model::{Descriptor, RawDocument, keys, limits};

use super::layout::{Top, top_of_index};
use super::opened::{Backing, Held, Store};
use super::remote_blobs::RemoteBlobs;
use super::{StoreError, StoreKind, agreement, read_document};

/// Opens the images that `index` lists, a document in the form of `index.json`; `name` is what messages call it.
///
/// Errors: a list that is not valid, a listed image that is not there, a server that fails. Documents that are
/// damaged are no error here: reading them later says what is wrong with them.
/// Cost: fetches the manifests and indexes, at most [`limits::GRAPH_BYTES`] of them, and no other blob.
pub fn open_remote(
    place: &Path,
    index: &[u8],
    name: &str,
    blobs: Box<dyn RemoteBlobs>,
) -> Result<Store, StoreError> {
    let mut remarks = Vec::new();
    let Top { roots, held, delta } = top_of_index(index, &mut remarks)
        .map_err(|problem| StoreError::damaged(place, format!("`{name}` is not valid: {problem}")))?;
    let (path, kind, backing) = (place.to_owned(), StoreKind::Remote, Backing::Remote(blobs));
    // Other images are there as well, and what only they need is not unreferenced.
    let mut store = Store { path, kind, roots, held, backing, remarks, is_narrowed: true, delta };
    for root in &mut store.roots {
        // Where it is in this store says nothing about it elsewhere.
        root.image.descriptor.annotations.remove(keys::ENTRY);
    }
    read_documents(&mut store)?;
    let remarks = agreement::remarks(&store);
    store.remarks.extend(remarks);
    Ok(store)
}

/// Reads everything below the roots, and notes which blobs there are.
fn read_documents(store: &mut Store) -> Result<(), StoreError> {
    let mut pending: Vec<(Descriptor, usize)> =
        store.roots.iter().rev().map(|root| (root.image.descriptor.clone(), 0)).collect();
    let mut bytes_left = limits::GRAPH_BYTES;
    while let Some((descriptor, depth)) = pending.pop() {
        if store.held.contains_key(&descriptor.digest) && depth > 0 {
            continue;
        }
        let is_document = descriptor.is_index() || descriptor.is_manifest();
        if !is_document && descriptor.is_non_distributable() && !has(store, &descriptor)? {
            continue;
        }
        store.held.entry(descriptor.digest.clone()).or_insert(Held::Remote(descriptor.size));
        if !is_document || depth > limits::NESTING || store.held.len() > limits::DOCUMENTS {
            continue;
        }
        let document = match read_document(store, &descriptor) {
            Ok(document) => document,
            Err(error @ (StoreError::Remote { .. } | StoreError::File(_))) => return Err(error),
            // An index may be there with the images of some platforms only.
            Err(StoreError::Gone { .. }) if depth > 0 => {
                store.held.remove(&descriptor.digest);
                continue;
            }
            Err(error @ StoreError::Gone { .. }) => return Err(error),
            Err(_) => continue,
        };
        let Some(left) = bytes_left.checked_sub(document.bytes().len() as u64) else { continue };
        bytes_left = left;
        keep(store, &document);
        let children = document.document().children().into_iter().cloned();
        pending.extend(children.map(|child| (child, depth + 1)));
    }
    Ok(())
}

fn has(store: &Store, blob: &Descriptor) -> Result<bool, StoreError> {
    match &store.backing {
        Backing::Remote(blobs) => blobs.has(&blob.digest, blob.size),
        Backing::Archive(_) | Backing::Directory(_) => Ok(store.held.contains_key(&blob.digest)),
    }
}

/// Keeps a document, which everything that is done with an image reads again.
fn keep(store: &mut Store, document: &RawDocument) {
    store.held.insert(document.digest().clone(), Held::Memory(document.bytes().into()));
}

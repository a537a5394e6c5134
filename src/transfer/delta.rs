//! Delta tars: which blobs need not travel, and whether a registry has what a tar lacks.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Descriptor, Digest, Document, Reference, Repository, media_type};
use crate::registry::Client;
use crate::store::LeftOut;

use super::collection::is_absence;
use super::{Collection, Graph, ImageSource, Role, TransferError, workers};

/// Returns the layers below the images of a collection.
pub fn layers_of(
    source: &dyn ImageSource,
    collection: &Collection,
) -> Result<BTreeSet<Digest>, TransferError> {
    let mut layers = BTreeSet::new();
    for member in &collection.members {
        layers.extend(layers_below(source, &member.descriptor)?);
    }
    Ok(layers)
}

/// Removes from `others` the layers that every tar has to hold: those of bundles, which have the lock file, and those
/// of attached manifests.
///
/// They are small, and `describe` needs them.
pub fn keep_needed(
    source: &dyn ImageSource,
    collection: &Collection,
    others: &mut BTreeMap<Digest, String>,
) -> Result<(), TransferError> {
    let needed = collection.members.iter().filter(|one| one.bundle.is_some() || one.role == Role::Attached);
    for member in needed {
        for layer in layers_below(source, &member.descriptor)? {
            others.remove(&layer);
        }
    }
    Ok(())
}

fn layers_below(source: &dyn ImageSource, root: &Descriptor) -> Result<Vec<Digest>, TransferError> {
    let graph = Graph::of_present(source, root)?;
    let layers = graph.documents.iter().flat_map(|document| match document.document() {
        Document::Manifest(manifest) => manifest.layers.as_slice(),
        Document::Index(_) => &[],
    });
    Ok(layers.map(|layer| layer.digest.clone()).collect())
}

/// Returns the blobs below some images that a tar was written without, in the order of the images.
pub fn left_out_below(
    source: &dyn ImageSource,
    roots: &[&Descriptor],
    left_out: &BTreeMap<Digest, &LeftOut>,
) -> Result<Vec<LeftOut>, TransferError> {
    if left_out.is_empty() {
        return Ok(Vec::new());
    }
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for root in roots {
        for blob in Graph::of_present(source, root)?.blobs {
            if let Some(one) = left_out.get(&blob.digest).filter(|_| seen.insert(blob.digest.clone())) {
                found.push((*one).clone());
            }
        }
    }
    Ok(found)
}

/// Where a registry has the blobs that a tar lacks.
#[derive(Clone, Debug, Default)]
pub struct AtRegistry {
    /// In the repository itself.
    pub present: BTreeSet<Digest>,
    /// In another repository of the registry: they can be mounted from there.
    pub elsewhere: Vec<(Descriptor, Reference)>,
    /// Nowhere.
    pub missing: Vec<LeftOut>,
}

/// Looks for blobs that a tar lacks: in the target repository, in `others`, then in the image that had them.
///
/// Errors: those of the target repository; another repository that refuses counts as one without the blob.
/// Cost: HEAD requests only, one for each blob and repository until it is found.
pub fn find_at_registry(
    client: &Client,
    repository: &Repository,
    left_out: &[LeftOut],
    others: &[Repository],
    concurrency: usize,
) -> Result<AtRegistry, TransferError> {
    let ask = |blob: &LeftOut| {
        let descriptor = Descriptor {
            media_type: media_type::OCI_LAYER.to_owned(),
            digest: blob.digest.clone(),
            size: blob.size,
            ..Descriptor::of_bytes(media_type::OCI_LAYER, b"")
        };
        if client.has_blob(repository, &descriptor)? {
            return Ok((blob.clone(), descriptor, Some(repository.clone())));
        }
        let named = blob.from.parse::<Reference>().ok().map(|name| name.repository);
        let candidates = others.iter().cloned().chain(named);
        for other in
            candidates.filter(|other| other.registry() == repository.registry() && other != repository)
        {
            match client.has_blob(&other, &descriptor) {
                Ok(true) => return Ok((blob.clone(), descriptor, Some(other))),
                Err(error) if !is_absence(&error) => return Err(error.into()),
                _ => {}
            }
        }
        Ok((blob.clone(), descriptor, None))
    };
    let mut found = AtRegistry::default();
    for (blob, descriptor, place) in workers::parallel_map(left_out, concurrency, ask)? {
        match place {
            Some(place) if place == *repository => {
                found.present.insert(blob.digest);
            }
            Some(place) => {
                let origin = place.with_digest(blob.digest);
                found.elsewhere.push((descriptor, origin));
            }
            None => found.missing.push(blob),
        }
    }
    Ok(found)
}

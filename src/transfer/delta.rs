//! Delta tars: which blobs need not be copied, and whether a registry has what a tar lacks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::model::{Descriptor, Digest, Document, Reference, Repository, media_type};
use crate::registry::{Client, RegistryError};
use crate::store::{LeftOut, RemoteBlobs, Store, StoreError};
use crate::stream::FileError;

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

/// Makes a store of those blobs that another place has, to complete a tar from.
///
/// Cost: one request for each blob; their bytes are read when they are needed.
pub fn those_of(
    place: &Path,
    blobs: Box<dyn RemoteBlobs>,
    wanted: &[LeftOut],
    concurrency: usize,
) -> Result<Store, TransferError> {
    let ask = |blob: &LeftOut| {
        let is_there = blobs.has(&blob.digest, blob.size)?;
        Ok::<_, TransferError>((blob.digest.clone(), blob.size, is_there))
    };
    let asked = workers::parallel_map(wanted, concurrency, ask)?;
    let there = asked.into_iter().filter(|(.., is_there)| *is_there);
    let sizes = there.map(|(digest, size, _)| (digest, size)).collect();
    Ok(Store::of_blobs(place, sizes, blobs))
}

/// As [`those_of`], of a repository; a tag or digest has to be there, and does not choose among its blobs.
pub fn those_in_repository(
    client: Client,
    reference: &Reference,
    wanted: &[LeftOut],
    concurrency: usize,
) -> Result<Store, TransferError> {
    let repository = reference.repository.clone();
    if reference.tag.is_some() || reference.digest.is_some() {
        client.fetch_manifest(&repository, &reference.target())?;
    }
    let place = PathBuf::from(repository.to_string());
    those_of(&place, Box::new(RepositoryBlobs { client, repository }), wanted, concurrency)
}

/// The blobs of a repository.
struct RepositoryBlobs {
    client: Client,
    repository: Repository,
}

impl fmt::Debug for RepositoryBlobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RepositoryBlobs").field("repository", &self.repository).finish_non_exhaustive()
    }
}

impl RepositoryBlobs {
    fn error(&self, error: &RegistryError) -> StoreError {
        let path = PathBuf::from(self.repository.to_string());
        let is_unreachable = matches!(error, RegistryError::Unreachable { .. });
        StoreError::Remote { path, problem: error.to_string(), is_unreachable }
    }
}

impl RemoteBlobs for RepositoryBlobs {
    fn open(&self, digest: &Digest, size: u64, from: u64) -> Result<Box<dyn Read + Send + '_>, StoreError> {
        let opened = self.client.open_blob(&self.repository, &blob_of(digest, size));
        let mut reader = opened.map_err(|error| match error.is_not_found() {
            true => StoreError::Gone { place: format!("`{}`", self.repository), digest: digest.clone() },
            false => self.error(&error),
        })?;
        io::copy(&mut reader.by_ref().take(from), &mut io::sink())
            .map_err(|error| FileError::io("read", Path::new(&self.repository.to_string()), error))?;
        Ok(Box::new(reader))
    }

    fn has(&self, digest: &Digest, size: u64) -> Result<bool, StoreError> {
        let found = self.client.has_blob(&self.repository, &blob_of(digest, size));
        found.map_err(|error| self.error(&error))
    }
}

/// Describes a blob of which no more is known.
fn blob_of(digest: &Digest, size: u64) -> Descriptor {
    let (digest, media_type) = (digest.clone(), media_type::OCI_LAYER.to_owned());
    Descriptor { media_type, digest, size, ..Descriptor::of_bytes(media_type::OCI_LAYER, b"") }
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
        let descriptor = blob_of(&blob.digest, blob.size);
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

//! One source over several places: a tar or packed image, and after it any number of repositories.
//!
//! Where a document was found is remembered for it and for all it points at, so that the parts of one image are
//! never looked for. Small documents are cached, so a registry is asked only once for each.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::Cursor;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::model::{Descriptor, Digest, RawDocument, Reference, Repository, Target};
use crate::registry::{Client, RegistryError};
use crate::stream::{BlobStream, VerifyingReader, lock};

use super::super::{Graph, ImageSource, TransferError, workers};
use super::member::Member;

/// Most bytes of small blobs (configurations, layers with a lock file) in the cache.
const KEPT_BYTES: u64 = 64 * 1024 * 1024;
/// Largest blob in the cache, bytes.
const KEPT_BLOB_BYTES: u64 = 16 * 1024 * 1024;

/// Several places as one [`ImageSource`].
pub struct ImageLocator<'a> {
    base: Option<&'a dyn ImageSource>,
    client: Option<&'a Client>,
    state: Mutex<State>,
    /// Held while documents are read ahead.
    ahead: Mutex<()>,
}

#[derive(Default)]
struct State {
    /// The repository in which a document or blob is.
    known: HashMap<Digest, Repository>,
    /// Layers that the local part lacks, and that may be fetched from their `urls`.
    at_urls: HashSet<Digest>,
    documents: BTreeMap<Digest, RawDocument>,
    blobs: HashMap<Digest, Arc<[u8]>>,
    kept: u64,
}

impl std::fmt::Debug for ImageLocator<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageLocator").finish_non_exhaustive()
    }
}

impl<'a> ImageLocator<'a> {
    /// Makes repositories a source; the list of repositories grows as images are found.
    #[must_use]
    pub fn remote(client: &'a Client) -> Self {
        Self { base: None, client: Some(client), state: Mutex::default(), ahead: Mutex::default() }
    }

    /// Makes a tar or packed image a source; with a client, repositories for what it does not hold.
    #[must_use]
    pub fn over(base: &'a dyn ImageSource, client: Option<&'a Client>) -> Self {
        Self { base: Some(base), client, state: Mutex::default(), ahead: Mutex::default() }
    }

    /// Returns the client; `None` for a source without a registry.
    #[must_use]
    pub fn client(&self) -> Option<&'a Client> {
        self.client
    }

    /// Tells whether the local part holds something.
    #[must_use]
    pub fn holds(&self, digest: &Digest) -> bool {
        self.base.is_some_and(|base| !base.lacks(digest))
    }

    /// Reads what a tag or digest of a repository points at.
    pub fn fetch(&self, repository: &Repository, target: &Target) -> Result<RawDocument, TransferError> {
        let client = self.client.ok_or(TransferError::Internal {
            what: "a source without a registry was asked for a document of a repository",
        })?;
        let document = client.fetch_manifest(repository, target)?;
        self.learn(repository, &document);
        Ok(document)
    }

    /// Finds an image in the first of several repositories that has it.
    ///
    /// A repository that refuses counts as one that does not have it, unless it is the last one.
    /// Errors: the last repository's.
    pub fn find(&self, digest: &Digest, candidates: &[Repository]) -> Result<RawDocument, TransferError> {
        let mut last = self.unknown(digest);
        for repository in candidates {
            match self.fetch(repository, &Target::Digest(digest.clone())) {
                Err(TransferError::Registry(error)) if is_absence(&error) => last = error.into(),
                result => return result,
            }
        }
        Err(last)
    }

    /// Remembers the repository that has blobs of an image which the local part lacks.
    pub fn remember_location(&self, origin: &Reference, blobs: &[Descriptor]) {
        let mut state = self.state();
        for blob in blobs {
            state.known.entry(blob.digest.clone()).or_insert_with(|| origin.repository.clone());
        }
    }

    /// Remembers where to fetch non-distributable layers that the local part lacks.
    ///
    /// That is the image's origin, else the repository in its name, else the `urls` of the layer.
    pub fn remember_missing(&self, members: &[Member]) -> Result<(), TransferError> {
        for member in members {
            let mut blobs = Graph::of(self, &member.descriptor)?.blobs;
            blobs.retain(|blob| blob.is_non_distributable() && !self.holds(&blob.digest));
            let named = member.names.iter().find_map(|name| name.reference.as_ref());
            match member.origin.as_ref().or(named) {
                Some(origin) => self.remember_location(origin, &blobs),
                None => {
                    blobs.retain(|blob| !blob.urls.is_empty());
                    self.state().at_urls.extend(blobs.into_iter().map(|blob| blob.digest));
                }
            }
        }
        Ok(())
    }

    fn learn(&self, repository: &Repository, document: &RawDocument) {
        let mut state = self.state();
        state.known.entry(document.digest().clone()).or_insert_with(|| repository.clone());
        for child in document.document().children() {
            state.known.entry(child.digest.clone()).or_insert_with(|| repository.clone());
        }
        state.documents.insert(document.digest().clone(), document.clone());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn unknown(&self, digest: &Digest) -> TransferError {
        TransferError::Nowhere { digest: digest.clone(), place: self.label() }
    }
}

/// Tells whether a response counts as absent; many registries answer 401 for a repository that does not exist.
pub(in crate::transfer) fn is_absence(error: &RegistryError) -> bool {
    error.is_not_found() || matches!(error, RegistryError::Refused { .. })
}

impl ImageSource for ImageLocator<'_> {
    fn label(&self) -> String {
        if let Some(base) = self.base {
            return base.label();
        }
        let state = self.state();
        let repositories: BTreeSet<&Repository> = state.known.values().collect();
        let shown: Vec<String> = repositories.iter().take(3).map(ToString::to_string).collect();
        match repositories.len() {
            0 => "registry".to_owned(),
            count if count > shown.len() => format!("{} and {} more", shown.join(", "), count - shown.len()),
            _ => shown.join(", "),
        }
    }

    fn place_of(&self, digest: &Digest) -> String {
        match (self.base, self.repository_of(digest)) {
            (Some(base), _) if !base.lacks(digest) => base.place_of(digest),
            (_, Some(repository)) => repository.to_string(),
            _ => self.label(),
        }
    }

    fn read_document(&self, descriptor: &Descriptor) -> Result<RawDocument, TransferError> {
        let kept = self.state().documents.get(&descriptor.digest).cloned();
        if let Some(document) = kept {
            return Ok(document);
        }
        if let Some(base) = self.base.filter(|base| !base.lacks(&descriptor.digest)) {
            let document = base.read_document(descriptor)?;
            self.state().documents.insert(document.digest().clone(), document.clone());
            return Ok(document);
        }
        let repository =
            self.repository_of(&descriptor.digest).ok_or_else(|| self.unknown(&descriptor.digest))?;
        self.fetch(&repository, &Target::Digest(descriptor.digest.clone()))
    }

    fn read_ahead(&self, documents: &[&Descriptor]) -> Result<(), TransferError> {
        // Several indexes may be read at the same time; only one of them at a time uses more threads.
        let (Some(client), Ok(_alone)) = (self.client, self.ahead.try_lock()) else { return Ok(()) };
        let remote: Vec<&Descriptor> =
            documents.iter().filter(|document| !self.holds(&document.digest)).copied().collect();
        let read = |document: &&Descriptor| self.read_document(document).map(drop);
        workers::for_each(&remote, client.concurrency(), read)
    }

    fn open_blob(&self, descriptor: &Descriptor) -> Result<BlobStream<'_>, TransferError> {
        let kept = self.state().blobs.get(&descriptor.digest).cloned();
        if let Some(bytes) = kept {
            let bytes = Cursor::new(bytes);
            return Ok(VerifyingReader::new(bytes, descriptor.digest.clone(), descriptor.size).boxed());
        }
        let repository = self.repository_of(&descriptor.digest);
        match (self.base, self.client, repository) {
            (Some(base), _, _) if !base.lacks(&descriptor.digest) => base.open_blob(descriptor),
            (_, Some(client), Some(repository)) => match client.open_blob(&repository, descriptor) {
                Ok(reader) => Ok(reader),
                // An earlier copy may have left the layer out on purpose.
                Err(error) if descriptor.is_non_distributable() && error.is_not_found() => {
                    Err(TransferError::NonDistributableMissing {
                        layer: descriptor.digest.clone(),
                        image: "an image".to_owned(),
                        place: repository.to_string(),
                    })
                }
                Err(error) if descriptor.is_non_distributable() => match self.base {
                    Some(base) => Err(TransferError::NonDistributableUnreachable {
                        layer: descriptor.digest.clone(),
                        place: base.label(),
                        source: Box::new(error),
                    }),
                    None => Err(error.into()),
                },
                Err(error) => Err(error.into()),
            },
            (Some(base), Some(client), None) if self.state().at_urls.contains(&descriptor.digest) => {
                Ok(client.open_layer_urls(&base.label(), descriptor)?)
            }
            // The local part's own error for the missing blob.
            (Some(base), _, _) => base.open_blob(descriptor),
            (None, _, _) => Err(self.unknown(&descriptor.digest)),
        }
    }

    fn lacks(&self, digest: &Digest) -> bool {
        let is_elsewhere = || self.repository_of(digest).is_some() || self.state().at_urls.contains(digest);
        !self.holds(digest) && (self.client.is_none() || !is_elsewhere())
    }

    fn repository_of(&self, digest: &Digest) -> Option<Repository> {
        self.state().known.get(digest).cloned()
    }
}

impl ImageLocator<'_> {
    /// Reads a small blob of a repository into the cache.
    pub(in crate::transfer) fn keep_blob(&self, descriptor: &Descriptor) -> Result<(), TransferError> {
        let small = descriptor.size <= KEPT_BLOB_BYTES;
        let room = self.state().kept + descriptor.size <= KEPT_BYTES;
        let there = self.state().blobs.contains_key(&descriptor.digest);
        if there || !small || !room || self.holds(&descriptor.digest) {
            return Ok(());
        }
        let bytes = self.read_blob(descriptor, descriptor.size)?;
        let mut state = self.state();
        state.kept += descriptor.size;
        state.blobs.insert(descriptor.digest.clone(), bytes.into());
        Ok(())
    }
}

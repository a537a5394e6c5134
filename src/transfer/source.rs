//! The trait of every source of images: documents, small blobs and streams, all verified.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Mutex;

use crate::model::{
    Config, Descriptor, Digest, ImageManifest, RawDocument, Repository, Target, limits, media_type,
};
use crate::registry::Client;
use crate::store::{self, Store};
use crate::stream::{BlobStream, TooLarge, VerifyingReader, lock, read_bounded};

use super::{TransferError, workers};

/// A source of images; several threads read from it.
pub trait ImageSource: Sync {
    /// Returns the source's name for messages: `app.tar`, `reg.example/team/app`; without quotes.
    fn label(&self) -> String;

    /// Returns the name, for messages, of the place that a document or blob is read from: one of several, or the
    /// source.
    fn place_of(&self, _digest: &Digest) -> String {
        self.label()
    }

    /// Reads a manifest or index, verified.
    fn read_document(&self, descriptor: &Descriptor) -> Result<RawDocument, TransferError>;

    /// Opens a blob; the last read fails unless size and digest match.
    fn open_blob(&self, descriptor: &Descriptor) -> Result<BlobStream<'_>, TransferError>;

    /// Tells whether the blob is certainly absent; sends no request.
    fn lacks(&self, _digest: &Digest) -> bool {
        false
    }

    /// Returns the repository that holds a document or blob, if it is in a registry: to mount from it, or to fetch
    /// again.
    fn repository_of(&self, _digest: &Digest) -> Option<Repository> {
        None
    }

    /// Reads documents that will be needed next into a cache, several requests at a time.
    fn read_ahead(&self, _documents: &[&Descriptor]) -> Result<(), TransferError> {
        Ok(())
    }

    /// Reads a blob into memory, verified, at most `limit` bytes.
    ///
    /// A blob from a registry that does not match its digest is read once more: it may be a fault of the network.
    fn read_blob(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, TransferError> {
        read_whole(self, descriptor, limit)
    }

    /// Opens a blob to be copied; refuses a configuration that readers may read differently.
    ///
    /// Errors: [`TransferError::Config`] for members whose names differ in case only, which Go takes for the same;
    /// those of [`ImageSource::open_blob`].
    /// Cost: a configuration is read before it is copied, at most [`limits::CONFIG_BYTES`].
    fn open_for_copy(&self, descriptor: &Descriptor) -> Result<BlobStream<'_>, TransferError> {
        if !media_type::is_image_config(&descriptor.media_type) {
            return self.open_blob(descriptor);
        }
        let bytes = self.read_config_bytes(descriptor)?;
        let (digest, size) = (descriptor.digest.clone(), descriptor.size);
        Ok(VerifyingReader::new(Box::new(Cursor::new(bytes)), digest, size))
    }

    /// Reads the bytes of an image's configuration; refuses one that readers may read differently.
    fn read_config_bytes(&self, descriptor: &Descriptor) -> Result<Vec<u8>, TransferError> {
        let bytes = self.read_blob(descriptor, limits::CONFIG_BYTES)?;
        Config::check(&bytes).map_err(|source| TransferError::Config {
            place: self.place_of(&descriptor.digest),
            digest: descriptor.digest.clone(),
            source,
        })?;
        Ok(bytes)
    }

    /// Reads an image's configuration; `None` for an artifact whose configuration is something else.
    fn read_config(&self, manifest: &ImageManifest) -> Result<Option<Config>, TransferError> {
        if !media_type::is_image_config(&manifest.config.media_type) {
            return Ok(None);
        }
        let bytes = self.read_blob(&manifest.config, limits::CONFIG_BYTES)?;
        Config::parse(&bytes).map(Some).map_err(|source| TransferError::Config {
            place: self.place_of(&manifest.config.digest),
            digest: manifest.config.digest.clone(),
            source,
        })
    }
}

/// Reads a blob into memory as [`ImageSource::read_blob`] does.
fn read_whole<S: ImageSource + ?Sized>(
    source: &S,
    descriptor: &Descriptor,
    limit: u64,
) -> Result<Vec<u8>, TransferError> {
    let what = format!("blob `{}`", descriptor.digest);
    let place = || source.place_of(&descriptor.digest);
    let read = || {
        let most = limit.min(descriptor.size.saturating_add(1));
        read_bounded(source.open_blob(descriptor)?, most).map_err(|error| match error {
            TooLarge::Limit { .. } => TransferError::TooMany {
                subject: format!("{what} in `{}`", place()),
                what: "bytes",
                limit: usize::try_from(limit).unwrap_or(usize::MAX),
            },
            TooLarge::Io(error) => TransferError::from_read(&place(), &what, error),
        })
    };
    match read() {
        Err(error) if error.is_mismatch() && source.repository_of(&descriptor.digest).is_some() => read(),
        result => result,
    }
}

impl ImageSource for Store {
    fn label(&self) -> String {
        self.path().display().to_string()
    }

    fn place_of(&self, digest: &Digest) -> String {
        self.path_of(digest).display().to_string()
    }

    fn read_document(&self, descriptor: &Descriptor) -> Result<RawDocument, TransferError> {
        Ok(store::read_document(self, descriptor)?)
    }

    fn open_blob(&self, descriptor: &Descriptor) -> Result<BlobStream<'_>, TransferError> {
        Ok(store::open_verified(self, descriptor)?)
    }

    fn lacks(&self, digest: &Digest) -> bool {
        self.blob_size(digest).is_none()
    }
}

/// A repository in a registry; documents that were read are cached, so that none is requested twice.
#[derive(Debug)]
pub struct RegistrySource<'a> {
    client: &'a Client,
    repository: Repository,
    documents: Mutex<BTreeMap<Digest, RawDocument>>,
    /// The configuration that was read last: it is parsed and copied.
    config: Mutex<Option<(Digest, Vec<u8>)>>,
}

impl<'a> RegistrySource<'a> {
    /// Makes a repository a source.
    #[must_use]
    pub fn new(client: &'a Client, repository: Repository) -> Self {
        Self { client, repository, documents: Mutex::default(), config: Mutex::default() }
    }

    /// Reads what a tag or digest points at and returns its descriptor.
    pub fn resolve(&self, target: &Target) -> Result<Descriptor, TransferError> {
        let document = self.client.fetch_manifest(&self.repository, target)?;
        let descriptor = document.descriptor();
        self.keep(document);
        Ok(descriptor)
    }

    fn keep(&self, document: RawDocument) {
        lock(&self.documents).insert(document.digest().clone(), document);
    }
}

impl ImageSource for RegistrySource<'_> {
    fn label(&self) -> String {
        self.repository.to_string()
    }

    fn read_document(&self, descriptor: &Descriptor) -> Result<RawDocument, TransferError> {
        let kept = lock(&self.documents).get(&descriptor.digest).cloned();
        if let Some(document) = kept {
            return Ok(document);
        }
        let document =
            self.client.fetch_manifest(&self.repository, &Target::Digest(descriptor.digest.clone()))?;
        self.keep(document.clone());
        Ok(document)
    }

    fn read_ahead(&self, documents: &[&Descriptor]) -> Result<(), TransferError> {
        let read = |document: &&Descriptor| self.read_document(document).map(drop);
        workers::for_each(documents, self.client.concurrency(), read)
    }

    fn open_blob(&self, descriptor: &Descriptor) -> Result<BlobStream<'_>, TransferError> {
        Ok(self.client.open_blob(&self.repository, descriptor)?)
    }

    fn read_blob(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, TransferError> {
        if !media_type::is_image_config(&descriptor.media_type) {
            return read_whole(self, descriptor, limit);
        }
        let kept = lock(&self.config).clone().filter(|(digest, bytes)| {
            *digest == descriptor.digest && bytes.len() as u64 == descriptor.size.min(limit)
        });
        if let Some((_, bytes)) = kept {
            return Ok(bytes);
        }
        let bytes = read_whole(self, descriptor, limit)?;
        *lock(&self.config) = Some((descriptor.digest.clone(), bytes.clone()));
        Ok(bytes)
    }

    fn repository_of(&self, _: &Digest) -> Option<Repository> {
        Some(self.repository.clone())
    }
}

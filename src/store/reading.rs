//! Blobs and documents of a store, verified.

use crate::model::{Descriptor, RawDocument, limits};
use crate::stream::{BlobStream, FileError, Mismatch, TooLarge, VerifyingReader, read_bounded};

use super::StoreError;
use super::opened::Store;

/// Opens a stored blob so that reading it to the end proves size and digest.
pub fn open_verified<'a>(store: &'a Store, descriptor: &Descriptor) -> Result<BlobStream<'a>, StoreError> {
    let reader = store.open_unverified(&descriptor.digest)?;
    Ok(VerifyingReader::new(reader, descriptor.digest.clone(), descriptor.size))
}

/// Reads a stored blob into memory, verified, at most `limit` bytes.
fn read_blob(store: &Store, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, StoreError> {
    let path = || store.path().to_owned();
    if descriptor.size > limit {
        return Err(StoreError::TooLarge {
            path: path(),
            what: format!("blob `{}`", descriptor.digest),
            limit,
        });
    }
    read_bounded(open_verified(store, descriptor)?, limit).map_err(|error| match error {
        TooLarge::Limit { limit } => {
            StoreError::TooLarge { path: path(), what: format!("blob `{}`", descriptor.digest), limit }
        }
        TooLarge::Io(error) => match Mismatch::in_error(&error) {
            Some(mismatch) => StoreError::Mismatch { path: path(), mismatch: mismatch.clone() },
            None => StoreError::File(FileError::io("read", store.path(), error)),
        },
    })
}

/// Reads a stored manifest or index, verified.
pub fn read_document(store: &Store, descriptor: &Descriptor) -> Result<RawDocument, StoreError> {
    let bytes = read_blob(store, descriptor, limits::DOCUMENT_BYTES)?;
    RawDocument::parse(bytes, Some(&descriptor.media_type))
        .map(|document| document.known_as(&descriptor.digest))
        .map_err(|source| StoreError::Document { path: store.path().to_owned(), source })
}

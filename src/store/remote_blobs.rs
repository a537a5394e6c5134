//! What a store needs from the place that has its blobs, where that is no file of this machine.

use std::fmt;
use std::io::Read;

use crate::model::Digest;

use super::StoreError;

/// Blobs that are fetched when they are read, from several threads.
pub trait RemoteBlobs: fmt::Debug + Send + Sync {
    /// Opens the bytes stored for a digest from a position, **unverified**; `size` is what a descriptor says of the whole.
    ///
    /// Errors: [`StoreError::Gone`] when it is not there, [`StoreError::Remote`] when that could not be found out.
    fn open(&self, digest: &Digest, size: u64, from: u64) -> Result<Box<dyn Read + Send + '_>, StoreError>;

    /// Tells whether a blob is there; its bytes are not read.
    fn has(&self, digest: &Digest, size: u64) -> Result<bool, StoreError>;
}

//! What a store needs from the bucket or folder that keeps its objects: read, write and list them by key. No locks and no conditions.

use std::fmt;
use std::io::Read;
use std::ops::ControlFlow;

use crate::model::Descriptor;
use crate::registry::BlobBody;

use super::DepotError;
use super::version::Pushed;

/// Objects with keys such as `blobs/sha256/…`, used from several threads.
///
/// An object appears whole or not at all, and a list that begins after a write has ended shows what was written.
pub trait Objects: fmt::Debug + Send + Sync {
    /// Returns the store's URL, for messages.
    fn label(&self) -> String;

    /// Reads a small object; `None` if it is not there.
    fn read(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>, DepotError>;

    /// Opens an object of this size, **unverified**; `None` if it is not there.
    fn open(&self, key: &str, size: u64) -> Result<Option<Box<dyn Read + Send + '_>>, DepotError>;

    /// Returns the size of an object; `None` if it is not there, or if that cannot be found out.
    fn size(&self, key: &str) -> Result<Option<u64>, DepotError>;

    /// Writes a small object, replacing an older one.
    fn write(&self, key: &str, bytes: &[u8]) -> Result<(), DepotError>;

    /// Writes a blob; `progress` gets the number of bytes since its last call.
    ///
    /// Errors: [`DepotError::Source`] if `body` could not be read; nothing is visible then.
    fn write_blob(
        &self,
        key: &str,
        blob: &Descriptor,
        body: &dyn BlobBody,
        progress: &dyn Fn(u64),
    ) -> Result<(), DepotError>;

    /// Hands over the keys below a folder, relative to it and in order, until `take` breaks.
    ///
    /// `expected` is how many are likely to be taken. A folder that is not there has none.
    fn list(
        &self,
        folder: &str,
        expected: usize,
        take: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), DepotError>;

    /// Returns the names of the folders directly in a folder, in order.
    fn folders(&self, folder: &str) -> Result<Vec<String>, DepotError>;

    /// Returns the name of something that is there, if anything is.
    fn any(&self) -> Result<Option<String>, DepotError>;

    /// Returns the time by the clock of the server that keeps the objects: the clocks of its clients differ.
    fn now(&self) -> Result<Pushed, DepotError>;
}

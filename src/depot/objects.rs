//! The operations on a store's objects in a bucket or folder: read, write and list by key. No locks and no conditional
//! writes.

use std::fmt;
use std::io::Read;
use std::ops::ControlFlow;
use std::time::Duration;

use crate::model::Descriptor;
use crate::registry::BlobBody;

use super::DepotError;
use super::version::PushTime;

/// Objects with keys such as `blobs/sha256/…`, used from several threads.
///
/// An object appears only when it is complete, and a list that begins after the end of a write has the object.
pub trait Objects: fmt::Debug + Send + Sync {
    /// Returns the store's URL, for messages.
    fn label(&self) -> String;

    /// Tells whether keys can be listed: a web server shows files by their names only, and lists are empty.
    fn has_lists(&self) -> bool {
        true
    }

    /// Reads a small object; `None` if it does not exist.
    fn read(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>, DepotError>;

    /// Opens an object from a position, **unverified**; `None` if it does not exist.
    fn open(&self, key: &str, from: u64) -> Result<Option<Box<dyn Read + Send + '_>>, DepotError>;

    /// Returns the size of an object; `None` if it does not exist, or if the server does not tell its size.
    fn size(&self, key: &str) -> Result<Option<u64>, DepotError>;

    /// Writes a small object, replacing an older one.
    fn write(&self, key: &str, bytes: &[u8]) -> Result<(), DepotError>;

    /// Writes a blob; `progress` gets the number of bytes since its last call.
    ///
    /// Errors: [`DepotError::Source`] if `body` could not be read; no object exists then.
    fn write_blob(
        &self,
        key: &str,
        blob: &Descriptor,
        body: &dyn BlobBody,
        progress: &dyn Fn(u64),
    ) -> Result<(), DepotError>;

    /// Deletes an object; one that is not there is no error.
    fn delete(&self, key: &str) -> Result<(), DepotError>;

    /// Returns how long a list may be behind what was written, because a client has it in a cache.
    fn delay(&self) -> Duration;

    /// Passes the keys below a folder to `take`, relative to it and in order, until `take` breaks.
    ///
    /// `expected` is the likely number of keys that are taken. A missing folder has none.
    fn list(
        &self,
        folder: &str,
        expected: usize,
        take: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), DepotError>;

    /// Returns the names of the folders directly in a folder, in order.
    fn folders(&self, folder: &str) -> Result<Vec<String>, DepotError>;

    /// Returns the name of any object or folder; `None` if the place is empty.
    fn any(&self) -> Result<Option<String>, DepotError>;

    /// Returns the time of the server with the objects, because the clocks of clients differ.
    fn now(&self) -> Result<PushTime, DepotError>;
}

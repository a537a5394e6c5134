//! A store that a web server offers: read by the names in its `index.json`, because nothing can be listed.

use std::io::Read;
use std::ops::ControlFlow;
use std::time::Duration;

use crate::model::Descriptor;
use crate::registry::{BlobBody, Bucket};

use super::bucket::BucketObjects;
use super::version::PushTime;
use super::{DepotError, Objects};

/// The files of a web server.
#[derive(Debug)]
pub struct WebObjects {
    files: BucketObjects,
}

impl WebObjects {
    /// Makes the files of a web server those of a store; `label` is its URL.
    #[must_use]
    pub fn new(server: Bucket, label: String) -> Self {
        Self { files: BucketObjects::new(server, label) }
    }

    fn read_only<T>(&self) -> Result<T, DepotError> {
        Err(DepotError::ReadOnly { place: self.label() })
    }
}

impl Objects for WebObjects {
    fn label(&self) -> String {
        self.files.label()
    }

    fn has_lists(&self) -> bool {
        false
    }

    fn read(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>, DepotError> {
        self.files.read(key, limit)
    }

    fn open(&self, key: &str, from: u64) -> Result<Option<Box<dyn Read + Send + '_>>, DepotError> {
        self.files.open(key, from)
    }

    fn size(&self, key: &str) -> Result<Option<u64>, DepotError> {
        self.files.size(key)
    }

    fn write(&self, _: &str, _: &[u8]) -> Result<(), DepotError> {
        self.read_only()
    }

    fn write_blob(
        &self,
        _: &str,
        _: &Descriptor,
        _: &dyn BlobBody,
        _: &dyn Fn(u64),
    ) -> Result<(), DepotError> {
        self.read_only()
    }

    fn delete(&self, _: &str) -> Result<(), DepotError> {
        self.read_only()
    }

    fn delay(&self) -> Duration {
        Duration::ZERO
    }

    fn list(&self, _: &str, _: usize, _: &mut dyn FnMut(&str) -> ControlFlow<()>) -> Result<(), DepotError> {
        Ok(())
    }

    fn folders(&self, _: &str) -> Result<Vec<String>, DepotError> {
        Ok(Vec::new())
    }

    fn any(&self) -> Result<Option<String>, DepotError> {
        Ok(None)
    }

    fn now(&self) -> Result<PushTime, DepotError> {
        self.files.now()
    }
}

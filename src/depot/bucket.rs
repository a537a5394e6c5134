//! A store in a bucket, by the protocol of Amazon S3.

use std::io::Read;
use std::ops::ControlFlow;
use std::time::Duration;

use crate::model::Descriptor;
use crate::registry::{BlobBody, Bucket, BucketError};

use super::version::PushTime;
use super::{DepotError, Objects};

/// The bucket.
#[derive(Debug)]
pub struct BucketObjects {
    bucket: Bucket,
    label: String,
}

impl BucketObjects {
    /// Uses the objects below a bucket's prefix as a store; `label` is its URL.
    #[must_use]
    pub fn new(bucket: Bucket, label: String) -> Self {
        Self { bucket, label }
    }
}

/// Separates errors of the body from those of the bucket.
fn of_bucket(error: BucketError) -> DepotError {
    match error {
        BucketError::Source(error) => DepotError::Source(error),
        error => DepotError::Bucket(error),
    }
}

impl Objects for BucketObjects {
    fn label(&self) -> String {
        self.label.clone()
    }

    fn read(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>, DepotError> {
        match self.bucket.read(key, limit).map_err(of_bucket)? {
            Some(Ok(bytes)) => Ok(Some(bytes)),
            Some(Err(limit)) => Err(DepotError::TooLarge { place: self.label(), key: key.to_owned(), limit }),
            None => Ok(None),
        }
    }

    fn open(&self, key: &str, from: u64) -> Result<Option<Box<dyn Read + Send + '_>>, DepotError> {
        self.bucket.open(key, from).map_err(of_bucket)
    }

    fn size(&self, key: &str) -> Result<Option<u64>, DepotError> {
        self.bucket.size(key).map_err(of_bucket)
    }

    fn write(&self, key: &str, bytes: &[u8]) -> Result<(), DepotError> {
        self.bucket.write(key, bytes).map_err(of_bucket)
    }

    fn write_blob(
        &self,
        key: &str,
        blob: &Descriptor,
        body: &dyn BlobBody,
        progress: &dyn Fn(u64),
    ) -> Result<(), DepotError> {
        self.bucket.write_blob(key, blob, body, progress).map_err(of_bucket)
    }

    fn delete(&self, key: &str) -> Result<(), DepotError> {
        self.bucket.delete(key).map_err(of_bucket)
    }

    fn delay(&self) -> Duration {
        Duration::ZERO
    }

    fn list(
        &self,
        folder: &str,
        expected: usize,
        take: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), DepotError> {
        let begin = format!("{folder}/");
        let mut take = |key: &str| key.strip_prefix(&begin).map_or(ControlFlow::Continue(()), &mut *take);
        self.bucket.list(&begin, false, expected, &mut take).map_err(of_bucket)
    }

    fn folders(&self, folder: &str) -> Result<Vec<String>, DepotError> {
        let begin = format!("{folder}/");
        let mut names = Vec::new();
        let mut take = |key: &str| {
            names.extend(key.strip_prefix(&begin).map(|name| name.trim_end_matches('/').to_owned()));
            ControlFlow::Continue(())
        };
        self.bucket.list(&begin, true, usize::MAX, &mut take).map_err(of_bucket)?;
        Ok(names)
    }

    fn any(&self) -> Result<Option<String>, DepotError> {
        let mut found = None;
        let mut take = |key: &str| {
            found = key.split('/').next().map(str::to_owned);
            ControlFlow::Break(())
        };
        self.bucket.list("", false, 1, &mut take).map_err(of_bucket)?;
        Ok(found)
    }

    fn now(&self) -> Result<PushTime, DepotError> {
        Ok(PushTime::of_milliseconds(self.bucket.now().saturating_mul(1000)))
    }
}

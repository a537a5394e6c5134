//! Copies verified blobs to where they are written: a tar's slot, a file of a folder.

use std::io::{self, BufRead as _};

use crate::model::Descriptor;
use crate::store::layout::BlobSlot;
use crate::stream::FileError;

use super::events::{BlobOutcome, Event, Observer};
use super::read_ahead::{HashOn, ThreadPermits, read_ahead_if_large};
use super::{ImageSource, TransferError};

/// Copies the blobs of one operation.
pub(super) struct BlobCopier<'a> {
    source: &'a dyn ImageSource,
    observer: &'a dyn Observer,
    permits: ThreadPermits,
}

impl<'a> BlobCopier<'a> {
    pub(super) fn new(source: &'a dyn ImageSource, observer: &'a dyn Observer) -> Self {
        Self { source, observer, permits: ThreadPermits::default() }
    }

    /// Fills the slot of a blob.
    pub(super) fn fill(&self, blob: &Descriptor, slot: &BlobSlot) -> Result<(), TransferError> {
        self.with_retry(blob, || self.copy_blob(blob, &mut slot.writer(), &|error| slot.failed(error)))
    }

    /// Runs `copy`, and runs it once more if the bytes from a registry did not match.
    pub(super) fn with_retry(
        &self,
        blob: &Descriptor,
        copy: impl Fn() -> Result<(), TransferError>,
    ) -> Result<(), TransferError> {
        self.observer.event(Event::BlobStarted { descriptor: blob });
        if let Err(error) = copy() {
            if !error.is_mismatch() || self.source.repository_of(&blob.digest).is_none() {
                return Err(error);
            }
            self.observer.event(Event::BlobRestarted { digest: &blob.digest });
            copy()?;
        }
        self.observer.event(Event::BlobFinished { descriptor: blob, outcome: BlobOutcome::Transferred });
        Ok(())
    }

    /// Writes a blob's verified bytes; `failed` names what could not be written.
    pub(super) fn copy_blob(
        &self,
        blob: &Descriptor,
        to: &mut dyn io::Write,
        failed: &dyn Fn(io::Error) -> FileError,
    ) -> Result<(), TransferError> {
        let Self { source, observer, permits } = self;
        let from = source.open_for_copy(blob)?;
        // With read-ahead the network and the disk work at the same time.
        let from_registry = source.repository_of(&blob.digest).is_some();
        let hash_on = if from_registry { HashOn::Consumer } else { HashOn::Reader };
        let broken = |error| {
            TransferError::from_read(
                &source.place_of(&blob.digest),
                &format!("blob `{}`", blob.digest),
                error,
            )
        };
        std::thread::scope(|scope| {
            let mut from = read_ahead_if_large(scope, permits, blob, from, hash_on).map_err(broken)?;
            loop {
                let piece = match from.fill_buf() {
                    Ok(piece) => piece,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(broken(error)),
                };
                if piece.is_empty() {
                    return Ok(());
                }
                to.write_all(piece).map_err(failed)?;
                let count = piece.len();
                from.consume(count);
                observer.event(Event::BlobProgress { digest: &blob.digest, bytes: count as u64 });
            }
        })
    }
}

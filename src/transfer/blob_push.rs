//! Pushing one blob: it is opened again for each attempt, and mounted where the registry supports that.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Scope;

use crate::model::{Descriptor, Repository};
use crate::registry::{BlobBody, Client, PushOutcome, PushStart};
use crate::stream::BlobStream;

use super::events::{BlobOutcome, Event, Observer};
use super::read_ahead::{HashOn, ThreadPermits, read_ahead_if_large};
use super::{ImageSource, TransferError};

/// Checks, before anything is sent, that the source does not lack a blob.
pub(super) fn check_held(
    source: &dyn ImageSource,
    blob: &Descriptor,
    image: impl Fn() -> String,
) -> Result<(), TransferError> {
    if !source.lacks(&blob.digest) {
        return Ok(());
    }
    if blob.is_non_distributable() {
        let (layer, image, place) =
            (blob.digest.clone(), format!("`{}`", image()), source.place_of(&blob.digest));
        return Err(TransferError::NonDistributableMissing { layer, image, place });
    }
    // Opening it gives the source's own error for the missing blob.
    source.open_blob(blob).map(|_| ())
}

/// What is known about a blob in the target repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Nothing,
    /// It is very likely absent.
    Absent,
}

/// Pushes a blob of a source; the registry may mount it from the source's repository or from one of `mount_from`.
pub(super) fn push_blob(
    source: &dyn ImageSource,
    client: &Client,
    repository: &Repository,
    mount_from: &[Repository],
    (blob, known): (&Descriptor, Known),
    permits: &ThreadPermits,
    observer: &dyn Observer,
) -> Result<BlobOutcome, TransferError> {
    let mount_from: Vec<Repository> = source
        .repository_of(&blob.digest)
        .into_iter()
        .chain(mount_from.iter().cloned())
        .filter(|from| from != repository && from.registry() == repository.registry())
        .collect();
    let start = match known {
        Known::Nothing => PushStart::Ask(&mount_from),
        Known::Absent => PushStart::Mount(&mount_from),
    };
    let place = source.place_of(&blob.digest);
    let push = BlobPush { client, repository, start, blob, source_label: &place, observer, permits };
    push.send(&|| source.open_for_copy(blob))
}

/// Opens a blob at its first byte.
pub(super) type Open<'a> = dyn Fn() -> Result<BlobStream<'a>, TransferError> + Sync + 'a;

/// One blob that is being pushed.
pub(super) struct BlobPush<'a> {
    pub(super) client: &'a Client,
    pub(super) repository: &'a Repository,
    /// The first request of the push.
    pub(super) start: PushStart<'a>,
    pub(super) blob: &'a Descriptor,
    /// Where it comes from, for messages.
    pub(super) source_label: &'a str,
    pub(super) observer: &'a dyn Observer,
    pub(super) permits: &'a ThreadPermits,
}

impl BlobPush<'_> {
    pub(super) fn send<'a>(&'a self, open: &'a Open<'a>) -> Result<BlobOutcome, TransferError> {
        let Self { client, blob, observer, permits, .. } = *self;
        observer.event(Event::BlobStarted { descriptor: blob });
        let progress = |bytes| observer.event(Event::BlobProgress { digest: &blob.digest, bytes });
        let outcome = with_body(open, blob, observer, permits, |body| {
            client.push_blob(self.repository, blob, body, self.start, &progress)
        })
        .map_err(|error| TransferError::from_push(self.source_label, error))?;
        let outcome = match outcome {
            PushOutcome::Uploaded => BlobOutcome::Transferred,
            PushOutcome::Mounted => BlobOutcome::Mounted,
            PushOutcome::Present => BlobOutcome::Present,
        };
        observer.event(Event::BlobFinished { descriptor: blob, outcome });
        Ok(outcome)
    }
}

/// Runs `send` with a blob that can be opened for each attempt.
pub(super) fn with_body<'a, T>(
    open: &'a Open<'a>,
    blob: &'a Descriptor,
    observer: &'a dyn Observer,
    permits: &'a ThreadPermits,
    send: impl FnOnce(&dyn BlobBody) -> T,
) -> T {
    std::thread::scope(|scope| {
        send(&Body { open, blob, observer, scope, permits, opened: AtomicBool::new(false) })
    })
}

/// A blob that can be opened for each attempt; every opening after the first sends a restart event.
struct Body<'scope, 'env> {
    open: &'env Open<'env>,
    blob: &'env Descriptor,
    observer: &'env dyn Observer,
    scope: &'scope Scope<'scope, 'env>,
    permits: &'env ThreadPermits,
    opened: AtomicBool,
}

impl BlobBody for Body<'_, '_> {
    fn open(&self) -> io::Result<Box<dyn Read + Send + '_>> {
        if self.opened.swap(true, Ordering::Relaxed) {
            self.observer.event(Event::BlobRestarted { digest: &self.blob.digest });
        }
        let reader = (self.open)().map_err(io::Error::other)?;
        Ok(read_ahead_if_large(self.scope, self.permits, self.blob, reader, HashOn::Reader)?)
    }
}

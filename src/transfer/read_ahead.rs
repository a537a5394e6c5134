//! A large blob is read on a thread of its own, so that the reader and the writer of its bytes work at the same time.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Scope;

use crate::model::Descriptor;
use crate::stream::{BlobStream, Blocks, PipeReader, read_ahead};

/// A blob of at least this size, bytes, is read on a thread of its own while it is written or sent. Of smaller blobs
/// several are copied at a time.
const LARGE_BYTES: u64 = 32 * 1024 * 1024;
/// Bytes read at once of a blob that has no thread of its own.
const READ_BYTES: usize = 32 * 1024;

/// The permit for one extra thread, shared by the blobs of one operation.
///
/// One is enough: several blobs are copied at the same time anyway. The buffer between two threads takes half a MiB for
/// each blob.
#[derive(Clone, Debug, Default)]
pub(super) struct ThreadPermits(Arc<AtomicBool>);

impl ThreadPermits {
    fn take(&self) -> Option<ThreadPermit> {
        // `then_some` would make a permit where there is none, and drop it.
        (!self.0.swap(true, Ordering::Relaxed)).then(|| ThreadPermit(Arc::clone(&self.0)))
    }
}

/// The right to an extra thread, until it is dropped.
struct ThreadPermit(Arc<AtomicBool>);

impl Drop for ThreadPermit {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// One end of a blob that is read on a thread of its own. Both ends keep the permit: the thread may outlive its
/// reader, and the bytes that were read ahead outlive the thread.
struct ReadAhead<R> {
    end: R,
    _permit: Arc<ThreadPermit>,
}

impl<R: Read> Read for ReadAhead<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.end.read(buffer)
    }
}

impl<R: BufRead> BufRead for ReadAhead<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.end.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.end.consume(count);
    }
}

/// Which thread hashes a blob that is read on a thread of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HashOn {
    /// The thread that reads the blob: sending the bytes is more work than reading them.
    Reader,
    /// The thread that uses the bytes: receiving them was more work.
    Consumer,
}

/// Returns a reader of a blob that reads ahead on a thread of its own, where the blob is large and a permit is free.
///
/// Errors: the operating system cannot start a thread.
pub(super) fn read_ahead_if_large<'scope>(
    scope: &'scope Scope<'scope, '_>,
    permits: &ThreadPermits,
    blob: &Descriptor,
    source: BlobStream<'scope>,
    hash_on: HashOn,
) -> io::Result<Box<dyn BufRead + Send + 'scope>> {
    let permit = if blob.size < LARGE_BYTES { None } else { permits.take() };
    let Some(permit) = permit else {
        return Ok(Box::new(BufReader::with_capacity(READ_BYTES, source)));
    };
    Ok(match hash_on {
        HashOn::Reader => Box::new(on_own_thread(scope, permit, source)?),
        HashOn::Consumer => Box::new(source.over(|source| on_own_thread(scope, permit, source))?),
    })
}

fn on_own_thread<'scope>(
    scope: &'scope Scope<'scope, '_>,
    permit: ThreadPermit,
    source: impl Read + Send + 'scope,
) -> io::Result<ReadAhead<PipeReader>> {
    let permit = Arc::new(permit);
    let source = ReadAhead { end: source, _permit: Arc::clone(&permit) };
    Ok(ReadAhead { end: read_ahead(scope, source, Blocks::Small)?, _permit: permit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_permit_is_given_at_a_time() {
        let permits = ThreadPermits::default();
        let first = permits.take();
        assert!(first.is_some());
        assert!(permits.take().is_none());
        assert!(permits.take().is_none(), "a refused request leaves the first its permit");
        drop(first);
        assert!(permits.take().is_some());
    }

    #[test]
    fn two_operations_do_not_share_thread_permits() {
        let (one, other) = (ThreadPermits::default(), ThreadPermits::default());
        let _permit = one.take();
        assert!(one.take().is_none());
        assert!(other.take().is_some());
    }
}

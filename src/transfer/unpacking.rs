//! Feeds layers to the extractor: they are fetched, verified, inflated and hashed on other threads.
//!
//! Layers are extracted in order, one at a time, because a later one replaces and hides entries of an earlier one. The
//! next ones are fetched and inflated meanwhile, as far as their pipes hold. After an error in one layer the threads of
//! the others end with their current read; from a silent registry that takes its time-out.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, ScopedJoinHandle};

use crate::model::{Algorithm, Descriptor, Digest};
use crate::stream::{Blocks, Decoder, Mismatch, PipeReader, PipeWriter, pipe, read_ahead, threads};
use crate::tar::ExtractError;

use super::events::{BlobOutcome, Event, Observer};
use super::{ImageSource, TransferError};

/// Most layers being read at a time, including the one that is extracted.
const UNDER_WAY: usize = 3;
/// A layer is begun ahead only if fewer bytes than this come before it: registries close connections that are idle for
/// long.
const NEAR: u64 = 128 << 20;

/// An image's layers, lowest first.
pub(super) struct Layers<'a> {
    pub(super) source: &'a dyn ImageSource,
    pub(super) layers: &'a [Descriptor],
    /// One for each layer, or none at all.
    pub(super) diff_ids: &'a [Digest],
    /// Most blobs moved at the same time.
    pub(super) concurrency: usize,
    pub(super) observer: &'a dyn Observer,
}

/// The result for a layer: its unpacked digest, if it was read to its end, and how reading its stored bytes ended.
type Unpacked = Result<(Option<Digest>, io::Result<()>), TransferError>;

/// A layer that is being read.
struct Layer<'scope, 'a> {
    descriptor: &'a Descriptor,
    diff_id: Option<&'a Digest>,
    tar: PipeReader,
    thread: ScopedJoinHandle<'scope, Unpacked>,
}

impl<'a> Layers<'a> {
    /// Passes each layer's tar to `extract`, in order. The layers are verified only when this returns `Ok`.
    pub(super) fn for_each(
        &self,
        mut extract: impl FnMut(PipeReader) -> Result<(), ExtractError>,
    ) -> Result<(), TransferError> {
        let most = UNDER_WAY.min(self.concurrency).max(1);
        let abandoned = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let mut coming = self.layers.iter().enumerate().peekable();
            let mut ahead: VecDeque<Layer<'_, '_>> = VecDeque::new();
            let mut one = || {
                while let Some((number, layer)) = coming.peek() {
                    let before: u64 = ahead.iter().map(|layer| layer.descriptor.size).sum();
                    if ahead.len() >= most || before > NEAR {
                        break;
                    }
                    match self.begin(scope, *number, layer, &abandoned) {
                        Ok(layer) => ahead.push_back(layer),
                        // It gets a thread when those before it are done.
                        Err(_) if !ahead.is_empty() => break,
                        Err(error) => return Err(error),
                    }
                    coming.next();
                }
                let Some(layer) = ahead.pop_front() else { return Ok(false) };
                self.end(layer, &mut extract).map(|()| true)
            };
            loop {
                match one() {
                    Ok(true) => {}
                    Ok(false) => return Ok(()),
                    Err(error) => {
                        abandoned.store(true, Ordering::Relaxed);
                        return Err(error);
                    }
                }
            }
        })
    }

    fn begin<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        number: usize,
        descriptor: &'a Descriptor,
        abandoned: &'scope AtomicBool,
    ) -> Result<Layer<'scope, 'a>, TransferError> {
        let diff_id = self.diff_ids.get(number);
        let algorithm = diff_id.map_or(Algorithm::Sha256, Digest::algorithm);
        let inflaters = self.inflaters(descriptor);
        let (writer, tar) = pipe(Blocks::Large);
        let work = move || self.unpack(descriptor, algorithm, inflaters, abandoned, writer);
        let thread = threads::spawn(scope, work).map_err(|error| self.broken(descriptor, error))?;
        Ok(Layer { descriptor, diff_id, tar, thread })
    }

    fn end(
        &self,
        layer: Layer<'_, '_>,
        extract: impl FnOnce(PipeReader) -> Result<(), ExtractError>,
    ) -> Result<(), TransferError> {
        let Layer { descriptor, diff_id, tar, thread } = layer;
        let extracted = extract(tar);
        // Joined also after an error: an error in the stored bytes explains why the layer could not be extracted.
        let (unpacked, rest) = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        match (extracted, rest) {
            (Ok(()), Ok(())) => {}
            (Ok(()), Err(error)) => return Err(self.broken(descriptor, error)),
            (Err(_), Err(error)) if Mismatch::in_error(&error).is_some() => {
                return Err(self.broken(descriptor, error));
            }
            (Err(error), _) => return Err(self.extraction_failed(error, descriptor)),
        }
        if let (Some(expected), Some(found)) = (diff_id, unpacked)
            && *expected != found
        {
            let place = self.source.place_of(&descriptor.digest);
            let (layer, expected) = (descriptor.digest.clone(), expected.clone());
            return Err(TransferError::DiffId { place, layer, expected, found });
        }
        self.observer.event(Event::BlobFinished { descriptor, outcome: BlobOutcome::Transferred });
        Ok(())
    }

    /// Returns the layer's share of the inflating threads; beyond eight, hashing and the file system are the limit.
    fn inflaters(&self, layer: &Descriptor) -> usize {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
        let all: u64 = self.layers.iter().map(|layer| layer.size).sum();
        let share = (u128::from(layer.size) * threads as u128).div_ceil(u128::from(all.max(1)));
        usize::try_from(share).unwrap_or(1).clamp(1, threads)
    }

    /// Unpacks a layer into a pipe; reading and verifying on one thread, inflating and hashing on this one.
    fn unpack(
        &self,
        layer: &Descriptor,
        algorithm: Algorithm,
        inflaters: usize,
        abandoned: &AtomicBool,
        writer: PipeWriter,
    ) -> Unpacked {
        let open = || {
            let (digest, observer) = (&layer.digest, self.observer);
            Ok::<_, TransferError>(Counted {
                inner: self.source.open_blob(layer)?,
                digest,
                observer,
                abandoned,
            })
        };
        if abandoned.load(Ordering::Relaxed) {
            // The caller returns the error that ended the work.
            return Err(TransferError::Internal { what: "a layer was unpacked after the work had ended" });
        }
        self.observer.event(Event::BlobStarted { descriptor: layer });
        let stored = open()?;
        std::thread::scope(|scope| match read_ahead(scope, stored, Blocks::Large) {
            Ok(stored) => Ok(unpack(stored, algorithm, inflaters, writer)),
            // Without a free thread this one does all the work.
            Err(_) => Ok(unpack(open()?, algorithm, 1, writer)),
        })
    }

    fn broken(&self, layer: &Descriptor, error: io::Error) -> TransferError {
        TransferError::from_read(
            &self.source.place_of(&layer.digest),
            &format!("layer `{}`", layer.digest),
            error,
        )
    }

    /// Makes the error of an extraction: that of the stream if reading failed, else that of the file system.
    fn extraction_failed(&self, error: ExtractError, layer: &Descriptor) -> TransferError {
        let failed = |source| TransferError::Extract { layer: layer.digest.clone(), source };
        match error {
            ExtractError::Tar(error) => match error.into_io() {
                Ok(error) => self.broken(layer, error),
                Err(error) => failed(error.into()),
            },
            ExtractError::Io { action, entry, source } => match TransferError::raise_server(source) {
                Ok(source) => failed(ExtractError::Io { action, entry, source }),
                Err(error) => error,
            },
            other => failed(other),
        }
    }
}

/// Inflates and hashes a layer into a pipe, then reads the remaining stored bytes.
///
/// Returns the digest if the layer was unpacked to its end, and the result of reading the stored bytes. These include
/// what follows the compressed stream; if they do not match their digest, that explains an error of unpacking.
fn unpack(
    mut stored: impl Read + Send,
    algorithm: Algorithm,
    inflaters: usize,
    mut writer: PipeWriter,
) -> (Option<Digest>, io::Result<()>) {
    let mut hasher = algorithm.hasher();
    let unpacked = Decoder::with_threads(Box::new(&mut stored), inflaters).and_then(|decoder| {
        writer.fill_from(decoder, |bytes| {
            hasher.update(bytes);
            Ok(())
        })
    });
    let digest = unpacked.is_ok().then(|| hasher.finish());
    // A reader returns a mismatch only once, and the extractor may have stopped before it got that error.
    let wrong = unpacked.as_ref().err().and_then(Mismatch::in_error).cloned();
    writer.finish(unpacked);
    let rest = io::copy(&mut stored, &mut io::sink()).map(drop);
    (digest, wrong.map_or(rest, |mismatch| Err(io::Error::new(io::ErrorKind::InvalidData, mismatch))))
}

/// A reader that reports its bytes to the observer.
struct Counted<'a, R> {
    inner: R,
    digest: &'a Digest,
    observer: &'a dyn Observer,
    /// Set when another layer could not be extracted, so that this one is not needed.
    abandoned: &'a AtomicBool,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.abandoned.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let n = self.inner.read(buffer)?;
        self.observer.event(Event::BlobProgress { digest: self.digest, bytes: n as u64 });
        Ok(n)
    }
}

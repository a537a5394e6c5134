//! The second half of a check: reads each byte of layers and other blobs once; several blobs at a time, and the steps
//! of one blob on several threads.

use std::io::{self, BufRead as _, Read};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::model::{Algorithm, Digest, media_type};
use crate::store::Store;
use crate::stream::{
    Blocks, Compression, Decoder, PipeReader, PipeWriter, cancel, into_value, lock, pipe, read_ahead, threads,
};

use super::super::TransferError;
use super::super::events::{Event, Observer};
use super::documents::BlobTask;
use super::report::{Fault, Problem};

/// Most blobs checked at the same time: a layer takes three threads and 2 MiB, and more would only compete for the
/// disk.
const THREADS: usize = 16;
/// Most threads that inflate, in all layers together: each takes 4 MiB, and past this hashing is the limit.
const INFLATERS: usize = 8;
const BLOCK: usize = 256 * 1024;

/// Checks all blobs and returns what is wrong, in the order of `tasks`, and the bytes read.
///
/// Errors: the first failure of a server, which ends the check: whether the other blobs are right is not known either.
pub(super) fn check(
    store: &Store,
    tasks: &[BlobTask],
    threads: usize,
    observer: &dyn Observer,
) -> Result<(Vec<Problem>, u64), TransferError> {
    // The largest first, so that no thread begins a large one when the others are done.
    let mut order: Vec<usize> = (0..tasks.len()).collect();
    order.sort_by_key(|at| tasks.get(*at).map_or(0, |task| u64::MAX - task.size));
    let next = AtomicUsize::new(0);
    let read = AtomicU64::new(0);
    let at_once = threads.clamp(1, THREADS).min(tasks.len().max(1));
    // In a store with few blobs the layers get the threads that are left.
    let layers = tasks.iter().filter(|task| media_type::is_layer(&task.media_type)).count();
    let inflaters = threads.min(INFLATERS) / at_once.min(layers.max(1));
    let found: Mutex<Vec<(usize, Vec<Fault>)>> = Mutex::default();
    let failed: Mutex<Option<TransferError>> = Mutex::default();
    let work = || {
        while let Some(at) = order.get(next.fetch_add(1, Ordering::Relaxed)).copied() {
            let Some(task) = tasks.get(at) else { break };
            if cancel::is_cancelled() || lock(&failed).is_some() {
                break;
            }
            match check_one(store, task, inflaters, &read, observer) {
                Ok(faults) if faults.is_empty() => {}
                Ok(faults) => lock(&found).push((at, faults)),
                Err(error) => {
                    lock(&failed).get_or_insert(error);
                }
            }
        }
    };
    threads::share(at_once, work);
    if let Some(error) = into_value(failed) {
        return Err(error);
    }
    let mut found = into_value(found);
    found.sort_by_key(|(at, _)| *at);
    let problems = found.into_iter().flat_map(|(at, faults)| {
        let (blob, referred_by) = (tasks[at].digest.clone(), tasks[at].referred_by.clone());
        faults.into_iter().map(move |fault| Problem {
            blob: blob.clone(),
            fault,
            referred_by: referred_by.clone(),
        })
    });
    Ok((problems.collect(), read.into_inner()))
}

/// Size and digest of a blob's stored bytes.
struct Stored {
    digest: Digest,
    size: u64,
}

/// Reads a blob to its end into `space`, piece by piece, and hashes it.
fn hash_stored(
    mut blob: Box<dyn Read + Send + '_>,
    task: &BlobTask,
    space: &mut dyn Space,
    total: &AtomicU64,
    observer: &dyn Observer,
) -> io::Result<Stored> {
    let mut hasher = task.digest.algorithm().hasher();
    let mut size = 0;
    loop {
        cancel::check()?;
        let buffer = space.space();
        let count = match blob.read(buffer) {
            Ok(0) => return Ok(Stored { digest: hasher.finish(), size }),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(buffer.get(..count).unwrap_or(buffer));
        space.keep(count);
        size += count as u64;
        total.fetch_add(count as u64, Ordering::Relaxed);
        observer.event(Event::Verified { bytes: count as u64 });
    }
}

/// A buffer that bytes are read into.
trait Space {
    fn space(&mut self) -> &mut [u8];
    fn keep(&mut self, _count: usize) {}
}

/// A buffer that the next read overwrites.
impl Space for Vec<u8> {
    fn space(&mut self) -> &mut [u8] {
        self
    }
}

/// A pipe to the next stage. If that stage failed, the rest is hashed all the same, to find out whether the stored
/// bytes are wrong.
impl Space for PipeWriter {
    fn space(&mut self) -> &mut [u8] {
        Self::space(self)
    }

    fn keep(&mut self, count: usize) {
        self.advance(count);
    }
}

fn check_one(
    store: &Store,
    task: &BlobTask,
    inflaters: usize,
    total: &AtomicU64,
    observer: &dyn Observer,
) -> Result<Vec<Fault>, TransferError> {
    let blob = match store.open_unverified(&task.digest) {
        Ok(blob) => blob,
        Err(error) => {
            let reason = TransferError::raise_server_of(error)?.to_string();
            return Ok(vec![Fault::Unreadable { reason }]);
        }
    };
    let (stored, unpacked) = if media_type::is_layer(&task.media_type) {
        let (stored, unpacked) = check_layer(blob, task, inflaters, total, observer);
        (stored, Some(unpacked))
    } else {
        (hash_stored(blob, task, &mut vec![0; BLOCK], total, observer), None)
    };
    let Stored { digest: found, size } = match stored {
        Ok(stored) => stored,
        Err(error) => {
            let reason = TransferError::raise_server(error)?.to_string();
            return Ok(vec![Fault::Unreadable { reason }]);
        }
    };
    if found != task.digest {
        return Ok(vec![Fault::Digest { found, size }]);
    }
    Ok(match unpacked {
        None => Vec::new(),
        Some(Err(reason)) => vec![Fault::Undecodable { reason }],
        Some(Ok((compression, diff_id))) => layer_faults(task, compression, &diff_id.unwrap_or(found)),
    })
}

/// Compression of a layer, and its `diff_id` if it is compressed.
type Unpacked = Result<(Compression, Option<Digest>), String>;

/// Hashes a layer, inflates it and hashes what comes out, each on a thread of its own.
fn check_layer(
    blob: Box<dyn Read + Send + '_>,
    task: &BlobTask,
    inflaters: usize,
    total: &AtomicU64,
    observer: &dyn Observer,
) -> (io::Result<Stored>, Unpacked) {
    std::thread::scope(|scope| {
        let (mut writer, reader) = pipe(Blocks::Large);
        let unpacking = match threads::spawn(scope, move || unpack(reader, task, inflaters)) {
            Ok(unpacking) => unpacking,
            Err(error) => return (Err(error), Err("there is no thread for it".to_owned())),
        };
        let stored = hash_stored(blob, task, &mut writer, total, observer);
        writer.finish(Ok(()));
        let unpacked = unpacking.join().unwrap_or_else(|_| Err("the decoder broke off".to_owned()));
        (stored, unpacked)
    })
}

fn layer_faults(task: &BlobTask, compression: Compression, diff_id: &Digest) -> Vec<Fault> {
    let mut faults = Vec::new();
    if promised_compression(&task.media_type) != compression {
        let found = match compression {
            Compression::Gzip => "gzip-compressed",
            Compression::Zstd => "zstd-compressed",
            Compression::None => "not compressed",
        };
        faults.push(Fault::Compression { media_type: task.media_type.clone(), found });
    }
    for (expected, _) in &task.diff_ids {
        // No tool writes a diff_id of another algorithm than SHA-256; it cannot be checked here.
        if expected.algorithm() == Algorithm::Sha256 && expected != diff_id {
            faults.push(Fault::DiffId { expected: expected.clone(), found: diff_id.clone() });
        }
    }
    faults
}

fn promised_compression(media_type: &str) -> Compression {
    if media_type.ends_with("gzip") {
        Compression::Gzip
    } else if media_type.ends_with("zstd") {
        Compression::Zstd
    } else {
        Compression::None
    }
}

/// Unpacks a layer and returns its digest; `None` when it is not compressed and the stored digest is the same.
fn unpack(stored: PipeReader, task: &BlobTask, inflaters: usize) -> Unpacked {
    let failed = |error: io::Error| error.to_string();
    let mut decoder = Decoder::with_threads(Box::new(stored), inflaters).map_err(failed)?;
    let compression = decoder.compression();
    if compression == Compression::None && task.digest.algorithm() == Algorithm::Sha256 {
        io::copy(&mut decoder, &mut io::sink()).map_err(failed)?;
        return Ok((compression, None));
    }
    std::thread::scope(|scope| {
        let mut unpacked = read_ahead(scope, decoder, Blocks::Large).map_err(failed)?;
        let mut hasher = Algorithm::Sha256.hasher();
        loop {
            let block = unpacked.fill_buf().map_err(failed)?;
            if block.is_empty() {
                return Ok((compression, Some(hasher.finish())));
            }
            hasher.update(block);
            let count = block.len();
            unpacked.consume(count);
        }
    })
}

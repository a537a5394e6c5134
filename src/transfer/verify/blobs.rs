//! The second half of a check: layers and other blobs, each byte read once, several blobs at a time.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::model::{Algorithm, Digest, Hasher, media_type};
use crate::store::ImageStore;
use crate::stream::{Compression, Decoder, cancel};

use super::super::events::{Event, Observer};
use super::documents::Task;
use super::report::{Fault, Problem};

/// Most threads that are of use; more only compete for the disk.
const THREADS: usize = 64;
const BLOCK: usize = 256 * 1024;

/// Checks all blobs and returns what is wrong, in the order of `tasks`, and the bytes read.
pub(super) fn check(
    store: &dyn ImageStore,
    tasks: &[Task],
    threads: usize,
    observer: &dyn Observer,
) -> (Vec<Problem>, u64) {
    // The largest first, so that no thread begins it when the others are done.
    let mut order: Vec<usize> = (0..tasks.len()).collect();
    order.sort_by_key(|at| tasks.get(*at).map_or(0, |task| u64::MAX - task.size));
    let next = AtomicUsize::new(0);
    let read = AtomicU64::new(0);
    let found: Mutex<Vec<(usize, Vec<Fault>)>> = Mutex::default();
    let work = || {
        while let Some(at) = order.get(next.fetch_add(1, Ordering::Relaxed)).copied() {
            let Some(task) = tasks.get(at) else { break };
            if cancel::is_cancelled() {
                break;
            }
            let faults = check_one(store, task, &read, observer);
            if !faults.is_empty() {
                found.lock().unwrap_or_else(PoisonError::into_inner).push((at, faults));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.clamp(1, THREADS).min(tasks.len().max(1)) {
            scope.spawn(work);
        }
        work();
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_by_key(|(at, _)| *at);
    let problems = found.into_iter().flat_map(|(at, faults)| {
        let (blob, referred_by) = (tasks[at].digest.clone(), tasks[at].referred_by.clone());
        faults.into_iter().map(move |fault| Problem {
            blob: blob.clone(),
            fault,
            referred_by: referred_by.clone(),
        })
    });
    (problems.collect(), read.into_inner())
}

/// Hashes and counts what is read through it.
struct Tee<'a> {
    inner: Box<dyn Read + Send + 'a>,
    hasher: Hasher,
    size: u64,
    total: &'a AtomicU64,
    observer: &'a dyn Observer,
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        cancel::check()?;
        let count = self.inner.read(buffer)?;
        if let Some(bytes) = buffer.get(..count)
            && count > 0
        {
            self.hasher.update(bytes);
            self.size += count as u64;
            self.total.fetch_add(count as u64, Ordering::Relaxed);
            self.observer.event(Event::Verified { bytes: count as u64 });
        }
        Ok(count)
    }
}

fn check_one(store: &dyn ImageStore, task: &Task, total: &AtomicU64, observer: &dyn Observer) -> Vec<Fault> {
    let inner = match store.open_blob(&task.digest) {
        Ok(inner) => inner,
        Err(error) => return vec![Fault::Unreadable { reason: error.to_string() }],
    };
    let mut tee = Tee { inner, hasher: task.digest.algorithm().hasher(), size: 0, total, observer };
    let unpacked = if media_type::is_layer(&task.media_type) { Some(unpack(&mut tee, task)) } else { None };
    // After an error of the decoder the rest still has to be hashed to know whose fault it is.
    let mut buffer = vec![0; BLOCK];
    loop {
        match tee.read(&mut buffer) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return vec![Fault::Unreadable { reason: error.to_string() }],
        }
    }
    let (found, size) = (tee.hasher.finish(), tee.size);
    if found != task.digest {
        return vec![Fault::Digest { found, size }];
    }
    match unpacked {
        None => Vec::new(),
        Some(Err(reason)) => vec![Fault::Undecodable { reason }],
        Some(Ok((compression, diff_id))) => layer_faults(task, compression, &diff_id.unwrap_or(found)),
    }
}

fn layer_faults(task: &Task, compression: Compression, diff_id: &Digest) -> Vec<Fault> {
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
        // A diff_id of another algorithm than SHA-256 is not written by anybody; it cannot be judged here.
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
fn unpack(tee: &mut Tee<'_>, task: &Task) -> Result<(Compression, Option<Digest>), String> {
    let mut decoder = Decoder::new(Box::new(&mut *tee)).map_err(|error| error.to_string())?;
    let compression = decoder.compression();
    let is_known = compression == Compression::None && task.digest.algorithm() == Algorithm::Sha256;
    let mut hasher = if is_known { None } else { Some(Algorithm::Sha256.hasher()) };
    let mut buffer = vec![0; BLOCK];
    loop {
        cancel::check().map_err(|error| error.to_string())?;
        match decoder.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                if let (Some(hasher), Some(bytes)) = (&mut hasher, buffer.get(..count)) {
                    hasher.update(bytes);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok((compression, hasher.map(Hasher::finish)))
}

//! Writing small files behind the thread that reads the tar.
//!
//! The reading thread creates, replaces, links and removes names, in the order of the archive. It hands over a small
//! file as an open handle with its bytes in memory; another thread writes them and sets owner, attributes, mode and
//! time through the handle. So no entry has to wait for another one: a file that is linked, replaced or hidden
//! meanwhile is still the same file behind its handle.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread::Scope;

use rustix::io::Errno;

use crate::stream::{into_value, lock, threads};

use super::super::read::Entry;
use super::metadata::{NewFile, finish_file};
use super::policy::{ExtractError, ExtractMode};

/// Larger files are written by the reading thread, as they are read.
pub(super) const LARGEST: u64 = 64 * 1024;
/// Most bytes and files that are handed over together. Waking a thread costs as much as writing a small file.
const BATCH_BYTES: u64 = 2 * LARGEST;
const BATCH_FILES: usize = 16;
/// Most threads: creating a file takes as long as writing it, so more would wait for the thread that creates. With
/// two batches waiting for each, at most 112 handles and 0.9 MiB are in flight.
const MOST_THREADS: usize = 2;

/// A file that was created, and waits for its bytes.
struct Created {
    entry: Entry,
    new: NewFile,
    /// Bytes in the batch.
    size: usize,
}

/// Files that are handed over together.
#[derive(Default)]
struct Batch {
    /// Number of its first file.
    first: u64,
    files: Vec<Created>,
    bytes: Vec<u8>,
}

/// The first file that could not be written, by number.
struct Failed {
    /// Its number; the largest one while there is none.
    number: AtomicU64,
    error: Mutex<Option<ExtractError>>,
}

impl Failed {
    fn is_before(&self, number: u64) -> bool {
        self.number.load(Ordering::Relaxed) < number
    }

    fn note(&self, number: u64, error: ExtractError) {
        let mut first = lock(&self.error);
        if !self.is_before(number) {
            self.number.store(number, Ordering::Relaxed);
            *first = Some(error);
        }
    }
}

/// Takes the small files of one layer.
pub(super) struct Behind<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    how: ExtractMode,
    failed: &'scope Failed,
    queue: &'scope Mutex<Receiver<Batch>>,
    to_write: SyncSender<Batch>,
    /// Threads that may still be started.
    more: usize,
    batch: Batch,
    /// Batches that the threads have not given back.
    under_way: usize,
    /// Empty batches, to be used again.
    spare: Receiver<Batch>,
    give_back: Sender<Batch>,
}

/// Returns the number of threads that write files: with one processor there is nothing to gain.
pub(super) fn threads() -> usize {
    match std::thread::available_parallelism().map_or(1, usize::from) {
        1 => 0,
        several => several.min(MOST_THREADS),
    }
}

/// Runs `extract`, which hands over files, and returns when they are written, by up to `threads` threads.
///
/// Errors: that of the first file that could not be written; else that of `extract`, which came later in the archive.
pub(super) fn write_behind(
    how: ExtractMode,
    threads: usize,
    extract: impl FnOnce(&mut Behind<'_, '_>) -> Result<(), ExtractError>,
) -> Result<(), ExtractError> {
    let more = threads;
    let failed = Failed { number: AtomicU64::new(u64::MAX), error: Mutex::new(None) };
    let (to_write, queue) = sync_channel(2 * more);
    let queue = Mutex::new(queue);
    let (give_back, spare) = channel();
    let extracted = std::thread::scope(|scope| {
        let (failed, queue, batch) = (&failed, &queue, Batch::default());
        let mut behind =
            Behind { scope, how, failed, queue, to_write, more, batch, under_way: 0, spare, give_back };
        let extracted = extract(&mut behind);
        write_batch(&mut behind.batch, how, failed);
        // Here `behind` is dropped: the threads write what is in the queue, and end.
        extracted
    });
    into_value(failed.error).map_or(extracted, Err)
}

impl Behind<'_, '_> {
    /// Takes a file that was created, of at most [`LARGEST`] bytes; `read` fills a buffer of its size with them.
    ///
    /// Errors: that of `read`; any error when a file before this one could not be written.
    pub(super) fn take(
        &mut self,
        entry: Entry,
        new: NewFile,
        read: impl FnOnce(&Entry, &mut [u8]) -> Result<(), ExtractError>,
    ) -> Result<(), ExtractError> {
        if self.batch.files.len() == BATCH_FILES || self.batch.bytes.len() as u64 + entry.size > BATCH_BYTES {
            self.hand_over();
        }
        self.check(&entry)?;
        let (before, size) = (self.batch.bytes.len(), usize::try_from(entry.size).unwrap_or(usize::MAX));
        self.batch.bytes.resize(before + size, 0);
        read(&entry, &mut self.batch.bytes[before..])?;
        self.batch.files.push(Created { entry, new, size });
        Ok(())
    }

    /// Waits until all files taken so far are written, before this thread writes a large one.
    ///
    /// Otherwise a large file could fill a disk before a small one that is in front of it in the archive.
    /// Errors: any error when one of the files could not be written.
    pub(super) fn settle(&mut self, next: &Entry) -> Result<(), ExtractError> {
        write_batch(&mut self.batch, self.how, self.failed);
        while self.under_way > 0 && self.spare.recv().is_ok() {
            self.under_way -= 1;
        }
        self.check(next)
    }

    /// Fails if a file could not be written; the caller of [`write_behind`] gets that file's error.
    fn check(&self, next: &Entry) -> Result<(), ExtractError> {
        if self.failed.is_before(u64::MAX) {
            return Err(ExtractError::io("go on", &next.path, ErrorKind::BrokenPipe));
        }
        Ok(())
    }

    /// Gives the batch to a thread, or writes it here if they have enough to do or there is none.
    fn hand_over(&mut self) {
        if self.more > 0 {
            self.start();
        }
        let mut next = match self.spare.try_recv() {
            Ok(batch) => {
                self.under_way -= 1;
                batch
            }
            Err(_) => Batch::default(),
        };
        next.first = self.batch.first + self.batch.files.len() as u64;
        match self.to_write.try_send(std::mem::replace(&mut self.batch, next)) {
            Ok(()) => self.under_way += 1,
            Err(TrySendError::Full(mut batch) | TrySendError::Disconnected(mut batch)) => {
                write_batch(&mut batch, self.how, self.failed);
                self.batch = batch;
            }
        }
    }

    fn start(&mut self) {
        let (how, failed, queue, back) = (self.how, self.failed, self.queue, self.give_back.clone());
        let work = move || {
            loop {
                let Ok(mut batch) = lock(queue).recv() else { return };
                write_batch(&mut batch, how, failed);
                let _ = back.send(batch);
            }
        };
        // If the system refuses a thread, those that run do the work, and this one.
        let started = threads::spawn(self.scope, work).is_ok();
        self.more = if started { self.more - 1 } else { 0 };
    }
}

/// Writes the files of a batch, up to the first one that failed in any batch, and empties it.
fn write_batch(batch: &mut Batch, how: ExtractMode, failed: &Failed) {
    let next = batch.first + batch.files.len() as u64;
    let mut rest = batch.bytes.as_slice();
    for (number, Created { entry, new, size }) in (batch.first..).zip(batch.files.drain(..)) {
        let (bytes, after) = rest.split_at(size);
        rest = after;
        if failed.is_before(number) {
            continue;
        }
        let written = write(&new.file, bytes)
            .map_err(|error| ExtractError::io("write the file", &entry.path, error))
            .and_then(|()| finish_file(how, &entry, &new));
        if let Err(error) = written {
            failed.note(number, error);
        }
    }
    batch.bytes.clear();
    batch.first = next;
}

fn write(file: &OwnedFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use testkit::scratch::Scratch;

    use super::super::super::read::EntryKind;
    use super::*;

    const HOW: ExtractMode = ExtractMode::Contents { umask: 0o022 };

    fn entry(number: u64, size: u64) -> Entry {
        Entry {
            path: format!("f{number}").into_bytes(),
            kind: EntryKind::File,
            mode: 0o600,
            uid: 0,
            gid: 0,
            size,
            mtime: 0,
            link: Vec::new(),
            offset: 0,
            offset_of_data: 0,
            xattrs: Vec::new(),
        }
    }

    fn created(path: impl AsRef<std::path::Path>) -> NewFile {
        let file = File::options().create(true).write(true).truncate(true).open(path).unwrap();
        NewFile { file: file.into(), has_mode: true }
    }

    #[test]
    fn every_file_gets_its_bytes_on_any_number_of_threads() {
        for threads in [0, 1, 4] {
            let scratch = Scratch::new("behind");
            let size = |number: u16| match number % 4 {
                0 => usize::from(number),
                1 => 64 * 1024,
                2 => 0,
                _ => 64 * 1024 - usize::from(number),
            };
            let byte = |number: u16| number.to_le_bytes()[0];
            write_behind(HOW, threads, |behind| {
                for number in 0..300 {
                    let new = created(scratch.join(format!("f{number}")));
                    behind.take(entry(number.into(), size(number) as u64), new, |_, space| {
                        space.fill(byte(number));
                        Ok(())
                    })?;
                }
                Ok(())
            })
            .unwrap();
            for number in 0..300 {
                let found = std::fs::read(scratch.join(format!("f{number}"))).unwrap();
                assert!(found == vec![byte(number); size(number)], "f{number} on {threads} threads");
            }
        }
    }

    #[test]
    fn the_first_error_of_the_archive_is_returned_and_files_before_it_are_written() {
        for threads in [0, 1, 4] {
            let scratch = Scratch::new("behind");
            let mut given = 0;
            let error = write_behind(HOW, threads, |behind| {
                for number in 0..2000 {
                    let full = [170, 90, 91, 300].contains(&number);
                    let path = if full { "/dev/full".into() } else { scratch.join(format!("f{number}")) };
                    behind.take(entry(number, 5), created(path), |_, space| {
                        space.copy_from_slice(b"bytes");
                        Ok(())
                    })?;
                    given += 1;
                }
                Err(ExtractError::refused(b"later", "it is odd"))
            })
            .unwrap_err();
            assert!(error.to_string().contains("`f90`: cannot write the file"), "{error}");
            assert!(given < 2000, "it goes on for a few batches only");
            for number in 0..90 {
                assert_eq!(std::fs::read(scratch.join(format!("f{number}"))).unwrap(), b"bytes", "f{number}");
            }
        }
    }

    #[test]
    fn an_error_of_the_reading_thread_is_returned_when_all_files_are_written() {
        let scratch = Scratch::new("behind");
        let error = write_behind(HOW, 2, |behind| {
            for number in 0..40 {
                behind.take(entry(number, 0), created(scratch.join(format!("f{number}"))), |_, _| Ok(()))?;
            }
            Err(ExtractError::refused(b"last", "it is odd"))
        });
        assert_eq!(error.unwrap_err().to_string(), "cannot extract `last`: it is odd");
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 40);
    }
}

//! A bounded number of threads over a list, where the first error stops the rest; and one more for what is large.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::Scope;

use crate::model::Descriptor;
use crate::stream::{BlobStream, Blocks, PipeReader, cancel, into_value, lock, read_ahead, threads};

use super::TransferError;

/// A blob of at least this size is read on a thread of its own while it is written or sent; of smaller ones several are
/// under way, and overlap with each other instead.
const WORTH_A_THREAD: u64 = 32 * 1024 * 1024;
/// What is read at once of a blob that has no thread of its own.
const READ_BYTES: usize = 32 * 1024;

/// Whether a blob has a thread of its own now. One at a time is enough: of several blobs on their way one works while
/// another waits, and what is between two threads is half a MiB for each blob.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The right to a thread of its own; there is room for the next when it is dropped.
struct Room;

impl Room {
    fn take() -> Option<Self> {
        // `then_some` would make one where there is none, and drop it.
        (!TAKEN.swap(true, Ordering::Relaxed)).then(|| Self)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        TAKEN.store(false, Ordering::Relaxed);
    }
}

/// One end of what is read on a thread of its own. Each end keeps the room: the thread may outlive its reader, and what
/// was read ahead the thread.
struct Ahead<R> {
    end: R,
    _room: Arc<Room>,
}

impl<R: Read> Read for Ahead<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.end.read(buffer)
    }
}

impl<R: BufRead> BufRead for Ahead<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.end.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.end.consume(count);
    }
}

/// Which thread verifies a blob that has one of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verified {
    /// The one that reads it: what is sent has most to do afterwards.
    Reading,
    /// The one that uses it: what arrives had most to do before.
    Using,
}

/// Returns a reader of a blob that works ahead of whoever reads from it, where the blob's size is worth it and no other
/// has a thread.
///
/// Errors: there is no thread to be had.
pub(super) fn ahead<'scope>(
    scope: &'scope Scope<'scope, '_>,
    blob: &Descriptor,
    source: BlobStream<'scope>,
    verified: Verified,
) -> io::Result<Box<dyn BufRead + Send + 'scope>> {
    let room = if blob.size < WORTH_A_THREAD { None } else { Room::take() };
    let Some(room) = room else {
        return Ok(Box::new(BufReader::with_capacity(READ_BYTES, source)));
    };
    Ok(match verified {
        Verified::Reading => Box::new(on_its_own(scope, room, source)?),
        Verified::Using => Box::new(source.over(|source| on_its_own(scope, room, source))?),
    })
}

fn on_its_own<'scope>(
    scope: &'scope Scope<'scope, '_>,
    room: Room,
    source: impl Read + Send + 'scope,
) -> io::Result<Ahead<PipeReader>> {
    let room = Arc::new(room);
    let source = Ahead { end: source, _room: Arc::clone(&room) };
    Ok(Ahead { end: read_ahead(scope, source, Blocks::Small)?, _room: room })
}

/// The first error of several threads, which tells the others to stop.
#[derive(Default)]
struct FirstError {
    failed: AtomicBool,
    error: Mutex<Option<TransferError>>,
}

impl FirstError {
    /// Tells whether nothing new should be begun.
    fn is_over(&self) -> bool {
        self.failed.load(Ordering::Relaxed) || cancel::is_cancelled()
    }

    fn note(&self, result: Result<(), TransferError>) {
        if let Err(error) = result {
            self.failed.store(true, Ordering::Relaxed);
            lock(&self.error).get_or_insert(error);
        }
    }

    /// Returns the error; without one `otherwise`, unless a signal came.
    fn or<T>(self, otherwise: Result<T, TransferError>) -> Result<T, TransferError> {
        match into_value(self.error) {
            Some(error) => Err(error),
            None if cancel::is_cancelled() => Err(TransferError::Stopped),
            None => otherwise,
        }
    }
}

/// Runs `work` on every item, at most `concurrency` at a time, in list order of starting.
///
/// Errors: the first one that happened; items not yet begun are then left alone.
pub fn for_each<T: Sync>(
    items: &[T],
    concurrency: usize,
    work: impl Fn(&T) -> Result<(), TransferError> + Sync,
) -> Result<(), TransferError> {
    let next = AtomicUsize::new(0);
    let first = FirstError::default();
    let run = || {
        while !first.is_over() {
            let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
            first.note(work(item));
        }
    };
    threads::share(concurrency.clamp(1, items.len().max(1)), run);
    first.or(Ok(()))
}

/// Runs `work` on every item as [`for_each`] does, and returns the results in the order of the items.
pub fn map<T: Sync, R: Send>(
    items: &[T],
    concurrency: usize,
    work: impl Fn(&T) -> Result<R, TransferError> + Sync,
) -> Result<Vec<R>, TransferError> {
    let results: Vec<Mutex<Option<R>>> = items.iter().map(|_| Mutex::new(None)).collect();
    let numbered: Vec<(usize, &T)> = items.iter().enumerate().collect();
    for_each(&numbered, concurrency, |(number, item)| {
        let result = work(item)?;
        *lock(&results[*number]) = Some(result);
        Ok(())
    })?;
    Ok(results.into_iter().filter_map(into_value).collect())
}

/// Runs `produce`, and `work` on what it hands over, at most `concurrency` at a time, while it goes on.
///
/// Errors: the first of `work`, after which handing over fails too; else that of `produce`.
pub(super) fn fed<T: Send, R>(
    concurrency: usize,
    work: impl Fn(T) -> Result<(), TransferError> + Sync,
    produce: impl FnOnce(&(dyn Fn(T) -> Result<(), TransferError> + Sync)) -> Result<R, TransferError>,
) -> Result<R, TransferError> {
    let (sender, receiver) = mpsc::channel();
    let receiver = Mutex::new(receiver);
    let first = FirstError::default();
    // A thread holds the lock only until it has an item; the next thread waits for one while this one works.
    let next = || lock(&receiver).recv();
    let run = || {
        while let Ok(item) = next() {
            if !first.is_over() {
                first.note(work(item));
            }
        }
    };
    let result = std::thread::scope(|scope| {
        // It has to be gone before the threads are waited for, however this ends.
        let sender = sender;
        let started = (0..concurrency.max(1)).map_while(|_| threads::spawn(scope, run).ok()).count();
        let hand_over = |item| match first.failed.load(Ordering::Relaxed) {
            true => Err(TransferError::Stopped),
            false => sender.send(item).map_err(|_| TransferError::Stopped),
        };
        let result = produce(&hand_over);
        // The threads end when nothing more can come; where there are none to be had, this one does it all.
        drop(sender);
        if started == 0 {
            run();
        }
        result
    });
    first.or(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_one_at_a_time() {
        let first = Room::take();
        assert!(first.is_some());
        assert!(Room::take().is_none());
        assert!(Room::take().is_none(), "asking in vain leaves the first its room");
        drop(first);
        assert!(Room::take().is_some());
    }

    #[test]
    fn every_item_is_worked_on_once_and_the_first_error_comes_back() {
        let done = Mutex::new(Vec::new());
        let items: Vec<u32> = (0..100).collect();
        for_each(&items, 4, |item| {
            done.lock().unwrap().push(*item);
            Ok(())
        })
        .unwrap();
        let mut done = done.into_inner().unwrap();
        done.sort_unstable();
        assert_eq!(done, items);
        let count = AtomicUsize::new(0);
        let error = for_each(&items, 1, |item| {
            count.fetch_add(1, Ordering::Relaxed);
            if *item == 3 { Err(TransferError::Stopped) } else { Ok(()) }
        });
        assert!(matches!(error, Err(TransferError::Stopped)));
        assert_eq!(count.into_inner(), 4, "nothing after the failed one was begun");
    }

    #[test]
    fn what_is_handed_over_is_worked_on_while_more_is_made() {
        let (done, seen) = (Mutex::new(Vec::new()), mpsc::channel());
        let work = |item: u32| {
            done.lock().unwrap().push(item);
            seen.0.send(item).unwrap();
            Ok(())
        };
        let made = fed(3, work, |hand_over| {
            hand_over(1)?;
            // It would be waited for without end if nothing happened before the end.
            assert_eq!(seen.1.recv().unwrap(), 1);
            (2..50).try_for_each(hand_over)?;
            Ok("made")
        });
        assert_eq!(made.unwrap(), "made");
        let mut done = done.into_inner().unwrap();
        done.sort_unstable();
        assert_eq!(done, (1..50).collect::<Vec<u32>>());
    }

    #[test]
    fn what_went_wrong_first_comes_back_and_nothing_more_is_made() {
        let fails = |_: u32| Err(TransferError::NotAnImage { place: "here".into(), found: "a tag".into() });
        let result: Result<(), _> = fed(2, fails, |hand_over| {
            loop {
                hand_over(1)?;
            }
        });
        assert!(matches!(result, Err(TransferError::NotAnImage { .. })), "{result:?}");
        let result: Result<(), _> = fed(2, |_: u32| Ok(()), |_| Err(TransferError::Stopped));
        assert!(matches!(result, Err(TransferError::Stopped)));
    }
}

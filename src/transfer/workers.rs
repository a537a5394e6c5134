//! Runs work on the items of a list on a bounded number of threads; the first error stops the rest.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError, mpsc};
use std::time::Duration;

use crate::stream::{cancel, into_value, lock, threads};

use super::TransferError;

/// The first error of several threads, which tells the others to stop.
///
/// Of errors that threads meet at the same time it is that of the first item, so that it depends on no timing.
#[derive(Default)]
struct FirstError {
    failed: AtomicBool,
    error: Mutex<Option<(usize, TransferError)>>,
}

impl FirstError {
    /// Tells whether no new item may be begun.
    fn is_over(&self) -> bool {
        self.failed.load(Ordering::Relaxed) || cancel::is_cancelled()
    }

    fn note(&self, number: usize, result: Result<(), TransferError>) {
        if let Err(error) = result {
            self.failed.store(true, Ordering::Relaxed);
            let mut first = lock(&self.error);
            if first.as_ref().is_none_or(|(earlier, _)| number < *earlier) {
                *first = Some((number, error));
            }
        }
    }

    /// Returns the first error; else [`TransferError::Stopped`] after a signal, else `otherwise`.
    fn or<T>(self, otherwise: Result<T, TransferError>) -> Result<T, TransferError> {
        match into_value(self.error) {
            Some((_, error)) => Err(error),
            None if cancel::is_cancelled() => Err(TransferError::Stopped),
            None => otherwise,
        }
    }
}

/// Runs `work` on every item, at most `concurrency` at a time; items are started in list order.
///
/// Errors: that of the first item in the list that failed; items that were not begun by then are skipped.
pub fn for_each<T: Sync>(
    items: &[T],
    concurrency: usize,
    work: impl Fn(&T) -> Result<(), TransferError> + Sync,
) -> Result<(), TransferError> {
    let next = AtomicUsize::new(0);
    let first = FirstError::default();
    let run = || {
        while !first.is_over() {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(number) else { return };
            first.note(number, work(item));
        }
    };
    threads::share(concurrency.clamp(1, items.len().max(1)), run);
    first.or(Ok(()))
}

/// Most bytes that one blob counts for in [`OnTheWay`].
const COUNTED_BYTES: u64 = 4 * 1024 * 1024;
/// Blobs of at least [`COUNTED_BYTES`] that move at the same time, unless many more workers were requested.
const LARGE_AT_ONCE: usize = 5;

/// Bounds the bytes of blobs that move at the same time: many small blobs, or few large ones.
pub(super) struct OnTheWay {
    left: Mutex<u64>,
    more: Condvar,
}

/// A blob's share of the bound, until it is dropped.
pub(super) struct Way<'a> {
    all: &'a OnTheWay,
    bytes: u64,
}

impl Drop for Way<'_> {
    fn drop(&mut self) {
        *lock(&self.all.left) += self.bytes;
        self.all.more.notify_all();
    }
}

impl OnTheWay {
    /// Allows five large blobs at the same time; of more than 16 workers, 5 of each 16.
    pub(super) fn new(concurrency: usize) -> Self {
        let large = LARGE_AT_ONCE.max(concurrency * LARGE_AT_ONCE / 16);
        Self { left: Mutex::new(large as u64 * COUNTED_BYTES), more: Condvar::new() }
    }

    /// Waits until a blob may be begun; `None` if the work has ended meanwhile.
    pub(super) fn begin(&self, blob_bytes: u64, is_over: impl Fn() -> bool) -> Option<Way<'_>> {
        let bytes = blob_bytes.min(COUNTED_BYTES);
        let mut left = lock(&self.left);
        while *left < bytes {
            if is_over() {
                return None;
            }
            let slice = Duration::from_millis(50);
            left = self.more.wait_timeout(left, slice).unwrap_or_else(PoisonError::into_inner).0;
        }
        *left -= bytes;
        Some(Way { all: self, bytes })
    }
}

/// Runs `work` on every blob as [`for_each`] does, few large ones at a time.
pub(super) fn for_each_blob<T: Sync>(
    blobs: &[T],
    concurrency: usize,
    size: impl Fn(&T) -> u64 + Sync,
    work: impl Fn(&T) -> Result<(), TransferError> + Sync,
) -> Result<(), TransferError> {
    let (on_the_way, failed) = (OnTheWay::new(concurrency), AtomicBool::new(false));
    let is_over = || failed.load(Ordering::Relaxed) || cancel::is_cancelled();
    for_each(blobs, concurrency, |blob| {
        let Some(_way) = on_the_way.begin(size(blob), is_over) else { return Ok(()) };
        work(blob).inspect_err(|_| failed.store(true, Ordering::Relaxed))
    })
}

/// Runs `work` on every item as [`for_each`] does, and returns the results in the order of the items.
pub fn parallel_map<'a, T: Sync, R: Send>(
    items: &'a [T],
    concurrency: usize,
    work: impl Fn(&'a T) -> Result<R, TransferError> + Sync,
) -> Result<Vec<R>, TransferError> {
    let results: Vec<Mutex<Option<R>>> = items.iter().map(|_| Mutex::new(None)).collect();
    let numbered: Vec<(usize, &'a T)> = items.iter().enumerate().collect();
    for_each(&numbered, concurrency, |(number, item)| {
        let result = work(item)?;
        *lock(&results[*number]) = Some(result);
        Ok(())
    })?;
    let results: Option<Vec<R>> = results.into_iter().map(into_value).collect();
    results.ok_or(TransferError::Internal { what: "a worker thread ended without its result" })
}

/// Runs `produce`, and meanwhile `work` on each item that it hands over, at most `concurrency` at a time.
///
/// Errors: the first of `work`, after which handing over fails; else that of `produce`.
pub(super) fn for_each_streamed<T: Send, R>(
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
                // Items that are made meanwhile have no order; the earliest error counts.
                first.note(0, work(item));
            }
        }
    };
    let result = std::thread::scope(|scope| {
        // Dropped before the threads are joined, also after an error: they wait for its end.
        let sender = sender;
        let started = (0..concurrency.max(1)).map_while(|_| threads::spawn(scope, run).ok()).count();
        let hand_over = |item| match first.failed.load(Ordering::Relaxed) {
            // The caller gets the worker's error instead of this one.
            true => Err(TransferError::Internal { what: "an item was handed over after a worker failed" }),
            false => sender.send(item).map_err(|_| TransferError::Internal {
                what: "an item was handed over after the workers ended",
            }),
        };
        let result = produce(&hand_over);
        // The threads end after the last item; if none could be started, this one does all the work.
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

    fn wrong() -> TransferError {
        TransferError::NotAnImage { place: "here".into(), found: "a tag".into() }
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
            if *item == 3 { Err(wrong()) } else { Ok(()) }
        });
        assert!(matches!(error, Err(TransferError::NotAnImage { .. })));
        assert_eq!(count.into_inner(), 4, "nothing after the failed one was begun");
    }

    #[test]
    fn of_two_errors_that_of_the_first_item_comes_back() {
        let second_failed = AtomicBool::new(false);
        let error = for_each(&["first", "second"], 2, |item| {
            while *item == "first" && !second_failed.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            second_failed.store(true, Ordering::SeqCst);
            Err(TransferError::NotAnImage { place: (*item).to_owned(), found: "a tag".into() })
        });
        let Err(TransferError::NotAnImage { place, .. }) = error else { panic!("{error:?}") };
        assert_eq!(place, "first");
    }

    #[test]
    fn many_small_blobs_and_few_large_ones_are_on_their_way() {
        let never = || false;
        for (concurrency, large) in [(1, 5), (16, 5), (32, 10), (64, 20)] {
            let all = OnTheWay::new(concurrency);
            let mut begun: Vec<Way<'_>> =
                (0..large).map(|_| all.begin(u64::MAX, never).expect("there is room")).collect();
            assert!(all.begin(1, || true).is_none(), "{concurrency}: not even a small one has room");
            assert!(all.begin(0, never).is_some());
            begun.pop();
            let small: Vec<Option<Way<'_>>> = (0..64).map(|_| all.begin(64 * 1024, || true)).collect();
            assert!(small.iter().all(Option::is_some), "{concurrency}: in place of one large one");
        }
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let large = |_: &u32| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::yield_now();
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        };
        for_each_blob(&(0..100).collect::<Vec<u32>>(), 16, |_| COUNTED_BYTES, large).unwrap();
        assert!(most.into_inner() <= 5);
        // The first failure also ends the wait of blobs that were not begun.
        let failed = for_each_blob(&(0..100).collect::<Vec<u32>>(), 16, |_| COUNTED_BYTES, |_| Err(wrong()));
        assert!(matches!(failed, Err(TransferError::NotAnImage { .. })), "{failed:?}");
    }

    #[test]
    fn results_come_in_the_order_of_the_items_and_none_is_dropped() {
        let items: Vec<u32> = (0..100).collect();
        assert_eq!(
            parallel_map(&items, 4, |item| Ok(item * 2)).unwrap(),
            (0..200).step_by(2).collect::<Vec<u32>>()
        );
        assert_eq!(parallel_map::<u32, u32>(&[], 4, |item| Ok(*item)).unwrap(), Vec::<u32>::new());
        let failed = parallel_map(&items, 4, |item| if *item == 7 { Err(wrong()) } else { Ok(*item) });
        assert!(matches!(failed, Err(TransferError::NotAnImage { .. })), "{failed:?}");
    }

    #[test]
    fn what_is_handed_over_is_worked_on_while_more_is_made() {
        let (done, seen) = (Mutex::new(Vec::new()), mpsc::channel());
        let work = |item: u32| {
            done.lock().unwrap().push(item);
            seen.0.send(item).unwrap();
            Ok(())
        };
        let made = for_each_streamed(3, work, |hand_over| {
            hand_over(1)?;
            // This would wait without end if no item were worked on before `produce` ends.
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
        let fails = |_: u32| Err(wrong());
        let result: Result<(), _> = for_each_streamed(2, fails, |hand_over| {
            loop {
                hand_over(1)?;
            }
        });
        assert!(matches!(result, Err(TransferError::NotAnImage { .. })), "{result:?}");
        let result: Result<(), _> = for_each_streamed(2, |_: u32| Ok(()), |_| Err(wrong()));
        assert!(matches!(result, Err(TransferError::NotAnImage { .. })), "{result:?}");
    }
}

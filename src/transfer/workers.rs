//! A bounded number of worker threads over a list, where the first error stops the rest.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};

use crate::stream::{cancel, into_value, lock, threads};

use super::TransferError;

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

/// Runs `produce`, and `work` on what it hands over, at most `concurrency` at a time, while it goes on.
///
/// Errors: the first of `work`, after which handing over fails too; else that of `produce`.
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
                first.note(work(item));
            }
        }
    };
    let result = std::thread::scope(|scope| {
        // It has to be gone before the threads are waited for, however this ends.
        let sender = sender;
        let started = (0..concurrency.max(1)).map_while(|_| threads::spawn(scope, run).ok()).count();
        let hand_over = |item| match first.failed.load(Ordering::Relaxed) {
            // The caller gets the worker's own error in place of this one.
            true => Err(TransferError::Internal { what: "an item was handed over after a worker failed" }),
            false => sender.send(item).map_err(|_| TransferError::Internal {
                what: "an item was handed over after the workers ended",
            }),
        };
        let result = produce(&hand_over);
        // The threads end after the last item; if the system gives no thread, this one does all the work.
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

//! A bounded number of threads over a list; the first error stops the rest.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::stream::{cancel, threads};

use super::TransferError;

/// Runs `work` on every item, at most `concurrency` at a time, in list order of starting.
///
/// Errors: the first one that happened; items not yet begun are then left alone.
pub fn for_each<T: Sync>(
    items: &[T],
    concurrency: usize,
    work: impl Fn(&T) -> Result<(), TransferError> + Sync,
) -> Result<(), TransferError> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let first: Mutex<Option<TransferError>> = Mutex::new(None);
    let run = || {
        while !failed.load(Ordering::Relaxed) && !cancel::is_cancelled() {
            let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
            if let Err(error) = work(item) {
                failed.store(true, Ordering::Relaxed);
                if let Ok(mut first) = first.lock() {
                    first.get_or_insert(error);
                }
            }
        }
    };
    threads::share(concurrency.clamp(1, items.len().max(1)), run);
    match first.into_inner() {
        Ok(Some(error)) => Err(error),
        _ if cancel::is_cancelled() => Err(TransferError::Stopped),
        _ => Ok(()),
    }
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
        if let Some(Ok(mut slot)) = results.get(*number).map(Mutex::lock) {
            *slot = Some(result);
        }
        Ok(())
    })?;
    Ok(results.into_iter().filter_map(|slot| slot.into_inner().ok().flatten()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

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
}

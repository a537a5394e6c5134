//! The one way to take a lock.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Waits for a lock and takes it.
///
/// A lock is poisoned when a thread panicked while it held it. Release builds abort at the panic; elsewhere the
/// panic ends the test. So the state behind a poisoned lock never decides a result, and poison is ignored.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns what a lock guards, when all other users are done.
pub fn into_value<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_taken_after_its_holder_panicked() {
        let mutex = Mutex::new(1);
        let panicked = std::thread::scope(|scope| {
            let hold = || {
                let _held = lock(&mutex);
                std::panic::resume_unwind(Box::new("on purpose"));
            };
            scope.spawn(hold).join().is_err()
        });
        assert!(panicked && mutex.is_poisoned());
        *lock(&mutex) += 1;
        assert_eq!(into_value(mutex), 2);
    }
}

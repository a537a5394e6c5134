//! Starting threads where the system may refuse: it has limits on threads and on memory for their stacks.

use std::io;
use std::thread::{Builder, Scope, ScopedJoinHandle};

/// Starts a thread of a scope.
///
/// Errors: the system's, where [`Scope::spawn`] panics; `work` is dropped then.
pub fn spawn<'scope, T, F>(
    scope: &'scope Scope<'scope, '_>,
    work: F,
) -> io::Result<ScopedJoinHandle<'scope, T>>
where
    T: Send + 'scope,
    F: FnOnce() -> T + Send + 'scope,
{
    Builder::new().spawn_scoped(scope, work).map_err(|error| {
        let kind = error.kind();
        io::Error::new(kind, format!("cannot start a thread: {error}"))
    })
}

/// Waits for a thread and returns its result; a panic of the thread continues on this one.
pub fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Runs `work` on this thread and on up to `threads - 1` more; returns each result, this thread's first.
pub fn share<T: Send>(threads: usize, work: impl Fn() -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        // If the system refuses a thread, fewer do the same work.
        let more: Vec<_> = (1..threads).map_while(|_| spawn(scope, &work).ok()).collect();
        let own = work();
        std::iter::once(own).chain(more.into_iter().map(join)).collect()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn work_is_shared_by_so_many_threads() {
        for threads in [0, 1, 5] {
            let begun = AtomicUsize::new(0);
            let mut numbers = share(threads, || begun.fetch_add(1, Ordering::Relaxed));
            numbers.sort_unstable();
            assert_eq!(numbers, (0..threads.max(1)).collect::<Vec<_>>());
        }
    }
}

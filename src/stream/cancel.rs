//! The request to stop: one process-wide flag that long loops check.
//!
//! The front sets it from its signal handler thread. Every loop that moves bytes checks it once for each block and
//! returns an error, so that the usual clean-up runs. No module below the front sets it. The flag belongs to the
//! process; `docs/decisions/0004-process-wide-state.md` says why.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

static CANCELLED: AtomicBool = AtomicBool::new(false);

/// Asks all work in this process to stop.
pub fn cancel() {
    CANCELLED.store(true, Ordering::SeqCst);
}

/// Tells whether cancelling was asked for.
#[must_use]
pub fn is_cancelled() -> bool {
    CANCELLED.load(Ordering::Relaxed)
}

/// Fails if cancelling was asked for.
///
/// Errors: [`io::ErrorKind::Interrupted`] is retried by `std`, so the kind is `Other`; ask [`is_cancelled`] to
/// tell it from a real failure.
pub fn check() -> io::Result<()> {
    if is_cancelled() { Err(io::Error::other("stopped by a signal")) } else { Ok(()) }
}

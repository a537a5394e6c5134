//! Stopping on a signal: one process-wide flag that long loops look at.
//!
//! The front sets it from its signal handler thread; everything that moves bytes in a loop checks it once per
//! block, so that it unwinds through its normal clean-up. Below the front nothing ever sets it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

static CANCELLED: AtomicBool = AtomicBool::new(false);

/// Asks all work in this process to stop.
pub fn cancel() {
    CANCELLED.store(true, Ordering::SeqCst);
}

/// Tells whether stopping was asked for.
#[must_use]
pub fn is_cancelled() -> bool {
    CANCELLED.load(Ordering::Relaxed)
}

/// Fails when stopping was asked for.
///
/// Errors: [`io::ErrorKind::Interrupted`] is retried by `std`, so the kind is `Other`; ask [`is_cancelled`] to
/// tell it from a real failure.
pub fn check() -> io::Result<()> {
    if is_cancelled() { Err(io::Error::other("stopped by a signal")) } else { Ok(()) }
}

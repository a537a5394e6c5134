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

/// Tells whether cancelling was requested.
#[must_use]
pub fn is_cancelled() -> bool {
    CANCELLED.load(Ordering::Relaxed)
}

/// Fails if cancelling was requested.
///
/// Errors: [`io::ErrorKind::Interrupted`] is retried by `std`, so the kind is `Other`; ask [`is_cancelled`] to
/// tell it from a real failure.
pub fn check() -> io::Result<()> {
    if is_cancelled() { Err(io::Error::other("stopped by a signal")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;
    use crate::model::Digest;
    use crate::stream::{BlockSink as _, DiffIdWriter, VerifyingReader};

    #[test]
    fn a_request_to_stop_ends_what_moves_bytes() {
        if !testkit::alone::is_alone("stream::cancel::tests::a_request_to_stop_ends_what_moves_bytes") {
            return;
        }
        let mut reader = VerifyingReader::new(&b"hello"[..], Digest::sha256_of(b"hello"), 5);
        assert_eq!(reader.read(&mut [0; 2]).unwrap(), 2);
        let mut writer = DiffIdWriter::default();
        writer.write_all(b"x").unwrap();
        assert!(!is_cancelled() && check().is_ok());
        cancel();
        assert!(is_cancelled());
        let error = reader.read(&mut [0; 2]).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (io::ErrorKind::Other, "stopped by a signal"));
        let room = writer.space().unwrap().len();
        writer.advance(room);
        assert_eq!(writer.space().unwrap_err().to_string(), "stopped by a signal");
    }
}

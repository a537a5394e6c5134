//! The least rate of a body: a transfer below it ends with an error.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use crate::model::limits;

/// How long a window of measuring is; only time spent waiting for the peer counts.
const WINDOW: Duration = Duration::from_secs(60);

/// Too few bytes moved in a window.
#[derive(Debug, thiserror::Error)]
#[error("only {bytes} bytes moved in {} s, at least {least} are expected", waited.as_secs())]
pub(super) struct TooSlow {
    bytes: u64,
    waited: Duration,
    least: u64,
}

/// Measures one direction of one body.
pub(super) struct Pace {
    window: Duration,
    least: u64,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// Expects [`limits::LEAST_BYTES_PER_MINUTE`].
    pub(super) fn of_body() -> Self {
        Self { window: WINDOW, least: limits::LEAST_BYTES_PER_MINUTE, waited: Duration::ZERO, bytes: 0 }
    }

    /// Expects the whole body within a time: for bodies of errors, and bodies that are dropped.
    pub(super) fn all_within(window: Duration) -> Self {
        Self { window, least: u64::MAX, waited: Duration::ZERO, bytes: 0 }
    }

    /// Takes a block and how long it was waited for.
    pub(super) fn moved(&mut self, bytes: u64, waited: Duration) -> Result<(), TooSlow> {
        self.bytes += bytes;
        self.waited += waited;
        if self.waited < self.window {
            return Ok(());
        }
        if self.bytes < self.least {
            return Err(TooSlow { bytes: self.bytes, waited: self.waited, least: self.least });
        }
        (self.bytes, self.waited) = (0, Duration::ZERO);
        Ok(())
    }
}

/// A body that fails when it comes too slowly.
pub(super) struct Paced<R> {
    pub(super) inner: R,
    pub(super) pace: Pace,
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let started = Instant::now();
        let n = self.inner.read(buffer)?;
        if n > 0 {
            self.pace.moved(n as u64, started.elapsed()).map_err(io::Error::other)?;
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_below_the_least_rate_fails_after_a_window() {
        let second = Duration::from_secs(1);
        let mut pace = Pace::of_body();
        for _ in 0..59 {
            pace.moved(2, second).unwrap();
        }
        let error = pace.moved(2, second).unwrap_err();
        assert_eq!(error.to_string(), "only 120 bytes moved in 60 s, at least 65536 are expected");
        let mut pace = Pace::of_body();
        for _ in 0..600 {
            // A slow line, 2 KiB in a second, and a pause within the limit on silence.
            pace.moved(2048, second).unwrap();
        }
    }

    #[test]
    fn time_that_the_reader_of_a_body_takes_does_not_count() {
        let pace = Pace { window: Duration::from_millis(20), ..Pace::all_within(Duration::ZERO) };
        let mut body = Paced { inner: &[7; 3][..], pace };
        let mut byte = [0];
        while body.read(&mut byte).unwrap() == 1 {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_body_that_only_explains_has_a_time_in_all() {
        let mut pace = Pace::all_within(Duration::from_secs(5));
        pace.moved(1 << 40, Duration::from_secs(4)).unwrap();
        assert!(pace.moved(1 << 40, Duration::from_secs(1)).is_err());
    }
}

//! Counts the bytes of one connection, to find clients that are too slow. Every wait for a client is bounded.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::model::limits;
use crate::stream::lock;

use super::timing::SPEED_FREE;
use super::tls::Session;

/// What a connection is doing.
#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    /// Waiting for the next request.
    Idle(Instant),
    /// In a request since then.
    Busy(Instant),
}

/// The bytes that a connection has moved in its current request; other threads read it.
#[derive(Debug)]
pub(super) struct Traffic {
    state: Mutex<State>,
    moved: AtomicU64,
}

impl Traffic {
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(State::Idle(Instant::now())), moved: AtomicU64::new(0) }
    }

    /// Marks the start of a request, or of a new part of it: the speed is measured from here.
    pub(super) fn begin(&self) {
        self.moved.store(0, Ordering::Relaxed);
        *lock(&self.state) = State::Busy(Instant::now());
    }

    /// Marks the end of a request.
    pub(super) fn rest(&self) {
        *lock(&self.state) = State::Idle(Instant::now());
    }

    pub(super) fn state(&self) -> State {
        *lock(&self.state)
    }

    /// Returns the speed of the current request, bytes per second; `None` before it is `grace` old.
    pub(super) fn speed(&self, grace: Duration) -> Option<u64> {
        match self.state() {
            State::Busy(since) if since.elapsed() > grace => {
                Some(self.moved.load(Ordering::Relaxed) / since.elapsed().as_secs().max(1))
            }
            State::Busy(_) | State::Idle(_) => None,
        }
    }

    /// Counts bytes, and fails if the request has moved too few for its time.
    fn count(&self, bytes: usize) -> io::Result<()> {
        let moved = self.moved.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        let State::Busy(since) = self.state() else { return Ok(()) };
        let elapsed = since.elapsed();
        let expected = limits::LEAST_BYTES_PER_MINUTE * (elapsed.as_secs() / 60);
        if elapsed > SPEED_FREE && moved < expected {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the client is too slow"));
        }
        Ok(())
    }
}

/// A connection whose bytes are counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    pub(super) stream: &'a TcpStream,
    /// The TLS session, if there is one.
    pub(super) tls: Option<&'a Session>,
    pub(super) traffic: &'a Traffic,
}

impl Read for Line<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut stream = self.stream;
        let count = match self.tls {
            Some(tls) => tls.read(stream, buffer)?,
            None => stream.read(buffer)?,
        };
        self.traffic.count(count)?;
        Ok(count)
    }
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut stream = self.stream;
        let count = match self.tls {
            Some(tls) => tls.write(stream, bytes)?,
            None => stream.write(bytes)?,
        };
        self.traffic.count(count)?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_below_the_least_speed_is_ended_and_a_young_one_is_not() {
        let traffic = Traffic::new();
        assert!(traffic.count(0).is_ok(), "no request, no speed");
        traffic.begin();
        assert!(traffic.count(1).is_ok());
        assert_eq!(traffic.speed(Duration::from_secs(5)), None);
        let past = Instant::now().checked_sub(Duration::from_secs(121)).unwrap();
        *lock(&traffic.state) = State::Busy(past);
        assert_eq!(traffic.speed(Duration::from_secs(5)), Some(0));
        let least = usize::try_from(2 * limits::LEAST_BYTES_PER_MINUTE).unwrap();
        let error = traffic.count(least - 2).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(traffic.count(1).is_ok(), "the least that is expected");
        traffic.rest();
        assert_eq!(traffic.speed(Duration::ZERO), None);
    }
}

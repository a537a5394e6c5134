//! One body over as many connections as it takes: where a connection breaks, the next one goes on with a `Range` request.
//!
//! This counts bytes, connections and attempts. What is asked for, which failures may go away and who is told of them is
//! the [`Origin`]'s: a blob of a registry, an object of a bucket, a part of a file on a web server.
//! Source: RFC 9110, 14 "Range Requests".

use std::error::Error;
use std::io::{self, Read};

use super::retry::{RetryBudget, Transient};

/// Progress after which a broken connection counts as the first one again, bytes.
const PROGRESS: u64 = 1024 * 1024;
/// Most connections for one body after which progress counts; stops a peer that breaks each of them.
const CONNECTIONS: u32 = 1000;

/// What one connection brings.
pub(super) type Body = Box<dyn Read + Send>;

/// Where the bytes of a body come from.
pub(super) trait Origin {
    /// Why no more bytes come.
    type Error: Error + Send + Sync + 'static;

    /// Asks for the bytes from a position on; `None` if the peer says that there are no more.
    fn connect(&mut self, position: u64) -> Result<Option<Body>, Self::Error>;

    /// Returns the position after the last byte; `None` if the peer did not say, and any end is the right one.
    fn end(&self) -> Option<u64>;

    /// Tells a failure that may go away from one that is final.
    fn sort(&self, error: io::Error) -> Result<Transient, Self::Error>;

    /// Waits before the next connection.
    ///
    /// Errors: the policy allows no further attempt.
    fn wait(&self, tries: &mut RetryBudget, failure: Transient) -> Result<(), Self::Error>;
}

/// The bytes of an origin.
///
/// Errors: those of the origin, inside an [`io::Error`]; later reads give its text, and send no further request.
pub(super) struct Resuming<O> {
    origin: O,
    /// `None` before the first connection and after one that broke.
    body: Option<Body>,
    position: u64,
    /// The position at the last break that began the count of attempts anew.
    mark: u64,
    connections: u32,
    tries: RetryBudget,
    ended: Option<Result<(), String>>,
}

impl<O: Origin> Resuming<O> {
    /// Reads from a position on; the first read connects.
    pub(super) fn new(origin: O, position: u64) -> Self {
        let (body, connections, tries, ended) = (None, 0, RetryBudget::new(), None);
        Self { origin, body, position, mark: position, connections, tries, ended }
    }

    /// Goes on with a connection that was made.
    pub(super) fn begun(origin: O, position: u64, body: Body) -> Self {
        Self { body: Some(body), connections: 1, ..Self::new(origin, position) }
    }

    /// Reads some bytes of a connection; `None` if it broke, and another one may be made.
    fn read_some(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, O::Error> {
        let body = match &mut self.body {
            Some(body) => body,
            None => {
                self.connections += 1;
                let Some(body) = self.origin.connect(self.position)? else { return Ok(Some(0)) };
                self.body.insert(body)
            }
        };
        let end = self.origin.end();
        let is_whole = end.is_none_or(|end| self.position >= end);
        let failure = match (body.read(buffer), end) {
            (Ok(count @ 1..), _) => {
                self.position += count as u64;
                return Ok(Some(count));
            }
            (Ok(0), _) if is_whole => return Ok(Some(0)),
            (Err(_), Some(_)) if is_whole => return Ok(Some(0)),
            (Ok(_), end) => {
                let end = end.unwrap_or_default();
                Transient::new(format!("the body ended after {} of {end} bytes", self.position))
            }
            (Err(error), _) => self.origin.sort(error)?,
        };
        self.body = None;
        if self.position - self.mark >= PROGRESS && self.connections < CONNECTIONS {
            self.tries.progressed();
            self.mark = self.position;
        }
        self.origin.wait(&mut self.tries, failure)?;
        Ok(None)
    }
}

impl<O: Origin> Read for Resuming<O> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        match &self.ended {
            Some(Ok(())) => return Ok(0),
            Some(Err(text)) => return Err(io::Error::other(text.clone())),
            None => {}
        }
        loop {
            match self.read_some(buffer) {
                Ok(None) => {}
                Ok(Some(count)) => {
                    self.ended = (count == 0).then_some(Ok(()));
                    return Ok(count);
                }
                Err(error) => {
                    self.ended = Some(Err(error.to_string()));
                    return Err(io::Error::other(error));
                }
            }
        }
    }
}

/// Passes over the first bytes of a body: a peer that does not support ranges sends the whole.
pub(super) fn skipping(mut body: impl Read + Send + 'static, count: u64) -> Body {
    match io::copy(&mut body.by_ref().take(count), &mut io::sink()) {
        Ok(passed) if passed == count => Box::new(body),
        Ok(_) => Box::new(Broken(io::ErrorKind::UnexpectedEof.into())),
        Err(error) => Box::new(Broken(error)),
    }
}

/// A connection that broke before the wanted bytes.
struct Broken(io::Error);

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(std::mem::replace(&mut self.0, io::ErrorKind::UnexpectedEof.into()))
    }
}

/// What `Content-Range` says of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ContentRange {
    /// The position of its first byte.
    pub(super) first: u64,
    /// The size of the whole, if it is known.
    pub(super) size: Option<u64>,
}

impl ContentRange {
    /// Reads `bytes 5-9/10`, `bytes 5-9/*` and `bytes 5-9`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim().strip_prefix("bytes")?.trim_start();
        let (range, size) = text.split_once('/').unwrap_or((text, "*"));
        let (first, last) = range.split_once('-')?;
        let (first, last) = (first.parse().ok()?, last.parse::<u64>().ok()?);
        let size = if size == "*" { None } else { Some(size.parse().ok()?) };
        (first <= last && size.is_none_or(|size| last < size)).then_some(Self { first, size })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::events::NoEvents;
    use super::super::retry::{GivenUp, RetryPolicy};
    use super::*;

    /// A peer whose connections bring what a test says: bytes, and how each of them ends.
    struct Scripted {
        connections: VecDeque<Connection>,
        asked: Vec<u64>,
        end: Option<u64>,
        retries: u32,
    }

    #[derive(Debug, thiserror::Error)]
    #[error("after {attempts} attempts: {cause}")]
    struct Ended {
        attempts: u32,
        cause: String,
    }

    impl Origin for &mut Scripted {
        type Error = Ended;

        fn connect(&mut self, position: u64) -> Result<Option<Body>, Ended> {
            self.asked.push(position);
            let Some((bytes, error)) = self.connections.pop_front().expect("no more connections are made")
            else {
                return Ok(None);
            };
            let body = io::Cursor::new(bytes);
            Ok(Some(match error {
                None => Box::new(body),
                Some(kind) => Box::new(body.chain(Broken(kind.into()))),
            }))
        }

        fn end(&self) -> Option<u64> {
            self.end
        }

        fn sort(&self, error: io::Error) -> Result<Transient, Ended> {
            match error.kind() {
                io::ErrorKind::PermissionDenied => Err(Ended { attempts: 0, cause: "refused".to_owned() }),
                _ => Ok(Transient::new("it broke")),
            }
        }

        fn wait(&self, tries: &mut RetryBudget, failure: Transient) -> Result<(), Ended> {
            wait(self.retries, tries, failure)
        }
    }

    fn wait(retries: u32, tries: &mut RetryBudget, failure: Transient) -> Result<(), Ended> {
        let policy = RetryPolicy { retries, delay: Duration::from_micros(1), events: Arc::new(NoEvents) };
        tries.failed_at(&policy, None, "host", "read", failure).map_err(|given_up| match given_up {
            GivenUp::Exhausted { attempts, cause, .. } => Ended { attempts, cause },
            GivenUp::Cancelled => unreachable!("no test cancels"),
        })
    }

    type Connection = Option<(Vec<u8>, Option<io::ErrorKind>)>;

    fn broken(bytes: &[u8]) -> Connection {
        Some((bytes.to_vec(), Some(io::ErrorKind::ConnectionReset)))
    }

    /// Reads everything; returns it or the error, and the positions that were asked for.
    fn read(connections: Vec<Connection>, end: Option<u64>) -> (Result<Vec<u8>, String>, Vec<u64>) {
        let mut peer = Scripted { connections: connections.into(), asked: Vec::new(), end, retries: 2 };
        let mut bytes = Vec::new();
        let mut reader = Resuming::new(&mut peer, 0);
        let result = reader.read_to_end(&mut bytes).map(|_| bytes).map_err(|error| error.to_string());
        match &result {
            Ok(_) => assert_eq!(reader.read(&mut [0]).unwrap(), 0, "the end stays the end"),
            Err(text) => {
                assert_eq!(reader.read(&mut [0]).unwrap_err().to_string(), *text, "without a request");
            }
        }
        (result, peer.asked)
    }

    #[test]
    fn a_break_is_continued_at_its_byte_and_attempts_are_counted() {
        let whole = || Some((b"cdef".to_vec(), None));
        let early = || Some((b"ab".to_vec(), None));
        let lost = |cause: &str| Err(format!("after 3 attempts: {cause}"));
        for (connections, end, expected, asked) in [
            (vec![broken(b"ab"), whole()], Some(6), Ok(b"abcdef".to_vec()), vec![0, 2]),
            (vec![broken(b"ab"), whole()], None, Ok(b"abcdef".to_vec()), vec![0, 2]),
            // A body that ends early is a break only if its end is known.
            (vec![early(), whole()], Some(6), Ok(b"abcdef".to_vec()), vec![0, 2]),
            (vec![early()], None, Ok(b"ab".to_vec()), vec![0]),
            // After the end nothing is requested; the caller refuses bytes there.
            (vec![broken(b"abcdef")], Some(6), Ok(b"abcdef".to_vec()), vec![0]),
            (vec![Some((b"abcdef".to_vec(), None))], Some(5), Ok(b"abcdef".to_vec()), vec![0]),
            (vec![broken(b"ab"), None], Some(6), Ok(b"ab".to_vec()), vec![0, 2]),
            // Few bytes on each connection are no progress.
            (vec![broken(b"a"), broken(b"b"), broken(b"c")], Some(6), lost("it broke"), vec![0, 1, 2]),
            (
                vec![broken(b"a"), early(), early()],
                Some(6),
                lost("the body ended after 5 of 6 bytes"),
                vec![0, 1, 3],
            ),
            (
                vec![broken(b"a"), Some((Vec::new(), Some(io::ErrorKind::PermissionDenied)))],
                Some(6),
                Err("after 0 attempts: refused".to_owned()),
                vec![0, 1],
            ),
        ] {
            assert_eq!(read(connections, end), (expected, asked));
        }
    }

    #[test]
    fn a_mebibyte_since_the_last_break_is_progress_and_less_is_none() {
        let mebibyte = |_| broken(&vec![7; 1 << 20]);
        let (result, asked) = read((0..6).map(mebibyte).collect(), Some(6 << 20));
        assert_eq!((result.unwrap().len(), asked.len()), (6 << 20, 6));
        let (result, asked) = read((0..3).map(|_| broken(&vec![7; 300_000])).collect(), Some(6 << 20));
        assert_eq!((result, asked.len()), (Err("after 3 attempts: it broke".to_owned()), 3));
    }

    /// A peer that breaks each connection after a MiB, for ever.
    struct Endless(u32);

    impl Origin for &mut Endless {
        type Error = Ended;

        fn connect(&mut self, _: u64) -> Result<Option<Body>, Ended> {
            self.0 += 1;
            let reset = Broken(io::ErrorKind::ConnectionReset.into());
            Ok(Some(Box::new(io::repeat(7).take(PROGRESS).chain(reset))))
        }

        fn end(&self) -> Option<u64> {
            Some(u64::MAX)
        }

        fn sort(&self, _: io::Error) -> Result<Transient, Ended> {
            Ok(Transient::new("it broke"))
        }

        fn wait(&self, tries: &mut RetryBudget, failure: Transient) -> Result<(), Ended> {
            wait(2, tries, failure)
        }
    }

    #[test]
    fn progress_counts_for_a_thousand_connections() {
        let mut peer = Endless(0);
        let error = io::copy(&mut Resuming::new(&mut peer, 0), &mut io::sink()).unwrap_err().to_string();
        assert_eq!((error.as_str(), peer.0), ("after 3 attempts: it broke", 1001));
    }

    #[test]
    fn a_connection_that_was_made_is_the_first_one() {
        let connections = vec![Some((b"ef".to_vec(), None))].into();
        let mut peer = Scripted { connections, asked: Vec::new(), end: Some(6), retries: 2 };
        let begun: Body = Box::new(&b"cd"[..]);
        let mut text = String::new();
        let mut reader = Resuming::begun(&mut peer, 2, begun);
        assert_eq!(reader.read(&mut []).unwrap(), 0, "no room is no end");
        reader.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), peer.asked), ("cdef", vec![4]));
    }

    #[test]
    fn bytes_in_front_are_passed_over_and_a_break_there_is_one() {
        let read = |body: Body| {
            let mut text = String::new();
            let mut body = body;
            body.read_to_string(&mut text).map(|_| text).map_err(|error| error.kind())
        };
        assert_eq!(read(skipping(&b"abcdef"[..], 4)), Ok("ef".to_owned()));
        assert_eq!(read(skipping(&b"abcdef"[..], 6)), Ok(String::new()));
        assert_eq!(read(skipping(&b"abcdef"[..], 7)), Err(io::ErrorKind::UnexpectedEof));
        let reset = (&b"ab"[..]).chain(Broken(io::ErrorKind::ConnectionReset.into()));
        assert_eq!(read(skipping(reset, 4)), Err(io::ErrorKind::ConnectionReset));
    }

    #[test]
    fn the_range_of_a_response_is_read() {
        let range = |first, size| Some(ContentRange { first, size });
        for (text, expected) in [
            ("bytes 5-9/10", range(5, Some(10))),
            (" bytes 0-0/1 ", range(0, Some(1))),
            ("bytes 5-9/*", range(5, None)),
            ("bytes 5-9", range(5, None)),
            ("bytes 5-9/9", None),
            ("bytes 5-9/", None),
            ("bytes 9-5/10", None),
            ("bytes 5-/10", None),
            ("bytes -9/10", None),
            ("bytes */10", None),
            ("bytes 5/10", None),
            ("5-9/10", None),
            ("items 5-9/10", None),
            ("", None),
        ] {
            assert_eq!(ContentRange::parse(text), expected, "{text}");
        }
    }
}

//! A reader of a request's body that ends where the body ends: after counted bytes, or the last chunk.
//!
//! Trailers are read and dropped. Source: RFC 9112 6 and 7.1.

use std::io::{self, BufRead, Read};

use crate::model::limits;
use crate::stream::fitting;

use super::head::BodyLength;

/// Longest line in front of a chunk, bytes; extensions are allowed, and no client sends any.
const CHUNK_LINE_BYTES: u64 = 1024;

/// A body that is read from a connection.
#[derive(Debug)]
pub(super) struct MessageBody<R> {
    inner: R,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Bytes that are left.
    Sized(u64),
    /// Bytes of the current chunk that are left.
    Chunk(u64),
    /// The next chunk's line follows; whether a line break comes before it.
    Between(bool),
    Done,
    /// The body could not be read to its end, so no other request can follow.
    Broken,
}

impl<R: BufRead> MessageBody<R> {
    pub(super) fn new(inner: R, length: BodyLength) -> Self {
        let state = match length {
            BodyLength::Sized(0) => State::Done,
            BodyLength::Sized(length) => State::Sized(length),
            BodyLength::Chunked => State::Between(false),
        };
        Self { inner, state }
    }

    /// Tells whether the whole body was read, so that the next request begins here.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Reads and drops at most `most` bytes; returns whether the body has ended.
    pub(super) fn drain(&mut self, most: u64) -> io::Result<bool> {
        if self.state == State::Broken {
            return Ok(false);
        }
        io::copy(&mut self.take(most), &mut io::sink())?;
        // The last chunk is empty, and only another read finds it.
        if matches!(self.state, State::Between(_)) {
            self.next_chunk()?;
        }
        Ok(self.is_done())
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        self.inner.by_ref().take(CHUNK_LINE_BYTES).read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            return Err(match line.len() as u64 {
                CHUNK_LINE_BYTES => invalid("a line in front of a chunk is too long"),
                _ => io::ErrorKind::UnexpectedEof.into(),
            });
        }
        Ok(line)
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        if self.state == State::Between(true) && self.line()? != b"\r\n" {
            return Err(invalid("a chunk does not end with a line break"));
        }
        let line = self.line()?;
        let Ok(httparse::Status::Complete((_, size))) = httparse::parse_chunk_size(&line) else {
            return Err(invalid("the length of a chunk is not valid"));
        };
        if size > limits::BLOB_BYTES {
            return Err(invalid("a chunk is too large"));
        }
        if size > 0 {
            self.state = State::Chunk(size);
            return Ok(());
        }
        for _ in 0..=limits::HEAD_FIELDS {
            if self.line()? == b"\r\n" {
                self.state = State::Done;
                return Ok(());
            }
        }
        Err(invalid("too many fields after the last chunk"))
    }
}

impl<R: BufRead> Read for MessageBody<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let read = self.read_some(buffer);
        if read.is_err() {
            self.state = State::Broken;
        }
        read
    }
}

impl<R: BufRead> MessageBody<R> {
    fn read_some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if matches!(self.state, State::Between(_)) {
            self.next_chunk()?;
        }
        let left = match self.state {
            State::Sized(left) | State::Chunk(left) => left,
            State::Between(_) | State::Done => return Ok(0),
            State::Broken => return Err(invalid("the body is broken")),
        };
        let most = fitting(left, buffer.len());
        let count = self.inner.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the request ends inside its body"));
        }
        let left = left - count as u64;
        self.state = match self.state {
            State::Sized(_) if left == 0 => State::Done,
            State::Sized(_) => State::Sized(left),
            _ if left == 0 => State::Between(true),
            _ => State::Chunk(left),
        };
        Ok(count)
    }
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(length: BodyLength, bytes: &[u8]) -> Result<(String, usize), String> {
        let mut rest = bytes;
        let mut body = MessageBody::new(&mut rest, length);
        let mut text = String::new();
        body.read_to_string(&mut text).map_err(|error| error.to_string())?;
        assert!(body.is_done());
        Ok((text, rest.len()))
    }

    #[test]
    fn a_body_ends_where_its_length_says() {
        assert_eq!(read(BodyLength::Sized(3), b"abcGET"), Ok(("abc".into(), 3)));
        assert_eq!(read(BodyLength::Sized(0), b"GET"), Ok((String::new(), 3)));
        assert_eq!(read(BodyLength::Sized(4), b"abc").unwrap_err(), "the request ends inside its body");
    }

    #[test]
    fn chunks_are_put_together_and_trailers_dropped() {
        let chunked = |text: &str| read(BodyLength::Chunked, text.as_bytes());
        assert_eq!(chunked("3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\nGET"), Ok(("abcde".into(), 3)));
        assert_eq!(chunked("0\r\nA: b\r\n\r\n"), Ok((String::new(), 0)));
        for (text, expected) in [
            ("", "unexpected end of file"),
            ("3\r\nab", "the request ends inside its body"),
            ("3\r\nabcX\r\n", "a chunk does not end with a line break"),
            ("x\r\n", "the length of a chunk is not valid"),
            ("-1\r\n", "the length of a chunk is not valid"),
            ("fffffffffffffffff\r\n", "the length of a chunk is not valid"),
            ("ffffffffffffff\r\n", "a chunk is too large"),
            ("3\r\nabc\r\n0\r\n", "unexpected end of file"),
        ] {
            assert_eq!(chunked(text).unwrap_err(), expected, "{text:?}");
        }
        assert_eq!(chunked(&"0".repeat(1024)).unwrap_err(), "a line in front of a chunk is too long");
        let fields = "A: b\r\n".repeat(limits::HEAD_FIELDS + 1);
        assert_eq!(
            chunked(&format!("0\r\n{fields}\r\n")).unwrap_err(),
            "too many fields after the last chunk"
        );
    }

    #[test]
    fn the_rest_of_a_body_is_dropped_up_to_a_bound() {
        let drain = |text: &str, length, most| {
            let mut rest = text.as_bytes();
            MessageBody::new(&mut rest, length).drain(most).unwrap()
        };
        assert!(drain("abc", BodyLength::Sized(3), 3));
        assert!(!drain("abc", BodyLength::Sized(3), 2));
        let mut broken = MessageBody::new(&b"x\r\n3\r\nabc"[..], BodyLength::Chunked);
        assert!(broken.read(&mut [0; 9]).is_err());
        assert!(!broken.drain(9).unwrap(), "what follows is not looked at");
        assert!(drain("3\r\nabc\r\n0\r\n\r\n", BodyLength::Chunked, 3));
    }
}

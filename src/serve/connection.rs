//! One connection: reads one request after another, and sends each response before it reads the next.

use crate::model::Method;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

use crate::stream::Mismatch;

use super::blob;
use super::head::{self, BodyLength, Head, HeadError};
use super::message_body::MessageBody;
use super::range::Wanted;
use super::reading;
use super::response::{self, Code, Response};
use super::service::{BlobReply, Reply, Service};
use super::timing::{self, IDLE, LINGER};
use super::tls::Tls;
use super::traffic::{Line, Traffic};

/// Most bytes that are read of a refused body, so that the client reads the response; then the connection ends.
const DRAINED: u64 = 1024 * 1024;
/// Most bytes that a client may go on sending after the response, for at most [`LINGER`].
const LINGERED: u64 = 64 * 1024 * 1024;
/// Bytes read from the connection at a time.
const BUFFER: usize = 64 * 1024;

/// One request and its result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The method; empty if the request was not understood.
    pub method: &'static str,
    /// Path and query as the client sent them.
    pub target: String,
    /// The status of the response.
    pub status: u16,
    /// Bytes of the response's body that were sent.
    pub sent: u64,
    /// Why the request was not understood, or the response not sent to its end.
    pub problem: Option<String>,
    /// What is wrong with the stored bytes, if something is.
    pub damage: Option<String>,
}

/// Answers the requests of one connection until it ends.
///
/// `done` gets each request when it is over. Errors of the connection end it and are not returned, because clients may
/// disconnect at any time.
pub(super) fn run(
    stream: &TcpStream,
    tls: Option<&Tls>,
    traffic: &Traffic,
    service: &Service,
    done: &dyn Fn(&Access),
) {
    let prepared = stream
        .set_nodelay(true)
        .and_then(|()| stream.set_read_timeout(Some(IDLE)))
        .and_then(|()| stream.set_write_timeout(Some(IDLE)));
    if prepared.is_err() {
        return;
    }
    let Ok(session) = tls.map(Tls::begin).transpose() else { return };
    let line = Line { stream, tls: session.as_ref(), traffic };
    answer_all(line, service, done);
    if let Some(session) = &session {
        session.end(stream);
    }
}

fn answer_all(line: Line<'_>, service: &Service, done: &dyn Fn(&Access)) {
    let Line { stream, traffic, .. } = line;
    let mut reader = BufReader::with_capacity(BUFFER, line);
    loop {
        traffic.rest();
        let head = match read_head(&mut reader, stream, traffic) {
            Ok(Some(Ok(head))) => head,
            Ok(Some(Err(error))) => {
                let status = refuse(line, error).unwrap_or_default();
                done(&Access { status, problem: Some(error.to_string()), ..Access::default() });
                return;
            }
            Ok(None) | Err(_) => return,
        };
        let mut exchange = Exchange { line, head: &head, access: Access::default() };
        let goes_on = exchange.run(&mut reader, service, traffic);
        done(&exchange.access);
        match goes_on {
            Ok(Next::Request) => {}
            Ok(Next::Linger) => return linger(&mut reader, stream),
            Ok(Next::End) | Err(_) => return,
        }
    }
}

/// Reads a head; `None` if the connection ends before one begins.
fn read_head(
    reader: &mut BufReader<Line<'_>>,
    stream: &TcpStream,
    traffic: &Traffic,
) -> io::Result<Option<Result<Head, HeadError>>> {
    let mut bytes = Vec::new();
    let mut deadline: Option<Instant> = None;
    let read = loop {
        let count = {
            let new = reader.fill_buf()?;
            if new.is_empty() {
                break Ok(None);
            }
            bytes.extend_from_slice(new);
            new.len()
        };
        let limit = *deadline.get_or_insert_with(|| {
            traffic.begin();
            Instant::now() + timing::HEAD
        });
        match head::parse(&bytes) {
            Ok(Some((head, end))) => {
                // The bytes after the head stay in the buffer, for the body.
                let before = bytes.len() - count;
                reader.consume(end.saturating_sub(before));
                break Ok(Some(Ok(head)));
            }
            Ok(None) => reader.consume(count),
            Err(error) => break Ok(Some(Err(error))),
        }
        match limit.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            Some(left) => stream.set_read_timeout(Some(left))?,
            None => break Err(io::ErrorKind::TimedOut.into()),
        }
    };
    if deadline.is_some() {
        stream.set_read_timeout(Some(IDLE))?;
    }
    read
}

/// Sends the response for a request that was not understood; the connection ends then.
fn refuse(mut line: Line<'_>, error: HeadError) -> io::Result<u16> {
    let status = match error {
        HeadError::TooLarge => 431,
        HeadError::Syntax(_) => 400,
        HeadError::Method => 405,
        HeadError::Coding => 501,
    };
    let response = Response::error(status, Code::Unsupported, &error.to_string());
    let mut message = response::head(status, &response.fields, response.body.len() as u64, false);
    message.extend_from_slice(&response.body);
    line.write_all(&message)?;
    Ok(status)
}

/// Reads and drops the rest of a refused body, so that the client reads the response.
fn linger(reader: &mut BufReader<Line<'_>>, stream: &TcpStream) {
    let deadline = Instant::now() + LINGER;
    let mut read = 0;
    let prepared = stream.shutdown(Shutdown::Write).and_then(|()| stream.set_read_timeout(Some(LINGER)));
    while prepared.is_ok() && read < LINGERED && Instant::now() < deadline {
        let Ok(count @ 1..) = reader.fill_buf().map(<[u8]>::len) else { return };
        reader.consume(count);
        read += count as u64;
    }
}

/// What the connection does after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Read the next request.
    Request,
    /// Drop the rest of the body, then end.
    Linger,
    /// End.
    End,
}

/// A request and its response.
struct Exchange<'a> {
    line: Line<'a>,
    head: &'a Head,
    access: Access,
}

impl Exchange<'_> {
    /// Answers one request.
    fn run(
        &mut self,
        reader: &mut BufReader<Line<'_>>,
        service: &Service,
        traffic: &Traffic,
    ) -> io::Result<Next> {
        self.access.method = self.head.method.name();
        self.access.target = match self.head.query.as_str() {
            "" => self.head.path.clone(),
            query => format!("{}?{query}", self.head.path),
        };
        let waiting = self.head.expects_continue && self.head.length != BodyLength::Sized(0);
        let line = waiting.then_some(self.line);
        let mut body = Continuing { body: MessageBody::new(reader, self.head.length), line };
        let reply = service.reply(self.head, &mut body);
        // A client that still waits for `100 Continue` got the final response instead, and sends no body.
        let all_read = body.line.is_none() && body.body.drain(DRAINED).unwrap_or(false);
        let keep_alive = self.head.keep_alive && all_read;
        match reply {
            Reply::Response(response) => self.send(&response, keep_alive)?,
            Reply::Blob(blob) => self.send_blob(service, &blob, keep_alive, traffic)?,
        }
        Ok(match (keep_alive, all_read) {
            (true, _) => Next::Request,
            (false, true) => Next::End,
            (false, false) => Next::Linger,
        })
    }

    fn send(&mut self, response: &Response, keep_alive: bool) -> io::Result<()> {
        self.access.status = response.status;
        let mut message =
            response::head(response.status, &response.fields, response.body.len() as u64, keep_alive);
        if self.head.method != Method::Head {
            message.extend_from_slice(&response.body);
            self.access.sent = response.body.len() as u64;
        }
        let mut line = self.line;
        line.write_all(&message)
    }

    /// Sends a blob or a part of it.
    ///
    /// Errors: those of the connection; a damaged blob, whose last bytes are not sent, so that the connection has to
    /// end.
    fn send_blob(
        &mut self,
        service: &Service,
        blob: &BlobReply<'_>,
        keep_alive: bool,
        traffic: &Traffic,
    ) -> io::Result<()> {
        let size = blob.held.size();
        let (status, first, count) = match blob.wanted {
            Wanted::Whole => (200, 0, size),
            Wanted::Part { first, last } => (206, first, last - first + 1),
            Wanted::Unsatisfiable => {
                let response =
                    Response::error(416, Code::Unsupported, "the range begins after the end of the blob");
                return self.send(&response.with("Content-Range", format!("bytes */{size}")), keep_alive);
            }
        };
        let is_head = self.head.method == Method::Head;
        if status == 206 && !is_head {
            let check = || {
                let whole = blob.held.reader(0).map_err(io::Error::other)?;
                blob::send_verified(whole, size, &blob.digest, &mut io::sink())
            };
            if let Err(error) = service.check(blob, false, check) {
                let text = self.explain(service, blob, &error);
                return self.send(&Response::error(500, Code::Unknown, &text), keep_alive);
            }
            // The time that the server spent on reading does not count for the client's speed.
            traffic.begin();
        }
        // A blob of an image store may be gone, which has to be known before the response begins.
        let opened = if is_head { Ok(None) } else { blob.held.reader(first).map(Some) };
        let reader = match opened {
            Ok(reader) => reader,
            Err(error) => {
                self.access.problem = Some(error.to_string());
                return self.send(&reading::unreadable(&error), keep_alive);
            }
        };
        self.access.status = status;
        let mut fields = blob.fields.clone();
        if status == 206 {
            fields.push(("Content-Range", format!("bytes {first}-{}/{size}", first + count - 1)));
        }
        let mut line = self.line;
        line.write_all(&response::head(status, &fields, count, keep_alive))?;
        let Some(reader) = reader else { return Ok(()) };
        let mut out = Counted { inner: line, count: 0 };
        let sent = match status {
            200 => send_whole(service, blob, reader, &mut out),
            _ => blob::send(reader.take(count), count, &mut out),
        };
        self.access.sent = out.count;
        sent.inspect_err(|error| drop(self.explain(service, blob, error)))
    }

    /// Records whether the blob or the connection failed, and returns the text.
    fn explain(&mut self, service: &Service, blob: &BlobReply<'_>, error: &io::Error) -> String {
        match Mismatch::in_error(error) {
            Some(mismatch) => {
                let path = service.images.path_of(&blob.digest);
                let text = format!("`{}` is damaged: {mismatch}", path.display());
                self.access.damage.insert(text).clone()
            }
            None => self.access.problem.insert(error.to_string()).clone(),
        }
    }
}

/// Sends a whole blob; verifies it, unless it was verified before and its file has not changed.
fn send_whole(
    service: &Service,
    blob: &BlobReply<'_>,
    reader: impl Read,
    out: &mut impl Write,
) -> io::Result<()> {
    let (mut reader, size) = (Some(reader), blob.held.size());
    service.check(blob, blob.held.is_remote(), || match reader.take() {
        Some(reader) => blob::send_verified(reader, size, &blob.digest, out),
        None => Ok(()),
    })?;
    match reader {
        Some(reader) => blob::send(reader, size, out),
        None => Ok(()),
    }
}

/// A body that the client sends only after `100 Continue`.
struct Continuing<'a, R> {
    body: MessageBody<R>,
    /// Where `100 Continue` is written; `None` if the client does not expect it, or got it.
    line: Option<Line<'a>>,
}

impl<R: BufRead> Read for Continuing<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(mut line) = self.line.take() {
            line.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        self.body.read(buffer)
    }
}

/// A writer that counts its bytes.
struct Counted<W> {
    inner: W,
    count: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.count += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

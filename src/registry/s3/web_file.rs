//! A file of a web server that is read in parts, for example a tar at a presigned URL.
//!
//! Only GET is sent, because a presigned URL is for one method. The URL is the only credential, and is sent to no host
//! that a redirect names. Headers of a tar and small files beside each other are read with few requests, because each
//! request takes some bytes more than were requested.
//! Source: RFC 9110, 13.1.1 "If-Match", 14 "Range Requests".

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Instant;

use crate::model::{Method, limits};
use crate::stream::{ReadAt, cancel};

use super::super::events::RetryRecord;
use super::super::http::Response;
use super::super::reach::HostSource;
use super::super::retry;
use super::super::url::Url;
use super::blocks::{Block, Blocks, SMALLEST};
use super::error::BucketError;
use super::sending::{BucketCall, ObjectResponse, To};
use super::{Bucket, BucketOptions};

/// Connections that break with few bytes in between before reading is given up.
const BREAKS: u32 = 5;
/// Bytes after which a broken connection counts as the first one again.
const PROGRESS: u64 = 1024 * 1024;
/// Most connections for one part; stops a server that sends a few bytes on each.
const CONNECTIONS: u32 = 1000;

/// A file of a web server.
#[derive(Debug)]
pub struct WebFile {
    server: Bucket,
    url: Url,
    label: String,
    facts: Facts,
    blocks: Blocks,
}

/// What tells whether a file is still the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Facts {
    size: u64,
    /// The validator, if it is a strong one.
    etag: Option<String>,
    /// Without a strong validator: the time of the last change, as the server writes it.
    modified: Option<String>,
}

impl WebFile {
    /// Opens the file with a request for its first bytes.
    ///
    /// Errors: [`BucketError::NoParts`] if the server sends the whole file only; a URL that cannot be used.
    pub fn open(url: &str, options: BucketOptions) -> Result<Self, BucketError> {
        let server = Bucket::of_web(url, options)?;
        let url = Url::parse(url)
            .map_err(|problem| BucketError::Configuration { problem: format!("the URL {problem}") })?;
        let label = label_of(&url);
        let mut file = Self { server, url, label, facts: Facts::default(), blocks: Blocks::default() };
        let (facts, reader) = file.request(0, SMALLEST - 1)?;
        file.facts = facts;
        let mut start = Resuming::new(&file, 0, SMALLEST.min(file.facts.size));
        start.inner = Some(reader);
        start.connections = 1;
        let mut bytes = Vec::new();
        start.read_to_end(&mut bytes).map_err(super::reading::of_read)?;
        let _ = file.blocks.keep(Block { start: 0, bytes });
        Ok(file)
    }

    /// Returns the URL without the values of its query, which may be secrets.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    fn task(&self) -> String {
        format!("read `{}`", self.label)
    }

    fn invalid(&self, problem: String) -> BucketError {
        self.server.invalid_response(self.task(), problem)
    }

    /// Asks for the bytes of a range, its end included.
    fn request(&self, first: u64, last: u64) -> Result<(Facts, Box<dyn Read + Send>), BucketError> {
        let (mut url, mut named_by) = (self.url.clone(), HostSource::User);
        for _ in 0..=limits::REDIRECTS {
            let mut call = BucketCall::new(Method::Get, None, self.task());
            call.to = Some(To { url: &url, named_by });
            call.accepted = &[301, 302, 303, 307, 308, 412];
            call.headers.push(("range", format!("bytes={first}-{last}")));
            call.headers.extend(self.facts.etag.clone().map(|etag| ("if-match", etag)));
            let ObjectResponse::Stream(response) = self.server.send(&call)? else {
                return Err(self.invalid("it is no file".to_owned()));
            };
            if !matches!(response.status, 301 | 302 | 303 | 307 | 308) {
                return self.accept(response, first);
            }
            let next = url.join(response.header("location").unwrap_or(""));
            response.drain();
            let next = next.map_err(|problem| self.invalid(format!("a redirect to a URL that {problem}")))?;
            named_by = self.server.http.led_by_url(url.origin());
            self.check_redirect(&url, &next, named_by)?;
            url = next;
        }
        Err(self.invalid(format!("more than {} redirects", limits::REDIRECTS)))
    }

    fn check_redirect(&self, from: &Url, to: &Url, named_by: HostSource) -> Result<(), BucketError> {
        let may_be_plain = self.server.options.allow_http || to.origin().is_loopback();
        if !to.is_https() && (from.is_https() || !may_be_plain) {
            let to = label_of(to);
            return Err(self.invalid(format!("a redirect to plain http, `{to}`, which is not followed")));
        }
        if !to.origin().may_be_named_by(named_by) {
            let host = to.origin();
            return Err(self.invalid(format!(
                "a redirect to `{host}`, which is on this machine, its link or a private network"
            )));
        }
        Ok(())
    }

    /// Checks that a response is the wanted part of the same file.
    fn accept(&self, response: Response, first: u64) -> Result<(Facts, Box<dyn Read + Send>), BucketError> {
        let changed = || BucketError::Changed { url: self.label.clone() };
        if response.status == 412 {
            return Err(changed());
        }
        if let Some(coding) = response.header("content-encoding").filter(|coding| *coding != "identity") {
            let coding = response.redacted(coding);
            return Err(self.invalid(format!("it is sent as `{coding}`, so its parts cannot be read")));
        }
        // rclone 1.75 answers a part with 200 and says in `Content-Range` which one it is.
        let Some(range) = response.header("content-range") else {
            let host = response.url.origin().to_string();
            return Err(BucketError::NoParts { host, url: self.label.clone() });
        };
        let size = match range_of(range) {
            Some((begins_at, size)) if begins_at == first => size,
            _ => {
                let found = response.redacted(range);
                return Err(self
                    .invalid(format!("requested bytes from {first} on, the response's range is `{found}`")));
            }
        };
        let etag = response.header("etag").filter(|etag| etag.starts_with('"')).map(str::to_owned);
        let modified = response.header("last-modified").filter(|_| etag.is_none()).map(str::to_owned);
        let facts = Facts { size, etag, modified };
        // The first response is the one that later ones are compared with.
        if self.facts != Facts::default() && self.facts != facts {
            return Err(changed());
        }
        Ok((facts, Box::new(response.into_reader())))
    }

    /// Returns a block with the byte at a position.
    fn block(&self, position: u64) -> io::Result<Arc<Block>> {
        if let Some(block) = self.blocks.find(position) {
            return Ok(block);
        }
        let length = self.blocks.length_at(position);
        let mut bytes = Vec::new();
        let end = position.saturating_add(length).min(self.facts.size);
        Resuming::new(self, position, end).read_to_end(&mut bytes)?;
        Ok(self.blocks.keep(Block { start: position, bytes }))
    }
}

impl ReadAt for WebFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.facts.size)
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        if position >= self.facts.size || buffer.is_empty() {
            return Ok(0);
        }
        Ok(self.block(position)?.copy(buffer, position))
    }

    fn part(&self, position: u64, length: u64) -> Box<dyn Read + Send + '_> {
        let end = position.saturating_add(length);
        Box::new(PartReader { position, end, rest: None, file: self })
    }
}

/// A part of the file: the bytes that came with others, then those of a request of its own.
struct PartReader<'a> {
    file: &'a WebFile,
    position: u64,
    end: u64,
    rest: Option<Resuming<'a>>,
}

impl Read for PartReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.end.saturating_sub(self.position);
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let buffer = &mut buffer[..most];
        if self.position >= self.file.facts.size {
            let text = format!("the file ends at byte {}, before its content does", self.file.facts.size);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        let kept = match &self.rest {
            None => self.file.blocks.find(self.position),
            Some(_) => None,
        };
        let count = match (&mut self.rest, kept) {
            (None, Some(block)) => block.copy(buffer, self.position),
            (None, None) if left <= SMALLEST => self.file.read_at(buffer, self.position)?,
            (rest, _) => {
                let end = self.end.min(self.file.facts.size);
                rest.get_or_insert_with(|| Resuming::new(self.file, self.position, end)).read(buffer)?
            }
        };
        self.position += count as u64;
        Ok(count)
    }
}

/// Bytes of the file from the server, over as many connections as it takes.
struct Resuming<'a> {
    file: &'a WebFile,
    position: u64,
    end: u64,
    inner: Option<Box<dyn Read + Send>>,
    /// Connections that broke since `mark`.
    breaks: u32,
    mark: u64,
    connections: u32,
    started: Instant,
}

impl<'a> Resuming<'a> {
    fn new(file: &'a WebFile, position: u64, end: u64) -> Self {
        let (inner, breaks, connections) = (None, 0, 0);
        Self { file, position, end, inner, breaks, mark: position, connections, started: Instant::now() }
    }

    /// Waits before the next connection, or gives up.
    fn broke(&mut self, cause: String) -> Result<(), BucketError> {
        self.inner = None;
        if self.position - self.mark >= PROGRESS {
            (self.breaks, self.mark) = (0, self.position);
        }
        self.breaks += 1;
        let (server, task) = (&self.file.server, self.file.task());
        let (host, elapsed) = (self.file.url.origin().to_string(), self.started.elapsed());
        if self.breaks > BREAKS.min(server.policy.retries) || self.connections >= CONNECTIONS {
            return Err(BucketError::Unreachable { host, task, attempts: self.connections, elapsed, cause });
        }
        let delay = retry::delay_before(server.policy.delay, self.breaks);
        let record = RetryRecord { host: &host, task: &task, cause: &cause, attempt: self.breaks, delay };
        server.policy.events.retry(&record);
        retry::sleep(delay).map_err(|_| BucketError::Cancelled)
    }
}

impl Read for Resuming<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.end.saturating_sub(self.position);
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        loop {
            cancel::check()?;
            let inner = match &mut self.inner {
                Some(inner) => inner,
                None => {
                    self.connections += 1;
                    let opened = self.file.request(self.position, self.end - 1).map_err(io::Error::other)?;
                    self.inner.insert(opened.1)
                }
            };
            let cause = match inner.read(&mut buffer[..most]) {
                Ok(0) => format!("the response ended at byte {} of {}", self.position, self.end),
                Ok(count) => {
                    self.position += count as u64;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if cancel::is_cancelled() => return Err(error),
                Err(error) => error.to_string(),
            };
            self.broke(cause).map_err(io::Error::other)?;
        }
    }
}

/// Returns a URL with `…` for its query.
fn label_of(url: &Url) -> String {
    let scheme = if url.is_https() { "https" } else { "http" };
    let (path, query) = url.path_and_query();
    let query = if query.is_empty() { "" } else { "?…" };
    format!("{scheme}://{}{path}{query}", url.origin())
}

/// Reads the first position and the size of the whole in `bytes 5-9/10`.
fn range_of(text: &str) -> Option<(u64, u64)> {
    let (range, size) = text.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, size) = (first.parse().ok()?, last.parse::<u64>().ok()?, size.parse().ok()?);
    (first <= last && last < size).then_some((first, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_a_response_is_read() {
        for (text, expected) in [
            ("bytes 5-9/10", Some((5, 10))),
            (" bytes 0-0/1 ", Some((0, 1))),
            ("bytes 5-9/*", None),
            ("bytes 5-9/9", None),
            ("bytes 9-5/10", None),
            ("bytes */10", None),
            ("5-9/10", None),
        ] {
            assert_eq!(range_of(text), expected, "{text}");
        }
    }

    #[test]
    fn a_url_is_shown_without_its_query() {
        for (text, expected) in [
            ("https://b.example:8443/a/b.tar?X-Amz-Signature=secret&x", "https://b.example:8443/a/b.tar?…"),
            ("http://b.example/b.tar", "http://b.example/b.tar"),
        ] {
            assert_eq!(label_of(&Url::parse(text).unwrap()), expected);
        }
    }
}

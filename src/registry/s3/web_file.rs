//! A file of a web server that is read in parts, for example a tar at a presigned URL.
//!
//! Only GET is sent, because a presigned URL is for one method. The URL is the only credential, and is sent to no host
//! that a redirect names. Headers of a tar and small files beside each other are read with few requests, because each
//! request takes some bytes more than were requested.
//! Source: RFC 9110, 13.1.1 "If-Match", 14 "Range Requests".

use std::io::{self, Read};
use std::sync::Arc;

use crate::model::{Method, limits};
use crate::stream::{ReadAt, fitting};

use super::super::http::Response;
use super::super::reach::HostSource;
use super::super::resuming::{Body, ContentRange, Origin, Resuming};
use super::super::retry::{RetryBudget, Transient};
use super::super::url::Url;
use super::blocks::{Block, Blocks, SMALLEST};
use super::error::BucketError;
use super::facts::Facts;
use super::sending::{BucketCall, ObjectResponse, To};
use super::{Bucket, BucketOptions};

/// A file of a web server.
#[derive(Debug)]
pub struct WebFile {
    server: Bucket,
    url: Url,
    label: String,
    /// Those of the first response, with which later ones are compared.
    facts: Facts,
    size: u64,
    blocks: Blocks,
}

impl WebFile {
    /// Opens the file with a request for its first bytes.
    ///
    /// Errors: [`BucketError::NoParts`] if the server sends the whole file only; a URL that cannot be used.
    pub fn open(url: &str, options: BucketOptions) -> Result<Self, BucketError> {
        Self::open_at_most(url, options, limits::TAR_URL_REQUESTS)
    }

    pub(super) fn open_at_most(
        url: &str,
        options: BucketOptions,
        requests: usize,
    ) -> Result<Self, BucketError> {
        let server = Bucket::of_web(url, options)?;
        let url = Url::parse(url)
            .map_err(|problem| BucketError::Configuration { problem: format!("the URL {problem}") })?;
        let label = label_of(&url);
        let (facts, blocks) = (Facts::default(), Blocks::new(requests));
        let mut file = Self { server, url, label, facts, size: 0, blocks };
        let (facts, size, body) = file.request(0, SMALLEST - 1)?;
        (file.facts, file.size) = (facts, size);
        let end = SMALLEST.min(size);
        let mut start = Resuming::begun(Part { file: &file, end }, 0, Box::new(body.take(end)));
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

    /// Asks for the bytes of a range, its end included; returns the facts and size of the file with them.
    fn request(&self, first: u64, last: u64) -> Result<(Facts, u64, Body), BucketError> {
        let (mut url, mut named_by) = (self.url.clone(), HostSource::User);
        for _ in 0..=limits::REDIRECTS {
            let mut call = BucketCall::new(Method::Get, None, self.task());
            call.to = Some(To { url: &url, named_by });
            call.accepted = &[301, 302, 303, 307, 308, 412];
            call.headers.push(("range", format!("bytes={first}-{last}")));
            call.headers.extend(self.facts.condition());
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
    fn accept(&self, response: Response, first: u64) -> Result<(Facts, u64, Body), BucketError> {
        let changed = || BucketError::Changed { url: self.label.clone() };
        if response.status == 412 {
            return Err(changed());
        }
        if let Some(coding) = response.header("content-encoding").filter(|coding| *coding != "identity") {
            let coding = response.redacted(coding);
            return Err(self.invalid(format!("it is sent as `{coding}`, so its parts cannot be read")));
        }
        // rclone 1.75 answers a part with 200 and says in `Content-Range` which one it is.
        let Some(text) = response.header("content-range") else {
            let host = response.url.origin().to_string();
            return Err(BucketError::NoParts { host, url: self.label.clone() });
        };
        let Some(size) = ContentRange::parse(text).filter(|range| range.first == first).and_then(|r| r.size)
        else {
            let found = response.redacted(text);
            return Err(
                self.invalid(format!("requested bytes from {first} on, the response's range is `{found}`"))
            );
        };
        let facts = Facts::of(&response, Some(size));
        if self.facts != Facts::default() && self.facts.differ(&facts) {
            return Err(changed());
        }
        Ok((facts, size, Box::new(response.into_reader())))
    }

    /// Returns a block with the byte at a position.
    fn block(&self, position: u64) -> io::Result<Arc<Block>> {
        if let Some(block) = self.blocks.find(position) {
            return Ok(block);
        }
        let Some(length) = self.blocks.ask(position) else {
            let (url, limit) = (self.label.clone(), self.blocks.limit);
            return Err(io::Error::other(BucketError::Scattered { url, limit }));
        };
        let mut bytes = Vec::new();
        let end = position.saturating_add(length).min(self.size);
        Resuming::new(Part { file: self, end }, position).read_to_end(&mut bytes)?;
        Ok(self.blocks.keep(Block { start: position, bytes }))
    }
}

impl ReadAt for WebFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        if position >= self.size || buffer.is_empty() {
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
    rest: Option<Resuming<Part<'a>>>,
}

impl Read for PartReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.end.saturating_sub(self.position);
        let most = fitting(left, buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let buffer = &mut buffer[..most];
        if self.position >= self.file.size {
            let text = format!("the file ends at byte {}, before its content does", self.file.size);
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
                let end = self.end.min(self.file.size);
                let part = || Resuming::new(Part { file: self.file, end }, self.position);
                rest.get_or_insert_with(part).read(buffer)?
            }
        };
        self.position += count as u64;
        Ok(count)
    }
}

/// The bytes of the file up to a position, asked for from the server.
struct Part<'a> {
    file: &'a WebFile,
    end: u64,
}

impl Origin for Part<'_> {
    type Error = BucketError;

    fn connect(&mut self, position: u64) -> Result<Option<Body>, BucketError> {
        let (_, _, body) = self.file.request(position, self.end - 1)?;
        Ok(Some(Box::new(body.take(self.end - position))))
    }

    fn end(&self) -> Option<u64> {
        Some(self.end)
    }

    fn sort(&self, error: io::Error) -> Result<Transient, BucketError> {
        self.file.server.sort_break(error, self.file.url.origin().to_string())
    }

    fn wait(&self, tries: &mut RetryBudget, failure: Transient) -> Result<(), BucketError> {
        self.file.server.wait(tries, self.file.url.origin().to_string(), self.file.task(), failure)
    }
}

/// Returns a URL with `…` for its query.
fn label_of(url: &Url) -> String {
    let scheme = if url.is_https() { "https" } else { "http" };
    let (path, query) = url.path_and_query();
    let query = if query.is_empty() { "" } else { "?…" };
    format!("{scheme}://{}{path}{query}", url.origin())
}

#[cfg(test)]
mod tests {
    use super::*;

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

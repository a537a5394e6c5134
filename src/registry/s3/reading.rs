//! Reading objects, and listing their keys.

use std::io::{self, Read};
use std::ops::ControlFlow;

use crate::model::{Method, limits};
use crate::stream::{TooLarge, cancel, read_bounded};

use super::Bucket;
use super::error::BucketError;
use super::sending::{BucketCall, ObjectResponse};
use super::xml;

/// Keys on one page.
const PAGE: usize = 1000;
/// Connections that break without a byte in between before reading is given up.
const BREAKS: u32 = 5;

impl Bucket {
    /// Reads a small object; `None` if it is not there.
    ///
    /// Errors: `Ok(Err(limit))` for an object that is larger.
    pub fn read(&self, key: &str, limit: u64) -> Result<Option<Result<Vec<u8>, u64>>, BucketError> {
        let Some(reader) = self.open(key, 0)? else { return Ok(None) };
        match read_bounded(reader, limit) {
            Ok(bytes) => Ok(Some(Ok(bytes))),
            Err(TooLarge::Limit { limit }) => Ok(Some(Err(limit))),
            Err(TooLarge::Io(error)) => Err(of_read(error)),
        }
    }

    /// Opens an object from a position; `None` if it is not there. A connection that breaks is made again, and reading goes
    /// on.
    pub fn open(&self, key: &str, from: u64) -> Result<Option<Box<dyn Read + Send + '_>>, BucketError> {
        let Some(inner) = self.get(key, from)? else { return Ok(None) };
        let key = key.to_owned();
        Ok(Some(Box::new(Resuming { bucket: self, key, inner: Some(inner), position: from, breaks: 0 })))
    }

    /// Sends one request for an object from a position.
    fn get(&self, key: &str, from: u64) -> Result<Option<Box<dyn Read + Send>>, BucketError> {
        let mut call = BucketCall::new(Method::Get, Some(key), format!("read `{}`", self.place.key(key)));
        call.accepted = &[404];
        if from > 0 {
            call.headers.push(("range", format!("bytes={from}-")));
        }
        let ObjectResponse::Stream(response) = self.send(&call)? else { return Ok(None) };
        if response.status == 404 {
            let text = read_bounded(response.into_reader(), limits::ERROR_BYTES).unwrap_or_default();
            return match xml::read_error(&String::from_utf8_lossy(&text)) {
                Some(problem) if problem.code == "NoSuchBucket" => Err(self.no_bucket()),
                _ => Ok(None),
            };
        }
        // rclone 1.75 answers a part with 200 and says in `Content-Range` which one it is.
        let range = response.header("content-range").and_then(first_of_range);
        let begins_at = match (response.status, range) {
            (_, Some(first)) => first,
            (206, None) => from,
            (_, None) => 0,
        };
        let mut reader = response.into_reader();
        if begins_at > from {
            let problem = format!("it begins at byte {begins_at}, expected {from}");
            return Err(self.invalid_response(format!("read `{}`", self.place.key(key)), problem));
        }
        let skipped = io::copy(&mut reader.by_ref().take(from - begins_at), &mut io::sink());
        match skipped {
            Ok(skipped) if skipped == from - begins_at => Ok(Some(Box::new(reader))),
            _ => Ok(Some(Box::new(io::empty()))),
        }
    }

    /// Returns the size of an object; `None` if it is not there, or if the server does not say whether it is.
    pub fn size(&self, key: &str) -> Result<Option<u64>, BucketError> {
        let mut call =
            BucketCall::new(Method::Head, Some(key), format!("look for `{}`", self.place.key(key)));
        // Without the right to list, an object that is not there is answered with 403.
        call.accepted = &[403, 404];
        match self.send(&call)? {
            ObjectResponse::Stream(response) if response.status == 200 => Ok(response.content_length()),
            _ => Ok(None),
        }
    }

    /// Hands over keys that begin with a text, in order, relative to the prefix, until `take` breaks; with `only_folders` the
    /// first parts behind that text, each with its `/`.
    pub fn list(
        &self,
        begin: &str,
        only_folders: bool,
        expected: usize,
        take: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), BucketError> {
        let mut token: Option<String> = None;
        let (mut last, mut count) = (String::new(), 0);
        for _ in 0..limits::PAGES {
            let task = format!("list `{}`", self.place.key(begin));
            let mut call = BucketCall::new(Method::Get, None, task.clone());
            call.query.extend(token.take().map(|token| ("continuation-token", token)));
            call.query.extend(only_folders.then(|| ("delimiter", "/".to_owned())));
            call.query.push(("list-type", "2".to_owned()));
            call.query.push(("max-keys", expected.clamp(1, PAGE).to_string()));
            call.query.push(("prefix", self.place.key(begin)));
            call.read_success = true;
            let ObjectResponse::Text(text) = self.send(&call)? else {
                return Err(self.invalid_response(task, "it is no list of keys".to_owned()));
            };
            let page = xml::read_page(&text)
                .map_err(|problem| self.invalid_response(task.clone(), problem.to_owned()))?;
            let found = if only_folders { &page.prefixes } else { &page.keys };
            for key in found.iter().filter_map(|key| self.place.below(key)) {
                count += 1;
                // The newest version of a tag is the first key, which only a sorted list shows.
                if !only_folders && *key <= *last {
                    return Err(self.invalid_response(task, format!("`{key}` comes after `{last}`")));
                }
                if count > limits::LIST_ENTRIES {
                    let problem = format!("it has more than {} keys", limits::LIST_ENTRIES);
                    return Err(self.invalid_response(task, problem));
                }
                last.clear();
                last.push_str(key);
                if take(key).is_break() {
                    return Ok(());
                }
            }
            match page.next {
                Some(next) => token = Some(next),
                None => return Ok(()),
            }
        }
        let problem = format!("it has more than {} pages", limits::PAGES);
        Err(self.invalid_response(format!("list `{}`", self.place.key(begin)), problem))
    }

    fn no_bucket(&self) -> BucketError {
        let region = crate::stream::lock(&self.state).region.clone();
        BucketError::NoBucket { host: self.place.host(&region), bucket: self.place.bucket.clone() }
    }
}

/// Finds the error of a request in one of reading.
pub(super) fn of_read(error: io::Error) -> BucketError {
    match error.downcast::<BucketError>() {
        Ok(error) => error,
        Err(error) => BucketError::Source(error),
    }
}

/// Reads the first position of `bytes 5-9/10`.
fn first_of_range(text: &str) -> Option<u64> {
    text.trim().strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}

/// The bytes of an object, over as many connections as it takes.
struct Resuming<'a> {
    bucket: &'a Bucket,
    key: String,
    inner: Option<Box<dyn Read + Send>>,
    position: u64,
    /// Connections that broke since the last byte.
    breaks: u32,
}

impl Read for Resuming<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            cancel::check()?;
            let inner = match &mut self.inner {
                Some(inner) => inner,
                None => {
                    let opened = self.bucket.get(&self.key, self.position).map_err(io::Error::other)?;
                    self.inner.insert(opened.unwrap_or_else(|| Box::new(io::empty())))
                }
            };
            match inner.read(buffer) {
                Ok(count) => {
                    self.position += count as u64;
                    if count > 0 {
                        self.breaks = 0;
                    }
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if cancel::is_cancelled() || self.breaks >= BREAKS => {
                    let (host, task) = {
                        let region = crate::stream::lock(&self.bucket.state).region.clone();
                        (self.bucket.place.host(&region), format!("read `{}`", self.key))
                    };
                    let (attempts, elapsed) = (self.breaks + 1, std::time::Duration::ZERO);
                    let cause = error.to_string();
                    return Err(io::Error::other(BucketError::Unreachable {
                        host,
                        task,
                        attempts,
                        elapsed,
                        cause,
                    }));
                }
                Err(_) => {
                    self.breaks += 1;
                    self.inner = None;
                }
            }
        }
    }
}

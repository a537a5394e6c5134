//! Reading objects, and listing their keys.

use std::io::{self, Read};
use std::ops::ControlFlow;

use crate::model::{Method, limits};
use crate::stream::{TooLarge, read_bounded};

use super::super::resuming::{Body, ContentRange, Origin, Resuming, skipping};
use super::super::retry::{RetryBudget, Transient};
use super::Bucket;
use super::error::BucketError;
use super::facts::Facts;
use super::sending::{BucketCall, ObjectResponse};
use super::xml;

/// Keys on one page.
const PAGE: usize = 1000;

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
        let mut object = Object { bucket: self, key: key.to_owned(), facts: None };
        let Some(body) = object.request(from)? else { return Ok(None) };
        Ok(Some(Box::new(Resuming::begun(object, from, body))))
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
    /// first parts after that text, each with its `/`.
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

/// An object of a bucket, or a file of a web server that is read whole.
struct Object<'a> {
    bucket: &'a Bucket,
    key: String,
    /// Those of the first response.
    facts: Option<Facts>,
}

impl Object<'_> {
    fn name(&self) -> String {
        self.bucket.place.key(&self.key)
    }

    fn task(&self) -> String {
        format!("read `{}`", self.name())
    }

    fn host(&self) -> String {
        let region = crate::stream::lock(&self.bucket.state).region.clone();
        self.bucket.place.host(&region)
    }

    /// Sends one request for the object from a position; `None` if it is not there.
    fn request(&mut self, from: u64) -> Result<Option<Body>, BucketError> {
        let bucket = self.bucket;
        let mut call = BucketCall::new(Method::Get, Some(&self.key), self.task());
        call.accepted = &[404, 412];
        call.headers.extend(self.facts.as_ref().and_then(Facts::condition));
        if from > 0 {
            call.headers.push(("range", format!("bytes={from}-")));
        }
        let ObjectResponse::Stream(response) = bucket.send(&call)? else { return Ok(None) };
        if response.status == 404 {
            let text = read_bounded(response.into_reader(), limits::ERROR_BYTES).unwrap_or_default();
            return match xml::read_error(&String::from_utf8_lossy(&text)) {
                Some(problem) if problem.code == "NoSuchBucket" => Err(bucket.no_bucket()),
                _ => Ok(None),
            };
        }
        if response.status == 412 {
            return Err(self.changed());
        }
        // rclone 1.75 answers a part with 200 and says in `Content-Range` which one it is.
        let range = response.header("content-range").and_then(ContentRange::parse);
        let begins_at = match (response.status, range) {
            (_, Some(range)) => range.first,
            (206, None) => from,
            (_, None) => 0,
        };
        if begins_at > from {
            let problem = format!("it begins at byte {begins_at}, expected {from}");
            return Err(bucket.invalid_response(self.task(), problem));
        }
        let to_the_end = || response.content_length().map(|length| begins_at.saturating_add(length));
        let facts = Facts::of(&response, range.and_then(|range| range.size).or_else(to_the_end));
        if self.facts.as_ref().is_some_and(|first| first.differ(&facts)) {
            return Err(self.changed());
        }
        self.facts.get_or_insert(facts);
        Ok(Some(skipping(response.into_reader(), from - begins_at)))
    }

    fn changed(&self) -> BucketError {
        BucketError::Changed { url: self.name() }
    }
}

impl Origin for Object<'_> {
    type Error = BucketError;

    fn connect(&mut self, position: u64) -> Result<Option<Body>, BucketError> {
        match self.request(position)? {
            Some(body) => Ok(Some(body)),
            // It was deleted while it was read.
            None => Err(self.changed()),
        }
    }

    fn end(&self) -> Option<u64> {
        self.facts.as_ref().and_then(|facts| facts.size)
    }

    fn sort(&self, error: io::Error) -> Result<Transient, BucketError> {
        self.bucket.sort_break(error, self.host())
    }

    fn wait(&self, tries: &mut RetryBudget, failure: Transient) -> Result<(), BucketError> {
        self.bucket.wait(tries, self.host(), self.task(), failure)
    }
}

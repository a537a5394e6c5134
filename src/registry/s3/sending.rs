//! One request to a bucket until a response is usable: signed with the server's time, sent to the bucket's region, repeated.

use std::cell::RefCell;
use std::io::{self, Read};
use std::time::Instant;

use crate::model::time::{self, Timestamp};
use crate::model::{Method, limits};
use crate::stream::{TooLarge, lock, read_bounded};

use super::super::blob_body::BlobBody;
use super::super::cloud::{Scope, sign_hashed};
use super::super::events::RetryRecord;
use super::super::http::{Payload, PayloadSource, Request, Response};
use super::super::reach::HostSource;
use super::super::retry::{self, GivenUp, RetryBudget, Transient};
use super::super::url::Url;
use super::super::wire_error::{WireError, WireErrorKind};
use super::error::BucketError;
use super::xml::{self, XmlProblem};
use super::{Bucket, empty_hash, secret};

/// How often a request is sent anew because a response gave the region or the time.
const CORRECTIONS: u32 = 3;
/// Codes of errors that go away, with any status.
const TRANSIENT: [&str; 5] =
    ["SlowDown", "InternalError", "RequestTimeout", "ServiceUnavailable", "OperationAborted"];

/// What a request sends.
#[derive(Clone, Copy)]
pub(super) enum BucketBody<'a> {
    /// Nothing.
    None,
    /// Bytes in memory.
    Bytes(&'a [u8]),
    /// A body of a known size.
    Body { body: &'a dyn BlobBody, size: u64, progress: &'a dyn Fn(u64) },
}

/// Where a request goes that is for no object of the place.
#[derive(Clone, Copy)]
pub(super) struct To<'a> {
    pub(super) url: &'a Url,
    /// Who named its host.
    pub(super) named_by: HostSource,
}

/// A request, before it is signed.
pub(super) struct BucketCall<'a> {
    pub(super) method: Method,
    /// Another URL than that of the key.
    pub(super) to: Option<To<'a>>,
    /// The key below the prefix; none for the bucket itself.
    pub(super) key: Option<&'a str>,
    /// In the order of their names.
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) content: BucketBody<'a>,
    /// SHA-256 of the content in hexadecimal, or `UNSIGNED-PAYLOAD`.
    pub(super) hash: String,
    /// What is done, for messages: `read …`.
    pub(super) task: String,
    /// Statuses that are no failure besides 2xx.
    pub(super) accepted: &'static [u16],
    /// A success may have an error in its body.
    pub(super) read_success: bool,
}

impl<'a> BucketCall<'a> {
    pub(super) fn new(method: Method, key: Option<&'a str>, task: String) -> Self {
        Self {
            method,
            to: None,
            key,
            query: Vec::new(),
            headers: Vec::new(),
            content: BucketBody::None,
            hash: empty_hash(),
            task,
            accepted: &[],
            read_success: false,
        }
    }
}

/// The response to a request that succeeded: as a stream, or its body where that says whether it succeeded.
pub(super) enum ObjectResponse {
    Stream(Response),
    Text(String),
}

/// A failure of one attempt.
enum Failed {
    Later(Transient),
    /// Something was learned; the same request is sent at once.
    Corrected,
    Fatal(BucketError),
}

/// A source of a request's bytes, whose error is kept apart from the wire's.
struct Guarded<'a> {
    body: &'a dyn BlobBody,
    error: &'a RefCell<Option<io::Error>>,
}

struct GuardedReader<'a> {
    inner: Box<dyn Read + Send + 'a>,
    error: &'a RefCell<Option<io::Error>>,
}

impl PayloadSource for Guarded<'_> {
    fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        match self.body.open() {
            Ok(inner) => Ok(Box::new(GuardedReader { inner, error: self.error })),
            Err(error) => {
                let kind = error.kind();
                *self.error.borrow_mut() = Some(error);
                Err(kind.into())
            }
        }
    }
}

impl Read for GuardedReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| {
            let kind = error.kind();
            if kind != io::ErrorKind::Interrupted {
                *self.error.borrow_mut() = Some(error);
            }
            kind.into()
        })
    }
}

impl Bucket {
    /// Sends a request until it is answered.
    pub(super) fn send(&self, call: &BucketCall<'_>) -> Result<ObjectResponse, BucketError> {
        let started = Instant::now();
        let (mut attempt, mut corrections, mut silent_attempts) = (1, 0, 0);
        loop {
            self.gate.enter().map_err(|_| BucketError::Cancelled)?;
            let (cause, status, after) = match self.attempt(call, attempt) {
                Ok(response) => {
                    self.gate.succeeded();
                    return Ok(response);
                }
                Err(Failed::Fatal(error)) => return Err(error),
                Err(Failed::Corrected) if corrections < CORRECTIONS => {
                    corrections += 1;
                    continue;
                }
                Err(Failed::Corrected) => {
                    ("the server keeps naming other regions or times".to_owned(), None, None)
                }
                Err(Failed::Later(Transient { cause, status, after, silent })) => {
                    silent_attempts += u32::from(silent);
                    (cause, status, after)
                }
            };
            let host = self.host_of(call, &lock(&self.state).region);
            // Each silence takes a whole time-out, and a server that was silent twice will hardly respond the third time.
            if attempt > self.policy.retries || silent_attempts > 1 {
                let (task, elapsed) = (call.task.clone(), started.elapsed());
                return Err(BucketError::Unreachable { host, task, attempts: attempt, elapsed, cause });
            }
            let delay = after.unwrap_or_else(|| retry::delay_before(self.policy.delay, attempt));
            self.policy.events.retry(&RetryRecord {
                host: &host,
                task: &call.task,
                cause: &cause,
                attempt,
                delay,
            });
            match status {
                Some(429 | 503) => self.gate.slow_down(delay, status == Some(429)),
                _ => retry::sleep(delay).map_err(|_| BucketError::Cancelled)?,
            }
            attempt += 1;
        }
    }

    fn attempt(&self, call: &BucketCall<'_>, attempt: u32) -> Result<ObjectResponse, Failed> {
        let keys = self.keys().map_err(Failed::Fatal)?;
        let (region, skew) = {
            let state = lock(&self.state);
            (state.region.clone(), state.skew)
        };
        let url = match &call.to {
            Some(to) => to.url.clone(),
            None => self.place.url(&region, call.key, &call.query),
        };
        let mut headers = call.headers.clone();
        let mut authorization = None;
        if let Some(keys) = &keys {
            headers.push(("x-amz-content-sha256", call.hash.clone()));
            let now = (self.options.clock)().saturating_add_signed(skew);
            let scope = Scope { region: &region, service: "s3", time: time::format_basic(now) };
            for (name, value) in sign_hashed(call.method.name(), &url, &headers, &call.hash, keys, &scope) {
                match name {
                    "authorization" => authorization = secret(&value),
                    _ => headers.push((name, value)),
                }
            }
        }
        let error = RefCell::new(None);
        let source;
        let payload = match call.content {
            BucketBody::None => Payload::None,
            BucketBody::Bytes(bytes) => Payload::Bytes(bytes),
            BucketBody::Body { body, size, progress } => {
                source = Guarded { body, error: &error };
                Payload::Stream { source: &source, length: size, progress }
            }
        };
        let closing = match call.content {
            BucketBody::Body { size, .. } => Some(size),
            _ => None,
        };
        let sent = self.http.send(Request {
            method: call.method,
            url: &url,
            named_by: call.to.map_or(HostSource::User, |to| to.named_by),
            headers,
            authorization,
            payload,
            closing,
            attempt,
        });
        let failed = error.borrow_mut().take();
        if let Some(error) = failed {
            return Err(Failed::Fatal(BucketError::Source(error)));
        }
        let response = sent.map_err(|error| match of_wire(error, self.host_of(call, &region)) {
            Ok(later) => Failed::Later(later),
            Err(error) => Failed::Fatal(error),
        })?;
        self.classify(call, response, &region, keys.is_none())
    }

    /// Returns the host that a request goes to, for messages.
    fn host_of(&self, call: &BucketCall<'_>, region: &str) -> String {
        call.to.map_or_else(|| self.place.host(region), |to| to.url.origin().to_string())
    }

    /// Tells a break in the body of a response that may go away from one that is final.
    pub(super) fn sort_break(&self, error: io::Error, host: String) -> Result<Transient, BucketError> {
        of_wire(WireError::of_read(error, self.http.idle()), host)
    }

    /// Counts such a break, and waits before the next attempt.
    pub(super) fn wait(
        &self,
        tries: &mut RetryBudget,
        host: String,
        task: String,
        failure: Transient,
    ) -> Result<(), BucketError> {
        let waited = tries.failed_at(&self.policy, None, &host, &task, failure);
        waited.map_err(|given_up| match given_up {
            GivenUp::Cancelled => BucketError::Cancelled,
            GivenUp::Exhausted { attempts, elapsed, cause } => {
                BucketError::Unreachable { host, task, attempts, elapsed, cause }
            }
        })
    }

    /// Makes the error for a response that violates the protocol.
    pub(super) fn invalid_response(&self, task: String, problem: String) -> BucketError {
        let region = lock(&self.state).region.clone();
        BucketError::Protocol { host: self.place.host(&region), task, problem }
    }

    /// Decides what a response means.
    fn classify(
        &self,
        call: &BucketCall<'_>,
        response: Response,
        region: &str,
        anonymous: bool,
    ) -> Result<ObjectResponse, Failed> {
        let status = response.status;
        let date = response.header("date").and_then(Timestamp::parse_http_date);
        let date = date.and_then(|date| u64::try_from(date.unix_seconds()).ok());
        if date.is_some() {
            lock(&self.state).date = date;
        }
        let is_success = matches!(status, 200..=299) || call.accepted.contains(&status);
        if is_success && !(call.read_success && status == 200) {
            return Ok(ObjectResponse::Stream(response));
        }
        // A server names the region of a bucket in each response about it, also in one to an unsigned request.
        let home = response.header("x-amz-bucket-region").map(str::to_owned);
        let after = retry::retry_after(response.header("retry-after"), response.header("date"));
        let redactor = std::sync::Arc::clone(&response.redactor);
        let limit = if is_success { limits::PAGE_BYTES } else { limits::ERROR_BYTES };
        let body = read_bounded(response.into_reader(), limit);
        let host = || self.host_of(call, region);
        let task = || call.task.clone();
        let body = match body {
            Err(TooLarge::Limit { limit }) if is_success => {
                let problem = format!("it has more than {limit} bytes");
                return Err(Failed::Fatal(self.invalid_response(task(), problem)));
            }
            // A long error says nothing that is shown.
            Err(TooLarge::Limit { .. }) => Ok(Vec::new()),
            Err(TooLarge::Io(error)) => Err(error),
            Ok(body) => Ok(body),
        };
        let Ok(body) = body else {
            let cause = format!("its response ({status}) could not be read");
            return Err(Failed::Later(Transient::new(cause)));
        };
        let text = String::from_utf8_lossy(&body).into_owned();
        let problem = xml::read_error(&text);
        if is_success && problem.is_none() {
            return Ok(ObjectResponse::Text(text));
        }
        let XmlProblem { code, message, region: named } = problem.unwrap_or_default();
        let code = super::super::sanitize::sanitize(&redactor.redact(&code));
        let message = super::super::sanitize::sanitize(&redactor.redact(&message));
        let home = home.unwrap_or(named);
        if !self.place.is_web() && home != region && is_region(&home) {
            lock(&self.state).region = home;
            return Err(Failed::Corrected);
        }
        if code == "RequestTimeTooSkewed"
            && let Some(date) = date
        {
            let now = i64::try_from((self.options.clock)()).unwrap_or(0);
            lock(&self.state).skew = i64::try_from(date).unwrap_or(0) - now;
            return Err(Failed::Corrected);
        }
        let said = match (code.is_empty(), message.is_empty()) {
            (true, _) => String::new(),
            (false, true) => format!(" {code}"),
            (false, false) => format!(" {code}: {message}"),
        };
        if TRANSIENT.contains(&code.as_str()) || (!is_success && retry::is_retryable(status)) {
            let cause = format!("the response was {status}{said}");
            let slow = if code == "SlowDown" { Some(503) } else { Some(status) };
            return Err(Failed::Later(Transient { cause, status: slow, after, silent: false }));
        }
        Err(Failed::Fatal(match (status, code.as_str()) {
            (_, "NoSuchBucket") => BucketError::NoBucket { host: host(), bucket: self.place.bucket.clone() },
            (401 | 403, _) if !self.place.is_web() => {
                BucketError::Refused { host: host(), task: task(), status, said, anonymous }
            }
            _ => BucketError::Rejected { host: host(), task: task(), status, said },
        }))
    }
}

/// Sorts the failure of a connection.
fn of_wire(failure: WireError, host: String) -> Result<Transient, BucketError> {
    match failure.kind {
        WireErrorKind::Cancelled => Err(BucketError::Cancelled),
        WireErrorKind::Trust(problem) => Err(BucketError::Trust { host, problem }),
        WireErrorKind::Configuration | WireErrorKind::NoThread | WireErrorKind::Forbidden => {
            let problem = format!("`{host}`: {}", failure.text);
            Err(BucketError::Configuration { problem })
        }
        WireErrorKind::Connect | WireErrorKind::Broken | WireErrorKind::NotTls | WireErrorKind::Protocol => {
            Ok(Transient { silent: failure.silent, ..Transient::new(failure.text) })
        }
    }
}

/// Tells whether a text may be put into a host name as a region.
fn is_region(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

//! Sending a blob's bytes into an open upload session, in one of three forms.

use std::cell::RefCell;
use std::io::{self, Read};

use crate::model::{Descriptor, Digest, Method, Repository};

use super::auth::AuthProgress;
use super::blob_body::BlobBody;
use super::error::{RegistryError, Task};
use super::http::{Payload, PayloadSource, Response};
use super::reach::{HostSource, NetworkPlace};
use super::requests::{Attempt, Call, Follow, Host, Requester, unexpected};
use super::retry::RetryBudget;
use super::token::Scopes;
use super::upload_plan::{Refusal, UploadForm};
use super::url::{Origin, Url};

/// One blob that is being uploaded.
pub(super) struct Upload<'a> {
    pub(super) requester: &'a Requester,
    pub(super) host: &'a Host,
    pub(super) repository: &'a Repository,
    pub(super) descriptor: &'a Descriptor,
    pub(super) body: &'a dyn BlobBody,
    pub(super) progress: &'a dyn Fn(u64),
    pub(super) task: Task,
}

/// An open session.
pub(super) struct Session {
    pub(super) location: Url,
    /// Smallest chunk the registry takes, if it said so.
    pub(super) least: u64,
}

/// The result of one step of an upload.
pub(super) enum SessionStep {
    Done,
    /// The registry wants another form.
    Refused {
        response: Response,
        refusal: Refusal,
    },
    /// The session no longer exists, or is incomplete.
    Lost(&'static str),
}

impl Upload<'_> {
    pub(super) fn call(&self, method: Method, url: Url) -> Call<'_> {
        Call {
            repository: self.repository,
            method,
            url,
            headers: Vec::new(),
            scopes: Scopes::new(self.repository, "pull,push"),
            task: &self.task,
            follow: Follow::SameRequest,
            closing: None,
            blob_bytes: None,
        }
    }

    /// Reads the location at which an upload continues.
    pub(super) fn location(&self, response: &Response) -> Result<Option<Url>, RegistryError> {
        let Some(text) = response.header("location") else { return Ok(None) };
        let from = &response.url;
        let problem = match from.join(text) {
            Err(problem) => format!("upload location that {problem}"),
            Ok(to) if from.is_https() && !to.is_https() => {
                // Behind a TLS proxy the registry says `http`; the URL is the same server.
                if to.origin().host == from.origin().host {
                    return Ok(Some(to.upgraded(from.origin().port)));
                }
                format!("upload location without TLS, `{to}`")
            }
            Ok(to) if !to.origin().may_be_named_by(self.requester.http.led_by(from.origin())) => {
                format!("upload location on this machine or link, `{to}`")
            }
            Ok(to) if self.is_third(from.origin(), to.origin())? => {
                format!("upload location on a third host, `{to}`")
            }
            Ok(to) => return Ok(Some(to)),
        };
        let problem = response.redactor.redact(&problem);
        let problem = format!("the registry gave an {problem}, which is not followed");
        Err(RegistryError::Protocol { task: Box::new(self.task.clone()), problem })
    }

    /// Tells whether a host that a registry here led to, and that may lead to fewer addresses, names another one.
    fn is_third(&self, from: &Origin, to: &Origin) -> Result<bool, RegistryError> {
        let registry = self.requester.base(self.repository.registry())?;
        let led_by = self.requester.http.led_by(&registry);
        let is_here =
            matches!(led_by, HostSource::ResponseFrom(NetworkPlace::ThisMachine | NetworkPlace::Link));
        Ok(is_here && *from != registry && to != from && *to != registry)
    }

    pub(super) fn send(
        &self,
        form: UploadForm,
        session: &mut Session,
        auth: &mut AuthProgress,
        attempt: u32,
    ) -> Result<SessionStep, Attempt> {
        let size = self.descriptor.size;
        match form {
            UploadForm::Patch => {
                let call = self.content_call(Method::Patch, session.location.clone());
                let response = self.stream(&call, 0, size, auth, attempt)?;
                match self.classify(response, &mut session.location)? {
                    SessionStep::Done => self.close(session, auth, attempt),
                    other => Ok(other),
                }
            }
            UploadForm::Monolithic => {
                let url = session.location.with_query("digest", &self.descriptor.digest.to_string());
                let mut call = self.content_call(Method::Put, url);
                call.closing = Some(size);
                let response = self.stream(&call, 0, size, auth, attempt)?;
                self.closed(response)
            }
            UploadForm::Chunked(chunk) => self.send_chunks(chunk.max(session.least), session, auth, attempt),
        }
    }

    pub(super) fn content_call(&self, method: Method, url: Url) -> Call<'_> {
        let mut call = self.call(method, url);
        call.headers.push(("content-type", "application/octet-stream".to_owned()));
        call
    }

    /// Sends a part of the body with one request.
    pub(super) fn stream(
        &self,
        call: &Call<'_>,
        offset: u64,
        length: u64,
        auth: &mut AuthProgress,
        attempt: u32,
    ) -> Result<Response, Attempt> {
        let failed =
            |error| Attempt::Fatal(RegistryError::Source { task: Box::new(self.task.clone()), error });
        let part = Part { body: self.body, offset, length, error: RefCell::new(None) };
        let payload = Payload::Stream { source: &part, length, progress: self.progress };
        let result = self.requester.attempt(self.host, call, payload, auth, attempt);
        match part.error.take() {
            // The error of the connection is a consequence of it.
            Some(error) if result.is_err() && !crate::stream::cancel::is_cancelled() => Err(failed(error)),
            _ => result,
        }
    }

    /// Sorts the response to a PATCH, and takes over the new location.
    fn classify(&self, response: Response, location: &mut Url) -> Result<SessionStep, Attempt> {
        match response.status {
            // 202 by the specification; 201 and 204 by ECR and others.
            200..=299 => {
                if let Some(next) = self.location(&response)? {
                    *location = next;
                }
                response.drain();
                Ok(SessionStep::Done)
            }
            404 => {
                response.drain();
                Ok(SessionStep::Lost("the registry lost the upload session"))
            }
            413 => Ok(SessionStep::Refused { response, refusal: Refusal::TooLarge }),
            400 | 405 | 411 | 415 | 416 | 501 => {
                let refusal = if response.status == 416 { Refusal::TooLarge } else { Refusal::Form };
                Ok(SessionStep::Refused { response, refusal })
            }
            _ => Err(Attempt::Fatal(unexpected(self.requester, self.repository, &self.task, response))),
        }
    }

    /// Ends the session with an empty PUT.
    fn close(
        &self,
        session: &Session,
        auth: &mut AuthProgress,
        attempt: u32,
    ) -> Result<SessionStep, Attempt> {
        let url = session.location.with_query("digest", &self.descriptor.digest.to_string());
        let mut call = self.content_call(Method::Put, url);
        call.closing = Some(self.descriptor.size);
        loop {
            match self.requester.attempt(self.host, &call, Payload::None, auth, attempt) {
                // The token expired while the body was sent; the session is still good.
                Err(Attempt::Reauthenticate) => {}
                Err(other) => return Err(other),
                Ok(response) => return self.closed(response),
            }
        }
    }

    /// Sorts the response to the closing PUT.
    pub(super) fn closed(&self, response: Response) -> Result<SessionStep, Attempt> {
        match response.status {
            200..=299 => {
                let stored = response.header("docker-content-digest").map(str::to_owned);
                response.drain();
                let expected = &self.descriptor.digest;
                let other = stored.and_then(|text| text.trim().parse::<Digest>().ok()).filter(|stored| {
                    // A registry may name the same bytes by another algorithm.
                    stored.algorithm() == expected.algorithm() && stored != expected
                });
                match other {
                    Some(other) => Err(Attempt::Fatal(RegistryError::Protocol {
                        task: Box::new(self.task.clone()),
                        problem: format!("the registry stored it as `{other}`"),
                    })),
                    None => Ok(SessionStep::Done),
                }
            }
            404 => {
                response.drain();
                Ok(SessionStep::Lost("the registry lost the upload session"))
            }
            413 => Ok(SessionStep::Refused { response, refusal: Refusal::TooLarge }),
            400 | 405 | 411 | 415 | 416 | 501 => {
                Ok(SessionStep::Refused { response, refusal: Refusal::Form })
            }
            _ => Err(Attempt::Fatal(unexpected(self.requester, self.repository, &self.task, response))),
        }
    }

    /// Sends the blob in ranges, and continues after a break at the position that the registry reports.
    fn send_chunks(
        &self,
        chunk: u64,
        session: &mut Session,
        auth: &mut AuthProgress,
        attempt: u32,
    ) -> Result<SessionStep, Attempt> {
        let size = self.descriptor.size;
        let mut offset = 0;
        let mut tries = RetryBudget::new();
        while offset < size {
            let length = chunk.min(size - offset);
            let mut call = self.content_call(Method::Patch, session.location.clone());
            call.headers.push(("content-range", format!("{offset}-{}", offset + length - 1)));
            let answered = self.stream(&call, offset, length, auth, attempt);
            let later = match answered {
                Ok(response) => match self.classify(response, &mut session.location)? {
                    SessionStep::Done => {
                        // The reported range is not used: ECR's stays at the first chunk.
                        offset += length;
                        tries.progressed();
                        continue;
                    }
                    SessionStep::Refused { response, refusal: Refusal::TooLarge }
                        if response.status == 416 =>
                    {
                        match self.position(session, auth)? {
                            // It has what we sent, or part of it: the response to an earlier chunk was lost.
                            Some(position) if position > offset && position <= size => {
                                offset = position;
                                response.drain();
                                continue;
                            }
                            _ => return Ok(SessionStep::Refused { response, refusal: Refusal::TooLarge }),
                        }
                    }
                    other => return Ok(other),
                },
                Err(Attempt::Reauthenticate) => continue,
                Err(Attempt::Transient(later)) => later,
                Err(fatal) => return Err(fatal),
            };
            self.requester.wait(&mut tries, self.host, &self.task, later)?;
            match self.position(session, auth)? {
                Some(position) if position >= offset && position <= offset + length => offset = position,
                _ => return Ok(SessionStep::Lost("the registry lost the upload session")),
            }
        }
        self.close(session, auth, attempt)
    }

    /// Asks the registry how many bytes of the session it has.
    fn position(&self, session: &mut Session, auth: &mut AuthProgress) -> Result<Option<u64>, Attempt> {
        let call = self.call(Method::Get, session.location.clone());
        let response = match self.requester.attempt(self.host, &call, Payload::None, auth, 1) {
            Ok(response) => response,
            Err(Attempt::Fatal(error)) => return Err(Attempt::Fatal(error)),
            Err(_) => return Ok(None),
        };
        if !matches!(response.status, 200..=299) {
            response.drain();
            return Ok(None);
        }
        let end = response.header("range").and_then(range_end);
        if let Some(next) = self.location(&response)? {
            session.location = next;
        }
        response.drain();
        // `0-0` is one byte or none; none costs only a byte sent twice, which the registry would refuse.
        Ok(end.map(|end| if end == 0 { 0 } else { end + 1 }))
    }

    /// Tells the registry that a session is abandoned; its response is ignored.
    pub(super) fn abandon(&self, session: &Session) {
        let call = self.call(Method::Delete, session.location.clone());
        let mut auth = AuthProgress::default();
        for attempt in 1..=2 {
            match self.requester.attempt(self.host, &call, Payload::None, &mut auth, attempt) {
                Ok(response) => return response.drain(),
                // The token has expired, perhaps for the same reason as the session; the next request gets a new one.
                Err(Attempt::Reauthenticate) => {}
                Err(_) => return,
            }
        }
    }
}

/// Reads the last position of `0-99` or `bytes=0-99`.
fn range_end(value: &str) -> Option<u64> {
    value.trim().trim_start_matches("bytes=").split_once('-')?.1.parse().ok()
}

/// A part of a blob; the error of reading it is kept apart from the wire's.
struct Part<'a> {
    body: &'a dyn BlobBody,
    offset: u64,
    length: u64,
    error: RefCell<Option<io::Error>>,
}

impl PayloadSource for Part<'_> {
    fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        let opened = if self.offset == 0 { self.body.open() } else { self.body.open_at(self.offset) };
        let inner = opened.map_err(|error| {
            let kind = error.kind();
            *self.error.borrow_mut() = Some(error);
            io::Error::from(kind)
        })?;
        Ok(Box::new(Guarded { inner, error: &self.error, left: self.length }))
    }
}

/// A source whose error is kept apart from the wire's.
struct Guarded<'a> {
    inner: Box<dyn Read + Send + 'a>,
    error: &'a RefCell<Option<io::Error>>,
    left: u64,
}

impl Read for Guarded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buffer) {
            Ok(0) if self.left > 0 && !buffer.is_empty() => {
                let problem = format!("it ended {} bytes before its announced size", self.left);
                *self.error.borrow_mut() = Some(io::Error::new(io::ErrorKind::UnexpectedEof, problem));
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Ok(n) => {
                self.left = self.left.saturating_sub(n as u64);
                Ok(n)
            }
            Err(error) => {
                let kind = error.kind();
                if kind != io::ErrorKind::Interrupted {
                    *self.error.borrow_mut() = Some(error);
                }
                Err(kind.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scripted::{Exchange, Scripted, body, head, on};
    use super::super::upload::{PushOutcome, PushStart};
    use super::*;

    /// Source: RFC 9110 15.4.8 and 15.4.9: the method and the body stay.
    #[test]
    fn redirects_307_and_308_are_followed_for_post_patch_put_and_delete() {
        let to = |path: &str| {
            body("307 Temporary Redirect", &format!("location: http://{{host}}{path}\r\n"), "moved")
        };
        let accepted =
            |location: &str| head("202 Accepted", &format!("location: {location}\r\ncontent-length: 0\r\n"));
        let basic = "authorization: Basic Y2k6aHVudGVyMg==";
        // Large enough not to be sent in one request.
        let bytes = vec![b'x'; 300_000];
        let digest = Digest::sha256_of(&bytes);
        let server = Scripted::start(vec![
            on("POST /v2/a/blobs/uploads/", &to("/other/uploads")),
            on("POST /other/uploads", &body("401 Unauthorized", "www-authenticate: Basic realm=x\r\n", "")),
            Exchange { header: basic, ..on("POST /v2/a/blobs/uploads/", &to("/other/uploads")) },
            Exchange { header: basic, ..on("POST /other/uploads", &accepted("/up/1")) },
            Exchange { header: "content-length: 300000", ..on("PATCH /up/1", &to("/up/2")) },
            Exchange { header: "content-length: 300000", ..on("PATCH /up/2", &accepted("/up/2")) },
            on(&format!("PUT /up/2?digest={digest}"), &to("/up/3")),
            on("PUT /up/3", &body("201 Created", "", "")),
        ]);
        let blob = Descriptor::new("application/octet-stream", digest, 300_000);
        let pushed = server.client().push_blob(&server.repository(), &blob, &bytes, PushStart::Send, &|_| {});
        assert_eq!(pushed.unwrap(), PushOutcome::Uploaded);
        let (small, digest) = (b"12345".to_vec(), Digest::sha256_of(b"12345"));
        let posted = format!("POST /v2/a/blobs/uploads/?digest={digest}");
        let five = "content-length: 5";
        let server = Scripted::start(vec![
            Exchange { header: five, ..on(&posted, &to("/other/uploads")) },
            on("POST /other/uploads", &body("401 Unauthorized", "www-authenticate: Basic realm=x\r\n", "")),
            Exchange { header: basic, ..on(&posted, &to("/other/uploads")) },
            Exchange { header: five, ..on("POST /other/uploads", &accepted("/up/1")) },
            Exchange { header: five, ..on(&format!("PUT /up/1?digest={digest}"), &to("/up/2")) },
            Exchange { header: five, ..on("PUT /up/2", &body("201 Created", "", "")) },
        ]);
        let blob = Descriptor::new("application/octet-stream", digest, 5);
        let sent = std::cell::Cell::new(0);
        let progress = |bytes| sent.set(sent.get() + bytes);
        let pushed =
            server.client().push_blob(&server.repository(), &blob, &small, PushStart::Send, &progress);
        assert_eq!((pushed.unwrap(), sent.get()), (PushOutcome::Uploaded, 5), "sent twice, counted once");
        let digest = Digest::sha256_of(b"x");
        let gone = body("202 Accepted", "", "");
        let server = Scripted::start(vec![
            on(&format!("DELETE /v2/a/manifests/{digest}"), &to("/b")),
            on("DELETE /b", &gone),
        ]);
        server.client().delete_manifest(&server.repository(), &digest).unwrap();
    }

    #[test]
    fn other_redirects_of_an_upload_show_their_target() {
        let moved = body("302 Found", "location: https://login.example/x?code=s3cret\r\n", "");
        let server = Scripted::start(vec![on("POST /v2/a/blobs/uploads/", &moved)]);
        let bytes = vec![b'1'; 300_000];
        let blob = Descriptor::of_bytes("application/octet-stream", &bytes);
        let pushed = server.client().push_blob(&server.repository(), &blob, &bytes, PushStart::Send, &|_| {});
        let error = pushed.unwrap_err().to_string();
        let expected =
            ": the response was 302 to `https://login.example/x?code=***`, which is not followed here";
        assert!(error.ends_with(expected), "{error}");
    }

    #[test]
    fn the_end_of_a_range_is_read() {
        for (text, expected) in
            [("0-99", Some(99)), ("bytes=0-99", Some(99)), ("0-", None), ("x", None), ("", None)]
        {
            assert_eq!(range_end(text), expected, "{text}");
        }
    }
}

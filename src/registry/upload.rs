//! Writes a blob: HEAD request, mount, upload session, closing request; other forms for registries that need them.
//!
//! The first form is docker's own, which every registry takes: POST, one PATCH with the whole blob, PUT. A small blob is
//! sent with the PUT, and if the registry takes it, with the POST, which saves round trips. A session that failed is not
//! continued (some registries keep half of it): a HEAD request is sent, and the blob is sent again.

use std::sync::OnceLock;

use crate::model::{Descriptor, Digest, Method, Repository};
use crate::stream::lock;

use super::auth::AuthProgress;
use super::blob_body::{BlobBody, KeptBody};
use super::error::{RegistryError, Task, Verb};
use super::http::Response;
use super::requests::{Attempt, Call, Follow, Requester, unexpected};
use super::retry::{RetryBudget, Transient};
use super::token::Scopes;
use super::upload_plan::{Refusal, UploadEvent, UploadForm, UploadPlan};
use super::upload_session::{Session, SessionStep, Upload};

/// How the push of a blob begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushStart<'a> {
    /// With a HEAD request; if the blob is absent, it is mounted from the first of these repositories that is of the
    /// same registry.
    Ask(&'a [Repository]),
    /// As [`PushStart::Ask`] does after a response that the blob is absent, because it very likely is.
    Mount(&'a [Repository]),
    /// With its bytes, because it is very unlikely to be there; that saves a round trip.
    Send,
}

/// The result of pushing a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushOutcome {
    /// Its bytes were sent.
    Uploaded,
    /// The registry mounted it from another of its repositories.
    Mounted,
    /// The repository had it already.
    Present,
}

/// Asks whether a blob is there.
///
/// Where the registry will not say, or says nothing that fits the blob's size and digest, it counts as absent: sending
/// it once more is safe, leaving it out is not.
pub(super) fn has_blob(
    requester: &Requester,
    repository: &Repository,
    descriptor: &Descriptor,
    task: &Task,
    actions: &str,
) -> Result<bool, RegistryError> {
    let ask = |method, headers, follow| {
        let call = Call {
            repository,
            method,
            url: requester.url(repository, &format!("blobs/{}", descriptor.digest))?,
            headers,
            scopes: Scopes::new(repository, actions),
            task,
            follow,
            closing: None,
            blob_bytes: Some(descriptor.size),
        };
        match requester.run(&call, None) {
            Ok(response) => Ok(Some(response)),
            Err(RegistryError::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    };
    let Some(response) = ask(Method::Head, Vec::new(), Follow::None)? else { return Ok(false) };
    if !matches!(response.status, 301 | 302 | 303 | 307 | 308) {
        return Ok(stores(response, descriptor));
    }
    response.drain();
    // The storage's URL is signed for GET only. One byte is enough to learn the size; an empty blob has none.
    let range = if descriptor.size == 0 { Vec::new() } else { vec![("range", "bytes=0-0".to_owned())] };
    match ask(Method::Get, range, Follow::All) {
        Ok(Some(response)) => Ok(stores(response, descriptor)),
        Ok(None) | Err(RegistryError::Unreachable { .. } | RegistryError::WebPage { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Tells whether a response says that the blob is stored: with its size, or with its digest where no size is given.
fn stores(response: Response, descriptor: &Descriptor) -> bool {
    let status = response.status;
    let digest = response.header("docker-content-digest").and_then(|text| text.trim().parse::<Digest>().ok());
    let range =
        response.header("content-range").and_then(|range| range.rsplit_once('/')?.1.trim().parse().ok());
    let size = if status == 206 { range } else { response.content_length() };
    response.abandon();
    let expected = &descriptor.digest;
    // A registry may name the same bytes by another algorithm.
    let comparable = digest.filter(|digest| digest.algorithm() == expected.algorithm());
    let fits = match (size, &comparable) {
        (Some(size), _) if size != descriptor.size => false,
        (_, Some(digest)) => digest == expected,
        (Some(_), None) => true,
        (None, None) => false,
    };
    fits && matches!(status, 200 | 206)
}

pub(super) fn push_blob(
    requester: &Requester,
    repository: &Repository,
    descriptor: &Descriptor,
    body: &dyn BlobBody,
    start: PushStart<'_>,
    progress: &dyn Fn(u64),
) -> Result<PushOutcome, RegistryError> {
    let host = requester.host(repository.registry());
    let task = Task::new(repository, Verb::Upload, format!("blob `{}`", descriptor.digest));
    let upload = Upload { requester, host: &host, repository, descriptor, body, progress, task };
    let size = descriptor.size;
    if !lock(&host.uploads).may_try_at_once(size) {
        return upload.run(start);
    }
    // Its bytes may be sent without a result, which is neither progress nor a restart.
    let kept = KeptBody { body, bytes: OnceLock::new() };
    let outcome = Upload { body: &kept, progress: &|_| {}, ..upload }.run(start)?;
    if outcome == PushOutcome::Uploaded {
        progress(size);
    }
    Ok(outcome)
}

/// What the first request of an attempt came to.
enum Begun {
    /// The registry took the bytes with it.
    Stored,
    Mounted,
    Open(Session),
}

/// What follows an attempt.
enum After {
    /// The registry has the blob.
    Stored,
    /// The next attempt, without waiting.
    AtOnce,
    /// The next attempt, after the delay for this failure.
    Wait(Transient),
}

impl Upload<'_> {
    fn run(&self, start: PushStart<'_>) -> Result<PushOutcome, RegistryError> {
        let mut mounts = match start {
            PushStart::Ask(_) if self.is_there()? => return Ok(PushOutcome::Present),
            PushStart::Ask(from) | PushStart::Mount(from) => from,
            PushStart::Send => &[],
        };
        let mut tries = RetryBudget::new();
        let mut auth = AuthProgress::default();
        let mut plan = lock(&self.host.uploads).plan(self.descriptor.size);
        loop {
            let mut session = None;
            let result = match self.begin(mounts, plan, &mut auth, tries.attempt()) {
                Ok(Begun::Mounted) => return Ok(PushOutcome::Mounted),
                Ok(Begun::Stored) => Ok(SessionStep::Done),
                Ok(Begun::Open(opened)) => {
                    self.send(plan.form(), session.insert(opened), &mut auth, tries.attempt())
                }
                Err(failure) => Err(failure),
            };
            mounts = &[];
            let before = plan;
            let after = self.after_attempt(result, session.as_ref(), &mut plan)?;
            lock(&self.host.uploads).changed(before, plan);
            match after {
                After::Stored => return Ok(PushOutcome::Uploaded),
                After::AtOnce => {}
                After::Wait(failure) => self.requester.wait(&mut tries, self.host, &self.task, failure)?,
            }
            // The blob may be stored, and only the response to the last attempt lost.
            if self.is_there()? {
                return Ok(PushOutcome::Uploaded);
            }
        }
    }

    fn is_there(&self) -> Result<bool, RegistryError> {
        has_blob(self.requester, self.repository, self.descriptor, &self.task, "pull,push")
    }

    /// Decides what follows an attempt, and adapts the plan to how it failed.
    fn after_attempt(
        &self,
        result: Result<SessionStep, Attempt>,
        session: Option<&Session>,
        plan: &mut UploadPlan,
    ) -> Result<After, RegistryError> {
        let abandon = || session.into_iter().for_each(|session| self.abandon(session));
        let size = self.descriptor.size;
        match result {
            Ok(SessionStep::Done) => {
                if let Some(form) = plan.proven_form() {
                    self.remember_form(form);
                }
                Ok(After::Stored)
            }
            Ok(SessionStep::Refused { response, refusal }) => {
                let status = response.status;
                let error = unexpected(self.requester, self.repository, &self.task, response);
                abandon();
                *plan = plan.next(UploadEvent::Refused(refusal), size).ok_or(error)?;
                if refusal == Refusal::TooLarge {
                    // The host's other blobs start with this size.
                    self.remember_form(plan.form());
                    return Ok(After::AtOnce);
                }
                let cause = format!("the response was {status}");
                Ok(After::Wait(Transient { status: Some(status), ..Transient::new(cause) }))
            }
            Ok(SessionStep::Lost(cause)) => {
                *plan = plan.next(UploadEvent::Lost, size).unwrap_or(*plan);
                Ok(After::Wait(Transient::new(cause)))
            }
            Err(Attempt::Reauthenticate) => {
                abandon();
                Ok(After::AtOnce)
            }
            Err(Attempt::Transient(failure)) => {
                if let Some(status) = failure.status {
                    abandon();
                    // 429 and 503 are about the number of requests.
                    if !matches!(status, 429 | 503) {
                        *plan = plan.next(UploadEvent::Failed, size).unwrap_or(*plan);
                    }
                } else {
                    *plan = plan.next(UploadEvent::Broken, size).unwrap_or(*plan);
                }
                Ok(After::Wait(failure))
            }
            Err(Attempt::Fatal(error)) => {
                abandon();
                Err(error)
            }
        }
    }

    /// Remembers the form that worked for the registry's other blobs.
    fn remember_form(&self, form: UploadForm) {
        lock(&self.host.uploads).form = form;
    }

    /// Sends the first request of an attempt.
    fn begin(
        &self,
        mount_from: &[Repository],
        plan: UploadPlan,
        auth: &mut AuthProgress,
        attempt: u32,
    ) -> Result<Begun, Attempt> {
        let size = self.descriptor.size;
        if mount_from.is_empty() && lock(&self.host.uploads).begin_at_once(plan, size) {
            let result = loop {
                match self.send_at_once(auth, attempt) {
                    Err(Attempt::Reauthenticate) => {}
                    other => break other,
                }
            };
            let taken = match &result {
                Ok(Some(Begun::Stored)) => Some(true),
                Ok(_) | Err(Attempt::Transient(_)) => Some(false),
                Err(Attempt::Reauthenticate | Attempt::Fatal(_)) => None,
            };
            lock(&self.host.uploads).ended_at_once(taken);
            if let Some(begun) = result? {
                return Ok(begun);
            }
        }
        Ok(self.start(mount_from)?.map_or(Begun::Mounted, Begun::Open))
    }

    /// Sends the blob with the POST; `None` when the registry does not take it so.
    fn send_at_once(&self, auth: &mut AuthProgress, attempt: u32) -> Result<Option<Begun>, Attempt> {
        let url = self.requester.url(self.repository, "blobs/uploads/")?;
        let size = self.descriptor.size;
        let call =
            self.content_call(Method::Post, url.with_query("digest", &self.descriptor.digest.to_string()));
        let response = self.stream(&call, 0, size, auth, attempt)?;
        match response.status {
            201 => Ok(match self.closed(response)? {
                SessionStep::Done => Some(Begun::Stored),
                SessionStep::Refused { .. } | SessionStep::Lost(_) => None,
            }),
            // It opened a session and did not look at the bytes.
            202 => Ok(Some(Begun::Open(self.session(response)?))),
            _ => {
                response.drain();
                Ok(None)
            }
        }
    }

    /// Opens a session, or has the blob mounted (`None`).
    fn start(&self, mount_from: &[Repository]) -> Result<Option<Session>, RegistryError> {
        let url = self.requester.url(self.repository, "blobs/uploads/")?;
        let usable =
            |from: &&Repository| from.registry() == self.repository.registry() && *from != self.repository;
        if let Some(from) = mount_from.iter().find(usable) {
            let digest = self.descriptor.digest.to_string();
            let mount = url.with_query("mount", &digest).with_query("from", from.name());
            let mut call = self.call(Method::Post, mount);
            call.scopes = call.scopes.and_pull(from);
            match self.requester.run(&call, None) {
                Ok(response) if response.status == 201 => {
                    response.drain();
                    return Ok(None);
                }
                // Not mounted, but a session was opened.
                Ok(response) if response.status == 202 => return self.session(response).map(Some),
                Ok(response) => response.drain(),
                // Registries refuse a mount with many statuses; none of them means that the push is refused.
                Err(RegistryError::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let response = self.requester.run(&self.call(Method::Post, url), None)?;
        match response.status {
            200..=299 => self.session(response).map(Some),
            404 => {
                // The blob is known to be absent: 404 here means that there is no such repository.
                let task = Task { object: "place for uploads".to_owned(), ..self.task.clone() };
                Err(unexpected(self.requester, self.repository, &task, response))
            }
            _ => Err(unexpected(self.requester, self.repository, &self.task, response)),
        }
    }

    fn session(&self, response: Response) -> Result<Session, RegistryError> {
        let least = response.header("oci-chunk-min-length").and_then(|text| text.trim().parse().ok());
        let location = self.location(&response)?.ok_or_else(|| RegistryError::Protocol {
            task: Box::new(self.task.clone()),
            problem: "the registry opened an upload without saying where (no `Location`)".into(),
        })?;
        response.drain();
        Ok(Session { location, least: least.unwrap_or(0) })
    }
}

#[cfg(test)]
mod tests {
    use super::super::scripted::{Exchange, Scripted, body, head, on};
    use super::*;

    /// Larger than what is sent with the `PUT` alone.
    const BYTES: &[u8] = &[b'1'; 300_000];

    fn blob() -> Descriptor {
        Descriptor::new("application/octet-stream", Digest::sha256_of(BYTES), BYTES.len() as u64)
    }

    /// The request for the blob below `a`.
    fn blob_request(method: &str) -> String {
        format!("{method} /v2/a/blobs/{}", blob().digest)
    }

    fn absent() -> Exchange {
        on(&blob_request("HEAD"), &head("404 Not Found", "content-length: 0\r\n"))
    }

    /// Opens a session and takes the blob.
    fn upload(post: &str) -> [Exchange; 3] {
        let accepted = body("202 Accepted", "location: /up\r\n", "");
        let closing = format!("PUT /up?digest={}", blob().digest);
        [on(post, &accepted), on("PATCH /up", &accepted), on(&closing, &body("201 Created", "", ""))]
    }

    fn push(server: &Scripted, start: PushStart<'_>) -> Result<PushOutcome, String> {
        let bytes = BYTES.to_vec();
        let pushed = server.client().push_blob(&server.repository(), &blob(), &bytes, start, &|_| {});
        pushed.map_err(|error| error.to_string())
    }

    #[test]
    fn a_head_response_proves_a_blob_by_size_or_digest() {
        let (own, other) = (blob().digest, Digest::sha256_of(b"other"));
        let sha512 = format!("sha512:{}", "0".repeat(128));
        let named = |digest: &str| format!("docker-content-digest: {digest}\r\n");
        for (status, headers, expected) in [
            ("200 OK", "content-length: 300000\r\n".to_owned(), true),
            ("200 OK", "content-length: 299999\r\n".to_owned(), false),
            ("200 OK", "content-length: 300001\r\n".to_owned(), false),
            ("200 OK", format!("content-length: 300000\r\n{}", named(&own.to_string())), true),
            ("200 OK", format!("content-length: 300000\r\n{}", named(&other.to_string())), false),
            ("200 OK", format!("content-length: 299999\r\n{}", named(&own.to_string())), false),
            ("200 OK", format!("content-length: 300000\r\n{}", named(&sha512)), true),
            ("200 OK", named(&format!(" {own} ")), true),
            ("200 OK", named(&other.to_string()), false),
            ("200 OK", named(&sha512), false),
            ("200 OK", String::new(), false),
            ("204 No Content", named(&own.to_string()), false),
            ("404 Not Found", "content-length: 300000\r\n".to_owned(), false),
            ("405 Method Not Allowed", "content-length: 0\r\n".to_owned(), false),
        ] {
            let server = Scripted::start(vec![on(&blob_request("HEAD"), &head(status, &headers))]);
            let found = server.client().has_blob(&server.repository(), &blob()).unwrap();
            assert_eq!(found, expected, "{status} {headers}");
        }
    }

    #[test]
    fn a_redirected_head_request_is_repeated_as_a_get_of_one_byte() {
        let moved = body("307 Temporary Redirect", "location: /storage\r\n", "");
        for (response, expected) in [
            (body("206 Partial Content", "content-range: bytes 0-0/300000\r\n", "1"), true),
            (body("206 Partial Content", "content-range: bytes 0-0/299999\r\n", "1"), false),
            (body("206 Partial Content", "content-range: bytes 0-0\r\n", "1"), false),
            (body("200 OK", "", &"1".repeat(300_000)), true),
            (body("200 OK", "", "1"), false),
            (body("404 Not Found", "", ""), false),
        ] {
            let server = Scripted::start(vec![
                on(&blob_request("HEAD"), &moved),
                Exchange { header: "range: bytes=0-0", ..on(&blob_request("GET"), &moved) },
                Exchange { header: "range: bytes=0-0", ..on("GET /storage", &response) },
            ]);
            let found = server.client().has_blob(&server.repository(), &blob()).unwrap();
            assert_eq!(found, expected, "{response}");
        }
    }

    #[test]
    fn a_blob_that_is_there_is_not_sent() {
        let there = on(&blob_request("HEAD"), &head("200 OK", "content-length: 300000\r\n"));
        let server = Scripted::start(vec![there]);
        assert_eq!(push(&server, PushStart::Ask(&[])), Ok(PushOutcome::Present));
    }

    #[test]
    fn a_blob_is_mounted_from_another_repository_of_the_same_registry() {
        let server_and_sources = |rest: Vec<Exchange>| {
            let mut script = vec![absent()];
            script.extend(rest);
            let server = Scripted::start(script);
            let sources: Vec<Repository> = ["elsewhere.example/b", &format!("{}/a", server.host)]
                .into_iter()
                .map(str::to_owned)
                .chain([format!("{}/b", server.host), format!("{}/c", server.host)])
                .map(|name| name.parse().unwrap())
                .collect();
            (server, sources)
        };
        let digest = blob().digest.to_string();
        let mount = format!("POST /v2/a/blobs/uploads/?mount={digest}&from=b");
        let created = on(&mount, &body("201 Created", "", ""));
        let (server, sources) = server_and_sources(vec![created]);
        assert_eq!(push(&server, PushStart::Ask(&sources)), Ok(PushOutcome::Mounted));
        // The registry opens a session in place of mounting.
        let (server, sources) = server_and_sources(upload(&mount).into());
        assert_eq!(push(&server, PushStart::Ask(&sources)), Ok(PushOutcome::Uploaded));
        // The registry does not mount.
        for status in ["200 OK", "400 Bad Request", "405 Method Not Allowed"] {
            let mut script = vec![on(&mount, &body(status, "", ""))];
            script.extend(upload("POST /v2/a/blobs/uploads/"));
            let (server, sources) = server_and_sources(script);
            assert_eq!(push(&server, PushStart::Ask(&sources)), Ok(PushOutcome::Uploaded), "{status}");
        }
        // No source is of this registry and another repository.
        let mut script = vec![absent()];
        script.extend(upload("POST /v2/a/blobs/uploads/"));
        let server = Scripted::start(script);
        let own = [server.repository()];
        assert_eq!(push(&server, PushStart::Ask(&own)), Ok(PushOutcome::Uploaded));
    }

    #[test]
    fn a_session_that_cannot_be_opened_is_an_error() {
        for (response, expected) in [
            (body("404 Not Found", "", ""), "place for uploads"),
            (
                body("202 Accepted", "", ""),
                "the registry opened an upload without saying where (no `Location`)",
            ),
            (body("422 Unprocessable Entity", "", ""), "422"),
        ] {
            let server = Scripted::start(vec![on("POST /v2/a/blobs/uploads/", &response)]);
            let error = push(&server, PushStart::Send).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_failed_session_is_abandoned_and_the_blob_sent_again() {
        let [post, patch, _] = upload("POST /v2/a/blobs/uploads/");
        let closing = format!("PUT /up?digest={}", blob().digest);
        let mut script = vec![
            post,
            patch,
            on(&closing, &body("503 Service Unavailable", "", "")),
            on("DELETE /up", &body("204 No Content", "", "")),
            absent(),
        ];
        script.extend(upload("POST /v2/a/blobs/uploads/"));
        assert_eq!(push(&Scripted::start(script), PushStart::Send), Ok(PushOutcome::Uploaded));
        // Only the response was lost: the blob is there.
        let [post, patch, _] = upload("POST /v2/a/blobs/uploads/");
        let server = Scripted::start(vec![
            post,
            patch,
            on(&closing, &body("502 Bad Gateway", "", "")),
            on("DELETE /up", &body("404 Not Found", "", "")),
            on(&blob_request("HEAD"), &head("200 OK", "content-length: 300000\r\n")),
        ]);
        assert_eq!(push(&server, PushStart::Send), Ok(PushOutcome::Uploaded));
    }

    #[test]
    fn a_refused_form_of_upload_is_replaced_by_another() {
        let [post, _, _] = upload("POST /v2/a/blobs/uploads/");
        let gone = || on("DELETE /up", &body("204 No Content", "", ""));
        // Without PATCH: everything in the PUT.
        let whole = format!("PUT /up?digest={}", blob().digest);
        let server = Scripted::start(vec![
            post,
            on("PATCH /up", &body("405 Method Not Allowed", "", "")),
            gone(),
            absent(),
            on("POST /v2/a/blobs/uploads/", &body("202 Accepted", "location: /up\r\n", "")),
            Exchange { header: "content-length: 300000", ..on(&whole, &body("201 Created", "", "")) },
        ]);
        assert_eq!(push(&server, PushStart::Send), Ok(PushOutcome::Uploaded));
        // Too large: in chunks.
        let [post, patch, put] = upload("POST /v2/a/blobs/uploads/");
        let [again, _, _] = upload("POST /v2/a/blobs/uploads/");
        let server = Scripted::start(vec![
            post,
            on("PATCH /up", &body("413 Payload Too Large", "", "")),
            gone(),
            absent(),
            again,
            Exchange { header: "content-range: 0-299999", ..patch },
            put,
        ]);
        assert_eq!(push(&server, PushStart::Send), Ok(PushOutcome::Uploaded));
    }
}

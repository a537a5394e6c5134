//! Writes a blob: HEAD request, mount, upload session, closing request; other forms for registries that need them.
//!
//! The first form is docker's own, which every registry takes: POST, one PATCH with the whole blob, PUT. A session that
//! failed is not continued (some registries keep half of it): a HEAD request is sent, and the blob is sent again.

use crate::model::{Descriptor, Digest, Method, Repository};
use crate::stream::lock;

use super::auth::AuthProgress;
use super::blob_body::BlobBody;
use super::error::{RegistryError, Task, Verb};
use super::http::Response;
use super::requests::{Attempt, Call, Follow, Requester, unexpected};
use super::retry::{RetryBudget, Transient};
use super::token::Scopes;
use super::upload_plan::{Event, Plan, Refusal, UploadForm};
use super::upload_session::{Session, Step, Upload};

/// How the push of a blob begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushStart<'a> {
    /// With a HEAD request; if the blob is absent, it is mounted from the first of these repositories that is of the
    /// same registry.
    Ask(&'a [Repository]),
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
    upload.run(start)
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
        let mut mounts: &[Repository] = &[];
        if let PushStart::Ask(from) = start {
            if self.is_there()? {
                return Ok(PushOutcome::Present);
            }
            mounts = from;
        }
        let mut tries = RetryBudget::new();
        let mut auth = AuthProgress::default();
        let mut plan = Plan::new(*lock(&self.host.upload_form));
        loop {
            let Some(mut session) = self.start(mounts)? else { return Ok(PushOutcome::Mounted) };
            mounts = &[];
            let result = self.send(plan.form(), &mut session, &mut auth, tries.attempt());
            match self.after_attempt(result, &session, &mut plan)? {
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
        result: Result<Step, Attempt>,
        session: &Session,
        plan: &mut Plan,
    ) -> Result<After, RegistryError> {
        let size = self.descriptor.size;
        match result {
            Ok(Step::Done) => {
                if let Some(form) = plan.proven_form() {
                    self.remember_form(form);
                }
                Ok(After::Stored)
            }
            Ok(Step::Refused { response, refusal }) => {
                let status = response.status;
                let error = unexpected(self.requester, self.repository, &self.task, response);
                self.abandon(session);
                *plan = plan.next(Event::Refused(refusal), size).ok_or(error)?;
                if refusal == Refusal::TooLarge {
                    // The host's other blobs start with this size.
                    self.remember_form(plan.form());
                    return Ok(After::AtOnce);
                }
                let cause = format!("the answer was {status}");
                Ok(After::Wait(Transient { status: Some(status), ..Transient::new(cause) }))
            }
            Ok(Step::Lost(cause)) => {
                *plan = plan.next(Event::Lost, size).unwrap_or(*plan);
                Ok(After::Wait(Transient::new(cause)))
            }
            Err(Attempt::Reauthenticate) => {
                self.abandon(session);
                Ok(After::AtOnce)
            }
            Err(Attempt::Transient(failure)) => {
                if failure.status.is_some() {
                    self.abandon(session);
                } else {
                    *plan = plan.next(Event::Broken, size).unwrap_or(*plan);
                }
                Ok(After::Wait(failure))
            }
            Err(Attempt::Fatal(error)) => {
                self.abandon(session);
                Err(error)
            }
        }
    }

    /// Remembers the form that worked for the registry's other blobs.
    fn remember_form(&self, form: UploadForm) {
        *lock(&self.host.upload_form) = form;
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

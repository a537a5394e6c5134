//! Writing a blob: ask, mount, open a session, send, close; in another form where a registry wants one.
//!
//! The first form is docker's own, which every registry takes: POST, one PATCH with everything, PUT. A session that
//! failed is never trusted again (some registries keep half of it): the blob is asked for and sent anew.

use crate::model::{Descriptor, Digest, Repository};
use crate::stream::lock;

use super::auth::{AuthProgress, Scopes};
use super::blob_body::BlobBody;
use super::error::{RegistryError, Task, Verb};
use super::http::{Method, Response};
use super::requests::{Attempt, Call, Follow, Requester, unexpected};
use super::retry::{RetryBudget, Transient};
use super::upload_form::{MIB, UploadForm};
use super::upload_session::{Session, Step, Upload};

/// Blobs of at least this size are sent in chunks when the connection broke twice in the middle.
const WORTH_CHUNKING: u64 = 16 * MIB;

/// How the push of a blob begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushStart<'a> {
    /// With the question whether it is there; if not, it is mounted from the first of these repositories that is of
    /// the same registry.
    Ask(&'a [Repository]),
    /// With its bytes, because it is hardly there: that saves a round trip.
    Send,
}

/// What became of a blob that was to be pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushOutcome {
    /// Its bytes were sent.
    Uploaded,
    /// The registry took it over from another of its repositories.
    Mounted,
    /// It was there already.
    Present,
}

/// Asks whether a blob is there; where the registry will not say, it counts as absent.
pub(super) fn has_blob(
    requester: &Requester,
    repository: &Repository,
    digest: &Digest,
    task: &Task,
    actions: &str,
) -> Result<bool, RegistryError> {
    let call = Call {
        repository,
        method: Method::Head,
        url: requester.url(repository, &format!("blobs/{digest}"))?,
        headers: Vec::new(),
        scopes: Scopes::new(repository, actions),
        task,
        follow: Follow::No,
        closing: None,
    };
    match requester.run(&call, None) {
        Ok(response) => {
            let status = response.status;
            response.drain();
            // A redirect to the storage means that it is there; the storage's URL is signed for GET only.
            Ok(matches!(status, 200..=299 | 301..=308))
        }
        Err(RegistryError::Refused { .. }) => Ok(false),
        Err(error) => Err(error),
    }
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

impl Upload<'_> {
    fn run(&self, start: PushStart<'_>) -> Result<PushOutcome, RegistryError> {
        let mut tries = RetryBudget::new();
        let mut auth = AuthProgress::default();
        let mut form = *lock(&self.host.upload_form);
        let (mut first, mut broken, mut lost) = (true, 0, 0);
        // Chunks that nobody asked for, because the connection broke in the middle of a large body.
        let mut chunked_by_choice = Some(false);
        loop {
            let asks = !first || start != PushStart::Send;
            if asks
                && has_blob(
                    self.requester,
                    self.repository,
                    &self.descriptor.digest,
                    &self.task,
                    "pull,push",
                )?
            {
                return Ok(if first { PushOutcome::Present } else { PushOutcome::Uploaded });
            }
            let mounts = match start {
                PushStart::Ask(from) if first => from,
                _ => &[],
            };
            first = false;
            let Some(mut session) = self.start(mounts)? else { return Ok(PushOutcome::Mounted) };
            let result = self.send(form, &mut session, &mut auth, tries.attempt());
            let later = match result {
                Ok(Step::Done) => {
                    if chunked_by_choice != Some(true) {
                        self.remember_form(form);
                    }
                    return Ok(PushOutcome::Uploaded);
                }
                Ok(Step::Refused { response, too_large }) => {
                    let status = response.status;
                    let error = unexpected(self.requester, self.repository, &self.task, response);
                    self.abandon(&session);
                    match form.next(too_large) {
                        Some(next) => form = next,
                        // Not every registry takes chunks; it can still have the whole.
                        None if chunked_by_choice == Some(true) => {
                            (form, chunked_by_choice) = (UploadForm::Patch, None);
                        }
                        None => return Err(error),
                    }
                    if too_large {
                        // Others need not find out for themselves.
                        self.remember_form(form);
                        continue;
                    }
                    let cause = format!("the answer was {status}");
                    Transient { status: Some(status), ..Transient::new(cause) }
                }
                Ok(Step::Lost(cause)) => {
                    lost += 1;
                    if lost > 1 && form == UploadForm::Patch {
                        form = UploadForm::Monolithic;
                    }
                    Transient::new(cause)
                }
                Err(Attempt::Reauthenticate) => {
                    self.abandon(&session);
                    continue;
                }
                Err(Attempt::Transient(later)) => {
                    if later.status.is_some() {
                        self.abandon(&session);
                    } else {
                        broken += 1;
                        let worth = self.descriptor.size >= WORTH_CHUNKING && form == UploadForm::Patch;
                        if broken > 1 && worth && chunked_by_choice.is_some() {
                            (form, chunked_by_choice) = (UploadForm::Chunked(WORTH_CHUNKING), Some(true));
                        }
                    }
                    later
                }
                Err(Attempt::Fatal(error)) => {
                    self.abandon(&session);
                    return Err(error);
                }
            };
            self.requester.wait(&mut tries, self.host, &self.task, later)?;
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
                // Registries refuse to mount in many ways; none of them means that the push is refused.
                Err(RegistryError::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let response = self.requester.run(&self.call(Method::Post, url), None)?;
        match response.status {
            200..=299 => self.session(response).map(Some),
            404 => {
                // That the blob is not there is why it is sent; what is missing is the repository.
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

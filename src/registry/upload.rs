//! Writing a blob: ask, mount, open a session, send, close; in another form where a registry wants one.
//!
//! The first form is docker's own, which every registry takes: POST, one PATCH with everything, PUT. A session that
//! failed is never trusted again (some registries keep half of it): the blob is asked for and sent anew.

use std::io::{self, Read};

use crate::model::{Descriptor, Digest, Repository};
use crate::stream::lock;

use super::auth::{AuthTries, Scopes};
use super::client::{PushOutcome, unexpected};
use super::error::{RegistryError, Task, Verb};
use super::http::{Method, Response};
use super::requests::{Attempt, Call, Core, Follow, Host, Later, Tries};
use super::upload_session::{Session, Step};
use super::url::Url;

const MIB: u64 = 1024 * 1024;
/// Chunk sizes that are tried, largest first; GHCR takes at most 4 MiB, AWS at least 5 MiB but says so.
const CHUNKS: [u64; 5] = [64 * MIB, 16 * MIB, 8 * MIB, 4 * MIB, MIB];
/// Blobs of at least this size are sent in chunks when the connection broke twice in the middle.
const WORTH_CHUNKING: u64 = 16 * MIB;

/// Something that can be sent, and sent again from the start.
pub trait BlobBody: Sync {
    /// Opens it at its first byte; called for each attempt.
    fn open(&self) -> io::Result<Box<dyn Read + Send + '_>>;

    /// Opens it at a later byte; what can seek should do so.
    fn open_at(&self, offset: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        let mut reader = self.open()?;
        let skipped = io::copy(&mut reader.by_ref().take(offset), &mut io::sink())?;
        if skipped < offset { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(reader) }
    }
}

impl BlobBody for [u8] {
    fn open(&self) -> io::Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(self))
    }
}

impl BlobBody for Vec<u8> {
    fn open(&self) -> io::Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(self.as_slice()))
    }
}

/// The form in which a registry takes blobs, as far as we have learned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum UploadForm {
    /// One PATCH without a range, then an empty PUT.
    #[default]
    Patch,
    /// Everything in the PUT.
    Monolithic,
    /// PATCHes with ranges, at most so many bytes each.
    Chunked(u64),
}

impl UploadForm {
    /// Returns the form to try when this one was refused; `too_large` when the size of a body was the reason.
    fn next(self, too_large: bool) -> Option<Self> {
        match self {
            Self::Patch if !too_large => Some(Self::Monolithic),
            _ if !too_large => None,
            Self::Patch | Self::Monolithic => CHUNKS.first().map(|size| Self::Chunked(*size)),
            Self::Chunked(size) => CHUNKS.into_iter().find(|smaller| *smaller < size).map(Self::Chunked),
        }
    }
}

/// How the push of a blob begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushStart<'a> {
    /// With the question whether it is there; if not, it is mounted from the first of these repositories that is of
    /// the same registry.
    Ask(&'a [Repository]),
    /// With its bytes, because it is hardly there: that saves a round trip.
    Send,
}

/// Asks whether a blob is there; where the registry will not say, it counts as absent.
pub(super) fn has_blob(
    core: &Core,
    repository: &Repository,
    digest: &Digest,
    task: &Task,
    actions: &str,
) -> Result<bool, RegistryError> {
    let call = Call {
        repository,
        method: Method::Head,
        url: core.url(repository, &format!("blobs/{digest}"), task)?,
        headers: Vec::new(),
        scopes: Scopes::new(repository, actions),
        task,
        follow: Follow::No,
        closing: None,
    };
    match core.run(&call, None) {
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

/// One blob on its way.
pub(super) struct Upload<'a> {
    pub(super) core: &'a Core,
    pub(super) host: &'a Host,
    pub(super) repository: &'a Repository,
    pub(super) descriptor: &'a Descriptor,
    pub(super) body: &'a dyn BlobBody,
    pub(super) progress: &'a dyn Fn(u64),
    pub(super) task: Task,
}

pub(super) fn push_blob(
    core: &Core,
    repository: &Repository,
    descriptor: &Descriptor,
    body: &dyn BlobBody,
    start: PushStart<'_>,
    progress: &dyn Fn(u64),
) -> Result<PushOutcome, RegistryError> {
    let host = core.host(repository.registry());
    let task = Task::new(repository, Verb::Upload, format!("blob `{}`", descriptor.digest));
    let upload = Upload { core, host: &host, repository, descriptor, body, progress, task };
    upload.run(start)
}

impl Upload<'_> {
    fn run(&self, start: PushStart<'_>) -> Result<PushOutcome, RegistryError> {
        let mut tries = Tries::new();
        let mut auth = AuthTries::default();
        let mut form = *lock(&self.host.upload_form);
        let (mut first, mut broken, mut lost) = (true, 0, 0);
        // Chunks that nobody asked for, because the connection broke in the middle of a large body.
        let mut chunked_by_choice = Some(false);
        loop {
            let asks = !first || start != PushStart::Send;
            if asks && has_blob(self.core, self.repository, &self.descriptor.digest, &self.task, "pull,push")?
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
                        self.learn(form);
                    }
                    return Ok(PushOutcome::Uploaded);
                }
                Ok(Step::Refused { response, too_large }) => {
                    let status = response.status;
                    let error = unexpected(self.core, self.repository, &self.task, response);
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
                        self.learn(form);
                        continue;
                    }
                    let cause = format!("the answer was {status}");
                    Later { status: Some(status), ..Later::new(cause) }
                }
                Ok(Step::Lost(cause)) => {
                    lost += 1;
                    if lost > 1 && form == UploadForm::Patch {
                        form = UploadForm::Monolithic;
                    }
                    Later::new(cause)
                }
                Err(Attempt::Again) => {
                    self.abandon(&session);
                    continue;
                }
                Err(Attempt::Later(later)) => {
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
            tries.failed(self.core, Some(self.host), &self.task, later)?;
        }
    }

    /// Remembers the form that worked for the registry's other blobs.
    fn learn(&self, form: UploadForm) {
        *lock(&self.host.upload_form) = form;
    }

    pub(super) fn call(&self, method: Method, url: Url) -> Call<'_> {
        Call {
            repository: self.repository,
            method,
            url,
            headers: Vec::new(),
            scopes: Scopes::new(self.repository, "pull,push"),
            task: &self.task,
            follow: Follow::No,
            closing: None,
        }
    }

    /// Opens a session, or has the blob mounted (`None`).
    fn start(&self, mount_from: &[Repository]) -> Result<Option<Session>, RegistryError> {
        let url = self.core.url(self.repository, "blobs/uploads/", &self.task)?;
        let usable =
            |from: &&Repository| from.registry() == self.repository.registry() && *from != self.repository;
        if let Some(from) = mount_from.iter().find(usable) {
            let digest = self.descriptor.digest.to_string();
            let mount = url.with_query("mount", &digest).with_query("from", from.name());
            let mut call = self.call(Method::Post, mount);
            call.scopes = call.scopes.and_pull(from);
            match self.core.run(&call, None) {
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
        let response = self.core.run(&self.call(Method::Post, url), None)?;
        match response.status {
            200..=299 => self.session(response).map(Some),
            404 => {
                // That the blob is not there is why it is sent; what is missing is the repository.
                let task = Task { object: "place for uploads".to_owned(), ..self.task.clone() };
                Err(unexpected(self.core, self.repository, &task, response))
            }
            _ => Err(unexpected(self.core, self.repository, &self.task, response)),
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
    use super::*;

    #[test]
    fn refused_forms_lead_to_smaller_ones_until_none_is_left() {
        let mut form = UploadForm::Patch;
        let mut seen = vec![form];
        while let Some(next) = form.next(true) {
            form = next;
            seen.push(form);
        }
        assert_eq!(seen.len(), 1 + CHUNKS.len());
        assert_eq!(seen.last(), Some(&UploadForm::Chunked(MIB)));
        assert_eq!(UploadForm::Patch.next(false), Some(UploadForm::Monolithic));
        assert_eq!(UploadForm::Monolithic.next(false), None);
    }

    #[test]
    fn a_body_is_opened_at_an_offset() {
        let body: &[u8] = b"0123456789";
        let mut text = String::new();
        body.open_at(7).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "789");
        assert!(body.open_at(11).is_err());
    }
}

//! Reads a blob: verifies it while it is received, and resumes it after a broken connection.

use std::io;

use crate::model::{Descriptor, Method, Repository};
use crate::stream::{BlobStream, VerifyingReader};

use super::token::Scopes;

use super::classify;
use super::error::{RegistryError, Task, Verb};
use super::http::Response;
use super::layer_urls::{self, LayerUrl};
use super::requests::{Call, Follow, Requester, unexpected};
use super::resuming::{Body, ContentRange, Origin, Resuming, skipping};
use super::retry::{RetryBudget, Transient};

/// Opens a blob; see [`Client::open_blob`](super::Client::open_blob).
pub(super) fn open<'a>(
    requester: &'a Requester,
    repository: &Repository,
    descriptor: &Descriptor,
) -> Result<BlobStream<'a>, RegistryError> {
    let task = Task::new(repository, Verb::Read, format!("blob `{}`", descriptor.digest));
    let mut blob = Blob::new(requester, Some(repository), descriptor, task);
    let body = match blob.connect(0) {
        Err(error) if error.is_not_found() && !descriptor.urls.is_empty() => blob.connect_elsewhere()?,
        other => other?,
    };
    Ok(blob.stream(body))
}

/// Opens a layer that `holder`, a tar, does not hold and that no repository is known for, at one of its `urls`.
pub(super) fn open_at_urls<'a>(
    requester: &'a Requester,
    holder: &str,
    descriptor: &Descriptor,
) -> Result<BlobStream<'a>, RegistryError> {
    let (host, object) = (holder.to_owned(), format!("blob `{}`", descriptor.digest));
    let task = Task { host, repository: String::new(), verb: Verb::Read, object };
    let mut blob = Blob::new(requester, None, descriptor, task);
    let body = blob.connect_elsewhere()?;
    Ok(blob.stream(body))
}

/// A blob of a repository, or of the URLs of its descriptor.
struct Blob<'a> {
    requester: &'a Requester,
    /// None for a layer that is known by its `urls` only.
    repository: Option<Repository>,
    descriptor: Descriptor,
    task: Task,
    /// Where the registry does not hold the blob: the URL that it comes from.
    elsewhere: Option<LayerUrl>,
}

impl<'a> Blob<'a> {
    fn new(
        requester: &'a Requester,
        repository: Option<&Repository>,
        descriptor: &Descriptor,
        task: Task,
    ) -> Self {
        let (repository, descriptor) = (repository.cloned(), descriptor.clone());
        Self { requester, repository, descriptor, task, elsewhere: None }
    }

    /// Goes on with the first response, verified.
    fn stream(self, body: Option<Body>) -> BlobStream<'a> {
        let (digest, size) = (self.descriptor.digest.clone(), self.descriptor.size);
        let body = body.unwrap_or_else(|| Box::new(io::empty()));
        VerifyingReader::new(Resuming::begun(self, 0, body), digest, size).boxed()
    }

    /// Asks the hosts of the descriptor's `urls`.
    fn connect_elsewhere(&mut self) -> Result<Option<Body>, RegistryError> {
        let (repository, urls) = (self.repository.as_ref(), &self.descriptor.urls);
        let (place, response) = layer_urls::open_first(self.requester, repository, urls, &self.task)?;
        self.elsewhere = Some(place);
        self.accept(response, 0)
    }

    /// Checks that a response has the bytes from a position on.
    fn accept(&self, response: Response, position: u64) -> Result<Option<Body>, RegistryError> {
        match response.status {
            // The registry does not support ranges and sends the blob from its start.
            200 => Ok(Some(skipping(response.into_reader(), position))),
            206 if position > 0 => {
                let range = response.header("content-range").and_then(ContentRange::parse);
                if range.map(|range| range.first) != Some(position) {
                    let found = response.header("content-range").unwrap_or("none");
                    let found = response.redacted(found);
                    let problem =
                        format!("requested bytes from {position}, the response's range is `{found}`");
                    return Err(RegistryError::Protocol { task: Box::new(self.task.clone()), problem });
                }
                Ok(Some(Box::new(response.into_reader())))
            }
            // The registry has no more bytes; the `VerifyingReader` above checks whether that is the whole blob.
            416 if position > 0 => {
                response.drain();
                Ok(None)
            }
            status => Err(match &self.repository {
                Some(repository) => unexpected(self.requester, repository, &self.task, response),
                None => RegistryError::Protocol {
                    task: Box::new(self.task.clone()),
                    problem: format!("the response was {status}"),
                },
            }),
        }
    }
}

impl Origin for Blob<'_> {
    type Error = RegistryError;

    /// Asks for the rest, always at the registry: the storage's signed URL may have expired.
    fn connect(&mut self, position: u64) -> Result<Option<Body>, RegistryError> {
        let rest = (position > 0).then_some(position);
        if let Some(place) = &self.elsewhere {
            let response = place.open(self.requester, rest, &self.task)?;
            return self.accept(response, position);
        }
        let (Some(repository), digest) = (&self.repository, &self.descriptor.digest) else {
            return self.connect_elsewhere();
        };
        let call = Call {
            repository,
            method: Method::Get,
            url: self.requester.url(repository, &format!("blobs/{digest}"))?,
            headers: rest.map(|from| ("range", format!("bytes={from}-"))).into_iter().collect(),
            scopes: Scopes::new(repository, "pull"),
            task: &self.task,
            follow: Follow::All,
            closing: None,
            blob_bytes: Some(self.descriptor.size),
        };
        let response = self.requester.run(&call, None)?;
        self.accept(response, position)
    }

    fn end(&self) -> Option<u64> {
        Some(self.descriptor.size)
    }

    fn sort(&self, error: io::Error) -> Result<Transient, RegistryError> {
        classify::broken_body(&self.requester.http, error, &self.task.host)
    }

    fn wait(&self, tries: &mut RetryBudget, failure: Transient) -> Result<(), RegistryError> {
        match &self.repository {
            Some(repository) => {
                let host = self.requester.host(repository.registry());
                self.requester.wait(tries, &host, &self.task, failure)
            }
            None => tries.failed(&self.requester.policy, None, &self.task, failure),
        }
    }
}

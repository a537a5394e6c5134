//! Reads a blob: verifies it while it is received, and resumes it after a broken connection.

use std::io::{self, Read};

use crate::model::{Descriptor, Method, Repository};
use crate::stream::{BlobStream, VerifyingReader};

use super::token::Scopes;

use super::classify;
use super::error::{RegistryError, Task, Verb};
use super::http::Response;
use super::layer_urls::{self, LayerUrl};
use super::requests::{Call, Follow, Requester, unexpected};
use super::retry::{RetryBudget, Transient};

/// Progress after which a broken connection counts as the first one again, bytes.
const PROGRESS: u64 = 1024 * 1024;
/// Most connections used for one blob; stops a peer that sends a few bytes on each of them.
const CONNECTIONS: u32 = 1000;

/// Opens a blob; see [`Client::open_blob`](super::Client::open_blob).
pub(super) fn open<'a>(
    requester: &'a Requester,
    repository: &Repository,
    descriptor: &Descriptor,
) -> Result<BlobStream<'a>, RegistryError> {
    let task = Task::new(repository, Verb::Read, format!("blob `{}`", descriptor.digest));
    let mut body = Resuming::new(requester, Some(repository), descriptor, task);
    match body.connect() {
        Err(error) if error.is_not_found() && !descriptor.urls.is_empty() => body.connect_elsewhere()?,
        other => other?,
    }
    Ok(VerifyingReader::new(body, descriptor.digest.clone(), descriptor.size).boxed())
}

/// Opens a layer that `holder`, a tar, does not hold and that no repository is known for, at one of its `urls`.
pub(super) fn open_at_urls<'a>(
    requester: &'a Requester,
    holder: &str,
    descriptor: &Descriptor,
) -> Result<BlobStream<'a>, RegistryError> {
    let (host, object) = (holder.to_owned(), format!("blob `{}`", descriptor.digest));
    let task = Task { host, repository: String::new(), verb: Verb::Read, object };
    let mut body = Resuming::new(requester, None, descriptor, task);
    body.connect_elsewhere()?;
    Ok(VerifyingReader::new(body, descriptor.digest.clone(), descriptor.size).boxed())
}

/// The bytes of a blob over as many connections as it takes.
struct Resuming<'a> {
    requester: &'a Requester,
    /// None for a layer that is known by its `urls` only.
    repository: Option<Repository>,
    descriptor: Descriptor,
    task: Task,
    /// None when the registry sent the last byte.
    reader: Option<Box<dyn Read + Send>>,
    /// Where the registry does not hold the blob: the URL that it comes from.
    elsewhere: Option<LayerUrl>,
    received: u64,
    /// `received` at the last break that was counted as a failure.
    mark: u64,
    connections: u32,
    tries: RetryBudget,
}

impl std::fmt::Debug for Resuming<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resuming").field("task", &self.task).field("received", &self.received).finish()
    }
}

impl<'a> Resuming<'a> {
    fn new(
        requester: &'a Requester,
        repository: Option<&Repository>,
        descriptor: &Descriptor,
        task: Task,
    ) -> Self {
        Self {
            requester,
            repository: repository.cloned(),
            descriptor: descriptor.clone(),
            task,
            reader: None,
            elsewhere: None,
            received: 0,
            mark: 0,
            connections: 0,
            tries: RetryBudget::new(),
        }
    }

    /// Asks for the rest, always at the registry: the storage's signed URL may have expired.
    fn connect(&mut self) -> Result<(), RegistryError> {
        self.connections += 1;
        if let Some(place) = &self.elsewhere {
            let from = (self.received > 0).then_some(self.received);
            let response = place.open(self.requester, from, &self.task)?;
            return self.read_from(response);
        }
        let (Some(repository), digest) = (self.repository.clone(), &self.descriptor.digest) else {
            return self.connect_elsewhere();
        };
        let mut headers = Vec::new();
        if self.received > 0 {
            headers.push(("range", format!("bytes={}-", self.received)));
        }
        let call = Call {
            repository: &repository,
            method: Method::Get,
            url: self.requester.url(&repository, &format!("blobs/{digest}"))?,
            headers,
            scopes: Scopes::new(&repository, "pull"),
            task: &self.task,
            follow: Follow::All,
            closing: None,
            blob_bytes: Some(self.descriptor.size),
        };
        let response = self.requester.run(&call, None)?;
        self.read_from(response)
    }

    /// Asks the hosts of the descriptor's `urls`.
    fn connect_elsewhere(&mut self) -> Result<(), RegistryError> {
        let (repository, urls) = (self.repository.as_ref(), &self.descriptor.urls);
        let (place, response) = layer_urls::open_first(self.requester, repository, urls, &self.task)?;
        self.elsewhere = Some(place);
        self.read_from(response)
    }

    /// Continues with the body of a response.
    fn read_from(&mut self, response: Response) -> Result<(), RegistryError> {
        match response.status {
            200 => {
                let skip = self.received;
                let mut reader = response.into_reader();
                // The registry does not support ranges and sends the blob from its start.
                let skipped = io::copy(&mut reader.by_ref().take(skip), &mut io::sink());
                match skipped {
                    Ok(n) if n == skip => self.reader = Some(Box::new(reader)),
                    _ => self.reader = Some(Box::new(io::empty())),
                }
            }
            206 if self.received > 0 => {
                let start = response.header("content-range").and_then(range_start);
                if start != Some(self.received) {
                    let found = response.header("content-range").unwrap_or("none");
                    let found = response.redacted(found);
                    let problem =
                        format!("requested bytes from {}, the response's range is `{found}`", self.received);
                    return Err(RegistryError::Protocol { task: Box::new(self.task.clone()), problem });
                }
                self.reader = Some(Box::new(response.into_reader()));
            }
            // The registry has no more bytes; the `VerifyingReader` above checks whether that is the whole blob.
            416 if self.received > 0 => {
                response.drain();
                self.reader = None;
            }
            status => {
                return Err(match &self.repository {
                    Some(repository) => unexpected(self.requester, repository, &self.task, response),
                    None => RegistryError::Protocol {
                        task: Box::new(self.task.clone()),
                        problem: format!("the response was {status}"),
                    },
                });
            }
        }
        Ok(())
    }

    fn resume(&mut self, later: Transient) -> Result<(), RegistryError> {
        if self.received - self.mark >= PROGRESS && self.connections < CONNECTIONS {
            self.tries.progressed();
            self.mark = self.received;
        }
        match &self.repository {
            Some(repository) => {
                let host = self.requester.host(repository.registry());
                self.requester.wait(&mut self.tries, &host, &self.task, later)?;
            }
            None => self.tries.failed(&self.requester.policy, None, &self.task, later)?,
        }
        self.connect()
    }
}

/// Reads the first position of `bytes 5-9/10`.
fn range_start(value: &str) -> Option<u64> {
    value.trim().strip_prefix("bytes")?.trim_start().split('-').next()?.parse().ok()
}

impl Read for Resuming<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(reader) = &mut self.reader else { return Ok(0) };
            let later = match reader.read(buffer) {
                Ok(0) if self.received >= self.descriptor.size => return Ok(0),
                Ok(0) => Transient::new(format!(
                    "the body ended after {} of {} bytes",
                    self.received, self.descriptor.size
                )),
                Ok(n) => {
                    self.received += n as u64;
                    return Ok(n);
                }
                Err(_) if self.received == self.descriptor.size => return Ok(0),
                Err(error) => classify::broken_body(&self.requester.http, error, &self.task.host)
                    .map_err(io::Error::other)?,
            };
            self.resume(later).map_err(io::Error::other)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_a_range_is_read() {
        for (text, expected) in [
            ("bytes 5-9/10", Some(5)),
            ("bytes 0-0/*", Some(0)),
            ("bytes */10", None),
            ("5-9/10", None),
            ("bytes -9/10", None),
        ] {
            assert_eq!(range_start(text), expected, "{text}");
        }
    }
}

//! The client's operations on manifests, blobs and tags.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde::de::IgnoredAny;

use crate::model::{
    Descriptor, Digest, DocumentError, Method, RawDocument, Repository, Target, limits, media_type,
};
use crate::stream::{BlobStream, Mismatch, TooLarge, read_bounded};

use super::blob_body::BlobBody;
use super::classify;
use super::download;
use super::error::{RegistryError, ServerMessage, Task, Verb};
use super::http::Response;
use super::options::ClientOptions;
use super::paging::each_page;
use super::requests::{Call, Follow, Requester, unexpected};
use super::retry::RetryBudget;
use super::token::Scopes;
use super::upload::{self, PushOutcome, PushStart};

/// What a tag points at after it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagState {
    /// The digest that was written.
    AsWritten,
    /// Another digest: another client wrote it, or the registry changed the image.
    Other(Digest),
    /// The registry does not show the tag yet.
    Absent,
}

/// A client for any number of registries.
pub struct Client {
    pub(super) requester: Requester,
    /// Held while a list of referrers is read, changed and written, which no registry does in one step.
    pub(super) listing: Mutex<()>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("options", &self.requester.options).finish_non_exhaustive()
    }
}

/// The types of documents we understand, in one header; without it some registries convert.
fn accept() -> String {
    let types = [
        media_type::OCI_INDEX,
        media_type::OCI_MANIFEST,
        media_type::DOCKER_INDEX,
        media_type::DOCKER_MANIFEST,
    ];
    types.join(", ")
}

/// Returns what a document was announced as, unless the announcement says nothing.
fn announced(response: &Response) -> Option<String> {
    let kind = response.header("content-type")?.split(';').next()?.trim().to_ascii_lowercase();
    let known =
        media_type::is_index(&kind) || media_type::is_manifest(&kind) || kind.starts_with("application/vnd.");
    known.then_some(kind)
}

/// Returns the digest a registry says a document has.
fn content_digest(response: &Response) -> Option<Digest> {
    response.header("docker-content-digest").and_then(|text| text.trim().parse().ok())
}

/// What a registry says of a document without sending it.
enum HeadResult {
    Absent,
    There {
        kind: Option<String>,
        digest: Digest,
        size: Option<u64>,
    },
    /// Neither digest nor size that can be used.
    Inconclusive,
}

/// A document as it was received.
struct Fetched {
    bytes: Vec<u8>,
    /// The media type that the response announced.
    kind: Option<String>,
    /// The digest that was requested or announced, which the bytes have.
    digest: Option<Digest>,
    /// The task, for messages.
    task: Task,
}

impl Client {
    /// Prepares a client; opens no file and no connection.
    ///
    /// Errors: [`RegistryError::Configuration`] for certificates and proxies that cannot work.
    pub fn new(options: ClientOptions) -> Result<Self, RegistryError> {
        Ok(Self { requester: Requester::new(options)?, listing: Mutex::new(()) })
    }

    /// Returns how many requests may be made at the same time.
    #[must_use]
    pub fn concurrency(&self) -> usize {
        self.requester.options.wire.concurrency.max(1)
    }

    fn manifest_call<'a>(
        &self,
        repository: &'a Repository,
        target: &Target,
        method: Method,
        task: &'a Task,
    ) -> Result<Call<'a>, RegistryError> {
        let reading = matches!(method, Method::Get | Method::Head);
        let actions = match method {
            Method::Get | Method::Head => "pull",
            Method::Delete => "delete",
            _ => "pull,push",
        };
        Ok(Call {
            repository,
            method,
            url: self.requester.url(repository, &format!("manifests/{target}"))?,
            headers: if reading { vec![("accept", accept())] } else { Vec::new() },
            scopes: Scopes::new(repository, actions),
            task,
            follow: if reading { Follow::All } else { Follow::SameRequest },
            closing: None,
            blob_bytes: None,
        })
    }

    /// Asks what a tag or digest points at; `None` when it is not there. Mirrors are not asked.
    ///
    /// Cost: one HEAD; a GET as well where HEAD is refused or says too little (some registries do not send the
    /// digest).
    pub fn head_manifest(
        &self,
        repository: &Repository,
        target: &Target,
    ) -> Result<Option<Descriptor>, RegistryError> {
        match self.head(repository, target)? {
            HeadResult::Absent => return Ok(None),
            HeadResult::There { kind: Some(kind), digest, size: Some(size) } => {
                return Ok(Some(Descriptor::new(&kind, digest, size)));
            }
            HeadResult::There { .. } | HeadResult::Inconclusive => {}
        }
        match self.fetch_here(repository, target) {
            Ok(document) => Ok(Some(document.descriptor())),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks for a manifest or index without its bytes.
    fn head(&self, repository: &Repository, target: &Target) -> Result<HeadResult, RegistryError> {
        let task = Task::new(repository, Verb::Find, format!("manifest `{target}`"));
        let call = self.manifest_call(repository, target, Method::Head, &task)?;
        let response = match self.requester.run(&call, None) {
            Ok(response) => response,
            // Some registries refuse every HEAD request.
            Err(RegistryError::Refused { .. }) => return Ok(HeadResult::Inconclusive),
            Err(error) => return Err(error),
        };
        let (status, kind, size) = (response.status, announced(&response), response.content_length());
        let fits = |digest: &Digest| !matches!(target, Target::Digest(wanted) if wanted != digest);
        let digest = content_digest(&response).filter(fits);
        response.drain();
        Ok(match (status, digest) {
            (404, _) => HeadResult::Absent,
            (200, Some(digest)) => HeadResult::There { kind, digest, size },
            _ => HeadResult::Inconclusive,
        })
    }

    /// Confirms what a tag points at after it was written.
    ///
    /// Some registries show a new tag only after seconds (Docker Hub at times). The response to the PUT has named the
    /// digest, so another response is requested again with growing pauses, about twenty times the delay of a retry.
    pub fn confirm_tag(
        &self,
        repository: &Repository,
        tag: &crate::model::Tag,
        expected: &Digest,
    ) -> Result<TagState, RegistryError> {
        const PAUSES: [u32; 5] = [1, 2, 4, 6, 8];
        let target = Target::Tag(tag.clone());
        let ask = || self.head_manifest(repository, &target).map(|found| found.map(|found| found.digest));
        let mut found = ask()?;
        for pause in PAUSES {
            if found.as_ref() == Some(expected) {
                break;
            }
            super::retry::sleep(self.requester.policy.delay * pause)?;
            found = ask()?;
        }
        Ok(match found {
            Some(digest) if digest == *expected => TagState::AsWritten,
            Some(digest) => TagState::Other(digest),
            None => TagState::Absent,
        })
    }

    /// Returns the digest of a manifest or index without checking its content; `None` if the registry does not have it.
    ///
    /// Errors: as [`Client::fetch_manifest`], but only what is no JSON object at all is an invalid document.
    pub fn find_digest(
        &self,
        repository: &Repository,
        target: &Target,
    ) -> Result<Option<Digest>, RegistryError> {
        match self.head(repository, target)? {
            HeadResult::Absent => return Ok(None),
            HeadResult::There { digest, .. } => return Ok(Some(digest)),
            HeadResult::Inconclusive => {}
        }
        match self.fetch_bytes(repository, target) {
            Ok(fetched) if serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(&fetched.bytes).is_ok() => {
                Ok(Some(fetched.digest.unwrap_or_else(|| Digest::sha256_of(&fetched.bytes))))
            }
            Ok(fetched) => {
                let digest = Digest::sha256_of(&fetched.bytes);
                Err(self.invalid_document(fetched.task, DocumentError::NotAnObject { digest }))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads a manifest or index and checks it.
    ///
    /// Errors: [`RegistryError::NotFound`]; [`RegistryError::Mismatch`] when the bytes do not have the digest that
    /// was requested or announced, also the second time; [`RegistryError::Document`];
    /// [`RegistryError::TooLarge`] above [`limits::DOCUMENT_BYTES`].
    pub fn fetch_manifest(
        &self,
        repository: &Repository,
        target: &Target,
    ) -> Result<RawDocument, RegistryError> {
        self.requester.read_from(repository, |from| self.fetch_here(from, target))
    }

    pub(super) fn fetch_here(
        &self,
        repository: &Repository,
        target: &Target,
    ) -> Result<RawDocument, RegistryError> {
        let Fetched { bytes, kind, task, .. } = self.fetch_bytes(repository, target)?;
        RawDocument::parse(bytes, kind.as_deref())
            .map(|document| match target {
                Target::Digest(digest) => document.known_as(digest),
                Target::Tag(_) => document,
            })
            .map_err(|source| self.invalid_document(task, source))
    }

    /// Reads a manifest or index; its bytes have the digest that was requested or announced.
    fn fetch_bytes(&self, repository: &Repository, target: &Target) -> Result<Fetched, RegistryError> {
        let task = Task::new(repository, Verb::Read, format!("manifest `{target}`"));
        let call = self.manifest_call(repository, target, Method::Get, &task)?;
        let mut tries = RetryBudget::new();
        let mut refetched = false;
        loop {
            let response = self.requester.run(&call, None)?;
            if response.status != 200 {
                return Err(unexpected(&self.requester, repository, &task, response));
            }
            let kind = announced(&response);
            let expected = match target {
                Target::Digest(digest) => Some(digest.clone()),
                Target::Tag(_) => content_digest(&response),
            };
            let bytes = match read_bounded(response.into_reader(), limits::DOCUMENT_BYTES) {
                Ok(bytes) => bytes,
                Err(TooLarge::Limit { limit }) => {
                    return Err(RegistryError::TooLarge { task: Box::new(task), limit });
                }
                Err(TooLarge::Io(error)) => {
                    let failure = classify::broken_body(&self.requester.http, error, &task.host)?;
                    tries.failed(&self.requester.policy, None, &task, failure)?;
                    continue;
                }
            };
            if let Some(expected) = expected.as_ref().filter(|expected| !expected.matches(&bytes)) {
                let found = digest_like(expected, &bytes);
                if refetched {
                    let (expected, size) = (expected.clone(), bytes.len() as u64);
                    let mismatch = Mismatch::Content { expected, found, size };
                    return Err(RegistryError::Mismatch { task: Box::new(task), mismatch });
                }
                refetched = true;
                continue;
            }
            return Ok(Fetched { bytes, kind, digest: expected, task });
        }
    }

    /// Writes a document; true when the registry says that it took note of the `subject`.
    pub(super) fn write_manifest(
        &self,
        repository: &Repository,
        target: &Target,
        document: &RawDocument,
    ) -> Result<bool, RegistryError> {
        let task = Task::new(repository, Verb::Upload, format!("manifest `{target}`"));
        let mut call = self.manifest_call(repository, target, Method::Put, &task)?;
        call.headers.push(("content-type", document.media_type().to_owned()));
        let response = self.requester.run(&call, Some(document.bytes()))?;
        match response.status {
            200..=299 => {
                let stored = content_digest(&response);
                let listed = response.header("oci-subject").is_some();
                response.drain();
                match stored.filter(|stored| !stored.matches(document.bytes())) {
                    Some(found) => Err(RegistryError::Mismatch {
                        task: Box::new(task),
                        mismatch: Mismatch::Content {
                            expected: document.digest().clone(),
                            found,
                            size: document.bytes().len() as u64,
                        },
                    }),
                    None => Ok(listed),
                }
            }
            400 | 403 | 409 | 412 if matches!(target, Target::Tag(_)) => {
                let refusal = unexpected(&self.requester, repository, &task, response);
                let there = self.head_manifest(repository, target);
                match there {
                    // It was listed when it was written first.
                    Ok(Some(there)) if there.digest.matches(document.bytes()) => Ok(true),
                    _ => Err(refusal),
                }
            }
            _ => Err(unexpected(&self.requester, repository, &task, response)),
        }
    }

    /// Asks whether a blob is there; where the registry does not confirm its size or digest, it counts as absent.
    pub fn has_blob(&self, repository: &Repository, descriptor: &Descriptor) -> Result<bool, RegistryError> {
        let task = Task::new(repository, Verb::Find, format!("blob `{}`", descriptor.digest));
        upload::has_blob(&self.requester, repository, descriptor, &task, "pull")
    }

    /// Opens a blob for reading.
    ///
    /// Errors while reading: an [`io::Error`](std::io::Error) that carries a [`RegistryError`]
    /// ([`RegistryError::in_error`]) when the registry kept failing, or a [`Mismatch`] when size or digest are wrong
    /// at the end. A mismatch may be a fault of the transfer: the caller opens the blob once more before it fails.
    pub fn open_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<BlobStream<'_>, RegistryError> {
        self.requester.read_from(repository, |from| download::open(&self.requester, from, descriptor))
    }

    /// Opens a layer at one of its `urls`; for what a tar lacks, where no repository is known to have it.
    ///
    /// No credentials are sent. Errors: [`RegistryError::LayerUrls`]; while reading as [`Client::open_blob`].
    pub fn open_layer_urls(
        &self,
        holder: &str,
        descriptor: &Descriptor,
    ) -> Result<BlobStream<'_>, RegistryError> {
        download::open_at_urls(&self.requester, holder, descriptor)
    }

    /// Makes sure that a repository has a blob: it is there already, or mounted, or uploaded.
    ///
    /// `progress` is told the bytes sent since it was last called; each new call of [`BlobBody::open`] means that
    /// sending begins again.
    /// Errors: [`RegistryError::Source`] when `body` cannot be read.
    pub fn push_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        body: &dyn BlobBody,
        start: PushStart<'_>,
        progress: &dyn Fn(u64),
    ) -> Result<PushOutcome, RegistryError> {
        upload::push_blob(&self.requester, repository, descriptor, body, start, progress)
    }

    /// Makes the error for an invalid document; its text is not quoted if it contains a secret that was sent.
    fn invalid_document(&self, task: Task, source: DocumentError) -> RegistryError {
        let (task, words) = (Box::new(task), source.to_string());
        let hidden = self.requester.http.redactor.redact(&words);
        if hidden == words {
            return RegistryError::Document { task, source };
        }
        RegistryError::Protocol { task, problem: format!("the document is invalid: {hidden}") }
    }

    /// Lists all tags, in the registry's order, each once.
    ///
    /// Errors: [`RegistryError::NotFound`] for a repository that is not there.
    pub fn list_tags(&self, repository: &Repository) -> Result<Vec<String>, RegistryError> {
        #[derive(serde::Deserialize)]
        struct Page {
            // Go registries write `null` for none, Nexus also `null` among the tags.
            tags: Option<Vec<serde_json::Value>>,
        }
        let task = Task::new(repository, Verb::List, "tags".to_owned());
        // ECR refuses more than 1000 at once.
        let url = self.requester.url(repository, "tags/list?n=1000")?;
        let mut tags: Vec<String> = Vec::new();
        let mut take = |page: &[u8]| {
            let page: Page = serde_json::from_slice(page).map_err(|error| RegistryError::Protocol {
                task: Box::new(task.clone()),
                problem: self.requester.http.redactor.redact(&format!("the list is not valid: {error}")),
            })?;
            let names = page.tags.unwrap_or_default().into_iter().filter_map(|tag| match tag {
                serde_json::Value::String(name) if !name.is_empty() => Some(name),
                _ => None,
            });
            tags.extend(names);
            if tags.len() > limits::LIST_ENTRIES {
                let problem = format!("the list has more than {} entries", limits::LIST_ENTRIES);
                return Err(RegistryError::Protocol { task: Box::new(task.clone()), problem });
            }
            Ok(())
        };
        match each_page(&self.requester, repository, url, "application/json", &task, &mut take)? {
            Some(()) => Ok(without_repetitions(tags)),
            None => Err(RegistryError::NotFound { task: Box::new(task), message: ServerMessage::default() }),
        }
    }

    /// Deletes a manifest or index by digest, and with it all tags on it.
    pub fn delete_manifest(&self, repository: &Repository, digest: &Digest) -> Result<(), RegistryError> {
        self.delete(repository, &Target::Digest(digest.clone()))
    }

    /// Deletes a tag and leaves what it points at; not every registry can.
    pub fn delete_tag(&self, repository: &Repository, tag: &crate::model::Tag) -> Result<(), RegistryError> {
        self.delete(repository, &Target::Tag(tag.clone()))
    }

    fn delete(&self, repository: &Repository, target: &Target) -> Result<(), RegistryError> {
        let task = Task::new(repository, Verb::Delete, format!("manifest `{target}`"));
        let call = self.manifest_call(repository, target, Method::Delete, &task)?;
        let response = self.requester.run(&call, None)?;
        match response.status {
            200..=299 => {
                response.drain();
                Ok(())
            }
            _ => Err(unexpected(&self.requester, repository, &task, response)),
        }
    }
}

/// Leaves out what is in a list already, and keeps the order. Each name is held once.
fn without_repetitions(names: Vec<String>) -> Vec<String> {
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_by(|&a, &b| names[a].cmp(&names[b]).then(a.cmp(&b)));
    let mut repeated = vec![false; names.len()];
    for pair in order.windows(2) {
        if let [before, after] = *pair {
            repeated[after] = names[before] == names[after];
        }
    }
    names.into_iter().zip(repeated).filter_map(|(name, repeated)| (!repeated).then_some(name)).collect()
}

/// Computes the digest of bytes with the algorithm of another digest.
fn digest_like(other: &Digest, bytes: &[u8]) -> Digest {
    let mut hasher = other.algorithm().hasher();
    hasher.update(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::super::scripted::{Exchange, Scripted, body, head, on};
    use super::*;

    fn blob() -> Descriptor {
        Descriptor::new("application/octet-stream", Digest::sha256_of(b"12345"), 5)
    }

    fn probe(response: &str) -> Result<bool, String> {
        let blob = blob();
        let server = Scripted::start(vec![on(&format!("HEAD /v2/a/blobs/{}", blob.digest), response)]);
        let found = server.client().has_blob(&server.repository(), &blob);
        found.map_err(|error| error.to_string().replace(&server.host, "HOST"))
    }

    #[test]
    fn head_of_a_blob_counts_only_with_its_size_and_digest() {
        let digest = |bytes: &[u8]| format!("docker-content-digest: {}\r\n", Digest::sha256_of(bytes));
        let with = |more: &str| head("200 OK", &format!("content-length: 5\r\n{more}"));
        let without = |more: &str| head("200 OK", &format!("transfer-encoding: chunked\r\n{more}"));
        for (response, expected) in [
            (with(""), true),
            (with(&digest(b"12345")), true),
            (with(&digest(b"other")), false),
            (with("docker-content-digest: sha512:12\r\n"), true),
            (without(&digest(b"12345")), true),
            (without(&digest(b"other")), false),
            (without(""), false),
            (head("200 OK", "content-length: 6\r\n"), false),
            (head("200 OK", &format!("content-length: 6\r\n{}", digest(b"12345"))), false),
            (head("204 No Content", ""), false),
            (head("404 Not Found", "content-length: 0\r\n"), false),
            (head("405 Method Not Allowed", "content-length: 0\r\n"), false),
        ] {
            assert_eq!(probe(&response), Ok(expected), "{response}");
        }
    }

    #[test]
    fn a_web_page_in_place_of_a_registry_is_reported_as_one() {
        let page = body("200 OK", "content-type: text/html; charset=utf-8\r\n", "<html>log in</html>");
        let head = head("200 OK", "content-type: text/html\r\ncontent-length: 700\r\n");
        let ends = |error: RegistryError, host: &str| {
            let text = error.to_string().replace(host, "HOST");
            assert!(text.ends_with(": `HOST` answered with a web page, not as a registry"), "{text}");
        };
        assert!(probe(&head).unwrap_err().ends_with("`HOST` answered with a web page, not as a registry"));
        let server = Scripted::start(vec![on("GET /v2/a/tags/list", &page)]);
        ends(server.client().list_tags(&server.repository()).unwrap_err(), &server.host);
        let target = Target::Tag("v1".parse().unwrap());
        let server = Scripted::start(vec![on("GET /v2/a/manifests/v1", &page)]);
        ends(server.client().fetch_manifest(&server.repository(), &target).unwrap_err(), &server.host);
        let server = Scripted::start(vec![on("HEAD /v2/a/manifests/v1", &head)]);
        ends(server.client().head_manifest(&server.repository(), &target).unwrap_err(), &server.host);
        let server = Scripted::start(vec![on("POST /v2/a/blobs/uploads/", &page)]);
        let bytes = b"12345".to_vec();
        let client = server.client();
        let pushed = client.push_blob(&server.repository(), &blob(), &bytes, PushStart::Send, &|_| {});
        ends(pushed.unwrap_err(), &server.host);
        let digest = Digest::sha256_of(b"x");
        let server = Scripted::start(vec![on(&format!("DELETE /v2/a/manifests/{digest}"), &page)]);
        ends(server.client().delete_manifest(&server.repository(), &digest).unwrap_err(), &server.host);
    }

    #[test]
    fn a_redirected_head_is_followed_to_the_storage_for_the_size() {
        let blob = blob();
        let path = format!("/v2/a/blobs/{}", blob.digest);
        let to_storage = head("307 Temporary Redirect", "location: /storage\r\ncontent-length: 0\r\n");
        for (storage, expected) in [
            (body("206 Partial Content", "content-range: bytes 0-0/5\r\n", "1"), true),
            (body("206 Partial Content", "content-range: bytes 0-0/6\r\n", "1"), false),
            (body("206 Partial Content", "", "1"), false),
            (body("200 OK", "", "12345"), true),
            (body("200 OK", "content-type: text/html\r\n", "<html>log in</html>"), false),
            (body("404 Not Found", "", ""), false),
        ] {
            let server = Scripted::start(vec![
                on(&format!("HEAD {path}"), &to_storage),
                on(&format!("GET {path}"), &to_storage),
                Exchange { header: "range: bytes=0-0", ..on("GET /storage", &storage) },
            ]);
            let found = server.client().has_blob(&server.repository(), &blob).unwrap();
            assert_eq!(found, expected, "{storage}");
        }
    }

    #[test]
    fn a_new_tag_that_the_registry_shows_late_is_asked_for_again() {
        let digest = Digest::sha256_of(b"{}");
        let shown = |digest: &Digest| {
            let headers = format!(
                "content-type: application/vnd.oci.image.manifest.v1+json\r\ncontent-length: 2\r\ndocker-content-digest: {digest}\r\n"
            );
            on("HEAD /v2/a/manifests/v1", &head("200 OK", &headers))
        };
        let absent = || on("HEAD /v2/a/manifests/v1", "404 Not Found\r\ncontent-length: 0\r\n\r\n");
        let other = Digest::sha256_of(b"other");
        for (script, expected) in [
            (vec![shown(&digest)], TagState::AsWritten),
            (vec![absent(), absent(), shown(&digest)], TagState::AsWritten),
            (vec![shown(&other), shown(&digest)], TagState::AsWritten),
            ((0..6).map(|_| absent()).collect(), TagState::Absent),
            ((0..6).map(|_| shown(&other)).collect(), TagState::Other(other.clone())),
        ] {
            let server = Scripted::start(script);
            let tag = "v1".parse().unwrap();
            assert_eq!(server.client().confirm_tag(&server.repository(), &tag, &digest).unwrap(), expected);
        }
    }

    #[test]
    fn a_document_that_is_absent_where_the_registry_redirects_to_is_absent() {
        let moved = head(
            "307 Temporary Redirect",
            "location: http://localhost:{port}/there\r\ncontent-length: 0\r\n",
        );
        let absent = on("HEAD /there", &head("404 Not Found", "content-length: 0\r\n"));
        let elsewhere = Scripted::start(vec![absent]);
        let port = elsewhere.host.rsplit_once(':').unwrap().1;
        let moved = moved.replace("{port}", port);
        let server = Scripted::start(vec![on("HEAD /v2/a/manifests/v1", &moved)]);
        let target = Target::Tag("v1".parse().unwrap());
        assert!(matches!(server.client().head(&server.repository(), &target), Ok(HeadResult::Absent)));
    }

    #[test]
    fn a_list_of_tags_has_a_bound_over_all_pages() {
        let page = |number: usize, tags: &str| {
            let link = format!("link: </v2/a/tags/list?page={number}>; rel=\"next\"\r\n");
            on("GET /v2/a/tags/list", &body("200 OK", &link, &format!("{{\"tags\":[{tags}]}}")))
        };
        let ends = |pages: Vec<Exchange>, expected: &str| {
            let server = Scripted::start(pages);
            let error = server.client().list_tags(&server.repository()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        let large = format!("\"{}\"", "x".repeat(7 * 1024 * 1024));
        ends((0..5).map(|number| page(number, &large)).collect(), "has more than 33554432 bytes");
        let many = vec!["\"x\""; 500_001].join(",");
        ends((0..2).map(|number| page(number, &many)).collect(), "the list has more than 1000000 entries");
    }

    #[test]
    fn repeated_names_are_left_out_and_the_order_is_kept() {
        let names = ["b", "a", "b", "c", "a", "b"].map(str::to_owned).to_vec();
        assert_eq!(without_repetitions(names), ["b", "a", "c"]);
    }

    #[test]
    fn null_and_empty_tags_are_dropped_from_a_list() {
        for (page, expected) in [
            (r#"{"tags":[null,"v1","",7,{"a":1},"v2","v1"]}"#, vec!["v1", "v2"]),
            (r#"{"tags":null}"#, vec![]),
            (r#"{"name":"a"}"#, vec![]),
        ] {
            let server = Scripted::start(vec![on("GET /v2/a/tags/list", &body("200 OK", "", page))]);
            assert_eq!(server.client().list_tags(&server.repository()).unwrap(), expected, "{page}");
        }
    }

    #[test]
    fn a_link_without_brackets_leads_to_the_next_page() {
        let next = |link: &str, page: &str| body("200 OK", &format!("link: {link}\r\n"), page);
        let first = next(r#"/v2/a/tags/list?last=v1; rel="next""#, r#"{"tags":["v1"]}"#);
        let server = Scripted::start(vec![
            on("GET /v2/a/tags/list?n=1000", &first),
            on("GET /v2/a/tags/list?last=v1", &body("200 OK", "", r#"{"tags":["v2"]}"#)),
        ]);
        assert_eq!(server.client().list_tags(&server.repository()).unwrap(), ["v1", "v2"]);
        let unreadable = next(r#"rel="next""#, r#"{"tags":["v1"]}"#);
        let server = Scripted::start(vec![on("GET /v2/a/tags/list", &unreadable)]);
        let error = server.client().list_tags(&server.repository()).unwrap_err().to_string();
        assert!(error.ends_with(r#"the link to the next page cannot be read: `rel="next"`"#), "{error}");
    }
}

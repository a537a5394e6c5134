//! Responses of the writing endpoints: upload sessions, manifests, deletion.
//!
//! Blobs and documents are verified when they arrive. A manifest is accepted only if everything that it points at is
//! there, so a tagged image is complete.
//! Source: distribution-spec, "Push", "Content Management".

use std::io::Read;

use crate::model::{Descriptor, Digest, Document, Method, RawDocument, Target, limits};
use crate::stream::{TooLarge, read_bounded};

use super::collected::{Collected, Full};
use super::head::Head;
use super::images::Images;
use super::range;
use super::response::{Code, Response};
use super::route::{Endpoint, query_value};
use super::spool::Pushed;
use super::uploads::{UploadError, Uploads};

/// A request that pushes or deletes.
pub(super) struct Change<'a> {
    pub(super) images: &'a Images,
    pub(super) collected: &'a Collected,
    pub(super) name: &'a str,
    pub(super) head: &'a Head,
    pub(super) body: &'a mut dyn Read,
}

impl Change<'_> {
    /// Runs the request and returns the response.
    pub(super) fn answer(&mut self, endpoint: &Endpoint) -> Result<Response, Response> {
        match (self.head.method, endpoint) {
            (Method::Post, Endpoint::Uploads) => self.begin(),
            (Method::Patch, Endpoint::Upload(session)) => self.receive(session),
            (Method::Put, Endpoint::Upload(session)) => self.finish(session),
            (Method::Delete, Endpoint::Upload(session)) => self.cancel(session),
            (Method::Put, Endpoint::Manifest(target)) => self.manifest(target),
            (Method::Delete, Endpoint::Manifest(target)) => self.delete_manifest(target),
            (Method::Delete, Endpoint::Blob(digest)) => self.delete_blob(digest),
            _ => Err(Response::error(405, Code::Unsupported, "this endpoint has no such method")),
        }
    }

    /// Begins an upload session, stores a blob that comes with the request, or mounts one that is there already.
    fn begin(&mut self) -> Result<Response, Response> {
        if let Some(mount) = self.digest("mount")?
            && self.images.held(&mount).is_ok_and(|held| held.is_some())
        {
            return Ok(self.blob_is_there(&mount));
        }
        if let Some(digest) = self.digest("digest")? {
            let taken = Uploads::at_once(&self.collected.spool, &mut self.body, &digest);
            return self.taken(&digest, taken);
        }
        let session = self.collected.uploads.begin(self.name, &self.collected.spool);
        Ok(self.session_is_at(202, &session, 0))
    }

    fn receive(&mut self, session: &str) -> Result<Response, Response> {
        if !self.head.has_length {
            return Err(Response::error(
                411,
                Code::SizeInvalid,
                "the request does not give the length of its body",
            ));
        }
        let size = self.take(session)?;
        Ok(self.session_is_at(202, session, size))
    }

    /// Adds the request's body to a session; returns the bytes of the session.
    fn take(&mut self, session: &str) -> Result<u64, Response> {
        let uploads = &self.collected.uploads;
        let working = uploads.find(self.name, session).map_err(|error| refused(&error))?;
        let place = self.head.content_range.as_deref();
        let place = place.map(|text| {
            range::of_chunk(text).ok_or_else(|| {
                Response::error(400, Code::BlobUploadInvalid, "`Content-Range` is not of the form `0-99`")
            })
        });
        let place = place.transpose()?;
        let (spool, body) = (&self.collected.spool, &mut self.body);
        let taken = Uploads::with(&working, |session| {
            let before = session.size();
            if place.is_some_and(|(first, _)| first != before) {
                return Ok(Err(before));
            }
            session.receive(spool, body)?;
            Ok(Ok((before, session.size())))
        });
        match taken.map_err(|error| refused(&error))? {
            Ok((before, after)) => match place {
                Some((first, last)) if after - before != last - first + 1 => {
                    let text = "the body is not as long as `Content-Range` says";
                    Err(Response::error(400, Code::SizeInvalid, text))
                }
                _ => Ok(after),
            },
            // A chunk out of order: the response has the position where the next chunk begins.
            Err(size) => Err(self.session_is_at(416, session, size)),
        }
    }

    fn finish(&mut self, session: &str) -> Result<Response, Response> {
        let digest = self.digest("digest")?;
        let digest = digest.ok_or_else(|| {
            Response::error(400, Code::DigestInvalid, "the query has no `digest` to end the upload")
        })?;
        let _ = self.take(session)?;
        let uploads = &self.collected.uploads;
        let working = uploads.find(self.name, session).map_err(|error| refused(&error))?;
        let taken = uploads.finish(session, &working, &self.collected.spool, &digest);
        self.taken(&digest, taken)
    }

    fn taken(
        &self,
        digest: &Digest,
        taken: Result<Result<Pushed, Digest>, UploadError>,
    ) -> Result<Response, Response> {
        match taken.map_err(|error| refused(&error))? {
            Ok(pushed) => {
                self.collected.keep_blob(digest, pushed);
                Ok(self.blob_is_there(digest))
            }
            Err(found) => {
                let text = format!("the bytes have digest `{found}`, expected `{digest}`");
                Err(Response::error(400, Code::DigestInvalid, &text))
            }
        }
    }

    fn cancel(&mut self, session: &str) -> Result<Response, Response> {
        let cancelled = self.collected.uploads.cancel(self.name, session, &self.collected.spool);
        cancelled.map(|()| Response::empty(204)).map_err(|error| refused(&error))
    }

    fn blob_is_there(&self, digest: &Digest) -> Response {
        Response::empty(201)
            .with("Location", format!("/v2/{}/blobs/{digest}", self.name))
            .with("Docker-Content-Digest", digest.to_string())
    }

    fn session_is_at(&self, status: u16, session: &str, size: u64) -> Response {
        session_is_at(status, self.name, session, size)
    }

    /// Reads a digest from the query.
    fn digest(&self, name: &str) -> Result<Option<Digest>, Response> {
        let text = query_value(&self.head.query, name)?;
        let parsed = text.map(|text| text.parse::<Digest>()).transpose();
        parsed.map_err(|error| Response::error(400, Code::DigestInvalid, &error.to_string()))
    }

    fn manifest(&mut self, target: &Target) -> Result<Response, Response> {
        if !self.head.has_length {
            return Err(Response::error(
                411,
                Code::SizeInvalid,
                "the request does not give the length of its body",
            ));
        }
        let bytes = read_bounded(&mut self.body, limits::DOCUMENT_BYTES).map_err(|error| match error {
            TooLarge::Limit { limit } => {
                let text = format!("the manifest has more than {limit} bytes");
                Response::error(413, Code::ManifestInvalid, &text)
            }
            TooLarge::Io(error) => refused(&UploadError::Client(error)),
        })?;
        let announced = self.head.content_type.as_deref();
        let announced = announced.and_then(|text| text.split(';').next()).map(str::trim);
        let document = RawDocument::parse(bytes, announced.filter(|kind| !kind.is_empty()));
        let document =
            document.map_err(|error| Response::error(400, Code::ManifestInvalid, &error.to_string()))?;
        let document = match target {
            Target::Digest(digest) => document.known_as(digest),
            Target::Tag(_) => document,
        };
        let digest = document.digest().clone();
        if let Target::Digest(expected) = target
            && *expected != digest
        {
            let text = format!("the manifest has digest `{digest}`, expected `{expected}`");
            return Err(Response::error(400, Code::DigestInvalid, &text));
        }
        if let Some(missing) = self.missing(&document) {
            self.collected.refuse(&digest, &missing.digest);
            let text = format!("the manifest names `{}`, which is not here", missing.digest);
            return Err(Response::error(400, Code::ManifestBlobUnknown, &text));
        }
        let subject = document.document().subject().map(|subject| subject.digest.to_string());
        let kept = self.collected.keep_document(self.name, target, document);
        kept.map_err(|full| {
            let text = match full {
                Full::Documents => format!("more than {} manifests were pushed", limits::DOCUMENTS),
                Full::Bytes => format!("more than {} bytes of manifests were pushed", limits::GRAPH_BYTES),
            };
            Response::error(413, Code::ManifestInvalid, &text)
        })?;
        let response = Response::empty(201)
            .with("Location", format!("/v2/{}/manifests/{digest}", self.name))
            .with("Docker-Content-Digest", digest.to_string());
        Ok(match subject {
            Some(subject) => response.with("OCI-Subject", subject),
            None => response,
        })
    }

    /// Returns the first descriptor of a document whose content is missing. Non-distributable layers may be elsewhere,
    /// and a subject may be pushed later.
    fn missing<'a>(&self, document: &'a RawDocument) -> Option<&'a Descriptor> {
        let is_held = |digest: &Digest| self.images.held(digest).is_ok_and(|held| held.is_some());
        let children = document.document().children();
        let is_index = matches!(document.document(), Document::Index(_));
        children.into_iter().find(|child| match is_index && (child.is_index() || child.is_manifest()) {
            true => !self.images.has_document(&child.digest),
            false => !child.is_non_distributable() && !is_held(&child.digest),
        })
    }

    fn delete_manifest(&mut self, target: &Target) -> Result<Response, Response> {
        if self.collected.forget_document(self.name, target) {
            return Ok(Response::empty(202));
        }
        match self.images.contents.document(self.name, target) {
            Some(_) => Err(not_pushed()),
            None => {
                let text = format!("there is no manifest `{target}` in this repository");
                Err(Response::error(404, Code::ManifestUnknown, &text))
            }
        }
    }

    fn delete_blob(&mut self, digest: &Digest) -> Result<Response, Response> {
        if self.collected.forget_blob(digest) {
            return Ok(Response::empty(202));
        }
        match self.images.contents.path_of(digest) {
            Some(_) => Err(not_pushed()),
            None => {
                Err(Response::error(404, Code::BlobUnknown, &format!("there is no blob `{digest}` here")))
            }
        }
    }
}

/// Returns the position of a session, for a client that resumes an upload.
pub(super) fn status(collected: &Collected, name: &str, session: &str) -> Result<Response, Response> {
    let working = collected.uploads.find(name, session).map_err(|error| refused(&error))?;
    let size = Uploads::with(&working, |session| Ok(session.size())).map_err(|error| refused(&error))?;
    Ok(session_is_at(204, name, session, size))
}

fn session_is_at(status: u16, name: &str, session: &str, size: u64) -> Response {
    Response::empty(status)
        .with("Location", format!("/v2/{name}/blobs/uploads/{session}"))
        .with("Range", format!("0-{}", size.saturating_sub(1)))
        .with("Docker-Upload-UUID", session)
}

fn not_pushed() -> Response {
    Response::error(405, Code::Unsupported, "only what was pushed to this registry can be deleted")
}

fn refused(error: &UploadError) -> Response {
    match error {
        UploadError::Unknown => {
            Response::error(404, Code::BlobUploadUnknown, "there is no such upload in this repository")
        }
        UploadError::Busy => {
            Response::error(409, Code::BlobUploadInvalid, "another request is working on this upload")
        }
        UploadError::Client(error) => {
            Response::error(400, Code::BlobUploadInvalid, &format!("the body cannot be read: {error}"))
        }
        UploadError::Storage(error) => {
            Response::error(507, Code::Unknown, &format!("the bytes cannot be stored: {error}"))
        }
    }
}

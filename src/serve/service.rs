//! Answers requests from the images of a server, after checking the password.

use std::io::{self, Read};

use crate::model::{Digest, Method, RawDocument, Target};
use crate::store::StoreError;

use super::collected::Collected;
use super::contents::Contents;
use super::head::Head;
use super::held::Held;
use super::images::Images;
use super::password::Password;
use super::pushing::{self, Change};
use super::range::{self, Wanted};
use super::reading;
use super::response::{Code, Response};
use super::route::{Endpoint, Route};

/// The images and the password of a server; shared by all connections.
#[derive(Debug)]
pub struct Service {
    pub(super) images: Images,
    password: Option<Password>,
}

/// A response in memory, or a blob that is sent while it is read.
#[derive(Debug)]
pub(super) enum Reply<'a> {
    Response(Response),
    Blob(BlobReply<'a>),
}

/// A blob, or a range of it.
#[derive(Debug)]
pub(super) struct BlobReply<'a> {
    pub(super) digest: Digest,
    pub(super) held: Held<'a>,
    pub(super) wanted: Wanted,
    pub(super) fields: Vec<(&'static str, String)>,
}

impl Service {
    /// Serves these images, and accepts pushes if there is a place to collect them.
    #[must_use]
    pub fn new(contents: Contents, collected: Option<Collected>) -> Self {
        Self { images: Images { contents, collected }, password: None }
    }

    /// Requires this password in every request.
    #[must_use]
    pub fn protected(self, password: Option<Password>) -> Self {
        Self { password, ..self }
    }

    /// Returns the images of stores.
    #[must_use]
    pub fn contents(&self) -> &Contents {
        &self.images.contents
    }

    /// Returns what was pushed; `None` for a read-only server.
    #[must_use]
    pub fn collected(&self) -> Option<&Collected> {
        self.images.collected.as_ref()
    }

    /// Finds a manifest or index, of a store or pushed.
    #[must_use]
    pub fn document(&self, digest: &Digest) -> Option<RawDocument> {
        self.images.document("", &Target::Digest(digest.clone()))
    }

    /// Returns the size of a blob, of a store or pushed.
    pub fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        Ok(self.images.held(digest)?.map(|held| held.size()))
    }

    /// Opens a blob, of a store or pushed, **unverified**.
    pub fn open_unverified(&self, digest: &Digest) -> Result<Option<Box<dyn Read + Send + '_>>, StoreError> {
        self.images.held(digest)?.map(|held| held.reader(0)).transpose()
    }

    /// Answers a request; reads only as much of its body as the response needs.
    pub(super) fn reply(&self, head: &Head, body: &mut dyn Read) -> Reply<'_> {
        let allowed =
            self.password.as_ref().map_or(Ok(()), |password| password.check(head.authorization.as_deref()));
        let route = allowed.and_then(|()| Route::of(&head.path));
        match route.and_then(|route| self.route(head, route, body)) {
            Ok(reply) => reply,
            Err(response) => Reply::Response(response),
        }
    }

    fn route(&self, head: &Head, route: Route, body: &mut dyn Read) -> Result<Reply<'_>, Response> {
        let images = &self.images;
        let is_reading = matches!(head.method, Method::Get | Method::Head);
        let Some(collected) = images.collected.as_ref().filter(|_| !is_reading) else {
            return if is_reading { self.read(head, route) } else { Err(read_only()) };
        };
        match route {
            Route::In(name, endpoint) => {
                Change { images, collected, name: &name, head, body }.answer(&endpoint).map(Reply::Response)
            }
            Route::Base | Route::Catalog => {
                Err(Response::error(405, Code::Unsupported, "this endpoint has no such method"))
            }
        }
    }

    fn read(&self, head: &Head, route: Route) -> Result<Reply<'_>, Response> {
        let images = &self.images;
        let (name, endpoint) = match route {
            Route::Base => return Ok(Reply::Response(Response::of(200, "application/json", *b"{}"))),
            Route::Catalog => return reading::catalog(images, head).map(Reply::Response),
            Route::In(name, endpoint) => (name, endpoint),
        };
        // A client that pushes sends HEAD requests for blobs before the repository exists.
        let may_come = images.collected.is_some()
            && matches!(endpoint, Endpoint::Blob(_) | Endpoint::Uploads | Endpoint::Upload(_));
        if !may_come && !images.has_repository(&name) {
            let text = format!("there is no repository `{name}` here");
            return Err(Response::error(404, Code::NameUnknown, &text));
        }
        match endpoint {
            Endpoint::Manifest(target) => {
                let document = images.document(&name, &target);
                reading::manifest(document.as_ref(), &target).map(Reply::Response)
            }
            Endpoint::Blob(digest) => self.blob(head, digest),
            Endpoint::Tags => reading::tags(images, &name, head).map(Reply::Response),
            Endpoint::Referrers(digest) => reading::referrers(images, &digest, head).map(Reply::Response),
            Endpoint::Upload(session) => match &images.collected {
                Some(collected) => pushing::status(collected, &name, &session).map(Reply::Response),
                None => Err(read_only()),
            },
            Endpoint::Uploads => Err(read_only()),
        }
    }

    fn blob(&self, head: &Head, digest: Digest) -> Result<Reply<'_>, Response> {
        let held = reading::held(&self.images, &digest, head.method)?;
        let tag = format!("\"{digest}\"");
        if head.if_none_match.as_deref().is_some_and(|value| value == tag || value == "*") {
            return Ok(Reply::Response(Response::empty(304).with("ETag", tag)));
        }
        let wanted = match head.if_range.as_deref() {
            Some(value) if value != tag => Wanted::Whole,
            _ => range::wanted(head.range.as_deref(), held.size()),
        };
        Ok(Reply::Blob(BlobReply { fields: reading::blob_fields(&digest), digest, held, wanted }))
    }

    /// Verifies a blob, unless it was verified before; with `again` also then. Records the result.
    pub(super) fn check(
        &self,
        blob: &BlobReply<'_>,
        again: bool,
        check: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let stamp = blob.held.stamp()?;
        if again || !self.images.is_sound(&blob.digest, stamp) {
            check()?;
            self.images.remember_sound(&blob.digest, stamp);
        }
        Ok(())
    }
}

fn read_only() -> Response {
    Response::error(405, Code::Unsupported, "this registry is read-only").with("Allow", "GET, HEAD")
}

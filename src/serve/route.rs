//! Parses a request target into an endpoint of the protocol, and checks repository names, tags and digests.
//!
//! A name is only compared with the names of repositories, and never used as a path. Does no I/O.
//! Source: distribution-spec, "Endpoints".

use percent_encoding::percent_decode_str;

use crate::model::{Digest, Repository, Tag, Target};

use super::response::{Code, Response};

/// The parsed target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `/v2/`.
    Base,
    /// `/v2/_catalog`.
    Catalog,
    /// `/v2/NAME/…`.
    In(String, Endpoint),
}

/// An endpoint of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// `manifests/REFERENCE`.
    Manifest(Target),
    /// `blobs/DIGEST`.
    Blob(Digest),
    /// `blobs/uploads/`.
    Uploads,
    /// `blobs/uploads/SESSION`.
    Upload(String),
    /// `tags/list`.
    Tags,
    /// `referrers/DIGEST`.
    Referrers(Digest),
}

impl Route {
    /// Finds the route of a path.
    ///
    /// Errors: the response for a path that is no endpoint, or whose name, tag or digest is not valid.
    pub(super) fn of(path: &str) -> Result<Self, Response> {
        let unknown = || {
            Response::error(
                404,
                Code::Unsupported,
                "the path is not an endpoint of the distribution protocol",
            )
        };
        let path = percent_decode_str(path).decode_utf8().map_err(|_| unknown())?;
        let rest = match path.strip_prefix("/v2") {
            Some("" | "/") => return Ok(Self::Base),
            Some(rest) => rest.strip_prefix('/').ok_or_else(unknown)?,
            None => return Err(unknown()),
        };
        if rest == "_catalog" {
            return Ok(Self::Catalog);
        }
        let mut parts: Vec<&str> = rest.split('/').collect();
        let last = parts.pop().unwrap_or_default();
        let before = parts.pop().unwrap_or_default();
        let endpoint = match (parts.last().copied(), before, last) {
            (Some("blobs"), "uploads", "") => {
                parts.pop();
                Endpoint::Uploads
            }
            (Some("blobs"), "uploads", session) if is_session(session) => {
                parts.pop();
                Endpoint::Upload(session.to_owned())
            }
            // Some clients leave out the slash at the end.
            (_, "blobs", "uploads") => Endpoint::Uploads,
            (_, "blobs", digest) => Endpoint::Blob(digest_of(digest)?),
            (_, "manifests", reference) => Endpoint::Manifest(target_of(reference)?),
            (_, "referrers", digest) => Endpoint::Referrers(digest_of(digest)?),
            (_, "tags", "list") => Endpoint::Tags,
            _ => return Err(unknown()),
        };
        let name = parts.join("/");
        if !is_repository(&name) {
            return Err(Response::error(400, Code::NameInvalid, "the name of the repository is not valid"));
        }
        Ok(Self::In(name, endpoint))
    }
}

/// Tells whether a text has the form of this server's session names.
fn is_session(text: &str) -> bool {
    text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Tells whether a text is a repository name without a registry.
pub(super) fn is_repository(name: &str) -> bool {
    !name.is_empty() && format!("localhost/{name}").parse::<Repository>().is_ok()
}

fn digest_of(text: &str) -> Result<Digest, Response> {
    text.parse().map_err(|error: crate::model::DigestError| {
        Response::error(400, Code::DigestInvalid, &error.to_string())
    })
}

fn target_of(text: &str) -> Result<Target, Response> {
    if text.contains(':') {
        return digest_of(text).map(Target::Digest);
    }
    // The specification has no code for an invalid tag; no image has such a tag, so the response says that it is not
    // there.
    let tag = text.parse::<Tag>();
    tag.map(Target::Tag).map_err(|error| Response::error(404, Code::ManifestUnknown, &error.to_string()))
}

/// Returns the first value of a name in a query, decoded.
///
/// Errors: the response for a value that is not UTF-8.
pub(super) fn query_value(query: &str, name: &str) -> Result<Option<String>, Response> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let Some((_, value)) = pairs.into_iter().find(|(key, _)| *key == name) else { return Ok(None) };
    let value = value.replace('+', "%20");
    let decoded = percent_decode_str(&value).decode_utf8();
    decoded.map(|value| Some(value.into_owned())).map_err(|_| {
        Response::error(400, Code::Unsupported, &format!("the value of `{name}` in the query is not UTF-8"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn route(path: &str) -> Result<Route, u16> {
        Route::of(path).map_err(|response| response.status)
    }

    fn within(name: &str, endpoint: Endpoint) -> Result<Route, u16> {
        Ok(Route::In(name.to_owned(), endpoint))
    }

    #[test]
    fn every_endpoint_is_found_also_below_names_that_look_like_one() {
        let digest: Digest = format!("sha256:{HEX}").parse().unwrap();
        let tag = |text: &str| Endpoint::Manifest(Target::Tag(text.parse().unwrap()));
        assert_eq!(route("/v2"), Ok(Route::Base));
        assert_eq!(route("/v2/"), Ok(Route::Base));
        assert_eq!(route("/v2/_catalog"), Ok(Route::Catalog));
        assert_eq!(route("/v2/a/manifests/v1"), within("a", tag("v1")));
        assert_eq!(route("/v2/a/manifests/manifests/v1"), within("a/manifests", tag("v1")));
        assert_eq!(route("/v2/a/b/tags/list"), within("a/b", Endpoint::Tags));
        assert_eq!(route("/v2/tags/tags/list"), within("tags", Endpoint::Tags));
        let by_digest = Endpoint::Manifest(Target::Digest(digest.clone()));
        assert_eq!(route(&format!("/v2/a/manifests/sha256%3A{HEX}")), within("a", by_digest));
        assert_eq!(route(&format!("/v2/a/blobs/sha256:{HEX}")), within("a", Endpoint::Blob(digest.clone())));
        let blob = Endpoint::Blob(digest.clone());
        assert_eq!(route(&format!("/v2/blobs/uploads/blobs/sha256:{HEX}")), within("blobs/uploads", blob));
        assert_eq!(route(&format!("/v2/a/referrers/sha256:{HEX}")), within("a", Endpoint::Referrers(digest)));
        assert_eq!(route("/v2/a/b/blobs/uploads/"), within("a/b", Endpoint::Uploads));
        assert_eq!(route("/v2/a/b/blobs/uploads"), within("a/b", Endpoint::Uploads));
        assert_eq!(route("/v2/a/blobs/uploads/0f"), within("a", Endpoint::Upload("0f".into())));
    }

    #[test]
    fn what_is_no_endpoint_or_has_an_invalid_name_is_refused() {
        for (path, status) in [
            ("/", 404),
            ("/v1/", 404),
            ("/v2x/", 404),
            ("/v2//", 404),
            ("/v2/a", 404),
            ("/v2/a/tags/x", 404),
            ("/v2/a/manifests/.x", 404),
            ("/v2/a/manifests/", 404),
            ("/v2/manifests/v1", 400),
            ("/v2/A/manifests/v1", 400),
            ("/v2/../manifests/v1", 400),
            ("/v2/%2e%2e/%2e%2e/manifests/v1", 400),
            ("/v2/a%2f../manifests/v1", 400),
            ("/v2/a/%ff/manifests/v1", 404),
            ("/v2/a/blobs/sha256:12", 400),
            ("/v2/a/blobs/../../etc/passwd", 404),
            ("/v2/a/referrers/v1", 400),
            ("/v2/a/blobs/uploads/..", 404),
        ] {
            assert_eq!(route(path), Err(status), "{path}");
        }
        let named = |length| route(&format!("/v2/{}/tags/list", "a".repeat(length)));
        assert_eq!((named(245).is_ok(), named(246)), (true, Err(400)));
    }

    #[test]
    fn values_of_a_query_are_decoded() {
        let value = |query: &str| query_value(query, "a").map_err(|response| response.status);
        assert_eq!(value("a=b%2Bc+d&a=e"), Ok(Some("b+c d".into())));
        assert_eq!(value("x=1&a"), Ok(Some(String::new())));
        assert_eq!(value("aa=1"), Ok(None));
        assert_eq!(value("a=%ff"), Err(400));
    }
}

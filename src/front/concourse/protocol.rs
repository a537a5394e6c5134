//! Concourse's protocol: one JSON document in, one out.
//!
//! Source: concourse `atc/resource/resource.go`. Absent, `null` and empty members mean the same; a version is a
//! map of texts and never empty.

use std::io::Read;

use serde::Serialize;
use serde_json::value::RawValue;

use super::fields::Fields;
use crate::front::failure::Failure;
use crate::model::{Digest, Tag, limits};
use crate::stream::{TooLarge, read_bounded};

/// A request.
#[derive(Debug)]
pub(super) struct Request {
    /// `source`, not parsed yet.
    pub(super) source: Option<Box<RawValue>>,
    /// `params`.
    pub(super) params: Fields,
    /// `version`; it may lack a digest.
    pub(super) version: Option<GivenVersion>,
}

/// A version as Concourse sent it.
///
/// Concourse's own versions have a digest. A version that a user types (`fly check-resource --from tag:1.2`), or that
/// another resource type made, may have none.
#[derive(Debug)]
pub(super) struct GivenVersion {
    tag: Option<String>,
    digest: Result<Digest, Failure>,
    pushed: Option<String>,
}

impl GivenVersion {
    /// Returns the version for `in`, which needs the digest.
    pub(super) fn complete(self) -> Result<Version, Failure> {
        Ok(Version { tag: self.tag, digest: self.digest?, pushed: self.pushed })
    }

    /// Returns the version for `check`: a version without a digest cannot be compared, so it counts as absent.
    ///
    /// Source: registry-image-resource answers a version without a usable digest with the current one.
    pub(super) fn cursor(self) -> Option<Version> {
        self.complete().ok()
    }
}

/// One version of a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Version {
    /// Its tag; `None` in versions that other resources made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tag: Option<String>,
    /// The digest of its manifest or index.
    pub(super) digest: Digest,
    /// When it was pushed; in versions of a store only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pushed: Option<String>,
}

impl Version {
    /// Makes the version of a tag.
    pub(super) fn new(tag: &str, digest: Digest) -> Self {
        Self { tag: Some(tag.to_owned()), digest, pushed: None }
    }

    /// Returns the tag, if it is a valid one.
    pub(super) fn tag(&self) -> Option<Tag> {
        self.tag.as_deref().and_then(|tag| tag.parse().ok())
    }
}

/// One line about a version, which Concourse shows and pipelines read as `((.:step.name))`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Metadata {
    /// Name.
    pub(super) name: String,
    /// Value.
    pub(super) value: String,
}

impl Metadata {
    /// Makes one line.
    pub(super) fn new(name: &str, value: impl Into<String>) -> Self {
        Self { name: name.to_owned(), value: value.into() }
    }
}

/// The response of `in` and `out`.
#[derive(Debug, Serialize)]
pub(super) struct Response {
    /// The version that was fetched or made.
    pub(super) version: Version,
    /// Lines about it.
    pub(super) metadata: Vec<Metadata>,
}

impl Request {
    /// Reads standard input to its end.
    pub(super) fn read(input: impl Read) -> Result<Self, Failure> {
        let bytes = read_bounded(input, limits::REQUEST_BYTES).map_err(|error| match error {
            TooLarge::Io(error) => Failure::refused(format!("cannot read standard input: {error}")),
            TooLarge::Limit { limit } => {
                Failure::misuse(format!("the request has more than {limit} bytes, which no request needs"))
            }
        })?;
        let text = std::str::from_utf8(&bytes).map_err(|_| Failure::misuse("the request is not UTF-8"))?;
        if text.trim().is_empty() {
            return Err(Failure::misuse("standard input is empty, expected the request as a JSON object")
                .hint(r#"to try it, run: echo '{"source":{"repository":"…"}}' | imgrelay check"#));
        }
        let mut fields = Fields::parse("", text)?;
        let source = fields.raw("source");
        let params = fields.raw("params");
        let params = Fields::parse("params", params.as_deref().map_or("null", RawValue::get))?;
        let version = fields.object("version")?.map(version).transpose()?.flatten();
        fields.finish()?;
        Ok(Self { source, params, version })
    }
}

/// Reads a version; an empty one is none.
fn version(mut fields: Fields) -> Result<Option<GivenVersion>, Failure> {
    let (tag, digest, pushed) = (fields.text("tag")?, fields.text("digest")?, fields.text("pushed")?);
    let version = match (&tag, digest) {
        (None, None) => None,
        (Some(_), None) => Some(Err(fields.invalid("digest", "it is missing"))),
        (_, Some(digest)) => Some(digest.trim().parse().map_err(|error| fields.invalid("digest", error))),
    };
    fields.finish()?;
    Ok(version.map(|digest| GivenVersion { tag, digest, pushed }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn read(text: &str) -> Result<Request, Failure> {
        Request::read(text.as_bytes())
    }

    #[test]
    fn absent_null_and_empty_mean_the_same() {
        for text in [
            r#"{"source":{}}"#,
            r#"{"source":{},"version":null,"params":null}"#,
            r#"{"Source":{},"Version":{},"Params":{}}"#,
        ] {
            let request = read(text).unwrap();
            assert!(request.source.is_some() && request.version.is_none(), "{text}");
            request.params.finish().unwrap();
        }
        let request = read(&format!(r#"{{"source":{{}},"version":{{"tag":"a","digest":"{DIGEST}"}}}}"#));
        let version = request.unwrap().version.unwrap().complete().unwrap();
        assert_eq!((version.tag.as_deref(), version.digest.to_string().as_str()), (Some("a"), DIGEST));
        assert_eq!(serde_json::to_string(&version).unwrap(), format!(r#"{{"tag":"a","digest":"{DIGEST}"}}"#));
    }

    #[test]
    fn a_version_without_a_usable_digest_is_no_cursor_and_cannot_be_fetched() {
        for (text, expected) in [
            (r#"{"version":{"tag":"1.2"}}"#, "`version.digest`: it is missing"),
            (r#"{"version":{"tag":"1.2","digest":""}}"#, "`version.digest`: it is missing"),
            (r#"{"version":{"tag":"1.2","digest":"sha256:12"}}"#, "`version.digest`: digest `sha256:12`"),
            (r#"{"version":{"digest":"latest"}}"#, "`version.digest`: "),
        ] {
            let version = || read(text).unwrap().version.unwrap();
            assert_eq!(version().cursor(), None, "{text}");
            let message = version().complete().unwrap_err().message.to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
        let with_line_break = format!(r#"{{"version":{{"digest":"{DIGEST}\n"}}}}"#);
        let version = read(&with_line_break).unwrap().version.unwrap().complete().unwrap();
        assert_eq!(version.digest.to_string(), DIGEST);
    }

    #[test]
    fn requests_that_are_none_are_refused() {
        for (text, expected) in [
            ("", "standard input is empty"),
            ("[]", "`the request` is a list, expected an object"),
            ("{} {}", "cannot read standard input: it is not valid JSON"),
            (r#"{"sourc":{}}"#, "unknown field `sourc`"),
            (r#"{"version":{"digest":1}}"#, "`version.digest` is a number, expected text"),
            (r#"{"version":{"ref":"x"}}"#, "unknown field `version.ref`"),
        ] {
            let failure = read(text).map(|_| ()).unwrap_err();
            assert!(failure.message.to_string().contains(expected), "{text}: {}", failure.message);
        }
    }
}

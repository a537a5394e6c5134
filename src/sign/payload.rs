//! The payload of a "simple signing" signature: a JSON text that names a digest and an identity.
//!
//! Source: containers/image `docs/containers-signature.5.md`; cosign `specs/SIGNATURE_SPEC.md`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{Digest, Schema, limits, read_json};

use super::claim::ClaimError;

/// Media type of a payload.
pub const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The type that cosign writes and does not check; containers/image requires it.
const TYPE: &str = "cosign container image signature";

static SCHEMA: Schema = Schema::Object(&[
    (
        "critical",
        Schema::Object(&[
            ("identity", Schema::Object(&[("docker-reference", Schema::Value)])),
            ("image", Schema::Object(&[("docker-manifest-digest", Schema::Value)])),
            ("type", Schema::Value),
        ]),
    ),
    ("optional", Schema::Value),
]);

/// The payload of a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// The name under which the image is published.
    pub identity: String,
    /// The image.
    pub digest: Digest,
    /// Annotations of the signer.
    pub annotations: BTreeMap<String, Value>,
}

#[derive(Serialize, Deserialize)]
struct Json {
    critical: Critical,
    // `null` if there are none, as cosign writes it.
    optional: Option<BTreeMap<String, Value>>,
}

#[derive(Serialize, Deserialize)]
struct Critical {
    identity: Identity,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Serialize, Deserialize)]
struct Identity {
    #[serde(rename = "docker-reference")]
    reference: String,
}

#[derive(Serialize, Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

impl Payload {
    /// Writes the JSON that is signed.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        crate::model::to_json(&Json {
            critical: Critical {
                identity: Identity { reference: self.identity.clone() },
                image: Image { digest: self.digest.to_string() },
                kind: TYPE.to_owned(),
            },
            optional: Some(self.annotations.clone()).filter(|annotations| !annotations.is_empty()),
        })
    }

    /// Reads a payload; refuses one that readers may read differently.
    ///
    /// Errors: [`ClaimError`], also for a duplicate member, and for more than [`limits::PAYLOAD_BYTES`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ClaimError> {
        const WHAT: &str = "the payload";
        if bytes.len() as u64 > limits::PAYLOAD_BYTES {
            let found = bytes.len() as u64;
            return Err(ClaimError::TooLarge { what: WHAT, found, limit: limits::PAYLOAD_BYTES });
        }
        let json: Json = read_json(bytes, &SCHEMA)
            .map_err(|error| ClaimError::Json { what: WHAT, problem: error.to_string() })?;
        if json.critical.kind != TYPE {
            return Err(ClaimError::Type { what: WHAT, found: json.critical.kind, expected: TYPE });
        }
        Ok(Self {
            identity: json.critical.identity.reference,
            digest: json.critical.image.digest.parse()?,
            annotations: json.optional.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn text(digest: &str, rest: &str) -> String {
        format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"reg.example/app:v1"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"cosign container image signature"}},"optional":{rest}}}"#
        )
    }

    #[test]
    fn a_payload_is_written_as_cosign_writes_it() {
        let mut payload = Payload {
            identity: "reg.example/app:v1".to_owned(),
            digest: DIGEST.parse().unwrap(),
            annotations: BTreeMap::new(),
        };
        assert_eq!(String::from_utf8(payload.to_json()).unwrap(), text(DIGEST, "null"));
        payload.annotations.insert("commit".to_owned(), "12ab".into());
        let written = payload.to_json();
        assert_eq!(String::from_utf8(written.clone()).unwrap(), text(DIGEST, r#"{"commit":"12ab"}"#));
        assert_eq!(Payload::parse(&written), Ok(payload));
    }

    #[test]
    fn a_payload_that_readers_understand_differently_is_refused() {
        let twice = text(DIGEST, "null").replacen("\"image\":", "\"image\":{},\"image\":", 1);
        let cased = text(DIGEST, "null").replacen("\"image\"", "\"Image\"", 1);
        let other = text(DIGEST, "null").replacen("cosign container", "atomic container", 1);
        let large = text(DIGEST, &format!("{{\"a\":\"{}\"}}", "x".repeat(300_000)));
        for (text, expected) in [
            (twice.as_str(), "the payload cannot be read: member `image` is there twice"),
            (&cased, "the payload cannot be read: member `Image` is read as `image`"),
            (&other, "the payload has type `atomic container image signature`"),
            (&large, "the payload has 300"),
            ("[]", "the payload cannot be read: expected an object, found a list"),
            ("", "the payload cannot be read: it is empty"),
            ("{}", "the payload cannot be read: missing field `critical`"),
            (&format!("{} x", text(DIGEST, "null")), "trailing characters"),
            (&text("sha256:12", "null"), "digest `sha256:12` has 2 hex characters"),
            (&text("md5:12", "null"), "uses an algorithm that cannot be verified"),
            (&text(&DIGEST.to_ascii_uppercase(), "null"), "uses an algorithm that cannot be verified"),
        ] {
            let error = Payload::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }
        assert!(Payload::parse(&[0xff]).is_err());
    }

    #[test]
    fn a_payload_has_up_to_262144_bytes() {
        let of_size = |size: usize| {
            let mut text = text(DIGEST, "null");
            text.extend(std::iter::repeat_n(' ', size - text.len()));
            Payload::parse(text.as_bytes()).map(|payload| payload.identity)
        };
        assert_eq!(of_size(262_144), Ok("reg.example/app:v1".to_owned()));
        for found in [262_145, 262_146] {
            let expected = ClaimError::TooLarge { what: "the payload", found, limit: 262_144 };
            assert_eq!(of_size(usize::try_from(found).unwrap()), Err(expected));
        }
    }
}

//! Writes in-toto statements about images, and signs them in envelopes.
//!
//! Source: <https://github.com/secure-systems-lab/dsse> `envelope.md` and `protocol.md`; in-toto attestation
//! `spec/v1/statement.md`. [`super::dsse`] reads them.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::model::{Digest, to_json};

use super::key_error::KeyError;
use super::signing_key::SigningKey;

/// Media type of an envelope.
pub const DSSE_ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";
/// Type of the payload of an envelope: an in-toto statement.
pub const INTOTO: &str = "application/vnd.in-toto+json";
/// Predicate type by which cosign 3 signs an image.
pub const SIGN_PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";

/// Type of a statement of version 1.
pub(super) const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// cosign's type under the tag `.att`.
pub(super) const STATEMENT_OF_COSIGN_2: &str = "https://in-toto.io/Statement/v0.1";

/// An envelope as it is stored.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Envelope {
    pub(super) payload: String,
    pub(super) payload_type: String,
    pub(super) signatures: Vec<Signature>,
}

/// One signature of an envelope.
#[derive(Serialize, Deserialize)]
pub(super) struct Signature {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) keyid: Option<String>,
    pub(super) sig: String,
}

/// The form of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatementForm {
    /// Version 1, as in bundles; the image has no name in it.
    V1,
    /// Version 0.1, as cosign 2 reads it under its tag.
    V01,
}

/// A statement about an image.
#[derive(Clone, Debug)]
pub struct Statement<'a> {
    /// The form.
    pub form: StatementForm,
    /// The image.
    pub image: &'a Digest,
    /// The name under which it is published, for [`StatementForm::V01`].
    pub name: &'a str,
    /// What kind of statement it is, a URI.
    pub predicate_type: &'a str,
    /// The content of the statement, JSON.
    pub predicate: &'a RawValue,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    #[serde(rename = "_type")]
    kind: &'a str,
    subject: [WrittenSubject<'a>; 1],
    predicate_type: &'a str,
    predicate: &'a RawValue,
}

#[derive(Serialize)]
struct WrittenSubject<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    digest: BTreeMap<&'a str, &'a str>,
}

impl Statement<'_> {
    /// Writes the JSON that is signed.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let (kind, name) = match self.form {
            StatementForm::V1 => (STATEMENT, None),
            StatementForm::V01 => (STATEMENT_OF_COSIGN_2, Some(self.name)),
        };
        let digest = [(self.image.algorithm().name(), self.image.hex())].into();
        to_json(&Written {
            kind,
            subject: [WrittenSubject { name, digest }],
            predicate_type: self.predicate_type,
            predicate: self.predicate,
        })
    }

    /// Returns the bytes that are signed.
    pub(super) fn message(&self) -> Vec<u8> {
        encoded(INTOTO, &self.to_json())
    }

    /// Signs the statement and returns the envelope, JSON.
    pub fn sign(&self, key: &SigningKey) -> Result<Vec<u8>, KeyError> {
        self.seal(key).map(|envelope| to_json(&envelope))
    }

    pub(super) fn seal(&self, key: &SigningKey) -> Result<Envelope, KeyError> {
        let payload = self.to_json();
        let sig = STANDARD.encode(key.sign(&encoded(INTOTO, &payload))?);
        Ok(Envelope {
            payload: STANDARD.encode(&payload),
            payload_type: INTOTO.to_owned(),
            signatures: vec![Signature { keyid: None, sig }],
        })
    }
}

/// Returns the signed bytes of a payload: DSSE's pre-authentication encoding.
pub(super) fn encoded(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    out.extend(payload);
    out
}

//! Reads DSSE envelopes: the statement of an attestation, and the signed bytes.
//!
//! Source: <https://github.com/secure-systems-lab/dsse> `envelope.md` and `protocol.md`; in-toto attestation
//! `spec/v1/statement.md`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::Deserialize;

use crate::model::{Digest, Schema, limits, read_json};

use super::claim::{Claim, ClaimError, ClaimForm, ClaimKind, Signed};
use super::statement::{
    Envelope, INTOTO, SIGN_PREDICATE, STATEMENT, STATEMENT_OF_COSIGN_2, Signature, encoded,
};

static ENVELOPE_SCHEMA: Schema = Schema::Object(&[
    ("payload", Schema::Value),
    ("payloadType", Schema::Value),
    ("signatures", Schema::List(&Schema::Object(&[("keyid", Schema::Value), ("sig", Schema::Value)]))),
]);

static STATEMENT_SCHEMA: Schema = Schema::Object(&[
    ("_type", Schema::Value),
    ("subject", Schema::List(&Schema::Object(&[("name", Schema::Value), ("digest", Schema::Value)]))),
    ("predicateType", Schema::Value),
    ("predicate", Schema::Value),
]);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Read {
    #[serde(rename = "_type")]
    kind: String,
    #[serde(default)]
    subject: Vec<Subject>,
    predicate_type: String,
}

#[derive(Deserialize)]
struct Subject {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    digest: BTreeMap<String, String>,
}

/// Reads an envelope; `hint` is the stored hint of the key.
///
/// Errors: [`ClaimError`], also for a payload that is no in-toto statement.
pub(super) fn read_envelope(bytes: &[u8], form: ClaimForm, hint: Option<&str>) -> Result<Claim, ClaimError> {
    const WHAT: &str = "the envelope";
    let found = bytes.len() as u64;
    if found > limits::ATTESTATION_BYTES {
        return Err(ClaimError::TooLarge { what: WHAT, found, limit: limits::ATTESTATION_BYTES });
    }
    let envelope: Envelope = read_json(bytes, &ENVELOPE_SCHEMA)
        .map_err(|error| ClaimError::Json { what: WHAT, problem: error.to_string() })?;
    if envelope.payload_type != INTOTO {
        let found = envelope.payload_type.chars().take(100).collect();
        return Err(ClaimError::Type { what: "the payload of the envelope", found, expected: INTOTO });
    }
    let found = envelope.signatures.len();
    if found > limits::SIGNATURES {
        return Err(ClaimError::TooMany { found, limit: limits::SIGNATURES });
    }
    if found == 0 {
        return Err(ClaimError::Unsigned { what: WHAT });
    }
    let payload = decode(&envelope.payload, "the payload of the envelope")?;
    let signed = |signature: &Signature| {
        Ok(Signed {
            signature: decode(&signature.sig, "a signature of the envelope")?,
            hint: hint.map(str::to_owned),
        })
    };
    let signatures = envelope.signatures.iter().map(signed).collect::<Result<_, ClaimError>>()?;
    let statement = read_statement(&payload)?;
    let kind = match statement.predicate_type.as_str() {
        SIGN_PREDICATE => ClaimKind::Signature,
        _ => ClaimKind::Attestation { predicate_type: statement.predicate_type },
    };
    let named = statement.subject.iter().find_map(|subject| subject.name.clone());
    Ok(Claim {
        form,
        kind,
        subjects: subjects(&statement.subject)?,
        identity: named.filter(|name| !name.is_empty()),
        annotations: BTreeMap::new(),
        message: encoded(INTOTO, &payload),
        signatures,
        by_certificate: false,
    })
}

fn read_statement(payload: &[u8]) -> Result<Read, ClaimError> {
    const WHAT: &str = "the statement";
    let statement: Read = read_json(payload, &STATEMENT_SCHEMA)
        .map_err(|error| ClaimError::Json { what: WHAT, problem: error.to_string() })?;
    if ![STATEMENT, STATEMENT_OF_COSIGN_2].contains(&statement.kind.as_str()) {
        let found = statement.kind.chars().take(100).collect();
        return Err(ClaimError::Type { what: WHAT, found, expected: STATEMENT });
    }
    Ok(statement)
}

/// Lists the digests of supported algorithms; a statement without one is an error.
fn subjects(subjects: &[Subject]) -> Result<Vec<Digest>, ClaimError> {
    let mut found: Vec<Digest> = Vec::new();
    for (algorithm, hex) in subjects.iter().flat_map(|subject| &subject.digest) {
        if ["sha256", "sha512"].contains(&algorithm.as_str()) {
            found.push(format!("{algorithm}:{hex}").parse()?);
        }
    }
    if found.is_empty() { Err(ClaimError::NoSubject) } else { Ok(found) }
}

/// Decodes base64 in either of the alphabets that DSSE allows, with padding.
fn decode(text: &str, what: &'static str) -> Result<Vec<u8>, ClaimError> {
    let engine = if text.contains(['-', '_']) { URL_SAFE } else { STANDARD };
    engine.decode(text).map_err(|_| ClaimError::Base64 { what })
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::super::{SigningKey, Statement, StatementForm};
    use super::*;

    fn key() -> SigningKey {
        SigningKey::parse(include_bytes!("../../tests/keys/ed25519.key"), "`k`", None).unwrap()
    }

    fn predicate(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    fn envelope(payload: &str) -> String {
        let sig = STANDARD.encode(key().sign(&encoded(INTOTO, payload.as_bytes())).unwrap());
        let payload = STANDARD.encode(payload);
        format!(r#"{{"payload":"{payload}","payloadType":"{INTOTO}","signatures":[{{"sig":"{sig}"}}]}}"#)
    }

    #[test]
    fn the_bytes_that_are_signed_are_those_of_the_specification() {
        // protocol.md, "Test Vectors".
        let found = encoded("http://example.com/HelloWorld", b"hello world");
        assert_eq!(found, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[test]
    fn a_statement_is_written_signed_and_read_again() {
        let (key, image) = (key(), Digest::sha256_of(b"image"));
        let predicate = predicate(r#"{"b":1,"a":[]}"#);
        let mut statement = Statement {
            form: StatementForm::V1,
            image: &image,
            name: "reg.example/app",
            predicate_type: "https://slsa.dev/provenance/v1",
            predicate: &predicate,
        };
        let hex = image.hex();
        assert_eq!(
            String::from_utf8(statement.to_json()).unwrap(),
            format!(
                r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"digest":{{"sha256":"{hex}"}}}}],"predicateType":"https://slsa.dev/provenance/v1","predicate":{{"b":1,"a":[]}}}}"#
            )
        );
        let read = read_envelope(&statement.sign(&key).unwrap(), ClaimForm::Bundle, None).unwrap();
        let keys = [key.public().clone()];
        assert!(read.check(&image, &keys, None).is_ok());
        assert_eq!((read.identity.clone(), read.subjects.clone()), (None, vec![image.clone()]));
        assert!(
            matches!(&read.kind, ClaimKind::Attestation { predicate_type } if predicate_type.ends_with("/v1"))
        );
        statement.form = StatementForm::V01;
        statement.predicate_type = SIGN_PREDICATE;
        let read = read_envelope(&statement.sign(&key).unwrap(), ClaimForm::Envelope, None).unwrap();
        assert_eq!((read.identity.as_deref(), &read.kind), (Some("reg.example/app"), &ClaimKind::Signature));
    }

    #[test]
    fn an_envelope_that_is_not_as_it_should_be_is_refused() {
        let hex = "0".repeat(64);
        let good = format!(
            r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"digest":{{"sha256":"{hex}"}}}}],"predicateType":"a","predicate":{{}}}}"#
        );
        let url = envelope(&good.replace("\"a\"", "\"a?>\""));
        assert!(read_envelope(envelope(&good).as_bytes(), ClaimForm::Bundle, None).is_ok());
        let payload =
            |text: &str| envelope(&good).replacen("\"payload\":\"", &format!("\"payload\":\"{text}"), 1);
        for (text, expected) in [
            (payload(" "), "the payload of the envelope is not base64 in its usual form"),
            (
                envelope(&good).replacen(INTOTO, "text/plain", 1),
                "the payload of the envelope has type `text/plain`",
            ),
            (envelope(&good).replacen("\"sig\"", "\"sig\":\"\",\"sig\"", 1), "member `sig` is there twice"),
            (
                format!(r#"{{"payload":"","payloadType":"{INTOTO}","signatures":[]}}"#),
                "the envelope has no signature",
            ),
            (
                format!(
                    r#"{{"payload":"","payloadType":"{INTOTO}","signatures":[{}]}}"#,
                    vec![r#"{"sig":""}"#; 101].join(",")
                ),
                "101 signatures are in one manifest or envelope",
            ),
            (envelope("{}"), "the statement cannot be read: missing field `_type`"),
            (
                envelope(&good.replacen("/v1", "/v9", 1)),
                "the statement has type `https://in-toto.io/Statement/v9`",
            ),
            (envelope(&good.replacen("sha256", "md5", 1)), "the statement names no image by a digest"),
            (envelope(&good.replacen(&hex, "00", 1)), "has 2 hex characters"),
            (
                envelope(&good.replacen("\"subject\"", "\"Subject\"", 1)),
                "member `Subject` is read as `subject`",
            ),
            (envelope(&good.replacen("\"subject\":[", "\"subject\":[[],", 1)), "found a list"),
            ("[]".to_owned(), "expected an object, found a list"),
        ] {
            let error = read_envelope(text.as_bytes(), ClaimForm::Bundle, None).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }
        // DSSE allows the other alphabet too.
        let url = url.replace('+', "-").replace('/', "_").replace("application_vnd.in-toto-json", INTOTO);
        assert!(read_envelope(url.as_bytes(), ClaimForm::Bundle, None).is_ok());
    }
}

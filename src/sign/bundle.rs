//! Sigstore bundles of version 0.3: an envelope with the material to verify it, as cosign 3 stores it.
//!
//! Source: sigstore/protobuf-specs `protos/sigstore_bundle.proto`; cosign `specs/BUNDLE_SPEC.md`. Entries of a
//! transparency log and certificates are ignored; only signatures by keys are verified.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::model::{Schema, limits, read_json, to_json};

use super::claim::{Claim, ClaimError, ClaimForm};
use super::dsse::read_envelope;
use super::key_error::KeyError;
use super::signing_key::SigningKey;
use super::statement::{Envelope, Statement};

/// Media type of a bundle, and artifact type of the manifest that holds it.
pub const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// The media type of the same version from earlier writers.
const OLD_FORM: &str = "application/vnd.dev.sigstore.bundle+json;version=0.3";

static SCHEMA: Schema = Schema::Object(&[
    ("mediaType", Schema::Value),
    (
        "verificationMaterial",
        Schema::Object(&[
            ("publicKey", Schema::Object(&[("hint", Schema::Value)])),
            ("certificate", Schema::Value),
            ("x509CertificateChain", Schema::Value),
        ]),
    ),
    ("dsseEnvelope", Schema::Value),
    ("messageSignature", Schema::Value),
]);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Read<'a> {
    media_type: String,
    verification_material: Material<'a>,
    #[serde(borrow, default)]
    dsse_envelope: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material<'a> {
    #[serde(default)]
    public_key: Option<Key>,
    #[serde(borrow, default)]
    certificate: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "x509CertificateChain")]
    chain: Option<&'a RawValue>,
}

#[derive(Serialize, Deserialize)]
struct Key {
    #[serde(default)]
    hint: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    media_type: &'a str,
    verification_material: WrittenMaterial,
    dsse_envelope: Envelope,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenMaterial {
    public_key: Key,
}

/// Signs a statement and returns the bundle, JSON.
pub fn sign_bundle(statement: &Statement<'_>, key: &SigningKey) -> Result<Vec<u8>, KeyError> {
    let dsse_envelope = statement.seal(key)?;
    let verification_material = WrittenMaterial { public_key: Key { hint: Some(key.public().hint()) } };
    Ok(to_json(&Written { media_type: BUNDLE, verification_material, dsse_envelope }))
}

/// Reads the claim in a bundle.
///
/// Errors: [`ClaimError`], also for a bundle with the signature of a file instead of an envelope.
pub(super) fn read_bundle(bytes: &[u8]) -> Result<Claim, ClaimError> {
    const WHAT: &str = "the bundle";
    let found = bytes.len() as u64;
    if found > limits::ATTESTATION_BYTES {
        return Err(ClaimError::TooLarge { what: WHAT, found, limit: limits::ATTESTATION_BYTES });
    }
    let json = |problem: String| ClaimError::Json { what: WHAT, problem };
    let bundle: Read<'_> = read_json(bytes, &SCHEMA).map_err(|error| json(error.to_string()))?;
    if ![BUNDLE, OLD_FORM].contains(&bundle.media_type.as_str()) {
        let found = bundle.media_type.chars().take(100).collect();
        return Err(ClaimError::Type { what: WHAT, found, expected: BUNDLE });
    }
    let Some(envelope) = bundle.dsse_envelope else {
        return Err(json("it has no `dsseEnvelope`".to_owned()));
    };
    let material = bundle.verification_material;
    let hint = material.public_key.and_then(|key| key.hint).filter(|hint| !hint.is_empty());
    let mut claim = read_envelope(envelope.get().as_bytes(), ClaimForm::Bundle, hint.as_deref())?;
    claim.by_certificate = material.certificate.is_some() || material.chain.is_some();
    Ok(claim)
}

#[cfg(test)]
mod tests {
    use super::super::{ClaimKind, Doubt, StatementForm};
    use super::*;
    use crate::model::Digest;

    const PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";

    fn signed(image: &Digest) -> (SigningKey, String) {
        let key = SigningKey::parse(include_bytes!("../../tests/keys/p256.key"), "`k`", None).unwrap();
        let predicate = RawValue::from_string("{}".to_owned()).unwrap();
        let statement = Statement {
            form: StatementForm::V1,
            image,
            name: "",
            predicate_type: PREDICATE,
            predicate: &predicate,
        };
        let bundle = String::from_utf8(sign_bundle(&statement, &key).unwrap()).unwrap();
        (key, bundle)
    }

    #[test]
    fn a_bundle_is_written_and_read_and_its_hint_names_the_key() {
        let image = Digest::sha256_of(b"image");
        let (key, bundle) = signed(&image);
        let start = format!(
            r#"{{"mediaType":"{BUNDLE}","verificationMaterial":{{"publicKey":{{"hint":"{}"}}}},"dsseEnvelope":{{"payload":""#,
            key.public().hint()
        );
        assert!(bundle.starts_with(&start), "{bundle}");
        let claim = read_bundle(bundle.as_bytes()).unwrap();
        assert_eq!(
            (claim.kind.clone(), claim.hint()),
            (ClaimKind::Signature, Some(key.public().hint().as_str()))
        );
        let keys = [key.public().clone()];
        assert!(claim.check(&image, &keys, None).is_ok());
        let other = claim.check(&Digest::sha256_of(b"other"), &keys, None).unwrap_err();
        assert!(matches!(other, Doubt::OtherImage { .. }));
    }

    #[test]
    fn a_bundle_that_is_not_as_it_should_be_is_refused() {
        let (_, good) = signed(&Digest::sha256_of(b"image"));
        for (from, to, expected) in [
            (
                "bundle.v0.3",
                "bundle.v0.9",
                "the bundle has type `application/vnd.dev.sigstore.bundle.v0.9+json`",
            ),
            ("\"dsseEnvelope\"", "\"other\"", "the bundle cannot be read: it has no `dsseEnvelope`"),
            ("\"dsseEnvelope\"", "\"DSSEEnvelope\"", "member `DSSEEnvelope` is read as `dsseEnvelope`"),
            ("{\"mediaType\"", "{\"mediaType\":\"\",\"mediaType\"", "member `mediaType` is there twice"),
            ("\"publicKey\":{", "\"publicKey\":[{", "expected"),
            ("\"sig\":\"", "\"sig\":\"!", "a signature of the envelope is not base64"),
        ] {
            let error = read_bundle(good.replacen(from, to, 1).as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{to}: {error}");
        }
        let keyless = good.replacen("\"publicKey\"", "\"certificate\":{\"rawBytes\":\"\"},\"publicKey\"", 1);
        assert!(read_bundle(keyless.as_bytes()).unwrap().by_certificate);
        assert!(read_bundle(b"").is_err());
    }

    #[test]
    fn a_bundle_has_up_to_50331648_bytes() {
        let of_size = |size: u64| read_bundle(&vec![b'x'; usize::try_from(size).unwrap()]).unwrap_err();
        assert!(matches!(of_size(50_331_648), ClaimError::Json { .. }), "it is read, and is no JSON");
        for found in [50_331_649, 50_331_650] {
            let expected = ClaimError::TooLarge { what: "the bundle", found, limit: 50_331_648 };
            assert_eq!(of_size(found), expected);
        }
    }

    #[test]
    fn a_certificate_or_a_chain_of_them_is_no_key() {
        let (_, good) = signed(&Digest::sha256_of(b"image"));
        let by_certificate = |material: &str| {
            let text = good.replacen("\"publicKey\"", &format!("{material}\"publicKey\""), 1);
            read_bundle(text.as_bytes()).unwrap().by_certificate
        };
        assert!(!by_certificate(""));
        assert!(by_certificate(r#""certificate":{"rawBytes":""},"#));
        assert!(by_certificate(r#""x509CertificateChain":{"certificates":[]},"#));
    }
}

//! Manifests attached to an image: referrers by `subject`, and envelopes under cosign's tag `.att`.
//!
//! Source: image-spec manifest.md "Guidelines for Artifact Usage"; cosign `specs/BUNDLE_SPEC.md`.

use crate::model::{Annotations, Descriptor, ImageManifest, RawDocument, limits, media_type};

use super::bundle::{BUNDLE, read_bundle};
use super::claim::{Claim, ClaimError, ClaimForm};
use super::dsse::read_envelope;
use super::public_key::PublicKey;
use super::signature_manifest::{CERTIFICATE, KEY_HINT, SIGNATURE, SignatureManifest, check_layers};
use super::statement::{DSSE_ENVELOPE, SIGN_PREDICATE};

/// Annotation with the content type of a bundle.
const BUNDLE_CONTENT: &str = "dev.sigstore.bundle.content";
/// Annotation with the predicate type of a bundle's statement.
const BUNDLE_PREDICATE: &str = "dev.sigstore.bundle.predicateType";
/// Annotation of an envelope under cosign's tag.
const ENVELOPE_PREDICATE: &str = "predicateType";
/// Content of the empty configuration.
const EMPTY: &[u8] = b"{}";

/// A manifest with its blobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    /// The manifest.
    pub manifest: RawDocument,
    /// Its configuration and its layer.
    pub blobs: Vec<(Descriptor, Vec<u8>)>,
}

impl Referrer {
    /// Makes the manifest of one file about an image, as `oras attach` does.
    ///
    /// `title` is the file's name; `annotations` are those of the manifest.
    #[must_use]
    pub fn of_file(
        subject: &Descriptor,
        artifact_type: &str,
        title: Option<&str>,
        bytes: Vec<u8>,
        annotations: Annotations,
    ) -> Self {
        let config = Descriptor::of_bytes(media_type::OCI_EMPTY, EMPTY);
        let mut layer = Descriptor::of_bytes(artifact_type, &bytes);
        if let Some(title) = title {
            layer.annotations.insert(crate::model::keys::TITLE.to_owned(), title.to_owned());
        }
        let subject = Descriptor::new(&subject.media_type, subject.digest.clone(), subject.size);
        let manifest = RawDocument::of_manifest(ImageManifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            artifact_type: Some(artifact_type.to_owned()),
            config: config.clone(),
            layers: vec![layer.clone()],
            subject: Some(subject),
            annotations,
        });
        Self { manifest, blobs: vec![(layer, bytes), (config, EMPTY.to_vec())] }
    }

    /// Makes the manifest of a bundle about an image.
    #[must_use]
    pub fn of_bundle(subject: &Descriptor, bundle: Vec<u8>, predicate_type: &str) -> Self {
        let annotations = [(BUNDLE_CONTENT, "dsse-envelope"), (BUNDLE_PREDICATE, predicate_type)];
        let annotations = annotations.map(|(key, value)| (key.to_owned(), value.to_owned()));
        Self::of_file(subject, BUNDLE, None, bundle, annotations.into())
    }

    /// Adds an envelope to those under cosign's tag, or makes a manifest for it.
    #[must_use]
    pub fn with_envelope(
        existing: Option<&ImageManifest>,
        envelope: Vec<u8>,
        predicate_type: &str,
        key: &PublicKey,
    ) -> Self {
        let mut layer = Descriptor::of_bytes(DSSE_ENVELOPE, &envelope);
        // cosign refuses a layer without this annotation; it is empty because the signature is in the envelope.
        layer.annotations.insert(SIGNATURE.to_owned(), String::new());
        layer.annotations.insert(ENVELOPE_PREDICATE.to_owned(), predicate_type.to_owned());
        layer.annotations.insert(KEY_HINT.to_owned(), key.hint());
        let made = SignatureManifest::with_layer(existing, layer.clone());
        let config = Descriptor::of_bytes(media_type::OCI_CONFIG, &made.config);
        Self { manifest: made.manifest, blobs: vec![(layer, envelope), (config, made.config)] }
    }
}

/// Checks the layers of a manifest of envelopes before they are read.
pub fn envelope_layers(manifest: &ImageManifest) -> Result<&[Descriptor], ClaimError> {
    check_layers(manifest, DSSE_ENVELOPE, "the envelope", limits::ATTESTATION_BYTES)?;
    Ok(&manifest.layers)
}

/// Reads the claim of a layer of such a manifest.
pub fn envelope_claim(layer: &Descriptor, bytes: &[u8]) -> Result<Claim, ClaimError> {
    let hint = layer.annotations.get(KEY_HINT).map(String::as_str);
    let mut claim = read_envelope(bytes, ClaimForm::Envelope, hint)?;
    claim.by_certificate = layer.annotations.contains_key(CERTIFICATE);
    Ok(claim)
}

/// Checks the one layer of a manifest with a bundle before it is read.
pub fn bundle_layer(manifest: &ImageManifest) -> Result<&Descriptor, ClaimError> {
    check_layers(manifest, BUNDLE, "the bundle", limits::ATTESTATION_BYTES)?;
    match manifest.layers.as_slice() {
        [layer] => Ok(layer),
        layers => Err(ClaimError::TooMany { found: layers.len(), limit: 1 }),
    }
}

/// Tells whether a manifest says that its bundle is a signature of the image, and not another statement about it.
#[must_use]
pub fn bundle_signs(manifest: &ImageManifest) -> bool {
    let is = |key: &str, value: &str| manifest.annotations.get(key).is_some_and(|found| found == value);
    is(BUNDLE_PREDICATE, SIGN_PREDICATE) || is(BUNDLE_CONTENT, "message-signature")
}

/// Reads the claim of such a layer.
pub fn bundle_claim(bytes: &[u8]) -> Result<Claim, ClaimError> {
    read_bundle(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;
    use crate::sign::SigningKey;

    fn image() -> Descriptor {
        let mut image = Descriptor::of_bytes(media_type::OCI_MANIFEST, b"image");
        image.annotations.insert("a".to_owned(), "b".to_owned());
        image
    }

    fn manifest(referrer: &Referrer) -> &ImageManifest {
        referrer.manifest.manifest().expect("an image manifest")
    }

    #[test]
    fn a_file_is_attached_with_its_title_its_type_and_the_image() {
        let annotations: Annotations = [("k".to_owned(), "v".to_owned())].into();
        let made = Referrer::of_file(&image(), "text/spdx", Some("sbom.json"), b"{ }".to_vec(), annotations);
        let found = manifest(&made);
        assert_eq!(found.artifact_type.as_deref(), Some("text/spdx"));
        let subject = found.subject.as_ref().expect("the image");
        assert_eq!((&subject.digest, subject.size), (&Digest::sha256_of(b"image"), 5));
        assert!(subject.annotations.is_empty(), "annotations of the entry are not the image's");
        assert_eq!(found.config.media_type, "application/vnd.oci.empty.v1+json");
        let [layer] = found.layers.as_slice() else { panic!("one layer: {:?}", found.layers) };
        assert_eq!((layer.media_type.as_str(), layer.size), ("text/spdx", 3));
        assert_eq!(layer.annotations["org.opencontainers.image.title"], "sbom.json");
        assert_eq!(found.annotations["k"], "v");
        let blobs: Vec<&[u8]> = made.blobs.iter().map(|(_, bytes)| bytes.as_slice()).collect();
        assert_eq!(blobs, [&b"{ }"[..], b"{}"]);
        let untitled = Referrer::of_file(&image(), "text/spdx", None, Vec::new(), Annotations::new());
        assert!(manifest(&untitled).layers[0].annotations.is_empty());
    }

    #[test]
    fn a_bundle_says_whether_it_is_a_signature() {
        let signature = Referrer::of_bundle(&image(), b"{}".to_vec(), "https://sigstore.dev/cosign/sign/v1");
        let statement = Referrer::of_bundle(&image(), b"{}".to_vec(), "https://slsa.dev/provenance/v1");
        assert!(bundle_signs(manifest(&signature)));
        assert!(!bundle_signs(manifest(&statement)));
        let mut of_message = manifest(&statement).clone();
        of_message.annotations.insert(BUNDLE_CONTENT.to_owned(), "message-signature".to_owned());
        assert!(bundle_signs(&of_message));
        of_message.annotations.clear();
        assert!(!bundle_signs(&of_message));
    }

    #[test]
    fn a_manifest_of_a_bundle_has_one_layer_of_its_type() {
        let made = Referrer::of_bundle(&image(), b"{}".to_vec(), "a");
        let mut found = manifest(&made).clone();
        assert_eq!(bundle_layer(&found), Ok(&found.layers[0]));
        let layer = found.layers[0].clone();
        found.layers.push(layer);
        assert_eq!(bundle_layer(&found), Err(ClaimError::TooMany { found: 2, limit: 1 }));
        found.layers = vec![Descriptor::of_bytes("text/plain", b"")];
        assert_eq!(bundle_layer(&found), Err(ClaimError::Layer { found: "text/plain".to_owned() }));
        found.layers = vec![Descriptor { size: 50_331_649, ..Descriptor::of_bytes(BUNDLE, b"") }];
        let large = ClaimError::TooLarge { what: "the bundle", found: 50_331_649, limit: 50_331_648 };
        assert_eq!(bundle_layer(&found), Err(large));
    }

    #[test]
    fn an_envelope_is_added_to_those_before_it_with_the_hint_of_its_key() {
        use serde_json::value::RawValue;

        use crate::sign::{Statement, StatementForm};
        let key = SigningKey::parse(include_bytes!("../../tests/keys/ed25519.key"), "`k`", None).unwrap();
        let digest = Digest::sha256_of(b"image");
        let predicate = RawValue::from_string("{}".to_owned()).unwrap();
        let statement = Statement {
            form: StatementForm::V01,
            image: &digest,
            name: "reg.example/app",
            predicate_type: "https://slsa.dev/provenance/v1",
            predicate: &predicate,
        };
        let envelope = statement.sign(&key).unwrap();
        let first = Referrer::with_envelope(None, envelope.clone(), statement.predicate_type, key.public());
        let second = Referrer::with_envelope(Some(manifest(&first)), b"{}".to_vec(), "b", key.public());
        let layers = envelope_layers(manifest(&second)).unwrap();
        assert_eq!(layers.len(), 2);
        let annotations = &layers[0].annotations;
        assert_eq!(annotations["predicateType"], "https://slsa.dev/provenance/v1");
        assert_eq!(annotations["dev.cosignproject.cosign/signature"], "");
        let claim = envelope_claim(&layers[0], &envelope).unwrap();
        assert_eq!((claim.form, claim.by_certificate), (ClaimForm::Envelope, false));
        assert_eq!(claim.hint(), Some(key.public().hint().as_str()));
        let mut keyless = layers[0].clone();
        keyless.annotations.insert("dev.sigstore.cosign/certificate".to_owned(), "x".to_owned());
        assert!(envelope_claim(&keyless, &envelope).unwrap().by_certificate);
    }
}

//! Manifests attached to an image: referrers by `subject`, and envelopes under cosign's tag `.att`.
//!
//! Source: image-spec manifest.md "Guidelines for Artifact Usage"; cosign `specs/BUNDLE_SPEC.md`.

use crate::model::{Annotations, Descriptor, ImageManifest, RawDocument, limits, media_type};

use super::bundle::{BUNDLE, read_bundle};
use super::claim::{Claim, ClaimError, Form};
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
    let mut claim = read_envelope(bytes, Form::Envelope, hint)?;
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

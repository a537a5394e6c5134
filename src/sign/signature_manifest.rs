//! cosign's signature manifest: one layer for each signature, under the tag `sha256-<hex>.sig`.
//!
//! Source: cosign `specs/SIGNATURE_SPEC.md`. The layer is the payload; the signature is in an annotation of the layer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::model::{Annotations, Descriptor, ImageManifest, RawDocument, limits, media_type};

use super::claim::{Claim, ClaimError, ClaimForm, ClaimKind, Signed};
use super::payload::{Payload, SIMPLE_SIGNING};
use super::public_key::PublicKey;

/// Annotation of a layer that is the signature, base64.
pub(super) const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// Annotation of a layer with a certificate: the signature was made without one of the user's keys.
pub(super) const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
/// Annotation of a layer that says which key made the signature; for messages and descriptions.
pub(super) const KEY_HINT: &str = "dev.imgrelay.key-hint";
/// The time that cosign writes, so that signing again does not change the manifest.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// One signature in a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureLayer {
    /// The payload's descriptor; its annotations hold the signature.
    pub descriptor: Descriptor,
}

impl SignatureLayer {
    /// Reads the claim from the payload.
    pub fn claim(&self, payload: Vec<u8>) -> Result<Claim, ClaimError> {
        const WHAT: &str = "the signature";
        let annotations = &self.descriptor.annotations;
        let signature = annotations.get(SIGNATURE).filter(|text| !text.is_empty());
        let signature = signature.ok_or(ClaimError::Unsigned { what: "a layer of a signature manifest" })?;
        let signature = STANDARD.decode(signature).map_err(|_| ClaimError::Base64 { what: WHAT })?;
        let hint = annotations.get(KEY_HINT).cloned();
        let Payload { identity, digest, annotations: added } = Payload::parse(&payload)?;
        Ok(Claim {
            form: ClaimForm::SimpleSigning,
            kind: ClaimKind::Signature,
            subjects: vec![digest],
            identity: Some(identity),
            annotations: added,
            message: payload,
            signatures: vec![Signed { signature, hint }],
            by_certificate: annotations.contains_key(CERTIFICATE),
        })
    }
}

/// A manifest with signatures, and its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureManifest {
    /// The manifest.
    pub manifest: RawDocument,
    /// Bytes of its configuration.
    pub config: Vec<u8>,
}

#[derive(Serialize)]
struct Config<'a> {
    architecture: &'a str,
    created: &'a str,
    history: Vec<History>,
    os: &'a str,
    rootfs: Rootfs<'a>,
    config: Empty,
}

#[derive(Serialize)]
struct History {
    created: &'static str,
}

#[derive(Serialize)]
struct Rootfs<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    diff_ids: Vec<String>,
}

#[derive(Serialize)]
struct Empty {}

impl SignatureManifest {
    /// Lists the signatures of a manifest.
    ///
    /// Errors: [`ClaimError::TooMany`] beyond [`limits::SIGNATURES`], [`ClaimError::Layer`] for a layer of another
    /// type, [`ClaimError::TooLarge`] for a payload beyond [`limits::PAYLOAD_BYTES`], before anything is fetched.
    pub fn layers(manifest: &ImageManifest) -> Result<Vec<SignatureLayer>, ClaimError> {
        check_layers(manifest, SIMPLE_SIGNING, "the payload", limits::PAYLOAD_BYTES)?;
        let layer = |descriptor: &Descriptor| SignatureLayer { descriptor: descriptor.clone() };
        Ok(manifest.layers.iter().map(layer).collect())
    }

    /// Adds a signature to those of a manifest, or makes a manifest for it.
    #[must_use]
    pub fn with(existing: Option<&ImageManifest>, payload: &[u8], signature: &[u8], key: &PublicKey) -> Self {
        let mut layer = Descriptor::of_bytes(SIMPLE_SIGNING, payload);
        layer.annotations.insert(SIGNATURE.to_owned(), STANDARD.encode(signature));
        layer.annotations.insert(KEY_HINT.to_owned(), key.hint());
        Self::with_layer(existing, layer)
    }

    /// Adds a layer to those of a manifest, or makes a manifest for it.
    pub(super) fn with_layer(existing: Option<&ImageManifest>, layer: Descriptor) -> Self {
        let mut layers = existing.map(|manifest| manifest.layers.clone()).unwrap_or_default();
        layers.push(layer);
        let config = crate::model::to_json(&Config {
            architecture: "",
            created: NEVER,
            history: layers.iter().map(|_| History { created: NEVER }).collect(),
            os: "",
            rootfs: Rootfs {
                kind: "layers",
                diff_ids: layers.iter().map(|layer| layer.digest.to_string()).collect(),
            },
            config: Empty {},
        });
        let manifest = RawDocument::of_manifest(ImageManifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            artifact_type: None,
            config: Descriptor::of_bytes(media_type::OCI_CONFIG, &config),
            layers,
            subject: None,
            annotations: existing.map_or_else(Annotations::new, |manifest| manifest.annotations.clone()),
        });
        Self { manifest, config }
    }
}

/// Checks number, type and size of layers before any of them is read.
pub(super) fn check_layers(
    manifest: &ImageManifest,
    expected: &'static str,
    what: &'static str,
    limit: u64,
) -> Result<(), ClaimError> {
    let found = manifest.layers.len();
    if found > limits::SIGNATURES {
        return Err(ClaimError::TooMany { found, limit: limits::SIGNATURES });
    }
    if found == 0 {
        return Err(ClaimError::Unsigned { what: "the manifest" });
    }
    if let Some(other) = manifest.layers.iter().find(|layer| layer.media_type != expected) {
        return Err(ClaimError::Layer { found: other.media_type.chars().take(100).collect() });
    }
    match manifest.layers.iter().find(|layer| layer.size > limit) {
        Some(large) => Err(ClaimError::TooLarge { what, found: large.size, limit }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::SigningKey;
    use super::*;

    #[test]
    fn a_manifest_has_a_layer_for_each_signature_and_the_configuration_of_cosign() {
        let key = SigningKey::parse(include_bytes!("../../tests/keys/ed25519.key"), "`k`", None).unwrap();
        let one = SignatureManifest::with(None, b"one", b"first", key.public());
        let two = SignatureManifest::with(one.manifest.manifest(), b"two", b"second", key.public());
        let manifest = two.manifest.manifest().unwrap();
        let signatures: Vec<&str> =
            manifest.layers.iter().map(|layer| layer.annotations[SIGNATURE].as_str()).collect();
        assert_eq!(signatures, ["Zmlyc3Q=", "c2Vjb25k"]);
        let digest = |bytes: &[u8]| crate::model::Digest::sha256_of(bytes);
        let expected = format!(
            "{{\"architecture\":\"\",\"created\":\"0001-01-01T00:00:00Z\",\"history\":[{{\"created\":\"0001-01-01T00:00:00Z\"}},\
             {{\"created\":\"0001-01-01T00:00:00Z\"}}],\"os\":\"\",\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"{}\",\"{}\"]}},\
             \"config\":{{}}}}",
            digest(b"one"),
            digest(b"two")
        );
        assert_eq!(String::from_utf8(two.config.clone()).unwrap(), expected);
        assert_eq!(manifest.config.digest, digest(&two.config));
    }

    #[test]
    fn too_many_too_large_and_other_layers_are_refused_before_they_are_read() {
        let layers = |layers: Vec<Descriptor>| {
            let made = SignatureManifest::with_layer(None, Descriptor::of_bytes(SIMPLE_SIGNING, b""));
            let mut manifest = made.manifest.manifest().unwrap().clone();
            manifest.layers = layers;
            SignatureManifest::layers(&manifest).map(|layers| layers.len()).map_err(|error| error.to_string())
        };
        let good = Descriptor::of_bytes(SIMPLE_SIGNING, b"x");
        assert_eq!(layers(vec![good.clone(); 100]), Ok(100));
        let error = layers(vec![good.clone(); 10_000]).unwrap_err();
        assert_eq!(error, "10000 signatures are in one manifest or envelope, at most 100 are read");
        assert_eq!(layers(Vec::new()).unwrap_err(), "the manifest has no signature");
        let large = Descriptor { size: 3_000_000, ..good.clone() };
        assert_eq!(
            layers(vec![good.clone(), large]).unwrap_err(),
            "the payload has 3000000 bytes, at most 262144 are read"
        );
        let other = Descriptor::of_bytes("text/plain", b"x");
        assert_eq!(
            layers(vec![good, other]).unwrap_err(),
            "a layer has type `text/plain`, which is none of a signature"
        );
    }

    #[test]
    fn a_manifest_has_up_to_100_payloads_of_up_to_262144_bytes() {
        let check = |count: usize, size: u64| {
            let layer = Descriptor { size, ..Descriptor::of_bytes(SIMPLE_SIGNING, b"x") };
            let made = SignatureManifest::with_layer(None, layer.clone());
            let mut manifest = made.manifest.manifest().unwrap().clone();
            manifest.layers = vec![layer; count];
            SignatureManifest::layers(&manifest).map(|layers| layers.len())
        };
        assert_eq!(check(1, 262_144), Ok(1));
        assert_eq!(check(100, 262_144), Ok(100));
        assert_eq!(check(101, 1), Err(ClaimError::TooMany { found: 101, limit: 100 }));
        let large = ClaimError::TooLarge { what: "the payload", found: 262_145, limit: 262_144 };
        assert_eq!(check(1, 262_145), Err(large));
    }
}

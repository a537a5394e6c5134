//! Reads what is stored about an image: signatures and attestations under cosign's tags or as referrers, and other
//! referrers.

use crate::lock::cosign_tag;
use crate::model::{Descriptor, Digest, ImageManifest, RawDocument, limits};
use crate::sign::{
    BUNDLE, Claim, ClaimError, SignatureManifest, bundle_claim, bundle_layer, envelope_claim, envelope_layers,
};

use super::super::{Collection, ImageSource, Member, Role, TransferError};

/// Types of referrers with cosign's signatures and attestations (cosign `--registry-referrers-mode oci-1-1`).
pub(super) const COSIGN_SIGNATURES: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";
pub(super) const COSIGN_ATTESTATIONS: &str = "application/vnd.dev.cosign.artifact.att.v1+json";

/// A statement that is stored about an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredStatement {
    /// Where it is: `` signature 1 of `sha256:…` ``.
    pub place: String,
    /// Its content.
    pub content: StatementContent,
}

/// The content of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatementContent {
    /// A signature or signed attestation.
    Claim(Box<Claim>),
    /// A signature or attestation that cannot be read.
    Unreadable(ClaimError),
    /// A referrer of another type, which is not signed.
    Other {
        /// Its type.
        artifact_type: String,
    },
}

/// How a manifest stores statements.
enum Holder {
    Signatures,
    Envelopes,
    Bundle,
    Other(String),
}

/// Reads the statements about an image from these members.
///
/// Errors: [`TransferError::TooMany`] beyond [`limits::ATTACHED`] and [`limits::ATTESTATIONS_BYTES`]; a signature that
/// cannot be read is [`StatementContent::Unreadable`], no error.
pub fn statements(
    source: &dyn ImageSource,
    members: &[Member],
    image: &Digest,
) -> Result<Vec<StoredStatement>, TransferError> {
    let subject = || format!("image `{image}` in `{}`", source.label());
    let mut reading = Reading { source, left: limits::ATTESTATIONS_BYTES, found: Vec::new() };
    let others = members.iter().filter(|member| member.descriptor.digest != *image);
    for (number, member) in others.filter(|member| member.role == Role::Attached).enumerate() {
        if number >= limits::ATTACHED {
            let (subject, limit) = (subject(), limits::ATTACHED);
            return Err(TransferError::TooMany { subject, what: "signatures and other referrers", limit });
        }
        let document = source.read_document(&member.descriptor)?;
        let Some(manifest) = document.manifest() else { continue };
        match holder(member, manifest, image) {
            Some(Holder::Signatures) => reading.signatures(&document, manifest)?,
            Some(Holder::Envelopes) => reading.envelopes(&document, manifest, subject)?,
            Some(Holder::Bundle) => reading.bundle(&document, manifest, subject)?,
            Some(Holder::Other(artifact_type)) => reading.found.push(StoredStatement {
                place: format!("`{}`", document.digest()),
                content: StatementContent::Other { artifact_type },
            }),
            None => {}
        }
    }
    Ok(reading.found)
}

/// Lists the image names in the signatures of a collection's roots, each once.
///
/// Errors: as [`statements`].
pub fn names(source: &dyn ImageSource, collection: &Collection) -> Result<Vec<String>, TransferError> {
    let mut found: Vec<String> = Vec::new();
    for root in collection.members.iter().filter(|member| member.role == Role::Root) {
        for statement in statements(source, &collection.members, &root.descriptor.digest)? {
            if let StatementContent::Claim(claim) = statement.content
                && let Some(name) = claim.identity.filter(|name| !found.contains(name))
            {
                found.push(name);
            }
        }
    }
    Ok(found)
}

/// Returns how a manifest stores statements about the image; decides by the manifest's own type, not by the type in a
/// list.
fn holder(member: &Member, manifest: &ImageManifest, image: &Digest) -> Option<Holder> {
    let tags = member.tags();
    if tags.contains(&cosign_tag(image, "sig")) {
        return Some(Holder::Signatures);
    }
    if tags.contains(&cosign_tag(image, "att")) {
        return Some(Holder::Envelopes);
    }
    manifest.subject.as_ref().filter(|subject| subject.digest == *image)?;
    let kind = manifest.artifact_type.as_ref().unwrap_or(&manifest.config.media_type);
    Some(match kind.as_str() {
        COSIGN_SIGNATURES => Holder::Signatures,
        COSIGN_ATTESTATIONS => Holder::Envelopes,
        BUNDLE => Holder::Bundle,
        _ => Holder::Other(kind.clone()),
    })
}

/// Manifests that are being read.
struct Reading<'a> {
    source: &'a dyn ImageSource,
    /// Bytes of attestations that may still be read.
    left: u64,
    found: Vec<StoredStatement>,
}

impl Reading<'_> {
    fn push(&mut self, place: String, claim: Result<Claim, ClaimError>) {
        let content = match claim {
            Ok(claim) => StatementContent::Claim(Box::new(claim)),
            Err(error) => StatementContent::Unreadable(error),
        };
        self.found.push(StoredStatement { place, content });
    }

    fn signatures(&mut self, document: &RawDocument, manifest: &ImageManifest) -> Result<(), TransferError> {
        match SignatureManifest::layers(manifest) {
            Err(error) => self.push(format!("`{}`", document.digest()), Err(error)),
            Ok(layers) => {
                for (number, layer) in layers.iter().enumerate() {
                    let payload = self.source.read_blob(&layer.descriptor, limits::PAYLOAD_BYTES)?;
                    let place = format!("signature {} of `{}`", number + 1, document.digest());
                    self.push(place, layer.claim(payload));
                }
            }
        }
        Ok(())
    }

    fn envelopes(
        &mut self,
        document: &RawDocument,
        manifest: &ImageManifest,
        subject: impl Fn() -> String,
    ) -> Result<(), TransferError> {
        match envelope_layers(manifest) {
            Err(error) => self.push(format!("`{}`", document.digest()), Err(error)),
            Ok(layers) => {
                for (number, layer) in layers.iter().enumerate() {
                    let bytes = self.read(layer, &subject)?;
                    let place = format!("attestation {} of `{}`", number + 1, document.digest());
                    self.push(place, envelope_claim(layer, &bytes));
                }
            }
        }
        Ok(())
    }

    fn bundle(
        &mut self,
        document: &RawDocument,
        manifest: &ImageManifest,
        subject: impl Fn() -> String,
    ) -> Result<(), TransferError> {
        let place = format!("bundle `{}`", document.digest());
        let claim = match bundle_layer(manifest) {
            Ok(layer) => bundle_claim(&self.read(layer, &subject)?),
            Err(error) => Err(error),
        };
        self.push(place, claim);
        Ok(())
    }

    /// Reads an attestation. Each is kept in memory until it is verified, so their total size is bounded.
    fn read(&mut self, layer: &Descriptor, subject: &impl Fn() -> String) -> Result<Vec<u8>, TransferError> {
        let Some(left) = self.left.checked_sub(layer.size) else {
            let limit = usize::try_from(limits::ATTESTATIONS_BYTES).unwrap_or(usize::MAX);
            return Err(TransferError::TooMany { subject: subject(), what: "bytes of attestations", limit });
        };
        self.left = left;
        self.source.read_blob(layer, limits::ATTESTATION_BYTES)
    }
}

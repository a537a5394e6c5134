//! What is stored about an image: signatures and attestations under cosign's tags or as referrers, and anything else.

use crate::lock::cosign_tag;
use crate::model::{Digest, ImageManifest, RawDocument, limits};
use crate::sign::{Claim, ClaimError, SignatureManifest};

use super::super::{ImageSource, Member, Role, TransferError};

/// Type of a referrer with cosign's signatures (cosign `--registry-referrers-mode oci-1-1`).
const COSIGN_SIGNATURES: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";

/// Something that is stored about an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Where it is: `` signature 1 of `sha256:…` ``.
    pub place: String,
    /// What it is.
    pub content: Content,
}

/// What a statement is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A signature or signed attestation.
    Claim(Box<Claim>),
    /// One that cannot be read.
    Unreadable(ClaimError),
    /// A referrer of another type, which is not signed.
    Other {
        /// Its type.
        artifact_type: String,
    },
}

/// How a manifest stores what it says.
enum Holder {
    Signatures,
    Other(String),
}

/// Reads all that is stored about an image among these members.
///
/// Errors: [`TransferError::TooMany`] beyond [`limits::ATTACHED`]; a signature that cannot be read is a [`Content`].
pub fn statements(
    source: &dyn ImageSource,
    members: &[Member],
    image: &Digest,
) -> Result<Vec<Statement>, TransferError> {
    let mut found = Vec::new();
    let others = members.iter().filter(|member| member.descriptor.digest != *image);
    for (number, member) in others.filter(|member| member.role == Role::Attached).enumerate() {
        if number >= limits::ATTACHED {
            let subject = format!("image `{image}` in `{}`", source.label());
            let what = "signatures and other referrers";
            return Err(TransferError::TooMany { subject, what, limit: limits::ATTACHED });
        }
        let document = source.read_document(&member.descriptor)?;
        let Some(manifest) = document.manifest() else { continue };
        match holder(member, manifest, image) {
            Some(Holder::Signatures) => found.extend(signatures(source, &document, manifest)?),
            Some(Holder::Other(artifact_type)) => found.push(Statement {
                place: format!("`{}`", document.digest()),
                content: Content::Other { artifact_type },
            }),
            None => {}
        }
    }
    Ok(found)
}

/// Tells how a manifest says something about the image, if it does; its own type counts, not that in a list.
fn holder(member: &Member, manifest: &ImageManifest, image: &Digest) -> Option<Holder> {
    let tags = member.tags();
    if tags.contains(&cosign_tag(image, "sig")) {
        return Some(Holder::Signatures);
    }
    manifest.subject.as_ref().filter(|subject| subject.digest == *image)?;
    let kind = manifest.artifact_type.as_ref().unwrap_or(&manifest.config.media_type);
    Some(match kind.as_str() {
        COSIGN_SIGNATURES => Holder::Signatures,
        _ => Holder::Other(kind.clone()),
    })
}

fn signatures(
    source: &dyn ImageSource,
    document: &RawDocument,
    manifest: &ImageManifest,
) -> Result<Vec<Statement>, TransferError> {
    let unreadable = |place: String, error| Statement { place, content: Content::Unreadable(error) };
    let layers = match SignatureManifest::layers(manifest) {
        Ok(layers) => layers,
        Err(error) => return Ok(vec![unreadable(format!("`{}`", document.digest()), error)]),
    };
    let mut found = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let place = format!("signature {} of `{}`", number + 1, document.digest());
        let payload = source.read_blob(&layer.descriptor, limits::PAYLOAD_BYTES)?;
        found.push(match layer.claim(payload) {
            Ok(claim) => Statement { place, content: Content::Claim(Box::new(claim)) },
            Err(error) => unreadable(place, error),
        });
    }
    Ok(found)
}

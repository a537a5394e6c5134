//! Counts what is attached to images by manifests alone; nothing that they point at is read.

use crate::lock::cosign_subject;
use crate::model::ImageManifest;
use crate::sign::{BUNDLE, bundle_signs};

use super::super::attached_counts::AttachedCounts;
use super::super::{ImageSource, Member, TransferError};
use super::stored::{COSIGN_ATTESTATIONS, COSIGN_SIGNATURES};

/// Counts signatures, attestations, SBOMs and other manifests among these members, which are all attached.
///
/// Errors: a manifest that cannot be read.
pub fn count<'m>(
    source: &dyn ImageSource,
    members: impl IntoIterator<Item = &'m Member>,
) -> Result<AttachedCounts, TransferError> {
    let mut counts = AttachedCounts::default();
    for member in members {
        let document = source.read_document(&member.descriptor)?;
        counts += match document.manifest() {
            Some(manifest) => of_manifest(member, manifest),
            None => AttachedCounts { referrers: 1, ..AttachedCounts::default() },
        };
    }
    Ok(counts)
}

/// Counts what one manifest holds: a cosign tag tells, else its type.
fn of_manifest(member: &Member, manifest: &ImageManifest) -> AttachedCounts {
    let (none, layers) = (AttachedCounts::default(), manifest.layers.len());
    let ending = member.tags().iter().find_map(|tag| {
        cosign_subject(tag.as_str())?;
        tag.as_str().rsplit_once('.').map(|(_, ending)| ending.to_owned())
    });
    match ending.as_deref() {
        Some("sig") => return AttachedCounts { signatures: layers, ..none },
        Some("att") => return AttachedCounts { attestations: layers, ..none },
        Some("sbom") => return AttachedCounts { sboms: 1, ..none },
        _ => {}
    }
    match manifest.artifact_type.as_ref().unwrap_or(&manifest.config.media_type).as_str() {
        COSIGN_SIGNATURES => AttachedCounts { signatures: layers, ..none },
        COSIGN_ATTESTATIONS => AttachedCounts { attestations: layers, ..none },
        BUNDLE if bundle_signs(manifest) => AttachedCounts { signatures: 1, ..none },
        BUNDLE => AttachedCounts { attestations: 1, ..none },
        kind if kind.contains("spdx") || kind.contains("cyclonedx") => AttachedCounts { sboms: 1, ..none },
        _ => AttachedCounts { referrers: 1, ..none },
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::in_memory::InMemory;
    use super::super::super::{Member, Role};
    use super::*;
    use crate::model::{Annotations, Descriptor, Digest, RawDocument, Tag};
    use crate::sign::{Referrer, SIGN_PREDICATE, SigningKey};
    use crate::store::ImageName;

    fn subject() -> Descriptor {
        Descriptor::of_bytes("application/vnd.oci.image.manifest.v1+json", b"image")
    }

    fn of_type(artifact_type: &str) -> RawDocument {
        Referrer::of_file(&subject(), artifact_type, None, b"x".to_vec(), Annotations::new()).manifest
    }

    fn bundle(predicate_type: &str) -> RawDocument {
        Referrer::of_bundle(&subject(), b"x".to_vec(), predicate_type).manifest
    }

    fn counted(manifest: &RawDocument, tag: &str) -> [usize; 4] {
        let source = InMemory::of(&[manifest]);
        let tag = (!tag.is_empty()).then(|| tag.parse::<Tag>().unwrap());
        let names = tag.into_iter().map(|tag| ImageName { tag: Some(tag), reference: None }).collect();
        let (descriptor, role) = (manifest.descriptor(), Role::Attached);
        let member = Member { descriptor, names, origin: None, role, bundle: None };
        let counts = count(&source, [&member]).unwrap();
        [counts.signatures, counts.attestations, counts.sboms, counts.referrers]
    }

    #[test]
    fn what_is_attached_is_counted_by_kind() {
        let key = SigningKey::parse(include_bytes!("../../../tests/keys/ed25519.key"), "`k`", None).unwrap();
        let envelope = |existing: Option<&ImageManifest>, bytes: &[u8]| {
            Referrer::with_envelope(existing, bytes.to_vec(), "a", key.public()).manifest
        };
        let one = envelope(None, b"1");
        let two = envelope(one.manifest(), b"2");
        let hex = Digest::sha256_of(b"image").to_string().replace(':', "-");
        for (manifest, tag, expected) in [
            (&two, format!("{hex}.sig"), [2, 0, 0, 0]),
            (&two, format!("{hex}.att"), [0, 2, 0, 0]),
            (&one, format!("{hex}.sbom"), [0, 0, 1, 0]),
            (&one, "v1.sig".to_owned(), [0, 0, 0, 1]),
            (&of_type(COSIGN_SIGNATURES), String::new(), [1, 0, 0, 0]),
            (&of_type(COSIGN_ATTESTATIONS), String::new(), [0, 1, 0, 0]),
            (&bundle(SIGN_PREDICATE), String::new(), [1, 0, 0, 0]),
            (&bundle("https://slsa.dev/provenance/v1"), String::new(), [0, 1, 0, 0]),
            (&of_type("application/spdx+json"), String::new(), [0, 0, 1, 0]),
            (&of_type("application/vnd.cyclonedx+json"), String::new(), [0, 0, 1, 0]),
            (&of_type("application/vnd.in-toto+json"), String::new(), [0, 0, 0, 1]),
        ] {
            assert_eq!(counted(manifest, &tag), expected, "{tag} {:?}", manifest.manifest());
        }
    }
}

//! Descriptors: media type, digest and size of a document or blob.
//!
//! Source: image-spec descriptor.md.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::json::null_is_empty;
use super::{Digest, Platform, keys, limits, media_type};

/// Annotations in key order, so that what we write is the same every time.
pub type Annotations = BTreeMap<String, String>;

/// A pointer to content: type, digest and size in bytes, with what the pointing document says about it.
///
/// It is parsed from documents that are forwarded as raw bytes, so members we do not know need not be kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of the content, verbatim.
    pub media_type: String,
    /// Digest of the content as stored.
    pub digest: Digest,
    /// Size of the content in bytes, as stored; at most [`limits::BLOB_BYTES`] where it was read.
    #[serde(deserialize_with = "possible_size")]
    pub size: u64,
    /// Places outside the registry (non-distributable layers only); never followed with credentials.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub urls: Vec<String>,
    /// Annotations of the pointer, not of the content.
    #[serde(default, skip_serializing_if = "Annotations::is_empty", deserialize_with = "null_is_empty")]
    pub annotations: Annotations,
    /// Platform of the content, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Artifact type of the content, in an index or a list of referrers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

/// Reads a size; one that no blob has would only make sums overflow.
fn possible_size<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let size = u64::deserialize(deserializer)?;
    if size > limits::BLOB_BYTES {
        let most = limits::BLOB_BYTES;
        return Err(serde::de::Error::custom(format!("`size` is {size}, at most {most} bytes are accepted")));
    }
    Ok(size)
}

impl Descriptor {
    /// Makes a descriptor with no annotations.
    #[must_use]
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            urls: Vec::new(),
            annotations: Annotations::new(),
            platform: None,
            artifact_type: None,
        }
    }

    /// Makes the descriptor of bytes in memory.
    #[must_use]
    pub fn of_bytes(media_type: &str, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::sha256_of(bytes), bytes.len() as u64)
    }

    /// Tells whether the content is an index.
    #[must_use]
    pub fn is_index(&self) -> bool {
        media_type::is_index(&self.media_type)
    }

    /// Tells whether the content is an image manifest.
    #[must_use]
    pub fn is_manifest(&self) -> bool {
        media_type::is_manifest(&self.media_type)
    }

    /// Returns the digest of the image that this entry of an index attests; `None` if it is no attestation.
    ///
    /// Source: BuildKit, docs/attestations/attestation-storage.md.
    #[must_use]
    pub fn attested_image(&self) -> Option<Digest> {
        let kind = self.annotations.get(keys::REFERENCE_TYPE)?;
        let image = self.annotations.get(keys::REFERENCE_DIGEST)?;
        if kind == keys::ATTESTATION_MANIFEST { image.parse().ok() } else { None }
    }

    /// Tells whether the content is a layer that may be left out of a copy.
    #[must_use]
    pub fn is_non_distributable(&self) -> bool {
        media_type::is_non_distributable(&self.media_type)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(size: &str) -> Result<Descriptor, String> {
        let digest = Digest::sha256_of(b"x");
        let text = format!(
            r#"{{"mediaType":"a/b","digest":"{digest}","size":{size},"urls":null,"annotations":null}}"#
        );
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }

    #[test]
    fn sizes_are_read_up_to_the_limit() {
        assert_eq!(parse("0").unwrap().size, 0);
        assert_eq!(parse("70368744177664").unwrap().size, limits::BLOB_BYTES);
        let error = parse("70368744177665").unwrap_err();
        assert!(error.contains("`size` is 70368744177665, at most 70368744177664 bytes"), "{error}");
        assert_eq!(parse("1").unwrap().urls, [""; 0], "null is an empty list");
    }

    #[test]
    fn a_descriptor_of_bytes_has_their_digest_size_and_type() {
        let descriptor = Descriptor::of_bytes(media_type::OCI_INDEX, b"four");
        assert_eq!((descriptor.size, &descriptor.digest), (4, &Digest::sha256_of(b"four")));
        assert!(descriptor.is_index() && !descriptor.is_manifest() && !descriptor.is_non_distributable());
        let of = |media_type| Descriptor::of_bytes(media_type, b"");
        assert!(of(media_type::DOCKER_MANIFEST).is_manifest() && !of(media_type::DOCKER_MANIFEST).is_index());
        assert!(of("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip").is_non_distributable());
        let written = serde_json::to_string(&of("a/b")).unwrap();
        let digest = Digest::sha256_of(b"");
        assert_eq!(written, format!(r#"{{"mediaType":"a/b","digest":"{digest}","size":0}}"#));
    }
}

//! Descriptors: what points at bytes.
//!
//! Source: image-spec descriptor.md.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::json::null_is_empty;
use super::{Digest, Platform, limits, media_type};

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
    /// ImageLocator outside the registry (non-distributable layers only); never followed with credentials.
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

    /// Tells whether the content is a layer that may be left out of a copy.
    #[must_use]
    pub fn is_non_distributable(&self) -> bool {
        media_type::is_non_distributable(&self.media_type)
    }
}

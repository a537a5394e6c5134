//! What kinds of image are packed, as values: media types, labels, history.

use crate::model::{keys, media_type};
use crate::stream::CompressionLevel;

/// Which family of media types is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MediaTypes {
    /// The OCI image specification's.
    #[default]
    Oci,
    /// Docker's, as imgpkg writes them.
    Docker,
}

impl MediaTypes {
    /// Returns the type of a manifest.
    #[must_use]
    pub fn manifest(self) -> &'static str {
        match self {
            Self::Oci => media_type::OCI_MANIFEST,
            Self::Docker => media_type::DOCKER_MANIFEST,
        }
    }

    /// Returns the type of a configuration.
    #[must_use]
    pub fn config(self) -> &'static str {
        match self {
            Self::Oci => media_type::OCI_CONFIG,
            Self::Docker => media_type::DOCKER_CONFIG,
        }
    }

    /// Returns the type of a layer that is compressed in this way.
    #[must_use]
    pub fn layer(self, compression: CompressionLevel) -> &'static str {
        match (self, compression) {
            (Self::Oci, CompressionLevel::Gzip(_)) => media_type::OCI_LAYER_GZIP,
            (Self::Oci, CompressionLevel::Zstd(_)) => media_type::OCI_LAYER_ZSTD,
            (Self::Oci, CompressionLevel::None) => media_type::OCI_LAYER,
            (Self::Docker, CompressionLevel::Gzip(_)) => media_type::DOCKER_LAYER_GZIP,
            (Self::Docker, CompressionLevel::Zstd(_)) => media_type::DOCKER_LAYER_ZSTD,
            (Self::Docker, CompressionLevel::None) => media_type::DOCKER_LAYER,
        }
    }
}

/// A kind of image that can be packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Name for messages and results.
    pub name: &'static str,
    /// Labels every image of this kind carries.
    pub labels: &'static [(&'static str, &'static str)],
    /// `author` and `created_by` of the one history entry; imgpkg's, so that configurations can be equal.
    pub history_author: &'static str,
    /// A folder `.imgpkg` with a lock file has to be there.
    pub is_bundle: bool,
}

impl Profile {
    /// A Carvel bundle.
    pub const BUNDLE: Self = Self {
        name: "bundle",
        labels: &[(keys::BUNDLE_LABEL, "true")],
        history_author: "imgpkg",
        is_bundle: true,
    };
    /// A plain image.
    pub const IMAGE: Self = Self { name: "image", labels: &[], history_author: "imgpkg", is_bundle: false };
}

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
    /// Returns the name by which the family is chosen.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Oci => "oci",
            Self::Docker => "docker",
        }
    }

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
    /// Times and permissions of its entries.
    pub entries: EntryRules,
    /// What its consumer asks for besides an ordinary image.
    pub consumer: Consumer,
}

/// What the consumer of an image asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Consumer {
    /// Media type of the configuration, in the place of the ordinary one.
    pub config_type: Option<&'static str>,
    /// Media type of layers, in the place of the ordinary one.
    pub layer_type: Option<&'static str>,
    /// Annotations of the manifest, unless others were requested.
    pub annotations: &'static [(&'static str, &'static str)],
    /// Layers say that they are folders, in ORAS' words.
    pub oras_layers: bool,
    /// Accepts OCI media types only, and only one layer, in gzip.
    pub only_oci_gzip: bool,
    /// Drops symbolic links without a message.
    pub drops_links: bool,
}

impl Consumer {
    /// Asks for nothing.
    const ANY: Self = Self {
        config_type: None,
        layer_type: None,
        annotations: &[],
        oras_layers: false,
        only_oci_gzip: false,
        drops_links: false,
    };
}

/// Times and permissions of the entries of a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryRules {
    /// Modification time of every entry, seconds since 1970.
    pub mtime: u32,
    /// Which permissions they get, unless they keep their own.
    pub modes: ModeRule,
}

/// Which permissions entries get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ModeRule {
    /// The owner's bits of files and 0700 for folders, as imgpkg does: the other bits depend on the umask of the
    /// checkout.
    #[default]
    Owner,
    /// 0644 or, with the owner's execute bit, 0755, and 0755 for folders: what git keeps, and what kpack's builders,
    /// which run as any user, can read and replace.
    Readable,
}

impl ModeRule {
    /// Returns a folder's permissions.
    #[must_use]
    pub fn folder(self) -> u32 {
        match self {
            Self::Owner => 0o700,
            Self::Readable => 0o755,
        }
    }

    /// Returns a file's permissions.
    #[must_use]
    pub fn file(self, mode: u32) -> u32 {
        match self {
            Self::Owner => mode & 0o700,
            Self::Readable if mode & 0o100 == 0 => 0o644,
            Self::Readable => 0o755,
        }
    }
}

/// 1980-01-01T00:00:01Z, the time that Cloud Foundry's packagers and the buildpacks give every file: the first second
/// that a zip archive can hold, and one after it.
const APP_MTIME: u32 = 315_532_801;

impl Profile {
    /// A Carvel bundle.
    pub const BUNDLE: Self = Self {
        name: "bundle",
        labels: &[(keys::BUNDLE_LABEL, "true")],
        history_author: "imgpkg",
        is_bundle: true,
        entries: EntryRules { mtime: 0, modes: ModeRule::Owner },
        consumer: Consumer::ANY,
    };
    /// A plain image.
    pub const IMAGE: Self = Self {
        name: "image",
        labels: &[],
        history_author: "imgpkg",
        is_bundle: false,
        entries: EntryRules { mtime: 0, modes: ModeRule::Owner },
        consumer: Consumer::ANY,
    };
    /// A Cloud Foundry source image, as kpack extracts it.
    pub const APP: Self = Self {
        name: "source",
        // Not `source.contenttype.kpack.io`: with it kpack expects one archive inside, not the files.
        labels: &[],
        history_author: "imgrelay",
        is_bundle: false,
        entries: EntryRules { mtime: APP_MTIME, modes: ModeRule::Readable },
        consumer: Consumer { drops_links: true, ..Consumer::ANY },
    };
    /// What Flux's `OCIRepository` reads. Source: fluxcd/pkg oci/client, source-controller (behaviour).
    pub const FLUX: Self = Self {
        name: "flux",
        history_author: "imgrelay",
        consumer: Consumer {
            config_type: Some(media_type::FLUX_CONFIG),
            layer_type: Some(media_type::FLUX_CONTENT),
            // What `flux push artifact --reproducible` writes.
            annotations: &[(keys::CREATED, "1970-01-01T00:00:00Z")],
            only_oci_gzip: true,
            drops_links: true,
            ..Consumer::ANY
        },
        ..Self::IMAGE
    };
    /// What `oras pull` makes a folder of. Source: oras-go content/file (behaviour).
    pub const ORAS: Self = Self {
        name: "oras",
        history_author: "imgrelay",
        consumer: Consumer { oras_layers: true, only_oci_gzip: true, ..Consumer::ANY },
        ..Self::IMAGE
    };
    /// What Argo CD takes as a source without being configured. Source: argo-cd util/oci (behaviour).
    pub const ARGO_CD: Self = Self {
        name: "argocd",
        history_author: "imgrelay",
        consumer: Consumer { only_oci_gzip: true, ..Consumer::ANY },
        ..Self::IMAGE
    };
    /// The profiles of plain images that are chosen by name.
    pub const FORMATS: [Self; 4] = [Self::IMAGE, Self::FLUX, Self::ORAS, Self::ARGO_CD];
}

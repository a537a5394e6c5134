//! Pure values of the image world: digests, references, descriptors, manifests, limits.
//!
//! Floor 0. No I/O, clock, environment or threads; a value is checked when it is parsed and needs no check later.

mod config;
mod descriptor;
mod digest;
mod document;
mod file_sum;
pub mod invisible;
mod json;
pub mod limits;
pub mod list;
mod malformed;
pub mod media_type;
mod members;
mod method;
pub mod pem;
mod platform;
mod reference;
mod secret;
pub mod time;
mod version;

pub use config::{Config, ConfigDetails, ConfigError, History, Rootfs};
pub use descriptor::{Annotations, Descriptor};
pub use digest::{Algorithm, Digest, DigestError, Hasher};
pub(crate) use document::to_json;
pub use document::{Document, DocumentError, ImageIndex, ImageManifest, RawDocument};
pub use file_sum::{FileHasher, FileSum, NotSha1};
pub use json::{JsonError, Schema, check_members, read_json};
pub use malformed::Malformed;
pub use members::Members;
pub use method::Method;
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError, Registry, Repository, Tag, Target};
pub use secret::{Secret, SecretBytes};
pub use version::SemanticVersion;

/// Annotation keys and labels that imgrelay reads or writes.
pub mod keys {
    /// Tag, or full reference, of an entry in `index.json` (image-spec annotations.md).
    pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
    /// Full reference of an entry in `index.json`, as containerd, docker and podman read it.
    pub const CONTAINERD_NAME: &str = "io.containerd.image.name";
    /// Label whose presence makes an image a Carvel bundle.
    pub const BUNDLE_LABEL: &str = "dev.carvel.imgpkg.bundle";
    /// Where an image of an inflated tar came from: the reference in the bundle's lock file.
    pub const ORIGIN: &str = "dev.imgrelay.origin";
    /// Annotations that a lock file has for an image of a tar, as a JSON object of texts.
    pub const LOCK_ANNOTATIONS: &str = "dev.imgrelay.lock-annotations";
    /// Marks the bundle (or image) an inflated tar is about; the value is `true`.
    pub const ROOT: &str = "dev.imgrelay.root";
    /// The entry of an image store that an image in its `index.json` is from.
    pub const ENTRY: &str = "dev.imgrelay.entry";
    /// What an entry of `index.json` is to cosign, which finds an image and its signatures in a layout by this word alone.
    pub const COSIGN_KIND: &str = "kind";
    /// What values of [`COSIGN_KIND`] begin with: `image`, `imageIndex`, `sigs` and `atts` follow.
    pub const COSIGN_KIND_START: &str = "dev.cosignproject.cosign/";
    /// When something was made, RFC 3339.
    pub const CREATED: &str = "org.opencontainers.image.created";
    /// Name of the file or folder that ORAS makes of a layer.
    pub const TITLE: &str = "org.opencontainers.image.title";
    /// Tells ORAS that a layer is a folder, to be unpacked; the value is `true`.
    pub const ORAS_UNPACK: &str = "io.deis.oras.content.unpack";
    /// Digest of the tar of a folder, which ORAS compares.
    pub const ORAS_DIGEST: &str = "io.deis.oras.content.digest";
    /// Says what an entry of an index is for, when it is no image (BuildKit).
    pub const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
    /// Value of [`REFERENCE_TYPE`] for a manifest with attestations.
    pub const ATTESTATION_MANIFEST: &str = "attestation-manifest";
    /// Digest of the image that an attestation is about (BuildKit).
    pub const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";
    /// Name of the image that an image is based on, with its registry (image-spec annotations.md).
    pub const BASE_NAME: &str = "org.opencontainers.image.base.name";
    /// Digest of the manifest or index that [`BASE_NAME`] pointed at.
    pub const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";
    /// Annotation of `index.json`: the blobs that a tar was written without, as JSON (docs/formats/delta-tar.md).
    pub const WITHOUT: &str = "dev.imgrelay.without";
    /// Says which image the files in this one are a list of: its digest.
    pub const FILES_OF: &str = "dev.imgrelay.files-of";
}

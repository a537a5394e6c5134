//! Media types that imgrelay knows; unknown ones are carried verbatim as strings.
//!
//! Source: image-spec media-types.md; distribution "Image Manifest V 2, Schema 2".

/// OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image configuration.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// OCI layer: plain tar.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// OCI layer: gzip.
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// OCI layer: zstd.
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Docker manifest list.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker image manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker image configuration.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Docker layer: plain tar.
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// Docker layer: gzip.
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// Docker layer: zstd (not registered, but written by some tools).
pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";
/// The two-byte empty configuration `{}` of an artifact.
pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// Configuration of a Flux artifact: an image configuration under another name.
pub const FLUX_CONFIG: &str = "application/vnd.cncf.flux.config.v1+json";
/// Content of a Flux artifact: gzip.
pub const FLUX_CONTENT: &str = "application/vnd.cncf.flux.content.v1.tar+gzip";

/// Tells whether bytes of this type are an index (a list of manifests).
#[must_use]
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_INDEX)
}

/// Tells whether bytes of this type are an image manifest.
#[must_use]
pub fn is_manifest(media_type: &str) -> bool {
    matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST)
}

/// Tells whether bytes of this type are an image configuration with `rootfs.diff_ids`.
#[must_use]
pub fn is_image_config(media_type: &str) -> bool {
    is_runnable_config(media_type) || media_type == FLUX_CONFIG
}

/// Tells whether bytes of this type are the configuration of an image that container engines take.
#[must_use]
pub fn is_runnable_config(media_type: &str) -> bool {
    matches!(media_type, OCI_CONFIG | DOCKER_CONFIG)
}

/// Tells whether bytes of this type are a file system layer, in any compression.
#[must_use]
pub fn is_layer(media_type: &str) -> bool {
    matches!(
        media_type,
        OCI_LAYER
            | OCI_LAYER_GZIP
            | OCI_LAYER_ZSTD
            | DOCKER_LAYER
            | DOCKER_LAYER_GZIP
            | DOCKER_LAYER_ZSTD
            | FLUX_CONTENT
    ) || is_non_distributable(media_type)
}

/// Tells whether a layer may be left out when an image is copied (licence restrictions).
///
/// Source: image-spec layer.md, "Non-Distributable Layers"; docker's `foreign` layers.
#[must_use]
pub fn is_non_distributable(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.oci.image.layer.nondistributable.v1.tar")
        || media_type.starts_with("application/vnd.docker.image.rootfs.foreign.diff.tar")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_do_not_overlap() {
        for media_type in [OCI_INDEX, DOCKER_INDEX, OCI_MANIFEST, DOCKER_MANIFEST, OCI_CONFIG, OCI_LAYER_ZSTD]
        {
            let kinds = [
                is_index(media_type),
                is_manifest(media_type),
                is_image_config(media_type),
                is_layer(media_type),
            ];
            assert_eq!(kinds.iter().filter(|kind| **kind).count(), 1, "{media_type}");
        }
        assert!(is_layer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"));
        assert!(!is_layer(OCI_EMPTY));
        assert!(is_layer(FLUX_CONTENT) && is_image_config(FLUX_CONFIG));
        assert!(!is_layer("application/vnd.cncf.flux.content.v1.yaml"), "not a tar");
    }
}

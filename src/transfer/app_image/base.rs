//! An earlier image of an app, whose layers and files are used again.

use std::collections::BTreeMap;

use crate::model::{Descriptor, Digest, media_type};
use crate::pack::LayerEncoding;

use super::super::{ImageSource, TransferError};

/// An earlier image whose layers may be used again.
#[derive(Clone)]
pub struct Base<'a> {
    pub(super) source: &'a dyn ImageSource,
    /// Layers by `diff_id`.
    pub(super) layers: BTreeMap<Digest, Descriptor>,
    /// All layers, for the files in them.
    pub(super) files: Vec<Descriptor>,
}

impl std::fmt::Debug for Base<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Base").field("layers", &self.layers).finish_non_exhaustive()
    }
}

impl<'a> Base<'a> {
    /// Reads an image's layers; an index or artifact has none.
    ///
    /// Errors: only those of reading; the `diff_id`s of the configuration are trusted, as every consumer of that image
    /// trusts them.
    pub fn of(source: &'a dyn ImageSource, root: &Descriptor) -> Result<Self, TransferError> {
        let document = source.read_document(root)?;
        let mut layers = BTreeMap::new();
        let mut files = document.manifest().map(|manifest| manifest.layers.clone()).unwrap_or_default();
        files.retain(|layer| media_type::is_layer(&layer.media_type));
        if let Some(manifest) = document.manifest()
            && let Some(config) = source.read_config(manifest)?
            && config.rootfs.diff_ids.len() == manifest.layers.len()
        {
            for (diff_id, layer) in config.rootfs.diff_ids.into_iter().zip(&manifest.layers) {
                layers.insert(diff_id, layer.clone());
            }
        }
        Ok(Self { source, layers, files })
    }

    /// Returns the same without layers to be used again: files are still taken from it.
    #[must_use]
    pub fn without_layers(&self) -> Self {
        Self { layers: BTreeMap::new(), ..self.clone() }
    }

    pub(super) fn has_layers(&self) -> bool {
        !self.layers.is_empty()
    }

    /// Returns the layer with this `diff_id`, if it is stored in the encoding that packing would use.
    pub(super) fn find(&self, diff_id: &Digest, encoding: LayerEncoding) -> Option<&Descriptor> {
        self.layers.get(diff_id).filter(|layer| layer.media_type == encoding.media_type())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::in_memory::{InMemory, blob, index, with_config};
    use super::*;
    use crate::pack::MediaTypes;
    use crate::stream::CompressionLevel;

    #[test]
    fn layers_are_found_by_diff_id_and_media_type() {
        let diff_ids = ["first", "second"].map(|text| Digest::sha256_of(text.as_bytes()));
        let config = |diff_ids: &[Digest]| {
            let text = serde_json::json!({
                "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids},
            });
            blob(media_type::OCI_CONFIG, text.to_string().as_bytes())
        };
        let layers = [blob(media_type::OCI_LAYER_GZIP, b"1").0, blob(media_type::OCI_LAYER_ZSTD, b"2").0];
        let gzip = LayerEncoding {
            compression: CompressionLevel::DEFAULT,
            media_types: MediaTypes::Oci,
            threads: 0,
        };
        let zstd = LayerEncoding { compression: CompressionLevel::Zstd(3), ..gzip };

        let whole = config(&diff_ids);
        let manifest = with_config(&whole.0, &layers);
        let source = InMemory { blobs: vec![whole], ..InMemory::of(&[&manifest]) };
        let base = Base::of(&source, &manifest.descriptor()).unwrap();
        assert!(base.has_layers());
        assert_eq!(base.find(&diff_ids[0], gzip), Some(&layers[0]));
        assert_eq!(base.find(&diff_ids[1], zstd), Some(&layers[1]));
        assert_eq!(base.find(&diff_ids[1], gzip), None, "it is stored in another form");
        assert_eq!(base.find(&layers[0].digest, gzip), None);
        assert_eq!(base.files, layers);
        let without = base.without_layers();
        assert!(!without.has_layers());
        assert_eq!(without.files, layers);

        // A configuration that counts its layers otherwise than the manifest is not used.
        let short = config(&diff_ids[..1]);
        let manifest = with_config(&short.0, &layers);
        let source = InMemory { blobs: vec![short], ..InMemory::of(&[&manifest]) };
        let base = Base::of(&source, &manifest.descriptor()).unwrap();
        assert!(!base.has_layers());
        assert_eq!(base.files, layers);

        // An artifact has no layers of files, and an index has none of its own.
        let other = blob("application/vnd.example+json", b"{}").0;
        let artifact = with_config(&other, &[other.clone(), layers[0].clone()]);
        let all = index(&[(&artifact, "linux/amd64")]);
        let source = InMemory::of(&[&artifact, &all]);
        let base = Base::of(&source, &artifact.descriptor()).unwrap();
        assert!(!base.has_layers());
        assert_eq!(base.files, layers[..1]);
        let base = Base::of(&source, &all.descriptor()).unwrap();
        assert!(!base.has_layers() && base.files.is_empty());
    }
}

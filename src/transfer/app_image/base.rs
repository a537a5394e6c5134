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
    /// Learns an image's layers; an image that is no help (an index, an artifact) has none.
    ///
    /// Errors: only those of reading; what a configuration says about its own image is believed, as every consumer
    /// of that image does.
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

    /// Returns the layer that unpacks to this, if it is stored as we would store it.
    pub(super) fn find(&self, diff_id: &Digest, encoding: LayerEncoding) -> Option<&Descriptor> {
        self.layers.get(diff_id).filter(|layer| layer.media_type == encoding.media_type())
    }
}

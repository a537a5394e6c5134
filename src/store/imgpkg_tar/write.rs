//! The table of contents of imgpkg's tar, in the member order of its Go structs; empty lists are `null`, as Go's are.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::{Digest, to_json};

/// One top-level image or index; exactly one of the two is there.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Item {
    /// An index with everything below it.
    pub image_index: Option<IndexItem>,
    /// An image.
    pub image: Option<ImageItem>,
}

/// An index.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct IndexItem {
    /// Where it was read from.
    pub refs: Vec<String>,
    /// Its images.
    pub images: Option<Vec<ImageItem>>,
    /// Its indexes.
    pub indexes: Option<Vec<IndexItem>>,
    /// Media type.
    pub media_type: String,
    /// Digest.
    pub digest: Digest,
    /// The document.
    pub raw: String,
    /// Tag, empty for none.
    pub tag: String,
    /// Reference in the bundle's lock file, empty for none.
    pub orig_ref: String,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
}

/// An image.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageItem {
    /// Where it was read from.
    pub refs: Vec<String>,
    /// Its layers.
    pub layers: Option<Vec<LayerItem>>,
    /// Its configuration.
    pub config: ConfigItem,
    /// Its manifest.
    pub manifest: ManifestItem,
    /// Tag, empty for none.
    pub tag: String,
    /// Reference in the bundle's lock file, empty for none.
    pub orig_ref: String,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
}

/// A layer.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LayerItem {
    /// Media type.
    pub media_type: String,
    /// Digest as stored.
    pub digest: Digest,
    /// Digest before compression, empty for what is no layer.
    #[serde(rename = "DiffID")]
    pub diff_id: String,
    /// Bytes as stored.
    pub size: u64,
}

/// A configuration.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ConfigItem {
    /// Digest.
    pub digest: Digest,
    /// The document.
    pub raw: String,
}

/// A manifest.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ManifestItem {
    /// Media type.
    pub media_type: String,
    /// Digest.
    pub digest: Digest,
    /// The document.
    pub raw: String,
}

/// Returns `manifest.json`: compact JSON, items in order of manifest digest.
#[must_use]
pub fn table(mut items: Vec<Item>) -> Vec<u8> {
    items.sort_by_key(|item| match (&item.image_index, &item.image) {
        (Some(index), _) => index.digest.to_string(),
        (None, Some(image)) => format!("{}/{}", image.manifest.digest, image.config.digest),
        (None, None) => String::new(),
    });
    to_json(&items)
}

/// Returns the name of a layer's file; imgpkg uses that ending for every compression.
#[must_use]
pub fn layer_name(digest: &Digest) -> String {
    format!("{}-{}.tar.gz", digest.algorithm().name(), digest.hex())
}

//! Configuration and manifest of an image that runs, over the layers of its base.

use crate::model::{
    Annotations, ConfigError, Descriptor, Digest, ImageManifest, Members, Platform, RawDocument,
};

use super::super::entries::PackedLayer;
use super::super::image::ComposedImage;
use super::super::profile::MediaTypes;
use super::config::{ConfigEdits, edit_config, raw_list, scratch_config};

/// What an image begins with: nothing, or the configuration and layers of a base.
#[derive(Clone, Debug)]
pub struct Start {
    /// Configuration, as its bytes.
    pub config: Vec<u8>,
    /// Layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// Family of the media types of what is made.
    pub media_types: MediaTypes,
}

impl Start {
    /// Begins with nothing.
    #[must_use]
    pub fn scratch(platform: &Platform, media_types: MediaTypes) -> Self {
        Self { config: scratch_config(platform), layers: Vec::new(), media_types }
    }
}

/// An image that was composed.
#[derive(Clone, Debug)]
pub struct ComposedRunnable {
    /// Configuration and manifest.
    pub image: ComposedImage,
    /// The default arguments of the base that a new entrypoint took away.
    pub dropped_cmd: Option<Vec<String>>,
}

/// Makes configuration and manifest: the start's layers, then new ones with their places in the image.
///
/// Errors: the start's configuration cannot be read.
pub fn compose_runnable(
    start: &Start,
    layers: &[(PackedLayer, Vec<u8>)],
    edits: &ConfigEdits,
    annotations: &Annotations,
) -> Result<ComposedRunnable, ConfigError> {
    let steps: Vec<_> = layers.iter().map(|(layer, place)| (layer, place.as_slice())).collect();
    let edited = edit_config(&start.config, edits, &steps)?;
    let own = layers.iter().map(|(layer, _)| layer.descriptor.clone());
    let manifest = RawDocument::of_manifest(ImageManifest {
        schema_version: 2,
        media_type: Some(start.media_types.manifest().to_owned()),
        artifact_type: None,
        config: Descriptor::of_bytes(start.media_types.config(), &edited.bytes),
        layers: start.layers.iter().cloned().chain(own).collect(),
        subject: None,
        annotations: annotations.clone(),
    });
    let image = ComposedImage { config: edited.bytes, manifest };
    Ok(ComposedRunnable { image, dropped_cmd: edited.dropped_cmd })
}

/// An image's configuration, and the layers it names.
#[derive(Clone, Copy, Debug)]
pub struct Layered<'a> {
    /// Configuration, as its bytes.
    pub config: &'a [u8],
    /// Layers, lowest first.
    pub layers: &'a [Descriptor],
}

/// Why an image cannot be put on another base.
#[derive(Debug, thiserror::Error)]
pub enum RebaseError {
    /// A configuration cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The image was not made on the old base.
    #[error(
        "layer {number} of the old base is `{old}`, that of the image is {}, so the image was not made on it",
        of_image(found.as_ref())
    )]
    OtherBase {
        /// Which layer, from 1.
        number: usize,
        /// `diff_id` in the old base.
        old: Digest,
        /// `diff_id` in the image, if it has so many layers.
        found: Option<Digest>,
    },
}

fn of_image(found: Option<&Digest>) -> String {
    found.map_or_else(|| "missing".to_owned(), |found| format!("`{found}`"))
}

/// Puts an image on another base: the new base's layers in the place of the old one's, at the beginning.
///
/// Shape: the image's configuration, with the layers and the history of the new base in the place of the old one's.
/// Errors: the old base's layers are not the beginning of the image's.
pub fn rebase(
    image: Layered<'_>,
    old: Layered<'_>,
    new: Layered<'_>,
    media_types: MediaTypes,
) -> Result<Start, RebaseError> {
    use crate::model::Config;
    let json = |error: serde_json::Error| ConfigError::from(crate::model::JsonError::from(error));
    let [image_config, old_config, new_config] =
        [Config::parse(image.config)?, Config::parse(old.config)?, Config::parse(new.config)?];
    let ids = &image_config.rootfs.diff_ids;
    for (index, old) in old_config.rootfs.diff_ids.iter().enumerate() {
        let found = ids.get(index).cloned();
        if found.as_ref() != Some(old) {
            return Err(RebaseError::OtherBase { number: index + 1, old: old.clone(), found });
        }
    }
    let kept = old_config.rootfs.diff_ids.len();
    let mut top = Members::parse(image.config).map_err(json)?;
    let rootfs = top.get("rootfs").map(|text| Members::parse(text.as_bytes())).transpose().map_err(json)?;
    let mut rootfs = rootfs.unwrap_or_default();
    let mut diff_ids = new_config.rootfs.diff_ids;
    diff_ids.extend(ids.iter().skip(kept).cloned());
    rootfs.set("diff_ids", &diff_ids);
    top.set_members("rootfs", &rootfs);
    let new_top = Members::parse(new.config).map_err(json)?;
    let mut history = raw_list(new_top.get("history")).map_err(json)?;
    let own = raw_list(top.get("history")).map_err(json)?;
    history.extend(own.into_iter().skip(old_config.history.len()));
    top.set_list("history", &history);
    let layers = new.layers.iter().chain(image.layers.iter().skip(kept)).cloned().collect();
    Ok(Start { config: top.to_bytes(), layers, media_types })
}

//! Two images compared: digest, configuration, annotations, layers and files; an index platform by platform.

mod fields;
mod files;

use crate::model::{Descriptor, Document, ImageManifest, Platform, RawDocument, limits, media_type};
use crate::pack::IndexParts;

use super::contents::{NO_MANIFEST, resolve_for, resolve_manifest};
use super::events::Observer;
use super::listed_platform::own_platform;
use super::{ImageSource, TransferError};

pub use fields::FieldChange;
pub use files::{Aspect, FileChange, FilesDiff, SharedLayers};

use files::LayeredImage;

/// One of the two images.
#[derive(Clone, Copy)]
pub struct DiffSide<'a> {
    /// Where it is read from.
    pub source: &'a dyn ImageSource,
    /// Its manifest or index.
    pub root: &'a Descriptor,
}

impl std::fmt::Debug for DiffSide<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiffSide").field("source", &self.source.label()).field("root", self.root).finish()
    }
}

/// How images are compared.
#[derive(Clone, Debug)]
pub struct DiffOptions {
    /// The platform of an index that is compared; none compares all.
    pub platform: Option<Platform>,
    /// Whether files are compared.
    pub files: bool,
    /// Whether layers are read that both images begin with.
    pub shared: SharedLayers,
    /// Blobs read at the same time.
    pub concurrency: usize,
}

/// The old and new image of one platform; one is `None` if only the other index has the platform.
#[derive(Clone, Debug)]
pub struct ImagePair {
    /// The platform, if it is known.
    pub platform: Option<String>,
    /// What it was.
    pub old: Option<RawDocument>,
    /// What it is.
    pub new: Option<RawDocument>,
    /// The differences, if there are two images and they differ.
    pub diff: Option<ImageDiff>,
}

impl ImagePair {
    /// Tells whether both sides have the same image.
    #[must_use]
    pub fn is_same(&self) -> bool {
        let digest = |side: &Option<RawDocument>| side.as_ref().map(|document| document.digest().clone());
        digest(&self.old) == digest(&self.new)
    }

    /// Returns the bytes of each image as it is stored: its manifest, configuration and layers.
    #[must_use]
    pub fn sizes(&self) -> [Option<u64>; 2] {
        [&self.old, &self.new].map(|document| document.as_ref().map(stored_size))
    }
}

/// Returns the bytes of an image as it is stored: its manifest, configuration and layers.
fn stored_size(document: &RawDocument) -> u64 {
    let below = document.document().children().into_iter().map(|child| child.size).sum::<u64>();
    below + document.bytes().len() as u64
}

/// What differs between two images.
#[derive(Clone, Debug)]
pub struct ImageDiff {
    /// Fields of the configuration.
    pub configuration: Vec<FieldChange>,
    /// Annotations of the manifest.
    pub annotations: Vec<FieldChange>,
    /// Layers that both have.
    pub shared: Vec<Descriptor>,
    /// Layers that only the old image has.
    pub removed: Vec<Descriptor>,
    /// Layers that only the new image has.
    pub added: Vec<Descriptor>,
    /// Files; none where they were not compared, or where the layers are no tars of files.
    pub files: Option<FilesDiff>,
}

/// Pairs the images of two roots, without comparing them.
///
/// Shape: the platforms of the new root in its order, then those that only the old one has. Two single images are one
/// pair, also if their platforms differ.
/// Errors: a platform that neither or only one of them has, if one was requested.
pub fn pair_images(
    old: DiffSide<'_>,
    new: DiffSide<'_>,
    platform: Option<&Platform>,
) -> Result<Vec<ImagePair>, TransferError> {
    let (old_root, new_root) = (old.source.read_document(old.root)?, new.source.read_document(new.root)?);
    let is_index = |document: &RawDocument| matches!(document.document(), Document::Index(_));
    // An image alone has to be for the platform that was requested, and need not be for that of the other image.
    let resolve = if platform.is_some() { resolve_for } else { resolve_manifest };
    let one = |side: DiffSide<'_>, platform: Option<&Platform>| {
        let document = resolve(side.source, side.root, platform)?;
        let found = platform_of(side.source, &document)?;
        Ok::<_, TransferError>((document, found))
    };
    if platform.is_none() && is_index(&old_root) && is_index(&new_root) {
        return pair_indexes(old, &old_root, new, &new_root);
    }
    // Of an index, take the platform of the other image.
    let (before, after) = match (is_index(&old_root), is_index(&new_root)) {
        (true, false) => {
            let after = one(new, platform)?;
            (one(old, platform.or(after.1.as_ref()))?, after)
        }
        _ => {
            let before = one(old, platform)?;
            let after = one(new, platform.or(before.1.as_ref()))?;
            (before, after)
        }
    };
    let platform = fields::platform(before.1.as_ref(), after.1.as_ref());
    Ok(vec![ImagePair { platform, old: Some(before.0), new: Some(after.0), diff: None }])
}

fn platform_of(source: &dyn ImageSource, document: &RawDocument) -> Result<Option<Platform>, TransferError> {
    let manifest = document.manifest().ok_or(NO_MANIFEST)?;
    own_platform(source, manifest)
}

fn pair_indexes(
    old: DiffSide<'_>,
    old_root: &RawDocument,
    new: DiffSide<'_>,
    new_root: &RawDocument,
) -> Result<Vec<ImagePair>, TransferError> {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    list(old.source, old_root, 0, &mut before)?;
    list(new.source, new_root, 0, &mut after)?;
    let mut pairs = Vec::new();
    for (platform, new) in after {
        let at = before.iter().position(|(one, _)| *one == platform);
        let old = at.map(|at| before.remove(at).1);
        pairs.push(ImagePair { platform, old, new: Some(new), diff: None });
    }
    let gone = before.into_iter();
    pairs.extend(gone.map(|(platform, old)| ImagePair { platform, old: Some(old), new: None, diff: None }));
    Ok(pairs)
}

/// Lists the images below an index with their platforms; leaves out attestations and images that a tar lacks.
fn list(
    source: &dyn ImageSource,
    root: &RawDocument,
    depth: usize,
    found: &mut Vec<(Option<String>, RawDocument)>,
) -> Result<(), TransferError> {
    let (subject, what, limit) =
        (format!("`{}`", source.label()), "levels of nested indexes", limits::NESTING);
    if depth > limit {
        return Err(TransferError::TooMany { subject, what, limit });
    }
    let Document::Index(index) = root.document() else { return Ok(()) };
    let is_unknown = |child: &Descriptor| child.platform.as_ref().is_some_and(|has| has.os == "unknown");
    for child in IndexParts::of(index).images {
        let is_document = child.is_index() || child.is_manifest();
        if !is_document || is_unknown(child) || source.lacks(&child.digest) {
            continue;
        }
        let document = source.read_document(child)?;
        if document.manifest().is_none() {
            list(source, &document, depth + 1, found)?;
            continue;
        }
        let platform = match &child.platform {
            Some(platform) => Some(platform.clone()),
            None => platform_of(source, &document)?,
        };
        found.push((platform.map(|platform| platform.to_string()), document));
        if found.len() > limits::DOCUMENTS {
            return Err(TransferError::TooMany { subject, what: "images", limit: limits::DOCUMENTS });
        }
    }
    Ok(())
}

/// Returns which annotations of two documents differ, in order of their keys.
#[must_use]
pub fn annotation_changes(old: &RawDocument, new: &RawDocument) -> Vec<FieldChange> {
    fields::of_annotations(old.document().annotations(), new.document().annotations())
}

/// Compares the two images of a pair.
///
/// Errors: those of reading.
/// Cost: configurations, and layers as [`FilesDiff`] says; nothing where both have one digest.
pub fn compare_pair(
    old: DiffSide<'_>,
    new: DiffSide<'_>,
    pair: &mut ImagePair,
    options: &DiffOptions,
    observer: &dyn Observer,
) -> Result<(), TransferError> {
    let (Some(before), Some(after)) = (&pair.old, &pair.new) else { return Ok(()) };
    if before.digest() == after.digest() {
        return Ok(());
    }
    let manifests = (before.manifest().ok_or(NO_MANIFEST)?, after.manifest().ok_or(NO_MANIFEST)?);
    let config = |side: DiffSide<'_>, manifest: &ImageManifest| {
        side.source.read_blob(&manifest.config, limits::CONFIG_BYTES)
    };
    let configuration = if manifests.0.config.digest == manifests.1.config.digest {
        Vec::new()
    } else {
        fields::of_configs(&config(old, manifests.0)?, &config(new, manifests.1)?)
    };
    let [removed, added] = [
        without(&manifests.0.layers, &manifests.1.layers),
        without(&manifests.1.layers, &manifests.0.layers),
    ];
    let shared = without(&manifests.1.layers, &added);
    let are_files = |manifest: &ImageManifest| {
        manifest.layers.iter().all(|layer| media_type::is_layer(&layer.media_type))
    };
    let files = if options.files && are_files(manifests.0) && are_files(manifests.1) {
        let before = LayeredImage { source: old.source, layers: &manifests.0.layers };
        let after = LayeredImage { source: new.source, layers: &manifests.1.layers };
        Some(files::compare(&before, &after, options.shared, options.concurrency, observer)?)
    } else {
        None
    };
    let annotations = fields::of_annotations(&manifests.0.annotations, &manifests.1.annotations);
    pair.diff = Some(ImageDiff { configuration, annotations, shared, removed, added, files });
    Ok(())
}

/// Returns the layers of `all` that are not among `others`; duplicates are counted.
fn without(all: &[Descriptor], others: &[Descriptor]) -> Vec<Descriptor> {
    let mut others: Vec<&Descriptor> = others.iter().collect();
    let is_other = |layer: &&Descriptor| match others.iter().position(|other| other.digest == layer.digest) {
        Some(at) => {
            others.swap_remove(at);
            false
        }
        None => true,
    };
    let mut is_other = is_other;
    all.iter().filter(|layer| is_other(layer)).cloned().collect()
}

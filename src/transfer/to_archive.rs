//! Writes the archives of other tools: imgpkg's tar with any number of images, docker's with one.
//!
//! Both begin with a table of contents; several threads write the layers into reserved slots.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use crate::lock::image_name;
use crate::model::{Descriptor, Digest, Document, ImageManifest, RawDocument, Reference, limits, media_type};
use crate::store::imgpkg_tar::{
    ConfigItem, ImageItem, IndexItem, Item, LayerItem, ManifestItem, ROOT_LABEL, layer_name, table,
};
use crate::store::layout::{DockerImage, LayoutTarget};
use crate::store::slots::{BlobSlot, SlotTar, WrittenLayout};

use super::blob_copy::BlobCopier;
use super::events::{Event, Observer, Warning};
use super::{
    Collection, Graph, ImageLocator, ImageSource, Member, ResumeCache, Role, TransferError, workers,
};

/// A request to write an archive.
#[derive(Clone, Debug)]
pub struct ArchiveRequest {
    /// The target.
    pub target: LayoutTarget,
    /// Blobs moved at the same time.
    pub concurrency: usize,
    /// Also fetch non-distributable layers.
    pub include_non_distributable: bool,
    /// Cache fetched blobs beside this file, and use those that are cached there.
    pub resume: Option<PathBuf>,
}

/// Writes a collection as imgpkg's tar.
///
/// Shape: `manifest.json`, then each layer once in order of digest; the same collection gives the same bytes.
/// Errors: [`TransferError::NotForImgpkg`] for what the format cannot hold; nothing is visible after an error.
pub fn copy_to_imgpkg_tar(
    locator: &ImageLocator<'_>,
    collection: &Collection,
    request: &ArchiveRequest,
    observer: &dyn Observer,
) -> Result<WrittenLayout, TransferError> {
    let root = collection.root_bundle().map(|member| member.descriptor.digest.clone());
    let is_bundle = root.is_some();
    let mut layers: BTreeMap<String, Descriptor> = BTreeMap::new();
    let mut items = Vec::new();
    let mut any = false;
    for member in &collection.members {
        let labels = (root.as_ref() == Some(&member.descriptor.digest))
            .then(|| BTreeMap::from([(ROOT_LABEL.to_owned(), String::new())]));
        let original = member.role == Role::Referenced || (member.role == Role::Root && is_bundle);
        let about = About {
            repository: locator.repository_of(&member.descriptor.digest),
            origin: member.origin.as_ref(),
            tag: member.tags().first().map(ToString::to_string).unwrap_or_default(),
            orig_ref: member.origin.as_ref().filter(|_| original).map(image_name).unwrap_or_default(),
            labels,
        };
        let mut found = Vec::new();
        items.push(item(locator, &member.descriptor, &about, &mut found, 0)?);
        any |= found.iter().any(Descriptor::is_non_distributable);
        let skipped = skip(&mut found, request);
        if !skipped.is_empty() {
            let graph = Graph::of(locator, &member.descriptor)?;
            for warning in graph.left_out(&member.descriptor.digest, &member.label(), &skipped) {
                observer.event(Event::Warning(&warning));
            }
        }
        layers.extend(found.into_iter().map(|layer| (layer.digest.to_string(), layer)));
    }
    if request.include_non_distributable && !any {
        observer.event(Event::Warning(&Warning::NothingNonDistributable));
    }
    let mut tar = SlotTar::create(&request.target)?;
    tar.entry("manifest.json", &table(items))?;
    let mut slots = Vec::new();
    for layer in layers.into_values() {
        let slot = tar.reserve(&layer_name(&layer.digest), layer.size)?;
        slots.push((layer, slot));
    }
    finish(locator, tar, &slots, request, observer)
}

/// Fills the reserved slots and ends the archive.
fn finish(
    locator: &ImageLocator<'_>,
    tar: SlotTar,
    slots: &[(Descriptor, BlobSlot)],
    request: &ArchiveRequest,
    observer: &dyn Observer,
) -> Result<WrittenLayout, TransferError> {
    let Some(path) = &request.resume else {
        fill_all(locator, slots, request, observer)?;
        return Ok(tar.finish()?);
    };
    let cache = ResumeCache::beside(path, locator)?;
    fill_all(&cache, slots, request, observer)?;
    let written = tar.finish()?;
    cache.remove()?;
    Ok(written)
}

/// Removes the non-distributable layers, unless they were requested.
fn skip(layers: &mut Vec<Descriptor>, request: &ArchiveRequest) -> Vec<Digest> {
    if request.include_non_distributable {
        return Vec::new();
    }
    let skipped: Vec<Digest> = layers
        .iter()
        .filter(|layer| layer.is_non_distributable())
        .map(|layer| layer.digest.clone())
        .collect();
    layers.retain(|layer| !layer.is_non_distributable());
    skipped
}

fn fill_all(
    source: &dyn ImageSource,
    slots: &[(Descriptor, BlobSlot)],
    request: &ArchiveRequest,
    observer: &dyn Observer,
) -> Result<(), TransferError> {
    let bytes = slots.iter().map(|(blob, _)| blob.size).sum();
    observer.event(Event::Planned { blobs: slots.len() as u64, bytes });
    let copier = BlobCopier::new(source, observer);
    workers::for_each_blob(
        slots,
        request.concurrency,
        |(blob, _)| blob.size,
        |(blob, slot)| copier.fill(blob, slot),
    )
}

/// What an item records besides its documents; the children of an index record the same.
struct About<'a> {
    repository: Option<crate::model::Repository>,
    origin: Option<&'a Reference>,
    tag: String,
    orig_ref: String,
    labels: Option<BTreeMap<String, String>>,
}

impl About<'_> {
    fn refs(&self, digest: &Digest) -> Vec<String> {
        let repository = self.repository.clone().or_else(|| Some(self.origin?.repository.clone()));
        repository.map(|repository| image_name(&repository.with_digest(digest.clone()))).into_iter().collect()
    }
}

fn item(
    locator: &ImageLocator<'_>,
    descriptor: &Descriptor,
    about: &About<'_>,
    layers: &mut Vec<Descriptor>,
    depth: usize,
) -> Result<Item, TransferError> {
    let refused =
        |problem: String| TransferError::NotForImgpkg { digest: descriptor.digest.clone(), problem };
    if depth > limits::NESTING {
        let limit = limits::NESTING;
        return Err(TransferError::TooMany {
            subject: format!("`{}`", locator.label()),
            what: "levels of nested indexes",
            limit,
        });
    }
    if !descriptor.is_index() && !descriptor.is_manifest() {
        return Err(refused(format!("it has type `{}`", descriptor.media_type)));
    }
    let document = locator.read_document(descriptor)?;
    let raw =
        String::from_utf8(document.bytes().to_vec()).map_err(|_| refused("it is not UTF-8".to_owned()))?;
    match document.document() {
        Document::Manifest(manifest) => {
            let image = image(locator, &document, manifest, raw, about)?;
            layers.extend(manifest.layers.iter().cloned());
            Ok(Item { image_index: None, image: Some(image) })
        }
        Document::Index(index) => {
            let (mut images, mut indexes) = (Vec::new(), Vec::new());
            for child in &index.manifests {
                let Item { image_index, image } = item(locator, child, about, layers, depth + 1)?;
                images.extend(image);
                indexes.extend(image_index);
            }
            let index = IndexItem {
                refs: about.refs(&descriptor.digest),
                images: Some(images).filter(|images| !images.is_empty()),
                indexes: Some(indexes).filter(|indexes| !indexes.is_empty()),
                media_type: document.media_type().to_owned(),
                digest: descriptor.digest.clone(),
                raw,
                tag: about.tag.clone(),
                orig_ref: about.orig_ref.clone(),
                labels: about.labels.clone(),
            };
            Ok(Item { image_index: Some(index), image: None })
        }
    }
}

fn image(
    locator: &ImageLocator<'_>,
    document: &RawDocument,
    manifest: &ImageManifest,
    raw: String,
    about: &About<'_>,
) -> Result<ImageItem, TransferError> {
    locator.keep_blob(&manifest.config)?;
    let config = locator.read_blob(&manifest.config, limits::CONFIG_BYTES)?;
    let config = String::from_utf8(config).map_err(|_| TransferError::NotForImgpkg {
        digest: manifest.config.digest.clone(),
        problem: "it is not UTF-8".to_owned(),
    })?;
    let diff_ids = locator.read_config(manifest)?.map(|config| config.rootfs.diff_ids).unwrap_or_default();
    let layer = |(number, layer): (usize, &Descriptor)| LayerItem {
        media_type: layer.media_type.clone(),
        digest: layer.digest.clone(),
        diff_id: match media_type::is_layer(&layer.media_type) {
            true => diff_ids.get(number).map(ToString::to_string).unwrap_or_default(),
            false => String::new(),
        },
        size: layer.size,
    };
    let layers: Vec<LayerItem> = manifest.layers.iter().enumerate().map(layer).collect();
    Ok(ImageItem {
        refs: about.refs(document.digest()),
        layers: Some(layers).filter(|layers| !layers.is_empty()),
        config: ConfigItem { digest: manifest.config.digest.clone(), raw: config },
        manifest: ManifestItem {
            media_type: document.media_type().to_owned(),
            digest: document.digest().clone(),
            raw,
        },
        tag: about.tag.clone(),
        orig_ref: about.orig_ref.clone(),
        labels: about.labels.clone(),
    })
}

/// Writes one image as `docker save` did before version 25, with the layers as they are stored.
///
/// Shape: `manifest.json`, the configuration, then each layer once.
/// Errors: [`TransferError::NotAnImage`] for an index or artifact, and for non-distributable layers that were not
/// requested, because docker cannot load an image without them.
pub fn copy_to_docker_tar(
    locator: &ImageLocator<'_>,
    member: &Member,
    request: &ArchiveRequest,
    observer: &dyn Observer,
) -> Result<WrittenLayout, TransferError> {
    let refused = |found: String| TransferError::NotAnImage { place: member.label(), found };
    let document = locator.read_document(&member.descriptor)?;
    let manifest = document.manifest().ok_or_else(|| refused("it is an index".to_owned()))?;
    if !media_type::is_runnable_config(&manifest.config.media_type) {
        return Err(refused(format!("its configuration has type `{}`", manifest.config.media_type)));
    }
    let left_out = |layer: &&Descriptor| layer.is_non_distributable() && !request.include_non_distributable;
    if let Some(layer) = manifest.layers.iter().find(left_out) {
        return Err(refused(format!("its layer `{}` is non-distributable", layer.digest)));
    }
    let config = locator.read_config_bytes(&manifest.config)?;
    let name = |layer: &Descriptor| format!("{}.tar.gz", layer.digest.hex());
    let names = member.names.iter().filter_map(|name| name.reference.as_ref());
    let names = names.filter(|name| name.tag.is_some());
    let named = names.map(|name| Reference { digest: None, ..name.clone() }.to_string());
    let table = DockerImage {
        config: format!("{}.json", manifest.config.digest.hex()),
        repo_tags: named.collect(),
        layers: manifest.layers.iter().map(name).collect(),
    };
    let mut tar = SlotTar::create(&request.target)?;
    tar.entry("manifest.json", &serde_json::to_vec(&[&table]).unwrap_or_default())?;
    tar.entry(&table.config, &config)?;
    let (mut slots, mut seen) = (Vec::new(), HashSet::new());
    for layer in manifest.layers.iter().filter(|layer| seen.insert(layer.digest.clone())) {
        slots.push((layer.clone(), tar.reserve(&name(layer), layer.size)?));
    }
    finish(locator, tar, &slots, request, observer)
}

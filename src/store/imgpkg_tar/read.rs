//! Reading imgpkg's tar.
//!
//! The file has no checksums of the documents in `manifest.json`. They are kept under the digests that it gives for
//! them, so that a verified read checks them. imgpkg leaves out layers that are non-distributable; they are absent.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use crate::model::{Descriptor, Digest, Reference, Schema, Tag, limits, read_json};
use crate::tar::display_name;

use super::super::archive::{Archive, Node};
use super::super::docker_archive::{TABLE, check_texts};
use super::super::opened::{Held, Store};
use super::super::root_list::RootList;
use super::super::{ImageName, StoreError, StoreKind};
use super::ROOT_LABEL;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    #[serde(default)]
    image_index: Option<Index>,
    #[serde(default)]
    image: Option<Image>,
    /// Docker's members, which mark an archive that docker and imgpkg read as different images.
    #[serde(default)]
    config: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    layers: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Index {
    media_type: String,
    digest: Digest,
    raw: String,
    #[serde(default)]
    images: Option<Vec<Image>>,
    #[serde(default)]
    indexes: Option<Vec<Index>>,
    #[serde(flatten)]
    about: About,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    config: Document,
    manifest: Document,
    #[serde(flatten)]
    about: About,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    #[serde(default)]
    media_type: String,
    digest: Digest,
    raw: String,
}

/// Where an image came from and what it is called.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct About {
    #[serde(default)]
    refs: Option<Vec<String>>,
    #[serde(default)]
    tag: String,
    #[serde(default)]
    orig_ref: String,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

/// The members that imgpkg knows in `manifest.json`.
static SCHEMA: Schema = Schema::List(&Schema::Object(&[
    ("ImageIndex", Schema::Same(&INDEX)),
    ("Image", Schema::Same(&IMAGE)),
    // Of docker's table, which has the same name.
    ("Config", Schema::Value),
    ("RepoTags", Schema::Value),
    ("Layers", Schema::Value),
]));

static INDEX: Schema = Schema::Object(&[
    ("MediaType", Schema::Value),
    ("Digest", Schema::Value),
    ("Raw", Schema::Value),
    ("Images", Schema::List(&IMAGE)),
    ("Indexes", Schema::List(&Schema::Same(&INDEX))),
    ("Refs", Schema::Value),
    ("Tag", Schema::Value),
    ("OrigRef", Schema::Value),
    ("Labels", Schema::Value),
]);

static IMAGE: Schema = Schema::Object(&[
    ("Config", Schema::Same(&TEXT)),
    ("Manifest", Schema::Same(&TEXT)),
    ("Layers", Schema::List(&LAYER)),
    ("Refs", Schema::Value),
    ("Tag", Schema::Value),
    ("OrigRef", Schema::Value),
    ("Labels", Schema::Value),
]);

static TEXT: Schema =
    Schema::Object(&[("MediaType", Schema::Value), ("Digest", Schema::Value), ("Raw", Schema::Value)]);

static LAYER: Schema =
    Schema::Object(&[("MediaType", Schema::Value), ("Digest", Schema::Value), ("DiffID", Schema::Value)]);

/// Tells whether a `manifest.json` is imgpkg's and not docker's.
pub(in crate::store) fn is_imgpkg_table(table: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Shape {
        #[serde(default)]
        image_index: Option<serde::de::IgnoredAny>,
        #[serde(default)]
        image: Option<serde::de::IgnoredAny>,
    }
    // An ImagesLock without images gives `null` in imgpkg.
    serde_json::from_slice::<Option<Vec<Shape>>>(table).is_ok_and(|items| {
        items.is_none_or(|items| items.iter().any(|item| item.image.is_some() || item.image_index.is_some()))
    })
}

/// Opens an indexed imgpkg tar whose `manifest.json` was read.
pub(in crate::store) fn open(archive: Archive, table: &[u8], path: &Path) -> Result<Store, StoreError> {
    let damaged = |problem: String| StoreError::damaged(path, problem);
    check_texts(table).map_err(damaged)?;
    let items: Option<Vec<Item>> = read_json(table, &SCHEMA)
        .map_err(|error| damaged(format!("`{TABLE}` is not what imgpkg writes: {error}")))?;
    let mut found = Found::default();
    for item in items.unwrap_or_default() {
        if item.config.is_some() || item.layers.is_some() {
            return Err(damaged(format!("an item of `{TABLE}` is docker's and imgpkg's at the same time")));
        }
        match (item.image_index, item.image) {
            (Some(index), None) => found.root_index(index).map_err(damaged)?,
            (None, Some(image)) => found.root_image(image).map_err(damaged)?,
            _ => return Err(damaged(format!("an item of `{TABLE}` is not exactly one image or index"))),
        }
    }
    let (mut remarks, mut held) = (Vec::new(), found.held);
    let roots = found.roots.finish(&mut remarks);
    if roots.is_empty() {
        return Err(damaged(format!("`{TABLE}` lists no image")));
    }
    for (name, node) in archive.nodes() {
        match (layer_digest(name), node) {
            (Some(digest), Node::File(span)) => {
                held.entry(digest).or_insert(Held::Archive(*span));
            }
            (Some(_), _) => {
                return Err(damaged(format!("`{}` is not a regular file", display_name(name))));
            }
            (None, _) => {}
        }
    }
    Ok(Store::of_archive(path, StoreKind::ImgpkgTar, roots, held, archive, remarks))
}

/// Reads `sha256-<hex>.tar.gz`; imgpkg uses that ending for every compression.
fn layer_digest(name: &[u8]) -> Option<Digest> {
    let name = std::str::from_utf8(name).ok()?.strip_suffix(".tar.gz")?;
    let (algorithm, hex) = name.split_once('-')?;
    format!("{algorithm}:{hex}").parse().ok()
}

#[derive(Default)]
struct Found {
    roots: RootList,
    held: BTreeMap<Digest, Held>,
}

impl Found {
    fn root_index(&mut self, index: Index) -> Result<(), String> {
        let descriptor = Descriptor::new(&index.media_type, index.digest.clone(), index.raw.len() as u64);
        self.root(&descriptor, &index.about)?;
        self.keep_index(index, 1)
    }

    fn root_image(&mut self, image: Image) -> Result<(), String> {
        let manifest = &image.manifest;
        let descriptor =
            Descriptor::new(&manifest.media_type, manifest.digest.clone(), manifest.raw.len() as u64);
        self.root(&descriptor, &image.about)?;
        self.keep_image(image)
    }

    fn keep_index(&mut self, index: Index, depth: usize) -> Result<(), String> {
        if depth > limits::NESTING {
            return Err(format!("`{TABLE}` nests indexes more than {} levels deep", limits::NESTING));
        }
        self.keep(index.digest, index.raw)?;
        for image in index.images.into_iter().flatten() {
            self.keep_image(image)?;
        }
        for index in index.indexes.into_iter().flatten() {
            self.keep_index(index, depth + 1)?;
        }
        Ok(())
    }

    fn keep_image(&mut self, image: Image) -> Result<(), String> {
        self.keep(image.manifest.digest, image.manifest.raw)?;
        self.keep(image.config.digest, image.config.raw)
    }

    fn keep(&mut self, digest: Digest, raw: String) -> Result<(), String> {
        match self.held.entry(digest) {
            Slot::Vacant(slot) => {
                slot.insert(Held::Memory(Arc::from(raw.into_bytes())));
                Ok(())
            }
            Slot::Occupied(slot) => match slot.get() {
                Held::Memory(known) if **known == *raw.as_bytes() => Ok(()),
                _ => Err(format!("`{TABLE}` has two different contents for `{}`", slot.key())),
            },
        }
    }

    /// Adds a top-level image; one that is listed twice keeps both names.
    fn root(&mut self, descriptor: &Descriptor, about: &About) -> Result<(), String> {
        let origin = std::iter::once(&about.orig_ref)
            .chain(about.refs.iter().flatten())
            .find_map(|text| text.parse::<Reference>().ok());
        let is_root_bundle = about.labels.as_ref().is_some_and(|labels| labels.contains_key(ROOT_LABEL));
        let at = self.roots.add(descriptor)?;
        if !about.tag.is_empty() {
            match about.tag.parse::<Tag>() {
                Ok(tag) => self.roots.name(at, ImageName { tag: Some(tag), reference: None })?,
                Err(_) => self.roots.invalid_name(&about.tag),
            }
        }
        let root = self.roots.root(at);
        root.image.origin = root.image.origin.take().or(origin);
        root.is_root_bundle |= is_root_bundle;
        Ok(())
    }
}

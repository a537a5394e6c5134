//! What `docker save` and `skopeo copy docker-archive:` write: `manifest.json` beside configurations and layers.
//!
//! The format has no image manifests, so one is made for each image, in Docker's media types. Its digest is the one
//! that other tools get when they push the archive; the registry that the image came from may have another one. A layer's
//! digest is taken from where the archive states it, and verified whenever the layer is read; other layers are hashed
//! when the archive is opened.
//! Source: moby image/spec v1.2; layers may be links to each other (`../<id>/layer.tar`).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{
    Config, Descriptor, Digest, JsonError, RawDocument, Reference, Schema, limits, media_type, read_json,
    to_json,
};
use crate::tar::display_name;

use super::archive::{Archive, Node, Span, clean};
use super::docker_layers::{self, ArchivedLayer};
use super::opened::{Held, Store};
use super::root_list::RootList;
use super::{ImageName, StoreError, StoreKind};

/// Name of the table of contents.
pub(super) const TABLE: &str = "manifest.json";

/// The members that Go's readers know in `manifest.json`.
static SCHEMA: Schema = Schema::List(&Schema::Object(&[
    ("Config", Schema::Value),
    ("RepoTags", Schema::Value),
    ("Layers", Schema::Value),
    ("Parent", Schema::Value),
    ("LayerSources", Schema::Value),
    // Of imgpkg's table, which has the same name.
    ("ImageIndex", Schema::Value),
    ("Image", Schema::Value),
]));

/// One image of `manifest.json`; other members are ignored.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Image {
    pub(super) config: String,
    #[serde(default)]
    pub(super) repo_tags: Option<Vec<String>>,
    #[serde(default)]
    pub(super) layers: Option<Vec<String>>,
}

/// Reads `manifest.json`, whose number of texts was checked with [`check_texts`].
pub(super) fn read_table(table: &[u8]) -> Result<Vec<Image>, JsonError> {
    read_json(table, &SCHEMA)
}

/// Refuses a table with so many texts that their values would take much more memory than the table.
pub(super) fn check_texts(table: &[u8]) -> Result<(), String> {
    // Each text has two quotes; those inside texts count as well, and names have none.
    let texts = table.iter().filter(|byte| **byte == b'"').count() / 2;
    if texts > limits::TABLE_TEXTS {
        return Err(format!("`{TABLE}` has more than {} texts", limits::TABLE_TEXTS));
    }
    Ok(())
}

/// Opens an indexed docker-save tar whose `manifest.json` was read.
pub(super) fn open(archive: Archive, table: &[u8], path: &Path) -> Result<Store, StoreError> {
    let damaged = |problem: String| StoreError::damaged(path, problem);
    check_texts(table).map_err(damaged)?;
    let images = read_table(table)
        .map_err(|error| damaged(format!("`{TABLE}` is not what docker writes: {error}")))?;
    if images.is_empty() {
        return Err(damaged(format!("`{TABLE}` lists no image")));
    }
    let problem = |error| match error {
        Problem::Store(error) => error,
        Problem::Text(text) => damaged(text),
    };
    let (mut listed, mut files, mut bytes_read) = (Vec::new(), BTreeMap::new(), 0);
    for image in &images {
        let read = list(&archive, image, &mut files).map_err(problem)?;
        bytes_read += read.config.size + read.manifest_bytes();
        if bytes_read > limits::GRAPH_BYTES {
            let most = limits::GRAPH_BYTES;
            return Err(damaged(format!("its images have more than {most} bytes of configurations")));
        }
        listed.push(read);
    }
    let files: Vec<ArchivedLayer<'_>> = files.into_values().collect();
    let layers = docker_layers::describe(&archive, &files, path)?;
    let mut held: BTreeMap<Digest, Held> = BTreeMap::new();
    for (span, layer) in &layers {
        held.insert(layer.digest.clone(), Held::Archive(Span { offset: *span, size: layer.size }));
    }
    let (mut remarks, mut roots) = (Vec::new(), RootList::default());
    for image in &listed {
        let manifest = manifest_of(image, &layers).map_err(damaged)?;
        held.insert(image.config.digest.clone(), Held::Archive(image.config_file));
        held.insert(manifest.digest().clone(), Held::Memory(Arc::from(manifest.bytes())));
        add_root(&mut roots, &manifest, image.image).map_err(damaged)?;
    }
    let roots = roots.finish(&mut remarks);
    Ok(Store::of_archive(path, StoreKind::DockerArchive, roots, held, archive, remarks))
}

fn add_root(roots: &mut RootList, manifest: &RawDocument, image: &Image) -> Result<(), String> {
    let at = roots.add(&manifest.descriptor())?;
    for text in image.repo_tags.iter().flatten() {
        match text.parse::<Reference>() {
            Ok(reference) => roots.name(at, ImageName::of(reference))?,
            Err(_) => roots.invalid_name(text),
        }
    }
    Ok(())
}

enum Problem {
    Store(StoreError),
    Text(String),
}

/// One image of `manifest.json` with its configuration.
struct Listed<'a> {
    image: &'a Image,
    config: Descriptor,
    config_file: Span,
    /// Where its layers are.
    layers: Vec<u64>,
}

impl Listed<'_> {
    /// Returns about how many bytes its manifest will have.
    fn manifest_bytes(&self) -> u64 {
        256 * (self.layers.len() as u64 + 1)
    }
}

/// Reads the configuration of an image and adds its layers to the files that are layers.
fn list<'a>(
    archive: &Archive,
    image: &'a Image,
    files: &mut BTreeMap<u64, ArchivedLayer<'a>>,
) -> Result<Listed<'a>, Problem> {
    let config_file = locate(archive, &image.config).map_err(Problem::Text)?;
    let name = display_name(image.config.as_bytes());
    let bytes = crate::stream::read_bounded(archive.reader(config_file), limits::CONFIG_BYTES)
        .map_err(|error| Problem::Store(archive.too_large(&name, error)))?;
    let parsed = Config::parse(&bytes)
        .map_err(|error| Problem::Text(format!("`{name}` is no image configuration: {error}")))?;
    let names = image.layers.as_deref().unwrap_or_default();
    if parsed.rootfs.diff_ids.len() != names.len() {
        let (found, expected) = (names.len(), parsed.rootfs.diff_ids.len());
        return Err(Problem::Text(format!(
            "`{TABLE}` lists {found} layers for an image whose configuration `{name}` has {expected}"
        )));
    }
    let mut layers = Vec::with_capacity(names.len());
    for (name, diff_id) in names.iter().zip(parsed.rootfs.diff_ids) {
        let span = locate(archive, name).map_err(Problem::Text)?;
        layers.push(span.offset);
        files
            .entry(span.offset)
            .and_modify(|file| file.also(&diff_id))
            .or_insert_with(|| ArchivedLayer::new(span, name, diff_id));
    }
    let config = Descriptor::of_bytes(media_type::DOCKER_CONFIG, &bytes);
    Ok(Listed { image, config, config_file, layers })
}

/// The manifest as go-containerregistry makes it of the same archive, member by member.
///
/// So the image gets the same digest from every tool built on that library (crane, imgpkg, registry-image-resource)
/// and from this one.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    schema_version: u32,
    media_type: &'a str,
    config: Pointer<'a>,
    layers: Vec<Pointer<'a>>,
}

/// A descriptor with its members in that order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Pointer<'a> {
    media_type: &'a str,
    size: u64,
    digest: &'a Digest,
}

impl<'a> From<&'a Descriptor> for Pointer<'a> {
    fn from(descriptor: &'a Descriptor) -> Self {
        Self { media_type: &descriptor.media_type, size: descriptor.size, digest: &descriptor.digest }
    }
}

/// Makes the manifest of one image.
fn manifest_of(image: &Listed<'_>, layers: &BTreeMap<u64, Descriptor>) -> Result<RawDocument, String> {
    let found = image.layers.iter().filter_map(|offset| layers.get(offset));
    let text = to_json(&Manifest {
        schema_version: 2,
        media_type: media_type::DOCKER_MANIFEST,
        config: Pointer::from(&image.config),
        layers: found.map(Pointer::from).collect(),
    });
    RawDocument::parse(text, Some(media_type::DOCKER_MANIFEST))
        .map_err(|error| format!("the manifest made of it is not valid: {error}"))
}

/// Finds a file of the archive, through links inside it.
pub(super) fn locate(archive: &Archive, name: &str) -> Result<Span, String> {
    let shown = display_name(name.as_bytes());
    let outside =
        |target: &[u8]| format!("`{shown}` links to `{}`, outside the archive", display_name(target));
    let mut current =
        clean(name.as_bytes()).ok_or_else(|| format!("`{TABLE}` names `{shown}`, outside the archive"))?;
    for _ in 0..limits::LINKS {
        current = match archive.node(&current) {
            Some(Node::File(span)) => return Ok(*span),
            Some(Node::Symlink(target)) => beside(&current, target).ok_or_else(|| outside(target))?,
            Some(Node::HardLink(target)) => clean(target).ok_or_else(|| outside(target))?,
            Some(Node::Directory | Node::Other) => return Err(format!("`{shown}` is not a regular file")),
            None => return Err(format!("`{TABLE}` names `{shown}`, which is not in the archive")),
        };
    }
    Err(format!("`{shown}` is a link through more than {} links", limits::LINKS))
}

/// Resolves a symbolic link's target against the folder the link is in; `None` when it leaves the archive.
fn beside(link: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    if target.starts_with(b"/") {
        return None;
    }
    let mut parts: Vec<&[u8]> = link.split(|byte| *byte == b'/').collect();
    parts.pop();
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_resolved_inside_the_archive_only() {
        for (link, target, expected) in [
            ("a/layer.tar", "../b/layer.tar", Some("b/layer.tar")),
            ("a/b/c", "./../x//y", Some("a/x/y")),
            ("a", "b", Some("b")),
            ("a/layer.tar", "../../b", None),
            ("a", "../a", None),
            ("a", "/etc/passwd", None),
        ] {
            let found = beside(link.as_bytes(), target.as_bytes());
            assert_eq!(found, expected.map(|text| text.as_bytes().to_vec()), "{link} -> {target}");
        }
    }
}

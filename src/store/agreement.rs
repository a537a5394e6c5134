//! Compares facts that a store holds twice, so that two readers do not find two images in it.
//!
//! An OCI layout tar may have docker's `manifest.json` beside `index.json`: docker without the containerd store loads
//! the first, every other reader the second. Names are given in both, and in each once for each image.
//! The whole table of such facts is in `docs/formats/facts-said-twice.md`.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Digest, Document, JsonError, Reference, limits};
use crate::tar::display_name;

use super::archive::{Archive, Node, Span, clean};
use super::docker_archive::{self, Image, locate};
use super::opened::{Backing, Held, Store};
use super::reading::read_document;
use super::{Remark, StoreKind};

/// Finds what makes two readers see two images, and a table that cannot be compared.
pub(super) fn remarks(store: &Store) -> Vec<Remark> {
    let mut remarks = names_of_two_images(store);
    if store.kind == StoreKind::OciLayoutTar
        && let Backing::Archive(archive) = &store.backing
        // One that cannot be read is no table of docker's either.
        && let Ok(Some(table)) = archive.read_small(docker_archive::TABLE, limits::TABLE_OF_CONTENTS_BYTES)
    {
        match docker_archive::read_table(&table) {
            Ok(images) => remarks.extend(Comparison::of(store, archive).compare(&images)),
            Err(error @ JsonError::Json(_)) => {
                remarks.push(Remark::UnreadableDockerManifest(error.to_string()));
            }
            // Readers take different members of it.
            Err(error) => remarks.push(Remark::Contradiction {
                digest: Digest::sha256_of(&table),
                text: format!("`manifest.json`: {error}"),
            }),
        }
    }
    remarks
}

/// One name on two images: a reader that goes by the name takes the first or the last.
fn names_of_two_images(store: &Store) -> Vec<Remark> {
    let mut known: BTreeMap<String, &Digest> = BTreeMap::new();
    let mut remarks = Vec::new();
    for root in &store.roots {
        for name in &root.image.names {
            let full = name.reference.as_ref().map(ToString::to_string);
            let Some(name) = full.or_else(|| Some(name.tag.as_ref()?.to_string())) else { continue };
            let digest = &root.image.descriptor.digest;
            match known.get(&name) {
                Some(other) if *other != digest => remarks.push(Remark::Contradiction {
                    digest: digest.clone(),
                    text: format!("the name `{name}` is that of two images, `{other}` and `{digest}`"),
                }),
                _ => {
                    known.insert(name, digest);
                }
            }
        }
    }
    remarks
}

/// A manifest that `index.json` leads to.
struct Reachable {
    manifest: Digest,
    layers: Vec<Digest>,
    /// The roots that lead to it, by number.
    roots: BTreeSet<usize>,
}

/// `manifest.json` beside what `index.json` leads to.
struct Comparison<'a> {
    store: &'a Store,
    archive: &'a Archive,
    /// By configuration.
    manifests: BTreeMap<Digest, Vec<Reachable>>,
    blobs: BTreeMap<u64, &'a Digest>,
    /// A root is missing or damaged, so that every reader of `index.json` fails.
    has_unreadable_root: bool,
}

impl<'a> Comparison<'a> {
    fn of(store: &'a Store, archive: &'a Archive) -> Self {
        let blobs = store.held.iter().filter_map(|(digest, held)| match held {
            Held::Archive(span) => Some((span.offset, digest)),
            Held::Memory(_) | Held::Directory(_) => None,
        });
        let mut comparison = Self {
            store,
            archive,
            manifests: BTreeMap::new(),
            blobs: blobs.collect(),
            has_unreadable_root: false,
        };
        comparison.walk();
        comparison
    }

    /// Notes every manifest that is there; documents that are missing or damaged are reported by who reads them.
    fn walk(&mut self) {
        let mut seen: BTreeSet<(usize, Digest)> = BTreeSet::new();
        for (root, image) in self.store.roots.iter().enumerate() {
            let mut left = vec![(image.image.descriptor.clone(), 0)];
            while let Some((descriptor, depth)) = left.pop() {
                if depth > limits::NESTING
                    || seen.len() > limits::DOCUMENTS
                    || !seen.insert((root, descriptor.digest.clone()))
                {
                    continue;
                }
                let Ok(document) = read_document(self.store, &descriptor) else {
                    self.has_unreadable_root |= depth == 0;
                    continue;
                };
                match document.document() {
                    Document::Index(index) => {
                        let documents =
                            index.manifests.iter().filter(|one| one.is_index() || one.is_manifest());
                        left.extend(documents.map(|child| (child.clone(), depth + 1)));
                    }
                    Document::Manifest(manifest) => {
                        let layers: Vec<Digest> =
                            manifest.layers.iter().map(|layer| layer.digest.clone()).collect();
                        let known = self.manifests.entry(manifest.config.digest.clone()).or_default();
                        match known.iter_mut().find(|one| one.manifest == descriptor.digest) {
                            Some(one) => {
                                one.roots.insert(root);
                            }
                            None => known.push(Reachable {
                                manifest: descriptor.digest,
                                layers,
                                roots: BTreeSet::from([root]),
                            }),
                        }
                    }
                }
            }
        }
    }

    fn compare(&self, images: &[Image]) -> Vec<Remark> {
        let mut remarks = Vec::new();
        let mut named: BTreeMap<&str, Digest> = BTreeMap::new();
        for image in images {
            let Some(config) = self.digest_at(&image.config) else {
                remarks.push(Remark::UnreadableDockerManifest(absent(&image.config)));
                continue;
            };
            let mut contradict =
                |text: String| remarks.push(Remark::Contradiction { digest: config.clone(), text });
            for name in image.repo_tags.iter().flatten() {
                let known = named.entry(name).or_insert_with(|| config.clone());
                if *known != config {
                    let name = display_name(name.as_bytes());
                    contradict(format!("`manifest.json` gives the name `{name}` to two images"));
                }
            }
            let Some(known) = self.manifests.get(&config) else {
                // Who reads the root says what is wrong with it, and no reader gets another image from it.
                if self.has_unreadable_root {
                    continue;
                }
                contradict(format!(
                    "`manifest.json` lists an image with configuration `{config}`, but no manifest that \
                     `index.json` leads to has it"
                ));
                continue;
            };
            match self.same_layers(image, known) {
                Err(text) => contradict(text),
                Ok(manifest) => {
                    for name in image.repo_tags.iter().flatten() {
                        if let Some(text) = self.other_owner(name, manifest) {
                            contradict(text);
                        }
                    }
                }
            }
        }
        remarks
    }

    /// Finds the manifest whose layers are those of docker's table.
    fn same_layers<'k>(&self, image: &Image, known: &'k [Reachable]) -> Result<&'k Reachable, String> {
        let names = image.layers.as_deref().unwrap_or_default();
        let found: Vec<Option<Digest>> = names.iter().map(|name| self.digest_at(name)).collect();
        let same = |one: &&Reachable| {
            one.layers.len() == found.len()
                && one.layers.iter().zip(&found).all(|(a, b)| Some(a) == b.as_ref())
        };
        if let Some(same) = known.iter().find(same) {
            return Ok(same);
        }
        let Some(one) = known.first() else { return Err("no manifest has this configuration".to_owned()) };
        if one.layers.len() != found.len() {
            return Err(format!(
                "`manifest.json` lists {} layers, but manifest `{}` in `index.json` has {}",
                found.len(),
                one.manifest,
                one.layers.len()
            ));
        }
        let differs = one.layers.iter().zip(&found).zip(names).find(|((a, b), _)| Some(*a) != b.as_ref());
        let ((expected, found), name) = differs.expect("lists of one length that differ, differ somewhere");
        let name = display_name(name.as_bytes());
        Err(match found {
            Some(found) => format!(
                "`manifest.json` has layer `{found}` (`{name}`) where manifest `{}` in `index.json` has `{expected}`",
                one.manifest
            ),
            None => format!(
                "`manifest.json` has layer `{name}`, which is not in the tar, where manifest `{}` in `index.json` \
                 has `{expected}`",
                one.manifest
            ),
        })
    }

    /// Tells whether `index.json` gives a name to roots that do not lead to this manifest.
    fn other_owner(&self, name: &str, manifest: &Reachable) -> Option<String> {
        let reference: Reference = name.parse().ok()?;
        let mut owners = self.store.roots.iter().enumerate().filter(|(_, root)| {
            root.image.names.iter().any(|name| name.reference.as_ref() == Some(&reference))
        });
        let first = owners.next()?;
        if manifest.roots.contains(&first.0) || owners.any(|(number, _)| manifest.roots.contains(&number)) {
            return None;
        }
        Some(format!(
            "`manifest.json` gives the name `{reference}` to manifest `{}`, but `index.json` gives it to `{}`",
            manifest.manifest, first.1.image.descriptor.digest
        ))
    }

    /// Returns the digest of what stands under a name of docker's table; `None` for nothing.
    fn digest_at(&self, name: &str) -> Option<Digest> {
        if let Some(digest) = blob_named(name) {
            // A layer that may not be distributed may be left out; its name still says which it is.
            return match self.archive.node(&clean(name.as_bytes())?) {
                None | Some(Node::File(_)) => Some(digest),
                Some(_) => None,
            };
        }
        let span = locate(self.archive, name).ok()?;
        if let Some(digest) = self.blobs.get(&span.offset) {
            return Some((*digest).clone());
        }
        hash(self.archive, span).ok()
    }
}

fn absent(name: &str) -> String {
    format!("it names `{}`, which is not in the tar", display_name(name.as_bytes()))
}

/// Reads `blobs/<algorithm>/<hex>`.
fn blob_named(name: &str) -> Option<Digest> {
    let name = String::from_utf8(clean(name.as_bytes())?).ok()?;
    let (algorithm, hex) = name.strip_prefix("blobs/")?.split_once('/')?;
    format!("{algorithm}:{hex}").parse().ok()
}

fn hash(archive: &Archive, span: Span) -> std::io::Result<Digest> {
    docker_archive::hash(archive, span).map(|(digest, _)| digest)
}

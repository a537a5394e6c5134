//! Compares facts that a store records twice, and refuses a store in which two readers would find two images.
//!
//! An OCI layout tar may have docker's `manifest.json` beside `index.json`: docker without the containerd store loads
//! the first, every other reader the second. Names are given in both, and in each once for each image.
//! The whole table of such facts is in `docs/formats/facts-said-twice.md`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Digest, Document, JsonError, Reference, limits};
use crate::tar::display_name;

use super::archive::{Archive, Node, Span, clean};
use super::docker_archive::{self, Image, locate};
use super::docker_layers;
use super::opened::{Backing, Held, Store};
use super::reading::read_document;
use super::{Remark, Root, StoreKind};

/// Contradictions after which a table is not compared further; one is enough to refuse it.
const MOST_REMARKS: usize = 1000;

/// Finds what makes two readers see two images, and a table that cannot be compared.
pub(super) fn remarks(store: &Store) -> Vec<Remark> {
    let mut remarks = names_of_two_images(store);
    if store.kind == StoreKind::OciLayoutTar
        && let Backing::Archive(archive) = &store.backing
        // A file that cannot be read is no table for docker either.
        && let Ok(Some(table)) = archive.read_small(docker_archive::TABLE, limits::TABLE_OF_CONTENTS_BYTES)
    {
        if let Err(text) = docker_archive::check_texts(&table) {
            remarks.push(Remark::Contradiction { digest: Digest::sha256_of(&table), text });
            return remarks;
        }
        match docker_archive::read_table(&table) {
            Ok(images) => remarks.extend(Comparison::of(store, archive).compare(&images)),
            Err(error @ JsonError::Json(_)) => {
                remarks.push(Remark::UnreadableDockerManifest(error.to_string()));
            }
            // Readers use different members of it.
            Err(error) => remarks.push(Remark::Contradiction {
                digest: Digest::sha256_of(&table),
                text: format!("`manifest.json`: {error}"),
            }),
        }
    }
    remarks
}

/// One name on two images: some readers take the first of them, others the last.
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

/// Manifests of one configuration and the same layers that `index.json` leads to.
struct Reachable {
    /// The first of them.
    manifest: Digest,
    /// The roots that lead to them, by number.
    roots: BTreeSet<usize>,
}

/// The manifests of one configuration.
struct Known {
    /// Layers of the first one, for messages.
    first: Vec<Digest>,
    by_layers: BTreeMap<Vec<Digest>, Reachable>,
}

/// `manifest.json` beside what `index.json` leads to.
struct Comparison<'a> {
    store: &'a Store,
    archive: &'a Archive,
    /// By configuration.
    manifests: BTreeMap<Digest, Known>,
    blobs: BTreeMap<u64, &'a Digest>,
    /// Digests of files that are no blobs, by their place: a table may name one many times.
    hashed: RefCell<BTreeMap<u64, Option<Digest>>>,
    /// The roots that `index.json` gives each full name to, by number.
    owners: BTreeMap<String, BTreeSet<usize>>,
    /// A root is missing or damaged, so that every reader of `index.json` fails.
    has_unreadable_root: bool,
}

impl<'a> Comparison<'a> {
    fn of(store: &'a Store, archive: &'a Archive) -> Self {
        let blobs = store.held.iter().filter_map(|(digest, held)| match held {
            Held::Archive(span) => Some((span.offset, digest)),
            Held::Memory(_) | Held::Directory(_) | Held::Remote(_) => None,
        });
        let mut comparison = Self {
            store,
            archive,
            manifests: BTreeMap::new(),
            blobs: blobs.collect(),
            hashed: RefCell::default(),
            owners: owners(&store.roots),
            has_unreadable_root: false,
        };
        comparison.walk();
        comparison
    }

    /// Collects every manifest that is there; missing or damaged documents are reported by the code that reads them.
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
                        let known = self.manifests.entry(manifest.config.digest.clone());
                        let known = known
                            .or_insert_with(|| Known { first: layers.clone(), by_layers: BTreeMap::new() });
                        let new = || Reachable { manifest: descriptor.digest, roots: BTreeSet::new() };
                        known.by_layers.entry(layers).or_insert_with(new).roots.insert(root);
                    }
                }
            }
        }
    }

    fn compare(&self, images: &[Image]) -> Vec<Remark> {
        let mut remarks = Vec::new();
        let mut named: BTreeMap<&str, Digest> = BTreeMap::new();
        for image in images {
            if remarks.len() >= MOST_REMARKS {
                break;
            }
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
                // Reading the root reports what is wrong with it, and no reader gets another image from it.
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
    fn same_layers<'k>(&self, image: &Image, known: &'k Known) -> Result<&'k Reachable, String> {
        let names = image.layers.as_deref().unwrap_or_default();
        let found: Vec<Option<Digest>> = names.iter().map(|name| self.digest_at(name)).collect();
        let whole: Option<Vec<Digest>> = found.iter().cloned().collect();
        if let Some(same) = whole.and_then(|layers| known.by_layers.get(&layers)) {
            return Ok(same);
        }
        let Some(one) = known.by_layers.get(&known.first) else {
            return Err("no manifest has this configuration".to_owned());
        };
        if known.first.len() != found.len() {
            return Err(format!(
                "`manifest.json` lists {} layers, but manifest `{}` in `index.json` has {}",
                found.len(),
                one.manifest,
                known.first.len()
            ));
        }
        let differs = known.first.iter().zip(&found).zip(names).find(|((a, b), _)| Some(*a) != b.as_ref());
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
        let owners = self.owners.get(&reference.to_string())?;
        let first = self.store.roots.get(*owners.first()?)?;
        if !manifest.roots.is_disjoint(owners) {
            return None;
        }
        Some(format!(
            "`manifest.json` gives the name `{reference}` to manifest `{}`, but `index.json` gives it to `{}`",
            manifest.manifest, first.image.descriptor.digest
        ))
    }

    /// Returns the digest of what stands under a name of docker's table; `None` for nothing.
    fn digest_at(&self, name: &str) -> Option<Digest> {
        if let Some(digest) = blob_named(name) {
            // A non-distributable layer may be absent; its name still has its digest.
            return match self.archive.node(&clean(name.as_bytes())?) {
                None | Some(Node::File(_)) => Some(digest),
                Some(_) => None,
            };
        }
        let span = locate(self.archive, name).ok()?;
        if let Some(digest) = self.blobs.get(&span.offset) {
            return Some((*digest).clone());
        }
        let known = self.hashed.borrow().get(&span.offset).cloned();
        known.unwrap_or_else(|| {
            let found = hash(self.archive, span).ok();
            self.hashed.borrow_mut().insert(span.offset, found.clone());
            found
        })
    }
}

fn owners(roots: &[Root]) -> BTreeMap<String, BTreeSet<usize>> {
    let mut owners: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for (number, root) in roots.iter().enumerate() {
        for name in root.image.names.iter().filter_map(|name| name.reference.as_ref()) {
            owners.entry(name.to_string()).or_default().insert(number);
        }
    }
    owners
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
    docker_layers::hash(archive, span).map(|(digest, _)| digest)
}

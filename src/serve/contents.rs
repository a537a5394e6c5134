//! The served stores: their documents in memory, the names of their images, and the referrers of each manifest.
//!
//! The image of a store with one image is found under any repository name. Of several images each has the names that
//! its store records, else the name of its file. Signatures under tags of cosign are beside the images of their store. A
//! digest is found in every repository.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;

use crate::lock::cosign_subject;
use crate::model::{Descriptor, Digest, Document, RawDocument, Tag, Target, limits};
use crate::store::{BlobPlace, Root, Stamp, Store, StoreError, StoreKind, read_document};
use crate::stream::lock;

use super::error::ServeError;
use super::route::is_repository;

/// Tags of one repository.
type Tags = BTreeMap<Tag, Digest>;

/// The names under which images are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Naming {
    /// The recorded names; a single image also under any other repository name.
    Recorded,
    /// Only the recorded names: on a server that accepts pushes, a client must not find a name before it is pushed.
    RecordedOnly,
    /// In this repository only.
    Only(String),
}

/// A name under which an image is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedName {
    /// The repository, without a registry.
    pub repository: String,
    /// The tag.
    pub tag: Tag,
    /// What it points at.
    pub digest: Digest,
}

/// The images of stores as repositories of a registry.
#[derive(Debug)]
pub struct Contents {
    stores: Vec<Store>,
    documents: BTreeMap<Digest, RawDocument>,
    repositories: BTreeMap<String, Tags>,
    /// The tags of every repository name that no source records; `None` if only recorded names are served.
    any_repository: Option<Tags>,
    referrers: BTreeMap<Digest, Vec<Descriptor>>,
    /// Blobs that were read to the end and had the right digest, each with the stamp of its file at that time.
    sound: Mutex<BTreeMap<Digest, Stamp>>,
}

impl Contents {
    /// Reads the documents of stores and names their images.
    ///
    /// Errors: [`ServeError::Store`] for a damaged document; [`ServeError::TwoImages`]; [`ServeError::TooMany`] beyond
    /// [`limits::DOCUMENTS`] and [`limits::GRAPH_BYTES`].
    /// Cost: reads every manifest and index, and no blob.
    pub fn of(stores: Vec<Store>, naming: &Naming) -> Result<Self, ServeError> {
        let mut documents = Documents::default();
        for store in &stores {
            for root in store.roots() {
                documents.add(&stores, &root.image.descriptor, 0)?;
            }
        }
        let documents = documents.found;
        let mut contents = Self {
            stores: Vec::new(),
            referrers: referrers(&documents),
            documents,
            repositories: BTreeMap::new(),
            any_repository: None,
            sound: Mutex::default(),
        };
        let mut main = BTreeSet::new();
        for store in &stores {
            contents.name_images(store, naming, &mut main)?;
        }
        contents.any_repository = match (naming, main.first(), stores.as_slice()) {
            (Naming::Recorded, Some(only), _) if main.len() == 1 => {
                let mut tags = contents.tags_about(only);
                let _ = tags.entry(Tag::latest()).or_insert_with(|| only.clone());
                Some(tags)
            }
            // An image store is one repository, whose name is nowhere in it.
            (Naming::Recorded, _, [store]) if store.kind() == StoreKind::Remote => Some(
                contents
                    .repositories
                    .values()
                    .flatten()
                    .map(|(tag, digest)| (tag.clone(), digest.clone()))
                    .collect(),
            ),
            _ => None,
        };
        contents.stores = stores;
        Ok(contents)
    }

    /// Returns every name, in order; of a single image the names that its store records.
    #[must_use]
    pub fn names(&self) -> Vec<ServedName> {
        let mut names = Vec::new();
        for (repository, tags) in &self.repositories {
            for (tag, digest) in tags {
                let (repository, tag, digest) = (repository.clone(), tag.clone(), digest.clone());
                names.push(ServedName { repository, tag, digest });
            }
        }
        names
    }

    /// Tells whether an image is served under any repository name.
    #[must_use]
    pub fn answers_to_any_name(&self) -> bool {
        self.any_repository.is_some()
    }

    pub(super) fn repositories(&self) -> impl Iterator<Item = &str> {
        self.repositories.keys().map(String::as_str)
    }

    /// Tells whether there is a repository of this name.
    pub(super) fn has_repository(&self, name: &str) -> bool {
        self.any_repository.is_some() || self.repositories.contains_key(name)
    }

    /// Returns the tags of a repository, in order.
    pub(super) fn tags(&self, name: &str) -> impl Iterator<Item = &str> {
        let tags = self.repositories.get(name).or(self.any_repository.as_ref());
        tags.into_iter().flatten().map(|(tag, _)| tag.as_str())
    }

    /// Finds a manifest or index of a repository that is there.
    pub(super) fn document(&self, name: &str, target: &Target) -> Option<&RawDocument> {
        match target {
            Target::Digest(digest) => self.documents.get(digest),
            Target::Tag(tag) => {
                let recorded = self.repositories.get(name).and_then(|tags| tags.get(tag));
                // `latest` of a repository that records other tags: clients add it to a name without a tag.
                let any = || self.any_repository.as_ref().and_then(|tags| tags.get(tag));
                self.documents.get(recorded.or_else(any)?)
            }
        }
    }

    /// Returns the referrers of a manifest, in order of digest.
    pub(super) fn referrers(&self, subject: &Digest) -> &[Descriptor] {
        self.referrers.get(subject).map(Vec::as_slice).unwrap_or_default()
    }

    /// Finds the bytes of a blob; `None` if no store holds it.
    pub(super) fn place(&self, digest: &Digest) -> Result<Option<BlobPlace<'_>>, StoreError> {
        let holder = self.stores.iter().find(|store| store.blob_size(digest).is_some());
        holder.map(|store| store.place(digest)).transpose()
    }

    /// Returns the file or folder that holds a blob, for messages.
    pub(super) fn path_of(&self, digest: &Digest) -> Option<&Path> {
        self.stores.iter().find(|store| store.blob_size(digest).is_some()).map(Store::path)
    }

    /// Tells whether a blob was verified, and its file has not changed since.
    pub(super) fn is_sound(&self, digest: &Digest, stamp: Stamp) -> bool {
        lock(&self.sound).get(digest) == Some(&stamp)
    }

    /// Records that a blob was verified.
    pub(super) fn remember_sound(&self, digest: &Digest, stamp: Stamp) {
        let _ = lock(&self.sound).insert(digest.clone(), stamp);
    }

    /// Returns the tags that point at an image, and those of cosign, which are about it.
    fn tags_about(&self, image: &Digest) -> Tags {
        let tags = self.repositories.values().flatten();
        let tags = tags.filter(|(tag, digest)| *digest == image || is_of_cosign(tag));
        tags.map(|(tag, digest)| (tag.clone(), digest.clone())).collect()
    }

    /// Names the images of one store, and collects its main images.
    fn name_images(
        &mut self,
        store: &Store,
        naming: &Naming,
        main: &mut BTreeSet<Digest>,
    ) -> Result<(), ServeError> {
        let of_file = || match naming {
            Naming::Only(only) => only.clone(),
            Naming::Recorded | Naming::RecordedOnly => repository_of(store),
        };
        let any_marked = store.roots().iter().any(|root| root.is_root_bundle);
        let mut own: BTreeSet<String> = BTreeSet::new();
        let (of_cosign, images): (Vec<&Root>, Vec<&Root>) =
            store.roots().iter().partition(|root| names_of_cosign(root).next().is_some());
        for root in images {
            let digest = &root.image.descriptor.digest;
            let is_about_another =
                self.documents.get(digest).is_some_and(|document| document.document().subject().is_some());
            let is_main = !is_about_another && (root.is_root_bundle || !any_marked);
            if is_main {
                let _ = main.insert(digest.clone());
            }
            let mut named = false;
            for (repository, tag) in recorded_names(root) {
                let repository = match (naming, repository) {
                    (Naming::Recorded | Naming::RecordedOnly, Some(repository)) => repository,
                    _ => of_file(),
                };
                let tags = self.repositories.entry(repository.clone()).or_default();
                if let Some(tag) = tag {
                    named = true;
                    point(tags, &repository, tag, digest)?;
                }
                let _ = own.insert(repository);
            }
            if is_main && !named {
                let repository = of_file();
                // A second image without a name is found by its digest only.
                let tags = self.repositories.entry(repository.clone()).or_default();
                let _ = tags.entry(Tag::latest()).or_insert_with(|| digest.clone());
                let _ = own.insert(repository);
            }
        }
        if own.is_empty() {
            let _ = own.insert(of_file());
        }
        // Signatures are looked for beside their image, and their tags record no repository.
        for root in of_cosign {
            for (tag, repository) in
                names_of_cosign(root).flat_map(|tag| own.iter().map(move |name| (tag, name)))
            {
                let tags = self.repositories.entry(repository.clone()).or_default();
                point(tags, repository, tag.clone(), &root.image.descriptor.digest)?;
            }
        }
        Ok(())
    }
}

/// Tells whether a tag is one of cosign's, which says what the image is about.
fn is_of_cosign(tag: &Tag) -> bool {
    cosign_subject(tag.as_str()).is_some()
}

/// Returns the tags of cosign's that an image has.
fn names_of_cosign(root: &Root) -> impl Iterator<Item = &Tag> {
    root.image.names.iter().filter_map(|name| name.tag.as_ref()).filter(|tag| is_of_cosign(tag))
}

/// Points a tag at an image.
///
/// Errors: [`ServeError::TwoImages`] if it points at another one.
fn point(tags: &mut Tags, repository: &str, tag: Tag, digest: &Digest) -> Result<(), ServeError> {
    match tags.get(&tag) {
        Some(first) if first != digest => {
            let name = format!("{repository}:{tag}");
            Err(ServeError::TwoImages { name, first: first.clone(), second: digest.clone() })
        }
        _ => {
            let _ = tags.insert(tag, digest.clone());
            Ok(())
        }
    }
}

/// Returns repository and tag of each name, and the repository of the image's origin.
fn recorded_names(root: &Root) -> Vec<(Option<String>, Option<Tag>)> {
    let names = root.image.names.iter().map(|name| {
        let repository = name.reference.as_ref().map(|reference| reference.repository.name().to_owned());
        (repository, name.tag.clone())
    });
    let origin = root.image.origin.iter().map(|origin| (Some(origin.repository.name().to_owned()), None));
    names.chain(origin).collect()
}

/// Returns the name of the file, or the last part of a store's address, as the name of a repository.
fn repository_of(store: &Store) -> String {
    let path = store.path().to_string_lossy();
    match store.kind() {
        StoreKind::Remote => {
            let name = path.split('@').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
            repository_of_file(Path::new(name.split(':').next().unwrap_or_default()))
        }
        _ => repository_of_file(store.path()),
    }
}

/// Returns the file's name without its ending, as a repository name.
fn repository_of_file(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let endings = [".tar.gz", ".tar.zst", ".tgz", ".tar"];
    let stem = endings.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(&name);
    if is_repository(stem) { stem.to_owned() } else { "image".to_owned() }
}

/// Lists the referrers of each manifest.
fn referrers(documents: &BTreeMap<Digest, RawDocument>) -> BTreeMap<Digest, Vec<Descriptor>> {
    let mut lists: BTreeMap<Digest, Vec<Descriptor>> = BTreeMap::new();
    for document in documents.values() {
        if let Some(subject) = document.document().subject() {
            lists.entry(subject.digest.clone()).or_default().push(document.as_referrer());
        }
    }
    lists
}

/// Manifests and indexes that were read.
#[derive(Default)]
struct Documents {
    found: BTreeMap<Digest, RawDocument>,
    bytes: u64,
}

impl Documents {
    /// Reads a document and those below it; skips one that no store holds.
    fn add(&mut self, stores: &[Store], descriptor: &Descriptor, depth: usize) -> Result<(), ServeError> {
        let is_document = descriptor.is_index() || descriptor.is_manifest();
        if !is_document || self.found.contains_key(&descriptor.digest) {
            return Ok(());
        }
        let holder = stores.iter().find(|store| store.blob_size(&descriptor.digest).is_some());
        let Some(store) = holder else { return Ok(()) };
        let document = read_document(store, descriptor)?;
        self.bytes += document.bytes().len() as u64;
        if depth > limits::NESTING {
            return Err(ServeError::TooMany {
                what: "levels of nested indexes",
                limit: limits::NESTING as u64,
            });
        }
        if self.found.len() >= limits::DOCUMENTS {
            return Err(ServeError::TooMany {
                what: "manifests and indexes",
                limit: limits::DOCUMENTS as u64,
            });
        }
        if self.bytes > limits::GRAPH_BYTES {
            return Err(ServeError::TooMany {
                what: "bytes of manifests and indexes",
                limit: limits::GRAPH_BYTES,
            });
        }
        let children = match document.document() {
            Document::Index(index) => index.manifests.clone(),
            Document::Manifest(_) => Vec::new(),
        };
        let _ = self.found.insert(descriptor.digest.clone(), document);
        for child in &children {
            self.add(stores, child, depth + 1)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gives_its_name_to_a_repository_if_it_can() {
        for (path, expected) in [
            ("dist/App.tar", "app"),
            ("base.tar.gz", "base"),
            ("a.tgz", "a"),
            ("a.b-c", "a.b-c"),
            ("layout", "layout"),
            ("a b.tar", "image"),
            (".tar", "image"),
            ("/", "image"),
        ] {
            assert_eq!(repository_of_file(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn a_tag_points_at_one_image() {
        let (one, two) = (Digest::sha256_of(b"1"), Digest::sha256_of(b"2"));
        let mut tags = Tags::new();
        assert!(point(&mut tags, "a", Tag::latest(), &one).is_ok());
        assert!(point(&mut tags, "a", Tag::latest(), &one).is_ok());
        let error = point(&mut tags, "a", Tag::latest(), &two).unwrap_err().to_string();
        assert_eq!(error, format!("`a:latest` is the name of two images, `{one}` and `{two}`"));
    }
}

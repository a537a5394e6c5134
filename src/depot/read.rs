//! Reads a store: the versions of its tags, and an image as a [`Store`] like any other.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::{Annotations, Descriptor, Digest, ImageIndex, RawDocument, Tag, keys, limits, media_type};
use crate::registry::BucketError;
use crate::store::layout::check_version;
use crate::store::{RemoteBlobs, Store, StoreError, open_remote};

use super::timing::Timing;
use super::version::{FOLDER, PushTime, Version};
use super::{DepotError, Objects};

/// The file that makes a folder a layout.
pub(super) const VERSION_FILE: &str = "oci-layout";
/// The file that other tools read: the newest version of each tag.
pub(super) const INDEX_FILE: &str = "index.json";
/// Most tags that a message names.
const NAMED: usize = 100;

/// A store.
#[derive(Debug)]
pub struct Depot {
    pub(super) objects: Arc<dyn Objects>,
    pub(super) timing: Timing,
}

/// An image of a store, opened.
#[derive(Debug)]
pub struct OpenedImage {
    /// The image, with what belongs to it.
    pub store: Store,
    /// The version, if the image was found by its tag.
    pub version: Option<Version>,
}

/// Returns the key of a blob.
pub(super) fn blob_key(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

impl Depot {
    pub(super) fn over(objects: Arc<dyn Objects>) -> Self {
        Self { objects, timing: Timing::default() }
    }

    /// Opens a store for reading.
    ///
    /// Errors: [`DepotError::NotAStore`] if there is none.
    pub fn open(objects: Arc<dyn Objects>) -> Result<Self, DepotError> {
        let depot = Self::over(objects);
        match depot.version_file()? {
            true => Ok(depot),
            false => Err(depot.not_a_store(format!("it has no `{VERSION_FILE}`"))),
        }
    }

    /// Opens a store for reading; `None` if nothing was pushed yet.
    pub fn find(objects: Arc<dyn Objects>) -> Result<Option<Self>, DepotError> {
        let depot = Self::over(objects);
        Ok(depot.version_file()?.then_some(depot))
    }

    /// Tells whether there is a store; an unknown version is an error.
    pub(super) fn version_file(&self) -> Result<bool, DepotError> {
        let Some(bytes) = self.objects.read(VERSION_FILE, limits::OCI_LAYOUT_BYTES)? else {
            return Ok(false);
        };
        check_version(&bytes).map_err(|problem| self.not_a_store(problem))?;
        Ok(true)
    }

    pub(super) fn not_a_store(&self, found: String) -> DepotError {
        DepotError::NotAStore { place: self.label(), found }
    }

    /// Returns the store's URL.
    #[must_use]
    pub fn label(&self) -> String {
        self.objects.label()
    }

    /// Returns the newest version of a tag.
    ///
    /// Cost: one list of one key.
    pub fn newest(&self, tag: &Tag) -> Result<Option<Version>, DepotError> {
        if !self.objects.has_lists() {
            return Ok(self.indexed()?.into_iter().find(|version| version.tag == *tag));
        }
        let mut newest = None;
        self.objects.list(&format!("{FOLDER}/{tag}"), 1, &mut |name| {
            newest = Version::of_name(tag, name);
            if newest.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(newest)
    }

    /// Returns the newest version of every tag, as `index.json` names their entries; none in a layout of another tool.
    fn indexed(&self) -> Result<Vec<Version>, DepotError> {
        let Some(bytes) = self.objects.read(INDEX_FILE, limits::TABLE_OF_CONTENTS_BYTES)? else {
            return Ok(Vec::new());
        };
        let Ok(index) = RawDocument::parse(bytes, Some(media_type::OCI_INDEX)) else { return Ok(Vec::new()) };
        let mut versions: Vec<Version> = Vec::new();
        for descriptor in entries_of(&index) {
            let key = descriptor.annotations.get(keys::ENTRY);
            let key = key.and_then(|key| key.strip_prefix(FOLDER)?.strip_prefix('/'));
            versions.extend(key.and_then(Version::of_key).filter(|version| !versions.contains(version)));
        }
        Ok(versions)
    }

    /// Returns the versions of a tag, newest first, to the one that `is_last` accepts, or all.
    ///
    /// Cost: one list, a page of up to 1,000 keys for each request.
    pub fn history(&self, tag: &Tag, is_last: &dyn Fn(&Version) -> bool) -> Result<Vec<Version>, DepotError> {
        if !self.objects.has_lists() {
            return Ok(self.newest(tag)?.into_iter().collect());
        }
        let mut versions = Vec::new();
        self.objects.list(&format!("{FOLDER}/{tag}"), limits::LIST_ENTRIES, &mut |name| {
            let Some(version) = Version::of_name(tag, name) else { return ControlFlow::Continue(()) };
            let over = is_last(&version);
            versions.push(version);
            if over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(versions)
    }

    /// Returns the tags, in order.
    pub fn tags(&self) -> Result<Vec<Tag>, DepotError> {
        Ok(self.objects.folders(FOLDER)?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Returns the newest version of every tag, in the order of the tags.
    pub fn newest_of_all(&self) -> Result<Vec<Version>, DepotError> {
        if !self.objects.has_lists() {
            return self.indexed();
        }
        let mut newest: BTreeMap<String, Version> = BTreeMap::new();
        self.objects.list(FOLDER, limits::LIST_ENTRIES, &mut |key| {
            if let Some(version) = Version::of_key(key) {
                newest.entry(version.tag.to_string()).or_insert(version);
            }
            ControlFlow::Continue(())
        })?;
        Ok(newest.into_values().collect())
    }

    /// Reads the entry of a version; `None` if it was removed.
    ///
    /// Errors: an entry that is not valid, or whose first image is not the one that its key names.
    pub fn entry(&self, version: &Version) -> Result<Option<RawDocument>, DepotError> {
        let key = version.key();
        let Some(bytes) = self.objects.read(&key, limits::ENTRY_BYTES)? else { return Ok(None) };
        read_entry(&self.label(), version, bytes).map(Some)
    }

    /// Opens the image that a tag, a digest or both name; without either, the newest version of every tag.
    ///
    /// Errors: [`DepotError::NoTag`], [`DepotError::NoVersion`]; those of [`open_remote`].
    pub fn open_image(&self, tag: Option<&Tag>, digest: Option<&Digest>) -> Result<OpenedImage, DepotError> {
        match (tag, digest) {
            (Some(tag), None) => match self.newest(tag)? {
                Some(version) => self.open_version(version),
                None => self.open_of_index(Some(tag)),
            },
            (Some(tag), Some(digest)) => {
                let is_it = |version: &Version| version.digest == *digest;
                let found = self.history(tag, &is_it)?.into_iter().next_back().filter(is_it);
                match found {
                    Some(version) => self.open_version(version),
                    None if !self.objects.has_lists() => self.open_digest(digest),
                    None => Err(self.no_version(tag, digest)),
                }
            }
            (None, Some(digest)) => self.open_digest(digest),
            (None, None) => {
                let newest = self.newest_of_all()?;
                if newest.is_empty() {
                    return self.open_of_index(None);
                }
                let index = index_of(self.manifests_of(&newest)?, Annotations::new());
                let store = self.open_store(&self.label(), quoted(&self.label()), index.bytes(), FOLDER)?;
                Ok(OpenedImage { store, version: None })
            }
        }
    }

    /// Returns what versions list, in their order.
    ///
    /// Signatures of one image have one tag, and each version of the image lists those that it was pushed with: the newest
    /// version says what the tag points at.
    fn manifests_of(&self, versions: &[Version]) -> Result<Vec<Descriptor>, DepotError> {
        let mut listed = Vec::new();
        for version in versions {
            let entry = self.entry(version)?;
            listed.extend(entry.iter().flat_map(entries_of).map(|descriptor| (version.pushed, descriptor)));
        }
        let tag_of = |descriptor: &Descriptor| descriptor.annotations.get(keys::REF_NAME).cloned();
        let mut newest: BTreeMap<String, (PushTime, Digest)> = BTreeMap::new();
        for (pushed, descriptor) in &listed {
            let Some(tag) = tag_of(descriptor) else { continue };
            let digest = descriptor.digest.clone();
            let known = newest.entry(tag).or_insert_with(|| (*pushed, digest.clone()));
            if known.0 < *pushed {
                *known = (*pushed, digest);
            }
        }
        let is_now = |descriptor: &Descriptor| {
            let known = tag_of(descriptor).and_then(|tag| newest.get(&tag));
            known.is_none_or(|(_, digest)| *digest == descriptor.digest)
        };
        Ok(listed.into_iter().map(|(_, descriptor)| descriptor).filter(is_now).collect())
    }

    /// Opens one version.
    ///
    /// Errors: [`DepotError::NoVersion`] if its entry was removed.
    pub fn open_version(&self, version: Version) -> Result<OpenedImage, DepotError> {
        let entry = self.entry(&version)?.ok_or_else(|| self.no_version(&version.tag, &version.digest))?;
        let place = format!("{}:{}", self.label(), version.tag);
        let shown = format!("`{place}`, pushed at {},", version.pushed);
        let store = self.open_store(&place, shown, entry.bytes(), &version.key())?;
        Ok(OpenedImage { store, version: Some(version) })
    }

    fn no_version(&self, tag: &Tag, digest: &Digest) -> DepotError {
        DepotError::NoVersion { place: self.label(), tag: tag.clone(), digest: digest.clone() }
    }

    /// Opens the manifest or index with a digest, also one that never had a tag.
    fn open_digest(&self, digest: &Digest) -> Result<OpenedImage, DepotError> {
        let place = format!("{}@{digest}", self.label());
        let path = || PathBuf::from(&place);
        let key = blob_key(digest);
        let Some(bytes) = self.objects.read(&key, limits::DOCUMENT_BYTES)? else {
            return Err(
                StoreError::Gone { place: format!("`{}`", self.label()), digest: digest.clone() }.into()
            );
        };
        let document = RawDocument::parse(bytes, None)
            .map_err(|source| StoreError::Document { path: path(), source })?
            .known_as(digest);
        // The bytes are verified when the image is opened.
        let index = index_of(vec![document.descriptor()], Annotations::new());
        Ok(OpenedImage {
            store: self.open_store(&place, quoted(&place), index.bytes(), &key)?,
            version: None,
        })
    }

    /// Opens a layout that another tool wrote: it has no entries, so `index.json` lists its images.
    fn open_of_index(&self, tag: Option<&Tag>) -> Result<OpenedImage, DepotError> {
        let tags = self.tags()?;
        let bytes = match tags.is_empty() {
            true => self.objects.read(INDEX_FILE, limits::TABLE_OF_CONTENTS_BYTES)?,
            false => None,
        };
        let no_tag = |tag: &Tag, tags: Vec<String>| {
            let mut tags = tags;
            tags.truncate(NAMED);
            DepotError::NoTag { place: self.label(), tag: tag.clone(), tags }
        };
        let Some(bytes) = bytes else {
            return Err(match tag {
                Some(tag) => no_tag(tag, tags.iter().map(ToString::to_string).collect()),
                None => self.not_a_store(format!("it has neither `{FOLDER}/` nor `{INDEX_FILE}`")),
            });
        };
        let place = tag.map_or_else(|| self.label(), |tag| format!("{}:{tag}", self.label()));
        let mut store = self.open_store(&place, quoted(&place), &bytes, INDEX_FILE)?;
        if let Some(tag) = tag {
            let has = |root: &&crate::store::Root| {
                root.image.names.iter().any(|name| name.tag.as_ref() == Some(tag))
            };
            let Some(root) = store.roots().iter().find(has).cloned() else {
                let names = store.roots().iter().flat_map(|root| &root.image.names);
                let names = names.filter_map(|name| Some(name.tag.as_ref()?.to_string())).collect();
                return Err(no_tag(tag, names));
            };
            store.keep_only(root);
        }
        Ok(OpenedImage { store, version: None })
    }

    fn open_store(&self, place: &str, shown: String, index: &[u8], name: &str) -> Result<Store, DepotError> {
        let place = Path::new(place);
        Ok(open_remote(place, index, name, self.blobs_as(place, shown))?)
    }

    /// Returns all blobs, whether a tag leads to them or not.
    #[must_use]
    pub fn blobs(&self) -> Box<dyn RemoteBlobs> {
        self.blobs_as(Path::new(&self.label()), quoted(&self.label()))
    }

    fn blobs_as(&self, place: &Path, shown: String) -> Box<dyn RemoteBlobs> {
        Box::new(Blobs { objects: Arc::clone(&self.objects), place: place.to_owned(), shown })
    }
}

fn quoted(place: &str) -> String {
    format!("`{place}`")
}

/// Reads the entry of a version.
pub(super) fn read_entry(label: &str, version: &Version, bytes: Vec<u8>) -> Result<RawDocument, DepotError> {
    let damaged = |problem: String| {
        let (path, key) = (PathBuf::from(label), version.key());
        DepotError::from(StoreError::Damaged { path, problem: format!("`{key}` {problem}") })
    };
    let document = RawDocument::parse(bytes, Some(media_type::OCI_INDEX))
        .map_err(|error| damaged(format!("is not valid: {error}")))?;
    let first = document.index().and_then(|index| index.manifests.first());
    match first.map(|first| &first.digest) {
        Some(digest) if *digest == version.digest => Ok(document),
        Some(digest) => Err(damaged(format!("lists `{digest}` first"))),
        None => Err(damaged("lists no image".to_owned())),
    }
}

/// Returns the images that an entry lists.
pub(super) fn entries_of(entry: &RawDocument) -> Vec<Descriptor> {
    entry.index().map(|index| index.manifests.clone()).unwrap_or_default()
}

/// Makes an index in the form of `index.json`.
pub(super) fn index_of(manifests: Vec<Descriptor>, annotations: Annotations) -> RawDocument {
    RawDocument::of_index(ImageIndex {
        schema_version: 2,
        media_type: Some(media_type::OCI_INDEX.to_owned()),
        artifact_type: None,
        manifests,
        subject: None,
        annotations,
    })
}

/// The blobs of a store.
#[derive(Debug)]
struct Blobs {
    objects: Arc<dyn Objects>,
    /// The name of the image in messages.
    place: PathBuf,
    /// The same in quotes, with the time of its push.
    shown: String,
}

impl Blobs {
    fn error(&self, error: DepotError) -> StoreError {
        match error {
            DepotError::Store(error) => error,
            DepotError::File(error) => StoreError::File(error),
            other => {
                let is_unreachable = matches!(&other, DepotError::Bucket(BucketError::Unreachable { .. }));
                let (path, problem) = (self.place.clone(), other.to_string());
                StoreError::Remote { path, problem, is_unreachable }
            }
        }
    }
}

impl RemoteBlobs for Blobs {
    fn open(&self, digest: &Digest, _: u64, from: u64) -> Result<Box<dyn Read + Send + '_>, StoreError> {
        let found = self.objects.open(&blob_key(digest), from).map_err(|error| self.error(error))?;
        found.ok_or_else(|| StoreError::Gone { place: self.shown.clone(), digest: digest.clone() })
    }

    fn has(&self, digest: &Digest, _: u64) -> Result<bool, StoreError> {
        Ok(self.objects.size(&blob_key(digest)).map_err(|error| self.error(error))?.is_some())
    }
}

//! Writes a store: blobs, then entries, then the index that other tools read. Only that index is ever replaced.
//!
//! If the process ends at any point, the next push finds the blobs, and rebuilds an index that is older than the
//! entries. Two writers of one tag make two versions.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use crate::model::{Annotations, Descriptor, RawDocument, Tag, keys, limits, media_type};
use crate::registry::BlobBody;
use crate::stream::VerifyingReader;

use super::read::{Depot, INDEX_FILE, VERSION_FILE, blob_key, entries_of, index_of};
use super::version::Version;
use super::{DepotError, Objects};

const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// How often the index is derived again because other writers added entries; those writers derive it too.
const DERIVATIONS: usize = 5;
/// Names in a layout of another tool to which entries can be added.
const OF_A_LAYOUT: [&str; 2] = ["blobs", INDEX_FILE];

/// The result of writing an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrittenEntry {
    /// It is a new version.
    New,
    /// The newest version of the tag has the same content.
    AsBefore,
}

impl Depot {
    /// Opens a store for writing; creates one in an empty place.
    ///
    /// Errors: [`DepotError::NotAStore`] if the place holds something else.
    pub fn create(objects: Arc<dyn Objects>) -> Result<Self, DepotError> {
        let depot = Self::over(objects);
        if !depot.objects.has_lists() {
            return Err(DepotError::ReadOnly { place: depot.label() });
        }
        if depot.version_file()? {
            return Ok(depot);
        }
        if let Some(name) = depot.objects.any()?.filter(|name| !OF_A_LAYOUT.contains(&name.as_str()))
            // Another writer may have begun the store meanwhile.
            && !depot.version_file()?
        {
            return Err(depot.not_a_store(format!("it has no `{VERSION_FILE}`, but it holds `{name}`")));
        }
        depot.objects.write(VERSION_FILE, OCI_LAYOUT)?;
        Ok(depot)
    }

    /// Tells whether a blob of the right size is there; its bytes are not read.
    pub fn holds(&self, blob: &Descriptor) -> Result<bool, DepotError> {
        Ok(self.objects.size(&blob_key(&blob.digest))? == Some(blob.size))
    }

    /// Writes a blob.
    pub fn write_blob(
        &self,
        blob: &Descriptor,
        body: &dyn BlobBody,
        progress: &dyn Fn(u64),
    ) -> Result<(), DepotError> {
        self.objects.write_blob(&blob_key(&blob.digest), blob, body, progress)
    }

    /// Writes a manifest or index.
    pub fn write_document(&self, document: &RawDocument) -> Result<(), DepotError> {
        self.objects.write(&blob_key(document.digest()), document.bytes())
    }

    /// Reads what was written, and compares its digest.
    ///
    /// Errors: [`DepotError::WrittenWrong`], after the object was deleted, so that a later push does not find it.
    pub fn read_back(&self, blob: &Descriptor) -> Result<(), DepotError> {
        let key = blob_key(&blob.digest);
        let problem = match self.objects.open(&key, 0)? {
            None => "it is not there".to_owned(),
            Some(reader) => {
                let mut reader = VerifyingReader::new(reader, blob.digest.clone(), blob.size);
                match io::copy(&mut reader, &mut io::sink()) {
                    Ok(_) => return Ok(()),
                    Err(error) => error.to_string(),
                }
            }
        };
        let deleted = self.objects.delete(&key).is_ok();
        Err(DepotError::WrittenWrong { place: self.label(), key, problem, deleted })
    }

    /// Makes a tag point at the first of some images; the others belong to it.
    ///
    /// Everything that they refer to has to be there. If the newest version has the same images, nothing is written.
    pub fn write_entry(
        &self,
        tag: &Tag,
        root: &Descriptor,
        images: &[Descriptor],
    ) -> Result<(Version, WrittenEntry), DepotError> {
        let newest = self.newest(tag)?;
        if let Some(newest) = newest.as_ref().filter(|newest| newest.digest == root.digest)
            && self.entry(newest)?.is_some_and(|entry| entries_of(&entry) == images)
        {
            return Ok((newest.clone(), WrittenEntry::AsBefore));
        }
        let now = self.objects.now()?;
        let pushed = newest.map_or(now, |newest| newest.pushed.next().max(now));
        let version = Version { tag: tag.clone(), digest: root.digest.clone(), pushed };
        let created = Annotations::from([(keys::CREATED.to_owned(), pushed.to_string())]);
        self.objects.write(&version.key(), index_of(images.to_vec(), created).bytes())?;
        Ok((version, WrittenEntry::New))
    }

    /// Derives `index.json` from the newest entries.
    ///
    /// The writer of an entry lists the entries again after it wrote the index, so the last of several writers finds
    /// all entries.
    pub fn write_index(&self) -> Result<(), DepotError> {
        let mut newest = self.newest_of_all()?;
        for _ in 0..DERIVATIONS {
            let old = self.objects.read(INDEX_FILE, limits::TABLE_OF_CONTENTS_BYTES)?;
            let known = old.as_deref().map(by_entry).unwrap_or_default();
            let mut manifests = Vec::new();
            for version in &newest {
                let key = version.key();
                match known.get(&key) {
                    Some(known) => manifests.extend(known.iter().cloned()),
                    None => manifests.extend(self.entry(version)?.iter().flat_map(entries_of).map(
                        |mut descriptor| {
                            descriptor.annotations.insert(keys::ENTRY.to_owned(), key.clone());
                            descriptor
                        },
                    )),
                }
            }
            let index = index_of(manifests, Annotations::new());
            if old.as_deref() == Some(index.bytes()) {
                return Ok(());
            }
            self.objects.write(INDEX_FILE, index.bytes())?;
            let now = self.newest_of_all()?;
            if now == newest {
                return Ok(());
            }
            newest = now;
        }
        Ok(())
    }
}

/// Groups the images of an index by their entries; an index that cannot be read gives no groups, so all entries are
/// read.
fn by_entry(index: &[u8]) -> HashMap<String, Vec<Descriptor>> {
    let mut known: HashMap<String, Vec<Descriptor>> = HashMap::new();
    let Ok(document) = RawDocument::parse(index, Some(media_type::OCI_INDEX)) else { return known };
    for descriptor in entries_of(&document) {
        if let Some(key) = descriptor.annotations.get(keys::ENTRY) {
            known.entry(key.clone()).or_default().push(descriptor);
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::ops::ControlFlow;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use testkit::scratch::Scratch;

    use super::super::{FolderObjects, PushTime};
    use super::*;
    use crate::model::{Digest, ImageManifest};

    /// A folder whose writes fail after a number of successes, as if the process had ended there.
    #[derive(Debug)]
    struct Crashing {
        folder: FolderObjects,
        left: AtomicUsize,
        /// Another writer begins the store after this one found none.
        has_rival: bool,
    }

    impl Crashing {
        fn write(&self) -> Result<(), DepotError> {
            match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) {
                Ok(_) => Ok(()),
                Err(_) => Err(DepotError::Source(io::Error::other("crashed"))),
            }
        }
    }

    impl Objects for Crashing {
        fn label(&self) -> String {
            self.folder.label()
        }
        fn read(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>, DepotError> {
            self.folder.read(key, limit)
        }
        fn open(&self, key: &str, from: u64) -> Result<Option<Box<dyn Read + Send + '_>>, DepotError> {
            self.folder.open(key, from)
        }
        fn size(&self, key: &str) -> Result<Option<u64>, DepotError> {
            self.folder.size(key)
        }
        fn write(&self, key: &str, bytes: &[u8]) -> Result<(), DepotError> {
            Self::write(self).and_then(|()| self.folder.write(key, bytes))
        }
        fn write_blob(
            &self,
            key: &str,
            blob: &Descriptor,
            body: &dyn BlobBody,
            progress: &dyn Fn(u64),
        ) -> Result<(), DepotError> {
            Self::write(self).and_then(|()| self.folder.write_blob(key, blob, body, progress))
        }
        fn delete(&self, key: &str) -> Result<(), DepotError> {
            Self::write(self).and_then(|()| self.folder.delete(key))
        }
        fn delay(&self) -> std::time::Duration {
            self.folder.delay()
        }
        fn list(
            &self,
            folder: &str,
            expected: usize,
            take: &mut dyn FnMut(&str) -> ControlFlow<()>,
        ) -> Result<(), DepotError> {
            self.folder.list(folder, expected, take)
        }
        fn folders(&self, folder: &str) -> Result<Vec<String>, DepotError> {
            self.folder.folders(folder)
        }
        fn any(&self) -> Result<Option<String>, DepotError> {
            if self.has_rival {
                self.folder.write(VERSION_FILE, OCI_LAYOUT)?;
            }
            self.folder.any()
        }
        fn now(&self) -> Result<PushTime, DepotError> {
            self.folder.now()
        }
    }

    /// An image of two blobs.
    struct Image {
        blobs: [(Descriptor, Vec<u8>); 2],
        manifest: RawDocument,
    }

    fn image(content: &str) -> Image {
        let config = format!(r#"{{"architecture":"amd64","os":"linux","comment":"{content}"}}"#).into_bytes();
        let layer = content.as_bytes().to_vec();
        let config = (Descriptor::of_bytes(media_type::OCI_CONFIG, &config), config);
        let layer = (Descriptor::of_bytes(media_type::OCI_LAYER, &layer), layer);
        let manifest = RawDocument::of_manifest(ImageManifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            artifact_type: None,
            config: config.0.clone(),
            layers: vec![layer.0.clone()],
            subject: None,
            annotations: Annotations::new(),
        });
        Image { blobs: [config, layer], manifest }
    }

    fn push(folder: &Scratch, writes: usize, image: &Image, tags: &[&str]) -> Result<(), DepotError> {
        let folder = FolderObjects::new(folder.join("store"));
        let depot =
            Depot::create(Arc::new(Crashing { folder, left: AtomicUsize::new(writes), has_rival: false }))?;
        for (blob, bytes) in &image.blobs {
            if !depot.holds(blob)? {
                depot.write_blob(blob, bytes, &|_| {})?;
            }
        }
        let root = image.manifest.descriptor();
        if !depot.holds(&root)? {
            depot.write_document(&image.manifest)?;
        }
        for tag in tags {
            let tag: Tag = tag.parse().unwrap();
            let annotations = Annotations::from([(keys::REF_NAME.to_owned(), tag.to_string())]);
            let named = Descriptor { annotations, ..root.clone() };
            depot.write_entry(&tag, &root, &[named])?;
        }
        depot.write_index()
    }

    fn open(folder: &Scratch) -> Option<Depot> {
        Depot::open(Arc::new(FolderObjects::new(folder.join("store")))).ok()
    }

    /// Returns the digests of a tag's versions, newest first, after each was read in full.
    fn versions(depot: &Depot, tag: &str) -> Vec<Digest> {
        let history = depot.history(&tag.parse().unwrap(), &|_| false).unwrap();
        for version in &history {
            let opened = depot.open_version(version.clone()).unwrap();
            for digest in opened.store.blobs() {
                let mut bytes = Vec::new();
                opened.store.open_unverified(&digest).unwrap().read_to_end(&mut bytes).unwrap();
                assert!(digest.matches(&bytes), "{digest}");
            }
        }
        history.into_iter().map(|version| version.digest).collect()
    }

    #[test]
    fn after_a_crash_before_any_write_every_version_is_whole_and_the_next_push_completes_it() {
        let [one, two] = ["one", "two"].map(image);
        let digest = |image: &Image| image.manifest.digest().clone();
        for writes in 0.. {
            let folder = Scratch::new("depot");
            push(&folder, usize::MAX, &one, &["a"]).unwrap();
            let crashed = push(&folder, writes, &two, &["a", "b"]).is_err();
            let depot = open(&folder).unwrap();
            let (a, b) = (versions(&depot, "a"), versions(&depot, "b"));
            assert!([vec![digest(&one)], vec![digest(&two), digest(&one)]].contains(&a), "{writes}: {a:?}");
            assert!([vec![], vec![digest(&two)]].contains(&b), "{writes}: {b:?}");
            let index = crate::store::open(&folder.join("store"), &std::env::temp_dir()).unwrap();
            assert!(
                index.roots().iter().all(|root| index.blob_size(&root.image.descriptor.digest).is_some())
            );
            // A second push makes no new version of a tag that was complete.
            push(&folder, usize::MAX, &two, &["a", "b"]).unwrap();
            assert_eq!(versions(&depot, "a"), [digest(&two), digest(&one)], "{writes}");
            assert_eq!(versions(&depot, "b"), [digest(&two)], "{writes}");
            let index = crate::store::open(&folder.join("store"), &std::env::temp_dir()).unwrap();
            let names = |root: &crate::store::Root| root.image.names.len();
            assert_eq!(index.roots().iter().map(names).collect::<Vec<_>>(), [2], "{writes}");
            if !crashed {
                assert_eq!(writes, 6, "blobs, manifest, two entries, index");
                return;
            }
        }
    }

    #[test]
    fn the_first_push_may_crash_before_there_is_a_store() {
        let image = image("one");
        for writes in 0..6 {
            let folder = Scratch::new("depot");
            assert!(push(&folder, writes, &image, &["a"]).is_err(), "{writes}");
            let found = open(&folder).map(|depot| versions(&depot, "a"));
            let (none, whole) = (Vec::new(), vec![image.manifest.digest().clone()]);
            assert!(
                found.as_ref().is_none_or(|found| *found == none || *found == whole),
                "{writes}: {found:?}"
            );
            push(&folder, usize::MAX, &image, &["a"]).unwrap();
            assert_eq!(versions(&open(&folder).unwrap(), "a"), whole);
        }
    }

    #[test]
    fn two_writers_may_begin_a_store_at_once_but_a_place_with_other_files_is_refused() {
        let begin = |scratch: &Scratch, has_rival| {
            let folder = FolderObjects::new(scratch.join("store"));
            Depot::create(Arc::new(Crashing { folder, left: AtomicUsize::new(usize::MAX), has_rival }))
        };
        let _ = begin(&Scratch::new("depot"), true).unwrap();
        let other = Scratch::new("depot");
        other.write("store/notes", "");
        let error = begin(&other, false).unwrap_err().to_string();
        assert!(error.contains("it has no `oci-layout`, but it holds `notes`"), "{error}");
    }

    #[test]
    fn an_index_that_names_other_entries_is_derived_again() {
        let [one, two] = ["one", "two"].map(image);
        let folder = Scratch::new("depot");
        push(&folder, usize::MAX, &one, &["a"]).unwrap();
        push(&folder, usize::MAX, &two, &["b"]).unwrap();
        let right = std::fs::read(folder.join("store/index.json")).unwrap();
        let other = r#"{"schemaVersion":2,"manifests":[]}"#;
        for wrong in [b"not JSON".as_slice(), b"", other.as_bytes()] {
            std::fs::write(folder.join("store/index.json"), wrong).unwrap();
            push(&folder, usize::MAX, &two, &["b"]).unwrap();
            assert_eq!(std::fs::read(folder.join("store/index.json")).unwrap(), right);
        }
    }
}

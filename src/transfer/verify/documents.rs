//! The first half of a check: reads manifests, indexes and configurations, and lists the blobs to check.

use std::collections::{BTreeMap, HashSet, VecDeque};

use crate::model::{Config, Descriptor, Digest, Document, ImageManifest, RawDocument, limits, media_type};
use crate::store::{Remark, Store, StoreKind};
use crate::stream::{TooLarge, read_bounded};

use super::super::TransferError;
use super::super::events::{Event, Observer};
use super::super::sparse::{self, lacking};
use super::facts::Facts;
use super::report::{Fault, Problem};

/// What documents say about a blob.
#[derive(Debug)]
pub(super) struct Seen {
    media_type: String,
    referred_by: Vec<String>,
}

/// A blob to hash, with the expected results.
#[derive(Debug)]
pub(super) struct BlobTask {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) media_type: String,
    /// Expected `diff_ids`, each with the configuration that has it.
    pub(super) diff_ids: Vec<(Digest, Digest)>,
    pub(super) referred_by: Vec<String>,
}

impl BlobTask {
    /// Makes the task for an unreferenced blob: only its digest can be wrong.
    pub(super) fn unreferenced(store: &Store, digest: &Digest) -> Self {
        Self {
            digest: digest.clone(),
            size: store.blob_size(digest).unwrap_or_default(),
            media_type: String::new(),
            diff_ids: Vec::new(),
            referred_by: Vec::new(),
        }
    }
}

pub(super) struct Walk<'a> {
    store: &'a Store,
    observer: &'a dyn Observer,
    pub(super) seen: BTreeMap<Digest, Seen>,
    pub(super) problems: Vec<Problem>,
    pub(super) tasks: Vec<BlobTask>,
    /// Non-distributable layers that are left out.
    pub(super) absent: Vec<Digest>,
    /// Platforms of images that are absent while others of their index are there.
    pub(super) sparse: Vec<String>,
    pub(super) documents: u64,
    pub(super) bytes: u64,
    queue: VecDeque<(Descriptor, usize)>,
    layers: BTreeMap<Digest, Vec<(Digest, Digest)>>,
    /// Blobs to hash, in the order they were met.
    blobs: Vec<Digest>,
    configs: BTreeMap<Digest, Option<Config>>,
    pub(super) facts: Facts,
}

impl<'a> Walk<'a> {
    pub(super) fn new(store: &'a Store, observer: &'a dyn Observer) -> Self {
        Self {
            store,
            observer,
            seen: BTreeMap::new(),
            problems: Vec::new(),
            tasks: Vec::new(),
            absent: Vec::new(),
            sparse: Vec::new(),
            documents: 0,
            bytes: 0,
            queue: VecDeque::new(),
            layers: BTreeMap::new(),
            blobs: Vec::new(),
            configs: BTreeMap::new(),
            facts: Facts::default(),
        }
    }

    /// Reads everything below the roots.
    ///
    /// Errors: the failure of a server.
    pub(super) fn run(&mut self) -> Result<(), TransferError> {
        let table = match self.store.kind() {
            StoreKind::OciLayoutTar | StoreKind::OciLayoutDirectory => "index.json",
            StoreKind::DockerArchive | StoreKind::ImgpkgTar => "manifest.json",
            StoreKind::Remote => "the entry of the tag",
        };
        for root in self.store.roots() {
            self.document(&root.image.descriptor, table, 1);
        }
        for remark in self.store.remarks() {
            if let Remark::Contradiction { digest, text } = remark {
                self.report(digest, Fault::Contradiction { reason: text.clone() }, table);
            }
            // Its type is unknown, but its digest can be checked.
            if let Remark::ForeignRoot(descriptor) = remark
                && self.store.blob_size(&descriptor.digest).is_some()
            {
                self.blob(descriptor, table);
            }
        }
        while let Some((descriptor, depth)) = self.queue.pop_front() {
            self.read_document(&descriptor, depth)?;
        }
        self.facts.compare(self.store);
        self.problems.append(&mut self.facts.problems);
        for digest in std::mem::take(&mut self.blobs) {
            let (Some(seen), Some(size)) = (self.seen.get(&digest), self.store.blob_size(&digest)) else {
                continue;
            };
            let diff_ids = self.layers.remove(&digest).unwrap_or_default();
            let (media_type, referred_by) = (seen.media_type.clone(), seen.referred_by.clone());
            self.tasks.push(BlobTask { digest, size, media_type, diff_ids, referred_by });
        }
        // The list of documents that refer to a blob is complete only now.
        for problem in &mut self.problems {
            if let Some(seen) = self.seen.get(&problem.blob)
                && (problem.referred_by.is_empty() || problem.fault == Fault::Missing)
            {
                problem.referred_by.clone_from(&seen.referred_by);
            }
        }
        Ok(())
    }

    fn report(&mut self, blob: &Digest, fault: Fault, referrer: &str) {
        let referred_by = if referrer.is_empty() { Vec::new() } else { vec![referrer.to_owned()] };
        self.problems.push(Problem { blob: blob.clone(), fault, referred_by });
    }

    /// Records a reference; returns `true` if the blob is new and present, so that it has to be checked.
    fn refer(&mut self, descriptor: &Descriptor, referrer: &str) -> bool {
        let digest = &descriptor.digest;
        let stored = self.store.blob_size(digest);
        if let Some(found) = stored
            && found != descriptor.size
        {
            self.report(digest, Fault::Size { expected: descriptor.size, found }, referrer);
        }
        if let Some(seen) = self.seen.get_mut(digest) {
            if !seen.referred_by.iter().any(|known| known == referrer) {
                seen.referred_by.push(referrer.to_owned());
            }
            if seen.media_type != descriptor.media_type {
                let (expected, found) = (seen.media_type.clone(), descriptor.media_type.clone());
                self.report(digest, Fault::TypeConflict { expected, found }, referrer);
            }
            return false;
        }
        let seen = Seen { media_type: descriptor.media_type.clone(), referred_by: vec![referrer.to_owned()] };
        self.seen.insert(digest.clone(), seen);
        if stored.is_some() {
            return true;
        }
        if descriptor.is_non_distributable() {
            self.absent.push(digest.clone());
        } else {
            self.report(digest, Fault::Missing, referrer);
        }
        false
    }

    fn document(&mut self, descriptor: &Descriptor, referrer: &str, depth: usize) {
        if !self.refer(descriptor, referrer) {
            return;
        }
        if depth > limits::NESTING {
            let reason =
                format!("it is nested {depth} levels deep, at most {} are accepted", limits::NESTING);
            self.report(&descriptor.digest, Fault::Limit { reason }, referrer);
        } else if self.seen.len() > limits::DOCUMENTS {
            let reason = format!("more than {} blobs are reachable", limits::DOCUMENTS);
            self.report(&descriptor.digest, Fault::Limit { reason }, referrer);
        } else {
            self.queue.push_back((descriptor.clone(), depth));
        }
    }

    fn blob(&mut self, descriptor: &Descriptor, referrer: &str) {
        if self.refer(descriptor, referrer) {
            self.blobs.push(descriptor.digest.clone());
        }
    }

    /// Reads a whole document and verifies its digest.
    fn read(&mut self, digest: &Digest, limit: u64) -> Result<Option<Vec<u8>>, TransferError> {
        let reader = match self.store.open_unverified(digest) {
            Ok(reader) => reader,
            Err(error) => {
                let reason = TransferError::raise_server_of(error)?.to_string();
                self.report(digest, Fault::Unreadable { reason }, "");
                return Ok(None);
            }
        };
        let bytes = match read_bounded(reader, limit) {
            Ok(bytes) => bytes,
            Err(TooLarge::Limit { limit }) => {
                let reason = format!("the document has more than {limit} bytes, which is not accepted");
                self.report(digest, Fault::Limit { reason }, "");
                return Ok(None);
            }
            Err(TooLarge::Io(error)) => {
                let reason = TransferError::raise_server(error)?.to_string();
                self.report(digest, Fault::Unreadable { reason }, "");
                return Ok(None);
            }
        };
        let size = bytes.len() as u64;
        self.documents += 1;
        self.bytes += size;
        self.observer.event(Event::Verified { bytes: size });
        let mut hasher = digest.algorithm().hasher();
        hasher.update(&bytes);
        let found = hasher.finish();
        if found != *digest {
            self.report(digest, Fault::Digest { found, size }, "");
            return Ok(None);
        }
        Ok(Some(bytes))
    }

    fn read_document(&mut self, descriptor: &Descriptor, depth: usize) -> Result<(), TransferError> {
        let digest = &descriptor.digest;
        let Some(bytes) = self.read(digest, limits::DOCUMENT_BYTES)? else { return Ok(()) };
        let raw = match RawDocument::parse(bytes, Some(&descriptor.media_type)) {
            Ok(raw) => raw,
            Err(error) => {
                self.report(digest, Fault::Document { reason: error.to_string() }, "");
                return Ok(());
            }
        };
        self.facts.document(&raw);
        let referrer = digest.to_string();
        match raw.document() {
            Document::Index(index) => {
                let lacking = lacking(self.store, index);
                self.sparse.extend(lacking.iter().map(|child| sparse::name(child)));
                let lacking: HashSet<&Digest> = lacking.iter().map(|child| &child.digest).collect();
                for child in index.manifests.iter().filter(|child| !lacking.contains(&child.digest)) {
                    if child.is_index() || child.is_manifest() {
                        self.document(child, &referrer, depth + 1);
                    } else {
                        self.blob(child, &referrer);
                    }
                }
            }
            Document::Manifest(manifest) => self.manifest(manifest, &referrer)?,
        }
        // image-spec manifest.md: a subject need not be there.
        if let Some(subject) = raw.document().subject()
            && self.store.blob_size(&subject.digest).is_some()
            && (subject.is_index() || subject.is_manifest())
        {
            self.document(subject, &referrer, depth + 1);
        }
        Ok(())
    }

    fn manifest(&mut self, manifest: &ImageManifest, referrer: &str) -> Result<(), TransferError> {
        let is_image = media_type::is_image_config(&manifest.config.media_type);
        if !is_image {
            self.blob(&manifest.config, referrer);
        } else if self.refer(&manifest.config, referrer) {
            let config = self.config(&manifest.config.digest)?;
            self.configs.insert(manifest.config.digest.clone(), config);
        }
        for layer in &manifest.layers {
            self.blob(layer, referrer);
        }
        // Signatures and attestations have an image's configuration but no file system.
        if !is_image || !manifest.layers.iter().all(|layer| media_type::is_layer(&layer.media_type)) {
            return Ok(());
        }
        let Some(Some(config)) = self.configs.get(&manifest.config.digest) else { return Ok(()) };
        let diff_ids = config.rootfs.diff_ids.clone();
        if diff_ids.len() != manifest.layers.len() {
            let fault = Fault::LayerCount { layers: manifest.layers.len(), diff_ids: diff_ids.len() };
            self.report(&manifest.config.digest, fault, referrer);
        }
        for (layer, diff_id) in manifest.layers.iter().zip(diff_ids) {
            let expected = self.layers.entry(layer.digest.clone()).or_default();
            if !expected.iter().any(|(known, _)| *known == diff_id) {
                expected.push((diff_id, manifest.config.digest.clone()));
            }
        }
        Ok(())
    }

    fn config(&mut self, digest: &Digest) -> Result<Option<Config>, TransferError> {
        let Some(bytes) = self.read(digest, limits::CONFIG_BYTES)? else { return Ok(None) };
        Ok(match Config::parse(&bytes) {
            Ok(config) if config.rootfs.kind == "layers" => {
                self.facts.config(digest, &bytes);
                Some(config)
            }
            Ok(config) => {
                let found = config.rootfs.kind.escape_debug().to_string();
                let reason = format!("configuration `{digest}` has rootfs type `{found}`, expected `layers`");
                self.report(digest, Fault::Document { reason }, "");
                None
            }
            Err(error) => {
                let reason = format!("configuration `{digest}` is not valid: {error}");
                self.report(digest, Fault::Document { reason }, "");
                None
            }
        })
    }
}

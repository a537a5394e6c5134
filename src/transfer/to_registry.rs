//! Pushes images into a repository in one order: blobs, documents with children first, tags.
//!
//! A push of packed files, a copy of plain images and a copy of a collection differ only in data ([`ImagePush`]): the
//! target of the first HEAD request, and the turns of documents and tags.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex};

use crate::model::{Descriptor, Digest, RawDocument, Repository, Tag, Target};
use crate::registry::{Client, TagState};
use crate::stream::lock;

use super::blob_push::{Known, check_held, push_blob};
use super::events::{BlobOutcome, Event, Observer, Warning};
use super::read_ahead::ThreadPermits;
use super::{Graph, ImageSource, TransferError, workers};

/// A request to push images.
#[derive(Clone, Debug)]
pub struct PushRequest {
    /// Repository at the registry.
    pub repository: Repository,
    /// Roots with the tags that each gets; a root without a tag is pushed by digest.
    pub roots: Vec<(Descriptor, Vec<Tag>)>,
    /// Manifests attached to the roots, with their tags: pushed after the roots, and before the roots get their tags.
    pub attached: Vec<(Descriptor, Vec<Tag>)>,
    /// Blobs that were just sent, or found in the repository; they get no HEAD request.
    pub sent: BTreeSet<Digest>,
    /// Blobs moved at the same time.
    pub concurrency: usize,
    /// Also push non-distributable layers.
    pub include_non_distributable: bool,
}

/// Pushes images and everything below them, those with a tag in the order given.
///
/// With attached manifests the images are pushed first, by digest, and get their tags last: an admission controller
/// that sees a tag finds the signatures, and no referrer is pushed before its image.
/// Order: as `RepositoryPush::run`. If the registry has an image already, only tags are written, and only those that
/// differ.
/// Errors: after one no tag has been written that did not have all its content.
/// Cost: one HEAD for each tag if every tag is right already.
pub fn push_to_registry(
    source: &dyn ImageSource,
    client: &Client,
    request: &PushRequest,
    observer: &dyn Observer,
) -> Result<(), TransferError> {
    let (roots, attached) = (request.roots.len(), request.attached.len());
    let mut images: Vec<ImagePush<'_>> = Vec::new();
    for (turn, root) in request.roots.iter().enumerate() {
        let first = (attached > 0).then(|| Target::Digest(root.0.digest.clone()));
        images.push(ImagePush { first, ..ImagePush::plain(source, root, turn, attached + turn) });
    }
    for (turn, one) in request.attached.iter().enumerate() {
        images.push(ImagePush::plain(source, one, roots + turn, turn));
    }
    let push = RepositoryPush {
        source,
        client,
        repository: &request.repository,
        sent: &request.sent,
        concurrency: request.concurrency,
        include_non_distributable: request.include_non_distributable,
        observer,
        permits: ThreadPermits::default(),
        written: Written::default(),
    };
    push.run(&images, &|_| Ok(())).map(drop)
}

/// An image to be pushed, and its place in the order.
pub(super) struct ImagePush<'a> {
    pub(super) descriptor: &'a Descriptor,
    /// Its name in warnings about its layers.
    pub(super) label: String,
    /// Its name in errors about its layers.
    pub(super) name: String,
    /// Its tags, written last.
    pub(super) tags: Vec<Tag>,
    /// The target of the first HEAD request, and of the document's PUT before the tags. `None`: the tags themselves, or
    /// the digest if there are none.
    pub(super) first: Option<Target>,
    /// A repository that may have its blobs, besides the one that the source names.
    pub(super) mount_from: Option<Repository>,
    /// Documents of a lower turn are pushed before those of a higher one; those of one turn in parallel.
    pub(super) document_turn: usize,
    /// The same for tags.
    pub(super) tag_turn: usize,
}

impl<'a> ImagePush<'a> {
    /// Makes an image whose first requests are for its tags, or for its digest if it has none.
    fn plain(
        source: &dyn ImageSource,
        (root, tags): &'a (Descriptor, Vec<Tag>),
        document_turn: usize,
        tag_turn: usize,
    ) -> Self {
        Self {
            descriptor: root,
            label: source.label(),
            name: root.digest.to_string(),
            tags: tags.clone(),
            first: None,
            mount_from: None,
            document_turn,
            tag_turn,
        }
    }
}

/// If there are many blobs, so many get a HEAD request first; if all are absent, the others likely are too.
const SAMPLE: usize = 8;
/// Largest blob, bytes, that is then sent without a HEAD request: sending it for nothing costs little more than the
/// request.
const SENT_UNASKED: u64 = 256 * 1024;

/// A tag that points at the image with this digest.
type RightTag<'a> = (&'a Digest, &'a Tag);

/// What the registry has already of an image.
struct Found<'a> {
    image: &'a ImagePush<'a>,
    present: bool,
    /// The tags that do not point at the image; `None` if no request was sent for them yet.
    wanting: Option<Vec<&'a Tag>>,
    /// Everything below the image; empty if the registry has the image.
    graph: Graph,
}

/// What the registry lacked before a push.
pub(super) struct Met {
    /// Images that were missing.
    pub(super) missing: usize,
    /// Non-distributable layers in them.
    pub(super) non_distributable: usize,
}

/// A push of images into one repository.
pub(super) struct RepositoryPush<'a> {
    pub(super) source: &'a dyn ImageSource,
    pub(super) client: &'a Client,
    pub(super) repository: &'a Repository,
    /// Blobs that were just sent to the repository.
    pub(super) sent: &'a BTreeSet<Digest>,
    pub(super) concurrency: usize,
    pub(super) include_non_distributable: bool,
    pub(super) observer: &'a dyn Observer,
    pub(super) permits: ThreadPermits,
    pub(super) written: Written,
}

impl RepositoryPush<'_> {
    /// Pushes the images.
    ///
    /// Order: HEAD requests find the images that are there; all missing blobs follow, then documents by their turns,
    /// those of one turn level by level, children first, then `before_tags`, then tags by their turns.
    /// Errors: after one no tag has been written that did not have all its content.
    pub(super) fn run(
        &self,
        images: &[ImagePush<'_>],
        before_tags: &dyn Fn(&Self) -> Result<(), TransferError>,
    ) -> Result<Met, TransferError> {
        let right = self.right_tags(images)?;
        let found = workers::parallel_map(images, self.concurrency, |image| self.find(image, &right))?;
        let missing: Vec<&Found<'_>> = found.iter().filter(|found| !found.present).collect();
        missing.iter().for_each(|found| self.warn_of_skipped(found));
        let known = self.blobs(&missing)?;
        self.documents(&missing, known)?;
        before_tags(self)?;
        let mut turns: BTreeMap<usize, Vec<&Found<'_>>> = BTreeMap::new();
        found.iter().for_each(|found| turns.entry(found.image.tag_turn).or_default().push(found));
        turns
            .values()
            .try_for_each(|turn| workers::for_each(turn, self.concurrency, |found| self.tags(found)))?;
        let blobs = missing.iter().flat_map(|found| &found.graph.blobs);
        Ok(Met {
            missing: missing.len(),
            non_distributable: blobs.filter(|blob| blob.is_non_distributable()).count(),
        })
    }

    /// Returns the tags that point at the right image already, of images whose first requests are for their tags.
    fn right_tags<'a>(&self, images: &'a [ImagePush<'a>]) -> Result<HashSet<RightTag<'a>>, TransferError> {
        let by_tags = images.iter().filter(|image| image.first.is_none());
        let asked: Vec<RightTag<'_>> =
            by_tags.flat_map(|image| image.tags.iter().map(|tag| (&image.descriptor.digest, tag))).collect();
        let right = workers::parallel_map(&asked, self.concurrency, |(digest, tag)| {
            let there = self.client.head_manifest(self.repository, &Target::Tag((*tag).clone()))?;
            Ok(there.is_some_and(|there| there.digest == **digest))
        })?;
        Ok(asked.into_iter().zip(right).filter_map(|(tag, right)| right.then_some(tag)).collect())
    }

    /// Asks the registry for an image, and reads its graph if it is absent.
    fn find<'a>(
        &self,
        image: &'a ImagePush<'a>,
        right: &HashSet<RightTag<'_>>,
    ) -> Result<Found<'a>, TransferError> {
        let digest = &image.descriptor.digest;
        let head = |target: &Target| self.client.head_manifest(self.repository, target);
        let is_there =
            |target: &Target| Ok::<_, TransferError>(head(target)?.is_some_and(|it| it.digest == *digest));
        let mut wanting = None;
        let present = match &image.first {
            Some(first) => is_there(first)?,
            None => {
                let differs = |tag: &&Tag| !right.contains(&(digest, *tag));
                let differing: Vec<&Tag> = image.tags.iter().filter(differs).collect();
                let some_are_right = differing.len() < image.tags.len();
                wanting = Some(differing);
                some_are_right || head(&Target::Digest(digest.clone()))?.is_some()
            }
        };
        if present && !self.layers_were_left_out(image.descriptor)? {
            self.observer.event(Event::ManifestFinished { descriptor: image.descriptor, present: true });
            return Ok(Found { image, present: true, wanting, graph: Graph::default() });
        }
        Ok(Found { image, present: false, wanting, graph: Graph::of(self.source, image.descriptor)? })
    }

    /// Tells whether the repository lacks non-distributable layers of an image that it has.
    ///
    /// Cost: one HEAD for each such layer, if they are to be pushed.
    fn layers_were_left_out(&self, root: &Descriptor) -> Result<bool, TransferError> {
        if !self.include_non_distributable {
            return Ok(false);
        }
        for blob in Graph::of(self.source, root)?.blobs.iter().filter(|blob| blob.is_non_distributable()) {
            if !self.client.has_blob(self.repository, blob)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_skipped(&self, blob: &Descriptor) -> bool {
        blob.is_non_distributable() && !self.include_non_distributable
    }

    fn warn_of_skipped(&self, found: &Found<'_>) {
        let skipped = found.graph.blobs.iter().filter(|blob| self.is_skipped(blob));
        let layers: Vec<Digest> = skipped.map(|blob| blob.digest.clone()).collect();
        let (root, label) = (&found.image.descriptor.digest, &found.image.label);
        for warning in found.graph.left_out(root, label, &layers) {
            self.observer.event(Event::Warning(&warning));
        }
    }

    /// Sends the blobs of missing images; returns whether the repository very likely had none of them.
    fn blobs(&self, missing: &[&Found<'_>]) -> Result<Known, TransferError> {
        let mut seen = HashSet::new();
        let mut wanted: Vec<(&Descriptor, &Option<Repository>)> = Vec::new();
        for found in missing {
            for blob in &found.graph.blobs {
                if self.is_skipped(blob) {
                    let outcome = BlobOutcome::Skipped;
                    self.observer.event(Event::BlobFinished { descriptor: blob, outcome });
                } else if seen.insert(&blob.digest) {
                    if !self.sent.contains(&blob.digest) {
                        check_held(self.source, blob, || found.image.name.clone())?;
                    }
                    wanted.push((blob, &found.image.mount_from));
                }
            }
        }
        let bytes = wanted.iter().map(|(blob, _)| blob.size).sum();
        self.observer.event(Event::Planned { blobs: wanted.len() as u64, bytes });
        wanted.retain(|(blob, _)| !self.sent.contains(&blob.digest));
        let blobs: Vec<&Descriptor> = wanted.iter().map(|(blob, _)| *blob).collect();
        let sample = self.sample(&blobs)?;
        let known = if sample.is_empty() || sample.values().any(|present| *present) {
            Known::Nothing
        } else {
            Known::Absent
        };
        let size = |(blob, _): &(&Descriptor, _)| blob.size;
        workers::for_each_blob(&wanted, self.concurrency, size, |(blob, mount_from)| {
            let known = match sample.get(&blob.digest) {
                Some(true) => {
                    self.observer.event(Event::BlobStarted { descriptor: blob });
                    let outcome = BlobOutcome::Present;
                    self.observer.event(Event::BlobFinished { descriptor: blob, outcome });
                    return Ok(());
                }
                Some(false) => Known::Absent,
                None if blob.size <= SENT_UNASKED => known,
                None => Known::Nothing,
            };
            let Self { source, client, repository, permits, observer, .. } = self;
            let mount_from = mount_from.as_slice();
            push_blob(*source, client, repository, mount_from, (blob, known), permits, *observer).map(drop)
        })?;
        Ok(known)
    }

    /// Sends HEAD requests for some of many blobs, among them the first and the last; returns which are there.
    ///
    /// An interrupted push has sent the first blobs; images with shared layers share their lowest ones.
    fn sample<'a>(&self, blobs: &[&'a Descriptor]) -> Result<HashMap<&'a Digest, bool>, TransferError> {
        if blobs.len() < 2 * SAMPLE {
            return Ok(HashMap::new());
        }
        let last = blobs.len() - 1;
        let chosen: Vec<&Descriptor> =
            (0..SAMPLE).filter_map(|number| blobs.get(number * last / (SAMPLE - 1)).copied()).collect();
        let there = workers::parallel_map(&chosen, self.concurrency, |blob| {
            Ok(self.client.has_blob(self.repository, blob)?)
        })?;
        Ok(chosen.into_iter().map(|blob| &blob.digest).zip(there).collect())
    }

    /// Pushes the documents of images, children first; an image's own document only if it is needed before its tags.
    fn documents(&self, missing: &[&Found<'_>], known: Known) -> Result<(), TransferError> {
        let mut levels: BTreeMap<(usize, usize), Vec<(&Found<'_>, &RawDocument)>> = BTreeMap::new();
        for found in missing {
            for (document, level) in found.graph.levels() {
                levels.entry((found.image.document_turn, level)).or_default().push((found, document));
            }
        }
        let push = |(found, document): &(&Found<'_>, &RawDocument)| {
            let is_root = *document.digest() == found.image.descriptor.digest;
            self.written.alone(document.digest(), |written| match (is_root, written) {
                (true, _) => self.root(found, document),
                (false, true) => Ok(true),
                (false, false) => self.child(document, known).map(|()| true),
            })
        };
        levels.values().try_for_each(|level| workers::for_each(level, self.concurrency, push))
    }

    /// Pushes an image's own document, unless it will be pushed under a tag; tells whether it did.
    fn root(&self, found: &Found<'_>, document: &RawDocument) -> Result<bool, TransferError> {
        let by_digest = || Target::Digest(document.digest().clone());
        // An image that will be pushed under a tag need not be pushed under its digest.
        let has_no_tag_to_come = found.wanting.as_ref().is_some_and(Vec::is_empty);
        let target = found.image.first.clone().or_else(|| has_no_tag_to_come.then(by_digest));
        if let Some(target) = &target {
            self.client.push_manifest(self.repository, target, document)?;
        }
        self.observer.event(Event::ManifestFinished { descriptor: &document.descriptor(), present: false });
        Ok(target.is_some())
    }

    fn child(&self, document: &RawDocument, known: Known) -> Result<(), TransferError> {
        let target = Target::Digest(document.digest().clone());
        let ask = || self.client.head_manifest(self.repository, &target);
        let present = known != Known::Absent && ask()?.is_some();
        if !present {
            self.client.push_manifest(self.repository, &target, document)?;
        }
        self.observer.event(Event::ManifestFinished { descriptor: &document.descriptor(), present });
        Ok(())
    }

    /// Writes the tags that do not point at the image yet, and confirms the last one.
    fn tags(&self, found: &Found<'_>) -> Result<(), TransferError> {
        let (repository, digest) = (self.repository, &found.image.descriptor.digest);
        for tag in &found.image.tags {
            let target = Target::Tag(tag.clone());
            let (differs, is_confirmed) = match &found.wanting {
                Some(wanting) => (wanting.contains(&tag), wanting.last() == Some(&tag)),
                None => {
                    let there = self.client.head_manifest(repository, &target)?;
                    (there.is_none_or(|there| there.digest != *digest), true)
                }
            };
            if differs {
                let document = self.source.read_document(found.image.descriptor)?;
                self.client.push_manifest(repository, &target, &document)?;
                if is_confirmed {
                    confirm(self.client, repository, tag, digest, self.observer)?;
                }
            }
            self.observer.event(Event::TagWritten { repository, tag, digest, unchanged: !differs });
        }
        Ok(())
    }
}

/// Sends a HEAD request for the tag and compares the digest. A tag that the registry does not show yet is a warning.
///
/// Errors: [`TransferError::TagMoved`].
pub fn confirm(
    client: &Client,
    repository: &Repository,
    tag: &Tag,
    expected: &Digest,
    observer: &dyn Observer,
) -> Result<(), TransferError> {
    match client.confirm_tag(repository, tag, expected)? {
        TagState::AsWritten => Ok(()),
        TagState::Absent => {
            let warning =
                Warning::TagNotShown { tag: format!("{repository}:{tag}"), digest: expected.clone() };
            observer.event(Event::Warning(&warning));
            Ok(())
        }
        TagState::Other(found) => {
            Err(TransferError::TagMoved { tag: tag.to_string(), expected: expected.clone(), found })
        }
    }
}

/// Which documents were pushed, and which are being pushed.
///
/// docker's registry may fail if two clients write one document at the same time: one request may read what the other
/// has written in part, and be refused. And an index must not be pushed before a child that another thread is still
/// pushing.
#[derive(Default)]
pub(super) struct Written(Mutex<HashMap<Digest, Arc<Mutex<bool>>>>);

impl Written {
    /// Runs `write` while no other thread writes this document. Its argument is whether the document was written
    /// before; it returns whether the document is written now.
    pub(super) fn alone(
        &self,
        document: &Digest,
        write: impl FnOnce(bool) -> Result<bool, TransferError>,
    ) -> Result<(), TransferError> {
        let mut all = lock(&self.0);
        let own = Arc::clone(all.entry(document.clone()).or_default());
        drop(all);
        let mut written = lock(&own);
        *written |= write(*written)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use testkit::fault::{Access, FaultRegistry};

    use super::*;
    use crate::pack::{ImageOptions, MediaTypes};
    use crate::registry::ClientOptions;
    use crate::stream::BlobStream;
    use crate::transfer::events::Silent;
    use crate::transfer::one_file::OneFileImage;

    fn image(content: &str) -> OneFileImage {
        let options = ImageOptions {
            media_types: MediaTypes::Oci,
            platform: None,
            labels: Default::default(),
            annotations: Default::default(),
        };
        OneFileImage::new("f", content.as_bytes(), &options)
    }

    struct Two([OneFileImage; 2]);

    impl Two {
        fn with(&self, found: impl Fn(&&OneFileImage) -> bool) -> Result<&OneFileImage, TransferError> {
            self.0.iter().find(found).ok_or(TransferError::Internal { what: "no image of the test" })
        }
    }

    impl ImageSource for Two {
        fn label(&self) -> String {
            "two".to_owned()
        }

        fn read_document(&self, wanted: &Descriptor) -> Result<RawDocument, TransferError> {
            self.with(|image| *image.manifest.digest() == wanted.digest)?.read_document(wanted)
        }

        fn open_blob(&self, wanted: &Descriptor) -> Result<BlobStream<'_>, TransferError> {
            self.with(|image| image.blobs.iter().any(|(blob, _)| blob.digest == wanted.digest))?
                .open_blob(wanted)
        }
    }

    /// Method and object of each request: a blob or upload session, a document by digest, a tag.
    fn requests(registry: &FaultRegistry) -> Vec<String> {
        let what = |path: &str| match path.rsplit_once("/manifests/") {
            Some((_, target)) if target.starts_with("sha256:") => "digest".to_owned(),
            Some((_, tag)) => tag.to_owned(),
            None => "blob".to_owned(),
        };
        let log = registry.log();
        let writes = log.iter().filter(|entry| entry.method != "HEAD" && entry.path.contains("/team/"));
        let mut found: Vec<String> =
            writes.map(|entry| format!("{} {}", entry.method, what(&entry.path))).collect();
        found.dedup_by(|one, other| one.ends_with(" blob") && other.ends_with(" blob"));
        found
    }

    #[test]
    fn blobs_come_first_then_documents_and_tags_last_in_the_order_given() {
        let registry = FaultRegistry::start(Access::Open, Vec::new());
        let client = Client::new(ClientOptions::default()).unwrap();
        let source = Two([image("signature"), image("image")]);
        let [first, second] = &source.0;
        let request = PushRequest {
            repository: format!("{}/team/app", registry.host()).parse().unwrap(),
            roots: vec![
                (first.manifest.descriptor(), Vec::new()),
                (second.manifest.descriptor(), vec!["a".parse().unwrap(), "b".parse().unwrap()]),
            ],
            attached: Vec::new(),
            sent: BTreeSet::new(),
            concurrency: 2,
            include_non_distributable: false,
        };
        push_to_registry(&source, &client, &request, &Silent).unwrap();
        let blobs = ["POST blob", "PATCH blob", "PUT blob"];
        let all = requests(&registry);
        assert!(blobs.contains(&all[0].as_str()), "{all:?}");
        assert_eq!(all[1..], ["PUT digest", "PUT a", "PUT b"]);
        assert_eq!(registry.check_image("team/app", "b"), Ok(()));
        let before = registry.log().len();
        push_to_registry(&source, &client, &request, &Silent).unwrap();
        let log = registry.log();
        let again: Vec<&str> = log[before..].iter().map(|entry| entry.method.as_str()).collect();
        assert_eq!(again, ["HEAD"; 3], "one for each tag, one for an image without");
    }

    #[test]
    fn a_document_is_written_by_one_at_a_time_and_by_the_others_not_again() {
        let written = Written::default();
        let (inside, first) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let documents = [Digest::sha256_of(b"a"), Digest::sha256_of(b"b")];
        for document in &documents {
            let failed = written.alone(document, |_| Err(TransferError::Internal { what: "a test" }));
            assert!(failed.is_err());
        }
        let work = |number: &usize| {
            let document = &documents[number % 2];
            written.alone(document, |written| {
                if number.is_multiple_of(2) {
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two at a time");
                    std::thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                }
                first.fetch_add(usize::from(!written), Ordering::SeqCst);
                Ok(true)
            })
        };
        workers::for_each(&(0..64).collect::<Vec<usize>>(), 8, work).unwrap();
        assert_eq!(first.into_inner(), 2, "a failure is no writing, and each is written once");
    }
}

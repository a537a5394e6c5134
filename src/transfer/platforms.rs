//! Joins several sources into one index, and narrows an index to some of its platforms.
//!
//! The images, their blobs and what is attached to them do not change; only the index is new. What was attached to a
//! replaced index names a digest that is not in the result, so it is left out, and a warning event is sent.

use std::collections::{BTreeSet, HashSet};

use crate::lock::cosign_subject;
use crate::model::{
    Annotations, Descriptor, Digest, Document, ImageIndex, ImageManifest, Platform, RawDocument, Tag, limits,
};
use crate::pack::{
    IndexAttestation, IndexImage, IndexParts, Narrowed, compose_index, narrow_index, require_platforms,
};
use crate::store::ImageName;

use super::listed_platform::{own_platform, read_listed};
use super::{AttachedCounts, Collection, Graph, ImageSource, Member, Role, TransferError, signatures};

/// The images of one tar or repository that go into an index.
#[derive(Clone, Copy)]
pub struct JoinSource<'a> {
    /// Where the images are read from.
    pub source: &'a dyn ImageSource,
    /// Its images, and what is attached to them.
    pub collection: &'a Collection,
}

impl std::fmt::Debug for JoinSource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinSource").field("source", &self.source.label()).finish_non_exhaustive()
    }
}

/// How sources are joined.
#[derive(Clone, Debug, Default)]
pub struct JoinOptions {
    /// Annotations of the new index.
    pub annotations: Annotations,
    /// The platform of an image whose configuration names none.
    pub platform: Option<Platform>,
    /// Required platforms.
    pub required: Vec<Platform>,
}

/// The result of joining or narrowing.
#[derive(Clone, Debug)]
pub struct MadeIndex {
    /// The root of the result: the new index, or the only image that is left.
    pub root: Descriptor,
    /// The new document; `None` if the root is a document of the source.
    pub document: Option<RawDocument>,
    /// What is attached to something in the result.
    pub attached: Vec<Member>,
    /// What was attached to an index that is not in the result.
    pub left_behind: AttachedCounts,
}

/// Joins the images of several sources into one index.
///
/// Shape: an index as [`compose_index`] makes it; indexes among the sources are flattened, because many readers do not
/// follow an index inside an index.
/// Errors: a bundle; an image without a platform; what [`crate::pack::IndexError`] names; a required platform that is
/// missing.
/// Cost: reads every manifest and every image's configuration once.
pub fn join_index(sources: &[JoinSource<'_>], options: &JoinOptions) -> Result<MadeIndex, TransferError> {
    let mut parts = JoinParts { options, images: Vec::new(), attestations: Vec::new() };
    for join in sources {
        for member in join.collection.members.iter().filter(|member| member.role == Role::Root) {
            if member.bundle.is_some() {
                let (place, digest) = (join.source.label(), member.descriptor.digest.clone());
                return Err(TransferError::BundleInIndex { place, digest });
            }
            parts.add(join.source, &entry_without_names(&member.descriptor), 0)?;
        }
    }
    let document = compose_index(parts.images, parts.attestations, options.annotations.clone())?;
    if let Document::Index(index) = document.document() {
        require_platforms(index, &options.required)?;
    }
    let mut kept: HashSet<Digest> =
        document.document().children().into_iter().map(|child| child.digest.clone()).collect();
    // An index that is made again, byte for byte, keeps what is said about it.
    kept.insert(document.digest().clone());
    let mut made = MadeIndex {
        root: document.descriptor(),
        document: Some(document),
        attached: Vec::new(),
        left_behind: AttachedCounts::default(),
    };
    for join in sources {
        made.attach(join.source, join.collection, &mut kept)?;
    }
    Ok(made)
}

/// Narrows an index to some platforms, with what is attached to those that stay.
///
/// Shape: the index itself if it has no other platform; the image if only one is left; else a new index.
/// Errors: a platform that the index does not have; a single image with another platform.
pub fn narrow_root(
    source: &dyn ImageSource,
    collection: &Collection,
    root: &Descriptor,
    wanted: &[Platform],
) -> Result<MadeIndex, TransferError> {
    let document = source.read_document(root)?;
    let narrowed = match document.document() {
        Document::Index(index) => {
            let narrowed = narrow_index(index, wanted)?;
            check_listed_images(source, index, wanted)?;
            narrowed
        }
        Document::Manifest(manifest) => {
            serves_all(source, manifest, wanted)?;
            Narrowed::Same
        }
    };
    let (root, document) = match narrowed {
        Narrowed::Same => (root.clone(), None),
        Narrowed::Image(mut only) => {
            only.platform = None;
            (only, None)
        }
        Narrowed::Index(document) => (document.descriptor(), Some(document)),
    };
    let below = match &document {
        Some(document) => document.document().children().into_iter().cloned().collect(),
        None => vec![root.clone()],
    };
    let mut kept: HashSet<Digest> = below.iter().map(|child| child.digest.clone()).collect();
    kept.extend(document.iter().map(|document| document.digest().clone()));
    for child in &below {
        let documents = Graph::of(source, child)?.documents;
        kept.extend(documents.iter().map(|document| document.digest().clone()));
    }
    let mut made = MadeIndex { root, document, attached: Vec::new(), left_behind: AttachedCounts::default() };
    made.attach(source, collection, &mut kept)?;
    Ok(made)
}

/// Checks that an image, or an index, has each of these platforms.
///
/// Errors: all platforms that are missing, with those that are there.
pub fn require_platforms_of(
    source: &dyn ImageSource,
    root: &Descriptor,
    required: &[Platform],
) -> Result<(), TransferError> {
    if required.is_empty() {
        return Ok(());
    }
    let document = source.read_document(root)?;
    match document.document() {
        Document::Index(index) => {
            require_platforms(index, required)?;
            check_listed_images(source, index, required)
        }
        Document::Manifest(manifest) => serves_all(source, manifest, required),
    }
}

/// Checks that the images of an index for these platforms are not for others by their configurations.
fn check_listed_images(
    source: &dyn ImageSource,
    index: &ImageIndex,
    wanted: &[Platform],
) -> Result<(), TransferError> {
    let serves = |entry: &&Descriptor| {
        let listed = entry.platform.as_ref();
        listed.is_some_and(|listed| wanted.iter().any(|wanted| listed.serves(wanted)))
    };
    for entry in IndexParts::of(index).images.into_iter().filter(serves) {
        // What is not there is reported by what needs it.
        if source.lacks(&entry.digest) || !entry.is_manifest() {
            continue;
        }
        if let Document::Manifest(manifest) = source.read_document(entry)?.document() {
            read_listed(source, entry, manifest)?;
        }
    }
    Ok(())
}

/// Checks that one image serves each of the wanted platforms.
fn serves_all(
    source: &dyn ImageSource,
    manifest: &ImageManifest,
    wanted: &[Platform],
) -> Result<(), TransferError> {
    let has = own_platform(source, manifest)?;
    let is_missing = |wanted: &&Platform| !has.as_ref().is_some_and(|has| has.serves(wanted));
    match wanted.iter().find(is_missing) {
        None => Ok(()),
        Some(missing) => Err(TransferError::NoPlatform {
            place: source.label(),
            wanted: Box::new(missing.clone()),
            has: has.iter().map(ToString::to_string).collect(),
        }),
    }
}

impl MadeIndex {
    /// Keeps what is attached to a kept manifest, and what is attached to that.
    fn attach(
        &mut self,
        source: &dyn ImageSource,
        collection: &Collection,
        kept: &mut HashSet<Digest>,
    ) -> Result<(), TransferError> {
        let of_role = |member: &&Member| member.role == Role::Attached;
        let mut rest: Vec<&Member> = collection.members.iter().filter(of_role).collect();
        loop {
            let before = rest.len();
            let mut later = Vec::new();
            for member in rest {
                let about = subjects(source, member)?;
                if about.iter().any(|digest| kept.contains(digest)) {
                    if kept.insert(member.descriptor.digest.clone()) {
                        self.attached.push(member.clone());
                    }
                } else {
                    later.push(member);
                }
            }
            rest = later;
            if rest.len() == before || rest.is_empty() {
                break;
            }
        }
        self.left_behind += signatures::count(source, rest)?;
        Ok(())
    }
}

/// Returns the digests that an attached manifest refers to: its `subject`, and those in cosign's tags.
fn subjects(source: &dyn ImageSource, member: &Member) -> Result<BTreeSet<Digest>, TransferError> {
    let document = source.read_document(&member.descriptor)?;
    let subject = document.document().subject().map(|subject| subject.digest.clone());
    let tags = member.tags();
    let tagged = tags.iter().map(Tag::as_str).filter_map(cosign_subject);
    Ok(subject.into_iter().chain(tagged).collect())
}

/// The parts of an index that is being made.
struct JoinParts<'a> {
    options: &'a JoinOptions,
    images: Vec<IndexImage>,
    attestations: Vec<IndexAttestation>,
}

impl JoinParts<'_> {
    fn add(
        &mut self,
        source: &dyn ImageSource,
        entry: &Descriptor,
        depth: usize,
    ) -> Result<(), TransferError> {
        if depth > limits::NESTING {
            let (what, limit) = ("levels of nested indexes", limits::NESTING);
            return Err(TransferError::TooMany { subject: format!("`{}`", source.label()), what, limit });
        }
        let document = source.read_document(entry)?;
        match document.document() {
            Document::Index(index) => {
                let parts = IndexParts::of(index);
                for child in parts.images {
                    self.add(source, child, depth + 1)?;
                }
                for (child, image) in parts.attestations {
                    let descriptor = child.clone();
                    self.attestations.push(IndexAttestation { descriptor, image, label: source.label() });
                }
            }
            Document::Manifest(manifest) => {
                let listed = entry.platform.clone().filter(|_| depth > 0);
                let config = read_listed(source, entry, manifest)?;
                let own = config.and_then(|config| config.platform());
                let platform = listed.filter(Platform::is_complete).or(own);
                let platform = platform.or_else(|| self.options.platform.clone());
                let platform = platform.ok_or_else(|| TransferError::NoPlatformOfItsOwn {
                    place: source.label(),
                    digest: entry.digest.clone(),
                })?;
                self.images.push(IndexImage { descriptor: entry.clone(), platform, label: source.label() });
            }
        }
        Ok(())
    }
}

/// Returns the entry of a root without the annotations for its name and its tar.
fn entry_without_names(root: &Descriptor) -> Descriptor {
    Descriptor { annotations: Annotations::new(), platform: None, ..root.clone() }
}

/// Returns the full names that the roots of several collections have, each once.
#[must_use]
pub fn names_of_roots(collections: &[&Collection]) -> Vec<ImageName> {
    let mut names: Vec<ImageName> = Vec::new();
    let roots = collections.iter().flat_map(|collection| &collection.members);
    for member in roots.filter(|member| member.role == Role::Root) {
        for name in &member.names {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
    }
    names
}

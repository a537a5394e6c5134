//! Pushes an image archive or layout folder from a put's folder.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::access::TRANSFER_CONCURRENCY;
use crate::front::failure::Failure;
use crate::front::glob;
use crate::front::main_image::stored_roots;
use crate::front::reporter::{self, Wording};
use crate::front::text;
use crate::front::ui::Ui;
use crate::front::verification;
use crate::model::list::clause_list;
use crate::model::{Descriptor, Digest, Platform, RawDocument, Repository, Tag, keys, limits, media_type};
use crate::registry::Client;
use crate::store::{ImageName, Root, Selector, Store, StoreKind, image_labels};
use crate::stream::{BlobStream, read_file};
use crate::transfer::events::{Observer, Silent};
use crate::transfer::signatures::Trust;
use crate::transfer::{
    self, Attached, Collection, CollectionRequest, DefaultTags, Gathering, ImageLocator, ImageSource, Member,
    PushRequest, Role, TransferError,
};

/// Pushes an image that was just packed.
pub(super) fn packed(
    image: &dyn ImageSource,
    root: Descriptor,
    client: &Client,
    repository: &Repository,
    tags: &[Tag],
    ui: &Ui,
) -> Result<(), Failure> {
    let request = push_request(repository, vec![(root, tags.to_vec())]);
    watch(ui, |observer| transfer::push_to_registry(image, client, &request, observer))
}

fn push_request(repository: &Repository, roots: Vec<(Descriptor, Vec<Tag>)>) -> PushRequest {
    PushRequest {
        repository: repository.clone(),
        roots,
        attached: Vec::new(),
        sent: BTreeSet::new(),
        concurrency: TRANSFER_CONCURRENCY,
        include_non_distributable: false,
    }
}

/// Says how many signatures, attestations and SBOMs `referrers: false` left out.
pub(super) fn note_left_out(ui: &Ui, holder: &str, count: usize) {
    if count > 0 {
        let what = text::counted(count as u64, "referrer");
        ui.note(&format!(
            "{holder} {what} (signatures, attestations, SBOMs), which `referrers: false` leaves out"
        ));
    }
}

fn watch(ui: &Ui, work: impl FnOnce(&dyn Observer) -> Result<(), TransferError>) -> Result<(), Failure> {
    Ok(reporter::watch(ui, Wording::Uploaded, work)?)
}

/// Finds the archives and folders of `params.image`, each once.
///
/// Errors: a pattern without a match, because the image of a job is missing.
pub(super) fn find(folder: &Path, patterns: &[String]) -> Result<Vec<PathBuf>, Failure> {
    let short = |path: &PathBuf| path.strip_prefix(folder).unwrap_or(path).display().to_string();
    let mut all: Vec<PathBuf> = Vec::new();
    for pattern in patterns {
        let found = glob::find(folder, pattern)?;
        if found.is_empty() {
            let failure = Failure::misuse(format!("`params.image`: `{pattern}` finds nothing"));
            let there: Vec<String> = glob::find(folder, "*/*")?.iter().map(short).collect();
            return Err(if there.is_empty() {
                failure.hint("the put has no artifacts; its `inputs` name those that it gets")
            } else {
                failure.hint(format!("here are {}", text::quoted_list(there)))
            });
        }
        all.extend(found.into_iter().filter(|path| !all.contains(path)).collect::<Vec<_>>());
    }
    Ok(all)
}

/// The part of a store that is pushed.
pub(super) struct Chosen<'a> {
    store: &'a Store,
    /// Digest of the manifest or index that gets the tags.
    digest: Digest,
    part: PushedPart,
}

enum PushedPart {
    /// The image and what belongs to it.
    Images(Collection),
    /// `index.json` itself is the image.
    Index(Box<RawDocument>),
}

impl<'a> Chosen<'a> {
    /// Chooses the image of a store.
    ///
    /// Errors: several images without a main one.
    pub(super) fn of(
        store: &'a Store,
        pattern: &str,
        select: Option<&Selector>,
        expected: Option<&Digest>,
    ) -> Result<Self, Failure> {
        let selector = transfer::selector_for(store, select, expected);
        let selected = selector.map(|selector| transfer::select(store, &selector)).transpose()?;
        let roots = selected.as_deref().unwrap_or(store.roots());
        let collection = {
            let locator = ImageLocator::over(store, None);
            let attached = Attached::default();
            let gathering = Gathering { thick: false, attached, concurrency: TRANSFER_CONCURRENCY };
            transfer::gather(&locator, stored_roots(roots), &gathering, &Silent)?
        };
        let mut mains = collection.members.iter().filter(|member| member.role == Role::Root);
        let main = match (mains.next(), mains.next()) {
            (Some(only), None) => Some(only),
            _ => collection
                .members
                .iter()
                .find(|member| member.descriptor.annotations.contains_key(keys::ROOT)),
        };
        if let Some(main) = main {
            let digest = main.descriptor.digest.clone();
            return Ok(Self { store, digest, part: PushedPart::Images(collection) });
        }
        // Images without names in one layout are the platforms of one image.
        let is_index = |root: &Root| root.image.names.is_empty() || root.image.descriptor.platform.is_some();
        if store.kind() == StoreKind::OciLayoutDirectory && roots.iter().all(is_index) {
            let index = read_index(store)?;
            return Ok(Self {
                store,
                digest: index.digest().clone(),
                part: PushedPart::Index(Box::new(index)),
            });
        }
        let images = clause_list(image_labels(roots));
        Err(Failure::refused(format!(
            "`params.image`: `{pattern}` holds {} images, expected one: {images}",
            roots.len()
        ))
        .hint("choose one with `params.select`: by its name, tag, digest or position"))
    }

    /// Returns the digest of the manifest or index that gets the tags.
    pub(super) fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Checks that the image has each of these platforms.
    pub(super) fn require(&self, platforms: &[Platform]) -> Result<(), Failure> {
        let root = match &self.part {
            PushedPart::Images(collection) => {
                collection.member(&self.digest).map(|main| main.descriptor.clone())
            }
            PushedPart::Index(index) => Some(index.descriptor()),
        };
        let root = root.ok_or(TransferError::Internal { what: "the image of a store is not in it" })?;
        Ok(transfer::require_platforms_of(self, &root, platforms)?)
    }

    /// Refuses the image unless it is signed; without keys there is no check.
    pub(super) fn demand(&self, trust: Option<&Trust>) -> Result<(), Failure> {
        let collection = match &self.part {
            PushedPart::Images(collection) => collection.clone(),
            // A folder whose `index.json` is the image cannot hold signatures.
            PushedPart::Index(index) => Collection { members: vec![alone(index.descriptor())] },
        };
        verification::demand(self, &collection, trust)
    }

    /// Leaves out signatures, attestations and SBOMs; returns how many there were, for [`note_left_out`].
    pub(super) fn without_attached(&mut self) -> usize {
        let PushedPart::Images(collection) = &mut self.part else { return 0 };
        let before = collection.members.len();
        collection.members.retain(|member| member.role != Role::Attached);
        before - collection.members.len()
    }

    /// Pushes an image unchanged; a bundle with those of its images that the tar holds, as `copy` does.
    pub(super) fn upload(
        &self,
        client: &Client,
        repository: &Repository,
        tags: &[Tag],
        ui: &Ui,
    ) -> Result<(), Failure> {
        watch(ui, |observer| {
            let collection = match &self.part {
                PushedPart::Images(collection) => self.named(collection, tags),
                PushedPart::Index(index) => {
                    let roots = vec![(index.descriptor(), tags.to_vec())];
                    transfer::push_to_registry(self, client, &push_request(repository, roots), observer)?;
                    return Ok(());
                }
            };
            let locator = ImageLocator::over(self, None);
            if collection.has_bundles() {
                let request = CollectionRequest {
                    repository: repository.clone(),
                    default_tags: DefaultTags::ByDigest,
                    concurrency: TRANSFER_CONCURRENCY,
                    include_non_distributable: false,
                    present: BTreeSet::new(),
                };
                transfer::push_collection(&locator, client, &collection, &request, observer)?;
                return Ok(());
            }
            let [roots, attached] = collection.roots_and_attached();
            let request = PushRequest { attached, ..push_request(repository, roots) };
            transfer::push_to_registry(&locator, client, &request, observer)?;
            Ok(())
        })
    }

    /// Returns the images; the main one gets these tags.
    pub(super) fn tagged(&self, tags: &[Tag]) -> Collection {
        match &self.part {
            PushedPart::Images(collection) => self.named(collection, tags),
            PushedPart::Index(index) => Collection { members: vec![alone(index.descriptor())] },
        }
    }

    /// Gives the image its tags. Recorded tags belong to another repository; cosign's tags are the same in each.
    fn named(&self, collection: &Collection, tags: &[Tag]) -> Collection {
        let mut collection = collection.clone();
        for member in &mut collection.members {
            if member.descriptor.digest == self.digest {
                let own = tags.iter().cloned();
                member.names = own.map(|tag| ImageName { tag: Some(tag), reference: None }).collect();
            } else if member.role != Role::Attached {
                member.names.clear();
            }
        }
        collection
    }
}

/// Makes the member for an image by itself.
pub(super) fn alone(descriptor: Descriptor) -> Member {
    Member { descriptor, names: Vec::new(), origin: None, role: Role::Root, bundle: None }
}

/// Reads the `index.json` of a layout folder as an image index.
fn read_index(store: &Store) -> Result<RawDocument, Failure> {
    let path = store.path().join("index.json");
    let bytes = read_file(&path, limits::DOCUMENT_BYTES)?;
    #[derive(Default, serde::Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Kind {
        media_type: Option<String>,
    }
    // The resource writes an index as the registry had it, also one with Docker's media type.
    let kind: Kind = serde_json::from_slice(&bytes).unwrap_or_default();
    let kind = kind.media_type.unwrap_or_else(|| media_type::OCI_INDEX.to_owned());
    Ok(RawDocument::parse(bytes, Some(&kind))?)
}

impl ImageSource for Chosen<'_> {
    fn label(&self) -> String {
        self.store.label()
    }

    fn read_document(&self, descriptor: &Descriptor) -> Result<RawDocument, TransferError> {
        match &self.part {
            PushedPart::Index(index) if *index.digest() == descriptor.digest => Ok((**index).clone()),
            _ => self.store.read_document(descriptor),
        }
    }

    fn open_blob(&self, descriptor: &Descriptor) -> Result<BlobStream<'_>, TransferError> {
        self.store.open_blob(descriptor)
    }

    fn lacks(&self, digest: &Digest) -> bool {
        self.store.lacks(digest)
    }
}

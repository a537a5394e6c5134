//! Joining the images of several tars or repositories into one index, for every door.
//!
//! A door opens the sources and decides where the index goes; the rules of joining are [`transfer::join_index`]'s.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use super::failure::Failure;
use super::main_image::stored_roots;
use super::outcome::{ImageKind, ImageOutcome};
use crate::model::{Descriptor, Digest, Reference, Repository, Tag};
use crate::registry::Client;
use crate::store::layout::LayoutTarget;
use crate::store::{ImageName, Selector, Store};
use crate::transfer::events::{Event, Observer, Warning};
use crate::transfer::{
    self, Attached, Collection, CombinedSource, Gathering, Graph, ImageLocator, ImageSource, JoinOptions,
    JoinSource, LayoutRequest, Member, PushRequest, Role,
};

/// An index of several sources that is not written yet.
pub(super) struct JoinedIndex<'a> {
    root: Descriptor,
    source: CombinedSource<'a>,
    graph: Graph,
    /// What is attached to images of the index.
    attached: Vec<Member>,
}

impl std::fmt::Debug for JoinedIndex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinedIndex").field("root", &self.root.digest).finish_non_exhaustive()
    }
}

impl<'a> JoinedIndex<'a> {
    /// Joins the gathered images of each source; writes and sends nothing.
    ///
    /// Errors: those of [`transfer::join_index`]; an index with another digest than the expected one.
    pub(super) fn of(
        places: &'a [ImageLocator<'a>],
        collections: &[Collection],
        options: &JoinOptions,
        expected: Option<&Digest>,
        observer: &dyn Observer,
    ) -> Result<Self, Failure> {
        let sources: Vec<JoinSource<'_>> = places
            .iter()
            .zip(collections)
            .map(|(source, collection)| JoinSource { source, collection })
            .collect();
        let made = transfer::join_index(&sources, options)?;
        transfer::check_expected(expected, &made.root.digest)?;
        if made.left_behind.total() > 0 {
            let counts = made.left_behind;
            observer.event(Event::Warning(&Warning::AttachedToReplacedIndex { counts }));
        }
        let sources = places.iter().map(|places| -> &dyn ImageSource { places }).collect();
        let source = CombinedSource::new("the index".to_owned(), sources).with(made.document);
        let graph = Graph::of(&source, &made.root)?;
        Ok(Self { root: made.root, source, graph, attached: made.attached })
    }

    /// Returns the digest of the index.
    pub(super) fn digest(&self) -> &Digest {
        &self.root.digest
    }

    /// Leaves out signatures, attestations and SBOMs beside the index; returns how many there were.
    pub(super) fn without_attached(&mut self) -> usize {
        std::mem::take(&mut self.attached).len()
    }

    /// Pushes the index under these tags; what is attached to its images is there before the index has a tag.
    pub(super) fn push(
        &self,
        client: &Client,
        repository: &Repository,
        tags: &[Tag],
        concurrency: usize,
        observer: &dyn Observer,
    ) -> Result<(), Failure> {
        let attached = self.attached.iter().map(|member| (member.descriptor.clone(), member.tags()));
        let request = PushRequest {
            repository: repository.clone(),
            roots: vec![(self.root.clone(), tags.to_vec())],
            attached: attached.collect(),
            sent: BTreeSet::new(),
            concurrency,
            include_non_distributable: self.has_non_distributable(),
        };
        transfer::push_to_registry(&self.source, client, &request, observer)?;
        Ok(())
    }

    /// Writes an OCI layout tar with the index under these names; returns the spool, if the tar goes into one.
    pub(super) fn write(
        &self,
        target: LayoutTarget,
        names: &[Reference],
        concurrency: usize,
        observer: &dyn Observer,
    ) -> Result<Option<File>, Failure> {
        let root = Member {
            descriptor: self.root.clone(),
            names: names.iter().cloned().map(ImageName::of).collect(),
            origin: None,
            role: Role::Root,
            bundle: None,
        };
        let members = std::iter::once(root).chain(self.attached.iter().cloned()).collect();
        let request = LayoutRequest {
            target,
            roots: Collection { members }.named(),
            concurrency,
            include_non_distributable: self.has_non_distributable(),
        };
        Ok(transfer::copy_to_layout(&self.source, &request, observer)?.spool)
    }

    /// Returns the result: the index under these tags, in a repository or in a tar.
    pub(super) fn outcome(
        &self,
        tags: Vec<Tag>,
        repository: Option<&Repository>,
        path: Option<&Path>,
    ) -> ImageOutcome {
        ImageOutcome {
            kind: ImageKind::Index,
            digest: self.root.digest.clone(),
            media_type: self.root.media_type.clone(),
            size: self.graph.size(),
            layers: None,
            platforms: transfer::platform_rows(&self.graph, &self.root.digest),
            repository: repository.cloned(),
            tags,
            path: path.map(Path::to_owned),
            store: None,
        }
    }

    /// The sources' non-distributable layers are copied; the option without such layers would give a warning.
    fn has_non_distributable(&self) -> bool {
        self.graph.blobs.iter().any(Descriptor::is_non_distributable)
    }
}

/// Gathers the images of several tars or folders, or of each the selected image with what belongs to it.
pub(super) fn gather_stored(
    stores: &[Store],
    places: &[ImageLocator<'_>],
    select: Option<&Selector>,
    concurrency: usize,
    observer: &dyn Observer,
) -> Result<Vec<Collection>, Failure> {
    let gathering = Gathering { thick: false, attached: Attached::default(), concurrency };
    let gather = |(store, places): (&Store, &ImageLocator<'_>)| {
        let selected = select.map(|selector| transfer::select(store, selector)).transpose()?;
        let roots = stored_roots(selected.as_deref().unwrap_or(store.roots()));
        Ok(transfer::gather(places, roots, &gathering, observer)?)
    };
    stores.iter().zip(places).map(gather).collect()
}

//! Makes images that run, from files and a base; they are complete before the first byte is sent or written.
//!
//! Each platform of the base gives an image. The layers of the base stay descriptors; only copying the result moves
//! their bytes.

mod accounts;
mod checks;
mod made;
mod start;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::model::{Annotations, Config, Descriptor, Digest, Platform, RawDocument, Reference, keys};
use crate::pack::{
    BaseListing, ConfigEdits, IndexImage, LayerEncoding, LayerPlan, MediaTypes, PackedLayer, PlacedFiles,
    PlanOptions, Start, compose_index, compose_runnable, plan_layers,
};
use crate::store::NamedImage;
use crate::store::layout::LayoutTarget;
use crate::stream::{CompressionLevel, WriteFrom, nameless_file};

use super::events::{Event, Observer, Silent, Warning};
use super::image_files::{Budget, Contents, ImageFiles, Reading, read_files};
use super::produce::{Spooled, check_expected, with_path};
use super::{Graph, ImageSource as _, LayoutReport, LayoutRequest, TransferError, copy_to_layout};
use accounts::ACCOUNTS;
pub use accounts::UserName;
use checks::Planned;
pub use made::MadeSource;
pub use start::{BaseRoot, RunnableOrigin};
use start::{PlatformStart, starts};

/// A request for images.
#[derive(Clone, Debug, Default)]
pub struct RunnableRequest {
    /// Files for the layers, lowest first, each for one platform or for all.
    pub files: Vec<(Option<Platform>, PlacedFiles)>,
    /// Options of the layer plan.
    pub plan: PlanOptions,
    /// Changes of the configuration.
    pub edits: ConfigEdits,
    /// The user; names are looked up in the base.
    pub user: Option<UserName>,
    /// Platforms to make an image for; those of the base, or of the files, when empty.
    pub platforms: Vec<Platform>,
    /// Media types; `None` takes those of the base.
    pub media_types: Option<MediaTypes>,
    /// How new layers are compressed.
    pub compression: CompressionLevel,
    /// Compressing threads; does not change the result.
    pub threads: usize,
    /// Layers of a base that are read at the same time.
    pub concurrency: usize,
    /// Annotations of the result.
    pub annotations: Annotations,
    /// Refuse the result if it has another digest.
    pub expected_digest: Option<Digest>,
}

/// The made images.
#[derive(Debug)]
pub struct MadeRunnable<'a> {
    /// The manifest, or the index of several.
    pub root: RawDocument,
    /// Layers of the image; none for an index.
    pub layers: Option<usize>,
    /// Everything below the root, and the root.
    pub graph: Graph,
    /// The source of everything in the graph.
    pub source: MadeSource<'a>,
}

/// Makes the images; new layers are written to a file without a name in `folder`.
///
/// Shape: one image for each platform, under an index where there are several.
/// Errors: those of reading the base and the files; [`TransferError::UnexpectedDigest`].
/// Cost: each file is read once for each different layer it is in, and its first bytes once more. The layers of a base
/// are read once if files are added or names are looked up, but not with [`BaseListing::Unread`].
pub fn make_runnable<'a>(
    request: &RunnableRequest,
    origin: &RunnableOrigin<'a>,
    folder: &Path,
    observer: &dyn Observer,
) -> Result<MadeRunnable<'a>, TransferError> {
    if let Some(counts) = origin.base().map(|base| base.attached).filter(|counts| counts.total() > 0) {
        observer.event(Event::Warning(&Warning::BaseIsSigned { counts }));
    }
    let wanted = wanted_platforms(request);
    let found = starts(origin, &wanted, request.media_types)?;
    if !found.left_out.is_empty() {
        let platforms = found.left_out;
        observer.event(Event::Warning(&Warning::PlatformsWithoutFiles { platforms }));
    }
    let source = MadeSource {
        place: folder.to_owned(),
        layers: Vec::new(),
        configs: BTreeMap::new(),
        documents: Vec::new(),
        bases: origin.sources(),
    };
    let spool = Arc::new(nameless_file(folder)?);
    let mut maker = Maker { request, origin, folder, observer, spool, end: 0, packed: Vec::new(), source };
    let mut images = Vec::new();
    for image in &found.images {
        images.push((maker.image(image)?, image.platform.clone()));
    }
    maker.finish(&images)
}

/// Writes what was made into an OCI layout tar.
///
/// Errors: nothing is visible at the target after one.
pub fn write_runnable(
    made: &MadeRunnable<'_>,
    target: &LayoutTarget,
    names: &[Reference],
    concurrency: usize,
    observer: &dyn Observer,
) -> Result<LayoutReport, TransferError> {
    let root = made.root.descriptor();
    // The base's non-distributable layers are copied too; the option without such layers would give a warning.
    let include_non_distributable = made.graph.blobs.iter().any(Descriptor::is_non_distributable);
    let roots = vec![NamedImage::new(root, names)];
    let request = LayoutRequest { target: target.clone(), roots, concurrency, include_non_distributable };
    copy_to_layout(&made.source, &request, observer)
}

/// Returns the platforms to make: the requested ones, else those that the files name.
fn wanted_platforms(request: &RunnableRequest) -> Vec<Platform> {
    let mut wanted = request.platforms.clone();
    if wanted.is_empty() {
        for platform in request.files.iter().filter_map(|(platform, _)| platform.as_ref()) {
            if !wanted.contains(platform) {
                wanted.push(platform.clone());
            }
        }
    }
    wanted
}

struct Maker<'r, 'a> {
    request: &'r RunnableRequest,
    origin: &'r RunnableOrigin<'a>,
    folder: &'r Path,
    observer: &'r dyn Observer,
    spool: Arc<std::fs::File>,
    end: u64,
    /// Packed layers by their plan.
    packed: Vec<(LayerPlan, MediaTypes, PackedLayer)>,
    source: MadeSource<'a>,
}

impl<'a> Maker<'_, 'a> {
    fn image(&mut self, image: &PlatformStart) -> Result<RawDocument, TransferError> {
        let PlatformStart { platform, start } = image;
        let is_for = |wanted: &Option<Platform>| wanted.as_ref().is_none_or(|wanted| platform.serves(wanted));
        let files: Vec<PlacedFiles> = self
            .request
            .files
            .iter()
            .filter(|(wanted, _)| is_for(wanted))
            .map(|(_, files)| files.clone())
            .collect();
        let names_wanted = self.request.user.as_ref().is_some_and(UserName::has_names);
        let is_wanted = !files.is_empty() || names_wanted || self.is_read_for_checks(start);
        let is_read = is_wanted && self.request.plan.listing == BaseListing::Read;
        let base = if !is_read {
            ImageFiles::default()
        } else {
            let reading = Reading {
                wanted: if names_wanted { ACCOUNTS } else { &[] },
                contents: Contents::Skip,
                concurrency: self.request.concurrency,
                observer: &Silent,
                budget: Budget::default(),
            };
            read_files(&self.source, &start.layers, &reading)?
        };
        let mut edits = self.request.edits.clone();
        if let Some(user) = &self.request.user {
            edits.user = Some(user.numbers(&base)?);
        }
        let mut tree = base.tree;
        let plan = plan_layers(&files, &self.request.plan, &mut tree)?;
        if plan.links_left_out > 0 {
            let count = plan.links_left_out;
            self.observer.event(Event::Warning(&Warning::LinksLeftOut { count }));
        }
        let mut layers = Vec::new();
        for plan in &plan.layers {
            layers.push((self.layer(plan, start.media_types)?, plan.destination.clone()));
        }
        let annotations = self.annotations(start.media_types);
        let made = compose_runnable(start, &layers, &edits, &annotations);
        let made = made.map_err(|error| TransferError::NoBase {
            place: self.source.label(),
            problem: error.to_string(),
        })?;
        if let Some(cmd) = made.dropped_cmd {
            self.observer.event(Event::Warning(&Warning::CmdDropped { cmd }));
        }
        if let Ok(config) = Config::parse(&made.image.config) {
            let tree = is_read.then_some(&tree);
            Planned { platform, tree, plan: &plan, config: &config }.check(self.observer);
        }
        let manifest = made.image.manifest;
        self.source.configs.insert(Digest::sha256_of(&made.image.config), made.image.config);
        self.source.documents.push(manifest.clone());
        Ok(manifest)
    }

    /// Tells whether a base is read only to check that the new entrypoint exists; a registry's base is not, to save
    /// bytes.
    fn is_read_for_checks(&self, start: &Start) -> bool {
        let edits = &self.request.edits;
        let is_local = |layer: &Descriptor| self.source.repository_of(&layer.digest).is_none();
        (edits.entrypoint.is_some() || edits.cmd.is_some()) && start.layers.iter().all(is_local)
    }

    /// Packs a layer, unless the image of another platform has the same one.
    fn layer(&mut self, plan: &LayerPlan, media_types: MediaTypes) -> Result<PackedLayer, TransferError> {
        let same = |(packed, types, _): &&(LayerPlan, MediaTypes, PackedLayer)| {
            *types == media_types && packed == plan
        };
        if let Some((_, _, layer)) = self.packed.iter().find(same) {
            return Ok(layer.clone());
        }
        let encoding = LayerEncoding {
            compression: self.request.compression,
            media_types,
            threads: self.request.threads,
        };
        let progress = |bytes| self.observer.event(Event::Packed { bytes });
        let mut sink = WriteFrom::new(&self.spool, self.end);
        let layer =
            plan.pack(encoding, &mut sink, &progress).map_err(|error| with_path(error, self.folder))?;
        let (descriptor, file) = (layer.descriptor.clone(), Arc::clone(&self.spool));
        self.source.layers.push(Spooled { descriptor, file, offset: self.end });
        self.end = sink.position();
        self.packed.push((plan.clone(), media_types, layer.clone()));
        Ok(layer)
    }

    /// Returns the annotations of the result; Docker's media types have no annotations, so none about the base.
    fn annotations(&self, media_types: MediaTypes) -> Annotations {
        let mut all = Annotations::new();
        if media_types == MediaTypes::Oci {
            if let Some(base) = self.origin.base() {
                all.extend(base.name.iter().map(|name| (keys::BASE_NAME.to_owned(), name.clone())));
                all.insert(keys::BASE_DIGEST.to_owned(), base.root.digest.to_string());
            }
            let created = self.request.edits.created.iter();
            all.extend(created.map(|created| (keys::CREATED.to_owned(), created.clone())));
        }
        all.extend(self.request.annotations.clone());
        all
    }

    fn finish(mut self, images: &[(RawDocument, Platform)]) -> Result<MadeRunnable<'a>, TransferError> {
        let packed = self.packed.iter().map(|(_, _, layer)| layer);
        self.observer.event(Event::PackFinished {
            entries: packed.clone().map(|layer| layer.entries).sum(),
            uncompressed: packed.clone().map(|layer| layer.uncompressed_size).sum(),
            compressed: packed.map(|layer| layer.descriptor.size).sum(),
        });
        let (root, layers) = match images {
            [(only, _)] => (only.clone(), only.manifest().map(|manifest| manifest.layers.len())),
            _ => {
                let is_docker = |(image, _): &(RawDocument, Platform)| {
                    image.media_type() == MediaTypes::Docker.manifest()
                };
                let media_types =
                    if images.iter().all(is_docker) { MediaTypes::Docker } else { MediaTypes::Oci };
                let listed = images.iter().map(|(image, platform)| IndexImage {
                    descriptor: image.descriptor(),
                    platform: platform.clone(),
                    label: "the base".to_owned(),
                });
                let index = compose_index(listed.collect(), Vec::new(), self.annotations(media_types))?;
                self.source.documents.push(index.clone());
                (index, None)
            }
        };
        check_expected(self.request.expected_digest.as_ref(), root.digest())?;
        let descriptor: Descriptor = root.descriptor();
        let graph = Graph::of(&self.source, &descriptor)?;
        Ok(MadeRunnable { root, layers, graph, source: self.source })
    }
}

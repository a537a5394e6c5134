//! From an app to a source image, in a tar or a spool; layers that an earlier image has are not made again.
//!
//! What decides is the `diff_id`, the digest before compression: neither another compressor nor another level makes an
//! unchanged layer move. The earlier image's configuration tells which stored layer has which `diff_id`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::model::{Descriptor, Digest, Reference};
use crate::pack::{
    ImageOptions, LayerForm, Layering, PackedLayer, Profile, SourceEntry, SourceOptions, SourceTree,
};
use crate::store::layout::{LayoutTarWriter, LayoutTarget};
use crate::stream::nameless_file;
use crate::tar::display_name;

use super::events::{Event, Observer, Warning};
use super::produce::{Spooled, composed, finish_layout, finished, with_path};
use super::{ImageSource, PackedImage, PackedSource, TransferError, workers};

/// What is to be packed.
#[derive(Clone, Debug)]
pub struct SourceRequest {
    /// A folder, or a zip, jar or war.
    pub path: PathBuf,
    /// What is taken from it.
    pub options: SourceOptions,
    /// How it is spread over layers.
    pub layering: Layering,
    /// How layers are stored.
    pub form: LayerForm,
    /// Labels, annotations, platform, media types.
    pub image: ImageOptions,
    /// Refuse the result if it has another digest.
    pub expected_digest: Option<Digest>,
}

/// An earlier image whose layers may be used again.
#[derive(Clone)]
pub struct Base<'a> {
    source: &'a dyn ImageSource,
    layers: BTreeMap<Digest, Descriptor>,
}

impl std::fmt::Debug for Base<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Base").field("layers", &self.layers).finish_non_exhaustive()
    }
}

impl<'a> Base<'a> {
    /// Learns an image's layers; an image that is no help (an index, an artifact) has none.
    ///
    /// Errors: only those of reading; what a configuration says about its own image is believed, as every consumer
    /// of that image does.
    pub fn of(source: &'a dyn ImageSource, root: &Descriptor) -> Result<Self, TransferError> {
        let document = source.read_document(root)?;
        let mut layers = BTreeMap::new();
        if let Some(manifest) = document.manifest()
            && let Some(config) = source.read_config(manifest)?
            && config.rootfs.diff_ids.len() == manifest.layers.len()
        {
            for (diff_id, layer) in config.rootfs.diff_ids.into_iter().zip(&manifest.layers) {
                layers.insert(diff_id, layer.clone());
            }
        }
        Ok(Self { source, layers })
    }

    /// Returns the layer that unpacks to this, if it is stored as we would store it.
    fn find(&self, diff_id: &Digest, form: LayerForm) -> Option<&Descriptor> {
        self.layers.get(diff_id).filter(|layer| layer.media_type == form.media_type())
    }
}

/// Lists the app and tells about links.
fn list(
    request: &SourceRequest,
    observer: &dyn Observer,
) -> Result<(SourceTree, Vec<Vec<usize>>), TransferError> {
    let tree = SourceTree::list(&request.path, &request.options)?;
    if let Some(links) = tree.copied_links() {
        let warning = Warning::LinksCopied { count: links.count, first: display_name(&links.first) };
        observer.event(Event::Warning(&warning));
    }
    let groups = tree.layers(request.layering);
    Ok((tree, groups))
}

/// Finds a group's layer in the base; costs one reading of the group's files.
fn reused(
    tree: &SourceTree,
    group: &[usize],
    form: LayerForm,
    base: Option<&Base<'_>>,
    progress: &dyn Fn(u64),
) -> Result<Option<PackedLayer>, TransferError> {
    let Some(base) = base.filter(|base| !base.layers.is_empty()) else { return Ok(None) };
    let layer = tree.hash(group, &|_| ())?;
    let Some(found) = base.find(&layer.diff_id, form) else { return Ok(None) };
    progress(layer.size);
    Ok(Some(PackedLayer {
        descriptor: Descriptor::new(&found.media_type, found.digest.clone(), found.size),
        diff_id: layer.diff_id,
        uncompressed_size: layer.size,
        entries: layer.entries,
    }))
}

/// Packs an app into an OCI layout tar.
///
/// Errors: nothing is visible at the target after one.
pub fn pack_source_to_layout(
    request: &SourceRequest,
    base: Option<&Base<'_>>,
    target: &LayoutTarget,
    names: &[Reference],
    observer: &dyn Observer,
) -> Result<PackedImage, TransferError> {
    let (tree, groups) = list(request, observer)?;
    let mut writer = LayoutTarWriter::create(target)?;
    let path = match target {
        LayoutTarget::File(path) | LayoutTarget::Spool(path) => path,
    };
    let progress = |bytes| observer.event(Event::Packed { bytes });
    let mut layers = Vec::new();
    for group in &groups {
        let layer = match (reused(&tree, group, request.form, base, &progress)?, base) {
            (Some(layer), Some(base)) => {
                copy_blob(base.source, &layer.descriptor, &mut writer)?;
                layer
            }
            _ => writer.add_stream(|sink| {
                let layer = tree
                    .pack(group, request.form, sink, &progress)
                    .map_err(|error| with_path(error, path))?;
                Ok::<_, TransferError>((layer.descriptor.digest.clone(), layer.descriptor.size, layer))
            })?,
        };
        layers.push(layer);
    }
    let expected = request.expected_digest.as_ref();
    let image = composed(&Profile::SOURCE, &layers, &request.image, expected, observer)?;
    finish_layout(writer, Profile::SOURCE, layers, &image, names)
}

/// Copies a layer as it is stored, verified on the way.
fn copy_blob(
    source: &dyn ImageSource,
    layer: &Descriptor,
    writer: &mut LayoutTarWriter,
) -> Result<(), TransferError> {
    let Some(slot) = writer.reserve(&layer.digest, layer.size)? else { return Ok(()) };
    let mut from = source.open_blob(layer)?;
    let what = format!("blob `{}`", layer.digest);
    io::copy(&mut from, &mut slot.writer())
        .map(drop)
        .map_err(|error| TransferError::from_read(&source.place(), &what, error))
}

/// Packs an app into a file without a name in `folder`, to be pushed from there.
pub fn pack_source_to_spool<'a>(
    request: &SourceRequest,
    base: Option<&Base<'a>>,
    folder: &Path,
    observer: &dyn Observer,
) -> Result<(PackedImage, PackedSource<'a>), TransferError> {
    let (tree, groups) = list(request, observer)?;
    let packing = Packing { request, base, folder, observer, tree: &tree, spools: Mutex::default() };
    let done = packing.run(&groups)?;
    let files = packing.spools.into_inner().map_err(|_| TransferError::Stopped)?;
    let layers: Vec<PackedLayer> = done.iter().map(|(layer, _)| layer.clone()).collect();
    let spooled = done.into_iter().filter_map(|(layer, place)| {
        let (file, offset) = place?;
        Some(Spooled { descriptor: layer.descriptor, file, offset })
    });
    let spooled = spooled.collect();
    let expected = request.expected_digest.as_ref();
    let image = composed(&Profile::SOURCE, &layers, &request.image, expected, observer)?;
    let packed = finished(Profile::SOURCE, layers, &image, None);
    let files = files.into_iter().flatten().map(|spool| spool.file).collect();
    let base = base.map(|base| base.source);
    Ok((packed, PackedSource { files, spooled, image, place: folder.to_owned(), base }))
}

/// Most layers packed at the same time; each has its own blocks of memory.
const PACKERS: usize = 4;

/// A layer, and where it is if it was packed: which spool, and where in it.
type Done = (PackedLayer, Option<(usize, u64)>);

/// Several layers packed at the same time: between the end of one and the beginning of the next a single packer would
/// leave all but one thread idle.
struct Packing<'a, 'b> {
    request: &'a SourceRequest,
    base: Option<&'a Base<'b>>,
    folder: &'a Path,
    observer: &'a dyn Observer,
    tree: &'a SourceTree,
    /// One for each packer; taken while it is written to.
    spools: Mutex<Vec<Option<Append>>>,
}

impl Packing<'_, '_> {
    fn run(&self, groups: &[Vec<usize>]) -> Result<Vec<Done>, TransferError> {
        let packers = self.request.form.threads.min(PACKERS).min(groups.len()).max(1);
        let threads = (self.request.form.threads / packers).max(1);
        // The largest first, so that none is left over at the end.
        let size = |number: &usize| -> u64 {
            let group = groups.get(*number).map_or(&[][..], Vec::as_slice);
            group.iter().filter_map(|entry| self.tree.entries().get(*entry)).map(SourceEntry::size).sum()
        };
        let mut order: Vec<usize> = (0..groups.len()).collect();
        order.sort_by_cached_key(|number| std::cmp::Reverse(size(number)));
        let done: Mutex<BTreeMap<usize, Done>> = Mutex::default();
        workers::for_each(&order, packers, |number| {
            let layer = self.layer(groups.get(*number).map_or(&[], Vec::as_slice), threads)?;
            if let Ok(mut done) = done.lock() {
                done.insert(*number, layer);
            }
            Ok(())
        })?;
        Ok(done.into_inner().map_err(|_| TransferError::Stopped)?.into_values().collect())
    }

    fn layer(&self, group: &[usize], threads: usize) -> Result<Done, TransferError> {
        let progress = |bytes| self.observer.event(Event::Packed { bytes });
        let form = LayerForm { threads, ..self.request.form };
        if let Some(layer) = reused(self.tree, group, form, self.base, &progress)? {
            return Ok((layer, None));
        }
        let (number, mut spool) = self.take()?;
        let offset = spool.offset;
        let packed = self.tree.pack(group, form, &mut spool, &progress);
        if let Ok(mut spools) = self.spools.lock()
            && let Some(place) = spools.get_mut(number)
        {
            *place = Some(spool);
        }
        Ok((packed.map_err(|error| with_path(error, self.folder))?, Some((number, offset))))
    }

    /// Takes a spool that nobody writes to, or begins one.
    fn take(&self) -> Result<(usize, Append), TransferError> {
        let mut spools = self.spools.lock().map_err(|_| TransferError::Stopped)?;
        for (number, place) in spools.iter_mut().enumerate() {
            if let Some(spool) = place.take() {
                return Ok((number, spool));
            }
        }
        spools.push(None);
        Ok((spools.len() - 1, Append { file: nameless_file(self.folder)?, offset: 0 }))
    }
}

/// Writes at a moving offset.
struct Append {
    file: File,
    offset: u64,
}

impl Write for Append {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all_at(bytes, self.offset)?;
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! From an app to a source image, in a tar or a spool; layers that an earlier image has are not made again.
//!
//! What decides is the `diff_id`, the digest before compression: neither another compressor nor another level makes an
//! unchanged layer move. The earlier image's configuration tells which stored layer has which `diff_id`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::model::{Descriptor, Digest, Reference};
use crate::pack::{ImageOptions, LayerForm, Layering, PackedLayer, Profile, SourceOptions, SourceTree};
use crate::store::layout::{LayoutTarWriter, LayoutTarget};
use crate::stream::nameless_file;
use crate::tar::display_name;

use super::events::{Event, Observer, Warning};
use super::produce::{Spooled, composed, finish_layout, finished, with_path};
use super::{ImageSource, PackedImage, PackedSource, TransferError};

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
    let file = nameless_file(folder)?;
    let progress = |bytes| observer.event(Event::Packed { bytes });
    let (mut layers, mut spooled) = (Vec::new(), Vec::new());
    let mut end = Append { file: &file, offset: 0 };
    for group in &groups {
        let layer = match reused(&tree, group, request.form, base, &progress)? {
            Some(layer) => layer,
            None => {
                let offset = end.offset;
                let layer = tree
                    .pack(group, request.form, &mut end, &progress)
                    .map_err(|error| with_path(error, folder))?;
                spooled.push(Spooled { descriptor: layer.descriptor.clone(), offset });
                layer
            }
        };
        layers.push(layer);
    }
    let expected = request.expected_digest.as_ref();
    let image = composed(&Profile::SOURCE, &layers, &request.image, expected, observer)?;
    let packed = finished(Profile::SOURCE, layers, &image, None);
    let base = base.map(|base| base.source);
    Ok((packed, PackedSource { file, spooled, image, place: folder.to_owned(), base }))
}

/// Writes at a moving offset.
struct Append<'a> {
    file: &'a File,
    offset: u64,
}

impl Write for Append<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all_at(bytes, self.offset)?;
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! Packs an app into a source image, in a tar or a spool; layers that an earlier image has are used again.
//!
//! Layers are compared by `diff_id`, the digest before compression: an unchanged layer is not sent again when the
//! compressor or its level changes. The earlier image's configuration tells which stored layer has which `diff_id`.

mod base;
mod packing;
mod restored_files;

use std::io;
use std::path::{Path, PathBuf};

use crate::model::{Descriptor, Digest, Reference};
use crate::pack::{
    AppOptions, AppTree, Backslashes, ImageOptions, LayerEncoding, LayerSplit, PackedLayer, Profile, Resource,
};
use crate::store::layout::{LayoutTarWriter, LayoutTarget};
use crate::tar::display_name;

use super::blob_copy::BlobCopier;
use super::events::{Event, Observer, Warning};
use super::produce::{composed, finish_layout, finished, with_path};
use super::{FileList, ImageSource, PackedImage, SpooledImage, TransferError};
pub use base::Base;
pub(super) use packing::Ready;
use packing::{Placed, pack_layers, reused};
use restored_files::restore_files;

/// What is to be packed.
#[derive(Clone, Debug)]
pub struct AppRequest {
    /// A folder, or a zip, jar or war; with resources there may be none.
    pub path: PathBuf,
    /// Files to be taken from the earlier image.
    pub resources: Option<Resources>,
    /// What is taken from it.
    pub options: AppOptions,
    /// How it is spread over layers.
    pub layer_split: LayerSplit,
    /// How layers are stored.
    pub encoding: LayerEncoding,
    /// Labels, annotations, platform, media types.
    pub image: ImageOptions,
    /// Refuse the result if it has another digest.
    pub expected_digest: Option<Digest>,
}

/// The files that an upload left out because an earlier image has them.
#[derive(Clone, Debug)]
pub struct Resources {
    /// The list's file, for messages.
    pub path: PathBuf,
    /// The files.
    pub list: Vec<Resource>,
}

/// Lists the app's files; sends a warning event for symbolic links.
fn list(
    request: &AppRequest,
    base: Option<&Base<'_>>,
    folder: &Path,
    observer: &dyn Observer,
) -> Result<(AppTree, Vec<Vec<usize>>), TransferError> {
    let tree = match &request.resources {
        None => AppTree::list(&request.path, &request.options)?,
        Some(resources) => {
            let restored = restore_files(base, &resources.list, folder, request.encoding.threads)?;
            let upload = Some(request.path.as_path()).filter(|path| !path.as_os_str().is_empty());
            AppTree::with_restored(upload, &resources.path, &request.options, restored)?
        }
    };
    if let Some(links) = tree.copied_links() {
        let warning = Warning::LinksCopied { count: links.count, first: display_name(&links.first) };
        observer.event(Event::Warning(&warning));
    }
    if tree.links_left_out() > 0 {
        let count = tree.links_left_out();
        observer.event(Event::Warning(&Warning::LinksLeftOut { count }));
    }
    match tree.backslashes() {
        Some(Backslashes::Separators { first }) => {
            observer.event(Event::Warning(&Warning::Backslashes { first: display_name(first) }));
        }
        Some(Backslashes::InNames { first }) => {
            observer.event(Event::Warning(&Warning::BackslashInName { first: display_name(first) }));
        }
        None => {}
    }
    let groups = tree.layers(request.layer_split);
    Ok((tree, groups))
}

/// Packs an app into an OCI layout tar.
///
/// Several layers are packed at the same time into a file beside the tar, then copied into the tar in order.
/// Errors: nothing is visible at the target after one.
pub fn pack_app_to_layout(
    request: &AppRequest,
    base: Option<&Base<'_>>,
    target: &LayoutTarget,
    names: &[Reference],
    observer: &dyn Observer,
) -> Result<PackedImage, TransferError> {
    let (tree, groups) = list(request, base, target.folder(), observer)?;
    let mut writer = LayoutTarWriter::create(target)?;
    let layers = match groups.as_slice() {
        [group] => vec![only_layer(&tree, group, request.encoding, base, target, &mut writer, observer)?],
        groups => {
            let packed =
                pack_layers(&tree, groups, request.encoding, base, target.folder(), observer, &|_| Ok(()))?;
            for (layer, place) in &packed {
                match (place, base) {
                    (Some(place), _) => {
                        let layer = &layer.descriptor;
                        if let Some(slot) = writer.reserve(&layer.digest, layer.size)? {
                            let mut bytes = place.read();
                            io::copy(&mut bytes, &mut slot.writer()).map_err(|error| slot.failed(error))?;
                        }
                    }
                    (None, Some(base)) => copy_blob(base.source, &layer.descriptor, &mut writer, observer)?,
                    (None, None) => {}
                }
            }
            packed.into_iter().map(|(layer, _)| layer).collect()
        }
    };
    let expected = request.expected_digest.as_ref();
    let image = composed(&Profile::APP, &layers, &request.image, expected, observer)?;
    finish_layout(writer, Profile::APP, layers, &image, names)
}

/// Packs the only layer directly into the tar.
fn only_layer(
    tree: &AppTree,
    group: &[usize],
    encoding: LayerEncoding,
    base: Option<&Base<'_>>,
    target: &LayoutTarget,
    writer: &mut LayoutTarWriter,
    observer: &dyn Observer,
) -> Result<PackedLayer, TransferError> {
    let progress = |bytes| observer.event(Event::Packed { bytes });
    if let (Some(layer), Some(base)) = (reused(tree, group, encoding, base, &progress)?, base) {
        copy_blob(base.source, &layer.descriptor, writer, observer)?;
        return Ok(layer);
    }
    writer.add_stream(|sink| {
        let layer =
            tree.pack(group, encoding, sink, &progress).map_err(|error| with_path(error, target.path()))?;
        Ok((layer.descriptor.digest.clone(), layer.descriptor.size, layer))
    })
}

/// Copies a layer as it is stored, and verifies its bytes while they are copied.
fn copy_blob(
    source: &dyn ImageSource,
    layer: &Descriptor,
    writer: &mut LayoutTarWriter,
    observer: &dyn Observer,
) -> Result<(), TransferError> {
    let Some(slot) = writer.reserve(&layer.digest, layer.size)? else { return Ok(()) };
    BlobCopier::new(source, observer).copy_blob(layer, &mut slot.writer(), &|error| slot.failed(error))
}

/// Packs an app into files without names in `folder`, as a source.
pub fn pack_app<'a>(
    request: &AppRequest,
    base: Option<&Base<'a>>,
    folder: &Path,
    observer: &dyn Observer,
) -> Result<(PackedImage, SpooledImage<'a>), TransferError> {
    let (packed, source, _) = pack_app_to_spool(request, base, folder, observer, &|_| Ok(()))?;
    Ok((packed, source))
}

/// Packs an app into files without names in `folder`, to be pushed from there.
///
/// Shape: the image, where its blobs are, and, for a request with resources, which files it has. Each of several layers
/// is passed to `ready` as soon as it is packed.
pub(super) fn pack_app_to_spool<'a>(
    request: &AppRequest,
    base: Option<&Base<'a>>,
    folder: &Path,
    observer: &dyn Observer,
    ready: Ready<'_>,
) -> Result<(PackedImage, SpooledImage<'a>, FileList), TransferError> {
    let (tree, groups) = list(request, base, folder, observer)?;
    let keep: Ready<'_> = &|_| Ok(());
    let ready = if groups.len() > 1 { ready } else { keep };
    let placed: Vec<Placed> = pack_layers(&tree, &groups, request.encoding, base, folder, observer, ready)?;
    let (layers, spooled): (Vec<PackedLayer>, Vec<_>) = placed.into_iter().unzip();
    let spooled = spooled.into_iter().flatten().collect();
    let expected = request.expected_digest.as_ref();
    let image = composed(&Profile::APP, &layers, &request.image, expected, observer)?;
    let packed = finished(Profile::APP, layers, &image, None);
    let base = base.map(|base| base.source);
    let source = SpooledImage { spooled, image, place: folder.to_owned(), base };
    Ok((packed, source, FileList::new(tree.sums())))
}

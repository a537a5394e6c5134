//! From folders to an image in a tar, or in a spool from which it is pushed.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::model::{Descriptor, Digest, RawDocument, Reference};
use crate::pack::{
    BundleError, BundleLayout, ComposedImage, ImageOptions, LayerOptions, PackError, PackedLayer, Profile,
    compose, find_bundle, pack_layer,
};
use crate::store::layout::{LayoutTarWriter, LayoutTarget};
use crate::stream::{FileError, VerifyingReader, nameless_file};

use super::events::{Event, Observer};
use super::names::layout_index;
use super::{ImageSource, Named, TransferError};

/// What is to be packed.
#[derive(Clone, Debug)]
pub struct PackRequest {
    /// Folders and files, in this order.
    pub roots: Vec<PathBuf>,
    /// What to make of them; `None` makes a bundle where a root has `.imgpkg`, else a plain image.
    pub profile: Option<Profile>,
    /// The layer.
    pub layer: LayerOptions,
    /// Everything else.
    pub image: ImageOptions,
    /// Refuse the result if it has another digest.
    pub expected_digest: Option<Digest>,
}

/// An image that was packed.
#[derive(Debug)]
pub struct PackedImage {
    /// What was made.
    pub profile: Profile,
    /// The manifest.
    pub manifest: RawDocument,
    /// The layer.
    pub layer: PackedLayer,
    /// Bytes of manifest, configuration and layer.
    pub size: u64,
    /// The nameless file, for [`LayoutTarget::Spool`].
    pub spool: Option<File>,
}

/// Checks what can be checked before anything is read in full or written, and settles the profile.
fn prepare(request: &PackRequest) -> Result<(Profile, LayerOptions), TransferError> {
    for root in &request.roots {
        std::fs::metadata(root).map_err(|error| FileError::io("read", root, error))?;
    }
    let bundle = match request.profile {
        // For a plain image only a valid bundle matters: that one was meant to be pushed as a bundle.
        Some(profile) if !profile.is_bundle => match find_bundle(&request.roots, &request.layer.filter) {
            Ok(bundle) => bundle,
            Err(BundleError::File(error)) => return Err(error.into()),
            Err(_) => None,
        },
        _ => find_bundle(&request.roots, &request.layer.filter)?,
    };
    let profile = match (request.profile, &bundle) {
        (Some(profile), Some(BundleLayout { folder, .. })) if !profile.is_bundle => {
            return Err(BundleError::IsBundle { folder: folder.clone() }.into());
        }
        (Some(profile), None) if profile.is_bundle => {
            return Err(BundleError::Missing { roots: request.roots.clone() }.into());
        }
        (Some(profile), _) => profile,
        (None, Some(_)) => Profile::BUNDLE,
        (None, None) => Profile::IMAGE,
    };
    let only_bundle_folder = bundle.filter(|_| profile.is_bundle).map(|bundle| bundle.folder);
    Ok((profile, LayerOptions { only_bundle_folder, ..request.layer.clone() }))
}

fn composed(
    request: &PackRequest,
    profile: &Profile,
    layer: &PackedLayer,
    observer: &dyn Observer,
) -> Result<ComposedImage, TransferError> {
    observer.event(Event::PackFinished {
        entries: layer.entries,
        uncompressed: layer.uncompressed_size,
        compressed: layer.descriptor.size,
    });
    let image = compose(profile, std::slice::from_ref(layer), &request.image);
    match &request.expected_digest {
        Some(expected) if expected != image.manifest.digest() => Err(TransferError::UnexpectedDigest {
            expected: expected.clone(),
            found: image.manifest.digest().clone(),
        }),
        _ => Ok(image),
    }
}

fn finished(profile: Profile, layer: PackedLayer, image: &ComposedImage, spool: Option<File>) -> PackedImage {
    let size = layer.descriptor.size + image.config.len() as u64 + image.manifest.bytes().len() as u64;
    PackedImage { profile, manifest: image.manifest.clone(), layer, size, spool }
}

/// Returns the digest of an image's configuration.
fn config_of(image: &ComposedImage) -> Digest {
    Digest::sha256_of(&image.config)
}

/// Packs into an OCI layout tar; the layer is written once, to its final place.
///
/// Errors: nothing is visible at the target after one.
pub fn pack_to_layout(
    request: &PackRequest,
    target: &LayoutTarget,
    names: &[Reference],
    observer: &dyn Observer,
) -> Result<PackedImage, TransferError> {
    let (profile, options) = prepare(request)?;
    let mut writer = LayoutTarWriter::create(target)?;
    let path = match target {
        LayoutTarget::File(path) | LayoutTarget::Spool(path) => path,
    };
    let progress = |bytes| observer.event(Event::Packed { bytes });
    let layer = writer.add_stream(|sink| {
        let layer =
            pack_layer(&request.roots, &options, sink, &progress).map_err(|error| with_path(error, path))?;
        Ok::<_, TransferError>((layer.descriptor.digest.clone(), layer.descriptor.size, layer))
    })?;
    let image = composed(request, &profile, &layer, observer)?;
    writer.add_bytes(&config_of(&image), &image.config)?;
    writer.add_document(&image.manifest)?;
    let root = Named::new(image.manifest.descriptor(), names);
    let index = layout_index(&[root], std::slice::from_ref(&image.manifest));
    let written = writer.finish(&index)?;
    Ok(finished(profile, layer, &image, written.spool))
}

/// Names the file that could not be written.
fn with_path(error: PackError, path: &Path) -> TransferError {
    match error {
        PackError::Sink(error) => FileError::io("write", path, error).into(),
        other => other.into(),
    }
}

/// Packs into a file without a name in `folder`, to be pushed from there.
pub fn pack_to_spool(
    request: &PackRequest,
    folder: &Path,
    observer: &dyn Observer,
) -> Result<(PackedImage, PackedSource), TransferError> {
    let (profile, options) = prepare(request)?;
    let mut file = nameless_file(folder)?;
    let progress = |bytes| observer.event(Event::Packed { bytes });
    let layer = pack_layer(&request.roots, &options, &mut file, &progress)
        .map_err(|error| with_path(error, folder))?;
    let image = composed(request, &profile, &layer, observer)?;
    let packed = finished(profile, layer, &image, None);
    let layer = packed.layer.descriptor.clone();
    Ok((packed, PackedSource { file, layer, image, place: folder.to_owned() }))
}

/// An image just packed, as a source.
#[derive(Debug)]
pub struct PackedSource {
    file: File,
    layer: Descriptor,
    image: ComposedImage,
    place: PathBuf,
}

impl ImageSource for PackedSource {
    fn place(&self) -> String {
        format!("the image packed in `{}`", self.place.display())
    }

    fn read_document(&self, _: &Descriptor) -> Result<RawDocument, TransferError> {
        Ok(self.image.manifest.clone())
    }

    fn lacks(&self, digest: &Digest) -> bool {
        *digest != self.layer.digest
            && *digest != config_of(&self.image)
            && digest != self.image.manifest.digest()
    }

    fn open_blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>, TransferError> {
        // An empty layer and a configuration cannot have the same digest, so one comparison is enough.
        let bytes: Box<dyn Read + Send + '_> = if descriptor.digest == self.layer.digest {
            Box::new(FileFromStart { file: &self.file, offset: 0 })
        } else {
            Box::new(self.image.config.as_slice())
        };
        Ok(Box::new(VerifyingReader::new(bytes, descriptor.digest.clone(), descriptor.size)))
    }
}

/// Reads a file by position, so that several readers do not disturb one another.
struct FileFromStart<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for FileFromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buffer, self.offset)?;
        self.offset += n as u64;
        Ok(n)
    }
}

//! Packs folders into an image in a tar, or in a spool from which it is pushed.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::{Descriptor, Digest, RawDocument, Reference, Repository};
use crate::pack::{
    BundleError, BundleLayout, ComposedImage, ImageOptions, LayerOptions, PackError, PackageChecks,
    PackedLayer, Profile, compose, find_bundle, pack_layer, package_problems,
};
use crate::store::NamedImage;
use crate::store::layout::{LayoutTarWriter, LayoutTarget};
use crate::stream::{BlobStream, FileError, ReadFrom, VerifyingReader, nameless_file};

use super::events::{Event, Observer, Warning};
use super::root_names::layout_index;
use super::{ImageSource, TransferError};

/// Most warnings about one package repository.
const PACKAGE_WARNINGS: usize = 20;

/// A request to pack folders.
#[derive(Clone, Debug)]
pub struct PackRequest {
    /// Folders and files, in this order.
    pub roots: Vec<PathBuf>,
    /// The profile; `None` makes a bundle if a root has `.imgpkg`, else a plain image.
    pub profile: Option<Profile>,
    /// Options of the layer.
    pub layer: LayerOptions,
    /// Options of the image.
    pub image: ImageOptions,
    /// Refuse the result if it has another digest.
    pub expected_digest: Option<Digest>,
    /// What happens to a package repository with mistakes.
    pub package_checks: PackageChecks,
}

/// An image that was packed.
#[derive(Debug)]
pub struct PackedImage {
    /// The profile that was used.
    pub profile: Profile,
    /// The manifest.
    pub manifest: RawDocument,
    /// The layers, lowest first.
    pub layers: Vec<PackedLayer>,
    /// Bytes of manifest, configuration and layers.
    pub size: u64,
    /// The nameless file, for [`LayoutTarget::Spool`].
    pub spool: Option<File>,
}

/// Chooses the profile, and checks the request before files are read in full or anything is written.
fn prepare(request: &PackRequest, observer: &dyn Observer) -> Result<(Profile, LayerOptions), TransferError> {
    for root in &request.roots {
        std::fs::metadata(root).map_err(|error| FileError::io("read", root, error))?;
    }
    let bundle = match request.profile {
        // A plain image from the folder of a valid bundle is probably a mistake.
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
    check_packages(request, bundle.as_ref(), observer)?;
    let only_bundle_folder = bundle.filter(|_| profile.is_bundle).map(|bundle| bundle.folder);
    Ok((profile, LayerOptions { only_bundle_folder, ..request.layer.clone() }))
}

/// Checks a package repository for mistakes that kapp-controller would reject or misread.
fn check_packages(
    request: &PackRequest,
    bundle: Option<&BundleLayout>,
    observer: &dyn Observer,
) -> Result<(), TransferError> {
    if request.package_checks == PackageChecks::Off {
        return Ok(());
    }
    let LayerOptions { filter, symlinks, .. } = &request.layer;
    let problems = package_problems(&request.roots, filter, *symlinks, bundle.map(|bundle| &bundle.images));
    if problems.is_empty() {
        return Ok(());
    }
    if request.package_checks == PackageChecks::Refuse {
        return Err(TransferError::Packages { problems });
    }
    for problem in problems.iter().take(PACKAGE_WARNINGS) {
        observer.event(Event::Warning(&Warning::Package { problem: problem.to_string() }));
    }
    if let Some(count) = problems.len().checked_sub(PACKAGE_WARNINGS).filter(|count| *count > 0) {
        observer.event(Event::Warning(&Warning::MorePackages { count }));
    }
    Ok(())
}

pub(super) fn composed(
    profile: &Profile,
    layers: &[PackedLayer],
    options: &ImageOptions,
    expected: Option<&Digest>,
    observer: &dyn Observer,
) -> Result<ComposedImage, TransferError> {
    observer.event(Event::PackFinished {
        entries: layers.iter().map(|layer| layer.entries).sum(),
        uncompressed: layers.iter().map(|layer| layer.uncompressed_size).sum(),
        compressed: layers.iter().map(|layer| layer.descriptor.size).sum(),
    });
    let count = layers.iter().map(|layer| layer.links_left_out).sum();
    if count > 0 {
        observer.event(Event::Warning(&Warning::LinksLeftOut { count }));
    }
    let image = compose(profile, layers, options);
    check_expected(expected, image.manifest.digest())?;
    Ok(image)
}

/// Compares an image's digest with the expected one, if there is one.
///
/// Errors: [`TransferError::UnexpectedDigest`].
pub fn check_expected(expected: Option<&Digest>, found: &Digest) -> Result<(), TransferError> {
    match expected {
        Some(expected) if expected != found => {
            Err(TransferError::UnexpectedDigest { expected: expected.clone(), found: found.clone() })
        }
        _ => Ok(()),
    }
}

pub(super) fn finished(
    profile: Profile,
    layers: Vec<PackedLayer>,
    image: &ComposedImage,
    spool: Option<File>,
) -> PackedImage {
    let stored: u64 = layers.iter().map(|layer| layer.descriptor.size).sum();
    let size = stored + image.config.len() as u64 + image.manifest.bytes().len() as u64;
    PackedImage { profile, manifest: image.manifest.clone(), layers, size, spool }
}

/// Ends a layout tar with an image whose layers are in it.
pub(super) fn finish_layout(
    mut writer: LayoutTarWriter,
    profile: Profile,
    layers: Vec<PackedLayer>,
    image: &ComposedImage,
    names: &[Reference],
) -> Result<PackedImage, TransferError> {
    writer.add_bytes(&config_of(image), &image.config)?;
    writer.add_document(&image.manifest)?;
    let root = NamedImage::new(image.manifest.descriptor(), names);
    let index = layout_index(&[root], std::slice::from_ref(&image.manifest));
    let written = writer.finish(&index)?;
    Ok(finished(profile, layers, image, written.spool))
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
    let (profile, options) = prepare(request, observer)?;
    let mut writer = LayoutTarWriter::create(target)?;
    let progress = |bytes| observer.event(Event::Packed { bytes });
    let layer = writer.add_stream(|sink| {
        let layer = pack_layer(&request.roots, &options, sink, &progress)
            .map_err(|error| with_path(error, target.path()))?;
        Ok::<_, TransferError>((layer.descriptor.digest.clone(), layer.descriptor.size, layer))
    })?;
    let layers = vec![layer];
    let image = composed(&profile, &layers, &request.image, request.expected_digest.as_ref(), observer)?;
    finish_layout(writer, profile, layers, &image, names)
}

/// Names the file that could not be written.
pub(super) fn with_path(error: PackError, path: &Path) -> TransferError {
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
) -> Result<(PackedImage, SpooledImage<'static>), TransferError> {
    let (profile, options) = prepare(request, observer)?;
    let mut file = nameless_file(folder)?;
    let progress = |bytes| observer.event(Event::Packed { bytes });
    let layer = pack_layer(&request.roots, &options, &mut file, &progress)
        .map_err(|error| with_path(error, folder))?;
    let spooled = vec![Spooled { descriptor: layer.descriptor.clone(), file: Arc::new(file), offset: 0 }];
    let layers = vec![layer];
    let image = composed(&profile, &layers, &request.image, request.expected_digest.as_ref(), observer)?;
    let packed = finished(profile, layers, &image, None);
    Ok((packed, SpooledImage { spooled, image, place: folder.to_owned(), base: None }))
}

/// A layer that was just packed, in the spool.
#[derive(Clone, Debug)]
pub(super) struct Spooled {
    pub(super) descriptor: Descriptor,
    /// The file without a name that it is in.
    pub(super) file: Arc<File>,
    pub(super) offset: u64,
}

impl Spooled {
    /// Reads it as it is stored.
    pub(super) fn read(&self) -> impl Read + Send + '_ {
        ReadFrom::new(&self.file, self.offset).take(self.descriptor.size)
    }

    /// Reads and verifies it.
    pub(super) fn open(&self) -> BlobStream<'_> {
        let Descriptor { digest, size, .. } = &self.descriptor;
        VerifyingReader::new(self.read(), digest.clone(), *size).boxed()
    }
}

/// A packed image as a source; layers that were not packed again come from an earlier image.
pub struct SpooledImage<'a> {
    pub(super) spooled: Vec<Spooled>,
    pub(super) image: ComposedImage,
    pub(super) place: PathBuf,
    pub(super) base: Option<&'a dyn ImageSource>,
}

impl std::fmt::Debug for SpooledImage<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpooledImage").field("spooled", &self.spooled).finish_non_exhaustive()
    }
}

impl ImageSource for SpooledImage<'_> {
    fn label(&self) -> String {
        self.place.display().to_string()
    }

    fn read_document(&self, _: &Descriptor) -> Result<RawDocument, TransferError> {
        Ok(self.image.manifest.clone())
    }

    fn lacks(&self, digest: &Digest) -> bool {
        let packed = self.spooled.iter().any(|layer| layer.descriptor.digest == *digest)
            || *digest == config_of(&self.image)
            || digest == self.image.manifest.digest();
        !packed && self.base.is_none_or(|base| base.lacks(digest))
    }

    fn open_blob(&self, descriptor: &Descriptor) -> Result<BlobStream<'_>, TransferError> {
        // A layer and a configuration cannot have the same digest.
        let layer = self.spooled.iter().find(|layer| layer.descriptor.digest == descriptor.digest);
        match (layer, self.base) {
            (Some(layer), _) => Ok(layer.open()),
            (None, Some(base)) if descriptor.digest != config_of(&self.image) => base.open_blob(descriptor),
            _ => {
                let config = self.image.config.as_slice();
                Ok(VerifyingReader::new(config, descriptor.digest.clone(), descriptor.size).boxed())
            }
        }
    }

    fn repository_of(&self, digest: &Digest) -> Option<Repository> {
        self.base.and_then(|base| base.repository_of(digest))
    }
}

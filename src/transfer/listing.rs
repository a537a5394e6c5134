//! The files of one image as a container would see them, and the content of one of them.

use std::io::{self, Read, Write};

use crate::model::{Descriptor, Platform, RawDocument, media_type};
use crate::stream::{Decoder, FileError};
use crate::tar::{FileContent, FileTree};

use super::contents::{NO_MANIFEST, check_layers_held, resolve_for};
use super::events::Observer;
use super::image_files::{Budget, Contents, Reading, read_files};
use super::{ImageSource, TransferError};

/// The files of an image.
#[derive(Debug)]
pub struct ImageListing {
    /// Its manifest.
    pub manifest: RawDocument,
    /// Its layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// Its files, whiteouts applied.
    pub tree: FileTree,
}

/// Lists the files of an image, or of an index's image for a platform.
///
/// Errors: [`TransferError::NotAnImage`] if a layer is not a tar of files; those of reading.
/// Cost: reads and inflates every layer once, and writes nothing; memory grows with the number of entries.
pub fn list_image(
    source: &dyn ImageSource,
    root: &Descriptor,
    platform: Option<&Platform>,
    concurrency: usize,
    observer: &dyn Observer,
) -> Result<ImageListing, TransferError> {
    let manifest = resolve_for(source, root, platform)?;
    let layers = file_layers(source, &manifest)?;
    let (contents, budget) = (Contents::Skip, Budget::default());
    let reading = Reading { wanted: &[], contents, concurrency, observer, budget };
    let tree = read_files(source, &layers, &reading)?.tree;
    Ok(ImageListing { manifest, layers, tree })
}

/// Returns the layers of an image, lowest first.
///
/// Errors: [`TransferError::NotAnImage`] where a layer is not a tar of files.
pub(super) fn file_layers(
    source: &dyn ImageSource,
    manifest: &RawDocument,
) -> Result<Vec<Descriptor>, TransferError> {
    let layers = &manifest.manifest().ok_or(NO_MANIFEST)?.layers;
    match layers.iter().find(|layer| !media_type::is_layer(&layer.media_type)) {
        Some(other) => {
            let found = format!("its content has type `{}`", other.media_type);
            Err(TransferError::NotAnImage { place: source.label(), found })
        }
        None => {
            check_layers_held(source, layers)?;
            Ok(layers.clone())
        }
    }
}

/// Writes the content of a file of an image; `failed` names what could not be written.
///
/// Errors: those of reading; a layer whose bytes changed after it was listed.
/// Cost: reads and inflates the file's layer once more. The written bytes are verified only when this returns `Ok`.
pub fn copy_content(
    source: &dyn ImageSource,
    listing: &ImageListing,
    content: &FileContent,
    to: &mut dyn Write,
    failed: &dyn Fn(io::Error) -> FileError,
) -> Result<(), TransferError> {
    let layer = usize::try_from(content.layer).ok().and_then(|number| listing.layers.get(number));
    let layer = layer.ok_or(TransferError::Internal { what: "a file is in a layer that the image lacks" })?;
    let what = format!("layer `{}`", layer.digest);
    let broken = |error| TransferError::from_read(&source.place_of(&layer.digest), &what, error);
    let mut stored = source.open_blob(layer)?;
    {
        let mut tar = Decoder::new(Box::new(&mut stored)).map_err(broken)?;
        io::copy(&mut (&mut tar).take(content.offset), &mut io::sink()).map_err(broken)?;
        let mut file = tar.take(content.size);
        let mut piece = vec![0; 64 * 1024];
        loop {
            let count = match file.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(broken(error)),
            };
            to.write_all(piece.get(..count).unwrap_or_default()).map_err(failed)?;
        }
        if file.limit() > 0 {
            return Err(broken(io::ErrorKind::UnexpectedEof.into()));
        }
    }
    // The digest is verified only at the end of the layer.
    io::copy(&mut stored, &mut io::sink()).map(drop).map_err(broken)
}

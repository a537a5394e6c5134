//! The lock file inside a bundle's image.

use crate::lock::{BUNDLE_FOLDER, IMAGES_LOCK_FILE, ImagesLock};
use crate::model::{Descriptor, ImageManifest, limits};
use crate::stream::{TooLarge, read_bounded};

use super::super::layer_files::for_each_file;
use super::super::{ImageSource, TransferError};

/// Reads the lock file inside a bundle: the uppermost layer that has one decides.
///
/// Each layer is read to its end, because its digest is verified only there.
pub(in crate::transfer) fn read_images_lock(
    source: &dyn ImageSource,
    manifest: &ImageManifest,
) -> Result<Option<ImagesLock>, TransferError> {
    for layer in manifest.layers.iter().rev() {
        if let Some(text) = read_lock_text(source, layer)? {
            let lock = ImagesLock::parse(&text);
            return lock
                .map(Some)
                .map_err(|error| TransferError::Lock { place: source.label(), source: error });
        }
    }
    Ok(None)
}

fn read_lock_text(source: &dyn ImageSource, layer: &Descriptor) -> Result<Option<String>, TransferError> {
    let wanted = format!("{BUNDLE_FOLDER}/{IMAGES_LOCK_FILE}");
    let mut found = None;
    for_each_file(source, layer, |file| {
        let path = &file.entry.path;
        if path.strip_prefix(b"./").unwrap_or(path) != wanted.as_bytes() || found.is_some() {
            return Ok(());
        }
        let bytes = read_bounded(&mut *file, limits::LOCK_BYTES).map_err(|error| match error {
            TooLarge::Io(error) => (file.broken)(error),
            TooLarge::Limit { limit } => TransferError::TooMany {
                subject: format!("`{}`", source.label()),
                what: "bytes of `.imgpkg/images.yml`",
                limit: usize::try_from(limit).unwrap_or(usize::MAX),
            },
        })?;
        found = Some(String::from_utf8_lossy(&bytes).into_owned());
        Ok(())
    })?;
    Ok(found)
}

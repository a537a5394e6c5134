//! The platform under which an index lists an image, compared with the one that the image's configuration says.
//!
//! Readers choose by the first and run by the second. A command that chooses compares them; one that passes an index on
//! as it is does not, and `verify` reports all of them.

use crate::model::{Config, Descriptor, ImageManifest, Platform};

use super::{ImageSource, TransferError};

/// Reads the configuration of an image that is chosen by its platform, and checks that it says no other one.
///
/// Shape: `None` for an artifact, whose configuration is something else.
/// Errors: [`TransferError::OtherPlatform`].
/// Cost: reads the configuration, which a registry's source keeps for the next one to read it.
pub(super) fn read_listed(
    source: &dyn ImageSource,
    entry: &Descriptor,
    manifest: &ImageManifest,
) -> Result<Option<Config>, TransferError> {
    let config = source.read_config(manifest)?;
    if let Some(config) = &config {
        check_listed(source, entry, &config.stated_platform())?;
    }
    Ok(config)
}

/// Returns the platform that an image's configuration says, if it is an image and its configuration says one.
pub(super) fn own_platform(
    source: &dyn ImageSource,
    manifest: &ImageManifest,
) -> Result<Option<Platform>, TransferError> {
    Ok(source.read_config(manifest)?.and_then(|config| config.platform()))
}

/// Checks that the configuration's platform is not another one than that under which an image is listed.
pub(super) fn check_listed(
    source: &dyn ImageSource,
    entry: &Descriptor,
    own: &Platform,
) -> Result<(), TransferError> {
    match &entry.platform {
        Some(listed) if listed.contradicts(own) => Err(TransferError::OtherPlatform {
            place: source.place_of(&entry.digest),
            image: entry.digest.clone(),
            listed: Box::new(listed.clone()),
            own: Box::new(own.clone()),
        }),
        _ => Ok(()),
    }
}

//! The image that holds a bundle's `ImageLocations`: one file in one layer, as imgpkg makes it.
//!
//! Configuration, layer tar and file equal imgpkg's byte for byte; the compressed form does not, because it is not
//! Go's. An image that imgpkg wrote for the same locations is recognised by its configuration and not replaced.

use crate::lock::{ImageLocations, LOCATIONS_FILE};
use crate::model::Annotations;
use crate::pack::{ImageOptions, MediaTypes};
use crate::transfer::one_file::OneFileImage;

/// Makes the image for a document.
#[must_use]
pub(super) fn locations_image(locations: &ImageLocations) -> OneFileImage {
    let options = ImageOptions {
        media_types: MediaTypes::Docker,
        platform: None,
        labels: Default::default(),
        annotations: Annotations::new(),
    };
    OneFileImage::new(LOCATIONS_FILE, locations.to_yaml().as_bytes(), &options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_has_the_form_of_imgpkg() {
        let image = locations_image(&ImageLocations::default());
        let config = String::from_utf8(image.blobs[0].1.clone()).unwrap();
        assert!(config.ends_with(r#""config":{}}"#) && config.len() == 273, "{config}");
        assert_eq!(image.manifest.media_type(), MediaTypes::Docker.manifest());
    }
}

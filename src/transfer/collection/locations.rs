//! The image that holds a bundle's `ImageLocations`: one file in one layer, as imgpkg makes it.
//!
//! Configuration, layer tar and file equal imgpkg's byte for byte; the compressed form does not, because it is not
//! Go's. An image that imgpkg wrote for the same locations is recognised by its configuration and left alone.

use std::io;

use crate::lock::{ImageLocations, LOCATIONS_FILE};
use crate::model::{Annotations, Descriptor, RawDocument};
use crate::pack::{ComposedImage, ImageOptions, MediaTypes, PackedLayer, Profile, compose};
use crate::stream::{CompressionLevel, compress};
use crate::tar::header::{EntryType, Header};
use crate::tar::write::Writer;

/// A locations image, ready to be pushed.
#[derive(Clone, Debug)]
pub(super) struct LocationsImage {
    /// The manifest.
    pub(super) manifest: RawDocument,
    /// Configuration and layer with their bytes.
    pub(super) blobs: Vec<(Descriptor, Vec<u8>)>,
}

impl LocationsImage {
    /// Makes the image for a document.
    #[must_use]
    pub(super) fn new(locations: &ImageLocations) -> Self {
        let (layer, bytes) = layer(&locations.to_yaml()).expect("writing to memory cannot fail");
        let options = ImageOptions {
            media_types: MediaTypes::Docker,
            platform: None,
            labels: Default::default(),
            annotations: Annotations::new(),
        };
        let ComposedImage { config, manifest } =
            compose(&Profile::IMAGE, std::slice::from_ref(&layer), &options);
        let config_descriptor = Descriptor::of_bytes(MediaTypes::Docker.config(), &config);
        Self { manifest, blobs: vec![(config_descriptor, config), (layer.descriptor, bytes)] }
    }
}

/// Returns the uncompressed layer: the root folder and the file, as imgpkg packs them.
fn layer_tar(yaml: &str) -> io::Result<Vec<u8>> {
    let mut tar = Writer::new(Vec::new());
    let header = |path, kind, mode, size| Header { path, kind, mode, size, link: b"", mtime: 0 };
    tar.entry(&header(b".", EntryType::Directory, 0o700, 0), b"")?;
    let size = yaml.len() as u64;
    tar.entry(&header(LOCATIONS_FILE.as_bytes(), EntryType::File, 0o600, size), yaml.as_bytes())?;
    tar.finish()
}

fn layer(yaml: &str) -> io::Result<(PackedLayer, Vec<u8>)> {
    let tar = layer_tar(yaml)?;
    let mut bytes = Vec::new();
    let level = CompressionLevel::default();
    let ((), compressed) = compress(level, 1, &mut bytes, |sink| io::Write::write_all(sink, &tar))?;
    let descriptor =
        Descriptor::new(MediaTypes::Docker.layer(level), compressed.blob_digest, compressed.size);
    let layer = PackedLayer {
        descriptor,
        diff_id: compressed.diff_id,
        uncompressed_size: compressed.uncompressed_size,
        entries: 2,
    };
    Ok((layer, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layer_holds_the_root_and_the_file() {
        let tar = layer_tar("x").unwrap();
        assert_eq!(tar.len(), 512 + 1024 + 1024);
        assert_eq!(tar.get(..8), Some(&b".\0\0\0\0\0\0\0"[..]));
        assert_eq!(tar.get(100..108), Some(&b"0000700\0"[..]));
        assert_eq!(tar.get(512..531), Some(LOCATIONS_FILE.as_bytes()));
        assert_eq!(tar.get(612..620), Some(&b"0000600\0"[..]));
    }

    #[test]
    fn the_configuration_has_the_form_of_imgpkg() {
        let image = LocationsImage::new(&ImageLocations::default());
        let config = String::from_utf8(image.blobs[0].1.clone()).unwrap();
        assert!(config.ends_with(r#""config":{}}"#) && config.len() == 273, "{config}");
        assert_eq!(image.manifest.media_type(), MediaTypes::Docker.manifest());
    }
}

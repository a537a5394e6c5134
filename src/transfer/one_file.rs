//! An image that holds one file in one layer: imgpkg's locations, and imgrelay's file lists.
//!
//! Configuration and layer tar are as imgpkg makes them: the root folder and the file, with the owner's permissions.

use std::io;

use crate::model::{Descriptor, RawDocument};
use crate::pack::{ComposedImage, ImageOptions, MediaTypes, PackedLayer, Profile, compose};
use crate::stream::{BlobStream, CompressionLevel, VerifyingReader, compress};
use crate::tar::header::{EntryType, Header, Owner};
use crate::tar::write::Writer;

use super::{ImageSource, TransferError};

/// An image in memory, ready to be pushed.
#[derive(Clone, Debug)]
pub(super) struct OneFileImage {
    /// The manifest.
    pub(super) manifest: RawDocument,
    /// Configuration and layer with their bytes.
    pub(super) blobs: [(Descriptor, Vec<u8>); 2],
}

impl OneFileImage {
    /// Makes the image of a file.
    #[must_use]
    pub(super) fn new(name: &str, content: &[u8], options: &ImageOptions) -> Self {
        let (layer, bytes) =
            layer(name, content, options.media_types).expect("writing to memory cannot fail");
        let ComposedImage { config, manifest } =
            compose(&Profile::IMAGE, std::slice::from_ref(&layer), options);
        let config_descriptor = Descriptor::of_bytes(options.media_types.config(), &config);
        Self { manifest, blobs: [(config_descriptor, config), (layer.descriptor, bytes)] }
    }
}

impl ImageSource for OneFileImage {
    fn label(&self) -> String {
        self.manifest.digest().to_string()
    }

    fn read_document(&self, _: &Descriptor) -> Result<RawDocument, TransferError> {
        Ok(self.manifest.clone())
    }

    fn open_blob(&self, descriptor: &Descriptor) -> Result<BlobStream<'_>, TransferError> {
        let held = self.blobs.iter().find(|(blob, _)| blob.digest == descriptor.digest);
        let bytes = held.map_or(&b""[..], |(_, bytes)| bytes);
        Ok(VerifyingReader::new(bytes, descriptor.digest.clone(), descriptor.size).boxed())
    }
}

/// Returns the uncompressed layer: the root folder and the file, as imgpkg packs them.
fn layer_tar(name: &str, content: &[u8]) -> io::Result<Vec<u8>> {
    let mut tar = Writer::new(Vec::new());
    let header =
        |path, kind, mode, size| Header { path, kind, mode, size, link: b"", mtime: 0, owner: Owner::ROOT };
    tar.entry(&header(b".", EntryType::Directory, 0o700, 0), b"")?;
    tar.entry(&header(name.as_bytes(), EntryType::File, 0o600, content.len() as u64), content)?;
    tar.finish()
}

fn layer(name: &str, content: &[u8], media_types: MediaTypes) -> io::Result<(PackedLayer, Vec<u8>)> {
    let tar = layer_tar(name, content)?;
    let mut bytes = Vec::new();
    let level = CompressionLevel::default();
    let ((), compressed) = compress(level, 0, &mut bytes, |sink| io::Write::write_all(sink, &tar))?;
    let descriptor = Descriptor::new(media_types.layer(level), compressed.blob_digest, compressed.size);
    let layer = PackedLayer {
        descriptor,
        diff_id: compressed.diff_id,
        uncompressed_size: compressed.uncompressed_size,
        entries: 2,
        links_left_out: 0,
    };
    Ok((layer, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layer_holds_the_root_and_the_file() {
        let tar = layer_tar("name", b"x").unwrap();
        assert_eq!(tar.len(), 512 + 1024 + 1024);
        assert_eq!(tar.get(..8), Some(&b".\0\0\0\0\0\0\0"[..]));
        assert_eq!(tar.get(100..108), Some(&b"0000700\0"[..]));
        assert_eq!(tar.get(512..517), Some(&b"name\0"[..]));
        assert_eq!(tar.get(612..620), Some(&b"0000600\0"[..]));
    }
}

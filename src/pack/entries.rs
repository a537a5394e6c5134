//! Writes entries of any source as one layer: a tar that passes through the compressor.

use std::io::Write;

use crate::model::{Descriptor, Digest};
use crate::stream::{BlockSink, BlockWriter, CompressionLevel, DiffIdWriter, compress};
use crate::tar::header::Header;
use crate::tar::write::Writer;

use super::MediaTypes;
use super::error::PackError;

/// A finished layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedLayer {
    /// Type, digest and size of the layer as stored.
    pub descriptor: Descriptor,
    /// Digest of the tar before compression.
    pub diff_id: Digest,
    /// Bytes of the tar before compression.
    pub uncompressed_size: u64,
    /// Entries, folders included.
    pub entries: u64,
    /// Symbolic links that were left out because that was requested.
    pub links_left_out: u64,
}

/// How a layer is stored.
#[derive(Clone, Copy, Debug, Default)]
pub struct LayerEncoding {
    /// How it is compressed.
    pub compression: CompressionLevel,
    /// Which media type it gets.
    pub media_types: MediaTypes,
    /// Compressing threads, none to do all on the calling one; does not change the result.
    pub threads: usize,
}

impl LayerEncoding {
    /// Returns the media type of a layer in this form.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        self.media_types.layer(self.compression)
    }
}

/// Takes the entries of a layer, in the order they are to have.
pub(super) struct EntryWriter<'a, S> {
    tar: Writer<&'a mut S>,
    progress: &'a dyn Fn(u64),
}

impl<S: BlockSink> EntryWriter<'_, S> {
    /// Writes an entry without content.
    pub(super) fn entry(&mut self, header: &Header<'_>) -> Result<(), PackError> {
        Ok(self.tar.header(header)?)
    }

    /// Writes a file; `read` gives its content, exactly as many bytes as the header says, then 0.
    pub(super) fn file(
        &mut self,
        header: &Header<'_>,
        mut read: impl FnMut(&mut [u8]) -> Result<usize, PackError>,
    ) -> Result<(), PackError> {
        self.tar.header(header)?;
        loop {
            let stream = self.tar.data();
            let n = read(stream.space()?)?;
            if n == 0 {
                break;
            }
            stream.advance(n);
            (self.progress)(n as u64);
        }
        Ok(self.tar.pad(header.size)?)
    }
}

/// Writes a layer to `sink`; `produce` writes its entries.
pub(super) fn write_layer(
    encoding: LayerEncoding,
    sink: &mut (dyn Write + Send),
    progress: &dyn Fn(u64),
    produce: impl FnOnce(&mut EntryWriter<'_, BlockWriter<'_>>) -> Result<(), PackError>,
) -> Result<PackedLayer, PackError> {
    let (entries, compressed) = compress(encoding.compression, encoding.threads, sink, |stream| {
        let mut writer = EntryWriter { tar: Writer::new(stream), progress };
        produce(&mut writer)?;
        let entries = writer.tar.entries();
        writer.tar.finish()?;
        Ok::<u64, PackError>(entries)
    })?;
    Ok(PackedLayer {
        descriptor: Descriptor::new(encoding.media_type(), compressed.blob_digest, compressed.size),
        diff_id: compressed.diff_id,
        uncompressed_size: compressed.uncompressed_size,
        entries,
        links_left_out: 0,
    })
}

/// What a layer is before it is compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnpackedLayer {
    /// Digest of the tar.
    pub diff_id: Digest,
    /// Bytes of the tar.
    pub size: u64,
    /// Entries, folders included.
    pub entries: u64,
}

/// Computes what [`write_layer`] would make of the same entries, without compressing or writing anything.
pub(super) fn hash_layer(
    progress: &dyn Fn(u64),
    produce: impl FnOnce(&mut EntryWriter<'_, DiffIdWriter>) -> Result<(), PackError>,
) -> Result<UnpackedLayer, PackError> {
    let mut hasher = DiffIdWriter::default();
    let mut writer = EntryWriter { tar: Writer::new(&mut hasher), progress };
    produce(&mut writer)?;
    let entries = writer.tar.entries();
    writer.tar.finish()?;
    let (diff_id, size) = hasher.finish()?;
    Ok(UnpackedLayer { diff_id, size, entries })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::media_type;
    use crate::stream::CompressionLevel;

    #[test]
    fn the_media_type_of_a_layer_says_how_it_is_stored() {
        for (media_types, compression, expected) in [
            (MediaTypes::Oci, CompressionLevel::Gzip(6), media_type::OCI_LAYER_GZIP),
            (MediaTypes::Oci, CompressionLevel::Zstd(3), media_type::OCI_LAYER_ZSTD),
            (MediaTypes::Oci, CompressionLevel::None, media_type::OCI_LAYER),
            (MediaTypes::Docker, CompressionLevel::Gzip(6), media_type::DOCKER_LAYER_GZIP),
            (MediaTypes::Docker, CompressionLevel::Zstd(3), media_type::DOCKER_LAYER_ZSTD),
            (MediaTypes::Docker, CompressionLevel::None, media_type::DOCKER_LAYER),
        ] {
            let encoding = LayerEncoding { compression, media_types, threads: 1 };
            assert_eq!(encoding.media_type(), expected);
        }
    }
}

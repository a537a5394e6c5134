//! Recognising and undoing compression by content: gzip (any number of members), zstd, or none.
//!
//! Source: RFC 1952 (2.2: members), RFC 8878.

use std::io::{self, BufReader, Read};

use crate::model::limits;

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// Not compressed.
    None,
}

impl Compression {
    /// Recognises compression by the first bytes of a stream (4 suffice).
    #[must_use]
    pub fn of_magic(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // 0x184D2A5? begins a skippable frame (RFC 8878 3.1.2); zstd:chunked may begin with one.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// A reader that gives uncompressed bytes whatever the source is compressed with.
///
/// Errors: those of the decoder as [`io::Error`]; zstd windows above [`limits::ZSTD_WINDOW_LOG`] are refused.
/// Bytes after a gzip member that are not another member are an error, as in Go's reader.
pub struct Decoder<'a> {
    inner: Inner<'a>,
    compression: Compression,
}

type Source<'a> = io::Chain<io::Cursor<Vec<u8>>, Box<dyn Read + Send + 'a>>;

enum Inner<'a> {
    Plain(Source<'a>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<BufReader<Source<'a>>>>),
    Zstd(Box<zstd::stream::read::Decoder<'a, BufReader<Source<'a>>>>),
}

impl std::fmt::Debug for Decoder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").field("compression", &self.compression).finish_non_exhaustive()
    }
}

impl<'a> Decoder<'a> {
    /// Looks at the first bytes of `source` and decodes what it finds.
    pub fn new(mut source: Box<dyn Read + Send + 'a>) -> io::Result<Self> {
        let mut start = Vec::with_capacity(4);
        source.by_ref().take(4).read_to_end(&mut start)?;
        let compression = Compression::of_magic(&start);
        let source = io::Cursor::new(start).chain(source);
        const BUFFER: usize = 128 * 1024;
        let inner = match compression {
            Compression::None => Inner::Plain(source),
            Compression::Gzip => {
                let source = BufReader::with_capacity(BUFFER, source);
                Inner::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(source)))
            }
            Compression::Zstd => {
                let source = BufReader::with_capacity(BUFFER, source);
                let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
                decoder.window_log_max(limits::ZSTD_WINDOW_LOG)?;
                Inner::Zstd(Box::new(decoder))
            }
        };
        Ok(Self { inner, compression })
    }

    /// Tells what the source was compressed with.
    #[must_use]
    pub fn compression(&self) -> Compression {
        self.compression
    }
}

impl Read for Decoder<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.inner {
            Inner::Plain(source) => source.read(buffer),
            Inner::Gzip(decoder) => decoder.read(buffer),
            Inner::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn decode(bytes: &[u8]) -> io::Result<(Compression, Vec<u8>)> {
        let mut decoder = Decoder::new(Box::new(bytes))?;
        let mut out = Vec::new();
        decoder.read_to_end(&mut out)?;
        Ok((decoder.compression(), out))
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_compression_is_recognised_and_undone() {
        let members = [gzip(b"hel"), gzip(b"lo")].concat();
        let zstd = zstd::encode_all(&b"hello"[..], 3).unwrap();
        assert_eq!(decode(&members).unwrap(), (Compression::Gzip, b"hello".to_vec()));
        assert_eq!(decode(&zstd).unwrap(), (Compression::Zstd, b"hello".to_vec()));
        assert_eq!(decode(b"hello").unwrap(), (Compression::None, b"hello".to_vec()));
        assert_eq!(decode(b"").unwrap(), (Compression::None, b"".to_vec()));
        assert_eq!(decode(&[0x1f]).unwrap(), (Compression::None, vec![0x1f]));
    }

    #[test]
    fn damaged_streams_are_errors() {
        let whole = gzip(b"hello");
        assert!(decode(&whole[..whole.len() - 1]).is_err(), "cut in the trailer");
        let mut wrong_crc = whole.clone();
        let at = wrong_crc.len() - 8;
        wrong_crc[at] ^= 1;
        assert!(decode(&wrong_crc).is_err(), "wrong checksum");
        assert!(decode(&[&whole[..], b"junk"].concat()).is_err(), "trailing bytes");
    }
}

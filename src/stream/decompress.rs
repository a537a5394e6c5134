//! Recognising and undoing compression by content: gzip (any number of members), zstd, or none.
//!
//! Source: RFC 1952 (2.2: members), RFC 8878.

use std::io::{self, BufReader, Read};

use super::gzip_member;
use super::members::{GzipMembers, MembersRead, read_header};
use super::verifying::again;
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

/// A reader that gives uncompressed bytes, with any compression of the source.
///
/// Errors: those of the decoder as [`io::Error`], from every later read too; zstd windows above
/// [`limits::ZSTD_WINDOW_LOG`] are refused. Bytes after a gzip member that are not another member are an error, as in
/// Go's reader.
pub struct Decoder<'a> {
    inner: Inner<'a>,
    compression: Compression,
    /// The error that reading failed with; the decoders below return it once and then the end of the stream.
    failed: Option<io::Error>,
}

type Source<'a> = Box<dyn Read + Send + 'a>;

/// Bytes taken from the source at once.
const BUFFER: usize = 128 * 1024;

enum Inner<'a> {
    Plain(Source<'a>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<BufReader<Source<'a>>>>),
    Members(Box<GzipMembers<'a>>),
    Zstd(Box<zstd::stream::read::Decoder<'a, BufReader<Source<'a>>>>),
}

impl std::fmt::Debug for Decoder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").field("compression", &self.compression).finish_non_exhaustive()
    }
}

impl<'a> Decoder<'a> {
    /// Recognises the compression by the first bytes of `source`.
    pub fn new(source: Source<'a>) -> io::Result<Self> {
        Self::with_threads(source, 1)
    }

    /// Decodes on several threads, if the members of the stream record their lengths, as imgrelay's gzip does.
    ///
    /// Cost: 4 MiB per thread.
    pub fn with_threads(mut source: Source<'a>, threads: usize) -> io::Result<Self> {
        let mut start = Vec::new();
        read_header(&mut source, &mut start)?;
        let compression = Compression::of_magic(&start);
        if threads > 1 && gzip_member::length(&start).is_some() {
            let inner = Inner::Members(Box::new(GzipMembers::new(start, source, threads)));
            return Ok(Self { inner, compression, failed: None });
        }
        let source: Source<'a> = Box::new(io::Cursor::new(start).chain(source));
        let inner = match compression {
            Compression::None => Inner::Plain(source),
            Compression::Gzip => Inner::gzip(source),
            Compression::Zstd => {
                let source = BufReader::with_capacity(BUFFER, source);
                let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
                decoder.window_log_max(limits::ZSTD_WINDOW_LOG)?;
                Inner::Zstd(Box::new(decoder))
            }
        };
        Ok(Self { inner, compression, failed: None })
    }

    /// Tells what the source was compressed with.
    #[must_use]
    pub fn compression(&self) -> Compression {
        self.compression
    }
}

impl Read for Decoder<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(error) = &self.failed {
            return Err(again(error));
        }
        let result = self.decode(buffer);
        if let Err(error) = &result
            && error.kind() != io::ErrorKind::Interrupted
        {
            self.failed = Some(again(error));
        }
        result
    }
}

impl Decoder<'_> {
    fn decode(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.inner {
            Inner::Plain(source) => source.read(buffer),
            Inner::Gzip(decoder) => decoder.read(buffer),
            Inner::Zstd(decoder) => decoder.read(buffer),
            Inner::Members(members) => match members.read(buffer)? {
                MembersRead::Read(count) => Ok(count),
                MembersRead::Ordinary(rest) => {
                    self.inner = Inner::gzip(rest);
                    self.decode(buffer)
                }
            },
        }
    }
}

impl<'a> Inner<'a> {
    fn gzip(source: Source<'a>) -> Self {
        let source = BufReader::with_capacity(BUFFER, source);
        Self::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(source)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// One thread and several give the same bytes and the same errors.
    fn decode(bytes: &[u8]) -> Result<(Compression, Vec<u8>), String> {
        let on = |threads| {
            let mut decoder = Decoder::with_threads(Box::new(bytes), threads)?;
            let mut out = Vec::new();
            let result = decoder.read_to_end(&mut out);
            if let Err(error) = &result {
                let second = decoder.read(&mut [0]).expect_err("a reader that failed stays failed");
                assert_eq!(second.to_string(), error.to_string());
            }
            result.map(|_| (decoder.compression(), out))
        };
        let one = on(1).map_err(|error: io::Error| error.to_string());
        for threads in [2, 3, 8] {
            assert_eq!(on(threads).map_err(|error| error.to_string()), one, "on {threads} threads");
        }
        one
    }

    /// Members that record their lengths, as packing makes them.
    fn members(blocks: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for block in blocks {
            gzip_member::append(block, &mut out, |out| {
                let mut encoder = flate2::write::DeflateEncoder::new(out, flate2::Compression::fast());
                encoder.write_all(block).unwrap();
                encoder.finish().unwrap();
            });
        }
        out
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

    #[test]
    fn members_that_say_their_length_are_read_in_order_with_others_between_them() {
        let texts: Vec<Vec<u8>> = (0..40_u8).map(|n| vec![n; 1000 * usize::from(n)]).collect();
        let blocks: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
        let all = texts.concat();
        assert_eq!(decode(&members(&blocks)).unwrap(), (Compression::Gzip, all.clone()));
        let mixed = [members(&blocks[..20]), gzip(&blocks[20..].concat()), members(&[b"end"])].concat();
        assert_eq!(decode(&mixed).unwrap().1, [&all[..], b"end"].concat());
        assert_eq!(decode(&members(&[b""])).unwrap().1, b"");
    }

    /// Gives its bytes, then fails once, then ends.
    struct Torn<'a>(&'a [u8], bool);

    impl Read for Torn<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 if !std::mem::replace(&mut self.1, true) => Err(io::Error::other("torn")),
                count => Ok(count),
            }
        }
    }

    #[test]
    fn a_source_that_failed_is_no_end_of_the_stream() {
        let zstd = zstd::encode_all(&(0..=255).collect::<Vec<u8>>()[..], 3).unwrap();
        for whole in [members(&[b"one", b"two"]), [gzip(b"one"), gzip(b"two")].concat(), zstd] {
            for (threads, end) in [(1, whole.len()), (2, whole.len()), (1, 30), (2, 30), (2, 25)] {
                let source = Torn(&whole[..end.min(whole.len())], false);
                let mut decoder = Decoder::with_threads(Box::new(source), threads).unwrap();
                for _ in 0..3 {
                    let error = decoder.read_to_end(&mut Vec::new()).unwrap_err();
                    assert_eq!(error.to_string(), "torn", "{end} bytes on {threads} threads");
                }
            }
        }
    }

    #[test]
    fn members_that_lie_are_what_one_thread_takes_them_for() {
        let whole = members(&[b"one", b"two", b"three", b"four"]);
        let second = members(&[b"one"]).len();
        for length in [28, 29, 40, 60, 1 << 20, u32::MAX] {
            let mut lie = whole.clone();
            lie[second + 16..second + 20].copy_from_slice(&length.to_le_bytes());
            assert_eq!(decode(&lie).unwrap().1, b"onetwothreefour", "{length}");
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x41;
            // What comes of it is compared with one thread's answer.
            let _ = decode(&flipped);
            let _ = decode(&whole[..at]);
        }
        assert!(decode(&whole[..whole.len() - 1]).is_err());
        assert!(decode(&[&whole[..], b"junk"].concat()).is_err());
        assert!(decode(&[&whole[..], &[0; 30]].concat()).is_err());
    }

    #[test]
    fn members_are_inflated_at_a_time_where_there_are_threads_and_lengths() {
        for (bytes, threads, expected) in [
            (members(&[b"a"]), 1, false),
            (members(&[b"a"]), 2, true),
            (gzip(b"a"), 2, false),
            (b"text".to_vec(), 2, false),
        ] {
            let decoder = Decoder::with_threads(Box::new(&bytes[..]), threads).unwrap();
            assert_eq!(matches!(decoder.inner, Inner::Members(_)), expected, "{threads} threads");
        }
    }

    /// Is interrupted before each read.
    struct Interrupted<'a>(&'a [u8], bool);

    impl Read for Interrupted<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 { Err(io::ErrorKind::Interrupted.into()) } else { self.0.read(buffer) }
        }
    }

    #[test]
    fn an_interrupted_read_is_tried_again() {
        for bytes in [gzip(b"hello"), b"hello".to_vec()] {
            let mut decoder = Decoder::new(Box::new(Interrupted(&bytes, false))).unwrap();
            let mut out = Vec::new();
            decoder.read_to_end(&mut out).unwrap();
            assert_eq!(out, b"hello");
        }
    }
}

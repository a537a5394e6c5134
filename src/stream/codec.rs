//! Compressing one block: libdeflate for gzip, zstd, or nothing; a block that does not shrink is stored.

use std::fmt;
use std::str::FromStr;

use libdeflater::{CompressionLvl, Compressor};

use super::gzip_member;

/// How hard to compress, as `gzip[:1-12]`, `zstd[:1-19]` or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionLevel {
    /// gzip at libdeflate's level 1 to 12; the caller must not pass another level.
    Gzip(u8),
    /// Zstandard at level 1 to 19; the caller must not pass another level.
    Zstd(u8),
    /// Not compressed.
    None,
}

/// Why a text is not a compression level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "compression `{found}` is not known, expected `gzip`, `gzip:1` to `gzip:12`, `zstd`, `zstd:1` to `zstd:19` or `none`"
)]
pub struct CompressionLevelError {
    found: String,
}

impl CompressionLevel {
    /// gzip at the level whose size × time was best when measured (docs/performance.md): as small as
    /// `gzip -6` at under half its CPU time.
    pub const DEFAULT: Self = Self::Gzip(6);
    const DEFAULT_ZSTD: u8 = 3;
}

impl Default for CompressionLevel {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl FromStr for CompressionLevel {
    type Err = CompressionLevelError;

    fn from_str(text: &str) -> Result<Self, CompressionLevelError> {
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => (name, Some(level.parse::<u8>().ok())),
            None => (text, None),
        };
        match (name, level) {
            ("gzip", None) => Ok(Self::DEFAULT),
            ("gzip", Some(Some(level @ 1..=12))) => Ok(Self::Gzip(level)),
            ("zstd", None) => Ok(Self::Zstd(Self::DEFAULT_ZSTD)),
            ("zstd", Some(Some(level @ 1..=19))) => Ok(Self::Zstd(level)),
            ("none", None) => Ok(Self::None),
            _ => Err(CompressionLevelError { found: text.chars().take(40).collect() }),
        }
    }
}

impl fmt::Display for CompressionLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gzip(level) => write!(f, "gzip:{level}"),
            Self::Zstd(level) => write!(f, "zstd:{level}"),
            Self::None => f.write_str("none"),
        }
    }
}

/// A compressor for independent blocks; its output depends on block and level only.
pub(super) enum Codec {
    /// `space` takes the output before its length is known; it keeps its length, so that it is zeroed only once.
    Gzip {
        compressor: Compressor,
        probe: Compressor,
        sample: Vec<u8>,
        space: Vec<u8>,
    },
    Zstd {
        compressor: Box<zstd::bulk::Compressor<'static>>,
        space: Vec<u8>,
    },
    None,
}

impl Codec {
    pub(super) fn new(level: CompressionLevel) -> Self {
        match level {
            CompressionLevel::Gzip(level) => {
                let level = CompressionLvl::new(i32::from(level)).expect("levels of gzip are 1 to 12");
                Self::Gzip {
                    compressor: Compressor::new(level),
                    // `fastest()` would be level 0, which stores.
                    probe: Compressor::new(CompressionLvl::new(1).expect("level 1 exists")),
                    sample: Vec::new(),
                    space: Vec::new(),
                }
            }
            CompressionLevel::Zstd(level) => {
                let compressor = zstd::bulk::Compressor::new(i32::from(level))
                    .expect("levels 1 to 19 are valid and a context is a few MiB");
                Self::Zstd { compressor: Box::new(compressor), space: Vec::new() }
            }
            CompressionLevel::None => Self::None,
        }
    }

    /// Appends the block's compressed form to `output`: one gzip member, one zstd frame, or the block itself.
    pub(super) fn compress(&mut self, block: &[u8], output: &mut Vec<u8>) {
        match self {
            Self::Gzip { compressor, probe, sample, space } => {
                let incompressible = is_incompressible(block, probe, sample);
                gzip_member::append(block, output, |output| {
                    if incompressible {
                        store(block, output);
                    } else {
                        deflate(compressor, block, space, output);
                    }
                });
            }
            Self::Zstd { compressor, space } => {
                let written = compressor
                    .compress_to_buffer(block, at_least(space, zstd::zstd_safe::compress_bound(block.len())))
                    .expect("the buffer has the size that zstd asked for");
                output.extend_from_slice(&space[..written]);
            }
            Self::None => output.extend_from_slice(block),
        }
    }
}

/// Bytes looked at in one place of a block, and how many places.
const SAMPLE_BYTES: usize = 2048;
const SAMPLES: usize = 16;
/// Bytes of them that are deflated when counting alone does not tell.
const PROBE_BYTES: usize = SAMPLES / 2 * SAMPLE_BYTES;

/// Tells whether a block is not worth deflating: media, archives, encrypted or compressed data.
///
/// Deflating noise takes 15 times as long as storing it and saves nothing. For most blocks the number of times that
/// each byte value occurs in a sample of 32 KiB decides; for the rest half of the sample is deflated at the fastest
/// level: 3 % of the cost of storing a block of noise. Blocks under 256 KiB are always deflated.
fn is_incompressible(block: &[u8], probe: &mut Compressor, sample: &mut Vec<u8>) -> bool {
    if block.len() < 8 * SAMPLE_BYTES * SAMPLES {
        return false;
    }
    sample.clear();
    let step = block.len() / SAMPLES;
    // The even places first, so that the half that is deflated also comes from the whole block.
    let places = block.chunks(step).step_by(2).chain(block.chunks(step).skip(1).step_by(2));
    for piece in places.take(SAMPLES) {
        sample.extend_from_slice(piece.get(..SAMPLE_BYTES).unwrap_or(piece));
    }
    if is_uneven(sample) {
        return false;
    }
    sample.truncate(PROBE_BYTES);
    let taken = sample.len();
    sample.resize(taken + probe.deflate_compress_bound(taken), 0);
    let (input, output) = sample.split_at_mut(taken);
    match probe.deflate_compress(input, output) {
        // Less than 2 % saved.
        Ok(written) => written * 50 > taken * 49,
        Err(_) => false,
    }
}

/// Tells whether some byte values occur so much more often than others that Huffman codes alone save over 2 %.
///
/// With `n` bytes and the expected count `e` of each value, the bits saved per byte are about
/// `Σ(count - e)² / (e · n · 2 ln 2)`; the bound below is 0.18 of 8 bits. Noise stays at a hundredth of it.
fn is_uneven(sample: &[u8]) -> bool {
    let mut counts = [0_u64; 256];
    for byte in sample {
        counts[usize::from(*byte)] += 1;
    }
    let total = sample.len() as u64;
    let expected = total / 256;
    let spread: u64 = counts.iter().map(|count| count.abs_diff(expected).pow(2)).sum();
    spread > expected * total / 4
}

/// Extends a buffer to at least `length` bytes, and returns it.
fn at_least(space: &mut Vec<u8>, bytes: usize) -> &mut [u8] {
    if space.len() < bytes {
        space.resize(bytes, 0);
    }
    space
}

/// Appends the block deflated.
fn deflate(compressor: &mut Compressor, block: &[u8], space: &mut Vec<u8>, output: &mut Vec<u8>) {
    let space = at_least(space, compressor.deflate_compress_bound(block.len()));
    let written =
        compressor.deflate_compress(block, space).expect("the buffer has the size that libdeflate asked for");
    output.extend_from_slice(&space[..written]);
}

/// Appends the block in stored deflate blocks (RFC 1951 3.2.4).
fn store(block: &[u8], output: &mut Vec<u8>) {
    let mut rest = block;
    loop {
        let (piece, after) = rest.split_at(rest.len().min(0xffff));
        let length = u16::try_from(piece.len()).expect("at most 0xffff");
        output.push(u8::from(after.is_empty()));
        output.extend_from_slice(&length.to_le_bytes());
        output.extend_from_slice(&(!length).to_le_bytes());
        output.extend_from_slice(piece);
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(block: &[u8]) -> bool {
        let mut probe = Compressor::new(CompressionLvl::new(1).unwrap());
        is_incompressible(block, &mut probe, &mut Vec::new())
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let next = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        next.flatten().take(len).collect()
    }

    #[test]
    fn only_what_deflate_cannot_shrink_is_stored() {
        let len = 1 << 20;
        let noise = noise(len);
        assert!(refused(&noise), "noise");
        assert!(!refused(&noise[..len / 4 - 1]), "a small block is always tried");
        let text: Vec<u8> = b"some text, some more text\n".iter().copied().cycle().take(len).collect();
        assert!(!refused(&text), "text");
        let seven_bits: Vec<u8> = noise.iter().map(|byte| byte & 0x7f).collect();
        assert!(!refused(&seven_bits), "no repetition, but one bit of eight is always zero");
        let repeated: Vec<u8> = noise[..512].iter().copied().cycle().take(len).collect();
        assert!(!refused(&repeated), "all values as often, but repeated");
        // Base64 text of noise: a quarter can be saved.
        let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let base64: Vec<u8> = noise.iter().map(|byte| letters[usize::from(byte & 63)]).collect();
        assert!(!refused(&base64), "base64");
        let mut mostly = noise;
        mostly[SAMPLE_BYTES..SAMPLE_BYTES + len / 64].fill(0);
        assert!(refused(&mostly), "a few zeros are not worth it");
    }

    #[test]
    fn levels_are_accepted_or_refused() {
        for (text, expected) in [
            ("gzip", Some("gzip:6")),
            ("gzip:1", Some("gzip:1")),
            ("gzip:12", Some("gzip:12")),
            ("gzip:0", None),
            ("gzip:13", None),
            ("gzip:", None),
            ("zstd", Some("zstd:3")),
            ("zstd:19", Some("zstd:19")),
            ("zstd:20", None),
            ("none", Some("none")),
            ("none:1", None),
            ("bzip2", None),
            ("", None),
        ] {
            let level = text.parse::<CompressionLevel>();
            assert_eq!(level.ok().map(|level| level.to_string()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn values_are_uneven_when_their_squares_differ_by_more_than_the_bound() {
        // 1024 bytes, four of each value are expected, the bound is 4 * 1024 / 4: here 32 values come 8 times and 32
        // never, which is 64 * 4 * 4 = 1024.
        let counts = |value: usize| match value {
            0..32 => 8,
            32..64 => 0,
            _ => 4,
        };
        let mut sample: Vec<u8> =
            (0..=255_u8).flat_map(|value| std::iter::repeat_n(value, counts(value.into()))).collect();
        assert_eq!(sample.len(), 1024);
        assert!(!is_uneven(&sample));
        // The last 255 becomes 254: 1026.
        sample[1023] = 254;
        assert!(is_uneven(&sample));
        assert!(!is_uneven(&(0..=255).collect::<Vec<u8>>()));
    }

    #[test]
    fn half_of_the_sample_is_tried_and_comes_from_the_whole_block() {
        let len = 1 << 20;
        let step = len / SAMPLES;
        let every: Vec<u8> = (0..=255).cycle().take(SAMPLE_BYTES).collect();
        // Every other place of a block of noise is the same 256 values again and again.
        let block = |first: usize| {
            let mut block = noise(len);
            for place in (first..SAMPLES).step_by(2) {
                block[place * step..][..SAMPLE_BYTES].copy_from_slice(&every);
            }
            block
        };
        assert!(!refused(&block(0)), "the places that are tried shrink");
        assert!(refused(&block(1)), "the others are only counted");
        let mut last = noise(len);
        for place in [2, 14] {
            last[place * step..][..SAMPLE_BYTES].copy_from_slice(&every);
        }
        assert!(!refused(&last), "a quarter of what is tried shrinks");
        assert!(refused(&noise(8 * SAMPLE_BYTES * SAMPLES)), "the smallest block that is sampled");
    }

    #[test]
    fn space_grows_and_never_shrinks() {
        let mut space = Vec::new();
        for (bytes, expected) in [(3, 3), (5, 5), (5, 5), (2, 5), (0, 5)] {
            assert_eq!(at_least(&mut space, bytes).len(), expected);
        }
    }

    #[test]
    fn a_stored_block_is_cut_into_pieces_of_65535_bytes() {
        let stored = |block: &[u8]| {
            let mut output = b"before".to_vec();
            store(block, &mut output);
            output.split_off(6)
        };
        assert_eq!(stored(b""), b"\x01\0\0\xff\xff");
        assert_eq!(stored(b"ab"), b"\x01\x02\0\xfd\xffab");
        let most = vec![7; 65_535];
        assert_eq!(stored(&most), [b"\x01\xff\xff\0\0", &most[..]].concat());
        let more = [&most[..], b"x"].concat();
        assert_eq!(stored(&more), [b"\0\xff\xff\0\0", &most[..], b"\x01\x01\0\xfe\xffx"].concat());
    }

    #[test]
    fn an_error_shows_the_text_and_the_compressor_only_appends() {
        let error = "lzma".parse::<CompressionLevel>().unwrap_err().to_string();
        assert!(error.starts_with("compression `lzma` is not known, expected `gzip`, "), "{error}");
        for (level, start) in
            [("none", &b"ab-text"[..]), ("gzip:1", b"ab\x1f\x8b"), ("zstd", b"ab\x28\xb5\x2f\xfd")]
        {
            let mut output = b"ab".to_vec();
            Codec::new(level.parse().unwrap()).compress(b"-text", &mut output);
            assert!(output.starts_with(start), "{level}: {output:?}");
        }
    }
}

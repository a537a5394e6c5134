//! One block as one gzip member that says how long it is.
//!
//! The length is in an extra field (RFC 1952 2.3.1.1), which every reader skips. Our reader uses it to find the next
//! member without inflating this one, and so inflates several at a time.

use libdeflater::Crc;

/// Uncompressed bytes in one gzip member or zstd frame.
///
/// Part of the output format: another size gives other bytes. 256 KiB costs 1 % more output, 4 MiB four times
/// the memory for 0.2 % less.
pub const BLOCK_BYTES: usize = 1024 * 1024;
/// Bytes before the deflate stream: the fixed header, the extra field's length, and its one subfield.
pub(super) const HEADER_BYTES: usize = 20;
/// Bytes after it: CRC-32 and size of the uncompressed bytes, both little-endian (RFC 1952 2.3.1).
pub(super) const TRAILER_BYTES: usize = 8;
/// Header up to the length: deflate, extra field, no time, unknown system; 8 bytes of extra field; subfield `IR`
/// with 4 bytes, the length of the whole member, little-endian.
const START: [u8; HEADER_BYTES - 4] = *b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x08\0IR\x04\0";
/// The longest member that our writer makes: a stored block adds 5 bytes for each 64 KiB.
const MOST: usize = BLOCK_BYTES + 64 * 1024;

/// Appends one member with `block` in it; `deflate` appends the deflate stream.
pub(super) fn append(block: &[u8], output: &mut Vec<u8>, deflate: impl FnOnce(&mut Vec<u8>)) {
    let start = output.len();
    output.extend_from_slice(&START);
    output.extend_from_slice(&[0; 4]);
    deflate(output);
    output.extend_from_slice(&crc_of(block).to_le_bytes());
    let size = u32::try_from(block.len()).expect("a block is far below 4 GiB");
    output.extend_from_slice(&size.to_le_bytes());
    let length = u32::try_from(output.len() - start).expect("a member is far below 4 GiB");
    output[start + START.len()..start + HEADER_BYTES].copy_from_slice(&length.to_le_bytes());
}

/// Returns the length of the member that begins with `header`, if our writer can have made it.
pub(super) fn length(header: &[u8]) -> Option<usize> {
    let length = header.strip_prefix(&START)?.first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    (HEADER_BYTES + TRAILER_BYTES..=MOST).contains(&length).then_some(length)
}

/// Inflates one member into `plain`, and tells whether `packed` is exactly one complete, correct member.
///
/// Correct means: length, checksum and size are those that the member states, and the size is at most [`BLOCK_BYTES`].
pub(super) fn inflate(packed: &[u8], decompress: &mut flate2::Decompress, plain: &mut Vec<u8>) -> bool {
    let Some((rest, size)) = packed.split_last_chunk::<4>() else { return false };
    let Some((rest, crc)) = rest.split_last_chunk::<4>() else { return false };
    let Some(deflated) = rest.get(HEADER_BYTES..) else { return false };
    let Ok(size) = usize::try_from(u32::from_le_bytes(*size)) else { return false };
    if size > BLOCK_BYTES {
        return false;
    }
    // Where memory is short, leave it to the streaming decoder, which needs less.
    if plain.try_reserve_exact((size + 1).saturating_sub(plain.len())).is_err() {
        return false;
    }
    // One byte more than promised, to notice a longer stream.
    plain.resize(size + 1, 0);
    decompress.reset(false);
    let status = decompress.decompress(deflated, plain, flate2::FlushDecompress::Finish);
    let whole = matches!(status, Ok(flate2::Status::StreamEnd))
        && decompress.total_in() == deflated.len() as u64
        && decompress.total_out() == size as u64;
    plain.truncate(size);
    whole && crc_of(plain) == u32::from_le_bytes(*crc)
}

fn crc_of(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(block: &[u8]) -> Vec<u8> {
        let mut output = Vec::new();
        append(block, &mut output, |output| {
            let mut encoder = flate2::write::DeflateEncoder::new(output, flate2::Compression::fast());
            std::io::Write::write_all(&mut encoder, block).unwrap();
            encoder.finish().unwrap();
        });
        output
    }

    fn inflated(packed: &[u8]) -> Option<Vec<u8>> {
        let mut plain = vec![7; 3];
        inflate(packed, &mut flate2::Decompress::new(false), &mut plain).then_some(plain)
    }

    #[test]
    fn a_member_says_its_length_and_comes_back() {
        for block in [&b""[..], b"x", &[b'y'; BLOCK_BYTES]] {
            let member = member(block);
            assert_eq!(length(&member), Some(member.len()));
            assert_eq!(inflated(&member).as_deref(), Some(block));
        }
    }

    #[test]
    fn any_flipped_bit_behind_the_header_and_any_other_length_is_noticed() {
        let block = b"some bytes that repeat: some bytes";
        let good = member(block);
        for at in HEADER_BYTES..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            // The padding bits at the end of a deflate stream may have any value; no reader looks at them.
            let padding = at == good.len() - TRAILER_BYTES - 1;
            assert_eq!(inflated(&bad).as_deref(), padding.then_some(&block[..]), "byte {at}");
        }
        for len in 0..good.len() {
            assert_eq!(inflated(&good[..len]), None, "{len} bytes");
        }
        assert_eq!(inflated(&[&good[..], &good[..]].concat()), None, "two members are not one");
        let mut padded = good.clone();
        padded.splice(good.len() - 8..good.len() - 8, [0]);
        assert_eq!(inflated(&padded), None, "a byte between stream and trailer");
    }

    #[test]
    fn other_headers_and_unlikely_lengths_are_not_ours() {
        let good = member(b"bytes");
        for at in 0..START.len() {
            let mut other = good.clone();
            other[at] ^= 1;
            assert_eq!(length(&other), None, "byte {at}");
        }
        assert_eq!(length(&good[..HEADER_BYTES - 1]), None);
        for claim in [0, 27, u32::try_from(MOST + 1).unwrap(), u32::MAX] {
            let mut other = good.clone();
            other[START.len()..HEADER_BYTES].copy_from_slice(&claim.to_le_bytes());
            assert_eq!(length(&other), None, "{claim}");
        }
        let mut huge = good;
        let at = huge.len() - 4;
        huge[at..].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(inflated(&huge), None, "a size that is not ours takes no memory");
    }

    #[test]
    fn a_member_behind_another_has_its_own_length() {
        let mut output = member(b"first");
        let before = output.len();
        append(b"second", &mut output, |output| output.extend_from_slice(b"\x01\x06\0\xf9\xffsecond"));
        assert_eq!(length(&output[before..]), Some(20 + 11 + 8));
        assert_eq!(output.len(), before + 39);
        assert_eq!(inflated(&output[before..]).as_deref(), Some(&b"second"[..]));
    }
}

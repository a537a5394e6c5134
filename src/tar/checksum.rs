//! The checksum of a tar header, summed eight bytes at a time: a layer of small files is half headers.
//!
//! Source: POSIX.1-2017 ustar, `chksum`: the sum of all bytes, those of the field itself taken as spaces.

/// Size of a header in bytes.
const BLOCK: usize = 512;

/// The bytes of the `chksum` field.
const FIELD: std::ops::Range<usize> = 148..156;

/// The two sums of one header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sums {
    /// Bytes taken as numbers from 0 to 255, as POSIX says.
    pub(super) unsigned: u32,
    /// Bytes taken as numbers from -128 to 127, as some old tools summed them.
    pub(super) signed: i32,
}

/// Sums the bytes of a header, with spaces in the place of its checksum.
pub(super) fn sums(block: &[u8; BLOCK]) -> Sums {
    const EVEN_BYTES: u64 = 0x00ff_00ff_00ff_00ff;
    const TOP_BITS: u64 = 0x8080_8080_8080_8080;
    let mut block = *block;
    block[FIELD].fill(b' ');
    // Four sums of 16 bits: each of the 64 words adds at most 2 × 255 to each, 32,640 in all.
    let (mut lanes, mut high_bytes) = (0_u64, 0_u32);
    for word in block.as_chunks::<8>().0 {
        let word = u64::from_le_bytes(*word);
        lanes += (word & EVEN_BYTES) + (word >> 8 & EVEN_BYTES);
        high_bytes += (word & TOP_BITS).count_ones();
    }
    let sum = |lane: u32| u32::from((lanes >> (16 * lane) & 0xffff) as u16);
    let unsigned = sum(0) + sum(1) + sum(2) + sum(3);
    // A byte with its top bit set counts 256 less.
    Sums { unsigned, signed: unsigned.cast_signed() - (high_bytes * 256).cast_signed() }
}

/// Writes the checksum of a header into it: six octal digits, NUL, space.
pub(super) fn set(block: &mut [u8; BLOCK]) {
    let mut rest = sums(block).unsigned;
    let field = &mut block[FIELD];
    for digit in field[..6].iter_mut().rev() {
        *digit = b'0' + (rest & 7) as u8;
        rest >>= 3;
    }
    field[6..].copy_from_slice(b"\0 ");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, one byte after the other.
    fn expected(block: &[u8; BLOCK]) -> Sums {
        let bytes = block.iter().enumerate().map(|(at, byte)| if FIELD.contains(&at) { b' ' } else { *byte });
        let unsigned = bytes.clone().map(u32::from).sum();
        Sums { unsigned, signed: bytes.map(|byte| i32::from(byte.cast_signed())).sum() }
    }

    #[test]
    fn sums_are_those_of_the_definition() {
        let mut counting = [0; BLOCK];
        for (number, byte) in (0..=u8::MAX).cycle().zip(&mut counting) {
            *byte = number.wrapping_mul(7);
        }
        for block in [[0; BLOCK], [0x7f; BLOCK], [0x80; BLOCK], [0xff; BLOCK], counting] {
            assert_eq!(sums(&block), expected(&block));
        }
    }

    #[test]
    fn the_checksum_is_written_as_octal_digits() {
        let mut block = [0xff; BLOCK];
        set(&mut block);
        // 504 × 255 + 8 × 32 = 128,776.
        assert_eq!(&block[FIELD], b"373410\0 ");
        assert_eq!(sums(&block), expected(&block));
    }
}

//! One 512-byte tar header as it stands in the archive: fields, numbers, checksum.
//!
//! Source: POSIX.1-2017 ustar; GNU tar manual, "Basic Tar Format"; star's prefix variant as Go reads it.

use super::checksum::{Sums, sums};

/// Size of headers and of padding.
pub(super) const BLOCK: usize = 512;
/// [`BLOCK`] for arithmetic on offsets.
pub(super) const BLOCK_U64: u64 = 512;

/// The fields of one header; numbers are decoded, names are still the header's own.
#[derive(Clone, Debug)]
pub(super) struct RawHeader {
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) flag: u8,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) size: u64,
    pub(super) mtime: i64,
}

/// Tells whether a block's checksum fits; some old tools summed signed bytes, both are accepted.
pub(super) fn checksum_fits(block: &[u8; BLOCK]) -> bool {
    let Ok(Some(stored)) = number(&block[148..156]) else { return false };
    let Sums { unsigned, signed } = sums(block);
    stored == i64::from(unsigned) || stored == i64::from(signed)
}

impl RawHeader {
    /// Decodes a block; the error says which field is wrong and how.
    pub(super) fn parse(block: &[u8; BLOCK]) -> Result<Self, String> {
        if !checksum_fits(block) {
            return Err("its checksum does not fit".to_owned());
        }
        let field = |name: &str, from: usize, to: usize| {
            let bytes = &block[from..to];
            match number(bytes) {
                Ok(value) => Ok(value.unwrap_or(0)),
                Err(()) => Err(format!("`{name}` is `{}`, expected an octal number", bytes.escape_ascii())),
            }
        };
        let positive = |name: &str, from: usize, to: usize| {
            let value = field(name, from, to)?;
            u64::try_from(value).map_err(|_| format!("`{name}` is {value}, expected a positive number"))
        };
        let mut name = until_zero(&block[..100]).to_vec();
        if &block[257..263] == b"ustar\0" {
            // star keeps times where ustar's prefix has its last 24 bytes.
            let end = if &block[508..512] == b"tar\0" { 476 } else { 500 };
            let prefix = until_zero(&block[345..end]);
            if !prefix.is_empty() {
                name = [prefix, b"/", &name].concat();
            }
        }
        // Unused, but Go and Python refuse the header, or end there, if these are no numbers.
        field("devmajor", 329, 337)?;
        field("devminor", 337, 345)?;
        // imgpkg --preserve-permissions writes Go's mode bits above the low twelve.
        let mode = u32::try_from(field("mode", 100, 108)? & 0o7777).expect("twelve bits fit into 32");
        Ok(Self {
            name,
            link: until_zero(&block[157..257]).to_vec(),
            flag: block[156],
            mode,
            uid: positive("uid", 108, 116)?,
            gid: positive("gid", 116, 124)?,
            size: positive("size", 124, 136)?,
            mtime: field("mtime", 136, 148)?,
        })
    }
}

/// Returns the bytes before the first zero byte.
pub(super) fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().expect("split gives at least one part")
}

/// Decodes a numeric field: octal with spaces or zero bytes around it, or base-256; `None` when empty.
fn number(field: &[u8]) -> Result<Option<i64>, ()> {
    if let Some(value) = digits_only(field) {
        return Ok(Some(value));
    }
    let Some((first, rest)) = field.split_first() else { return Ok(None) };
    if first & 0x80 != 0 {
        // Base-256: two's complement, the top bit only marks the form, the next one is the sign.
        let mut value: i128 =
            if first & 0x40 != 0 { i128::from(*first) - 0x100 } else { i128::from(first & 0x7f) };
        for byte in rest {
            value = (value << 8) | i128::from(*byte);
        }
        return i64::try_from(value).map(Some).map_err(|_| ());
    }
    let start = field.iter().position(|byte| *byte != b' ').unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(|byte| matches!(byte, 0 | b' ')).unwrap_or(digits.len());
    let (digits, after) = digits.split_at(end);
    // Digits after a blank belong to the number for some readers and not for others.
    if !after.iter().take_while(|byte| **byte != 0).all(|byte| *byte == b' ') {
        return Err(());
    }
    if digits.is_empty() {
        // GNU tar and Go pass over zero bytes in front, Python takes the field for empty.
        return if after.iter().all(|byte| matches!(byte, 0 | b' ')) { Ok(None) } else { Err(()) };
    }
    let mut value: i64 = 0;
    for digit in digits {
        if !(b'0'..=b'7').contains(digit) {
            return Err(());
        }
        value = value.checked_mul(8).ok_or(())? + i64::from(digit - b'0');
    }
    Ok(Some(value))
}

/// Decodes the common form of a field, octal digits up to one zero byte or space at its end; `None` for any other.
fn digits_only(field: &[u8]) -> Option<i64> {
    let (last, digits) = field.split_last()?;
    // Twenty digits have 60 bits; no field of a header has more.
    if !matches!(last, 0 | b' ') || digits.is_empty() || digits.len() > 20 {
        return None;
    }
    let mut value = 0;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 7 {
            return None;
        }
        value = value << 3 | i64::from(digit);
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numeric_fields_are_decoded_or_refused() {
        type Decoded = Result<Option<i64>, ()>;
        let cases: [(&[u8], Decoded); 16] = [
            (b"0004 010", Err(())),
            (b"004 \x00010", Ok(Some(4))),
            (b"0000644\0", Ok(Some(0o644))),
            (b"   644 \0", Ok(Some(0o644))),
            (b"77777777777\0", Ok(Some(0o77_777_777_777))),
            (b"777777777777", Ok(Some(0o777_777_777_777))),
            (b"\0\0\0\0\0\0\0\0", Ok(None)),
            (b"        ", Ok(None)),
            (b"  \0     ", Ok(None)),
            (b"\x00000644\0", Err(())),
            (b"0000648\0", Err(())),
            (b"-000644\0", Err(())),
            (b"\x80\0\0\0\0\0\0\x02\0\0\0\0", Ok(Some(2 << 32))),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", Ok(Some(-1))),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", Err(())),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Ok(Some(i64::MAX))),
        ];
        for (field, expected) in cases {
            assert_eq!(number(field), expected, "{}", field.escape_ascii());
        }
    }
}

//! Describes content that is no image archive, so that an error names what the file is.

use std::path::Path;

use super::StoreError;

/// Makes the error for content that is none of the known kinds.
pub(super) fn not_an_archive(path: &Path, found: &str) -> StoreError {
    let expected = "expected an OCI layout (tar or folder), a docker-save tar or an imgpkg tar";
    StoreError::unknown(path, format!("it is {found}, {expected}"))
}

/// Names well-known content by its first bytes.
pub(super) fn looks_like(start: &[u8]) -> &'static str {
    match start {
        [] => "an empty file",
        [b'P', b'K', 3 | 5, 4 | 6, ..] => "a zip archive",
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => "an xz-compressed file",
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => "a bzip2-compressed file",
        [b'7', b'z', 0xbc, 0xaf, ..] => "a 7z archive",
        [0x7f, b'E', b'L', b'F', ..] => "a program",
        [b'{' | b'[', ..] => "a JSON document",
        [b'-', b'-', b'-', b'\n', ..] => "a YAML document",
        _ if start.iter().all(|byte| !byte.is_ascii_control() || byte.is_ascii_whitespace()) => "a text file",
        _ if start.len() < 512 => "too short for a tar",
        _ => "neither a tar nor compressed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_that_is_no_archive_is_named_by_its_first_bytes() {
        let cases: [(&[u8], &str); 16] = [
            (b"", "an empty file"),
            (b"PK\x03\x04", "a zip archive"),
            (b"PK\x05\x06", "a zip archive"),
            (b"PK\x04\x04", "too short for a tar"),
            (b"PK\x03\x05", "too short for a tar"),
            (b"\xfd7zXZ\0", "an xz-compressed file"),
            (b"BZh9", "a bzip2-compressed file"),
            (b"BZh0", "a text file"),
            (b"7z\xbc\xaf", "a 7z archive"),
            (b"\x7fELF", "a program"),
            (b"{}", "a JSON document"),
            (b"[]", "a JSON document"),
            (b"---\na: b", "a YAML document"),
            (b"--- a", "a text file"),
            (&[1; 511], "too short for a tar"),
            (&[1; 512], "neither a tar nor compressed"),
        ];
        for (start, expected) in cases {
            assert_eq!(looks_like(start), expected, "{}", start.escape_ascii());
        }
    }

    #[test]
    fn the_error_says_what_was_found_and_what_was_expected() {
        assert_eq!(
            not_an_archive(Path::new("a.zip"), "a zip archive").to_string(),
            "`a.zip` is not an image archive: it is a zip archive, \
             expected an OCI layout (tar or folder), a docker-save tar or an imgpkg tar"
        );
    }
}

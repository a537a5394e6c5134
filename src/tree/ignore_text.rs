//! The text of an ignore file: UTF-8, or UTF-16 with a byte order mark, as PowerShell writes it.
//!
//! Text in another form is refused: patterns that match nothing would put what they name into the image.

/// Decodes an ignore file.
///
/// Errors: why it is not text, as a clause without a subject.
pub fn ignore_text(bytes: &[u8]) -> Result<String, String> {
    let text = match bytes {
        [0xFF, 0xFE, rest @ ..] => utf16(rest, u16::from_le_bytes)?,
        [0xFE, 0xFF, rest @ ..] => utf16(rest, u16::from_be_bytes)?,
        bytes => match std::str::from_utf8(bytes) {
            Ok(text) => text.trim_start_matches('\u{feff}').to_owned(),
            Err(error) => {
                let line = bytes.get(..error.valid_up_to()).map_or(0, lines) + 1;
                return Err(format!(
                    "line {line} is not UTF-8; UTF-16 needs a byte order mark at the beginning"
                ));
            }
        },
    };
    // UTF-16 without a byte order mark is valid UTF-8 with NUL bytes, and no path has one.
    match text.find('\0') {
        Some(at) => {
            let line = text.get(..at).map_or(0, |before| lines(before.as_bytes())) + 1;
            Err(format!("line {line} has a NUL character; UTF-16 needs a byte order mark at the beginning"))
        }
        None => Ok(text),
    }
}

fn lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, String> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("it begins as UTF-16, but has an odd number of bytes".to_owned());
    }
    let units = pairs.iter().map(|pair| unit(*pair));
    char::decode_utf16(units).collect::<Result<String, _>>().map_err(|error| {
        format!("it begins as UTF-16, but has the half character {:04x}", error.unpaired_surrogate())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(mark: [u8; 2], text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        mark.into_iter().chain(text.encode_utf16().flat_map(bytes)).collect()
    }

    #[test]
    fn every_form_of_text_is_decoded_or_refused() {
        let text = "secrets/\r\n*.k\u{e4}y\n";
        for bytes in [
            text.as_bytes().to_vec(),
            [b"\xef\xbb\xbf", text.as_bytes()].concat(),
            units([0xFF, 0xFE], text, u16::to_le_bytes),
            units([0xFE, 0xFF], text, u16::to_be_bytes),
        ] {
            assert_eq!(ignore_text(&bytes).as_deref(), Ok(text), "{bytes:?}");
        }
        assert_eq!(ignore_text(b""), Ok(String::new()));
        for (bytes, expected) in [
            (&b"a\nk\xe4y\n"[..], "line 2 is not UTF-8; UTF-16 needs a byte order mark at the beginning"),
            (b"a\nb\0", "line 2 has a NUL character; UTF-16 needs a byte order mark at the beginning"),
            (b"s\0e\0", "line 1 has a NUL character; UTF-16 needs a byte order mark at the beginning"),
            (b"\xff\xfea\0b", "it begins as UTF-16, but has an odd number of bytes"),
            (b"\xff\xfe\x00\xd8", "it begins as UTF-16, but has the half character d800"),
            (
                b"\xff\xfe\0\0a\0\0\0",
                "line 1 has a NUL character; UTF-16 needs a byte order mark at the beginning",
            ),
        ] {
            assert_eq!(ignore_text(bytes), Err(expected.to_owned()), "{bytes:?}");
        }
    }
}

//! Names of entries: which bytes they mean, and whether they may be paths inside an archive.

use super::EntryProblem;
use crate::model::limits;

/// The upper half of code page 437, which names without any mark are written in (APPNOTE appendix D).
const CP437: [char; 128] = [
    'Ç', 'ü', 'é', 'â', 'ä', 'à', 'å', 'ç', 'ê', 'ë', 'è', 'ï', 'î', 'ì', 'Ä', 'Å', 'É', 'æ', 'Æ', 'ô', 'ö',
    'ò', 'û', 'ù', 'ÿ', 'Ö', 'Ü', '¢', '£', '¥', '₧', 'ƒ', 'á', 'í', 'ó', 'ú', 'ñ', 'Ñ', 'ª', 'º', '¿', '⌐',
    '¬', '½', '¼', '¡', '«', '»', '░', '▒', '▓', '│', '┤', '╡', '╢', '╖', '╕', '╣', '║', '╗', '╝', '╜', '╛',
    '┐', '└', '┴', '┬', '├', '─', '┼', '╞', '╟', '╚', '╔', '╩', '╦', '╠', '═', '╬', '╧', '╨', '╤', '╥', '╙',
    '╘', '╒', '╓', '╫', '╪', '┘', '┌', '█', '▄', '▌', '▐', '▀', 'α', 'ß', 'Γ', 'π', 'Σ', 'σ', 'µ', 'τ', 'Φ',
    'Θ', 'Ω', 'δ', '∞', 'φ', 'ε', '∩', '≡', '±', '≥', '≤', '⌠', '⌡', '÷', '≈', '°', '∙', '·', '√', 'ⁿ', '²',
    '■', '\u{a0}',
];

/// Most bytes of one component, on every file system an app is unpacked to.
const COMPONENT_BYTES: usize = 255;

/// What an entry's name is to be read with.
#[derive(Clone, Copy, Debug)]
pub(super) struct NameRules<'a> {
    /// General purpose bit 11: the name is UTF-8.
    pub utf8: bool,
    /// The archive was made on Unix: a name is the bytes the file was called by, `\\` included.
    pub unix: bool,
    /// Name from a Unicode path extra field whose checksum fits.
    pub unicode: Option<&'a [u8]>,
}

/// Returns a name as UTF-8 or, for files from Unix, as the bytes they had.
///
/// macOS and Info-ZIP on Unix write UTF-8 without saying so; a name that is valid UTF-8 there is taken as such.
pub(super) fn decode(raw: &[u8], rules: NameRules<'_>) -> Result<Vec<u8>, EntryProblem> {
    if let Some(name) = rules.unicode.filter(|name| std::str::from_utf8(name).is_ok()) {
        return Ok(name.to_vec());
    }
    let valid = std::str::from_utf8(raw).is_ok();
    if raw.is_ascii() || (valid && (rules.utf8 || rules.unix)) {
        return Ok(raw.to_vec());
    }
    if rules.utf8 {
        return Err(EntryProblem::Name("it is marked as UTF-8, but it is not"));
    }
    let character = |byte: &u8| match byte.checked_sub(0x80) {
        Some(high) => CP437.get(usize::from(high)).copied().unwrap_or('\u{fffd}'),
        None => char::from(*byte),
    };
    Ok(raw.iter().map(character).collect::<String>().into_bytes())
}

/// Makes a path of a name: `/` between components, none that is empty or `.`; tells whether it ended in `/`.
///
/// Returns `None` for the root itself (`./`), which is no entry of its own.
pub(super) fn path(name: &[u8], unix: bool) -> Result<Option<(Vec<u8>, bool)>, EntryProblem> {
    if name.contains(&0) {
        return Err(EntryProblem::Name("it has a NUL byte"));
    }
    // APPNOTE 4.4.17.1 wants `/`; tools on Windows have written `\`, which cannot be part of a name there.
    let separated: Vec<u8> =
        name.iter().map(|byte| if *byte == b'\\' && !unix { b'/' } else { *byte }).collect();
    let drive = !unix && matches!(separated.as_slice(), [letter, b':', ..] if letter.is_ascii_alphabetic());
    if separated.starts_with(b"/") || drive {
        return Err(EntryProblem::Absolute);
    }
    let mut path: Vec<u8> = Vec::with_capacity(separated.len());
    for component in separated.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => continue,
            b".." => return Err(EntryProblem::Outside),
            component if component.len() > COMPONENT_BYTES => {
                return Err(EntryProblem::Name("a part of it has more than 255 bytes"));
            }
            component => {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(component);
            }
        }
    }
    if path.len() > limits::PATH_BYTES {
        return Err(EntryProblem::Name("it has more than 4096 bytes"));
    }
    let folder = separated.ends_with(b"/");
    match (path.is_empty(), folder) {
        (true, true) => Ok(None),
        (true, false) => Err(EntryProblem::NoName),
        (false, folder) => Ok(Some((path, folder))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_by_what_marks_them() {
        let none = NameRules { utf8: false, unix: false, unicode: None };
        let cases: [(&[u8], NameRules<'_>, &str); 6] = [
            (b"plain.txt", none, "plain.txt"),
            (b"\x81ber", none, "über"),
            ("über".as_bytes(), NameRules { utf8: true, ..none }, "über"),
            ("über".as_bytes(), NameRules { unix: true, ..none }, "über"),
            (b"\x81ber", NameRules { unix: true, ..none }, "über"),
            (b"_ber", NameRules { unicode: Some("über".as_bytes()), ..none }, "über"),
        ];
        for (raw, rules, expected) in cases {
            assert_eq!(decode(raw, rules).unwrap(), expected.as_bytes(), "{raw:?} {rules:?}");
        }
        assert!(decode(b"\x81ber", NameRules { utf8: true, ..none }).is_err());
    }

    #[test]
    fn paths_are_accepted_or_refused() {
        let long = [b"a".repeat(255), b"/b".to_vec()].concat();
        let too_long = b"a".repeat(256);
        let longest = [b"d/".repeat(2047), b"ab".to_vec()].concat();
        let too_deep = [b"d/".repeat(2047), b"abc".to_vec()].concat();
        /// Name, made on Unix, path and whether it is a folder.
        type Case<'a> = (&'a [u8], bool, Result<Option<(&'a [u8], bool)>, &'a str>);
        let cases: [Case<'_>; 22] = [
            (b"a/b", true, Ok(Some((b"a/b", false)))),
            (b"a/b/", true, Ok(Some((b"a/b", true)))),
            (b"./a//b/.", true, Ok(Some((b"a/b", false)))),
            (b"./", true, Ok(None)),
            (b".", true, Err("has no name")),
            (b"", true, Err("has no name")),
            (b"..", true, Err("leads out")),
            (b"a/../b", true, Err("leads out")),
            (b"..a/b..", true, Ok(Some((b"..a/b..", false)))),
            (b"/a", true, Err("absolute")),
            (b"\\a", false, Err("absolute")),
            (b"\\a", true, Ok(Some((b"\\a", false)))),
            (b"a\\b\\", false, Ok(Some((b"a/b", true)))),
            (b"a\\..\\b", false, Err("leads out")),
            (b"C:\\a", false, Err("absolute")),
            (b"C:/a", true, Ok(Some((b"C:/a", false)))),
            (b"1:/a", false, Ok(Some((b"1:/a", false)))),
            (b"a\0b", true, Err("NUL")),
            (&long, true, Ok(Some((&long, false)))),
            (&too_long, true, Err("more than 255")),
            (&longest, true, Ok(Some((&longest, false)))),
            (&too_deep, true, Err("more than 4096 bytes")),
        ];
        for (name, unix, expected) in cases {
            let shown = String::from_utf8_lossy(name);
            match (path(name, unix), expected) {
                (Ok(found), Ok(expected)) => {
                    assert_eq!(
                        found.as_ref().map(|(path, folder)| (&path[..], *folder)),
                        expected,
                        "{shown}"
                    );
                }
                (Err(found), Err(expected)) => {
                    assert!(found.to_string().contains(expected), "{shown}: {found}");
                }
                (found, expected) => panic!("{shown}: {found:?}, expected {expected:?}"),
            }
        }
    }
}

//! The form of PEM texts: blocks with their labels, and what a text is that has none. Decodes no base64.
//!
//! Source: RFC 7468. Text around the blocks is allowed; white space around a line is ignored.

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

/// A block from its `BEGIN` line to the `END` line with the same label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PemBlock<'a> {
    /// The label: `CERTIFICATE`.
    pub label: &'a str,
    /// The whole block with both lines, without white space around it.
    pub text: &'a [u8],
}

impl<'a> PemBlock<'a> {
    /// Returns the lines between `BEGIN` and `END`, trimmed.
    pub fn lines(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let inner = self.text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        inner.filter(|line| !line.starts_with(DASHES))
    }
}

/// What is wrong with a text as a whole; a clause after its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemFault {
    /// White space only.
    #[error("is empty")]
    Empty,
    /// DER, which is binary.
    #[error("is in DER form, expected PEM")]
    Der,
    /// One line, in which `\n` stands for a line break: a text out of JSON or of a variable.
    #[error("has `\\n` as two characters where line breaks are expected")]
    EscapedLines,
    /// One line.
    #[error("has no line breaks, which PEM needs after its `BEGIN` line and before its `END` line")]
    OneLine,
    /// A block without its `END` line, or with the `END` line of another label.
    #[error("has a `BEGIN` line without its `END` line")]
    NoEnd,
    /// Text without a `BEGIN` line.
    #[error("holds no PEM block")]
    NoBlock,
}

/// The whole blocks of a text in order, and its first fault.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PemText<'a> {
    /// The blocks that are whole.
    pub blocks: Vec<PemBlock<'a>>,
    /// What is wrong, also if some blocks are whole.
    pub fault: Option<PemFault>,
}

/// Reads the blocks of a text.
#[must_use]
pub fn read(text: &[u8]) -> PemText<'_> {
    let (mut found, mut open, mut at) = (PemText::default(), None, 0);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let trimmed = line.trim_ascii();
        if let Some(label) = label(trimmed, BEGIN)
            && open.replace((label, at)).is_some()
        {
            found.fault = found.fault.or(Some(PemFault::NoEnd));
        }
        at += line.len();
        if let Some(end) = label(trimmed, END)
            && let Some((label, begin)) = open.take()
        {
            match text.get(begin..at) {
                Some(block) if label == end => {
                    found.blocks.push(PemBlock { label, text: block.trim_ascii() });
                }
                _ => found.fault = found.fault.or(Some(PemFault::NoEnd)),
            }
        }
    }
    if open.is_some() {
        found.fault = found.fault.or(Some(PemFault::NoEnd));
    }
    if found.blocks.is_empty() {
        found.fault = whole(text).or(found.fault).or(Some(PemFault::NoBlock));
    }
    found
}

/// Finds what is wrong with a text that has no whole block.
fn whole(text: &[u8]) -> Option<PemFault> {
    let trimmed = text.trim_ascii();
    if trimmed.is_empty() {
        return Some(PemFault::Empty);
    }
    // A SEQUENCE begins with the character `0`; its lengths and tags are no characters of a text.
    let is_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    if text.first() == Some(&0x30) && !text.iter().take(64).all(is_text) {
        return Some(PemFault::Der);
    }
    let has = |part: &[u8]| trimmed.windows(part.len()).any(|window| window == part);
    if !has(BEGIN) || has(b"\n") || has(b"\r") {
        return None;
    }
    Some(if has(b"\\n") { PemFault::EscapedLines } else { PemFault::OneLine })
}

/// Returns the label of a `BEGIN` or `END` line.
fn label<'a>(line: &'a [u8], begin: &[u8]) -> Option<&'a str> {
    std::str::from_utf8(line.strip_prefix(begin)?.strip_suffix(DASHES)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &[u8]) -> (Vec<&str>, Option<PemFault>) {
        let found = read(text);
        (found.blocks.iter().map(|block| block.label).collect(), found.fault)
    }

    #[test]
    fn whole_blocks_are_found_between_other_text() {
        let text =
            b"# one\n-----BEGIN A-----\nYQ==\n-----END A-----\n\xff\n  -----BEGIN B C-----\r\n  Yg==\r\n\
              Yw==\r\n  -----END B C-----";
        let found = read(text);
        assert_eq!(found.fault, None);
        let [one, two] = found.blocks.as_slice() else { panic!("{found:?}") };
        assert_eq!((one.label, two.label), ("A", "B C"));
        assert_eq!(one.text, b"-----BEGIN A-----\nYQ==\n-----END A-----");
        assert!(one.lines().eq([b"YQ=="]));
        assert!(two.lines().eq([b"Yg==", b"Yw=="]));
        assert_eq!(labels(b"-----BEGIN -----\n-----END -----\n"), (vec![""], None));
    }

    #[test]
    fn a_text_without_a_whole_block_has_a_fault_that_says_why() {
        let (begin, end) = ("-----BEGIN A-----", "-----END A-----");
        for (text, expected) in [
            (String::new(), PemFault::Empty),
            (" \r\n".to_owned(), PemFault::Empty),
            ("hello".to_owned(), PemFault::NoBlock),
            ("0 hello".to_owned(), PemFault::NoBlock),
            (format!("{end}\n"), PemFault::NoBlock),
            (format!("{begin}\n"), PemFault::OneLine),
            (format!("{begin} YQ== {end}\n"), PemFault::OneLine),
            (format!("{begin}\\nYQ==\\n{end}\n"), PemFault::EscapedLines),
            (format!("{begin}\nYQ==\n"), PemFault::NoEnd),
            (format!("{begin}\rYQ==\r{end}"), PemFault::NoEnd),
            (format!("{begin}\nYQ==\n-----END B-----\n"), PemFault::NoEnd),
            (format!("{begin}\nYQ==\n-----END A\n"), PemFault::NoEnd),
        ] {
            assert_eq!(labels(text.as_bytes()), (vec![], Some(expected)), "{text:?}");
        }
        for der in [&[0x30, 0x82, 1, 2, 3][..], b"0Y0\x13", &[0x30, 0x80], &[0x30, 0]] {
            assert_eq!(labels(der), (vec![], Some(PemFault::Der)), "{der:?}");
        }
        for other in [&[0x31, 0x82][..], &[0x30], b"0Y0", b"0x0123\r\n\tb"] {
            assert_eq!(labels(other), (vec![], Some(PemFault::NoBlock)), "{other:?}");
        }
        let late = [vec![b'0'; 64], vec![0x82]].concat();
        assert_eq!(labels(&late), (vec![], Some(PemFault::NoBlock)), "only the beginning is looked at");
    }

    #[test]
    fn whole_blocks_beside_a_fault_are_there_too() {
        let block = "-----BEGIN A-----\nYQ==\n-----END A-----\n";
        for text in [
            format!("-----BEGIN B-----\n{block}"),
            format!("{block}-----BEGIN B-----\n"),
            format!("-----BEGIN B-----\n-----END C-----\n{block}"),
        ] {
            assert_eq!(labels(text.as_bytes()), (vec!["A"], Some(PemFault::NoEnd)), "{text:?}");
        }
        assert_eq!(labels(format!("{block}-----END B-----\n").as_bytes()), (vec!["A"], None));
    }
}

//! Errors of reading a tar, with the byte offset and, where there is one, the entry.

use std::io;

use crate::model::invisible::is_invisible;

/// A tar that breaks its format, ends early, or could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The source failed.
    #[error("cannot read at byte {offset}: {source}")]
    Io {
        /// Where in the tar.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// The tar ends in the middle of something.
    #[error("the tar ends at byte {offset}, inside {inside}")]
    Truncated {
        /// Bytes that there are.
        offset: u64,
        /// What was being read, with the entry's name.
        inside: String,
    },
    /// A header cannot be understood, or readers would understand it differently.
    #[error("tar header at byte {offset}{}: {problem}", of_entry(entry))]
    Header {
        /// Where the header begins.
        offset: u64,
        /// Name of the entry; empty while it is not known.
        entry: String,
        /// Found against expected.
        problem: String,
    },
}

impl TarError {
    /// Returns the source's own error, if that is what happened.
    #[must_use]
    pub fn io_error(&self) -> Option<&io::Error> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }

    /// Takes out the source's own error, if that is what happened.
    pub fn into_io(self) -> Result<io::Error, Self> {
        match self {
            Self::Io { source, .. } => Ok(source),
            other => Err(other),
        }
    }

    /// Finds the tar error inside an I/O error that reading entry data returned.
    #[must_use]
    pub fn in_error(error: &io::Error) -> Option<&Self> {
        error.get_ref().and_then(|inner| inner.downcast_ref())
    }
}

fn of_entry(entry: &str) -> String {
    if entry.is_empty() { String::new() } else { format!(" (`{entry}`)") }
}

/// Makes a name from outside printable: control characters escaped, cut to a sane length.
#[must_use]
pub fn display_name(name: &[u8]) -> String {
    const LIMIT: usize = 240;
    let text = String::from_utf8_lossy(name);
    let mut out: String = text
        .chars()
        .take(LIMIT)
        .flat_map(|c| if is_invisible(c) { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect();
    if text.chars().nth(LIMIT).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_printed_without_control_characters_and_cut() {
        assert_eq!(display_name("a\n\u{1b}[31mb/é".as_bytes()), "a\\n\\u{1b}[31mb/é");
        let marks = "\u{7f}\u{9b}\u{200b}\u{2028}\u{202e}\u{feff}";
        assert_eq!(display_name(marks.as_bytes()), "\\u{7f}\\u{9b}\\u{200b}\\u{2028}\\u{202e}\\u{feff}");
        assert_eq!(display_name(&[b'x'; 300]).chars().count(), 241);
    }
}

//! The key of a file in Cloud Foundry's resource matching: SHA-1 and size.
//!
//! It only finds a file among those of an earlier image of the same repository. The bytes that are then read are
//! verified by the SHA-256 of their layer.

use std::fmt;

use sha1::{Digest as _, Sha1};

/// SHA-1 and size of a file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileSum {
    sha1: [u8; 20],
    /// Bytes.
    pub size: u64,
}

/// A text is not 40 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not a SHA-1 checksum, expected 40 hexadecimal digits")]
pub struct NotSha1 {
    /// The text, cut to a sane length.
    pub found: String,
}

impl FileSum {
    /// Makes one of 40 hexadecimal digits, upper or lower case, and a size.
    pub fn parse(sha1: &str, size: u64) -> Result<Self, NotSha1> {
        let bytes = sha1.as_bytes();
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let mut sum = [0; 20];
        let mut pairs = bytes.chunks_exact(2);
        let whole = bytes.len() == 2 * sum.len()
            && sum.iter_mut().zip(&mut pairs).all(|(byte, pair)| match pair {
                [high, low] => digit(*high).zip(digit(*low)).is_some_and(|(high, low)| {
                    *byte = high << 4 | low;
                    true
                }),
                _ => false,
            });
        if whole {
            Ok(Self { sha1: sum, size })
        } else {
            Err(NotSha1 { found: super::digest::excerpt(sha1) })
        }
    }

    /// Returns the SHA-1 alone.
    #[must_use]
    pub fn sha1(&self) -> [u8; 20] {
        self.sha1
    }
}

impl fmt::Display for FileSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sha1.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for FileSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} {}", self.size)
    }
}

/// Computes a [`FileSum`].
#[derive(Clone, Default)]
pub struct FileHasher {
    sha1: Sha1,
    size: u64,
}

impl FileHasher {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha1.update(bytes);
        self.size += bytes.len() as u64;
    }

    /// Ends the computation.
    #[must_use]
    pub fn finish(self) -> FileSum {
        FileSum { sha1: self.sha1.finalize().into(), size: self.size }
    }
}

impl fmt::Debug for FileHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileHasher").field("size", &self.size).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_forty_hexadecimal_digits() {
        let text = "002d760bea1be268e27077412e11a320d0f164d3";
        assert_eq!(FileSum::parse(text, 36).unwrap().to_string(), text);
        assert_eq!(FileSum::parse(&text.to_uppercase(), 36), FileSum::parse(text, 36));
        for wrong in ["", &text[..39], &format!("{text}0"), &text.replace('b', "g"), &"é".repeat(20)] {
            assert!(FileSum::parse(wrong, 36).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_sum_of_bytes_is_that_of_rfc_3174() {
        let mut hasher = FileHasher::default();
        hasher.update(b"a");
        hasher.update(b"bc");
        let sum = hasher.finish();
        assert_eq!((sum.to_string().as_str(), sum.size), ("a9993e364706816aba3e25717850c26c9cd0d89d", 3));
    }
}

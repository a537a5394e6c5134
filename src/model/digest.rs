//! Content digests: parsed, computed and compared here only.
//!
//! Source: image-spec descriptor.md, "Digests".

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};

/// The registered digest algorithms that imgrelay can verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, the one every tool writes.
    Sha256,
    /// SHA-512, optional in the specification.
    Sha512,
}

impl Algorithm {
    /// Returns the name used in digests and in `blobs/<name>/`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }

    /// Starts computing a digest of this algorithm.
    #[must_use]
    pub fn hasher(self) -> Hasher {
        match self {
            Self::Sha256 => Hasher::Sha256(Sha256::new()),
            Self::Sha512 => Hasher::Sha512(Box::new(Sha512::new())),
        }
    }
}

/// A digest that was checked when it was parsed: known algorithm, lower-case hex of the right length.
///
/// It is therefore safe as a path component and in a URL.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    hex: Box<str>,
}

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no `algorithm:` in front.
    #[error("digest `{found}` has no `algorithm:` in front, expected `sha256:` and 64 hex characters")]
    NoAlgorithm {
        /// The text, cut to a sane length.
        found: String,
    },
    /// The algorithm is not one we can verify.
    #[error("digest `{found}` uses an algorithm that cannot be verified, expected `sha256` or `sha512`")]
    UnknownAlgorithm {
        /// The text, cut to a sane length.
        found: String,
    },
    /// The hexadecimal part has the wrong length.
    #[error("digest `{found}` has {len} hex characters, expected {expected}")]
    Length {
        /// The text, cut to a sane length.
        found: String,
        /// Characters after the colon.
        len: usize,
        /// Characters the algorithm has.
        expected: usize,
    },
    /// A character is not one of `0-9a-f`.
    #[error("digest `{found}` has a character that is not one of `0-9a-f`")]
    NotHex {
        /// The text, cut to a sane length.
        found: String,
    },
}

/// Cuts a text from outside so that an error message stays readable; control characters are escaped.
pub(super) fn excerpt(text: &str) -> String {
    const LIMIT: usize = 160;
    let mut out: String = text.chars().take(LIMIT).flat_map(char::escape_debug).collect();
    if text.chars().nth(LIMIT).is_some() {
        out.push('…');
    }
    out
}

impl Digest {
    /// Computes the SHA-256 digest of bytes in memory.
    #[must_use]
    pub fn sha256_of(bytes: &[u8]) -> Self {
        let mut hasher = Algorithm::Sha256.hasher();
        hasher.update(bytes);
        hasher.finish()
    }

    /// Returns the algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Returns the lower-case hexadecimal part.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// Returns the first 12 hex characters with the algorithm, for progress and summaries.
    #[must_use]
    pub fn short(&self) -> String {
        format!("{}:{}…", self.algorithm.name(), &self.hex[..12])
    }

    /// Computes the digest of `bytes` with this digest's algorithm and tells whether it is this one.
    #[must_use]
    pub fn matches(&self, bytes: &[u8]) -> bool {
        let mut hasher = self.algorithm.hasher();
        hasher.update(bytes);
        hasher.finish() == *self
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let found = || excerpt(text);
        let (name, hex) = text.split_once(':').ok_or_else(|| DigestError::NoAlgorithm { found: found() })?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(DigestError::UnknownAlgorithm { found: found() }),
        };
        if hex.len() != algorithm.hex_len() {
            let (len, expected) = (hex.chars().count(), algorithm.hex_len());
            return Err(DigestError::Length { found: found(), len, expected });
        }
        if !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(DigestError::NotHex { found: found() });
        }
        Ok(Self { algorithm, hex: hex.into() })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A digest being computed.
#[derive(Clone)]
pub enum Hasher {
    /// SHA-256 state.
    Sha256(Sha256),
    /// SHA-512 state.
    Sha512(Box<Sha512>),
}

impl Hasher {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(state) => state.update(bytes),
            Self::Sha512(state) => state.update(bytes),
        }
    }

    /// Ends the computation.
    #[must_use]
    pub fn finish(self) -> Digest {
        match self {
            Self::Sha256(state) => Digest { algorithm: Algorithm::Sha256, hex: to_hex(&state.finalize()) },
            Self::Sha512(state) => Digest { algorithm: Algorithm::Sha512, hex: to_hex(&state.finalize()) },
        }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

fn to_hex(bytes: &[u8]) -> Box<str> {
    use fmt::Write as _;
    let mut hex = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(hex, "{byte:02x}").expect("writing to a String cannot fail");
    }
    hex.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_of_empty_input_is_the_published_constant() {
        assert_eq!(
            Digest::sha256_of(b"").to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn digest_texts_are_accepted_or_refused_with_the_reason() {
        let hex = |n: usize| "a".repeat(n);
        let cases: [(String, Option<&str>); 11] = [
            (format!("sha256:{}", hex(64)), None),
            (format!("sha512:{}", hex(128)), None),
            (format!("sha256:{}", hex(63)), Some("has 63 hex characters, expected 64")),
            (format!("sha256:{}", hex(65)), Some("has 65 hex characters, expected 64")),
            (format!("sha512:{}", hex(64)), Some("has 64 hex characters, expected 128")),
            (format!("sha256:{}A", hex(63)), Some("a character that is not one of `0-9a-f`")),
            (format!("sha256:../{}", hex(61)), Some("a character that is not one of `0-9a-f`")),
            (format!("md5:{}", hex(32)), Some("expected `sha256` or `sha512`")),
            (hex(64), Some("has no `algorithm:` in front")),
            ("sha256:".into(), Some("has 0 hex characters, expected 64")),
            (String::new(), Some("has no `algorithm:` in front")),
        ];
        for (text, expected) in cases {
            match (text.parse::<Digest>(), expected) {
                (Ok(digest), None) => assert_eq!(digest.to_string(), text),
                (Err(error), Some(part)) => assert!(error.to_string().contains(part), "{error}"),
                (result, _) => panic!("{text}: {result:?}"),
            }
        }
    }

    #[test]
    fn a_digest_is_an_algorithm_and_its_hexadecimal_part() {
        let digest = Digest::sha256_of(b"");
        assert_eq!(digest.algorithm(), Algorithm::Sha256);
        assert_eq!(digest.hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(digest.short(), "sha256:e3b0c44298fc…");
    }
}

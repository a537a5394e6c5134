//! Values that must never be printed: passwords, tokens, keys.

use std::fmt;

/// A text that shows as `***` wherever it is formatted, and whose memory is overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret, without line breaks at its end.
    ///
    /// A file, a variable or `echo … | base64` adds them, and no registry has a password that ends with one.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        let mut text: String = text.into();
        while text.ends_with(['\n', '\r']) {
            text.pop();
        }
        Self(text)
    }

    /// Returns the secret itself, for the one place that sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Tells whether the secret is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Drop for Secret {
    /// Overwrites the text before its memory is given back.
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0).into_bytes();
        bytes.fill(0);
        // So that the writes are not optimised away because nothing reads them.
        std::hint::black_box(&bytes);
    }
}

/// Bytes that are never shown, and whose memory is overwritten when they are dropped: a key out of a file.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// Wraps bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Returns the bytes themselves.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Returns the bytes, to be changed in place.
    pub fn expose_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for SecretBytes {
    /// Overwrites the bytes before their memory is given back.
    fn drop(&mut self) {
        self.0.fill(0);
        // So that the writes are not optimised away because nothing reads them.
        std::hint::black_box(&self.0);
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_secret_is_overwritten_when_it_is_dropped() {
        use std::os::unix::fs::FileExt as _;
        const PIECE: &[u8] = b"0123456789abcdef";
        let secret = Secret::new(String::from_utf8(PIECE.repeat(64)).unwrap());
        let at = secret.expose().as_ptr().addr() as u64;
        let memory = std::fs::File::open("/proc/self/mem").unwrap();
        // Allocated before, so that it does not get the memory that becomes free.
        let (mut before, mut after) = (vec![0; 1024], vec![0; 1024]);
        memory.read_exact_at(&mut before, at).unwrap();
        drop(secret);
        memory.read_exact_at(&mut after, at).unwrap();
        assert_eq!(before, PIECE.repeat(64));
        assert!(!after.windows(PIECE.len()).any(|bytes| bytes == PIECE), "the secret is still in memory");
    }

    #[test]
    fn line_breaks_at_the_end_are_no_part_of_a_secret() {
        for text in ["hunter2", "hunter2\n", "hunter2\r\n\n"] {
            assert_eq!(Secret::new(text).expose(), "hunter2", "{text:?}");
            assert_eq!(Secret::from(text.to_owned()).expose(), "hunter2", "{text:?}");
        }
        assert_eq!(Secret::new("\nhunter 2 \n").expose(), "\nhunter 2 ");
        assert!(Secret::new("\n").is_empty());
    }

    #[test]
    fn a_secret_is_never_formatted() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "*** *** Some(***)");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn secret_bytes_are_read_and_changed_in_place() {
        let mut secret = SecretBytes::new(b"hunter2".to_vec());
        secret.expose_mut()[6] = b'3';
        assert_eq!(secret.expose(), b"hunter3");
    }
}

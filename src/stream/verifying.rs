//! Hashes bytes while they are read, and refuses those that do not match a descriptor.

use std::io::{self, BufRead, Read, Write};

use crate::model::{Algorithm, Digest, Hasher};

use super::cancel;

/// A writer that counts and hashes the bytes it passes on.
#[derive(Debug)]
pub struct HashingWriter<W> {
    inner: W,
    hasher: Hasher,
    written: u64,
}

impl<W: Write> HashingWriter<W> {
    /// Wraps a writer; the digest is SHA-256.
    pub fn new(inner: W) -> Self {
        Self { inner, hasher: Algorithm::Sha256.hasher(), written: 0 }
    }

    /// Ends the stream and returns the inner writer, the digest and the number of bytes.
    #[must_use]
    pub fn finish(self) -> (W, Digest, u64) {
        (self.inner, self.hasher.finish(), self.written)
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// How a blob differs from its descriptor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The stream ended early.
    #[error("blob `{expected}` ends after {found_size} bytes, expected {expected_size}")]
    Short {
        /// Digest promised.
        expected: Digest,
        /// Bytes promised.
        expected_size: u64,
        /// Bytes read.
        found_size: u64,
    },
    /// The stream has more bytes than promised.
    #[error("blob `{expected}` has more than the expected {expected_size} bytes")]
    Long {
        /// Digest promised.
        expected: Digest,
        /// Bytes promised.
        expected_size: u64,
    },
    /// Right size, wrong bytes.
    #[error("blob `{expected}` does not match: its {size} bytes have digest `{found}`")]
    Content {
        /// Digest promised.
        expected: Digest,
        /// Digest of what was read.
        found: Digest,
        /// Bytes read.
        size: u64,
    },
}

impl Mismatch {
    /// Finds the mismatch inside an I/O error that a [`VerifyingReader`] returned.
    #[must_use]
    pub fn in_error(error: &io::Error) -> Option<&Self> {
        error.get_ref().and_then(|inner| inner.downcast_ref())
    }
}

/// Copies an I/O error, for a reader that returns the same error from every later read.
pub(super) fn again(error: &io::Error) -> io::Error {
    match (Mismatch::in_error(error), error.raw_os_error()) {
        (Some(mismatch), _) => io::Error::new(error.kind(), mismatch.clone()),
        (None, Some(code)) => io::Error::from_raw_os_error(code),
        (None, None) => io::Error::new(error.kind(), error.to_string()),
    }
}

/// A reader that passes bytes through and fails when size or digest is not as promised.
///
/// Errors: an [`io::Error`] of kind `InvalidData` that carries a [`Mismatch`], from every read after the first that
/// failed too. The last of the promised bytes is handed out only when the digest is right, so a caller that counts
/// bytes (an HTTP body of known length) never gets a wrong blob whole. Whether more bytes follow is known only at
/// the end (`Ok(0)`).
pub struct VerifyingReader<R> {
    inner: R,
    /// None when the digest has been compared.
    hasher: Option<Hasher>,
    /// What was wrong; every later read fails with it.
    mismatch: Option<Mismatch>,
    expected: Digest,
    expected_size: u64,
    read: u64,
    /// Bytes of the inner buffer that were hashed and not consumed yet; only [`BufRead`] leaves some.
    ahead: usize,
}

/// A blob from anywhere, verified as it is read.
pub type BlobStream<'a> = VerifyingReader<Box<dyn Read + Send + 'a>>;

impl<R> std::fmt::Debug for VerifyingReader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifyingReader").field("expected", &self.expected).field("read", &self.read).finish()
    }
}

impl<R: Read> VerifyingReader<R> {
    /// Wraps a reader that is to give exactly `size` bytes with `digest`.
    pub fn new(inner: R, digest: Digest, size: u64) -> Self {
        let hasher = Some(digest.algorithm().hasher());
        Self { inner, hasher, mismatch: None, expected: digest, expected_size: size, read: 0, ahead: 0 }
    }

    /// Replaces the inner reader by one made from it, before anything was read.
    ///
    /// Errors: those of `change`.
    pub fn over<S: Read>(self, change: impl FnOnce(R) -> io::Result<S>) -> io::Result<VerifyingReader<S>> {
        Ok(VerifyingReader::new(change(self.inner)?, self.expected, self.expected_size))
    }

    /// Hides the type of the inner reader, before anything was read.
    pub fn boxed<'a>(self) -> BlobStream<'a>
    where
        R: Send + 'a,
    {
        VerifyingReader::new(Box::new(self.inner), self.expected, self.expected_size)
    }

    fn fail(&mut self, mismatch: Mismatch) -> io::Error {
        self.mismatch = Some(mismatch.clone());
        io::Error::new(io::ErrorKind::InvalidData, mismatch)
    }

    /// Fails if the work was cancelled, or with the mismatch that an earlier read found.
    fn check(&self) -> io::Result<()> {
        cancel::check()?;
        match &self.mismatch {
            Some(mismatch) => Err(io::Error::new(io::ErrorKind::InvalidData, mismatch.clone())),
            None => Ok(()),
        }
    }

    fn too_long(&mut self) -> io::Error {
        let (expected, expected_size) = (self.expected.clone(), self.expected_size);
        self.fail(Mismatch::Long { expected, expected_size })
    }

    /// Hashes bytes that were read; bytes beyond the expected size are not hashed.
    fn hash(read: u64, promised: u64, hasher: &mut Option<Hasher>, bytes: &[u8]) {
        if read + bytes.len() as u64 <= promised
            && let Some(hasher) = hasher
        {
            hasher.update(bytes);
        }
    }

    /// Counts bytes that were read (0 at the end) and compares after the last; `goes_on` tells whether more follow.
    fn count(&mut self, n: usize, goes_on: impl FnOnce(&mut R) -> io::Result<bool>) -> io::Result<()> {
        self.read += n as u64;
        if self.read > self.expected_size {
            return Err(self.too_long());
        }
        if self.read == self.expected_size {
            return self.compare(goes_on);
        }
        if n > 0 {
            return Ok(());
        }
        let (expected, expected_size, found_size) = (self.expected.clone(), self.expected_size, self.read);
        Err(self.fail(Mismatch::Short { expected, expected_size, found_size }))
    }

    /// Compares the digest once, after the last of the expected bytes.
    fn compare(&mut self, goes_on: impl FnOnce(&mut R) -> io::Result<bool>) -> io::Result<()> {
        let Some(found) = self.hasher.take().map(Hasher::finish) else { return Ok(()) };
        if found == self.expected {
            return Ok(());
        }
        // If more bytes follow, the error is about the length.
        if goes_on(&mut self.inner).unwrap_or(false) {
            return Err(self.too_long());
        }
        let (expected, size) = (self.expected.clone(), self.read);
        Err(self.fail(Mismatch::Content { expected, found, size }))
    }
}

impl<R: Read> Read for VerifyingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        self.check()?;
        if self.ahead > 0 {
            let most = self.ahead.min(buffer.len());
            let n = self.inner.read(&mut buffer[..most])?;
            self.ahead -= n;
            return Ok(n);
        }
        let n = self.inner.read(buffer)?;
        Self::hash(self.read, self.expected_size, &mut self.hasher, &buffer[..n]);
        self.count(n, |inner| Ok(inner.read(&mut [0])? > 0))?;
        Ok(n)
    }
}

impl<R: BufRead> BufRead for VerifyingReader<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.check()?;
        if self.ahead == 0 {
            let bytes = self.inner.fill_buf()?;
            let n = bytes.len();
            Self::hash(self.read, self.expected_size, &mut self.hasher, bytes);
            self.count(n, |inner| {
                inner.consume(n);
                Ok(!inner.fill_buf()?.is_empty())
            })?;
            self.ahead = n;
        }
        self.inner.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        self.ahead = self.ahead.saturating_sub(n);
        self.inner.consume(n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], promised: &[u8]) -> Result<Vec<u8>, Mismatch> {
        let mut reader = VerifyingReader::new(bytes, Digest::sha256_of(promised), promised.len() as u64);
        let mut out = Vec::new();
        match reader.read_to_end(&mut out) {
            Ok(_) => Ok(out),
            Err(error) => Err(Mismatch::in_error(&error).cloned().expect("only mismatches here")),
        }
    }

    #[test]
    fn only_the_promised_bytes_pass() {
        assert_eq!(read(b"hello", b"hello").as_deref(), Ok(&b"hello"[..]));
        assert_eq!(read(b"", b"").as_deref(), Ok(&b""[..]));
        assert!(matches!(
            read(b"hell", b"hello"),
            Err(Mismatch::Short { found_size: 4, expected_size: 5, .. })
        ));
        assert!(matches!(read(b"hello!", b"hello"), Err(Mismatch::Long { expected_size: 5, .. })));
        assert!(matches!(read(b"jello!", b"hello"), Err(Mismatch::Long { expected_size: 5, .. })));
        assert!(matches!(read(b"jello", b"hello"), Err(Mismatch::Content { size: 5, .. })));
        assert!(matches!(read(b"x", b""), Err(Mismatch::Long { expected_size: 0, .. })));
    }

    #[test]
    fn a_reader_that_stops_at_the_promised_length_has_the_promised_bytes() {
        for (bytes, sound) in [(b"hello", true), (b"jello", false)] {
            let mut reader = VerifyingReader::new(&bytes[..], Digest::sha256_of(b"hello"), 5);
            let mut buffer = [0; 5];
            assert_eq!(reader.read_exact(&mut buffer).is_ok(), sound);
            assert_eq!(
                reader.read(&mut buffer).ok(),
                sound.then_some(0),
                "an end only after the right bytes"
            );
        }
    }

    /// Reads by blocks of four bytes, as a pipe gives them; now and then with [`Read`].
    fn read_blocks(bytes: &[u8], promised: &[u8], mixed: bool) -> (Vec<u8>, Option<Mismatch>) {
        let inner = io::BufReader::with_capacity(4, bytes);
        let mut reader = VerifyingReader::new(inner, Digest::sha256_of(promised), promised.len() as u64);
        let mut out = Vec::new();
        loop {
            if mixed && out.len() % 3 == 1 {
                let mut two = [0; 2];
                match reader.read(&mut two) {
                    Ok(0) => return (out, None),
                    Ok(n) => out.extend_from_slice(&two[..n]),
                    Err(error) => return (out, Mismatch::in_error(&error).cloned()),
                }
                continue;
            }
            let n = match reader.fill_buf() {
                Ok([]) => return (out, None),
                Ok(block) => {
                    out.push(block[0]);
                    1
                }
                Err(error) => {
                    let mismatch = Mismatch::in_error(&error).cloned();
                    for _ in 0..2 {
                        let again = reader.fill_buf().expect_err("a reader that failed stays failed");
                        assert_eq!(Mismatch::in_error(&again), mismatch.as_ref());
                        let again = reader.read(&mut [0; 2]).expect_err("a reader that failed stays failed");
                        assert_eq!(Mismatch::in_error(&again), mismatch.as_ref());
                    }
                    return (out, mismatch);
                }
            };
            reader.consume(n);
        }
    }

    #[test]
    fn blocks_pass_as_bytes_do_and_the_last_one_only_if_all_are_right() {
        for mixed in [false, true] {
            assert_eq!(
                read_blocks(b"hello, world", b"hello, world", mixed),
                (b"hello, world".to_vec(), None)
            );
            assert_eq!(read_blocks(b"", b"", mixed), (Vec::new(), None));
            let (out, mismatch) = read_blocks(b"jello, world", b"hello, world", mixed);
            assert!(matches!(mismatch, Some(Mismatch::Content { size: 12, .. })), "{mismatch:?}");
            assert_eq!(out, b"jello, w", "the last block is kept back");
            let (_, mismatch) = read_blocks(b"hello, worl", b"hello, world", mixed);
            assert!(matches!(mismatch, Some(Mismatch::Short { found_size: 11, .. })), "{mismatch:?}");
            let (_, mismatch) = read_blocks(b"hello, world!", b"hello, world", mixed);
            assert!(matches!(mismatch, Some(Mismatch::Long { expected_size: 12, .. })), "{mismatch:?}");
            let (out, mismatch) = read_blocks(b"jello, world and more", b"hello, world", mixed);
            assert!(matches!(mismatch, Some(Mismatch::Long { .. })), "{mismatch:?}");
            assert_eq!(out, b"jello, w");
        }
    }

    #[test]
    fn a_copied_error_has_the_kind_the_code_and_the_mismatch() {
        let full = again(&io::Error::from_raw_os_error(28));
        assert_eq!((full.raw_os_error(), full.kind()), (Some(28), io::ErrorKind::StorageFull));
        let other = again(&io::Error::new(io::ErrorKind::TimedOut, "too slow"));
        assert_eq!((other.kind(), other.to_string().as_str()), (io::ErrorKind::TimedOut, "too slow"));
        let mismatch = Mismatch::Long { expected: Digest::sha256_of(b""), expected_size: 0 };
        let error = again(&io::Error::new(io::ErrorKind::InvalidData, mismatch.clone()));
        assert_eq!(Mismatch::in_error(&error), Some(&mismatch));
        assert_eq!(Mismatch::in_error(&other), None);
    }

    /// Takes at most three bytes at a time, and is emptied by `flush`.
    #[derive(Default)]
    struct Few(Vec<u8>, bool);

    impl Write for Few {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(3);
            self.0.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            self.1 = true;
            Ok(())
        }
    }

    #[test]
    fn only_what_the_inner_writer_took_is_hashed() {
        let mut writer = HashingWriter::new(Few::default());
        assert_eq!(writer.write(b"hello").unwrap(), 3);
        writer.write_all(b"lo").unwrap();
        writer.flush().unwrap();
        let (inner, digest, written) = writer.finish();
        assert_eq!((inner.0.as_slice(), inner.1), (&b"hello"[..], true));
        assert_eq!((digest, written), (Digest::sha256_of(b"hello"), 5));
    }

    #[test]
    fn a_reader_shows_what_it_expects_and_reads_nothing_into_nothing() {
        let mut reader = VerifyingReader::new(&b"hello"[..], Digest::sha256_of(b"hello"), 5);
        assert_eq!(reader.read(&mut []).unwrap(), 0);
        assert_eq!(reader.read(&mut [0; 2]).unwrap(), 2);
        let shown = format!("{reader:?}");
        assert!(
            shown.starts_with("VerifyingReader { expected: ") && shown.ends_with(", read: 2 }"),
            "{shown}"
        );
    }
}

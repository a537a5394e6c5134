//! The bytes of a blob that is to be uploaded.

use std::io::{self, Read};
use std::sync::OnceLock;

/// Something that can be sent, and sent again from the start.
pub trait BlobBody: Sync {
    /// Opens it at its first byte; called for each attempt.
    fn open(&self) -> io::Result<Box<dyn Read + Send + '_>>;

    /// Opens it at a later byte; what can seek should do so.
    fn open_at(&self, offset: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        let mut reader = self.open()?;
        let skipped = io::copy(&mut reader.by_ref().take(offset), &mut io::sink())?;
        if skipped < offset { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(reader) }
    }
}

/// A small body that is read once and then kept.
pub(super) struct KeptBody<'a> {
    pub(super) body: &'a dyn BlobBody,
    pub(super) bytes: OnceLock<Vec<u8>>,
}

impl BlobBody for KeptBody<'_> {
    fn open(&self) -> io::Result<Box<dyn Read + Send + '_>> {
        if self.bytes.get().is_none() {
            let mut bytes = Vec::new();
            self.body.open()?.read_to_end(&mut bytes)?;
            // Uploads are opened by one thread; another one's bytes would be the same.
            let _ = self.bytes.set(bytes);
        }
        Ok(Box::new(self.bytes.get().map_or(&[][..], Vec::as_slice)))
    }
}

impl BlobBody for [u8] {
    fn open(&self) -> io::Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(self))
    }
}

impl BlobBody for Vec<u8> {
    fn open(&self) -> io::Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(self.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_body_is_read_once() {
        struct Once(std::sync::Mutex<usize>);
        impl BlobBody for Once {
            fn open(&self) -> io::Result<Box<dyn Read + Send + '_>> {
                *self.0.lock().unwrap() += 1;
                Ok(Box::new(&b"bytes"[..]))
            }
        }
        let once = Once(std::sync::Mutex::new(0));
        let kept = KeptBody { body: &once, bytes: OnceLock::new() };
        for _ in 0..3 {
            let mut text = String::new();
            kept.open().unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "bytes");
        }
        assert_eq!(*once.0.lock().unwrap(), 1);
    }

    #[test]
    fn a_body_is_opened_at_an_offset() {
        let body: &[u8] = b"0123456789";
        let mut text = String::new();
        body.open_at(7).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "789");
        assert!(body.open_at(11).is_err());
    }
}

//! The bytes of a blob that is to be uploaded.

use std::io::{self, Read};

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
    fn a_body_is_opened_at_an_offset() {
        let body: &[u8] = b"0123456789";
        let mut text = String::new();
        body.open_at(7).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "789");
        assert!(body.open_at(11).is_err());
    }
}

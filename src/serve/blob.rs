//! Sends the bytes of a blob and hashes them; the last bytes of a damaged blob are never sent.
//!
//! A range of a blob has no digest of its own, so the whole blob is read before the first range of it is sent.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::thread;

use crate::model::Digest;
use crate::stream::{Blocks, VerifyingReader, read_ahead};

/// Bytes read and written at a time.
const BUFFER: usize = 512 * 1024;

/// From this size a blob is hashed on a thread of its own; hashing a smaller one takes less time than starting a thread.
const HASHED_ASIDE: u64 = 1024 * 1024;

/// Writes a whole blob and compares its digest before its last bytes are written.
///
/// A large blob is read and hashed by another thread, at most 1 MiB ahead of the writer.
/// Errors: those of [`VerifyingReader`], and of the writer.
pub(super) fn send_verified(
    reader: impl Read + Send,
    size: u64,
    digest: &Digest,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut verified = VerifyingReader::new(reader, digest.clone(), size);
    if size >= HASHED_ASIDE {
        let sent = thread::scope(|scope| {
            let ahead = read_ahead(scope, &mut verified, Blocks::Large).ok()?;
            Some(send_blocks(ahead, size, out))
        });
        // Without a result the system refused the thread, and nothing was read yet.
        if let Some(sent) = sent {
            return sent;
        }
    }
    send(verified, size, out)
}

/// Copies all bytes of a reader.
///
/// Errors: [`io::ErrorKind::UnexpectedEof`] if it has fewer bytes than `count`, which the client was told.
pub(super) fn send(reader: impl Read, count: u64, out: &mut impl Write) -> io::Result<()> {
    send_blocks(BufReader::with_capacity(BUFFER, reader), count, out)
}

fn send_blocks(mut reader: impl BufRead, count: u64, out: &mut impl Write) -> io::Result<()> {
    let mut left = count;
    loop {
        let block = reader.fill_buf()?;
        match block.len() {
            0 if left > 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            0 => return Ok(()),
            found => {
                left = left.saturating_sub(found as u64);
                out.write_all(block)?;
                reader.consume(found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Mismatch;

    /// More than a pipe holds, so that the writer has to wait for the sender.
    fn large() -> Vec<u8> {
        (0..3_000_000_u32).map(|number| (number % 251) as u8).collect()
    }

    #[test]
    fn a_right_blob_is_sent_whole_at_any_size() {
        for blob in [Vec::new(), b"small".to_vec(), large()] {
            let mut sent = Vec::new();
            send_verified(&blob[..], blob.len() as u64, &Digest::sha256_of(&blob), &mut sent).unwrap();
            assert!(sent == blob, "{} of {} bytes were sent", sent.len(), blob.len());
        }
    }

    #[test]
    fn the_last_bytes_of_a_damaged_blob_are_not_sent() {
        for blob in [b"small".to_vec(), large()] {
            let mut damaged = blob.clone();
            *damaged.last_mut().unwrap() ^= 1;
            let mut sent = Vec::new();
            let size = blob.len() as u64;
            let error = send_verified(&damaged[..], size, &Digest::sha256_of(&blob), &mut sent).unwrap_err();
            assert!(matches!(Mismatch::in_error(&error), Some(Mismatch::Content { .. })), "{error}");
            assert!(sent.len() < blob.len(), "all {} bytes were sent", sent.len());
        }
    }

    #[test]
    fn a_blob_that_ends_early_is_an_error() {
        let blob = large();
        let half = &blob[..blob.len() / 2];
        let size = blob.len() as u64;
        let error = send_verified(half, size, &Digest::sha256_of(&blob), &mut io::sink()).unwrap_err();
        assert!(matches!(Mismatch::in_error(&error), Some(Mismatch::Short { .. })), "{error}");
        assert_eq!(send(half, size, &mut io::sink()).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_client_that_goes_away_ends_the_reading() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let endless = io::repeat(7).take(u64::from(u32::MAX));
        let error =
            send_verified(endless, u64::from(u32::MAX), &Digest::sha256_of(b""), &mut Gone).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}

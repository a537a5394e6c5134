//! Sends the bytes of a blob and hashes them; the last bytes of a damaged blob are never sent.
//!
//! A range of a blob has no digest of its own, so the whole blob is read before the first range of it is sent.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::thread;

use crate::model::Digest;
use crate::stream::{Blocks, PipeWriter, VerifyingReader, cancel, pipe, threads};

/// Bytes read and written at a time.
const BUFFER: usize = 512 * 1024;

/// From this size, bytes, a blob is hashed on a thread of its own, with a pipe of 1 MiB; many smaller ones at the same time
/// keep all cores busy anyway.
const HASHED_ASIDE: u64 = 8 * 1024 * 1024;

/// Writes a whole blob and compares its digest before its last bytes are written.
///
/// A large blob is hashed by another thread, at most 1 MiB behind the writer: hashing takes twice the time of reading and
/// writing, and on one thread both would add up.
/// Errors: those of [`VerifyingReader`], and of the writer.
pub(super) fn send_verified(
    mut reader: impl Read,
    size: u64,
    digest: &Digest,
    out: &mut impl Write,
) -> io::Result<()> {
    if size >= HASHED_ASIDE {
        // Without a result the system refused the thread, and nothing was read yet.
        if let Some(sent) = send_hashed_aside(&mut reader, size, digest, out) {
            return sent;
        }
    }
    send(VerifyingReader::new(reader, digest.clone(), size), size, out)
}

fn send_hashed_aside(
    reader: &mut impl Read,
    size: u64,
    digest: &Digest,
    out: &mut impl Write,
) -> Option<io::Result<()>> {
    thread::scope(|scope| {
        let (mut to_hash, sent) = pipe(Blocks::Large);
        let verified = VerifyingReader::new(sent, digest.clone(), size);
        let hashing = threads::spawn(scope, move || send_blocks(verified, size, &mut io::sink())).ok()?;
        let last = send_all_but_last(reader, size, out, &mut to_hash);
        to_hash.finish(Ok(()));
        let verified = threads::join(hashing);
        // If the client is gone, the bytes that were hashed are not the whole blob, and say nothing about it.
        Some(last.and_then(|last| verified.and_then(|()| out.write_all(&last))))
    })
}

/// Sends the blocks of a reader and has them hashed, but returns the last of `size` bytes, which are not sent.
fn send_all_but_last(
    reader: &mut impl Read,
    size: u64,
    out: &mut impl Write,
    to_hash: &mut PipeWriter,
) -> io::Result<Vec<u8>> {
    let (mut read, mut last) = (0, Vec::new());
    to_hash.fill_from(reader, |block| {
        cancel::check()?;
        read += block.len() as u64;
        // Of a longer blob the hashing thread gets the rest too, and refuses it.
        match read < size {
            true => out.write_all(block)?,
            false if last.is_empty() => last = block.to_vec(),
            false => {}
        }
        Ok(())
    })?;
    Ok(last)
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
        cancel::check()?;
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
        (0..9_000_000_u32).map(|number| (number % 251) as u8).collect()
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
    fn a_blob_that_is_too_long_is_not_sent_whole() {
        let blob = large();
        let size = blob.len() as u64 - 1;
        let mut sent = Vec::new();
        let digest = Digest::sha256_of(&blob[..blob.len() - 1]);
        let error = send_verified(&blob[..], size, &digest, &mut sent).unwrap_err();
        assert!(matches!(Mismatch::in_error(&error), Some(Mismatch::Long { .. })), "{error}");
        assert!((sent.len() as u64) < size, "all {} bytes were sent", sent.len());
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

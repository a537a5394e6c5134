//! Sends the bytes of a blob and hashes them; the last bytes of a damaged blob are never sent.
//!
//! A range of a blob has no digest of its own, so the whole blob is read before the first range of it is sent.

use std::io::{self, Read, Write};

use crate::model::Digest;
use crate::stream::VerifyingReader;

/// Bytes read and written at a time.
const BUFFER: usize = 512 * 1024;

/// Writes a whole blob and compares its digest before its last bytes are written.
///
/// Errors: those of [`VerifyingReader`], and of the writer.
pub(super) fn send_verified(
    reader: impl Read,
    size: u64,
    digest: &Digest,
    out: &mut impl Write,
) -> io::Result<()> {
    send(&mut VerifyingReader::new(reader, digest.clone(), size), size, out)
}

/// Copies all bytes of a reader.
///
/// Errors: [`io::ErrorKind::UnexpectedEof`] if it has fewer bytes than `count`, which the client was told.
pub(super) fn send(reader: &mut impl Read, count: u64, out: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut left = count;
    loop {
        match reader.read(&mut buffer)? {
            0 if left > 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            0 => return Ok(()),
            found => {
                left = left.saturating_sub(found as u64);
                out.write_all(&buffer[..found])?;
            }
        }
    }
}

//! Sends the bytes of a blob and hashes them; the last bytes of a damaged blob are never sent.
//!
//! A range of a blob has no digest of its own, so the whole blob is read before the first range of it is sent.

use std::io::{self, Read, Write};

use crate::model::Digest;
use crate::stream::VerifyingReader;

use super::held::Held;

/// Bytes read and written at a time.
const BUFFER: usize = 512 * 1024;

/// Writes a whole blob and compares its digest before its last bytes are written.
///
/// Errors: those of [`VerifyingReader`], and of the writer.
pub(super) fn send_verified(held: &Held<'_>, digest: &Digest, out: &mut impl Write) -> io::Result<()> {
    let size = held.size();
    send(&mut VerifyingReader::new(held.reader(0, size), digest.clone(), size), out)
}

/// Copies all bytes of a reader.
pub(super) fn send(reader: &mut impl Read, out: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(()),
            count => out.write_all(&buffer[..count])?,
        }
    }
}

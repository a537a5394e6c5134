//! Sending the bytes of a blob, hashed on their way: the last of a damaged one is never sent.
//!
//! A part of a blob cannot be hashed alone, so the whole blob is read before the first part of it is sent.

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

/// Writes everything that a reader has.
pub(super) fn send(reader: &mut impl Read, out: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(()),
            count => out.write_all(&buffer[..count])?,
        }
    }
}

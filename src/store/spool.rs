//! Unpacking a compressed archive, or a pipe, into a temporary file without a name: blobs are read in any order.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::Path;

use crate::stream::{Compression, Decoder, FileError, cancel, nameless_file};
use crate::tar::is_tar_start;

use super::StoreError;
use super::kind::{looks_like, not_an_archive};

/// Unpacks `source` into a nameless file in `temporary` and tells what it was compressed with.
///
/// Errors: what is not a tar inside is refused after its first block; what has more than `limit` bytes too.
pub(super) fn spool(
    source: Box<dyn Read + Send + '_>,
    path: &Path,
    temporary: &Path,
    limit: u64,
) -> Result<(File, Compression), StoreError> {
    let undecodable =
        |error: io::Error| StoreError::damaged(path, format!("it cannot be decompressed: {error}"));
    let mut decoder = Decoder::new(source).map_err(|error| FileError::io("read", path, error))?;
    let compression = decoder.compression();
    let failed = |error: io::Error| match compression {
        Compression::None => FileError::io("read", path, error).into(),
        _ if cancel::is_cancelled() => FileError::io("read", path, error).into(),
        _ => undecodable(error),
    };
    let mut start = Vec::with_capacity(512);
    decoder.by_ref().take(512).read_to_end(&mut start).map_err(failed)?;
    if !is_tar_start(&start) {
        let inner = looks_like(&start);
        return Err(not_an_archive(
            path,
            &match compression {
                Compression::None => inner.to_owned(),
                Compression::Gzip => format!("gzip-compressed, and inside is {inner}"),
                Compression::Zstd => format!("zstd-compressed, and inside is {inner}"),
            },
        ));
    }
    let mut file = nameless_file(temporary)?;
    let unwritable = |error| FileError::io("unpack the archive into a temporary file in", temporary, error);
    file.write_all(&start).map_err(unwritable)?;
    let mut written = start.len() as u64;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        cancel::check().map_err(failed)?;
        let count = match decoder.read(&mut buffer) {
            Ok(0) => return Ok((file, compression)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        written += count as u64;
        if written > limit {
            let (path, what) = (path.to_owned(), "the unpacked archive".to_owned());
            return Err(StoreError::TooLarge { path, what, limit });
        }
        file.write_all(&buffer[..count]).map_err(unwritable)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_that_unpacks_to_more_than_the_limit_is_refused_while_it_is_unpacked() {
        // An empty archive, and zeros after its end.
        let bomb = zstd::encode_all(&vec![0; 8 << 20][..], 1).unwrap();
        let spool = |limit| {
            let source = Box::new(io::Cursor::new(bomb.clone()));
            spool(source, Path::new("in.tar"), &std::env::temp_dir(), limit)
        };
        let (file, compression) = spool(8 << 20).unwrap();
        assert_eq!((file.metadata().unwrap().len(), compression), (8 << 20, Compression::Zstd));
        let error = spool((8 << 20) - 1).unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { limit: 8_388_607, .. }), "{error}");
        assert!(error.to_string().contains("has more than 8388607 bytes"), "{error}");
    }

    #[test]
    fn a_plain_tar_that_cannot_be_read_is_not_said_to_be_damaged() {
        struct Broken(bool);
        impl Read for Broken {
            fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
                if std::mem::replace(&mut self.0, true) {
                    return Err(io::Error::other("the disk is gone"));
                }
                let count = space.len().min(100);
                space[..count].fill(b'a');
                Ok(count)
            }
        }
        let source = Box::new(Broken(false));
        let error =
            spool(source, Path::new("in.tar"), &std::env::temp_dir(), 1 << 20).unwrap_err().to_string();
        assert!(error.contains("cannot read `in.tar`: the disk is gone"), "{error}");
    }
}

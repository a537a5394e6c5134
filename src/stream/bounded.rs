//! Reading into memory with a limit in bytes.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::FileError;

/// More bytes than allowed, or an I/O error before that.
#[derive(Debug, thiserror::Error)]
pub enum TooLarge {
    /// The source has more than `limit` bytes.
    #[error("more than {limit} bytes")]
    Limit {
        /// Most bytes allowed.
        limit: u64,
    },
    /// Reading failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads everything from `source`, at most `limit` bytes.
///
/// Errors: [`TooLarge::Limit`] as soon as one byte more than `limit` was seen.
pub fn read_bounded(source: impl Read, limit: u64) -> Result<Vec<u8>, TooLarge> {
    let mut bytes = Vec::new();
    source.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(TooLarge::Limit { limit });
    }
    Ok(bytes)
}

/// Reads a whole file, at most `limit` bytes.
///
/// Errors: [`FileError::TooLarge`]; [`FileError::Io`], with kind `NotFound` for a missing file. Pipes are read too; a
/// caller that must not wait for a pipe checks the path first.
pub fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let failed = |error| FileError::io("read", path, error);
    read_bounded(File::open(path).map_err(failed)?, limit).map_err(|error| match error {
        TooLarge::Limit { limit } => FileError::TooLarge { path: path.to_owned(), limit },
        TooLarge::Io(error) => failed(error),
    })
}

/// Reads a whole text file, at most `limit` bytes.
///
/// Errors: [`FileError::NotText`] when it is not UTF-8; those of [`read_file`].
pub fn read_text_file(path: &Path, limit: u64) -> Result<String, FileError> {
    String::from_utf8(read_file(path, limit)?).map_err(|_| FileError::NotText { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_within_its_limit_and_as_text_only_if_it_is_text() {
        let path = std::env::temp_dir().join(format!("imgrelay-bounded-{}", std::process::id()));
        let missing = read_file(&path, 4).unwrap_err();
        assert_eq!(missing.io_error().map(io::Error::kind), Some(io::ErrorKind::NotFound));
        std::fs::write(&path, "aé\n").unwrap();
        assert_eq!(read_file(&path, 4).unwrap(), "aé\n".as_bytes());
        assert_eq!(read_text_file(&path, 4).unwrap(), "aé\n");
        let shown = path.display();
        let large = read_text_file(&path, 3).unwrap_err().to_string();
        assert_eq!(large, format!("`{shown}` has more than 3 bytes"));
        std::fs::write(&path, b"a\xc3").unwrap();
        assert_eq!(read_file(&path, 4).unwrap(), b"a\xc3");
        assert_eq!(read_text_file(&path, 4).unwrap_err().to_string(), format!("`{shown}` is not UTF-8 text"));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn exactly_the_limit_is_read_and_one_more_is_refused() {
        assert_eq!(read_bounded(&b"abcd"[..], 4).unwrap(), b"abcd");
        assert!(matches!(read_bounded(&b"abcde"[..], 4), Err(TooLarge::Limit { limit: 4 })));
    }
}

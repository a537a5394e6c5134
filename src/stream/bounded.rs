//! Reading at most so many bytes into memory.

use std::io::{self, Read};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_limit_is_read_and_one_more_is_refused() {
        assert_eq!(read_bounded(&b"abcd"[..], 4).unwrap(), b"abcd");
        assert!(matches!(read_bounded(&b"abcde"[..], 4), Err(TooLarge::Limit { limit: 4 })));
    }
}

//! SHA-256 digests as text, as in documents.

use sha2::Digest as _;
use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;

/// Returns `sha256:<hex>` of the bytes.
pub fn of(bytes: &[u8]) -> String {
    print(&sha2::Sha256::digest(bytes))
}

/// Returns `sha256:<hex>` and the length of a file, reading it in pieces.
pub fn of_file(path: &Path) -> (String, u64) {
    let mut file =
        std::fs::File::open(path).unwrap_or_else(|e| panic!("cannot open `{}`: {e}", path.display()));
    let (mut hasher, mut buffer, mut total) = (sha2::Sha256::new(), vec![0; 1 << 16], 0);
    loop {
        let read = file.read(&mut buffer).unwrap_or_else(|e| panic!("cannot read `{}`: {e}", path.display()));
        if read == 0 {
            return (print(&hasher.finalize()), total);
        }
        hasher.update(&buffer[..read]);
        total += read as u64;
    }
}

/// Returns the 64 hexadecimal characters of `sha256:<hex>`, or an error text.
pub fn hex(digest: &str) -> Result<&str, String> {
    let hex = digest.strip_prefix("sha256:").ok_or_else(|| format!("`{digest}` is not a sha256 digest"))?;
    let lower = hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if hex.len() == 64 && lower { Ok(hex) } else { Err(format!("`{digest}` is not a sha256 digest")) }
}

fn print(hash: &[u8]) -> String {
    hash.iter().fold("sha256:".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

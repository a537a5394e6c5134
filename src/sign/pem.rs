//! PEM blocks of key files: their labels, and their bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::model::pem::{self, PemFault};
use crate::model::{SecretBytes, limits};

use super::key_error::KeyProblem;

/// One block of a PEM text.
pub(super) struct Block<'a> {
    /// The label: `PUBLIC KEY`.
    pub(super) label: &'a str,
    /// The base64 text, which may be that of a private key.
    body: SecretBytes,
}

impl Block<'_> {
    /// Decodes the block.
    pub(super) fn bytes(&self) -> Result<SecretBytes, KeyProblem> {
        STANDARD.decode(self.body.expose()).map(SecretBytes::new).map_err(|_| KeyProblem::Base64)
    }
}

/// Splits a text into its blocks, at least one.
///
/// `expected` is the label for the error about a text without a block.
/// Errors: a text without a block, with what it is instead.
pub(super) fn blocks<'a>(text: &'a [u8], expected: &'static str) -> Result<Vec<Block<'a>>, KeyProblem> {
    if text.len() as u64 > limits::KEY_FILE_BYTES {
        return Err(KeyProblem::TooLarge);
    }
    let found = pem::read(text);
    match found.fault {
        None => {}
        Some(PemFault::Empty) => return Err(KeyProblem::Empty),
        Some(PemFault::Der) => return Err(KeyProblem::BinaryForm),
        Some(PemFault::NoBlock) => return Err(KeyProblem::NotPem { expected }),
        Some(fault) => return Err(KeyProblem::Lines(fault)),
    }
    if found.blocks.len() > limits::KEYS {
        return Err(KeyProblem::TooMany);
    }
    let block = |block: pem::PemBlock<'a>| {
        // As large as the whole block, so that growing does not leave a copy in freed memory.
        let mut body = Vec::with_capacity(block.text.len());
        block.lines().for_each(|line| body.extend_from_slice(line));
        Block { label: block.label, body: SecretBytes::new(body) }
    };
    Ok(found.blocks.into_iter().map(block).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &str = "-----BEGIN A-----\nAQID\nBAU=\n-----END A-----\n";

    fn problem(text: &[u8]) -> KeyProblem {
        blocks(text, "A").err().expect("a text without a usable block")
    }

    #[test]
    fn a_block_has_its_label_and_the_bytes_of_all_its_lines() {
        let text = format!("{BLOCK}{}", BLOCK.replace(" A-", " B C-"));
        let blocks = blocks(text.as_bytes(), "A").unwrap();
        assert_eq!(blocks.iter().map(|block| block.label).collect::<Vec<_>>(), ["A", "B C"]);
        for block in blocks {
            assert_eq!(block.bytes().unwrap().expose(), [1, 2, 3, 4, 5]);
        }
    }

    #[test]
    fn a_key_file_has_up_to_262144_bytes_and_100_blocks() {
        let padded = |size: usize| format!("{BLOCK}{}", "\n".repeat(size - BLOCK.len()));
        assert_eq!(blocks(padded(262_144).as_bytes(), "A").unwrap().len(), 1);
        for size in [262_145, 262_146] {
            assert_eq!(problem(padded(size).as_bytes()), KeyProblem::TooLarge, "{size}");
        }
        assert_eq!(blocks(BLOCK.repeat(100).as_bytes(), "A").unwrap().len(), 100);
        for count in [101, 102] {
            assert_eq!(problem(BLOCK.repeat(count).as_bytes()), KeyProblem::TooMany, "{count}");
        }
    }

    #[test]
    fn a_text_without_a_block_is_named_for_what_it_is() {
        for (text, expected) in [
            (&b""[..], KeyProblem::Empty),
            (b"hello", KeyProblem::NotPem { expected: "A" }),
            (&[0x30, 0x82, 0x01, 0x00], KeyProblem::BinaryForm),
        ] {
            assert_eq!(problem(text), expected, "{text:02x?}");
        }
    }
}

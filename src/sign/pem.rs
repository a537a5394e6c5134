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

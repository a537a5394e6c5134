//! PEM blocks of key files: their labels, and their bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::model::{SecretBytes, limits};

use super::key_error::KeyProblem;

const BEGIN: &str = "-----BEGIN ";
const DASHES: &str = "-----";

/// One block of a PEM text.
pub(super) struct Block<'a> {
    /// The label: `PUBLIC KEY`.
    pub(super) label: &'a str,
    body: String,
}

impl Block<'_> {
    /// Decodes the block.
    pub(super) fn bytes(&self) -> Result<SecretBytes, KeyProblem> {
        STANDARD.decode(&self.body).map(SecretBytes::new).map_err(|_| KeyProblem::Base64)
    }
}

impl Drop for Block<'_> {
    /// Overwrites the text, which may be a private key.
    fn drop(&mut self) {
        drop(SecretBytes::new(std::mem::take(&mut self.body).into_bytes()));
    }
}

/// Cuts a text into its blocks; there is at least one.
///
/// `expected` is the label that a text without one should have.
/// Errors: what the text is instead.
pub(super) fn blocks<'a>(text: &'a [u8], expected: &'static str) -> Result<Vec<Block<'a>>, KeyProblem> {
    if text.len() as u64 > limits::KEY_FILE_BYTES {
        return Err(KeyProblem::TooLarge);
    }
    if text.trim_ascii().is_empty() {
        return Err(KeyProblem::Empty);
    }
    if matches!(text, [0x30, 0x20..=0x84, ..]) {
        return Err(KeyProblem::BinaryForm);
    }
    let text = std::str::from_utf8(text).map_err(|_| KeyProblem::NotPem { expected })?;
    let mut found = Vec::new();
    let mut open: Option<Block<'a>> = None;
    for line in text.lines().map(str::trim) {
        if let Some(label) = line.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(DASHES)) {
            if open.is_some() {
                return Err(KeyProblem::NoEnd);
            }
            // As long as the whole text, so that it never moves and leaves a copy behind.
            open = Some(Block { label, body: String::with_capacity(text.len()) });
        } else if let Some(mut block) = open.take() {
            let end = line.strip_prefix("-----END ").and_then(|rest| rest.strip_suffix(DASHES));
            match end {
                Some(label) if label == block.label => found.push(block),
                Some(_) => return Err(KeyProblem::NoEnd),
                None => {
                    block.body.push_str(line);
                    open = Some(block);
                }
            }
        }
    }
    match (open, found.len()) {
        (Some(_), _) => Err(KeyProblem::NoEnd),
        (None, 0) => Err(KeyProblem::NotPem { expected }),
        (None, count) if count > limits::KEYS => Err(KeyProblem::TooMany),
        (None, _) => Ok(found),
    }
}

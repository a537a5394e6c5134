//! Kinds of content that is attached to images, and the files with it.

use std::borrow::Cow;
use std::path::Path;

use serde_json::Value;
use serde_json::value::RawValue;

use super::document_type::DocumentType;
use super::failure::{Failure, message};
use super::flag::Flag;
use super::text;
use crate::model::{Digest, Schema, check_members, limits};
use crate::sign::{INTOTO, Statement, StatementForm};
use crate::stream::{FileError, read_file};
use crate::transfer::signatures::Requirement;

/// Short names of frequent kinds, with media type and predicate type.
///
/// Source: cosign `pkg/cosign/attestation`, which uses the same words (`spdxjson` there is `spdx` here).
const KINDS: [(&str, &str, &str); 3] = [
    ("spdx", "application/spdx+json", "https://spdx.dev/Document"),
    ("cyclonedx", "application/vnd.cyclonedx+json", "https://cyclonedx.org/bom"),
    ("slsaprovenance1", INTOTO, PROVENANCE),
];
const PROVENANCE: &str = "https://slsa.dev/provenance/v1";

/// The kind of attached content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachmentKind {
    /// Media type, for unsigned content.
    pub artifact_type: String,
    /// Predicate type, for signed content.
    pub predicate_type: String,
}

impl AttachmentKind {
    /// Reads a kind: a word, or, `signed` tells which, a predicate type or a media type.
    ///
    /// Errors: a sentence without the flag's name.
    pub fn parse(text: &str, signed: bool) -> Result<Self, String> {
        let (artifact_type, predicate_type) = match KINDS.iter().find(|(word, _, _)| *word == text) {
            Some((_, artifact_type, predicate_type)) => (*artifact_type, *predicate_type),
            None if signed && text.contains("://") => (INTOTO, text),
            None if !signed && is_media_type(text) => (text, ""),
            None => {
                let words = text::quoted_list(KINDS.map(|(word, _, _)| word));
                let other = if signed { "the URI of a predicate type" } else { "a media type" };
                return Err(format!("`{text}` is not known, expected one of {words} or {other}"));
            }
        };
        Ok(Self { artifact_type: artifact_type.to_owned(), predicate_type: predicate_type.to_owned() })
    }
}

impl AttachmentKind {
    /// Returns the type of document that a kind of this media type or predicate type is.
    fn document_type(&self) -> Option<DocumentType> {
        let is = |word: &str| {
            KINDS.iter().any(|(known, artifact_type, predicate_type)| {
                let is_artifact = *artifact_type != INTOTO && *artifact_type == self.artifact_type;
                *known == word && (is_artifact || *predicate_type == self.predicate_type)
            })
        };
        let known = [DocumentType::Spdx, DocumentType::CycloneDx, DocumentType::Provenance];
        known.into_iter().find(|one| one.word().is_some_and(is))
    }

    /// Refuses a document that names itself as another type.
    fn fits(&self, path: &Path, bytes: &[u8], signed: bool) -> Result<(), Failure> {
        let named = DocumentType::named_in(bytes);
        let expected = self.document_type();
        let is_statement = |one: &&DocumentType| matches!(one, DocumentType::Statement(_));
        let other = match &expected {
            Some(expected) if named.contains(expected) => None,
            Some(_) => named.first(),
            // The statement around it is made here, so a statement would be inside another one.
            None if signed => named.iter().find(is_statement),
            None => None,
        };
        let Some(other) = other else { return Ok(()) };
        let expected = expected.as_ref().map_or_else(|| "a predicate".to_owned(), DocumentType::phrase);
        let failure =
            Failure::refused(format!("`{}` is {}, expected {expected}", path.display(), other.phrase()));
        Err(match other.word() {
            Some(word) => failure.hint(message!("attach it with ", Flag::TYPE.with(word))),
            None => failure
                .hint("give its predicate alone; a statement around it is made here where one is needed"),
        })
    }
}

/// Source: RFC 6838 section 4.2.
fn is_media_type(text: &str) -> bool {
    let is_name = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_alphanumeric())
            && name.len() <= 127
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    text.split_once('/').is_some_and(|(kind, name)| is_name(kind) && is_name(name))
}

/// Reads a required statement: `signature`, or `attestation:TYPE`.
pub(super) fn requirement(text: &str) -> Result<Requirement, String> {
    match text.split_once(':') {
        None if text == "signature" => Ok(Requirement::Signature),
        Some(("attestation", kind)) => {
            AttachmentKind::parse(kind, true).map(|kind| Requirement::Attestation(kind.predicate_type))
        }
        _ => Err(format!("`{text}` is not known, expected `signature` or `attestation:TYPE`")),
    }
}

/// A file that is attached.
#[derive(Debug)]
pub(super) struct Attachment {
    title: Option<String>,
    bytes: Vec<u8>,
    is_provenance: bool,
}

impl Attachment {
    /// Reads a file, and checks that it is JSON where the kind says so.
    pub(super) fn read(path: &Path, kind: &AttachmentKind, signed: bool) -> Result<Self, Failure> {
        let bytes = read_file(path, limits::ATTACHMENT_BYTES).map_err(|error| match error {
            FileError::TooLarge { .. } => Failure::of_input(error),
            error => error.into(),
        })?;
        let is_json =
            signed || kind.artifact_type.ends_with("+json") || kind.artifact_type.ends_with("/json");
        if is_json {
            check_members(&bytes, &Schema::Value).map_err(|error| {
                Failure::refused(format!("`{}` is not valid JSON: {error}", path.display()))
            })?;
        }
        kind.fits(path, &bytes, signed)?;
        let is_provenance = kind.predicate_type == PROVENANCE;
        if is_provenance {
            // cosign refuses provenance without them only when it verifies.
            let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            if let Some(name) =
                ["buildDefinition", "runDetails"].iter().find(|name| !value[**name].is_object())
            {
                let path = path.display();
                return Err(Failure::refused(format!(
                    "`{path}` has no object `{name}`, which SLSA provenance has"
                ))
                .hint("give the predicate alone; the statement around it is made here"));
            }
        }
        let title = path.file_name().map(|name| name.to_string_lossy().into_owned());
        Ok(Self { title, bytes, is_provenance })
    }

    /// Returns the file's name.
    pub(super) fn title(&self) -> Option<&str> {
        self.title.as_deref()
    }

    /// Returns the content for this image; unsigned provenance is a whole statement.
    pub(super) fn content(&self, image: &Digest, signed: bool) -> Result<Cow<'_, [u8]>, Failure> {
        if signed || !self.is_provenance {
            return Ok(Cow::Borrowed(&self.bytes));
        }
        let predicate: &RawValue = serde_json::from_slice(&self.bytes)
            .map_err(|error| Failure::refused(format!("the provenance is not valid JSON: {error}")))?;
        let statement =
            Statement { form: StatementForm::V1, image, name: "", predicate_type: PROVENANCE, predicate };
        Ok(Cow::Owned(statement.to_json()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_words_media_types_or_uris() {
        let parse = |text, signed| {
            AttachmentKind::parse(text, signed).map(|kind| (kind.artifact_type, kind.predicate_type))
        };
        let pair = |a: &str, b: &str| Ok((a.to_owned(), b.to_owned()));
        assert_eq!(parse("spdx", false), pair("application/spdx+json", "https://spdx.dev/Document"));
        assert_eq!(parse("text/plain", false), pair("text/plain", ""));
        assert_eq!(parse("https://example.com/x", true), pair(INTOTO, "https://example.com/x"));
        for (text, signed) in [
            ("text/plain", true),
            ("https://example.com/x", false),
            ("text", false),
            ("/x", false),
            ("a/b/c", false),
            ("a/b c", false),
            ("", false),
        ] {
            assert!(
                parse(text, signed).unwrap_err().contains("is not known, expected one of `spdx`"),
                "{text}"
            );
        }
        assert_eq!(requirement("signature"), Ok(Requirement::Signature));
        assert_eq!(
            requirement("attestation:cyclonedx"),
            Ok(Requirement::Attestation("https://cyclonedx.org/bom".into()))
        );
        for text in ["", "sig", "attestation", "attestation:", "attestation:x", "signature:x"] {
            assert!(requirement(text).is_err(), "{text}");
        }
    }
}

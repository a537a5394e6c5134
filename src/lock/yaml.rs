//! Shared by the documents: reading with line numbers, and quoting as Go's YAML writer does.

use serde::de::DeserializeOwned;
use serde_saphyr::Spanned;

use crate::model::invisible::{escape_in_yaml, is_invisible};
use crate::model::{Reference, ReferenceError};

use super::API_VERSION;

/// Why a text is not a valid document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// Not YAML, or a field is unknown, missing, doubled or of the wrong type.
    #[error("line {line}: {problem}")]
    Yaml {
        /// Line, from 1.
        line: u64,
        /// What is wrong, with the field.
        problem: String,
    },
    /// Another version or kind of document.
    #[error("line {line}: `{field}` is `{found}`, expected `{expected}`")]
    Header {
        /// Line, from 1.
        line: u64,
        /// `apiVersion` or `kind`.
        field: &'static str,
        /// What is there.
        found: String,
        /// What should be.
        expected: &'static str,
    },
    /// An image is not given by digest.
    #[error("line {line}: `image` must be a digest reference (`repository@sha256:…`), found `{found}`")]
    NotADigest {
        /// Line, from 1.
        line: u64,
        /// The text.
        found: String,
    },
    /// An image is not a valid reference.
    #[error("line {line}: `image`: {source}")]
    Reference {
        /// Line, from 1.
        line: u64,
        /// The rule it breaks.
        source: ReferenceError,
    },
}

/// Reads a YAML document into a struct that knows its fields.
pub(super) fn read<T: DeserializeOwned>(text: &str) -> Result<T, LockError> {
    serde_saphyr::from_str(without_empty_end(text)).map_err(|error| with_line(&error))
}

/// Removes markers at the end of a file, which begin or end an empty document.
fn without_empty_end(text: &str) -> &str {
    let mut rest = text;
    while let Some(before) = ["\n---", "\n..."].iter().find_map(|marker| rest.trim_end().strip_suffix(marker))
    {
        rest = before;
    }
    rest
}

/// Reads all documents of a file, empty ones left out.
pub(super) fn read_all<T: DeserializeOwned>(text: &str) -> Result<Vec<T>, LockError> {
    serde_saphyr::from_multiple(text).map_err(|error| with_line(&error))
}

fn with_line(error: &serde_saphyr::Error) -> LockError {
    let line = error.location().map_or(0, |location| location.line());
    // The library puts the line at the end of its message; ours begins with it.
    if let serde_saphyr::Error::MultipleDocuments { .. } = error.without_snippet() {
        let problem = "a second YAML document begins here, expected one in the file".to_owned();
        return LockError::Yaml { line, problem };
    }
    let message = error.without_snippet().to_string();
    let problem = match message.find(" at line ") {
        Some(at) => message[..at].to_owned(),
        None => message,
    };
    LockError::Yaml { line, problem }
}

/// Checks `apiVersion` and `kind`.
pub(super) fn check_header(
    api_version: &Spanned<String>,
    kind: &Spanned<String>,
    expected: &'static str,
) -> Result<(), LockError> {
    for (field, found, expected) in [("apiVersion", api_version, API_VERSION), ("kind", kind, expected)] {
        if found.value != expected {
            let (line, found) = (found.referenced.line(), found.value.chars().take(200).collect());
            return Err(LockError::Header { line, field, found, expected });
        }
    }
    Ok(())
}

/// Parses a reference that has to have a digest; a tag beside it is dropped, as imgpkg does.
pub(super) fn digest_reference(text: &str, line: u64) -> Result<Reference, LockError> {
    let reference: Reference = text.parse().map_err(|source| LockError::Reference { line, source })?;
    if reference.digest.is_none() {
        return Err(LockError::NotADigest { line, found: text.chars().take(200).collect() });
    }
    Ok(Reference { tag: None, ..reference })
}

/// Writes a reference with the name Go's tools have for Docker Hub.
#[must_use]
pub fn image_name(reference: &Reference) -> String {
    let text = reference.to_string();
    if reference.repository.registry().is_docker_hub() { format!("index.{text}") } else { text }
}

/// Writes a string as a YAML scalar: plain where it cannot be misread, else quoted.
///
/// Shape: plain; single-quoted when it would begin a construct; double-quoted when it would read as another type,
/// or, with escapes, when it has line breaks or characters that are not visible.
pub(super) fn scalar(text: &str) -> String {
    if text.contains(is_invisible) {
        return escape_in_yaml(&serde_json::to_string(text).expect("a string is always JSON"));
    }
    let looks_typed = matches!(
        text.to_ascii_lowercase().as_str(),
        "" | "~"
            | "null"
            | "true"
            | "false"
            | "yes"
            | "no"
            | "on"
            | "off"
            | "y"
            | "n"
            | ".nan"
            | ".inf"
            | "-.inf"
            | "<<"
            | "="
    ) || text.parse::<f64>().is_ok()
        || looks_numeric(text);
    let first = text.chars().next().unwrap_or(' ');
    let unsafe_start = "-?:,[]{}#&*!|>'\"%@`".contains(first)
        && !(text.len() > 1 && "-?:".contains(first) && !text[1..].starts_with(' '));
    let unsafe_inside = text.contains(": ")
        || text.contains(" #")
        || text.ends_with(':')
        || text.starts_with(' ')
        || text.ends_with(' ');
    if looks_typed {
        // Go's writer uses double quotes for text that would be read as another type, and single quotes otherwise.
        return format!("\"{text}\"");
    }
    if unsafe_start || unsafe_inside || text.starts_with("---") {
        return format!("'{}'", text.replace('\'', "''"));
    }
    text.to_owned()
}

/// Numbers and dates that YAML 1.1 readers know beyond what Rust parses: `0x1f`, `0o7`, `1_000`, `12:30`, dates.
fn looks_numeric(text: &str) -> bool {
    let body = text.strip_prefix(['-', '+']).unwrap_or(text);
    body.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && body.chars().all(|c| c.is_ascii_hexdigit() || "xob_.:+-TtZz eE".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_read_back_as_the_same_string() {
        for text in [
            "plain",
            "a b",
            "registry.example.com/team/app@sha256:12",
            "true",
            "no",
            "null",
            "",
            "1",
            "1.5",
            "0x1f",
            "1_000",
            "2024-01-01",
            "12:30:45",
            "- x",
            "-x",
            "a: b",
            "a #b",
            "#c",
            "it's",
            "'q'",
            "\"q\"",
            "[x]",
            "{x}",
            "*a",
            "&a",
            "!t",
            "%d",
            "@v",
            "`c`",
            "a:",
            " lead",
            "trail ",
            "two\nlines",
            "a\u{7f}\u{9b}\u{200b}\u{202e}\u{2028}\u{e0001}b",
            "tab\there",
            "---",
            "~",
            "ü",
            "?",
            "-",
            ":",
            "|",
            ">",
            "=",
            "<<",
            "\u{85}",
            "1e3",
            "0b11",
            ".5",
        ] {
            let document = format!("key: {}\n", scalar(text));
            let map: std::collections::BTreeMap<String, String> =
                read(&document).unwrap_or_else(|e| panic!("{document}: {e}"));
            assert_eq!(map["key"], text, "{document}");
        }
    }

    #[test]
    fn a_text_is_quoted_only_if_it_would_be_read_as_something_else() {
        for (text, expected) in [
            ("plain", "plain"),
            ("v1.2.3", "v1.2.3"),
            ("a1", "a1"),
            ("abc", "abc"),
            ("1.2.3", "\"1.2.3\""),
            ("+1", "\"+1\""),
            ("-0x1F", "\"-0x1F\""),
            ("1_000", "\"1_000\""),
            ("12:30", "\"12:30\""),
            (".5.", "\".5.\""),
            ("2024-01-01T00:00:00Z", "\"2024-01-01T00:00:00Z\""),
            ("1g", "1g"),
            ("1.2.3-rc.1", "1.2.3-rc.1"),
            ("Yes", "\"Yes\""),
            ("-x", "-x"),
            ("?x", "?x"),
            (":x", ":x"),
            ("- x", "'- x'"),
            ("-", "'-'"),
            ("[x", "'[x'"),
            ("a: b", "'a: b'"),
            ("a:b", "a:b"),
            ("a #b", "'a #b'"),
            ("a#b", "a#b"),
            ("a:", "'a:'"),
            (" a", "' a'"),
            ("a ", "'a '"),
            ("it's: x", "'it''s: x'"),
            ("it's", "it's"),
            ("---x", "'---x'"),
            ("a\nb", "\"a\\nb\""),
        ] {
            assert_eq!(scalar(text), expected, "{text}");
        }
    }
}

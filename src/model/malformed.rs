//! Why a text is not the JSON that was expected, in the words of JSON.
//!
//! serde's messages have words of its parser and of Rust (`expected ident`, `struct Shape`); this file rewords those,
//! and keeps what it says about values, with line and column. Floor 0: no I/O.

use std::fmt;

use serde_json::error::Category;

/// An error of the JSON parser that a user can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(String);

impl Malformed {
    /// Says what kind of error it is and where, and quotes nothing: values may be secrets.
    #[must_use]
    pub fn without_values(error: &serde_json::Error) -> Self {
        if is_empty(error) {
            return Self("it is empty".to_owned());
        }
        let what = match error.classify() {
            Category::Data => "it is JSON of another form than expected",
            _ => "it is not valid JSON",
        };
        Self(format!("{what} at line {} column {}", error.line(), error.column()))
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}

impl From<serde_json::Error> for Malformed {
    fn from(error: serde_json::Error) -> Self {
        let text = error.to_string();
        let place = format!("line {} column {}", error.line(), error.column());
        Self(match error.classify() {
            Category::Eof if is_empty(&error) => "it is empty".to_owned(),
            Category::Eof => format!("the text ends inside a value at {place}"),
            Category::Syntax if text.starts_with("expected ident") || text.starts_with("expected value") => {
                format!("it is not JSON from {place} on")
            }
            _ => without_types(&text),
        })
    }
}

/// Tells whether there was no text at all.
fn is_empty(error: &serde_json::Error) -> bool {
    error.classify() == Category::Eof && (error.line(), error.column()) == (1, 0)
}

/// Names JSON's kinds of values where serde names those of Rust.
fn without_types(text: &str) -> String {
    let words = [
        ("invalid type: sequence", "invalid type: list"),
        ("invalid type: map", "invalid type: object"),
        ("expected a sequence", "expected a list"),
        ("expected a map", "expected an object"),
    ];
    let text = words.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
    match text.split_once("expected struct ") {
        Some((before, after)) => {
            let rest = after.split_once(' ').map(|(_, rest)| format!(" {rest}")).unwrap_or_default();
            format!("{before}expected an object{rest}")
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[test]
    fn the_parsers_own_words_do_not_show() {
        #[derive(Deserialize, Debug)]
        struct Shape {
            #[serde(rename = "list")]
            _list: Vec<u64>,
        }
        for (text, expected) in [
            ("nope", "it is not JSON from line 1 column 2 on"),
            ("<html>", "it is not JSON from line 1 column 1 on"),
            ("{\"list\":", "the text ends inside a value at line 1 column 8"),
            ("", "it is empty"),
            ("{\"list\":[]}}", "trailing characters at line 1 column 12"),
            ("\"a\"", "invalid type: string \"a\", expected an object at line 1 column 3"),
            ("{\"list\":{}}", "invalid type: object, expected a list at line 1 column 8"),
            ("{}", "missing field `list` at line 1 column 2"),
        ] {
            let error = serde_json::from_str::<Shape>(text).expect_err("no such text is valid");
            assert_eq!(Malformed::from(error).to_string(), expected, "{text}");
        }
    }
}

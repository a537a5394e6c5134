//! Labels as they are typed: `key=value`, separated by commas, which values may have too.

use std::collections::BTreeMap;

use super::parsed_list;
use crate::front::cli::values::key_value;
use crate::front::failure::{Failure, message};
use crate::front::flag::Flag;

/// Reads labels, which the command line separates by commas.
///
/// A piece that begins with a space and has no `=` is the rest of a sentence: `description=Hello, world`.
pub(super) fn labels(pieces: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let mut whole: Vec<String> = Vec::new();
    for piece in pieces {
        match whole.last_mut() {
            Some(last) if piece.starts_with(' ') && !piece.contains('=') => {
                last.push(',');
                last.push_str(piece);
            }
            _ => whole.push(piece.clone()),
        }
    }
    let parsed = parsed_list(Flag::LABELS, &whole, key_value);
    let parsed = parsed.map_err(|failure| match whole.iter().any(|label| !label.contains('=')) {
        true => failure.hint(message!(
            "a comma separates labels; one with a comma in its value goes into ",
            Flag::LABELS.by_variable(),
            ", with a line break at its end"
        )),
        false => failure,
    })?;
    Ok(parsed.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_one_label_and_a_piece_without_a_value_is_refused() {
        let sentence = labels(&["a=1", "b=Hello", " world", " 2026", "c=3"].map(str::to_owned)).unwrap();
        assert_eq!(sentence.get("b").map(String::as_str), Some("Hello, world, 2026"));
        assert_eq!(sentence.len(), 3);
        let failure = labels(&["a=1".to_owned(), "x".to_owned()]).unwrap_err();
        assert_eq!(
            failure.hints,
            [concat!(
                "a comma separates labels; one with a comma in its value goes into environment variable ",
                "`IMGRELAY_LABELS`, with a line break at its end"
            )]
        );
    }
}

//! Texts from outside, made safe for a terminal and a log.

use crate::model::invisible::is_invisible;

/// Longest text that is shown, characters.
pub(super) const SHOWN: usize = 400;

/// Makes a text from outside safe for a terminal and a log, and short.
pub(super) fn sanitize(text: &str) -> String {
    let mut out: String = text
        .chars()
        .take(SHOWN)
        .flat_map(|character| {
            // Only what could act on a terminal is escaped; quotes and accents stay readable.
            if is_invisible(character) { character.escape_default().collect() } else { vec![character] }
        })
        .collect();
    if text.chars().nth(SHOWN).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_that_are_not_seen_are_escaped() {
        let text = "a\n\u{7f}\u{9b}\u{200b}\u{2028}\u{202e}\u{2066}\u{feff}é\"";
        let expected = "a\\n\\u{7f}\\u{9b}\\u{200b}\\u{2028}\\u{202e}\\u{2066}\\u{feff}é\"";
        assert_eq!(sanitize(text), expected);
    }
}

//! Texts from outside, made safe for a terminal and a log.

/// Longest text that is shown, characters.
pub(super) const SHOWN: usize = 400;

/// Makes a text from outside safe for a terminal and a log, and short.
pub(super) fn sanitize(text: &str) -> String {
    let mut out: String = text
        .chars()
        .take(SHOWN)
        .flat_map(|character| {
            let plain = !character.is_control() && !('\u{202a}'..='\u{202e}').contains(&character);
            // Only what could act on a terminal is escaped; quotes and accents stay readable.
            if plain { vec![character] } else { character.escape_default().collect() }
        })
        .collect();
    if text.chars().nth(SHOWN).is_some() {
        out.push('…');
    }
    out
}

//! Characters that change how the text around them is shown: escaped where a format has escapes.
//!
//! A direction override can show another digest than the real one, a zero-width mark makes two names look alike, a
//! line separator begins a line for some readers and not for others.

use std::fmt::Write as _;

/// Tells whether a character is not seen itself, or moves, hides or breaks the text around it.
///
/// Source: Unicode 15, general categories Cc and Cf, U+2028, U+2029; `DerivedCoreProperties.txt`,
/// `Default_Ignorable_Code_Point`, without the variation selectors, which emoji need.
#[must_use]
pub fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(character,
            // Soft hyphen, grapheme joiner, Arabic letter mark, Hangul and Khmer fillers, Mongolian separator.
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180e}'
            // Zero-width marks, direction marks, line and paragraph separators, embeddings and overrides.
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            // Word joiner, invisible operators, isolates, deprecated format characters.
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            // Format characters of shorthand and music, tags.
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}')
}

/// Escapes such characters in the strings of a JSON text, as `\u202e`, and as two units above U+FFFF.
///
/// Readers of JSON see the same values. Line breaks and tabs are white space between values, and stay.
#[must_use]
pub fn escape_in_json(json: &str) -> String {
    escape(json, |out, character| {
        for unit in character.encode_utf16(&mut [0; 2]) {
            write!(out, "\\u{unit:04x}").expect("writing to a String cannot fail");
        }
    })
}

/// Escapes such characters in the double-quoted strings of a YAML text, as `\u202e`, and as `\U000e0001` above U+FFFF.
///
/// Readers of YAML see the same values; unlike JSON, YAML has no pairs of units.
#[must_use]
pub fn escape_in_yaml(yaml: &str) -> String {
    escape(yaml, |out, character| {
        let code = u32::from(character);
        let written = if code > 0xffff { write!(out, "\\U{code:08x}") } else { write!(out, "\\u{code:04x}") };
        written.expect("writing to a String cannot fail");
    })
}

fn escape(text: &str, write: impl Fn(&mut String, char)) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        // In both formats the writers have escaped ASCII control characters in strings, except U+007F.
        if is_invisible(character) && character >= '\u{7f}' {
            write(&mut out, character);
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_marks_are_distinguished_from_text() {
        let invisible = "\0\u{1b}\n\u{7f}\u{80}\u{85}\u{9f}\u{ad}\u{61c}\u{180e}\u{200b}\u{200c}\u{200d}\u{200e}\u{200f}\u{2028}\
                         \u{2029}\u{202a}\u{202e}\u{2060}\u{2066}\u{2069}\u{206f}\u{feff}\u{fff9}\u{e0001}\u{e007f}";
        for character in invisible.chars() {
            assert!(is_invisible(character), "{character:?}");
        }
        for character in
            "aZ~ é漢\u{a0}\u{a1}\u{2010}\u{2027}\u{202f}\u{205f}\u{2070}\u{fe0f}\u{fffc}\u{1f600}".chars()
        {
            assert!(!is_invisible(character), "{character:?}");
        }
    }

    #[test]
    fn json_and_yaml_keep_their_values_and_show_every_mark() {
        let value =
            serde_json::json!({"a\u{202e}": ["x\u{7f}\u{9b}\u{2028}\u{200b}\u{feff}\u{e0001}é\u{1f600}\n"]});
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        let escaped = escape_in_json(&pretty);
        assert!(!escaped.chars().any(|character| is_invisible(character) && character != '\n'), "{escaped}");
        assert!(escaped.contains(r#""x\u007f\u009b\u2028\u200b\ufeff\udb40\udc01é😀\n""#), "{escaped}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
        let escaped = escape_in_yaml(&pretty);
        assert!(escaped.contains(r#"\u200b\ufeff\U000e0001é"#), "{escaped}");
        let read: serde_json::Value = serde_saphyr::from_str(&escaped).unwrap();
        assert_eq!(read, value);
    }
}

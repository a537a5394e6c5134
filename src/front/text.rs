//! Parts of messages: escaped text from outside, sizes, durations, shortened lists.
//!
//! Pure functions; what they return goes to a terminal or a build log.

use std::borrow::Cow;
use std::time::Duration;

use crate::model::invisible::is_invisible;
use crate::model::{Digest, list};

/// Escapes characters that could move a cursor, hide text or begin a new line in a terminal or a build log.
///
/// File names, labels and responses of registries come from outside; a line break in one could forge a log line or a
/// workflow command, a direction override could show another digest than the real one.
#[must_use]
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_invisible) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_invisible(character) {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    Cow::Owned(out)
}

/// Prints a number of bytes in binary units, one decimal: `512 B`, `1.5 MiB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    // Tenths of a unit in integers: rounding is the same everywhere.
    let mut unit = 0;
    let mut scale: u128 = 1024;
    while unit + 1 < UNITS.len() && u128::from(count) * 10 + scale / 2 >= 10 * 1024 * scale {
        scale *= 1024;
        unit += 1;
    }
    let tenths = (u128::from(count) * 10 + scale / 2) / scale;
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS.get(unit).unwrap_or(&"EiB"))
}

/// Formats a duration: `0.4 s`, `12.3 s`, `4 min 05 s`, `1 h 02 min`.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{}.{} s", seconds, duration.subsec_millis() / 100),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Formats bytes per second; `None` when the time is too short to measure.
#[must_use]
pub fn rate(count: u64, time: Duration) -> Option<String> {
    let milliseconds = time.as_millis();
    if milliseconds < 100 {
        return None;
    }
    let per_second = u128::from(count) * 1000 / milliseconds;
    Some(format!("{}/s", bytes(u64::try_from(per_second).unwrap_or(u64::MAX))))
}

/// Formats a count with its noun, in the plural unless it is one: `1 blob`, `2 blobs`.
#[must_use]
pub fn counted(count: u64, noun: &str) -> String {
    let (y, rest) = match noun.strip_suffix('y') {
        Some(stem) => ("ies", stem),
        None => ("s", noun),
    };
    if count == 1 { format!("1 {noun}") } else { format!("{count} {rest}{y}") }
}

/// Lists items in back-quotes and escaped, the first ten of them, and says how many are not shown.
#[must_use]
pub fn quoted_list<I: IntoIterator<Item: AsRef<str>>>(items: I) -> String {
    list::quoted_list(items.into_iter().map(|item| escaped(item.as_ref()).into_owned()))
}

/// Letters and digits of a digest in a table; the details below it have the whole one.
const SHORT_DIGEST: usize = 12;

/// Columns of a terminal that lines of our own making fit into; texts from outside may be longer.
pub const COLUMNS: usize = 80;

/// Returns a digest in full where the line has room for it, else shortened.
#[must_use]
pub fn digest_in(columns_before: usize, digest: &Digest) -> String {
    let whole = digest.to_string();
    if columns_before + whole.len() <= COLUMNS { whole } else { short_digest(digest) }
}

/// Returns the beginning of a digest, for tables.
#[must_use]
pub fn short_digest(digest: &Digest) -> String {
    let hex: String = digest.hex().chars().take(SHORT_DIGEST).collect();
    format!("{}:{hex}", digest.algorithm().name())
}

/// Returns the candidate that is nearest to a misspelt word, if one is near enough; two letters in each other's place
/// are one mistake.
///
/// Cost: does not grow with a word that is much longer than every candidate.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // One wrong character in three, at least one: enough for typos, too few to turn one word into another.
    let length = word.chars().count();
    let most = (length / 3).max(1);
    let of_length = candidates.into_iter().filter(|one| one.chars().count().abs_diff(length) <= most);
    let distances = of_length.map(|candidate| (strsim::osa_distance(word, candidate), candidate));
    distances.filter(|(distance, _)| *distance <= most).min().map(|(_, candidate)| candidate)
}

/// Returns the one candidate that begins with a word, such as `expected-digest` for `expected`.
///
/// Words of fewer than three characters begin too much to mean one thing.
#[must_use]
pub fn begun<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut begun = candidates.into_iter().filter(|candidate| candidate.starts_with(word));
    match (begun.next(), begun.next()) {
        (Some(one), None) if word.chars().count() >= 3 => Some(one),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_text_cannot_steer_a_terminal_or_forge_a_line() {
        for (text, expected) in [
            ("plain – ünïcode 漢字", "plain – ünïcode 漢字"),
            ("a\x1b[31mred", "a\\u{1b}[31mred"),
            ("a\n::error::x", "a\\n::error::x"),
            ("a\r\tb\x7f", "a\\r\\tb\\u{7f}"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("a\u{202e}b\u{2028}", "a\\u{202e}b\\u{2028}"),
            ("a\u{200b}b\u{feff}\u{ad}", "a\\u{200b}b\\u{feff}\\u{ad}"),
        ] {
            assert_eq!(escaped(text), expected);
        }
    }

    #[test]
    fn sizes_are_rounded_to_one_decimal_and_carried() {
        for (count, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1024 * 1024 - 1, "1.0 MiB"),
            (62_597_653, "59.7 MiB"),
            (4 << 30, "4.0 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(count), expected, "{count}");
        }
    }

    #[test]
    fn durations_and_rates_read_naturally() {
        for (milliseconds, expected) in [
            (0, "0.0 s"),
            (440, "0.4 s"),
            (59_999, "59.9 s"),
            (60_000, "1 min 00 s"),
            (3_725_000, "1 h 02 min"),
        ] {
            assert_eq!(duration(Duration::from_millis(milliseconds)), expected);
        }
        assert_eq!(rate(1 << 20, Duration::from_millis(500)).as_deref(), Some("2.0 MiB/s"));
        assert_eq!(rate(1 << 20, Duration::from_millis(99)), None);
    }

    #[test]
    fn counts_and_lists_are_english_and_bounded() {
        assert_eq!(counted(1, "blob"), "1 blob");
        assert_eq!(counted(0, "blob"), "0 blobs");
        assert_eq!(counted(2, "entry"), "2 entries");
        assert_eq!(quoted_list(["a", "b\n"]), "`a`, `b\\n`");
        let many: Vec<String> = (0..12).map(|n| n.to_string()).collect();
        assert!(quoted_list(&many).ends_with("`9` and 2 more"));
    }

    #[test]
    fn misspellings_find_their_word_and_others_find_none() {
        let words = ["bundle", "image", "tag", "tar"];
        assert_eq!(nearest("bundel", words), Some("bundle"));
        assert_eq!(nearest("imag", words), Some("image"));
        assert_eq!(nearest("ta", words), Some("tag"));
        assert_eq!(nearest("layout", words), None);
        assert_eq!(nearest("tra", words), Some("tar"), "two letters in each other's place");
        assert_eq!(nearest("arr", words), None);
        assert_eq!(nearest(&"bundle".repeat(1_000_000), words), None);
    }

    #[test]
    fn the_beginning_of_one_word_finds_it() {
        let words = ["expected-digest", "tag", "tag-file", "tar"];
        assert_eq!(begun("exp", words), Some("expected-digest"));
        assert_eq!((begun("ex", words), begun("tag", words), begun("tax", words)), (None, None, None));
    }
}

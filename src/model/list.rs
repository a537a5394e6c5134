//! Lists in messages: the first ten items, and how many more there are.

use std::fmt::{Display, Write as _};

/// Most items of a list that a message shows.
pub const SHOWN: usize = 10;

/// Writes items in back-quotes: `` `a`, `b` ``, after ten of them `` and 2 more ``.
///
/// The items are written as they are; what comes from outside is escaped by the caller.
#[must_use]
pub fn quoted_list<I: IntoIterator<Item: Display>>(items: I) -> String {
    joined(items.into_iter().map(|item| format!("`{item}`")), ", ", " ")
}

/// Writes clauses one after the other: `a is wrong; b is missing`, after ten of them `; and 2 more`.
#[must_use]
pub fn clause_list<I: IntoIterator<Item: Display>>(items: I) -> String {
    joined(items, "; ", "; ")
}

fn joined<I: IntoIterator<Item: Display>>(items: I, separator: &str, before_rest: &str) -> String {
    let mut items = items.into_iter();
    let mut out = String::new();
    for (index, item) in items.by_ref().take(SHOWN).enumerate() {
        let separator = if index == 0 { "" } else { separator };
        write!(out, "{separator}{item}").expect("writing to a String cannot fail");
    }
    let hidden = items.count();
    if hidden > 0 {
        write!(out, "{before_rest}and {hidden} more").expect("writing to a String cannot fail");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_items_are_shown_and_the_others_counted() {
        assert_eq!(quoted_list([""; 0]), "");
        assert_eq!(quoted_list(["a"]), "`a`");
        assert_eq!(quoted_list(["a", "b"]), "`a`, `b`");
        assert_eq!(quoted_list(0..10), "`0`, `1`, `2`, `3`, `4`, `5`, `6`, `7`, `8`, `9`");
        assert!(quoted_list(0..11).ends_with("`8`, `9` and 1 more"));
        assert_eq!(clause_list(["a is wrong", "b is missing"]), "a is wrong; b is missing");
        assert!(clause_list(0..12).ends_with("8; 9; and 2 more"));
    }
}

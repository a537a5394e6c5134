//! Exit codes: the one place that turns a kind of failure into a number.
//!
//! All other code uses kinds; `docs/errors.md` has the same table.

use super::failure::Kind;

/// Success; also if the reader of standard output closed the pipe.
pub const DONE: u8 = 0;

/// Returns the exit code of a kind of failure.
#[must_use]
pub fn code(kind: Kind) -> u8 {
    match kind {
        Kind::Refused => 1,
        Kind::Misuse => 2,
        Kind::Difference => 3,
        Kind::Remote => 4,
        // EX_SOFTWARE of sysexits.h.
        Kind::Bug => 70,
        // The shell's convention: 128 and the signal's number.
        Kind::Interrupted => 130,
        Kind::Terminated => 143,
        Kind::Command(code) => code.get(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_errors_page_has_a_row_for_every_code() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md")).unwrap();
        assert!(page.contains("\n| 0 |"));
        for kind in Kind::ALL {
            assert!(page.contains(&format!("\n| {} |", code(kind))), "{kind:?} has no row in docs/errors.md");
        }
    }
}

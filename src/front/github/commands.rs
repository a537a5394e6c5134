//! GitHub's workflow commands: writes the program's own, and escapes other text that the runner would read as one.
//!
//! The runner reads commands from standard output and standard error alike. `::name::` counts at the start of a
//! line, the older `##[name]` anywhere in it.
//! Source: actions/runner, ActionCommand.cs; line ends are those of .NET's `ReadLine`.

use std::io::{self, Write};

use crate::front::failure::Failure;

/// Escapes the text of a command.
fn data(text: &str) -> String {
    // Percent first, or the other escapes would be escaped again.
    let text = text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    // The runner does not read it as a command here; a log viewer that parses the text again might.
    text.replace("##[", "# #[")
}

/// Returns the commands that hide a secret in the log: one for each of its lines.
pub(super) fn masks(secret: &str) -> String {
    // An empty mask is a warning, and very short ones would hide half of the log.
    let lines = secret.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| format!("::add-mask::{}\n", data(line))).collect()
}

/// Returns the one command that shows a failure on the run's page.
pub(super) fn error(failure: &Failure) -> String {
    let text = failure.render(false);
    let text = text.trim_end().strip_prefix("imgrelay: error: ").unwrap_or(&text);
    format!("::error title=imgrelay::{}\n", data(text))
}

/// A stream to the log in which no text is a command.
pub(in crate::front) struct Guard<W: Write> {
    inner: W,
    /// The text after the last end of a line.
    line: Vec<u8>,
}

impl<W: Write> Guard<W> {
    pub(in crate::front) fn new(inner: W) -> Self {
        Self { inner, line: Vec::new() }
    }

    fn write_line(&mut self) -> io::Result<()> {
        let line = std::mem::take(&mut self.line);
        self.inner.write_all(&disarmed(&line))
    }
}

impl<W: Write> Write for Guard<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for part in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") || part.ends_with(b"\r") {
                self.write_line()?;
            }
        }
        Ok(bytes.len())
    }

    /// Keeps an unfinished line: only its end shows whether it is a command.
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<W: Write> Drop for Guard<W> {
    fn drop(&mut self) {
        // Only a line without an end is left, and a destructor cannot report that it cannot be written.
        let _ = self.write_line();
    }
}

/// Returns a line that the runner does not read as a command, otherwise unchanged.
fn disarmed(line: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(line.len() + 2);
    let colons = line.windows(2).position(|pair| pair == b"::");
    // The runner trims all Unicode white space; every invisible character counts as white space here.
    let starts = colons.filter(|at| !line.iter().take(*at).any(u8::is_ascii_graphic));
    for (index, byte) in line.iter().enumerate() {
        let in_colons = starts.is_some_and(|start| index == start + 1);
        let in_brackets = index > 0 && line.get(index - 1..index + 2) == Some(b"##[");
        if in_colons || in_brackets {
            out.push(b' ');
        }
        out.push(*byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guarded(writes: &[&str]) -> String {
        let mut out = Vec::new();
        let mut guard = Guard::new(&mut out);
        for text in writes {
            guard.write_all(text.as_bytes()).unwrap();
            guard.flush().unwrap();
        }
        drop(guard);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn no_line_of_guarded_text_is_a_command() {
        for (text, expected) in [
            ("plain\n", "plain\n"),
            ("::error::x\n", ": :error::x\n"),
            ("  \t\u{a0}::error::x\n", "  \t\u{a0}: :error::x\n"),
            ("a ::error::x\n", "a ::error::x\n"),
            ("a\r::error::x\n", "a\r: :error::x\n"),
            ("a\n::add-mask::a", "a\n: :add-mask::a"),
            ("x ##[error]y ##[group]\n", "x # #[error]y # #[group]\n"),
            ("###[error]\n", "## #[error]\n"),
            ("::\n", ": :\n"),
            (":::error::\n", ": ::error::\n"),
            ("", ""),
        ] {
            assert_eq!(guarded(&[text]), expected, "{text:?}");
        }
    }

    #[test]
    fn a_command_in_pieces_is_none_either() {
        assert_eq!(guarded(&[":", ":err", "or::x\n"]), ": :error::x\n");
        assert_eq!(guarded(&["a #", "#", "[error]b\n"]), "a # #[error]b\n");
        assert_eq!(guarded(&["a\n:", ":x::\n"]), "a\n: :x::\n");
    }

    #[test]
    fn secrets_are_masked_line_by_line() {
        assert_eq!(masks("s3cret"), "::add-mask::s3cret\n");
        assert_eq!(masks("a%\r\n\n  b ##[x]\n"), "::add-mask::a%25\n::add-mask::b # #[x]\n");
        assert_eq!(masks(" \n"), "");
    }

    #[test]
    fn a_failure_is_one_command_with_everything_in_it() {
        let failure = Failure::refused("100% of `a\nb` ##[error]").caused_by("x: y").hint("do, this");
        assert_eq!(
            error(&failure),
            "::error title=imgrelay::100%25 of `a\\nb` # #[error]%0A  caused by: x: y%0A  hint: do, this\n"
        );
    }
}

//! Failures: kind, message, causes, hints.
//!
//! Everything below the front fails with typed errors; they become a [`Failure`] here, and one function turns it into
//! text. Advice is in hints only, so that messages are true for every caller. Flags are values in both, and each door
//! writes its own names for them.

mod conversions;
mod hint;
mod message;
mod stores;

pub use hint::{Hint, Vocabulary};
pub(in crate::front) use message::message;
pub use message::{CommandLine, FlagNames, Mention, Message, MessagePart, Sense, Spelling};

use std::error::Error;
use std::fmt::Write as _;

use super::text;
use crate::model::Tag;

/// Most causes that are printed.
const CAUSE_LIMIT: usize = 8;

/// The kind of a failure; decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The operation was refused or failed.
    Refused,
    /// Wrong arguments, environment, source or configuration; nothing was begun.
    Misuse,
    /// A verification found a difference.
    Difference,
    /// A server could not be reached or kept failing after retries; it may work later.
    Remote,
    /// A bug of this program.
    Bug,
    /// Stopped by SIGINT.
    Interrupted,
    /// Stopped by SIGTERM.
    Terminated,
    /// A command that was run for the user ended with this exit code.
    Command(std::num::NonZeroU8),
}

impl Kind {
    /// Every kind with a code of this program, for tables.
    pub const ALL: [Self; 7] = [
        Self::Refused,
        Self::Misuse,
        Self::Difference,
        Self::Remote,
        Self::Bug,
        Self::Interrupted,
        Self::Terminated,
    ];
}

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Failure {
    /// Decides the exit code.
    pub kind: Kind,
    /// What failed, on which object, found against expected; lower case, no full stop.
    pub message: Message,
    /// The causes, nearest first.
    pub causes: Vec<String>,
    /// Advice for the user.
    pub hints: Vec<Hint>,
}

impl Failure {
    /// Makes a failure of any kind.
    pub fn new(kind: Kind, message: impl Into<Message>) -> Self {
        Self { kind, message: message.into(), causes: Vec::new(), hints: Vec::new() }
    }

    /// Makes a failure of an operation.
    pub fn refused(message: impl Into<Message>) -> Self {
        Self::new(Kind::Refused, message)
    }

    /// Makes a failure of this program itself, and asks for a report.
    pub fn bug(message: impl Into<Message>) -> Self {
        Self::new(Kind::Bug, message).hint(format!(
            "this is a bug; please report it with the command line at {}/issues (imgrelay {})",
            env!("CARGO_PKG_REPOSITORY"),
            env!("CARGO_PKG_VERSION")
        ))
    }

    /// Makes a failure for wrong arguments or configuration.
    pub fn misuse(message: impl Into<Message>) -> Self {
        Self::new(Kind::Misuse, message)
    }

    /// Makes the failure of a verification.
    pub fn difference(message: impl Into<Message>) -> Self {
        Self::new(Kind::Difference, message)
    }

    /// Makes a failure of a server.
    pub fn remote(message: impl Into<Message>) -> Self {
        Self::new(Kind::Remote, message)
    }

    /// Makes a failure from a typed error; the errors it names as sources become the causes.
    ///
    /// A message that already ends with its source's text (`…: {source}`) is not followed by that text again.
    pub fn of(kind: Kind, error: &dyn Error) -> Self {
        let mut last = error.to_string();
        let mut failure = Self::new(kind, last.clone());
        let mut source = error.source();
        for _ in 0..CAUSE_LIMIT {
            let Some(cause) = source else { break };
            let text = cause.to_string();
            if !last.ends_with(&text) {
                failure.causes.push(text.clone());
            }
            last = text;
            source = cause.source();
        }
        failure
    }

    /// Makes the failure for a tag that is to be recorded for an image without a name.
    ///
    /// Readers of a tar make an unusable name from a tag without a repository.
    pub fn tag_without_repository(tag: &Tag) -> Self {
        Self::misuse(format!("tag `{tag}` has no repository"))
    }

    /// Adds advice.
    pub fn hint(mut self, hint: impl Into<Hint>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Adds a cause.
    pub fn caused_by(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// Returns the text for a terminal or a log in the command line's words: lines, each ended.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        self.render_in(&CommandLine, color)
    }

    /// Returns the text in a door's words.
    #[must_use]
    pub fn render_in(&self, vocabulary: &dyn Vocabulary, color: bool) -> String {
        let mut out = String::new();
        let paint = |style: &str, word: &str| {
            if color { format!("\x1b[{style}m{word}\x1b[0m") } else { word.to_owned() }
        };
        let mut line = |start: &str, text: &str| {
            writeln!(out, "{start} {}", text::escaped(text)).expect("writing to a String cannot fail");
        };
        line(&format!("imgrelay: {}", paint("1;31", "error:")), &self.message.render(vocabulary));
        for cause in &self.causes {
            line("  caused by:", cause);
        }
        for hint in self.hints.iter().filter_map(|hint| hint.render(vocabulary)) {
            line(&format!("  {}", paint("36", "hint:")), &hint);
        }
        out
    }

    /// Returns the failure with all its texts in a door's words, so that no other door changes them.
    pub fn in_words_of(self, vocabulary: &dyn Vocabulary) -> Self {
        let mut hints: Vec<String> = Vec::new();
        for hint in self.hints.iter().filter_map(|hint| hint.render(vocabulary)) {
            if !hints.contains(&hint) {
                hints.push(hint);
            }
        }
        let message = self.message.render(vocabulary).into();
        Self { message, hints: hints.into_iter().map(Hint::from).collect(), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::FileError;
    use std::io;
    use std::path::Path;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot push `{name}`")]
    struct Outer {
        name: &'static str,
        source: Middle,
    }

    #[derive(Debug, thiserror::Error)]
    #[error("registry `reg.example` closed the connection: {source}")]
    struct Middle {
        source: io::Error,
    }

    #[test]
    fn causes_follow_the_message_and_are_not_repeated() {
        let error = Outer { name: "a", source: Middle { source: io::Error::other("broken pipe") } };
        let failure = Failure::of(Kind::Remote, &error).hint("try again later");
        assert_eq!(
            failure.render(false),
            "imgrelay: error: cannot push `a`\n  \
             caused by: registry `reg.example` closed the connection: broken pipe\n  \
             hint: try again later\n"
        );
    }

    #[test]
    fn colours_mark_the_words_and_never_the_text_from_outside() {
        let failure = Failure::misuse("tag `\x1b[2J` is not valid").hint("x");
        assert_eq!(
            failure.render(true),
            "imgrelay: \x1b[1;31merror:\x1b[0m tag `\\u{1b}[2J` is not valid\n  \x1b[36mhint:\x1b[0m x\n"
        );
    }

    #[test]
    fn file_errors_name_the_path_once_and_say_what_helps() {
        let error =
            FileError::io("create", Path::new("/x/a.tar"), io::Error::from(io::ErrorKind::StorageFull));
        let failure = Failure::from(error);
        assert_eq!(failure.kind, Kind::Refused);
        assert_eq!(
            failure.render(false),
            "imgrelay: error: cannot create `/x/a.tar`: no storage space\n  \
             hint: free some space, or choose a path on another file system\n"
        );
    }
}

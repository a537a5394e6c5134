//! Text with flags as values.
//!
//! [`FlagNames`] turn it into the words of one door, so that no text is searched for the names of flags.

use std::fmt;

use crate::front::flag::Flag;

/// A text in which flags are values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    parts: Vec<MessagePart>,
}

/// A piece of a [`Message`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessagePart {
    /// Words that are the same at every door.
    Text(String),
    /// A flag.
    Flag(Mention),
    /// Several flags; a door leaves out those that it has no name for.
    Flags {
        /// The flags, at least one.
        mentions: Vec<Mention>,
        /// The text between two of them.
        between: &'static str,
    },
    /// A command line to type, without back-quotes around it.
    Command(String),
}

/// A flag as a message mentions it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mention {
    /// Which flag.
    pub flag: Flag,
    /// Its value: `copy` in `--symlinks copy`.
    pub value: Option<String>,
    /// How a command line writes it.
    pub spelling: Spelling,
    /// What the mention means.
    pub sense: Sense,
}

/// How a command line writes a flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// `--image`.
    Long,
    /// `-i`.
    Short,
    /// `--labels` by another of its names, as it was typed.
    Alias(String),
    /// `IMGRELAY_IMAGE`, by this name.
    Variable(String),
}

/// What the mention of a flag means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sense {
    /// The setting that the flag is.
    Setting,
    /// The kind of image that `--bundle`, `--image` and `--source` choose, with any name after them.
    Kind,
}

impl Mention {
    /// Writes the flag by its one-letter name.
    #[must_use]
    pub fn short(self) -> Self {
        Self { spelling: Spelling::Short, ..self }
    }

    /// Mentions the kind of image that the flag chooses.
    #[must_use]
    pub fn kind(self) -> Self {
        Self { sense: Sense::Kind, ..self }
    }

    /// Adds the value after the flag.
    #[must_use]
    pub fn with(self, value: impl Into<String>) -> Self {
        Self { value: Some(value.into()), ..self }
    }

    /// Returns the flag as it is typed, without back-quotes.
    #[must_use]
    pub fn typed(&self) -> String {
        let name = match (&self.spelling, self.flag.short()) {
            (Spelling::Short, Some(short)) => format!("-{short}"),
            (Spelling::Long | Spelling::Short, _) => format!("--{}", self.flag.long()),
            (Spelling::Alias(name), _) => format!("--{name}"),
            (Spelling::Variable(name), _) => name.clone(),
        };
        match &self.value {
            // Switches take their value after `=` only.
            Some(value) if matches!(value.as_str(), "true" | "false") => format!("{name}={value}"),
            Some(value) => format!("{name} {value}"),
            None => name,
        }
    }
}

impl Flag {
    /// Mentions the flag by its long name.
    #[must_use]
    pub fn mention(self) -> Mention {
        Mention { flag: self, value: None, spelling: Spelling::Long, sense: Sense::Setting }
    }

    /// Mentions the flag with a value.
    #[must_use]
    pub fn with(self, value: impl Into<String>) -> Mention {
        self.mention().with(value)
    }

    /// Mentions the kind of image that the flag chooses, as `-i`.
    #[must_use]
    pub fn kind(self) -> Mention {
        self.mention().short().kind()
    }

    /// Mentions the flag by its environment variable.
    #[must_use]
    pub fn by_variable(self) -> Mention {
        Mention { spelling: Spelling::Variable(self.variable()), ..self.mention() }
    }
}

/// How one door names flags and commands.
pub trait FlagNames: fmt::Debug {
    /// Names a flag, with back-quotes; `None` if the door has no such setting.
    fn flag(&self, mention: &Mention) -> Option<String>;

    /// Shows a command line, with back-quotes; `None` if the door's users do not type any.
    fn command(&self, command: &str) -> Option<String>;
}

/// The words of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandLine;

impl FlagNames for CommandLine {
    fn flag(&self, mention: &Mention) -> Option<String> {
        let typed = mention.typed();
        Some(match mention.spelling {
            Spelling::Variable(_) => format!("environment variable `{typed}`"),
            _ => format!("`{typed}`"),
        })
    }

    fn command(&self, command: &str) -> Option<String> {
        Some(format!("`{command}`"))
    }
}

impl Message {
    /// Joins parts.
    #[must_use]
    pub fn new(parts: Vec<MessagePart>) -> Self {
        Self { parts }
    }

    /// Appends parts.
    #[must_use]
    pub fn then(mut self, more: Self) -> Self {
        self.parts.extend(more.parts);
        self
    }

    /// Writes the text in a door's words; a flag that the door has no name for is written as it is typed.
    #[must_use]
    pub fn render(&self, vocabulary: &dyn FlagNames) -> String {
        self.parts.iter().map(|part| part.render(vocabulary).unwrap_or_else(|| part.typed())).collect()
    }

    /// Writes the text in a door's words; `None` if it is about something that the door does not have.
    #[must_use]
    pub fn render_whole(&self, vocabulary: &dyn FlagNames) -> Option<String> {
        self.parts.iter().map(|part| part.render(vocabulary)).collect()
    }
}

impl MessagePart {
    /// Mentions flags of which any one is enough.
    pub fn any_of<M: Into<Mention>>(mentions: impl IntoIterator<Item = M>) -> Self {
        Self::Flags { mentions: mentions.into_iter().map(Into::into).collect(), between: " or " }
    }

    /// Lists flags.
    pub fn list_of<M: Into<Mention>>(mentions: impl IntoIterator<Item = M>) -> Self {
        Self::Flags { mentions: mentions.into_iter().map(Into::into).collect(), between: ", " }
    }

    fn render(&self, vocabulary: &dyn FlagNames) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Flag(mention) => vocabulary.flag(mention),
            Self::Flags { mentions, between } => {
                let mut known: Vec<String> = Vec::new();
                for name in mentions.iter().filter_map(|mention| vocabulary.flag(mention)) {
                    // Two flags may be one setting of the door.
                    if !known.contains(&name) {
                        known.push(name);
                    }
                }
                Some(known.join(between)).filter(|text| !text.is_empty())
            }
            Self::Command(command) => vocabulary.command(command),
        }
    }

    fn typed(&self) -> String {
        self.render(&CommandLine).unwrap_or_default()
    }
}

impl fmt::Display for Message {
    /// Writes the text in the command line's words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(&CommandLine))
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self { parts: vec![MessagePart::Text(text)] }
    }
}

impl From<&str> for MessagePart {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for MessagePart {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Flag> for MessagePart {
    fn from(flag: Flag) -> Self {
        Self::Flag(flag.mention())
    }
}

impl From<Mention> for MessagePart {
    fn from(mention: Mention) -> Self {
        Self::Flag(mention)
    }
}

impl From<Flag> for Mention {
    fn from(flag: Flag) -> Self {
        flag.mention()
    }
}

/// Makes a [`Message`] of texts and flags: `message!(Flag::THIN, " cannot be used with a tar")`.
macro_rules! message {
    ($($part:expr),+ $(,)?) => {
        $crate::front::failure::Message::new(vec![$($crate::front::failure::MessagePart::from($part)),+])
    };
}
pub(in crate::front) use message;

/// Tests compare texts as the command line writes them.
#[cfg(test)]
impl PartialEq<&str> for Message {
    fn eq(&self, text: &&str) -> bool {
        self.to_string().as_str() == *text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A door that has two settings and no command line.
    #[derive(Debug)]
    struct Small;

    impl FlagNames for Small {
        fn flag(&self, mention: &Mention) -> Option<String> {
            let name = match (mention.flag, mention.sense) {
                (Flag::SYMLINKS, _) => "links",
                (Flag::IMAGE, Sense::Kind) => "kind: image",
                _ => return None,
            };
            let value = mention.value.as_ref().map(|value| format!(": {value}")).unwrap_or_default();
            Some(format!("`{name}{value}`"))
        }

        fn command(&self, _: &str) -> Option<String> {
            None
        }
    }

    #[test]
    fn a_flag_is_written_as_each_door_names_it() {
        let text = message!(Flag::SYMLINKS.with("keep"), " cannot be used with ", Flag::IMAGE.kind());
        assert_eq!(text.to_string(), "`--symlinks keep` cannot be used with `-i`");
        assert_eq!(text.render(&Small), "`links: keep` cannot be used with `kind: image`");
        assert_eq!(text.render_whole(&Small), Some(text.render(&Small)));
    }

    #[test]
    fn what_a_door_does_not_have_is_typed_in_a_message_and_makes_advice_void() {
        let text = message!("use ", Flag::IMAGE);
        assert_eq!(text.render(&Small), "use `--image`");
        assert_eq!(text.render_whole(&Small), None);
        let command = Message::new(vec!["run ".into(), MessagePart::Command("imgrelay version".to_owned())]);
        assert_eq!(command.to_string(), "run `imgrelay version`");
        assert_eq!(command.render_whole(&Small), None);
    }

    #[test]
    fn of_several_flags_a_door_names_those_it_has() {
        let text = message!(
            "works with ",
            MessagePart::any_of([Flag::SYMLINKS.with("copy"), Flag::FORCE.mention()])
        );
        assert_eq!(text.to_string(), "works with `--symlinks copy` or `--force`");
        assert_eq!(text.render(&Small), "works with `links: copy`");
        let none = message!("works with ", MessagePart::list_of([Flag::FORCE, Flag::THIN]));
        assert_eq!(none.render(&Small), "works with `--force`, `--thin`");
        assert_eq!(none.render_whole(&Small), None);
    }

    #[test]
    fn a_flag_is_spelt_as_it_was_given() {
        let mention = |spelling| Mention { spelling, ..Flag::LABELS.mention() };
        let shown = |spelling| message!(mention(spelling)).to_string();
        assert_eq!(shown(Spelling::Short), "`-l`");
        assert_eq!(shown(Spelling::Alias("label".to_owned())), "`--label`");
        let variable = Spelling::Variable("IMGRELAY_LABELS".to_owned());
        assert_eq!(shown(variable), "environment variable `IMGRELAY_LABELS`");
    }
}

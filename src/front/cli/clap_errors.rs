//! Turns errors of the command-line parser into failures: what was typed, what was expected, which help to read.

use std::error::Error as _;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::environment::FromEnv;
use super::habits;
use crate::front::failure::{Failure, Hint, Mention, Message, MessagePart, Spelling, message};
use crate::front::flag::Flag;
use crate::front::text;

/// Makes a failure from the error of a command's parser; `from_env` are the flags that came from variables.
pub(in crate::front) fn from_clap(
    error: &clap::Error,
    command: &clap::Command,
    words: &[OsString],
    from_env: &[FromEnv],
) -> Failure {
    let shown = one(error, ContextKind::InvalidArg).map(|shown| bare(&shown));
    let subject = shown.as_deref().map(|shown| subject(shown, command, words, from_env));
    let mut failure = Failure::misuse(message_of(error, subject, shown.as_deref()));
    let suggestions =
        [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue];
    if let Some(hint) = habit(error, shown.as_deref(), &command_path(command, words)) {
        failure = failure.hint(hint);
        // clap puts the likeliest last.
    } else if let Some(near) = suggestions.into_iter().find_map(|kind| many(error, kind).pop()) {
        failure = failure.hint(format!("did you mean `{}`?", bare(&near)));
    }
    failure.hint(Hint::command("see ", format!("{} --help", command_path(command, words)), ""))
}

/// Returns the hint for a word of another tool.
fn habit(error: &clap::Error, shown: Option<&str>, path: &str) -> Option<Hint> {
    match error.kind() {
        ErrorKind::UnknownArgument => match shown? {
            flag if flag.starts_with('-') => habits::flag(flag, path),
            argument => habits::argument(argument, path),
        },
        ErrorKind::InvalidSubcommand => habits::command(&one(error, ContextKind::InvalidSubcommand)?),
        _ => None,
    }
}

/// Names the subject of an error: a flag as it was typed, or the name of an argument.
fn subject(shown: &str, command: &clap::Command, words: &[OsString], from_env: &[FromEnv]) -> MessagePart {
    let Some(flag) = shown.strip_prefix("--").and_then(Flag::find) else {
        return MessagePart::Text(format!("`{shown}`"));
    };
    let spelling = match from_env.iter().find(|used| used.flag == flag.long()) {
        Some(used) => Spelling::Variable(used.variable.clone()),
        None => as_typed(flag, command, words),
    };
    MessagePart::Flag(Mention { spelling, ..flag.mention() })
}

fn message_of(error: &clap::Error, subject: Option<MessagePart>, shown: Option<&str>) -> Message {
    let value = one(error, ContextKind::InvalidValue).unwrap_or_default();
    let subject = subject.unwrap_or_else(|| MessagePart::Text(String::new()));
    match error.kind() {
        ErrorKind::UnknownArgument => match shown {
            Some(shown) if shown.starts_with('-') => message!("unknown flag ", subject),
            _ => message!("unexpected argument ", subject),
        },
        ErrorKind::InvalidSubcommand => {
            format!("unknown command `{}`", one(error, ContextKind::InvalidSubcommand).unwrap_or_default())
                .into()
        }
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            "no command was given".into()
        }
        ErrorKind::InvalidValue if value.is_empty() => message!(subject, " needs a value"),
        ErrorKind::InvalidValue => {
            let expected = text::quoted_list(many(error, ContextKind::ValidValue));
            message!(subject, format!(" cannot be `{value}`, expected one of {expected}"))
        }
        ErrorKind::ValueValidation => {
            let reason = error.source().map(ToString::to_string).unwrap_or_default();
            message!(subject, format!(" cannot be `{value}`: {reason}"))
        }
        ErrorKind::InvalidUtf8 => "an argument is not valid UTF-8".into(),
        ErrorKind::MissingRequiredArgument => {
            let missing = many(error, ContextKind::InvalidArg);
            format!("{} is missing", text::quoted_list(missing)).into()
        }
        ErrorKind::NoEquals => message!(subject, " needs a `=` before its value"),
        ErrorKind::TooManyValues => message!(format!("unexpected value `{value}` after "), subject),
        _ => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            first.strip_prefix("error: ").unwrap_or(first).into()
        }
    }
}

/// Returns the only, or the first, text of a context.
fn one(error: &clap::Error, kind: ContextKind) -> Option<String> {
    many(error, kind).into_iter().next().map(without_query)
}

/// Hides the query of a URL, which may be a secret.
fn without_query(mut text: String) -> String {
    if let Some(at) = text.find('?').filter(|_| text.contains("://")) {
        text.truncate(at);
        text.push_str("?…");
    }
    text
}

fn many(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    }
}

/// Cuts `--flag <VALUE>` and `--flag[=<VALUE>]` down to the flag, and `<NAME>` to the name.
fn bare(shown: &str) -> String {
    if shown.starts_with('-') {
        return shown.split([' ', '[', '=']).next().unwrap_or(shown).to_owned();
    }
    shown.trim_start_matches('<').trim_end_matches('>').to_owned()
}

/// Returns how a flag was typed: the parser knows only the first of several names.
fn as_typed(flag: Flag, root: &clap::Command, words: &[OsString]) -> Spelling {
    let is_typed = |name: &str| {
        let rest = words.iter().filter_map(|word| word.to_str()?.strip_prefix("--")?.strip_prefix(name));
        rest.into_iter().any(|rest| rest.is_empty() || rest.starts_with('='))
    };
    if is_typed(flag.long()) {
        return Spelling::Long;
    }
    let (_, command) = chosen(root, words);
    let arg = command.get_arguments().find(|arg| arg.get_long() == Some(flag.long()));
    let mut aliases = arg.and_then(clap::Arg::get_all_aliases).unwrap_or_default().into_iter();
    aliases.find(|alias| is_typed(alias)).map_or(Spelling::Long, |alias| Spelling::Alias(alias.to_owned()))
}

/// Names the command that was chosen: `imgrelay tag list`.
fn command_path(root: &clap::Command, words: &[OsString]) -> String {
    chosen(root, words).0
}

/// Finds the command that was chosen, as far as it was understood, with its whole name.
fn chosen<'a>(root: &'a clap::Command, words: &[OsString]) -> (String, &'a clap::Command) {
    let mut path = root.get_name().to_owned();
    let mut command = root;
    for word in words.iter().skip(1).filter_map(|word| word.to_str()) {
        if let Some(next) = command.find_subcommand(word) {
            path = format!("{path} {}", next.get_name());
            command = next;
        }
    }
    (path, command)
}

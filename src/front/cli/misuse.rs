//! The parser's errors in our words: what was typed, what was expected, where to read on.

use std::error::Error as _;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::environment::FromEnv;
use crate::front::failure::Failure;
use crate::front::text;

/// Makes a failure from a parser's error; `from_env` are the flags that came from variables.
pub(super) fn from_clap(error: &clap::Error, words: &[OsString], from_env: &[FromEnv]) -> Failure {
    let flag = one(error, ContextKind::InvalidArg).map(|shown| bare(&shown));
    let variable = flag
        .as_deref()
        .and_then(|flag| from_env.iter().find(|used| flag.strip_prefix("--") == Some(&used.flag)));
    let subject = match (&flag, variable) {
        (_, Some(used)) => format!("environment variable `{}`", used.variable),
        (Some(flag), None) => format!("`{}`", as_typed(flag, words)),
        (None, None) => String::new(),
    };
    let mut failure = Failure::misuse(message(error, &subject, flag.as_deref()));
    let suggestions =
        [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue];
    // clap puts the likeliest last.
    if let Some(near) = suggestions.into_iter().find_map(|kind| many(error, kind).pop()) {
        failure = failure.hint(format!("did you mean `{}`?", bare(&near)));
    }
    failure.hint(format!("see `{} --help`", command_path(words)))
}

fn message(error: &clap::Error, subject: &str, flag: Option<&str>) -> String {
    let value = one(error, ContextKind::InvalidValue).unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument => match flag {
            Some(flag) if flag.starts_with('-') => format!("unknown flag {subject}"),
            _ => format!("unexpected argument {subject}"),
        },
        ErrorKind::InvalidSubcommand => {
            format!("unknown command `{}`", one(error, ContextKind::InvalidSubcommand).unwrap_or_default())
        }
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            "no command was given".to_owned()
        }
        ErrorKind::InvalidValue if value.is_empty() => format!("{subject} needs a value"),
        ErrorKind::InvalidValue => {
            let expected = text::quoted_list(many(error, ContextKind::ValidValue));
            format!("{subject} cannot be `{value}`, expected one of {expected}")
        }
        ErrorKind::ValueValidation => {
            let reason = error.source().map(ToString::to_string).unwrap_or_default();
            format!("{subject} cannot be `{value}`: {reason}")
        }
        ErrorKind::InvalidUtf8 => "an argument is not valid UTF-8".to_owned(),
        ErrorKind::MissingRequiredArgument => {
            let missing = many(error, ContextKind::InvalidArg);
            format!("{} is missing", text::quoted_list(missing))
        }
        ErrorKind::NoEquals => format!("{subject} needs a `=` before its value"),
        ErrorKind::TooManyValues => format!("unexpected value `{value}` after {subject}"),
        _ => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            first.strip_prefix("error: ").unwrap_or(first).to_owned()
        }
    }
}

/// Returns the only, or the first, text of a context.
fn one(error: &clap::Error, kind: ContextKind) -> Option<String> {
    many(error, kind).into_iter().next()
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

/// Returns a flag by the name that was typed: the parser knows only the first of several.
fn as_typed(flag: &str, words: &[OsString]) -> String {
    let is_typed = |name: &str| {
        let rest = words.iter().filter_map(|word| word.to_str()?.strip_prefix("--")?.strip_prefix(name));
        rest.into_iter().any(|rest| rest.is_empty() || rest.starts_with('='))
    };
    let Some(name) = flag.strip_prefix("--").filter(|name| !is_typed(name)) else { return flag.to_owned() };
    let (_, command) = chosen(words);
    let arg = command.get_arguments().find(|arg| arg.get_long() == Some(name));
    let mut aliases = arg.and_then(clap::Arg::get_all_aliases).unwrap_or_default().into_iter();
    aliases.find(|alias| is_typed(alias)).map_or_else(|| flag.to_owned(), |alias| format!("--{alias}"))
}

/// Names the command that was chosen: `imgrelay tag list`.
fn command_path(words: &[OsString]) -> String {
    chosen(words).0
}

/// Finds the command that was chosen, as far as it was understood, with its whole name.
fn chosen(words: &[OsString]) -> (String, clap::Command) {
    let root = super::command();
    let mut path = root.get_name().to_owned();
    let mut command = &root;
    for word in words.iter().skip(1).filter_map(|word| word.to_str()) {
        if let Some(next) = command.find_subcommand(word) {
            path = format!("{path} {}", next.get_name());
            command = next;
        }
    }
    (path, command.clone())
}

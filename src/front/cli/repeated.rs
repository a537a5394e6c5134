//! Flags that take one value and were given more than once.
//!
//! The parser would use the last one without a message, and ignore the others. Empty values count as
//! not given here too: a template may pass `--flag=` before the real one.

use std::ffi::{OsStr, OsString};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::grammar::{each_argument, is_switch};
use crate::front::failure::{Failure, Hint, Message, MessagePart, message};
use crate::front::flag::Flag;

/// Makes the parser keep every value of every flag, in all commands.
pub(in crate::front) fn collecting(command: Command) -> Command {
    let is_single = |arg: &Arg| arg.get_long().is_some() && matches!(arg.get_action(), ArgAction::Set);
    each_argument(command, &|arg| if is_single(&arg) { arg.action(ArgAction::Append) } else { arg })
}

/// Refuses flags with two values where `command` takes one; `typed` was parsed by [`collecting`] flags.
///
/// Returns the flags that were given more than once without harm: with empty values, or a switch with the same value.
/// Errors: misuse that names the flag, with the hint what to use. Values are not shown: some are secrets.
pub(in crate::front) fn refuse(command: &Command, typed: &ArgMatches) -> Result<Vec<Arg>, Failure> {
    let mut harmless = Vec::new();
    for arg in command.get_arguments().filter(|arg| matches!(arg.get_action(), ArgAction::Set)) {
        let id = arg.get_id().as_str();
        let is_typed = matches!(typed.value_source(id), Some(ValueSource::CommandLine));
        let Some(long) = arg.get_long().filter(|_| is_typed) else { continue };
        let all: Vec<&OsStr> = typed.get_raw(id).into_iter().flatten().collect();
        let given: Vec<&&OsStr> = all.iter().filter(|value| !value.is_empty()).collect();
        let same = given.windows(2).all(|two| matches!(two, [one, other] if one == other));
        if given.len() > 1 && !(is_switch(arg) && same) {
            return Err(twice(long, given.len(), command.get_name()));
        }
        if all.len() > 1 {
            harmless.push(arg.clone());
        }
    }
    if let Some((name, typed)) = typed.subcommand()
        && let Some(command) = command.find_subcommand(name)
    {
        harmless.extend(refuse(command, typed)?);
    }
    Ok(harmless)
}

/// Refuses a flag of all commands that has one value before the command and another one after it.
///
/// The parser gives the last value to both places, so the words are parsed again with a flag for each place, if one of
/// these flags is in them more than once.
pub(in crate::front) fn refuse_around(command: &Command, words: &[OsString]) -> Result<(), Failure> {
    let is_single = |arg: &&Arg| arg.is_global_set() && matches!(arg.get_action(), ArgAction::Set);
    let mentioned = |arg: &&Arg| words.iter().filter(|word| names(arg, word)).count() > 1;
    let flags: Vec<Arg> = command.get_arguments().filter(is_single).filter(mentioned).cloned().collect();
    if flags.is_empty() {
        return Ok(());
    }
    let apart = |arg: Arg| arg.global(false).action(ArgAction::Append);
    let global: Vec<Arg> =
        command.get_arguments().filter(|arg| arg.is_global_set()).cloned().map(apart).collect();
    let own = command.clone().mut_args(|arg| if arg.is_global_set() { apart(arg) } else { arg });
    // The parser of the command line reports mistakes elsewhere.
    let Ok(typed) = collecting(with_arguments(own, &global)).try_get_matches_from(words) else {
        return Ok(());
    };
    for arg in flags {
        let (mut given, mut place, mut last) = (Vec::new(), Some(&typed), command.get_name());
        while let Some(typed) = place {
            let is_typed = typed.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
            let values = typed.get_raw(arg.get_id().as_str()).into_iter().flatten();
            given.extend(values.filter(|value| is_typed && !value.is_empty()));
            place = typed.subcommand().map(|(name, typed)| {
                last = name;
                typed
            });
        }
        let same = given.windows(2).all(|two| matches!(two, [one, other] if one == other));
        if let (Some(long), 2.., false) = (arg.get_long(), given.len(), is_switch(&arg) && same) {
            return Err(twice(long, given.len(), last));
        }
    }
    Ok(())
}

/// Tells whether a word is this flag, perhaps with its value.
fn names(arg: &Arg, word: &OsString) -> bool {
    let Some(word) = word.to_str() else { return false };
    let name = word.split_once('=').map_or(word, |(name, _)| name);
    let is_short = arg.get_short().is_some_and(|short| name == format!("-{short}"));
    is_short || name.strip_prefix("--").is_some_and(|name| Some(name) == arg.get_long())
}

/// Gives arguments to all commands below a command.
fn with_arguments(command: Command, arguments: &[Arg]) -> Command {
    command.mut_subcommands(|command| with_arguments(command.args(arguments), arguments))
}

/// Removes the empty values of flags from a command line.
pub(in crate::front) fn without_empty(words: &[OsString], flags: &[Arg]) -> Vec<OsString> {
    let mut names: Vec<String> = Vec::new();
    for flag in flags {
        names.extend(flag.get_short().map(|short| format!("-{short}")));
        let aliases = flag.get_all_aliases().unwrap_or_default();
        names.extend(flag.get_long().into_iter().chain(aliases).map(|long| format!("--{long}")));
    }
    let is_name = |word: &OsString| word.to_str().is_some_and(|word| names.iter().any(|name| name == word));
    let is_empty = |word: &OsString| {
        let name = word.to_str().and_then(|word| word.strip_suffix('='));
        name.is_some_and(|word| names.iter().any(|name| name == word))
    };
    let mut kept = Vec::new();
    let mut rest = words.iter().peekable();
    while let Some(word) = rest.next() {
        if is_empty(word) {
            continue;
        }
        if is_name(word) && rest.next_if(|next| next.is_empty()).is_some() {
            continue;
        }
        kept.push(word.clone());
    }
    kept
}

fn twice(long: &str, count: usize, command: &str) -> Failure {
    let flag = Flag::find(long).map_or_else(|| MessagePart::Text(format!("`--{long}`")), |flag| flag.into());
    let times = if count == 2 { "twice".to_owned() } else { format!("{count} times") };
    Failure::misuse(message!(flag, format!(" is given {times}, but takes one value")))
        .hint(instead(long, command))
}

/// Returns the hint for several values.
fn instead(long: &str, command: &str) -> Hint {
    let is_source = ["tar", "oci-tar", "image", "bundle", "lock"].contains(&long);
    match command {
        "copy" if is_source => Hint::Text(Message::new(vec![
            MessagePart::Command("imgrelay index".to_owned()),
            " joins images of several platforms into one; ".into(),
            Flag::APPEND.into(),
            " collects others in one tar, one copy after the other".into(),
        ])),
        "copy" if long.starts_with("to-") => "copy to one place after the other".into(),
        "push" if long == "platform" => {
            Hint::command("push each platform into a tar, and join them with ", "imgrelay index", "")
        }
        _ if is_source => "run the command once for each".into(),
        _ => "give it once".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::program;

    fn check(words: &[&str]) -> Result<Vec<OsString>, String> {
        let words: Vec<OsString> =
            std::iter::once("imgrelay").chain(words.iter().copied()).map(Into::into).collect();
        let typed = collecting(program::command()).try_get_matches_from(&words).unwrap();
        let harmless =
            refuse_around(&program::command(), &words).and_then(|()| refuse(&program::command(), &typed));
        let harmless = harmless.map_err(|failure| failure.render(false))?;
        Ok(without_empty(&words, &harmless).into_iter().skip(1).collect())
    }

    #[test]
    fn one_value_given_twice_is_misuse_with_the_command_for_several() {
        for (words, expected) in [
            (&["copy", "--tar", "a", "--tar=b", "--to-oci-tar", "c"][..], "`--tar` is given twice"),
            (&["copy", "-i", "a", "-i", "b", "--image=c", "--to-tar", "c"], "`--image` is given 3 times"),
            (&["pull", "--tar", "a", "--tar", "a", "-o", "x"], "`--tar` is given twice"),
            (&["push", "-i", "a", "-f", "x", "--platform=a/b", "--platform=a/c"], "`imgrelay index`"),
            (&["copy", "--thin", "--thin=false", "-b", "a", "--to-tar", "c"], "`--thin` is given twice"),
            (&["copy", "-b", "a", "--to-repo", "x", "--to-repo", "y"], "one place after the other"),
            (&["tag", "resolve", "-i", "a", "-i", "b"], "`--image` is given twice"),
            (&["--progress", "plain", "version", "--progress", "none"], "`--progress` is given twice"),
            (&["--json", "tag", "list", "--json=false"], "`--json` is given twice"),
        ] {
            let failure = check(words).unwrap_err();
            assert!(failure.contains(expected), "{words:?}: {failure}");
        }
        let failure = check(&["copy", "--tar", "a", "--tar", "b", "--to-tar", "c"]).unwrap_err();
        for text in ["`imgrelay index`", "`--append`"] {
            assert!(failure.contains(text), "{failure}");
        }
    }

    #[test]
    fn empty_values_equal_switches_and_lists_are_no_harm() {
        for (words, expected) in [
            (
                &["copy", "--tar", "", "--tar", "b", "--to-tar", "c"][..],
                &["copy", "--tar", "b", "--to-tar", "c"][..],
            ),
            (&["copy", "--tar=b", "--tar=", "--to-tar", "c"], &["copy", "--tar=b", "--to-tar", "c"]),
            (&["copy", "--thin", "--thin=true", "-b", "a"], &["copy", "--thin", "--thin=true", "-b", "a"]),
            (&["push", "-f", "a", "-f", "b", "-i", "x"], &["push", "-f", "a", "-f", "b", "-i", "x"]),
            (&["--json", "tag", "list", "--json"], &["--json", "tag", "list", "--json"]),
            (&["--progress", "none", "version"], &["--progress", "none", "version"]),
            (&["index", "--tar", "a", "--tar", "b"], &["index", "--tar", "a", "--tar", "b"]),
            (
                &["copy", "--tag", "a", "--tag", "b", "--tar", ""],
                &["copy", "--tag", "a", "--tag", "b", "--tar", ""],
            ),
        ] {
            let expected: Vec<OsString> = expected.iter().map(OsString::from).collect();
            assert_eq!(check(words), Ok(expected), "{words:?}");
        }
    }
}

//! Changes to flags that clap's derive cannot express: switches with an optional value, and paths that may be empty.

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};

use super::args::SWITCH;

/// Gives every switch its form `--flag[=true|false]`, and lets every path be empty, in all commands.
pub(in crate::front) fn prepare(command: clap::Command) -> clap::Command {
    let switches =
        each_switch(command, &|arg| arg.num_args(0..=1).require_equals(true).default_missing_value("true"));
    empty_paths(switches)
}

/// Takes empty paths, which clap refuses: they mean that the flag was not given.
fn empty_paths(command: clap::Command) -> clap::Command {
    let is_path = |arg: &clap::Arg| arg.get_value_parser().type_id() == std::any::TypeId::of::<PathBuf>();
    let parser = || OsStringValueParser::new().map(PathBuf::from);
    let command = command.mut_args(|arg| if is_path(&arg) { arg.value_parser(parser()) } else { arg });
    command.mut_subcommands(empty_paths)
}

/// Shows switches as plain `--flag`: what is after the name matters to old scripts only, not to readers.
pub(in crate::front) fn plain_switches(command: clap::Command) -> clap::Command {
    each_switch(command, &|arg| arg.num_args(0).action(clap::ArgAction::SetTrue))
}

fn each_switch(command: clap::Command, change: &dyn Fn(clap::Arg) -> clap::Arg) -> clap::Command {
    let is_switch = |arg: &clap::Arg| {
        arg.get_value_names().is_some_and(|names| names.iter().any(|name| name.as_str() == SWITCH))
    };
    let command = command.mut_args(|arg| if is_switch(&arg) { change(arg) } else { arg });
    command.mut_subcommands(|command| each_switch(command, change))
}

//! Changes to flags that clap's derive cannot express: switches with an optional value, and paths that may be empty.

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};

use super::args::SWITCH;

/// Gives every switch its form `--flag[=true|false]`, and lets every path be empty, in all commands.
pub(in crate::front) fn prepare(command: clap::Command) -> clap::Command {
    each_argument(command, &|arg| {
        if is_switch(&arg) {
            arg.num_args(0..=1).require_equals(true).default_missing_value("true")
        } else if arg.get_value_parser().type_id() == std::any::TypeId::of::<PathBuf>() {
            // clap refuses empty paths; here they mean that the flag was not given.
            arg.value_parser(OsStringValueParser::new().map(PathBuf::from))
        } else {
            arg
        }
    })
}

/// Shows switches as plain `--flag`: only old scripts give them a value.
pub(in crate::front) fn plain_switches(command: clap::Command) -> clap::Command {
    each_argument(command, &|arg| {
        if is_switch(&arg) { arg.num_args(0).action(clap::ArgAction::SetTrue) } else { arg }
    })
}

/// Changes the arguments of a command and of all below it.
pub(super) fn each_argument(
    command: clap::Command,
    change: &dyn Fn(clap::Arg) -> clap::Arg,
) -> clap::Command {
    command.mut_args(change).mut_subcommands(|command| each_argument(command, change))
}

/// Tells whether a flag is on or off; its value name marks it.
pub(super) fn is_switch(arg: &clap::Arg) -> bool {
    arg.get_value_names().is_some_and(|names| names.iter().any(|name| name.as_str() == SWITCH))
}

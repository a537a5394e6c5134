//! The command line: from words to a command that runs, and its exit.
//!
//! Two steps, as ripgrep does it: [`args`] is what was typed, [`resolve`] what it means. A command is registered
//! here only when it works.

pub mod args;
mod completion;
mod copy;
mod describe;
pub mod environment;
mod gathering;
mod misuse;
mod pull;
mod push;
pub mod resolve;
mod sources;
mod tag;
pub mod values;
mod verify;
mod version;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use super::env::Env;
use super::failure::Failure;
use super::outputs::Outcome;
use super::signals;
use super::ui::{Settings, Ui};
use args::SWITCH;

/// Builds container images without a registry, relays them as one tar, pushes them later
#[derive(Debug, Parser)]
#[command(
    name = "imgrelay",
    version,
    max_term_width = 80,
    args_override_self = true,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    after_help = "Every flag can be given as environment variable IMGRELAY_<FLAG>.\n\nExit codes: 0 done, 1 refused or failed, \
                  2 misuse, 3 difference found, 4 remote kept failing, 70 bug."
)]
struct Cli {
    #[command(flatten)]
    globals: args::Globals,
    #[command(subcommand)]
    command: Verb,
}

/// The commands; those with flags are described beside their flags.
#[derive(Debug, Subcommand)]
enum Verb {
    Push(Box<args::PushArgs>),
    Copy(Box<args::CopyArgs>),
    Pull(Box<args::PullArgs>),
    Describe(Box<args::DescribeArgs>),
    Verify(args::VerifyArgs),
    /// Look at and change the tags of a repository
    #[command(subcommand)]
    Tag(TagVerb),
    Delete(Box<args::DeleteArgs>),
    #[command(after_help = completion::EXAMPLES)]
    Completion(args::CompletionArgs),
    /// Print the version
    Version,
}

/// The commands of `tag`.
#[derive(Debug, Subcommand)]
enum TagVerb {
    #[command(visible_alias = "ls")]
    List(Box<args::TagListArgs>),
    Resolve(Box<args::TagResolveArgs>),
    Add(Box<args::TagAddArgs>),
    Delete(Box<args::TagDeleteArgs>),
}

/// What a command runs with.
#[derive(Debug)]
pub struct Context<'a> {
    /// The environment.
    pub env: &'a Env,
    /// Where text goes; shared with what the registry client tells from its threads.
    pub ui: Arc<Ui>,
}

/// Returns the whole command line, for help, completion and the list of variables.
#[must_use]
pub fn command() -> clap::Command {
    prepare(Cli::command())
}

/// Gives every switch its form `--flag[=true|false]`, and lets every path be empty, in all commands.
pub(crate) fn prepare(command: clap::Command) -> clap::Command {
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
fn plain_switches(command: clap::Command) -> clap::Command {
    each_switch(command, &|arg| arg.num_args(0).action(clap::ArgAction::SetTrue))
}

fn each_switch(command: clap::Command, change: &dyn Fn(clap::Arg) -> clap::Arg) -> clap::Command {
    let is_switch = |arg: &clap::Arg| {
        arg.get_value_names().is_some_and(|names| names.iter().any(|name| name.as_str() == SWITCH))
    };
    let command = command.mut_args(|arg| if is_switch(&arg) { change(arg) } else { arg });
    command.mut_subcommands(|command| each_switch(command, change))
}

/// What parsing ended in.
enum Parsed {
    /// A command to run.
    Run(Box<Cli>),
    /// Text the user asked for.
    Show(String),
}

/// Runs the command line; what went wrong is printed already when the failure comes back.
pub fn run(words: Vec<OsString>, env: &Env) -> Result<(), Failure> {
    let fallback = || Ui::new(&Settings::default(), env);
    let cli = match parse(words, env) {
        Ok(Parsed::Run(cli)) => *cli,
        Ok(Parsed::Show(text)) => return fallback().print(&text),
        Err(failure) => {
            fallback().failure(&failure);
            return Err(failure);
        }
    };
    let settings = match resolve::settings(&cli.globals) {
        Ok(settings) => settings,
        Err(failure) => {
            fallback().failure(&failure);
            return Err(failure);
        }
    };
    let ui = Arc::new(Ui::new(&settings, env));
    let context = Context { env, ui: Arc::clone(&ui) };
    let result = dispatch(&context, cli.command, settings.json)
        .and_then(|outcome| ui.outcome(&outcome))
        .map_err(signals::explain);
    if let Err(failure) = &result {
        ui.failure(failure);
    }
    result
}

fn dispatch(context: &Context<'_>, verb: Verb, json: bool) -> Result<Outcome, Failure> {
    match verb {
        Verb::Push(args) => push::run(context, &args),
        Verb::Copy(args) => copy::run(context, &args),
        Verb::Pull(args) => pull::run(context, &args),
        Verb::Describe(args) => describe::run(context, &args, json),
        Verb::Verify(args) => verify::run(context, &args),
        Verb::Tag(TagVerb::List(args)) => tag::list(context, &args),
        Verb::Tag(TagVerb::Resolve(args)) => tag::resolve(context, &args),
        Verb::Tag(TagVerb::Add(args)) => tag::add(context, &args),
        Verb::Tag(TagVerb::Delete(args)) => tag::delete(context, &args),
        Verb::Delete(args) => tag::delete_images(context, &args),
        Verb::Completion(args) => Ok(completion::run(&args)),
        Verb::Version => Ok(version::run()),
    }
}

/// Parses the words twice: first alone, to learn what was typed, then with the environment behind them.
fn parse(mut words: Vec<OsString>, env: &Env) -> Result<Parsed, Failure> {
    // Messages and help name the tool, not the path it was called by.
    match words.first_mut() {
        Some(name) => *name = "imgrelay".into(),
        None => words.push("imgrelay".into()),
    }
    let typed = match command().try_get_matches_from(&words) {
        Ok(typed) => typed,
        Err(error) => {
            return match error.kind() {
                ErrorKind::DisplayVersion => Ok(Parsed::Show(version::line())),
                ErrorKind::DisplayHelp => Ok(Parsed::Show(help(&words, &error))),
                _ => Err(misuse::from_clap(&error, &words, &[])),
            };
        }
    };
    environment::refuse_unknown(&command(), env)?;
    let (command, from_env) = environment::apply(command(), &typed, env);
    let matches =
        command.try_get_matches_from(&words).map_err(|error| misuse::from_clap(&error, &words, &from_env))?;
    let cli =
        Cli::from_arg_matches(&matches).map_err(|error| misuse::from_clap(&error, &words, &from_env))?;
    Ok(Parsed::Run(Box::new(cli)))
}

/// Returns the help text with switches shown plainly.
fn help(words: &[OsString], error: &clap::Error) -> String {
    let plain = plain_switches(Cli::command()).try_get_matches_from(words);
    match plain {
        Err(plain) if plain.kind() == ErrorKind::DisplayHelp => plain.to_string(),
        _ => error.to_string(),
    }
}

//! The command line: from words to a command that runs, and its exit.
//!
//! Two steps, as ripgrep does it: [`args`] is what was typed, [`resolve`] what it means. A command is registered
//! here only when it works.

pub mod args;
mod completion;
mod copy;
mod describe;
pub mod environment;
mod examples;
mod gathering;
mod matching;
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
use clap::{Args as _, CommandFactory, FromArgMatches, Parser, Subcommand};

use super::concourse::{self, Step};
use super::env::Env;
use super::failure::Failure;
use super::outputs::Document;
use super::outputs::Outcome;
use super::signals;
use super::ui::{Settings, Ui};
use crate::transfer::{AppRequest, PackRequest};
use args::SWITCH;
pub(in crate::front) use gathering::stored_roots;
pub(in crate::front) use push::references;
pub(in crate::front) use sources::only_root;

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
    Match(Box<args::MatchArgs>),
    /// Look at and change the tags of a repository
    #[command(subcommand)]
    Tag(TagVerb),
    Delete(Box<args::DeleteArgs>),
    /// Concourse: list the versions of a resource (request on standard input)
    Check,
    /// Concourse: fetch a version into FOLDER (request on standard input)
    In(args::StepArgs),
    /// Concourse: push what lies in FOLDER (request on standard input)
    Out(args::StepArgs),
    /// Concourse: build an image in a task, from params in the environment
    Task,
    #[command(after_help = completion::EXAMPLES)]
    Completion(completion::CompletionArgs),
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
    let door = Door {
        ui: &|settings| Ui::new(settings, env),
        confirmed: &|_| Ok(()),
        failed: &|ui, failure| ui.failure(failure),
    };
    run_behind(&door, words, env)
}

/// What another door does differently when it runs the command line.
pub(super) struct Door<'a> {
    /// Makes the streams.
    pub(super) ui: &'a dyn Fn(&Settings) -> Ui,
    /// Is called when the work is done, before the result is printed.
    pub(super) confirmed: &'a dyn Fn(&Outcome) -> Result<(), Failure>,
    /// Tells what went wrong.
    pub(super) failed: &'a dyn Fn(&Ui, &Failure),
}

/// Runs the command line behind a door.
pub(super) fn run_behind(door: &Door<'_>, words: Vec<OsString>, env: &Env) -> Result<(), Failure> {
    let fallback = || (door.ui)(&Settings::default());
    let early = |failure: &Failure| (door.failed)(&fallback(), failure);
    let cli = match parse(words, env).inspect_err(early)? {
        Parsed::Run(cli) => *cli,
        Parsed::Show(text) => return fallback().print(&text),
    };
    let settings = resolve::settings(&cli.globals).inspect_err(early)?;
    let ui = Arc::new((door.ui)(&settings));
    let context = Context { env, ui: Arc::clone(&ui) };
    let result = dispatch(&context, cli.command, settings.json)
        .and_then(|outcome| (door.confirmed)(&outcome).and_then(|()| ui.outcome(&outcome)))
        .map_err(signals::explain);
    if let Err(failure) = &result {
        (door.failed)(&ui, failure);
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
        Verb::Match(args) => matching::run(context, &args),
        Verb::Tag(TagVerb::List(args)) => tag::list(context, &args),
        Verb::Tag(TagVerb::Resolve(args)) => tag::resolve(context, &args),
        Verb::Tag(TagVerb::Add(args)) => tag::add(context, &args),
        Verb::Tag(TagVerb::Delete(args)) => tag::delete(context, &args),
        Verb::Delete(args) => tag::delete_images(context, &args),
        Verb::Check => step(context, &Step::Check),
        Verb::In(args) => step(context, &Step::In(args.folder)),
        Verb::Out(args) => step(context, &Step::Out(args.folder)),
        Verb::Task => concourse::task::run(context),
        Verb::Completion(args) => Ok(completion::run(&args)),
        Verb::Version => Ok(version::run()),
    }
}

/// Runs a step of the Concourse protocol; its answer is JSON in any case.
fn step(context: &Context<'_>, step: &Step) -> Result<Outcome, Failure> {
    let json = concourse::answer(step, std::io::stdin().lock(), context.env, &context.ui)?;
    Ok(Outcome::Document(Document { text: format!("{json}\n"), json, failure: None }))
}

/// Parses the words twice: first alone, to learn what was typed, then with the environment behind them.
///
/// Most environments have no variable of ours; describing the command line again for them would take a third of
/// the time a short command lasts.
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
    let (matches, from_env) = if environment::has_ours(env) {
        environment::refuse_unknown(&command(), env)?;
        let (command, from_env) = environment::apply(command(), &typed, env);
        let matches = command.try_get_matches_from(&words);
        (matches.map_err(|error| misuse::from_clap(&error, &words, &from_env))?, from_env)
    } else {
        (typed, Vec::new())
    };
    let cli =
        Cli::from_arg_matches(&matches).map_err(|error| misuse::from_clap(&error, &words, &from_env))?;
    Ok(Parsed::Run(Box::new(cli)))
}

/// What is to be packed, of whichever kind.
#[derive(Debug)]
pub(in crate::front) enum PackWork {
    /// A bundle or an image.
    Plain(PackRequest),
    /// A source image.
    App {
        /// What is packed.
        request: AppRequest,
        /// The tar or folder with the earlier image.
        base: Option<PathBuf>,
    },
}

/// Resolves words of `push` into what is to be packed; without a destination, and with roots the caller replaces.
///
/// For front ends that say the same in their own words.
pub(in crate::front) fn pack_work(words: &[OsString], env: &Env) -> Result<PackWork, Failure> {
    let fixed = ["push", "--to-oci-tar=-", "--file=."].map(OsString::from);
    let command = prepare(args::PushArgs::augment_args(clap::Command::new("push")));
    let all: Vec<OsString> = fixed.iter().chain(words).cloned().collect();
    let args = command
        .try_get_matches_from(&all)
        .and_then(|matches| args::PushArgs::from_arg_matches(&matches))
        .map_err(|error| misuse::from_clap(&error, &all, &[]))?;
    push::work(resolve::push(&args, env)?)
}

/// Returns the help text with switches shown plainly.
fn help(words: &[OsString], error: &clap::Error) -> String {
    let plain = plain_switches(Cli::command()).try_get_matches_from(words);
    match plain {
        Err(plain) if plain.kind() == ErrorKind::DisplayHelp => plain.to_string(),
        _ => error.to_string(),
    }
}

//! The program: parses the command line of every door, runs the command and reports its result.
//!
//! There are two steps, as in ripgrep: [`args`] parses the words, [`resolve`] checks their values. Other doors run the
//! same commands with `run_behind`.

use std::ffi::OsString;
use std::sync::Arc;

use clap::error::ErrorKind;
use clap::{Args as _, CommandFactory, FromArgMatches, Parser, Subcommand};

use super::cli::{
    args, attach, cat, clap_errors, completion, copy, describe, diff, diff_args, environment, grammar, index,
    index_args, look_args, ls, matching, pull, push, repeated, resolve, serve, serve_args, sign, sign_args,
    store, store_args, tag, tag_args, verify, version,
};
use super::concourse::{self, Step};
use super::context::Context;
use super::env::Env;
use super::failure::{Failure, Vocabulary};
use super::flag::Flag;
use super::outcome::{Outcome, TextDocument};
use super::signals;
use super::ui::{Settings, Ui};
use crate::model::invisible::escape_in_json;

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

/// The commands; those with flags have their description beside the flags.
#[derive(Debug, Subcommand)]
enum Verb {
    Push(Box<args::PushArgs>),
    Copy(Box<args::CopyArgs>),
    Index(Box<index_args::IndexArgs>),
    Pull(Box<args::PullArgs>),
    Describe(Box<args::DescribeArgs>),
    Ls(Box<look_args::LsArgs>),
    Cat(Box<look_args::CatArgs>),
    Diff(Box<diff_args::DiffArgs>),
    Verify(Box<args::VerifyArgs>),
    Sign(Box<sign_args::SignArgs>),
    Serve(Box<serve_args::ServeArgs>),
    Attach(Box<sign_args::AttachArgs>),
    Match(Box<args::MatchArgs>),
    /// List the images of a store between jobs, and delete what is no longer used
    #[command(subcommand)]
    Store(StoreVerb),
    /// List, resolve, add and delete the tags of a repository
    #[command(subcommand)]
    Tag(TagVerb),
    Delete(Box<tag_args::DeleteArgs>),
    /// Concourse: list the versions of a resource (request on standard input)
    Check,
    /// Concourse: fetch a version into FOLDER (request on standard input)
    In(args::StepArgs),
    /// Concourse: push an image from FOLDER (request on standard input)
    Out(args::StepArgs),
    /// Concourse: build an image in a task, from params in the environment
    Task,
    #[command(after_help = completion::EXAMPLES)]
    Completion(completion::CompletionArgs),
    /// Print the version
    Version,
}

impl Verb {
    /// Returns the vocabulary of commands whose settings are no flags.
    fn vocabulary(&self) -> Option<&'static (dyn Vocabulary + Sync)> {
        match self {
            Self::Check | Self::In(_) | Self::Out(_) => Some(&concourse::PipelineWords),
            Self::Task => Some(&concourse::VariableNames),
            _ => None,
        }
    }
}

/// The commands of `store`.
#[derive(Debug, Subcommand)]
enum StoreVerb {
    #[command(visible_alias = "ls")]
    List(Box<store_args::StoreListArgs>),
    Gc(Box<store_args::StoreGcArgs>),
}

/// The commands of `tag`.
#[derive(Debug, Subcommand)]
enum TagVerb {
    #[command(visible_alias = "ls")]
    List(Box<tag_args::TagListArgs>),
    Resolve(Box<tag_args::TagResolveArgs>),
    Add(Box<tag_args::TagAddArgs>),
    Delete(Box<tag_args::TagDeleteArgs>),
}

/// Returns the whole command line, for help, completion and the list of variables.
#[must_use]
pub fn command() -> clap::Command {
    grammar::prepare(Cli::command())
}

/// Returns the command line as help shows it, with switches that take no value.
#[must_use]
pub fn help_command() -> clap::Command {
    grammar::plain_switches(Cli::command())
}

/// A command and the function that adds its flags.
type Described = (&'static str, fn(clap::Command) -> clap::Command);

/// The commands that scripts call most; [`called`] describes one of them alone.
const CALLED: [Described; 8] = [
    ("push", args::PushArgs::augment_args),
    ("copy", args::CopyArgs::augment_args),
    ("pull", args::PullArgs::augment_args),
    ("describe", args::DescribeArgs::augment_args),
    ("verify", args::VerifyArgs::augment_args),
    ("index", index_args::IndexArgs::augment_args),
    ("tag", TagVerb::augment_subcommands),
    ("version", |command| command),
];

/// Returns the command line without the commands that are not called, if the first word that is no flag is in
/// [`CALLED`].
///
/// Describing all of them is most of the cost of a small command. This one parses valid words as [`command`] does; help
/// and messages need the others too.
fn called(words: &[OsString]) -> Option<clap::Command> {
    let word = words.iter().skip(1).find(|word| !word.as_encoded_bytes().starts_with(b"-"))?;
    let (name, describe) = CALLED.iter().find(|(known, _)| word == known)?;
    let root = args::Globals::augment_args(clap::Command::new("imgrelay").args_override_self(true));
    Some(grammar::prepare(root.subcommand(describe(clap::Command::new(*name)))))
}

/// The result of parsing.
enum Parsed {
    /// A command to run, and a warning about the environment.
    Run(Box<Cli>, Option<String>),
    /// The text of `--help` or `--version`.
    Show(String),
}

/// Runs the command line; it prints a failure before it returns it.
pub fn run(words: Vec<OsString>, env: &Env) -> Result<(), Failure> {
    let door = Door {
        ui: &|settings| Ui::new(settings, env),
        confirmed: &|_| Ok(()),
        failed: &|ui, failure| ui.failure(failure),
    };
    run_behind(&door, words, env)
}

/// What another door replaces when it runs the command line.
pub(super) struct Door<'a> {
    /// Makes the streams.
    pub(super) ui: &'a dyn Fn(&Settings) -> Ui,
    /// Is called when the work is done, before the result is printed.
    pub(super) confirmed: &'a dyn Fn(&Outcome) -> Result<(), Failure>,
    /// Reports a failure.
    pub(super) failed: &'a dyn Fn(&Ui, &Failure),
}

/// Runs the command line behind a door.
pub(super) fn run_behind(door: &Door<'_>, words: Vec<OsString>, env: &Env) -> Result<(), Failure> {
    // Errors of the words themselves are found before `--json` is.
    let early_settings = Settings { json: wants_json(&words, env), ..Settings::default() };
    let to_stdout = takes_stdout(&words);
    let fallback = || (door.ui)(&early_settings);
    let early = |failure: &Failure| (door.failed)(&fallback(), failure);
    let (cli, warning) = match parse(words, env).inspect_err(early)? {
        Parsed::Run(cli, warning) => (*cli, warning),
        Parsed::Show(text) => return fallback().print(&text),
    };
    let settings = resolve::settings(&cli.globals).inspect_err(early)?;
    let ui = (door.ui)(&settings);
    let ui = Arc::new(match cli.command.vocabulary() {
        Some(vocabulary) if matches!(cli.command, Verb::Task) => ui.naming(vocabulary),
        Some(vocabulary) => ui.speaking(vocabulary),
        None if to_stdout => ui.without_json_errors(),
        None => ui,
    });
    warning.iter().for_each(|line| ui.warning(line));
    let context = Context { env, ui: Arc::clone(&ui) };
    let result = dispatch(&context, cli.command, settings.json, &cli.globals.column)
        .and_then(|outcome| (door.confirmed)(&outcome).and_then(|()| ui.outcome(&outcome)))
        .map_err(signals::explain);
    if let Err(failure) = &result {
        (door.failed)(&ui, failure);
    }
    result
}

/// Tells whether the arguments, which may be invalid, have `--json`.
fn wants_json(words: &[OsString], env: &Env) -> bool {
    let ours = words
        .iter()
        .take_while(|word| *word != "--")
        .filter_map(|word| word.to_str()?.strip_prefix("--json"));
    match ours.last() {
        Some(value) => matches!(value, "" | "=true"),
        None => env.text(&Flag::JSON.variable()) == Some("true"),
    }
}

/// Tells whether a tar goes to standard output.
fn takes_stdout(words: &[OsString]) -> bool {
    let flag = format!("--{}", Flag::TO_OCI_TAR.long());
    let joined = format!("{flag}=-");
    words.windows(2).any(|two| matches!(two, [name, value] if *name == *flag && value == "-"))
        || words.iter().any(|word| *word == *joined)
}

fn dispatch(context: &Context<'_>, verb: Verb, json: bool, columns: &[String]) -> Result<Outcome, Failure> {
    match verb {
        Verb::Push(args) => push::run(context, &args),
        Verb::Copy(args) => copy::run(context, &args),
        Verb::Index(args) => index::run(context, &args),
        Verb::Pull(args) => pull::run(context, &args),
        Verb::Describe(args) => describe::run(context, &args, json),
        Verb::Ls(args) => ls::run(context, &args, json),
        Verb::Diff(args) => diff::run(context, &args, json),
        Verb::Cat(args) => cat::run(context, &args, json),
        Verb::Verify(args) => verify::run(context, &args),
        Verb::Attach(args) => attach::run(context, &args),
        Verb::Sign(args) => sign::run(context, &args),
        Verb::Serve(args) => serve::run(context, &args, json),
        Verb::Match(args) => matching::run(context, &args),
        Verb::Store(StoreVerb::List(args)) => store::list(context, &args),
        Verb::Store(StoreVerb::Gc(args)) => store::collect(context, &args),
        Verb::Tag(TagVerb::List(args)) => tag::list(context, &args, columns, json),
        Verb::Tag(TagVerb::Resolve(args)) => tag::resolve(context, &args),
        Verb::Tag(TagVerb::Add(args)) => tag::add(context, &args),
        Verb::Tag(TagVerb::Delete(args)) => tag::delete(context, &args),
        Verb::Delete(args) => tag::delete_images(context, &args),
        Verb::Check => step(context, &Step::Check),
        Verb::In(args) => step(context, &Step::In(args.folder)),
        Verb::Out(args) => step(context, &Step::Out(args.folder)),
        Verb::Task => concourse::task::run(context),
        Verb::Completion(args) => Ok(completion::run(&args, help_command())),
        Verb::Version => Ok(version::run()),
    }
}

/// Runs a step of the Concourse protocol; its response is always JSON.
fn step(context: &Context<'_>, step: &Step) -> Result<Outcome, Failure> {
    let json = concourse::respond(step, std::io::stdin().lock(), context.env, &context.ui)?;
    let text = format!("{}\n", escape_in_json(&json.to_string()));
    Ok(Outcome::Document(TextDocument::new(text, json)))
}

/// Parses the arguments twice: first alone, to learn which flags were typed, then with the environment as defaults.
///
/// Without `IMGRELAY_` variables and without a mistake, [`parse_called`] is enough.
fn parse(mut words: Vec<OsString>, env: &Env) -> Result<Parsed, Failure> {
    // Messages and help have the tool's name, not the path that it was called by.
    match words.first_mut() {
        Some(name) => *name = "imgrelay".into(),
        None => words.push("imgrelay".into()),
    }
    if !environment::has_ours(env)
        && let Some(cli) = parse_called(&words)
    {
        return Ok(Parsed::Run(Box::new(cli), None));
    }
    let grammar = command();
    let typed = match repeated::collecting(grammar.clone()).try_get_matches_from(&words) {
        Ok(typed) => typed,
        Err(error) => {
            return match error.kind() {
                ErrorKind::DisplayVersion => Ok(Parsed::Show(version::line())),
                ErrorKind::DisplayHelp => Ok(Parsed::Show(help(&words, &error))),
                _ => Err(clap_errors::from_clap(&error, &grammar, &words, &[])),
            };
        }
    };
    repeated::refuse_around(&grammar, &words)?;
    let harmless = repeated::refuse(&grammar, &typed)?;
    let words = repeated::without_empty(&words, &harmless);
    let mut warning = None;
    let (matches, from_env) = if environment::has_ours(env) || !harmless.is_empty() {
        warning = environment::unknown(&grammar, env);
        environment::refuse_two_names(&grammar, &typed, env)?;
        let (with_defaults, from_env) = environment::apply(grammar, &typed, env);
        let matches = with_defaults.try_get_matches_from(&words);
        (matches.map_err(|error| clap_errors::from_clap(&error, &command(), &words, &from_env))?, from_env)
    } else {
        (typed, Vec::new())
    };
    let cli = Cli::from_arg_matches(&matches)
        .map_err(|error| clap_errors::from_clap(&error, &command(), &words, &from_env))?;
    Ok(Parsed::Run(Box::new(cli), warning))
}

/// Parses arguments without a mistake and with each value once; returns `None` for all others.
fn parse_called(words: &[OsString]) -> Option<Cli> {
    let grammar = called(words)?;
    let typed = repeated::collecting(grammar.clone()).try_get_matches_from(words).ok()?;
    repeated::refuse_around(&grammar, words).ok()?;
    let harmless = repeated::refuse(&grammar, &typed).ok()?;
    if harmless.is_empty() { Cli::from_arg_matches(&typed).ok() } else { None }
}

/// Returns the help text with switches shown plainly.
fn help(words: &[OsString], error: &clap::Error) -> String {
    let plain = help_command().try_get_matches_from(words);
    match plain {
        Err(plain) if plain.kind() == ErrorKind::DisplayHelp => plain.to_string(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::result_file;

    #[test]
    fn written_dotenv_keys_are_no_flags_variables() {
        let push = args::PushArgs::augment_args(clap::Command::new("push"));
        let copy = args::CopyArgs::augment_args(clap::Command::new("copy"));
        let pull = args::PullArgs::augment_args(clap::Command::new("pull"));
        let known = environment::known(&command().subcommands([push, copy, pull]));
        assert!(known.contains_key("IMGRELAY_TO_REPO"));
        for key in result_file::DOTENV_KEYS {
            assert!(!known.contains_key(*key), "a later job would read `{key}` as a flag");
        }
    }

    fn words(line: &str) -> Vec<OsString> {
        std::iter::once("imgrelay").chain(line.split(' ')).map(Into::into).collect()
    }

    /// A command that is described alone parses its arguments as the whole command line does.
    #[test]
    fn a_command_alone_parses_as_among_all_commands() {
        for line in [
            "push -i reg.example/a -f a -f b --to-oci-tar=x --inflate=false -q",
            "push -b -f a,b --tag c --tag=d --json",
            "copy --tar a --to-repo b --thin --progress plain --color",
            "pull -r -i a -o b --registry-retry-count 3",
            "describe --tar a -o yaml --layers=false --debug",
            "verify --tar a --key k --key l --tty -y",
            "index --tar a --tar b --to-oci-tar c",
            "tag list -i a --column name",
            "tag ls -i a",
            "-q version",
            "--progress=none --json describe --tar a",
        ] {
            let words = words(line);
            let alone = parse_called(&words).unwrap_or_else(|| panic!("{line} is not parsed alone"));
            let among = Cli::from_arg_matches(&command().try_get_matches_from(&words).unwrap()).unwrap();
            assert_eq!(format!("{alone:?}"), format!("{among:?}"), "{line}");
        }
    }

    #[test]
    fn mistakes_help_and_other_commands_take_the_whole_command_line() {
        for line in [
            "push --help",
            "--version",
            "version --version",
            "--progress none version",
            "vers",
            "version extra",
            "copy --tar a --tar b",
            "copy --tar= --tar b",
            "describe --colour",
            "describe --output-type=xml",
            "tag",
            "help",
            "check",
        ] {
            assert!(parse_called(&words(line)).is_none(), "{line}");
        }
        assert!(parse_called(&["imgrelay".into()]).is_none());
    }

    #[test]
    fn every_command_described_alone_is_a_command() {
        fn shape(command: &clap::Command, name: &str) -> String {
            let found = command.find_subcommand(name).expect("a command of the program");
            let below: Vec<String> = found.get_subcommands().map(|command| format!("{command:?}")).collect();
            format!("{:#?} {below:#?}", found.get_arguments().collect::<Vec<_>>())
        }
        let whole = command();
        for (name, _) in CALLED {
            let alone = called(&words(name)).expect("the name is in the table");
            assert_eq!(shape(&alone, name), shape(&whole, name));
        }
    }

    #[test]
    fn the_environment_page_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/environment.md");
        let page = environment::page(&command());
        if Env::of_process().text("UPDATE_DOCS").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            found == page,
            "docs/environment.md is not current; write it with UPDATE_DOCS=1 cargo test environment"
        );
    }
}

//! Every flag has an environment variable, `IMGRELAY_<FLAG>`, which is made from the flag.
//!
//! A variable is given to the parser as the flag's default value, so that it goes through the same checks as a
//! flag, and a typed flag has precedence. A list is split at line breaks or, if there are none, at commas.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;

use clap::builder::OsStr as ClapStr;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::args::SWITCH;
use crate::front::env::{self, Env};
use crate::front::failure::Failure;
use crate::front::result_file;
use crate::front::text;
use crate::model::list;

/// Flags that replace each other: if one is typed, variables of the others in its row are ignored.
///
/// Without this a variable could contradict a command line that is valid without it.
const ALTERNATIVES: [&[&str]; 13] = [
    &["thin", "inflate"],
    &["bundle", "image", "source", "lock", "tar", "oci-tar", "store"],
    &["to-repo", "to-oci-tar", "to-tar", "to-docker-tar", "to-store"],
    &["quiet", "debug"],
    &["registry-username", "registry-token"],
    &["registry-password", "registry-token"],
    &["registry-username", "registry-anon"],
    &["registry-password", "registry-anon"],
    &["registry-token", "registry-anon"],
    &["bundle", "select"],
    &["image", "select"],
    &["source", "select"],
    &["lock", "select"],
];

/// Variables with the prefix that are not read and give no warning.
const IGNORED: [&str; 1] = ["IMGRELAY_VERSION"];

/// A flag that got its value from a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FromEnv {
    /// The flag's name without dashes.
    pub flag: String,
    /// The variable.
    pub variable: String,
}

/// Gives every flag of the chosen command that was not typed its variable's value as default.
///
/// `typed` is the result of parsing the command line with the same command.
pub fn apply(command: Command, typed: &ArgMatches, env: &Env) -> (Command, Vec<FromEnv>) {
    let mut used = Vec::new();
    let command = apply_level(command, typed, env, &mut used);
    (command, used)
}

fn apply_level(mut command: Command, typed: &ArgMatches, env: &Env, used: &mut Vec<FromEnv>) -> Command {
    let is_typed =
        |arg: &Arg| matches!(typed.value_source(arg.get_id().as_str()), Some(ValueSource::CommandLine));
    let typed_flags: Vec<String> = command
        .get_arguments()
        .filter(|arg| is_typed(arg))
        .filter_map(|arg| arg.get_long().map(Into::into))
        .collect();
    let yields = |flag: &str| {
        let shadows = |row: &&[&str]| {
            row.contains(&flag) && row.iter().any(|other| typed_flags.iter().any(|typed| typed == other))
        };
        ALTERNATIVES.iter().any(shadows)
    };
    let mut values: BTreeMap<String, (String, OsString)> = BTreeMap::new();
    for arg in command.get_arguments().filter(|arg| !is_typed(arg)) {
        let Some(flag) = arg.get_long().filter(|flag| !yields(flag)) else { continue };
        if let Some((variable, value)) = lookup(arg, env) {
            used.push(FromEnv { flag: flag.to_owned(), variable });
            values.insert(arg.get_id().to_string(), (flag.to_owned(), value));
        }
    }
    for (id, (_, value)) in values {
        command = command.mut_arg(id, |arg| with_default(arg, &value));
    }
    match typed.subcommand() {
        Some((name, typed)) => command.mut_subcommand(name, |command| apply_level(command, typed, env, used)),
        None => command,
    }
}

/// Finds the variable of a flag that is set, and its value.
fn lookup(arg: &Arg, env: &Env) -> Option<(String, OsString)> {
    let mut names = variables(arg).into_iter();
    names.find_map(|name| {
        let value = env.os(&name).filter(|value| !is_of_another(arg, &name, value))?;
        Some((name.clone(), value.to_owned()))
    })
}

/// Tells whether a variable with the name of a flag means something else: an address that Kubernetes gives a Service
/// named `imgrelay`, or `--layers` of `push`, which is no switch as that of `describe` is.
fn is_of_another(arg: &Arg, name: &str, value: &OsStr) -> bool {
    let value = value.to_str().unwrap_or_default();
    let is_address = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let is_layers =
        name == variable("layers") && form(arg) != "text" && !["true", "false"].contains(&value.trim());
    (is_address && env::is_service_link(name)) || is_layers
}

fn with_default(arg: Arg, value: &OsStr) -> Arg {
    if matches!(arg.get_action(), ArgAction::Append) {
        let items: Vec<ClapStr> = split_list(value).into_iter().map(ClapStr::from).collect();
        // Split already: a comma inside a line belongs to the item.
        arg.value_delimiter(None).default_values(items)
    } else {
        use std::os::unix::ffi::OsStrExt;
        let bytes = value.as_bytes();
        let end = bytes.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |last| last + 1);
        let value = OsStr::from_bytes(bytes.get(..end).unwrap_or(bytes));
        arg.default_value(ClapStr::from(value.to_owned()))
    }
}

/// Splits a list at line breaks or, if there are none, at commas; items are trimmed, empty ones dropped.
fn split_list(value: &OsStr) -> Vec<OsString> {
    use std::os::unix::ffi::OsStrExt;
    let bytes = value.as_bytes();
    let separator = if bytes.contains(&b'\n') { b'\n' } else { b',' };
    let items = bytes.split(|byte| *byte == separator).map(<[u8]>::trim_ascii);
    items.filter(|item| !item.is_empty()).map(|item| OsStr::from_bytes(item).to_owned()).collect()
}

/// Returns the variables of a flag, the first one first; flags without a long name have none.
fn variables(arg: &Arg) -> Vec<String> {
    let visible = arg.get_visible_aliases().unwrap_or_default();
    let names = arg.get_long().into_iter().chain(visible);
    // `--help` and `--version` stop the command; a variable for them would break every run.
    let names = names.filter(|name| !matches!(*name, "help" | "version"));
    names.map(|name| variable_of(arg, name)).collect()
}

/// Returns the variable of one of a flag's names.
///
/// `--base-tar` of `push` is the image to build on, and of `copy` a list of what has the rest of a delta tar: a pipeline
/// that sets the variable for its push copies other images too.
fn variable_of(arg: &Arg, name: &str) -> String {
    match (name, arg.get_action()) {
        ("base-tar", ArgAction::Append) => variable("base-tars"),
        _ => variable(name),
    }
}

/// Returns the name of a flag's variable: `to-oci-tar` gives `IMGRELAY_TO_OCI_TAR`.
fn variable(flag: &str) -> String {
    format!("{}{}", env::PREFIX, flag.replace('-', "_").to_ascii_uppercase())
}

/// Tells whether any variable has the prefix.
#[must_use]
pub fn has_ours(env: &Env) -> bool {
    env.iter().any(|(name, _)| name.starts_with(env::PREFIX))
}

/// Returns a warning about variables with the prefix that belong to no flag: a misspelt one has no effect.
///
/// Other programs set variables too, so they are no error, and those that Kubernetes makes for a Service named
/// `imgrelay` are not mentioned.
#[must_use]
pub fn unknown(command: &Command, env: &Env) -> Option<String> {
    let known = known(command);
    let ours = |name: &str| {
        known.contains_key(name) || result_file::DOTENV_KEYS.contains(&name) || IGNORED.contains(&name)
    };
    let names = env.iter().map(|(name, _)| name);
    let unknown: Vec<&str> = names
        .filter(|name| name.starts_with(env::PREFIX) && !ours(name) && !env::is_service_link(name))
        .collect();
    // Without the prefix, which would make all names similar.
    let rest = |name: &'_ str| name.strip_prefix(env::PREFIX).unwrap_or(name).to_owned();
    let ends: Vec<String> = known.keys().map(|name| rest(name)).collect();
    let near = unknown.iter().take(list::SHOWN).find_map(|name| {
        // `IMGRELAY_PASSWORD` stands for the registry's, as other tools call it.
        let for_registry = format!("REGISTRY_{}", rest(name));
        let exact = ends.iter().find(|end| **end == for_registry).map(String::as_str);
        let ends = || ends.iter().map(String::as_str);
        let near = exact.or_else(|| text::nearest(&rest(name), ends()));
        near.or_else(|| text::begun(&rest(name), ends()))
    });
    let advice = match near {
        Some(near) => format!("did you mean `{}{near}`?", env::PREFIX),
        None => "`docs/environment.md` lists all variables".to_owned(),
    };
    match unknown.as_slice() {
        [] => None,
        [name] => Some(format!("environment variable `{name}` belongs to no flag; {advice}")),
        names => {
            Some(format!("environment variables {} belong to no flag; {advice}", text::quoted_list(names)))
        }
    }
}

/// Refuses two variables for one flag that takes one value, where they differ.
///
/// Errors: misuse that names both.
pub fn refuse_two_names(command: &Command, typed: &ArgMatches, env: &Env) -> Result<(), Failure> {
    for arg in command.get_arguments().filter(|arg| matches!(arg.get_action(), ArgAction::Set)) {
        if typed.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine) {
            continue;
        }
        let set: Vec<(String, &OsStr)> =
            variables(arg).into_iter().filter_map(|name| Some((name.clone(), env.os(&name)?))).collect();
        if let [(first, value), (second, other), ..] = set.as_slice()
            && value != other
        {
            return Err(Failure::misuse(format!(
                "environment variables `{first}` and `{second}` are the same flag, but differ"
            ))
            .hint("unset one of them"));
        }
    }
    match typed.subcommand() {
        Some((name, typed)) => match command.find_subcommand(name) {
            Some(command) => refuse_two_names(command, typed, env),
            None => Ok(()),
        },
        None => Ok(()),
    }
}

/// What a variable stands for.
#[derive(Debug, Default)]
pub(in crate::front) struct Known {
    flags: Vec<String>,
    commands: Vec<String>,
    meaning: String,
    form: &'static str,
}

/// Collects the variables of all flags of all commands.
pub(in crate::front) fn known(command: &Command) -> BTreeMap<String, Known> {
    let mut known = BTreeMap::new();
    collect(command, "", &mut known);
    known
}

fn collect(command: &Command, path: &str, known: &mut BTreeMap<String, Known>) {
    for arg in command.get_arguments().filter(|arg| !arg.is_global_set() || path.is_empty()) {
        for (index, variable) in variables(arg).into_iter().enumerate() {
            let entry: &mut Known = known.entry(variable).or_default();
            let visible = arg.get_visible_aliases().unwrap_or_default();
            let flag = arg.get_long().into_iter().chain(visible).nth(index).unwrap_or_default();
            let flag = format!("`--{flag}`");
            if !entry.flags.contains(&flag) {
                entry.flags.push(flag);
            }
            entry.commands.push(if arg.is_global_set() { "all".to_owned() } else { path.to_owned() });
            entry.form = form(arg);
            if entry.meaning.is_empty() {
                entry.meaning = arg.get_help().map(ToString::to_string).unwrap_or_default();
            }
        }
    }
    for subcommand in command.get_subcommands() {
        let name = subcommand.get_name();
        let path = if path.is_empty() { name.to_owned() } else { format!("{path} {name}") };
        collect(subcommand, &path, known);
    }
}

fn form(arg: &Arg) -> &'static str {
    let switch = arg.get_value_names().is_some_and(|names| names.iter().any(|name| name.as_str() == SWITCH));
    match arg.get_action() {
        ArgAction::Append => "list",
        _ if switch => "`true` or `false`",
        _ => "text",
    }
}

/// Writes `docs/environment.md`.
#[must_use]
pub fn page(command: &Command) -> String {
    let mut page = String::from(
        "# Environment variables\n\n\
         Every flag can be given as `IMGRELAY_<FLAG>`; a flag on the command line beats its variable. An empty \
         variable is the\nsame as none. When one of several flags that exclude each other is typed, variables of the \
         others are not looked at.\nA variable that begins with `IMGRELAY_` and is not listed here is a warning; those \
         that Kubernetes makes for a Service\nnamed `imgrelay` (`IMGRELAY_PORT`, `IMGRELAY_SERVICE_HOST`, …) are not \
         mentioned.\n\n\
         A list is split at line breaks or, if it has none, at commas; so a single item with a comma in it needs a \
         line break\nat its end.\n\n\
         This page is written by `UPDATE_DOCS=1 cargo test environment`, and a test fails when it is not current.\n\n\
         ## Flags\n\n| variable | form | commands | meaning |\n|---|---|---|---|\n",
    );
    for (name, known) in known(command) {
        let (form, commands, meaning) = (known.form, known.commands.join(", "), known.meaning);
        let flags = known.flags.join(", ");
        let meaning = meaning.replace('|', "\\|");
        writeln!(page, "| `{name}` | {form} | {commands} | {flags}: {meaning} |")
            .expect("writing to a String");
    }
    page.push_str("\n## Others\n\n| variable | meaning |\n|---|---|\n");
    for variable in env::VARIABLES {
        writeln!(page, "| `{}` | {} |", variable.name, variable.meaning).expect("writing to a String");
    }
    page.push_str(
        "\n## Not read\n\nThese begin with `IMGRELAY_` and are no mistake: what `--result dotenv` writes reaches later jobs as \
         variables, and\npipelines may choose a version to install.\n\n",
    );
    for name in result_file::DOTENV_KEYS.iter().chain(&IGNORED) {
        writeln!(page, "- `{name}`").expect("writing to a String");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::cli::{args, grammar};
    use clap::{Args as _, FromArgMatches};

    fn push(typed: &[&str], pairs: &[(&str, &str)]) -> (args::PushArgs, Vec<FromEnv>) {
        let command = || grammar::prepare(args::PushArgs::augment_args(Command::new("push")));
        let words: Vec<&str> = std::iter::once("push").chain(typed.iter().copied()).collect();
        let matches = command().try_get_matches_from(&words).unwrap();
        let (command, used) = apply(command(), &matches, &Env::from_pairs(pairs.iter().copied()));
        let matches = command.try_get_matches_from(&words).unwrap();
        (args::PushArgs::from_arg_matches(&matches).unwrap(), used)
    }

    #[test]
    fn a_flag_beats_its_variable_and_an_empty_variable_is_none() {
        let env = [("IMGRELAY_COMPRESSION", "zstd"), ("IMGRELAY_PLATFORM", "")];
        let (args, used) = push(&[], &env);
        assert_eq!((args.compression.as_deref(), args.platform), (Some("zstd"), None));
        let variable = "IMGRELAY_COMPRESSION".to_owned();
        assert_eq!(used, [FromEnv { flag: "compression".into(), variable }]);
        let (args, used) = push(&["--compression", "none"], &env);
        assert_eq!(args.compression.as_deref(), Some("none"));
        assert_eq!(used, []);
    }

    #[test]
    fn a_line_break_at_the_end_of_a_variable_is_no_part_of_its_value() {
        let (args, _) =
            push(&[], &[("IMGRELAY_EXPECTED_DIGEST", "sha256:12\r\n"), ("IMGRELAY_PLATFORM", "\n")]);
        assert_eq!(
            (args.expected_digest.as_deref(), args.platform.as_deref()),
            (Some("sha256:12"), Some(""))
        );
        let (args, _) = push(&[], &[("IMGRELAY_REGISTRY_VERIFY_CERTS", "false\n")]);
        assert!(args.registry.registry_verify_certs.is_some());
    }

    #[test]
    fn an_address_of_a_service_is_no_port_of_an_image() {
        let (args, used) = push(&[], &[("IMGRELAY_PORT", "tcp://10.0.0.1:80")]);
        assert!(args.run.port.is_empty() && used.is_empty());
        let (args, _) = push(&[], &[("IMGRELAY_PORT", "8080,53/udp")]);
        assert_eq!(args.run.port, ["8080", "53/udp"]);
    }

    #[test]
    fn the_base_tar_of_push_is_none_of_copy() {
        let command = || grammar::prepare(args::CopyArgs::augment_args(Command::new("copy")));
        let words = ["copy", "-i", "reg.example/app", "--to-oci-tar", "app.tar"];
        let env =
            Env::from_pairs([("IMGRELAY_BASE_TAR", "base.tar"), ("IMGRELAY_BASE_TARS", "a.tar,s3://b/c")]);
        let typed = command().try_get_matches_from(words).unwrap();
        let (command, used) = apply(command(), &typed, &env);
        let matches = command.try_get_matches_from(words).unwrap();
        let found = args::CopyArgs::from_arg_matches(&matches).unwrap().base_tar;
        assert_eq!(found, [std::path::PathBuf::from("a.tar"), "s3://b/c".into()]);
        assert_eq!(used, [FromEnv { flag: "base-tar".into(), variable: "IMGRELAY_BASE_TARS".into() }]);
        let (args, _) = push(&[], &[("IMGRELAY_BASE_TAR", "base.tar"), ("IMGRELAY_BASE_TARS", "a.tar")]);
        assert_eq!(args.base_tar, Some("base.tar".into()));
    }

    #[test]
    fn layers_of_push_are_no_switch_of_describe() {
        let command = || grammar::prepare(args::DescribeArgs::augment_args(Command::new("describe")));
        let words = ["describe", "--tar", "t"];
        let layers = |value: &str| {
            let typed = command().try_get_matches_from(words).unwrap();
            let (command, _) = apply(command(), &typed, &Env::from_pairs([("IMGRELAY_LAYERS", value)]));
            let matches = command.try_get_matches_from(words).unwrap();
            args::DescribeArgs::from_arg_matches(&matches).unwrap().layers.is_some()
        };
        assert_eq!((layers("auto"), layers("1"), layers("false")), (false, false, true));
    }

    #[test]
    fn lists_are_split_and_replaced_by_flags_as_a_whole() {
        let files = |args: &args::PushArgs| -> Vec<String> {
            args.file.iter().map(|path| path.display().to_string()).collect()
        };
        let (args, _) = push(&[], &[("IMGRELAY_FILE", "a, b")]);
        assert_eq!(files(&args), ["a", "b"]);
        let (args, _) = push(&[], &[("IMGRELAY_FILE", "a,b\n\n c \n")]);
        assert_eq!(files(&args), ["a,b", "c"]);
        let (args, _) = push(&["-f", "x,y", "-f", "z"], &[("IMGRELAY_FILE", "a,b")]);
        assert_eq!(files(&args), ["x", "y", "z"]);
        let (args, _) = push(&[], &[("IMGRELAY_ANNOTATION", "a=1,b=2")]);
        assert_eq!(args.annotation, ["a=1", "b=2"]);
    }

    #[test]
    fn a_typed_flag_silences_the_variables_of_its_alternatives() {
        let env = [("IMGRELAY_BUNDLE", "reg.example/a"), ("IMGRELAY_REGISTRY_TOKEN", "t")];
        let (args, _) = push(&["-i", "reg.example/b"], &env);
        assert_eq!((args.bundle, args.image.as_deref()), (None, Some("reg.example/b")));
        assert!(args.registry.registry_token.is_some());
        let (args, _) = push(&["--registry-username", "u"], &env);
        assert!(args.registry.registry_token.is_none());
        let env = [("IMGRELAY_REGISTRY_PASSWORD", "p")];
        let (args, _) = push(&["--registry-username", "u"], &env);
        assert_eq!(args.registry.registry_password.map(|p| p.expose().to_owned()).as_deref(), Some("p"));
    }

    #[test]
    fn an_unknown_variable_is_one_warning_with_the_nearest_name() {
        let command = grammar::prepare(args::PushArgs::augment_args(Command::new("push")));
        let warning = |names: &[&str]| {
            let pairs: Vec<(&str, &str)> = names.iter().map(|name| (*name, "x")).collect();
            unknown(&command, &Env::from_pairs(pairs)).unwrap_or_default()
        };
        for name in ["IMGRELAY_COMPRESSION", "IMGRELAY_DIGEST", "IMGRELAY_VERSION", "IMGRELAYX"] {
            assert_eq!(warning(&[name]), "", "{name}");
        }
        assert_eq!(
            warning(&["IMGRELAY_COMPRESION"]),
            "environment variable `IMGRELAY_COMPRESION` belongs to no flag; did you mean `IMGRELAY_COMPRESSION`?"
        );
        assert_eq!(
            warning(&["IMGRELAY_SHA256", "IMGRELAY_SOMETHING_ELSE"]),
            "environment variables `IMGRELAY_SHA256`, `IMGRELAY_SOMETHING_ELSE` belong to no flag; \
             `docs/environment.md` lists all variables"
        );
        assert_eq!(
            warning(&["IMGRELAY_PASSWORD"]),
            "environment variable `IMGRELAY_PASSWORD` belongs to no flag; did you mean `IMGRELAY_REGISTRY_PASSWORD`?"
        );
        for (typed, meant) in [
            ("IMGRELAY_TGA", "IMGRELAY_TAG"),
            ("IMGRELAY_TO_OCI", "IMGRELAY_TO_OCI_TAR"),
            ("IMGRELAY_EXPECTED", "IMGRELAY_EXPECTED_DIGEST"),
        ] {
            let expected =
                format!("environment variable `{typed}` belongs to no flag; did you mean `{meant}`?");
            assert_eq!(warning(&[typed]), expected);
        }
        assert_eq!(unknown(&command, &Env::from_pairs([("IMGRELAY_NONE", "")])), None);
    }

    #[test]
    fn two_variables_of_one_flag_have_to_agree() {
        let command = || grammar::prepare(args::PushArgs::augment_args(Command::new("push")));
        let check = |words: &[&str], one: &str, other: &str| {
            let words = std::iter::once("push").chain(words.iter().copied());
            let typed = command().try_get_matches_from(words).unwrap();
            let pairs = [("IMGRELAY_REGISTRY_VERIFY_CERTS", one), ("IMGRELAY_TLS_VERIFY", other)];
            refuse_two_names(&command(), &typed, &Env::from_pairs(pairs))
        };
        assert_eq!(check(&[], "true", "true"), Ok(()));
        assert_eq!(check(&[], "true", ""), Ok(()));
        assert_eq!(check(&["--tls-verify"], "true", "false"), Ok(()), "a typed flag beats both");
        let failure = check(&[], "true", "false").unwrap_err();
        assert!(
            failure
                .message
                .to_string()
                .contains("`IMGRELAY_REGISTRY_VERIFY_CERTS` and `IMGRELAY_TLS_VERIFY`"),
            "{}",
            failure.message
        );
    }
}

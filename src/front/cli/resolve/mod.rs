//! Turns typed flags into checked values before any work begins.
//!
//! Errors are misuse and name the flag. An empty value means that the flag was not given: templates of CI systems
//! pass an empty text for a value that was left out.

mod copy;
mod diff;
mod index;
mod labels;
mod look;
pub(in crate::front) mod places;
mod push;
mod push_places;
mod read;
mod registry;
mod runnable;
mod serve;
mod sign;
mod tar_url;
mod words;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

pub use copy::{CopyOptions, Sink, copy};
pub use diff::{DiffRequest, Growth, diff};
pub use index::{IndexOptions, IndexSink, index};
pub use look::{CatOptions, LookedAt, LsOptions, cat, ls};
pub use push::{PushContents, PushKind, PushOptions, push};
pub use push_places::{BaseImage, Destination};
pub use read::{
    DescribeOptions, MatchOptions, PullOptions, TagListOptions, VerifyOptions, delete, describe,
    match_resources, pull, store_gc, store_list, tag_add, tag_delete, tag_list, tag_resolve, verify,
};
pub use registry::{RegistryOptions, registry};
pub use runnable::{ImagePlace, Rebase, RunnableOptions};
pub use serve::{CollectOptions, ServeOptions, serve};
pub use sign::{AttachOptions, SignOptions, SignTarget, attach, sign};
pub use tar_url::TarUrl;
use tar_url::{expect_file, expect_no_store, expect_own_file};

use super::args::{Globals, SourceArgs, TarArgs};
use super::choices::{self, Choices};
use super::store_write_args::StoreWriteArgs;
use super::values::Switch;
use crate::depot::{Address, StoreReference};
use crate::front::env::Env;
use crate::front::failure::{Failure, MessagePart, message};
use crate::front::flag::Flag;
use crate::front::result_file::ResultFile;
use crate::front::ui::{Progress, Settings, Verbosity, When};
use crate::model::{Digest, Platform, Reference, Repository, Tag};
use crate::registry::Encryption;
use crate::store::Selector;
use crate::transfer::Attached;

/// The source of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A bundle in a registry.
    Bundle(Reference),
    /// An image in a registry.
    Image(Reference),
    /// What a lock file names.
    Lock(PathBuf),
    /// A tar or folder of any known kind.
    Tar(PathBuf),
    /// A tar or folder that has to be an OCI layout.
    OciTar(PathBuf),
    /// A tar at a URL.
    WebTar(TarUrl),
    /// An image store.
    Store(StoreReference),
}

impl Source {
    /// Returns the repository that the command line names, if the source is in a registry.
    #[must_use]
    pub fn repository(&self) -> Option<&Repository> {
        match self {
            Self::Bundle(reference) | Self::Image(reference) => Some(&reference.repository),
            Self::Lock(_) | Self::Tar(_) | Self::OciTar(_) | Self::WebTar(_) | Self::Store(_) => None,
        }
    }

    /// Names a tar by its path or URL.
    fn of_tar(value: &Path) -> Self {
        TarUrl::of(value).map_or_else(|| Self::Tar(value.to_owned()), Self::WebTar)
    }
}

/// Where an OCI layout tar is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TarTarget {
    /// A file, replaced as a whole.
    File(PathBuf),
    /// Standard output.
    Stdout,
}

impl TarTarget {
    fn of(path: &Path) -> Self {
        if path == Path::new("-") { Self::Stdout } else { Self::File(path.to_owned()) }
    }

    /// Refuses to write a tar to a terminal.
    pub fn check(&self) -> Result<(), Failure> {
        self.check_against(std::io::stdout().is_terminal())
    }

    fn check_against(&self, terminal: bool) -> Result<(), Failure> {
        if *self == Self::Stdout && terminal {
            return Err(Failure::misuse("a tar cannot be written to a terminal").hint(message!(
                "redirect standard output, or name a file: ",
                Flag::TO_OCI_TAR.with("FILE")
            )));
        }
        Ok(())
    }

    /// Returns the path as it was typed, `-` for standard output.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Stdout => Path::new("-"),
        }
    }
}

/// Resolves the flags of every command.
pub fn settings(args: &Globals) -> Result<Settings, Failure> {
    let (quiet, debug) = (is_on(args.quiet, false), is_on(args.debug, false));
    let verbosity = match (quiet, debug) {
        (true, true) => {
            return Err(Failure::misuse(message!(Flag::QUIET, " and ", Flag::DEBUG, " exclude each other")));
        }
        (true, false) => Verbosity::Quiet,
        (false, true) => Verbosity::Debug,
        (false, false) => Verbosity::Normal,
    };
    let progress = chosen(Flag::PROGRESS, args.progress.as_deref(), &choices::PROGRESS)?;
    let color = chosen(Flag::COLOR, args.color.as_deref(), &choices::COLOR)?;
    let (progress, color) = (progress.unwrap_or(Progress::Auto), color.unwrap_or(When::Auto));
    Ok(Settings { json: is_on(args.json, false), verbosity, progress, color })
}

/// Returns a switch's value.
fn is_on(switch: Option<Switch>, default: bool) -> bool {
    switch.unwrap_or_default().or(default)
}

/// Returns a value that was given and is not empty, without line breaks at its end, which a file it was read from leaves.
fn given(value: Option<&str>) -> Option<&str> {
    value.map(without_line_end).filter(|text| !text.is_empty())
}

fn without_line_end(text: &str) -> &str {
    text.trim_end_matches(['\n', '\r'])
}

/// Returns the values of a flag that may be repeated; empty ones are left out.
fn given_list(values: &[String]) -> Vec<String> {
    values.iter().filter(|value| !value.is_empty()).cloned().collect()
}

/// Returns a path that was given and is not empty.
fn given_path(path: Option<&PathBuf>) -> Option<&Path> {
    path.map(PathBuf::as_path).filter(|path| !path.as_os_str().is_empty())
}

/// Parses a flag's value, if one was given, and names the flag when it is wrong.
fn parsed<T, E: std::fmt::Display>(
    flag: Flag,
    value: Option<&str>,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Option<T>, Failure> {
    given(value).map(|text| parse(text).map_err(|error| wrong(flag, &error))).transpose()
}

/// Returns the meaning of a flag's word, if one was given, and names the flag when the word is not in its list.
fn chosen<T: Copy>(flag: Flag, value: Option<&str>, choices: &Choices<T>) -> Result<Option<T>, Failure> {
    let found = given(value).map(|word| choices.find(word)).transpose();
    found.map_err(|problem| Failure::misuse(message!(flag, format!(" cannot be {problem}"))))
}

/// Parses every value of a flag that may be repeated; empty ones are left out.
fn parsed_list<T, E: std::fmt::Display>(
    flag: Flag,
    values: &[String],
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Vec<T>, Failure> {
    values
        .iter()
        .map(|text| without_line_end(text))
        .filter(|text| !text.is_empty())
        .map(|text| parse(text).map_err(|error| wrong(flag, &error)))
        .collect()
}

fn wrong(flag: Flag, error: &dyn std::fmt::Display) -> Failure {
    Failure::misuse(message!(flag, format!(": {error}")))
}

/// Parses a reference; says so when only capital letters are wrong.
fn reference(flag: Flag, text: &str) -> Result<Reference, Failure> {
    text.parse().map_err(|error| {
        let failure = wrong(flag, &error);
        let lower = lower_case_name(text);
        if lower != text && lower.parse::<Reference>().is_ok() {
            return failure.hint(format!("names are lower case: `{lower}`"));
        }
        for scheme in ["docker://", "https://", "http://", "oci://"] {
            if let Some(rest) = text.strip_prefix(scheme)
                && rest.parse::<Reference>().is_ok()
            {
                return failure.hint(format!("write it without `{scheme}`: `{rest}`"));
            }
        }
        failure
    })
}

/// Writes all but the tag of a reference in lower case.
fn lower_case_name(text: &str) -> String {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => format!("{}:{tag}", name.to_ascii_lowercase()),
        _ => text.to_ascii_lowercase(),
    }
}

/// Parses a reference that is written to, which cannot have a digest.
fn target_reference(flag: Flag, text: &str) -> Result<Reference, Failure> {
    let reference = reference(flag, text)?;
    if reference.digest.is_some() {
        let failure = wrong(flag, &format_args!("`{text}` has a digest, expected `registry/repository:tag`"));
        return Err(failure.hint(message!(
            "the digest follows from the content; use ",
            Flag::EXPECTED_DIGEST,
            " to check it"
        )));
    }
    Ok(reference)
}

/// Finds out how a store is written; returns whether what was written is read back, and what the server encrypts with.
fn store_writing(
    args: &StoreWriteArgs,
    store: Option<&StoreReference>,
) -> Result<(bool, Option<Encryption>), Failure> {
    let algorithm = given(args.server_side_encryption.as_deref());
    let key = given(args.sse_kms_key_id.as_deref());
    let read_back = is_on(args.verify_upload, false);
    let flags = [
        (Flag::SERVER_SIDE_ENCRYPTION, algorithm.is_some()),
        (Flag::SSE_KMS_KEY_ID, key.is_some()),
        (Flag::VERIFY_UPLOAD, read_back),
    ];
    let is_bucket = store.is_some_and(|store| matches!(store.address, Address::Bucket { .. }));
    let is_fit = |flag| if flag == Flag::VERIFY_UPLOAD { store.is_some() } else { is_bucket };
    if let Some((flag, _)) = flags.into_iter().find(|(flag, is_given)| *is_given && !is_fit(*flag)) {
        let with = if flag == Flag::VERIFY_UPLOAD { "URL" } else { "s3://…" };
        return Err(Failure::misuse(message!(flag, " works with ", Flag::TO_STORE.with(with), " only")));
    }
    let encryption = match (algorithm, key) {
        (None, None) => None,
        (None, Some(_)) => {
            return Err(Failure::misuse(message!(
                Flag::SSE_KMS_KEY_ID,
                " works with ",
                Flag::SERVER_SIDE_ENCRYPTION.with("aws:kms"),
                " only"
            )));
        }
        (Some(algorithm), key) => Some(
            Encryption::new(algorithm, key)
                .map_err(|problem| wrong(Flag::SERVER_SIDE_ENCRYPTION, &problem))?,
        ),
    };
    Ok((read_back, encryption))
}

/// Parses a store that is written to, which cannot have a digest.
fn target_store(text: Option<&str>) -> Result<Option<StoreReference>, Failure> {
    let store = parsed(Flag::TO_STORE, text, str::parse::<StoreReference>)?;
    match store {
        Some(store) if matches!(store.address, Address::Web(_)) => {
            let problem = format!("`{store}` is on a web server, and can only be read");
            Err(wrong(Flag::TO_STORE, &problem)
                .hint("write it with `s3://BUCKET/PREFIX` or `file:///FOLDER`, which the server shows"))
        }
        Some(store) if store.digest.is_some() => {
            let problem = format!("`{store}` has a digest, expected `URL:TAG`");
            Err(wrong(Flag::TO_STORE, &problem).hint(message!(
                "the digest follows from the content; use ",
                Flag::EXPECTED_DIGEST,
                " to check it"
            )))
        }
        store => Ok(store),
    }
}

/// Parses a repository; a tag or digest after it is refused.
fn repository(flag: Flag, text: &str) -> Result<Repository, Failure> {
    let reference = reference(flag, text)?;
    if reference.tag.is_some() || reference.digest.is_some() {
        return Err(wrong(flag, &format_args!("`{text}` has a tag or digest, expected a repository")));
    }
    Ok(reference.repository)
}

fn tags(values: &[String]) -> Result<Vec<Tag>, Failure> {
    let mut tags: Vec<Tag> = Vec::new();
    for tag in parsed_list(Flag::TAG, values, str::parse::<Tag>)? {
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(tags)
}

fn expected_digest(value: Option<&str>) -> Result<Option<Digest>, Failure> {
    parsed(Flag::EXPECTED_DIGEST, value, str::parse::<Digest>)
}

fn platform(value: Option<&str>) -> Result<Option<Platform>, Failure> {
    parsed(Flag::PLATFORM, value, str::parse::<Platform>)
}

fn results(values: &[String], env: &Env) -> Result<Vec<ResultFile>, Failure> {
    values.iter().filter(|text| !text.is_empty()).map(|text| ResultFile::parse(text, env)).collect()
}

/// Resolves which attached manifests are copied.
fn attached(cosign_signatures: Option<Switch>, referrers: Option<Switch>) -> Attached {
    Attached {
        cosign: is_on(cosign_signatures, false),
        referrers: is_on(referrers, false),
        ..Attached::default()
    }
}

/// Returns the value of the one flag that was given, of several of which exactly one is required.
fn exactly_one<T>(what: &str, candidates: Vec<(Flag, Option<T>)>) -> Result<T, Failure> {
    let flags: Vec<Flag> = candidates.iter().map(|(flag, _)| *flag).collect();
    let mut found: Vec<(Flag, T)> =
        candidates.into_iter().filter_map(|(flag, value)| Some((flag, value?))).collect();
    if found.len() > 1 {
        let found = MessagePart::list_of(found.iter().map(|(flag, _)| *flag));
        return Err(Failure::misuse(message!(found, format!(" exclude each other, expected one {what}"))));
    }
    let Some((_, value)) = found.pop() else {
        let none = format!("no {what} was given, expected one of ");
        return Err(Failure::misuse(message!(none, MessagePart::list_of(flags))));
    };
    Ok(value)
}

/// Returns the path that standard input is read by; what is in a pipe is copied into a temporary file without a name.
fn stdin() -> Result<PathBuf, Failure> {
    match std::io::stdin().is_terminal() {
        true => Err(Failure::misuse("a tar cannot be read from a terminal")
            .hint(message!("pipe one to standard input, or name a file: ", Flag::TAR.with("FILE")))),
        false => Ok(PathBuf::from("/dev/stdin")),
    }
}

/// Resolves sources of every kind that a flag lists; empty ones are left out.
fn any_sources(flag: Flag, values: &[PathBuf]) -> Result<Vec<Source>, Failure> {
    let given = values.iter().filter(|value| !value.as_os_str().is_empty());
    given.map(|value| any_source(flag, value)).collect()
}

/// Finds what a text names: a store by its URL, a file that is there, else an image or repository in a registry.
fn any_source(flag: Flag, value: &Path) -> Result<Source, Failure> {
    if let Some(store) = as_store(flag, value)? {
        return Ok(store);
    }
    if let Some(url) = TarUrl::of(value) {
        return Ok(Source::WebTar(url));
    }
    if value.exists() {
        return Ok(Source::Tar(value.to_owned()));
    }
    let text = value.to_string_lossy();
    let first = text.split('/').next().unwrap_or_default();
    let has_registry = text.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    match has_registry && !text.starts_with(['.', '/']) {
        true => reference(flag, &text).map(Source::Image),
        false => Err(wrong(flag, &format_args!("there is no file `{text}`")).hint(
            "an image in a registry is written with its registry, as `registry.example/team/app:v1`, and a \
             store as URL",
        )),
    }
}

/// Returns the store that a text names, if it is the URL of one.
fn as_store(flag: Flag, value: &Path) -> Result<Option<Source>, Failure> {
    let is_url = |text: &&str| text.starts_with("s3://") || text.starts_with("file://");
    parsed(flag, value.to_str().filter(is_url), str::parse::<StoreReference>)
        .map(|store| store.map(Source::Store))
}

/// Resolves `--select`, the image of a tar with several.
fn selector(args: &TarArgs, source: &Source) -> Result<Option<Selector>, Failure> {
    let selector = parsed(Flag::SELECT, args.select.as_deref(), str::parse::<Selector>)?;
    if selector.is_some()
        && !matches!(source, Source::Tar(_) | Source::OciTar(_) | Source::WebTar(_) | Source::Store(_))
    {
        return Err(Failure::misuse(message!(Flag::SELECT, " works with ", Flag::TAR, " only"))
            .hint("a reference names one image; a lock file is edited"));
    }
    Ok(selector)
}

/// The flags that name a source.
#[derive(Default)]
struct SourceFlags<'a> {
    bundle: Option<&'a str>,
    image: Option<&'a str>,
    source: Option<&'a str>,
    lock: Option<&'a Path>,
    tar: Option<&'a Path>,
    oci_tar: Option<&'a Path>,
    store: Option<&'a str>,
}

impl<'a> SourceFlags<'a> {
    fn of(args: &'a SourceArgs) -> Self {
        Self { bundle: args.bundle.as_deref(), image: args.image.as_deref(), ..Self::of_tar(&args.tars) }
    }

    fn of_tar(args: &'a TarArgs) -> Self {
        let (tar, oci_tar) = (given_path(args.tar.as_ref()), given_path(args.oci_tar.as_ref()));
        Self { tar, oci_tar, store: args.store.as_deref(), ..Self::default() }
    }
}

/// Resolves the one source; `allowed` are the flags the command has.
fn source(flags: &SourceFlags<'_>, allowed: &[Flag]) -> Result<Source, Failure> {
    let by_name = |flag, text: Option<&str>, make: fn(Reference) -> Source| {
        given(text).map(|text| reference(flag, text).map(make)).transpose()
    };
    let by_path = |path: Option<&Path>, make: fn(PathBuf) -> Source| path.map(|path| make(path.to_owned()));
    let candidates = vec![
        (Flag::BUNDLE, by_name(Flag::BUNDLE, flags.bundle, Source::Bundle)?),
        (Flag::IMAGE, by_name(Flag::IMAGE, flags.image, Source::Image)?),
        (Flag::SOURCE, by_name(Flag::SOURCE, flags.source, Source::Image)?),
        (Flag::LOCK, by_path(flags.lock, Source::Lock)),
        (Flag::TAR, flags.tar.map(Source::of_tar)),
        (Flag::OCI_TAR, by_path(flags.oci_tar, Source::OciTar)),
        (Flag::STORE, parsed(Flag::STORE, flags.store, str::parse::<StoreReference>)?.map(Source::Store)),
    ];
    let candidates = candidates.into_iter().filter(|(flag, _)| allowed.contains(flag)).collect();
    for (flag, path) in [(Flag::TAR, flags.tar), (Flag::OCI_TAR, flags.oci_tar)] {
        path.map_or(Ok(()), |path| expect_no_store(flag, path))?;
    }
    if flags.oci_tar.is_some_and(|path| TarUrl::of(path).is_some()) {
        return Err(wrong(Flag::OCI_TAR, &"expected a path")
            .hint(message!("a tar at a URL is read with ", Flag::TAR.with("URL"))));
    }
    let is_match = allowed.contains(&Flag::SOURCE) && !allowed.contains(&Flag::IMAGE);
    let from_stdin = |path: &Path| path == Path::new("-");
    match exactly_one("source", candidates)? {
        Source::Tar(path) | Source::OciTar(path) if from_stdin(&path) && is_match => {
            Err(Failure::misuse("standard input holds the request, so no tar can be read from it")
                .hint("write the tar to a file first"))
        }
        Source::Tar(path) if from_stdin(&path) => stdin().map(Source::Tar),
        Source::OciTar(path) if from_stdin(&path) => stdin().map(Source::OciTar),
        Source::Lock(path) if from_stdin(&path) => {
            Err(Failure::misuse("a lock file cannot be read from standard input")
                .hint("write it to a file first"))
        }
        source => Ok(source),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::front::cli::args as typed;
    use crate::front::cli::diff_args::DiffArgs;
    use crate::front::cli::grammar;
    use crate::front::cli::index_args::IndexArgs;
    use crate::front::cli::look_args::{CatArgs, LsArgs};
    use crate::front::cli::serve_args::ServeArgs;
    use crate::front::cli::sign_args::{AttachArgs, SignArgs};
    use crate::front::cli::store_args::{StoreGcArgs, StoreListArgs};
    use crate::front::cli::tag_args;
    use crate::front::failure::Hint;
    use clap::{Args as _, FromArgMatches};

    /// Parses words as a command does, without environment.
    pub(crate) fn args<T: clap::Args + FromArgMatches>(words: &[&str]) -> T {
        let command = grammar::prepare(T::augment_args(clap::Command::new("x").args_override_self(true)));
        let words = std::iter::once("x").chain(words.iter().copied());
        T::from_arg_matches(&command.try_get_matches_from(words).unwrap()).unwrap()
    }

    #[test]
    fn every_commands_flags_are_consistent_and_their_help_fits_eighty_columns() {
        for command in [
            typed::PushArgs::augment_args(clap::Command::new("push")),
            typed::CopyArgs::augment_args(clap::Command::new("copy")),
            IndexArgs::augment_args(clap::Command::new("index")),
            typed::PullArgs::augment_args(clap::Command::new("pull")),
            typed::DescribeArgs::augment_args(clap::Command::new("describe")),
            LsArgs::augment_args(clap::Command::new("ls")),
            DiffArgs::augment_args(clap::Command::new("diff")),
            CatArgs::augment_args(clap::Command::new("cat")),
            typed::MatchArgs::augment_args(clap::Command::new("match")),
            ServeArgs::augment_args(clap::Command::new("serve")),
            typed::VerifyArgs::augment_args(clap::Command::new("verify")),
            SignArgs::augment_args(clap::Command::new("sign")),
            AttachArgs::augment_args(clap::Command::new("attach")),
            StoreListArgs::augment_args(clap::Command::new("list")),
            StoreGcArgs::augment_args(clap::Command::new("gc")),
            tag_args::TagListArgs::augment_args(clap::Command::new("list")),
            tag_args::TagResolveArgs::augment_args(clap::Command::new("resolve")),
            tag_args::TagAddArgs::augment_args(clap::Command::new("add")),
            tag_args::TagDeleteArgs::augment_args(clap::Command::new("delete")),
            tag_args::DeleteArgs::augment_args(clap::Command::new("delete")),
        ] {
            let command = Globals::augment_args(command).max_term_width(80);
            grammar::prepare(command.clone()).debug_assert();
            let help = grammar::plain_switches(command).render_help().to_string();
            for line in help.lines() {
                assert!(line.chars().count() <= 80, "{line}");
            }
        }
    }

    #[test]
    fn a_tar_is_not_written_to_a_terminal() {
        assert!(TarTarget::Stdout.check_against(true).is_err());
        assert_eq!(TarTarget::Stdout.check_against(false), Ok(()));
        assert_eq!(TarTarget::of(Path::new("x")).check_against(true), Ok(()));
    }

    #[test]
    fn json_quiet_debug_color_tty_and_progress_become_settings() {
        let globals = |words: &[&str]| settings(&args::<Globals>(words));
        assert_eq!(globals(&[]), Ok(Settings::default()));
        let settings = globals(&["--json", "--quiet=true", "--progress", "none", "--color=false"]).unwrap();
        let expected = Settings {
            json: true,
            verbosity: Verbosity::Quiet,
            progress: Progress::None,
            color: When::Never,
        };
        assert_eq!(settings, expected);
        assert_eq!(globals(&["--color"]).unwrap().color, When::Always);
        assert_eq!(globals(&["--progress", ""]), Ok(Settings::default()));
        assert_eq!(globals(&["--tty", "-y"]), Ok(Settings::default()));
        assert!(globals(&["-q", "--debug"]).unwrap_err().message.to_string().contains("exclude each other"));
    }

    #[test]
    fn line_breaks_at_the_end_of_values_are_trimmed() {
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(expected_digest(Some(&format!("{digest}\n"))).unwrap().unwrap().to_string(), digest);
        assert_eq!(expected_digest(Some("\r\n")), Ok(None));
        let args = args::<tag_args::TagResolveArgs>(&["-i", &format!("reg.example/app@{digest}\n")]);
        assert_eq!(tag_resolve(&args).unwrap().0.to_string(), format!("reg.example/app@{digest}"));
        let found = tags(&["v1\n".to_owned(), "\n".to_owned(), "v2\r\n".to_owned()]).unwrap();
        assert_eq!(found.iter().map(Tag::as_str).collect::<Vec<_>>(), ["v1", "v2"]);
        assert_eq!(platform(Some("linux/arm64\n")).unwrap().unwrap().to_string(), "linux/arm64");
    }

    #[test]
    fn wrong_references_come_with_the_right_spelling() {
        let failure = reference(Flag::BUNDLE, "reg.example/Team/App:V1").unwrap_err();
        assert!(
            failure
                .message
                .to_string()
                .starts_with("`--bundle`: repository `reg.example/Team/App` is not valid")
        );
        assert_eq!(failure.hints, ["names are lower case: `reg.example/team/app:V1`"]);
        let failure = reference(Flag::IMAGE, "docker://reg.example/app").unwrap_err();
        assert_eq!(failure.hints, ["write it without `docker://`: `reg.example/app`"]);
        let failure = reference(Flag::IMAGE, "reg.example/app:-").unwrap_err();
        assert_eq!(failure.hints, Vec::<Hint>::new());
    }
}

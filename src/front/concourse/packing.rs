//! Packing in the pipeline's words: the params that the task and a put of `files` have in common.
//!
//! The meaning of every param is that of a flag of `push`; only the names are the pipeline's.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args as _, FromArgMatches as _};

use crate::front::cli::args::PushArgs;
use crate::front::cli::{clap_errors, grammar, resolve};
use crate::front::env::Env;
use crate::front::failure::{Failure, Mention, Vocabulary};
use crate::front::flag::Flag;
use crate::front::packing::{self, PackWork};
use crate::front::text;
use crate::model::{Digest, keys};

/// How a param is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A text.
    Text,
    /// A list of texts.
    List,
    /// A map of texts.
    Table,
    /// `true` or `false`.
    Switch,
    /// A pattern that finds one file or folder.
    Path,
}

/// A param.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    /// Its name in a put; the task's variable is the same in capitals.
    pub key: &'static str,
    /// The flag of `push` it stands for; empty for what is no flag.
    pub flag: &'static str,
    /// How it is written.
    pub form: Form,
    /// What it says, in one line.
    pub meaning: &'static str,
}

impl Param {
    pub(super) const fn new(
        key: &'static str,
        flag: &'static str,
        form: Form,
        meaning: &'static str,
    ) -> Self {
        Self { key, flag, form, meaning }
    }

    /// Returns the task's variable.
    #[must_use]
    pub fn variable(&self) -> String {
        self.key.to_ascii_uppercase()
    }
}

const FILES: &str = "files";
const KIND: &str = "kind";
const LABELS: &str = "labels";
const BASE: &str = "base";

/// What is packed, and how.
pub const PARAMS: &[Param] = &[
    Param::new(
        FILES,
        "file",
        Form::List,
        "folders and files to pack, each beginning with the name of an input; patterns are allowed",
    ),
    Param::new(
        KIND,
        "",
        Form::Text,
        "`bundle`, `image` or `source` (of one folder or zip, for kpack); by default a bundle if there is a `.imgpkg`, else an image",
    ),
    Param::new(LABELS, "labels", Form::Table, "labels: a map; in the task also lines `key=value`"),
    Param::new("annotations", "annotation", Form::Table, "annotations of the manifest, as `labels`"),
    Param::new(
        "exclude",
        "file-exclusion",
        Form::List,
        "exact paths below a folder to leave out (default `.git`)",
    ),
    Param::new("compression", "compression", Form::Text, "`gzip`, `zstd` or `none`, with `:level` if wanted"),
    Param::new(
        "layers",
        "layers",
        Form::Text,
        "for `source`: `1` (default), or `auto` for layers of which few change from push to push",
    ),
    Param::new(
        BASE,
        "base-tar",
        Form::Path,
        "with `layers: auto`: a tar or folder with the earlier image, whose layers are used again",
    ),
    Param::new(
        "size_limit",
        "size-limit",
        Form::Text,
        "for `source`: most bytes of all files together (default `1GiB`)",
    ),
    Param::new("platform", "platform", Form::Text, "`os/architecture` of the image (default `linux/amd64`)"),
    Param::new("media_types", "media-types", Form::Text, "`oci` (default) or `docker`"),
    Param::new("symlinks", "symlinks", Form::Text, "`keep` (default), `copy` or `refuse`"),
    Param::new(
        "preserve_permissions",
        "preserve-permissions",
        Form::Switch,
        "`true`: keep each file's own mode",
    ),
];

/// Where params come from: the variables of a task, or the params of a put.
pub(super) trait Values {
    /// Returns what messages call a param.
    fn name(&self, key: &str) -> String;
    /// Takes a text; an empty one counts as absent.
    fn text(&mut self, key: &'static str) -> Result<Option<String>, Failure>;
    /// Takes a list of texts.
    fn texts(&mut self, key: &'static str) -> Result<Vec<String>, Failure>;
    /// Takes a map of texts.
    fn table(&mut self, key: &'static str) -> Result<BTreeMap<String, String>, Failure>;
    /// Takes a switch.
    fn switch(&mut self, key: &'static str) -> Result<bool, Failure>;
    /// Finds what a pattern matches.
    fn find(&self, pattern: &str) -> Result<Vec<PathBuf>, Failure>;
    /// Makes the failure for a value that cannot be used.
    fn wrong(&self, key: &str, problem: &dyn std::fmt::Display) -> Failure {
        Failure::misuse(format!("`{}`: {problem}", self.name(key)))
    }
}

/// Reads the params about packing; `None` where there are no files.
///
/// Errors: params about files without files; whatever `push` would say about its flags.
pub(super) fn parse(
    values: &mut dyn Values,
    expected: Option<&Digest>,
    env: &Env,
) -> Result<Option<PackWork>, Failure> {
    let mut words: Vec<OsString> = Vec::new();
    let mut patterns = Vec::new();
    let mut labels = BTreeMap::new();
    let mut given = None;
    for param in PARAMS {
        let (key, flag) = (param.key, param.flag);
        let before = (words.len(), labels.len());
        match (key, param.form) {
            (FILES, _) => patterns = values.texts(key)?,
            (KIND, _) => {
                if let Some(kind) = values.text(key)? {
                    words.push(kind_flag(&kind).map_err(|problem| values.wrong(key, &problem))?.into());
                }
            }
            // Apart from the words, because values may have commas.
            (LABELS, _) => labels = values.table(key)?,
            (_, Form::Text) => {
                words.extend(values.text(key)?.map(|value| format!("--{flag}={value}").into()));
            }
            (_, Form::List) => {
                words.extend(values.texts(key)?.iter().map(|value| format!("--{flag}={value}").into()));
            }
            (_, Form::Table) => {
                let table = values.table(key)?;
                words.extend(table.iter().map(|(name, value)| format!("--{flag}={name}={value}").into()));
            }
            (_, Form::Switch) => {
                if values.switch(key)? {
                    words.push(format!("--{flag}").into());
                }
            }
            (_, Form::Path) => {
                if let Some(pattern) = values.text(key)? {
                    let mut word = OsString::from(format!("--{flag}="));
                    word.push(one(values, key, &pattern)?);
                    words.push(word);
                }
            }
        }
        if given.is_none() && before != (words.len(), labels.len()) {
            given = Some(key);
        }
    }
    if patterns.is_empty() {
        let files = values.name(FILES);
        return match given {
            Some(key) => Err(values.wrong(key, &format!("it belongs to `{files}`, which is not given"))),
            None => Ok(None),
        };
    }
    words.extend(expected.map(|digest| format!("--expected-digest={digest}").into()));
    let roots = roots(values, &patterns)?;
    work(values, &words, roots, labels, env).map(Some)
}

/// Finds what is packed.
fn roots(values: &dyn Values, patterns: &[String]) -> Result<Vec<PathBuf>, Failure> {
    let mut roots = Vec::new();
    for pattern in patterns {
        let found = values.find(pattern)?;
        if found.is_empty() {
            return Err(values
                .wrong(FILES, &format!("`{pattern}` finds nothing"))
                .hint("the first part of a path is the name of an input"));
        }
        roots.extend(found);
    }
    Ok(roots)
}

/// Finds the one file or folder that a pattern is about.
fn one(values: &dyn Values, key: &str, pattern: &str) -> Result<PathBuf, Failure> {
    let mut found = values.find(pattern)?;
    match (found.pop(), found.len()) {
        (None, _) => Err(values.wrong(key, &format!("`{pattern}` finds nothing"))),
        (Some(only), 0) => Ok(only),
        (Some(_), more) => {
            Err(values.wrong(key, &format!("`{pattern}` finds {} files, expected one", more + 1)))
        }
    }
}

/// Resolves everything; messages about flags are told in the caller's words.
fn work(
    values: &dyn Values,
    words: &[OsString],
    roots: Vec<PathBuf>,
    labels: BTreeMap<String, String>,
    env: &Env,
) -> Result<PackWork, Failure> {
    let mut work = pack_work(words, env).map_err(|failure| failure.in_words_of(&ParamNames(values)))?;
    if labels.contains_key(keys::BUNDLE_LABEL) {
        return Err(values.wrong(LABELS, &format!("label `{}` is reserved", keys::BUNDLE_LABEL)));
    }
    match &mut work {
        PackWork::Plain(request) => {
            request.roots = roots;
            request.image.labels = labels;
        }
        PackWork::App { request, .. } => {
            let count = roots.len();
            let [root] = <[PathBuf; 1]>::try_from(roots).map_err(|_| {
                let problem = format!("a source image is made of one folder or zip, found {count}");
                values.wrong(FILES, &problem)
            })?;
            request.path = root;
            request.image.labels = labels;
        }
    }
    Ok(work)
}

/// Resolves words of `push` into what is to be packed; without a destination, and with roots the caller replaces.
fn pack_work(words: &[OsString], env: &Env) -> Result<PackWork, Failure> {
    let fixed = ["push", "--to-oci-tar=-", "--file=."].map(OsString::from);
    let command = grammar::prepare(PushArgs::augment_args(clap::Command::new("push")));
    let all: Vec<OsString> = fixed.iter().chain(words).cloned().collect();
    let args = command
        .clone()
        .try_get_matches_from(&all)
        .and_then(|matches| PushArgs::from_arg_matches(&matches))
        .map_err(|error| clap_errors::from_clap(&error, &command, &all, &[]))?;
    packing::work(resolve::push(&args, env)?)
}

/// Names the param that stands for a flag; `name` is what messages call a param.
pub(super) fn field(mention: &Mention, name: &dyn Fn(&str) -> String) -> Option<String> {
    let flag = mention.flag;
    let is_kind = [Flag::BUNDLE, Flag::IMAGE, Flag::SOURCE].contains(&flag);
    let (key, value) = match PARAMS.iter().find(|param| param.flag == flag.long()) {
        Some(param) => (param.key, mention.value.as_deref()),
        // The kinds are flags of their own.
        None if is_kind => (KIND, Some(flag.long())),
        None if flag == Flag::EXPECTED_DIGEST => ("expected_digest", mention.value.as_deref()),
        None => return None,
    };
    let value = value.map(|value| format!(": {value}")).unwrap_or_default();
    Some(format!("`{}{value}`", name(key)))
}

/// The words of a caller whose params are named by `Values`.
struct ParamNames<'a>(&'a dyn Values);

impl std::fmt::Debug for ParamNames<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ParamNames")
    }
}

impl Vocabulary for ParamNames<'_> {
    fn flag(&self, mention: &Mention) -> Option<String> {
        field(mention, &|key| self.0.name(key))
    }

    fn command(&self, _: &str) -> Option<String> {
        None
    }
}

/// Returns the flag that chooses a kind.
fn kind_flag(kind: &str) -> Result<&'static str, String> {
    const KINDS: [(&str, &str); 3] = [("bundle", "-b"), ("image", "-i"), ("source", "-s")];
    let found = KINDS.iter().find(|(name, _)| *name == kind).map(|(_, flag)| *flag);
    found.ok_or_else(|| {
        let known = text::quoted_list(KINDS.map(|(name, _)| name));
        format!("`{kind}` is no kind, expected one of {known}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_in_messages_get_the_pipelines_names() {
        let name = |key: &str| format!("params.{key}");
        for (mention, expected) in [
            (Flag::SIZE_LIMIT.mention(), Some("`params.size_limit`")),
            (Flag::SOURCE.mention(), Some("`params.kind: source`")),
            (Flag::SYMLINKS.with("keep"), Some("`params.symlinks: keep`")),
            (Flag::BASE_TAR.mention(), Some("`params.base`")),
            (Flag::EXPECTED_DIGEST.mention(), Some("`params.expected_digest`")),
            (Flag::RESOURCES.mention(), None),
        ] {
            assert_eq!(field(&mention, &name).as_deref(), expected, "{mention:?}");
        }
    }

    #[test]
    fn every_param_that_is_a_flag_is_one_of_push() {
        let command = crate::front::program::command();
        let push = command.find_subcommand("push").unwrap();
        for param in PARAMS.iter().filter(|param| !param.flag.is_empty()) {
            assert!(push.get_arguments().any(|arg| arg.get_long() == Some(param.flag)), "{}", param.flag);
        }
    }
}

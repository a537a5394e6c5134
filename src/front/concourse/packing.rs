//! The params for packing, shared by the task and a put of `files`.
//!
//! Every param has the meaning of a flag of `push` and a name for pipelines.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use crate::front::cli::args::PushArgs;
use crate::front::cli::resolve::{self, places};
use crate::front::cli::values::Switch;
use crate::front::env::Env;
use crate::front::failure::{Failure, FlagNames, Mention, Vocabulary};
use crate::front::flag::Flag;
use crate::front::packing::{self, PackWork};
use crate::front::push_flags::{self, Field, PUSH_FLAGS, PushFlag};
use crate::model::Digest;

/// How a param is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamForm {
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
    /// How it is written.
    pub form: ParamForm,
    /// Its help text, in one line.
    meaning: &'static str,
}

impl Param {
    pub(super) const fn new(key: &'static str, form: ParamForm, meaning: &'static str) -> Self {
        Self { key, form, meaning }
    }

    /// Makes the param of a flag of `push`, if the flag has one.
    fn of(row: &PushFlag) -> Option<Self> {
        let form = match row.field {
            Field::Text(_) => ParamForm::Text,
            Field::List(_) => ParamForm::List,
            Field::Table(_) => ParamForm::Table,
            Field::Switch(_) => ParamForm::Switch,
            Field::Path(_) | Field::ImagePath(_) => ParamForm::Path,
        };
        Some(Self::new(row.param?, form, row.meaning))
    }

    /// Returns its help text, with the form of its value if that is not a plain text.
    #[must_use]
    pub fn meaning(&self) -> String {
        match self.form {
            ParamForm::Table => format!("{}: a map; in the task also lines", self.meaning),
            ParamForm::Switch if !self.meaning.starts_with('`') => format!("`true`: {}", self.meaning),
            _ => self.meaning.to_owned(),
        }
    }

    /// Returns the task's variable.
    #[must_use]
    pub fn variable(&self) -> String {
        self.key.to_ascii_uppercase()
    }
}

const FILES: &str = "files";
const KIND: &str = "kind";

/// The params that are not the value of one flag: the files and the kind of image.
const OWN: [Param; 2] = [
    Param::new(
        FILES,
        ParamForm::List,
        "folders and files to pack, each beginning with the name of an input; patterns are allowed; for `image` also `[PLATFORM=]SRC:DEST`",
    ),
    Param::new(
        KIND,
        ParamForm::Text,
        "`bundle`, `image` or `source` (of one folder or zip, for kpack); by default a bundle if there is a `.imgpkg`, else an image",
    ),
];

/// Returns every param about packing, in the order of `task.yml`.
pub(super) fn params() -> impl Iterator<Item = Param> {
    OWN.into_iter().chain(PUSH_FLAGS.iter().filter_map(Param::of))
}

/// Where params come from: the variables of a task, or the params of a put.
pub(super) trait Values {
    /// Returns the name of a param in messages.
    fn name(&self, key: &str) -> String;
    /// Takes a text; an empty one counts as absent.
    fn text(&mut self, key: &'static str) -> Result<Option<String>, Failure>;
    /// Takes a list of texts.
    fn texts(&mut self, key: &'static str) -> Result<Vec<String>, Failure>;
    /// Takes a map of texts.
    fn table(&mut self, key: &'static str) -> Result<BTreeMap<String, String>, Failure>;
    /// Takes a switch.
    fn switch(&mut self, key: &'static str) -> Result<bool, Failure>;
    /// Finds the paths that a pattern matches.
    fn find(&self, pattern: &str) -> Result<Vec<PathBuf>, Failure>;
    /// Makes the failure for a value that cannot be used.
    fn wrong(&self, key: &str, problem: &dyn std::fmt::Display) -> Failure {
        Failure::misuse(format!("`{}`: {problem}", self.name(key)))
    }
}

/// Reads the params about packing into a request to pack; `None` without files.
///
/// Errors: params about files without files; the errors of `push` about its flags, in the caller's vocabulary.
pub(super) fn parse(
    values: &mut dyn Values,
    expected: Option<&Digest>,
    env: &Env,
) -> Result<Option<PackWork>, Failure> {
    // The caller decides where the image goes.
    let mut args = PushArgs { to_oci_tar: Some("-".into()), ..PushArgs::default() };
    let patterns = values.texts(FILES)?;
    let mut given = None;
    if let Some(kind) = values.text(KIND)? {
        choose_kind(&mut args, &kind).map_err(|problem| values.wrong(KIND, &problem))?;
        given = Some(KIND);
    }
    for row in PUSH_FLAGS {
        let Some(key) = row.param else { continue };
        if fill(&mut args, row.field, key, values)? {
            given = given.or(Some(key));
        }
    }
    if patterns.is_empty() {
        let files = values.name(FILES);
        return match given {
            Some(key) => Err(values.wrong(key, &format!("it belongs to `{files}`, which is not given"))),
            None => Ok(None),
        };
    }
    args.file = roots(values, &patterns)?;
    args.expected_digest = expected.map(ToString::to_string);
    let work = resolve::push(&args, env).and_then(packing::work);
    work.map(Some).map_err(|failure| failure.in_words_of(&ParamNames(values)))
}

/// Fills the field of a param; returns whether the param was given.
fn fill(
    args: &mut PushArgs,
    field: Field,
    key: &'static str,
    values: &mut dyn Values,
) -> Result<bool, Failure> {
    match field {
        Field::Text(field) => {
            let field = field(args);
            *field = values.text(key)?;
            Ok(field.is_some())
        }
        Field::List(field) => {
            let field = field(args);
            *field = values.texts(key)?;
            Ok(!field.is_empty())
        }
        Field::Table(field) => {
            let field = field(args);
            *field = values.table(key)?.iter().map(|(name, value)| format!("{name}={value}")).collect();
            Ok(!field.is_empty())
        }
        Field::Switch(field) => {
            let is_on = values.switch(key)?;
            *field(args) = is_on.then_some(Switch::ON);
            Ok(is_on)
        }
        Field::Path(field) => {
            let field = field(args);
            *field = values.text(key)?.map(|pattern| one(values, key, &pattern)).transpose()?;
            Ok(field.is_some())
        }
        Field::ImagePath(field) => {
            let path = values.text(key)?.map(|pattern| one(values, key, &pattern)).transpose()?;
            // The path exists, so it is not a reference.
            let field = field(args);
            *field = path.map(|path| path.to_string_lossy().into_owned());
            Ok(field.is_some())
        }
    }
}

/// Finds the files to pack.
fn roots(values: &dyn Values, patterns: &[String]) -> Result<Vec<PathBuf>, Failure> {
    let mut roots = Vec::new();
    for pattern in patterns {
        let (before, path, after) = around_source(pattern);
        let found = values.find(path)?;
        if found.is_empty() {
            return Err(values
                .wrong(FILES, &format!("`{pattern}` finds nothing"))
                .hint("the first part of a path is the name of an input"));
        }
        let place = |path: PathBuf| {
            let mut place = OsString::from(before);
            place.push(path);
            place.push(after);
            PathBuf::from(place)
        };
        roots.extend(found.into_iter().map(place));
    }
    Ok(roots)
}

/// Splits `PLATFORM=SRC:DEST` before and after SRC, which is the pattern.
fn around_source(pattern: &str) -> (&str, &str, &str) {
    let source = places::source(pattern.as_bytes());
    let part = |range: std::ops::Range<usize>| pattern.get(range).unwrap_or_default();
    (part(0..source.start), part(source.clone()), part(source.end..pattern.len()))
}

/// Finds the one file or folder that a pattern matches.
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

/// Names the param of a flag; `name` returns the name of a param in messages.
pub(super) fn field(mention: &Mention, name: &dyn Fn(&str) -> String) -> Option<String> {
    let flag = mention.flag;
    let is_kind = [Flag::BUNDLE, Flag::IMAGE, Flag::SOURCE].contains(&flag);
    let (key, value) = match push_flags::find(flag).and_then(|row| row.param) {
        Some(key) => (key, mention.value.as_deref()),
        None if flag == Flag::FILE => (FILES, None),
        // The kinds are flags of their own.
        None if is_kind => (KIND, Some(flag.long())),
        None if flag == Flag::EXPECTED_DIGEST => ("expected_digest", mention.value.as_deref()),
        None => return None,
    };
    let value = value.map(|value| format!(": {value}")).unwrap_or_default();
    Some(format!("`{}{value}`", name(key)))
}

/// The vocabulary of a caller whose params are named by `Values`.
struct ParamNames<'a>(&'a dyn Values);

impl std::fmt::Debug for ParamNames<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ParamNames")
    }
}

impl FlagNames for ParamNames<'_> {
    fn flag(&self, mention: &Mention) -> Option<String> {
        field(mention, &|key| self.0.name(key))
    }

    fn command(&self, _: &str) -> Option<String> {
        None
    }
}

impl Vocabulary for ParamNames<'_> {}

/// Sets the kind of image, without a name.
fn choose_kind(args: &mut PushArgs, kind: &str) -> Result<(), String> {
    let field = match kind {
        "bundle" => &mut args.bundle,
        "image" => &mut args.image,
        "source" => &mut args.source,
        _ => return Err(format!("`{kind}` is no kind, expected one of `bundle`, `image`, `source`")),
    };
    *field = Some(String::new());
    Ok(())
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
}

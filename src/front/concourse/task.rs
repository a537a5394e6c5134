//! The build task: params from the environment, an image in the task's output folder.
//!
//! Concourse passes params as variables: a YAML list or map as JSON, everything else as its text, and a param without a
//! value as an empty text. The task sends no request and needs no privileges.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::access::TRANSFER_CONCURRENCY;
use super::packing::{self, Param, ParamForm, Values};
use super::rootfs::{UMASK, image_metadata, ownership};
use crate::front::context::Context;
use crate::front::env::Env;
use crate::front::failure::{Failure, FlagNames, Hint, Mention, Vocabulary};
use crate::front::glob;
use crate::front::joining::{JoinedIndex, gather_stored};
use crate::front::outcome::{ImageOutcome, Outcome};
use crate::front::packing::{PackWork, base_of_store, open_base, open_places, origin, references};
use crate::front::reporter::{self, Wording};
use crate::front::system;
use crate::front::verification;
use crate::model::{Digest, Platform, RawDocument, Reference, Tag};
use crate::sign::PublicKey;
use crate::store;
use crate::store::layout::LayoutTarget;
use crate::stream::{AtomicFile, Overwrite};
use crate::transfer::signatures::Trust;
use crate::transfer::{self, ImageLocator, JoinOptions, PullRequest, TransferError};

/// Params of the task besides those of packing.
const OWN: &[Param] = &[
    Param::new(
        TARS,
        ParamForm::List,
        "instead of `FILES`: tars or folders with one platform each, joined into one image for all of them; patterns \
         are allowed",
    ),
    Param::new(
        PLATFORMS_REQUIRED,
        ParamForm::List,
        "with `TARS`: fail unless there is an image for each of these platforms",
    ),
    Param::new(
        VERIFY_KEY,
        ParamForm::Text,
        "with `TARS`: public keys, PEM; nothing is written unless one of them signed the image in each tar",
    ),
    Param::new(
        "reference",
        ParamForm::Text,
        "`registry/repository:tag` to record in the tar; no request is sent",
    ),
    Param::new("tags", ParamForm::List, "further tags to record"),
    Param::new("expected_digest", ParamForm::Text, "fail unless the image has this digest"),
    Param::new(
        "unpack_rootfs",
        ParamForm::Switch,
        "`true`: also write `rootfs/` and `metadata.json`, for `image:` of a later task",
    ),
    Param::new("output", ParamForm::Text, "folder of the output (default `image`)"),
];

const TARS: &str = "tars";
const PLATFORMS_REQUIRED: &str = "platforms_required";
const VERIFY_KEY: &str = "verify_key";
/// The value of `FILES` in `task.yml`, which is ignored with `TARS`.
const FILES_DEFAULT: &str = "src";

/// Returns every param, in the order of `task.yml`.
pub fn params() -> impl Iterator<Item = Param> {
    packing::params().chain(OWN.iter().copied())
}

/// Builds the image.
pub(in crate::front) fn run(context: &Context<'_>) -> Result<Outcome, Failure> {
    build(context).map_err(|failure| failure.in_words_of(&VariableNames))
}

/// The task's vocabulary: its variables.
#[derive(Clone, Copy, Debug)]
pub(in crate::front) struct VariableNames;

impl FlagNames for VariableNames {
    fn flag(&self, mention: &Mention) -> Option<String> {
        packing::field(mention, &|key| key.to_ascii_uppercase())
    }

    fn command(&self, _: &str) -> Option<String> {
        None
    }
}

impl Vocabulary for VariableNames {
    fn instead(&self, hint: &Hint) -> Option<String> {
        match hint {
            Hint::KindImage => Some("set `KIND: image`".to_owned()),
            Hint::KindBundle => Some("set `KIND: bundle`".to_owned()),
            _ => None,
        }
    }
}

fn build(context: &Context<'_>) -> Result<Outcome, Failure> {
    let env = context.env;
    let mut variables = Variables(env);
    let output = PathBuf::from(variables.text("output")?.unwrap_or_else(|| "image".to_owned()));
    if !output.is_dir() {
        let name = output.display();
        return Err(Failure::misuse(format!("there is no output folder `{name}`")).hint(format!(
            "the task needs `outputs: [{{name: {name}}}]`, or `OUTPUT` the name of another one"
        )));
    }
    let unpack = variables.switch("unpack_rootfs")?;
    let names = names(&mut variables)?;
    let expected = variables.text("expected_digest")?;
    let expected = expected.map(|text| text.parse::<Digest>()).transpose();
    let expected = expected.map_err(|error| variables.wrong("expected_digest", &error))?;
    let tar = output.join("image.tar");
    if let Some(join) = joining(&variables, unpack)? {
        let index = join_tars(context, &join, expected.as_ref(), &tar, &names)?;
        return report(&output, index, &names);
    }
    let Some(work) = packing::parse(&mut variables, expected.as_ref(), env)? else {
        let problem = "it is missing, expected folders or files of the inputs";
        return Err(variables.wrong("files", &problem));
    };
    let packed = pack(context, &work, &tar, &names)?;
    if unpack {
        unpack_rootfs(context, &output, &tar, &packed)?;
    }
    let path = Some(tar);
    report(&output, ImageOutcome { path, ..packed.outcome }, &names)
}

/// Writes the files beside the tar, and returns the result.
fn report(output: &Path, image: ImageOutcome, names: &[Reference]) -> Result<Outcome, Failure> {
    let digest = image.digest.to_string();
    write(output, "digest", &digest)?;
    let tags = names.iter().filter_map(|name| name.tag.clone()).collect();
    let image = ImageOutcome { tags, ..image };
    if let Some(first) = names.first() {
        write(output, "reference", &format!("{}@{digest}", first.repository))?;
        write(output, "tags", &image.tags_joined(" ").unwrap_or_default())?;
    }
    Ok(Outcome::Image(Box::new(image)))
}

/// The tars to join, and options of joining.
struct Joining {
    paths: Vec<PathBuf>,
    options: JoinOptions,
    trust: Option<Trust>,
}

/// Reads the params about tars to join; `None` without tars.
///
/// Errors: params about packing beside them; a pattern without a match.
fn joining(variables: &Variables<'_>, unpack: bool) -> Result<Option<Joining>, Failure> {
    let mut tars = Variables(variables.0);
    let patterns = tars.texts(TARS)?;
    let required = tars.texts(PLATFORMS_REQUIRED)?;
    let key = tars.text(VERIFY_KEY)?;
    if patterns.is_empty() {
        let (platforms, key) = (!required.is_empty(), key.is_some());
        let given =
            [(PLATFORMS_REQUIRED, platforms), (VERIFY_KEY, key)].into_iter().find(|(_, given)| *given);
        return match given {
            None => Ok(None),
            Some((param, _)) => Err(tars.wrong(param, &"it belongs to `TARS`, which is not given")),
        };
    }
    if unpack {
        return Err(
            tars.wrong("unpack_rootfs", &"it belongs to `FILES`; an index has several root file systems")
        );
    }
    if tars.text("files")?.is_some_and(|files| files != FILES_DEFAULT) {
        return Err(Failure::misuse("`TARS` and `FILES` exclude each other"));
    }
    let of_index = ["annotations", "platform"];
    let is_of_files = |param: &Param| param.key != "files" && !of_index.contains(&param.key);
    for param in packing::params().filter(is_of_files) {
        if tars.text(param.key)?.is_some() {
            return Err(
                tars.wrong(param.key, &"it belongs to `FILES`, and cannot change images that are in tars")
            );
        }
    }
    let required = required.iter().map(|text| text.parse()).collect::<Result<Vec<Platform>, _>>();
    let platform = tars.text("platform")?.map(|text| text.parse()).transpose();
    let options = JoinOptions {
        annotations: tars.table("annotations")?.into_iter().collect(),
        platform: platform.map_err(|error| tars.wrong("platform", &error))?,
        required: required.map_err(|error| tars.wrong(PLATFORMS_REQUIRED, &error))?,
    };
    let mut paths: Vec<PathBuf> = Vec::new();
    for pattern in &patterns {
        let found = tars.find(pattern)?;
        if found.is_empty() {
            return Err(tars
                .wrong(TARS, &format!("`{pattern}` finds nothing"))
                .hint("the first part of a path is the name of an input"));
        }
        paths.extend(found.into_iter().filter(|path| !paths.contains(path)).collect::<Vec<_>>());
    }
    let keys = key.map(|text| PublicKey::parse_all(text.as_bytes(), "`VERIFY_KEY`")).transpose()?;
    Ok(Some(Joining { paths, options, trust: keys.map(Trust::of) }))
}

/// Joins the tars into the output's tar.
fn join_tars(
    context: &Context<'_>,
    join: &Joining,
    expected: Option<&Digest>,
    tar: &Path,
    names: &[Reference],
) -> Result<ImageOutcome, Failure> {
    let temporary = system::temporary_folder(context.env);
    let stores =
        join.paths.iter().map(|path| store::open(path, &temporary)).collect::<Result<Vec<_>, _>>()?;
    let places: Vec<_> = stores.iter().map(|store| ImageLocator::over(store, None)).collect();
    reporter::watch(&context.ui, Wording::Written, |observer| {
        let collections = gather_stored(&stores, &places, None, TRANSFER_CONCURRENCY, observer)?;
        for (places, collection) in places.iter().zip(&collections) {
            verification::demand(places, collection, join.trust.as_ref())?;
        }
        let index = JoinedIndex::of(&places, &collections, &join.options, expected, observer)?;
        let target = LayoutTarget::File(tar.to_owned());
        index.write(target, names, TRANSFER_CONCURRENCY, observer)?;
        Ok(index.outcome(Vec::new(), None, Some(tar)))
    })
}

/// An image that was built.
struct Built {
    outcome: ImageOutcome,
    root: RawDocument,
}

/// Packs into the output's tar.
fn pack(context: &Context<'_>, work: &PackWork, tar: &Path, names: &[Reference]) -> Result<Built, Failure> {
    let target = LayoutTarget::File(tar.to_owned());
    let temporary = system::temporary_folder(context.env);
    if let PackWork::Runnable { request, places } = work {
        let stores = open_places(places, &temporary)?;
        let origin = origin(&stores)?;
        return Ok(reporter::watch(&context.ui, Wording::Written, |observer| {
            let made = transfer::make_runnable(request, &origin, target.folder(), observer)?;
            transfer::write_runnable(&made, &target, names, TRANSFER_CONCURRENCY, observer)?;
            Ok::<_, TransferError>(Built { outcome: ImageOutcome::of_made(&made), root: made.root })
        })?);
    }
    let store = match work {
        PackWork::App { base, .. } => open_base(base.as_deref(), &temporary)?,
        PackWork::Plain(_) | PackWork::Runnable { .. } => None,
    };
    let base = store.as_ref().map(base_of_store).transpose()?;
    let packed = reporter::watch(&context.ui, Wording::Written, |observer| match work {
        PackWork::App { request, .. } => {
            transfer::pack_app_to_layout(request, base.as_ref(), &target, names, observer)
        }
        PackWork::Plain(request) => transfer::pack_to_layout(request, &target, names, observer),
        PackWork::Runnable { .. } => Err(TransferError::Internal { what: "an image was to be made twice" }),
    })?;
    Ok(Built { outcome: ImageOutcome::of_packed(&packed), root: packed.manifest })
}

/// Reads every param that is parsed, and returns their `Debug` text, for the fuzz targets.
pub(super) fn read_params(env: &Env) -> Result<String, Failure> {
    let mut variables = Variables(env);
    let mut read = format!("{:?}", names(&mut variables)?);
    for param in params() {
        let value = match param.form {
            ParamForm::Text | ParamForm::Path => format!(" {:?}", variables.text(param.key)?),
            ParamForm::List => format!(" {:?}", variables.texts(param.key)?),
            ParamForm::Table => format!(" {:?}", variables.table(param.key)?),
            ParamForm::Switch => format!(" {}", variables.switch(param.key)?),
        };
        read.push_str(&value);
    }
    Ok(read)
}

/// Reads the names to record.
fn names(variables: &mut Variables<'_>) -> Result<Vec<Reference>, Failure> {
    let reference = variables.text("reference")?;
    let tags = variables.texts("tags")?.iter().map(|tag| tag.parse::<Tag>()).collect::<Result<Vec<_>, _>>();
    let tags = tags.map_err(|error| variables.wrong("tags", &error))?;
    let Some(reference) = reference else {
        return match tags.first() {
            None => Ok(Vec::new()),
            Some(tag) => {
                Err(Failure::tag_without_repository(tag).hint("set `REFERENCE` to `registry/repository`"))
            }
        };
    };
    let reference: Reference = reference.parse().map_err(|error| variables.wrong("reference", &error))?;
    if reference.digest.is_some() {
        return Err(variables.wrong("reference", &"it has a digest, which follows from the content"));
    }
    Ok(references(&reference, &tags))
}

fn unpack_rootfs(context: &Context<'_>, output: &Path, tar: &Path, packed: &Built) -> Result<(), Failure> {
    let store = store::open(tar, &system::temporary_folder(context.env))?;
    let options = PullRequest {
        target: output.join("rootfs"),
        overwrite: Overwrite::Replace,
        platform: None,
        umask: UMASK,
        include: Vec::new(),
        concurrency: TRANSFER_CONCURRENCY,
    };
    let root = packed.root.descriptor();
    let report = reporter::watch(&context.ui, Wording::Fetched, |observer| {
        transfer::pull_rootfs(&store, &root, &options, ownership(), observer)
    })?;
    let metadata = String::from_utf8_lossy(&image_metadata(report.config.as_ref())).into_owned();
    write(output, "metadata.json", &metadata)
}

fn write(output: &Path, name: &str, content: &str) -> Result<(), Failure> {
    const MODE: u32 = 0o644;
    Ok(AtomicFile::write_whole(&output.join(name), content.as_bytes(), MODE)?)
}

/// Params as variables.
struct Variables<'a>(&'a Env);

impl Values for Variables<'_> {
    fn name(&self, key: &str) -> String {
        key.to_ascii_uppercase()
    }

    fn text(&mut self, key: &'static str) -> Result<Option<String>, Failure> {
        match self.0.os(&self.name(key)) {
            None => Ok(None),
            Some(value) => {
                let text = value.to_str().map(str::to_owned);
                text.map(Some).ok_or_else(|| self.wrong(key, &"it is not UTF-8"))
            }
        }
    }

    /// Reads a list: JSON, from a YAML list, or words between blanks, commas and line breaks.
    fn texts(&mut self, key: &'static str) -> Result<Vec<String>, Failure> {
        let Some(value) = self.text(key)? else { return Ok(Vec::new()) };
        if value.trim_start().starts_with('[') {
            return serde_json::from_str(&value).map_err(|_| self.wrong(key, &"it is not a list of texts"));
        }
        let words = value.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
        Ok(words.map(str::to_owned).collect())
    }

    /// Reads a map: JSON, from a YAML map, or lines `key=value`.
    fn table(&mut self, key: &'static str) -> Result<BTreeMap<String, String>, Failure> {
        let Some(value) = self.text(key)? else { return Ok(BTreeMap::new()) };
        if value.trim_start().starts_with('{') {
            return serde_json::from_str(&value).map_err(|_| self.wrong(key, &"it is not a map of texts"));
        }
        let lines = value.lines().map(str::trim).filter(|line| !line.is_empty());
        lines
            .map(|line| match line.split_once('=') {
                Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
                _ => Err(self.wrong(key, &format!("`{line}` is not `key=value`"))),
            })
            .collect()
    }

    fn switch(&mut self, key: &'static str) -> Result<bool, Failure> {
        match self.text(key)?.as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(self.wrong(key, &"expected `true` or `false`")),
        }
    }

    fn find(&self, pattern: &str) -> Result<Vec<PathBuf>, Failure> {
        let base = if pattern.starts_with('/') { "/" } else { "." };
        let found = glob::find(Path::new(base), pattern)?;
        // `./` in front would only make messages longer.
        let short = |path: PathBuf| path.strip_prefix("./").map(Path::to_owned).unwrap_or(path);
        Ok(found.into_iter().map(short).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_maps_come_as_yaml_or_as_text() {
        let env = |value: &str| Env::from_pairs([("X", value)]);
        for (value, expected) in [
            ("", &[][..]),
            ("a", &["a"]),
            ("a b,c\n d ", &["a", "b", "c", "d"]),
            (r#"["a b","c,d"]"#, &["a b", "c,d"]),
        ] {
            assert_eq!(Variables(&env(value)).texts("x").unwrap(), expected, "{value}");
        }
        assert!(Variables(&env("[1]")).texts("x").is_err());
        for (value, expected) in [
            ("a=b", &[("a", "b")][..]),
            ("a=b,c\nd=e=f\n", &[("a", "b,c"), ("d", "e=f")]),
            (r#"{"a":"b"}"#, &[("a", "b")]),
        ] {
            let found = Variables(&env(value)).table("x").unwrap();
            let found: Vec<(&str, &str)> = found.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            assert_eq!(found, expected, "{value}");
        }
        for value in ["a", "=b", r#"{"a":{}}"#] {
            assert!(Variables(&env(value)).table("x").is_err(), "{value}");
        }
    }

    #[test]
    fn names_need_a_repository() {
        let names = |pairs: &[(&str, &str)]| {
            names(&mut Variables(&Env::from_pairs(pairs.iter().copied())))
                .map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(names(&[]), Ok(Vec::new()));
        let expected = ["r.example/a:v1", "r.example/a:v2"].map(str::to_owned).to_vec();
        assert_eq!(names(&[("REFERENCE", "r.example/a:v1"), ("TAGS", "v2 v1")]), Ok(expected));
        assert!(
            names(&[("TAGS", "v2")])
                .unwrap_err()
                .message
                .to_string()
                .starts_with("tag `v2` has no repository")
        );
        assert!(
            names(&[("REFERENCE", "r.example/A")])
                .unwrap_err()
                .message
                .to_string()
                .starts_with("`REFERENCE`: ")
        );
    }
}

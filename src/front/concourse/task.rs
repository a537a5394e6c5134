//! The build task: params from the environment, an image in the task's output folder.
//!
//! Concourse gives params as variables: a YAML list or map arrives as JSON, everything else as its text, and what
//! is not set as empty text. Nothing is contacted, no privileges are needed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::glob;
use super::packing::{self, Packing};
use super::rootfs::{UMASK, image_metadata, ownership};
use crate::front::cli::{Context, references};
use crate::front::env::Env;
use crate::front::failure::Failure;
use crate::front::outputs::{Document, Outcome};
use crate::front::reporter::{self, Wording};
use crate::front::system;
use crate::model::{Reference, Tag};
use crate::store::layout::LayoutTarget;
use crate::stream::{AtomicFile, Overwrite};
use crate::transfer::{self, ImageSource as _, PackedImage, PullOptions, StoreSource};

/// A param of the task.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    /// Its name, which is the variable's.
    pub name: &'static str,
    /// The flag of `push` it stands for; empty for the task's own.
    pub flag: &'static str,
    /// What it says, in one line.
    pub meaning: &'static str,
}

/// Every param, in the order of `task.yml`.
pub const PARAMS: &[Param] = &[
    own("FILES", "folders and files to pack, each beginning with the name of an input; patterns are allowed"),
    own("KIND", "`bundle` or `image`; by default a bundle if there is a `.imgpkg`, else an image"),
    own("REFERENCE", "`registry/repository:tag` to record in the tar; nothing is contacted"),
    own("TAGS", "further tags to record"),
    own("LABELS", "labels: a map, or lines `key=value`"),
    Param { name: "ANNOTATIONS", flag: "annotation", meaning: "annotations of the manifest, as `LABELS`" },
    Param {
        name: "EXCLUDE",
        flag: "file-exclusion",
        meaning: "exact paths below a folder to leave out (default `.git`)",
    },
    Param {
        name: "COMPRESSION",
        flag: "compression",
        meaning: "`gzip`, `zstd` or `none`, with `:level` if wanted",
    },
    Param {
        name: "PLATFORM",
        flag: "platform",
        meaning: "`os/architecture` of the image (default `linux/amd64`)",
    },
    Param { name: "MEDIA_TYPES", flag: "media-types", meaning: "`oci` (default) or `docker`" },
    Param { name: "SYMLINKS", flag: "symlinks", meaning: "`keep` (default), `copy` or `refuse`" },
    Param {
        name: "PRESERVE_PERMISSIONS",
        flag: "preserve-permissions",
        meaning: "`true`: keep each file's own mode",
    },
    Param {
        name: "EXPECTED_DIGEST",
        flag: "expected-digest",
        meaning: "fail unless the image has this digest",
    },
    own("UNPACK_ROOTFS", "`true`: also write `rootfs/` and `metadata.json`, for `image:` of a later task"),
    own("OUTPUT", "folder of the output (default `image`)"),
];

const fn own(name: &'static str, meaning: &'static str) -> Param {
    Param { name, flag: "", meaning }
}

/// Builds the image.
pub(in crate::front) fn run(context: &Context<'_>) -> Result<Outcome, Failure> {
    let env = context.env;
    let output = PathBuf::from(text(env, "OUTPUT")?.unwrap_or("image"));
    if !output.is_dir() {
        let name = output.display();
        return Err(Failure::misuse(format!("there is no output folder `{name}`")).hint(format!(
            "the task needs `outputs: [{{name: {name}}}]`, or `OUTPUT` the name of another one"
        )));
    }
    let unpack = switch(env, "UNPACK_ROOTFS")?;
    let names = names(env)?;
    let field = |flag: &str| {
        let param = PARAMS.iter().find(|param| param.flag == flag || param.name.eq_ignore_ascii_case(flag));
        param.map_or(flag, |param| param.name).to_owned()
    };
    let request = packing(env)?.request(env, &field)?;
    let tar = output.join("image.tar");
    let packed = reporter::watch(&context.ui, Wording::Written, |observer| {
        transfer::pack_to_layout(&request, &LayoutTarget::File(tar.clone()), &names, observer)
    })?;
    let digest = packed.manifest.digest().to_string();
    let tags: Vec<&str> = names.iter().filter_map(|name| name.tag.as_ref()).map(Tag::as_str).collect();
    write(&output, "digest", &digest)?;
    if let Some(first) = names.first() {
        write(&output, "reference", &format!("{}@{digest}", first.repository))?;
        write(&output, "tags", &tags.join(" "))?;
    }
    if unpack {
        unpack_rootfs(context, &output, &tar, &packed)?;
    }
    let json = serde_json::json!({
        "kind": packed.profile.name,
        "digest": digest,
        "path": tar.display().to_string(),
        "tags": tags,
    });
    Ok(Outcome::Document(Document { text: format!("{}: {digest}\n", tar.display()), json, failure: None }))
}

/// Reads what is to be packed.
fn packing(env: &Env) -> Result<Packing, Failure> {
    let mut words = Vec::new();
    if let Some(kind) = text(env, "KIND")? {
        words.push(packing::kind_flag(kind).map_err(|problem| wrong("KIND", problem))?);
    }
    for param in PARAMS.iter().filter(|param| !param.flag.is_empty()) {
        let flag = param.flag;
        match param.name {
            "ANNOTATIONS" => {
                words.extend(
                    table(env, param.name)?.iter().map(|(key, value)| format!("--{flag}={key}={value}")),
                );
            }
            "EXCLUDE" => words.extend(list(env, param.name)?.iter().map(|path| format!("--{flag}={path}"))),
            _ => words.extend(text(env, param.name)?.map(|value| format!("--{flag}={value}"))),
        }
    }
    let files = list(env, "FILES")?;
    if files.is_empty() {
        return Err(wrong("FILES", "it is missing, expected folders or files of the inputs"));
    }
    let mut roots = Vec::new();
    for pattern in &files {
        let base = if pattern.starts_with('/') { "/" } else { "." };
        let found = glob::find(Path::new(base), pattern)?;
        if found.is_empty() {
            return Err(wrong("FILES", format!("`{pattern}` finds nothing"))
                .hint("the first part of a path is the name of an input of the task"));
        }
        // `./` in front would only make messages longer.
        roots.extend(
            found.into_iter().map(|path| path.strip_prefix("./").map(Path::to_owned).unwrap_or(path)),
        );
    }
    Ok(Packing { roots, words, labels: table(env, "LABELS")? })
}

/// Reads every param whose value has a form, and returns how they show in a debugger: for the fuzz targets.
pub(super) fn read_params(env: &Env) -> Result<String, Failure> {
    let mut read = format!("{:?} {}", names(env)?, switch(env, "UNPACK_ROOTFS")?);
    for param in ["FILES", "EXCLUDE", "TAGS"] {
        read.push_str(&format!(" {:?}", list(env, param)?));
    }
    for param in ["LABELS", "ANNOTATIONS"] {
        read.push_str(&format!(" {:?}", table(env, param)?));
    }
    Ok(read)
}

/// Reads the names to record.
fn names(env: &Env) -> Result<Vec<Reference>, Failure> {
    let reference = text(env, "REFERENCE")?;
    let tags = list(env, "TAGS")?.iter().map(|tag| tag.parse::<Tag>()).collect::<Result<Vec<_>, _>>();
    let tags = tags.map_err(|error| wrong("TAGS", error))?;
    let Some(reference) = reference else {
        return match tags.first() {
            None => Ok(Vec::new()),
            Some(tag) => Err(wrong("TAGS", format!("tag `{tag}` has no repository it could belong to"))
                .hint("set `REFERENCE` to `registry/repository`")),
        };
    };
    let reference: Reference = reference.parse().map_err(|error| wrong("REFERENCE", error))?;
    if reference.digest.is_some() {
        return Err(wrong("REFERENCE", "it has a digest, which follows from the content"));
    }
    Ok(references(&reference, &tags))
}

fn unpack_rootfs(
    context: &Context<'_>,
    output: &Path,
    tar: &Path,
    packed: &PackedImage,
) -> Result<(), Failure> {
    let store = crate::store::open(tar, &system::temporary_folder(context.env))?;
    let source = StoreSource(store.as_ref());
    let options = PullOptions {
        target: output.join("rootfs"),
        overwrite: Overwrite::Replace,
        platform: None,
        umask: UMASK,
        include: Vec::new(),
    };
    let root = packed.manifest.descriptor();
    reporter::watch(&context.ui, Wording::Fetched, |observer| {
        transfer::pull_rootfs(&source, &root, &options, ownership(), observer)
    })?;
    let config =
        packed.manifest.manifest().map(|manifest| source.read_config(manifest)).transpose()?.flatten();
    let metadata = String::from_utf8_lossy(&image_metadata(config.as_ref())).into_owned();
    write(output, "metadata.json", &metadata)
}

fn write(output: &Path, name: &str, content: &str) -> Result<(), Failure> {
    const MODE: u32 = 0o644;
    Ok(AtomicFile::write_whole(&output.join(name), content.as_bytes(), MODE)?)
}

fn wrong(param: &str, problem: impl std::fmt::Display) -> Failure {
    Failure::misuse(format!("`{param}`: {problem}"))
}

/// Returns a param's text.
fn text<'e>(env: &'e Env, param: &str) -> Result<Option<&'e str>, Failure> {
    match env.os(param) {
        None => Ok(None),
        Some(value) => value.to_str().map(Some).ok_or_else(|| wrong(param, "it is not UTF-8")),
    }
}

fn switch(env: &Env, param: &str) -> Result<bool, Failure> {
    match text(env, param)? {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(wrong(param, "expected `true` or `false`")),
    }
}

/// Reads a list: JSON, which is what a YAML list becomes, or words between blanks, commas and line breaks.
fn list(env: &Env, param: &str) -> Result<Vec<String>, Failure> {
    let Some(value) = text(env, param)? else { return Ok(Vec::new()) };
    if value.trim_start().starts_with('[') {
        return serde_json::from_str(value).map_err(|_| wrong(param, "it is not a list of texts"));
    }
    let words = value.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
    Ok(words.map(str::to_owned).collect())
}

/// Reads a map: JSON, which is what a YAML map becomes, or lines `key=value`.
fn table(env: &Env, param: &str) -> Result<BTreeMap<String, String>, Failure> {
    let Some(value) = text(env, param)? else { return Ok(BTreeMap::new()) };
    if value.trim_start().starts_with('{') {
        return serde_json::from_str(value).map_err(|_| wrong(param, "it is not a map of texts"));
    }
    let lines = value.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| match line.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(wrong(param, format!("`{line}` is not `key=value`"))),
        })
        .collect()
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
            assert_eq!(list(&env(value), "X").unwrap(), expected, "{value}");
        }
        assert!(list(&env("[1]"), "X").is_err());
        for (value, expected) in [
            ("a=b", &[("a", "b")][..]),
            ("a=b,c\nd=e=f\n", &[("a", "b,c"), ("d", "e=f")]),
            (r#"{"a":"b"}"#, &[("a", "b")]),
        ] {
            let found = table(&env(value), "X").unwrap();
            let found: Vec<(&str, &str)> = found.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            assert_eq!(found, expected, "{value}");
        }
        for value in ["a", "=b", r#"{"a":{}}"#] {
            assert!(table(&env(value), "X").is_err(), "{value}");
        }
    }

    #[test]
    fn names_need_a_repository() {
        let names = |pairs: &[(&str, &str)]| {
            names(&Env::from_pairs(pairs.iter().copied()))
                .map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(names(&[]), Ok(Vec::new()));
        let expected = ["r.example/a:v1", "r.example/a:v2"].map(str::to_owned).to_vec();
        assert_eq!(names(&[("REFERENCE", "r.example/a:v1"), ("TAGS", "v2 v1")]), Ok(expected));
        assert!(
            names(&[("TAGS", "v2")]).unwrap_err().message.starts_with("`TAGS`: tag `v2` has no repository")
        );
        assert!(names(&[("REFERENCE", "r.example/A")]).unwrap_err().message.starts_with("`REFERENCE`: "));
    }
}

//! Files packed in the same step that pushes them: `params.files`.
//!
//! The meaning of every option is `push`'s own; only the names are the pipeline's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fields::Fields;
use super::glob;
use crate::front::cli;
use crate::front::env::Env;
use crate::front::failure::Failure;
use crate::front::reporter::{self, Wording};
use crate::front::text;
use crate::front::ui::Ui;
use crate::model::keys;
use crate::transfer::{self, PackRequest, PackedImage, PackedSource};

/// What can be made of files.
const KINDS: [&str; 2] = ["bundle", "image"];

/// What is packed, and how.
#[derive(Debug, Default)]
pub(super) struct Packing {
    /// Folders and files.
    pub(super) roots: Vec<PathBuf>,
    /// Flags of `push` about what is packed.
    pub(super) words: Vec<String>,
    /// Labels of the configuration; apart from the words because values may have commas.
    pub(super) labels: BTreeMap<String, String>,
}

impl Packing {
    /// Takes the fields about files; `None` when `files` is not given.
    pub(super) fn parse(fields: &mut Fields, folder: &Path) -> Result<Option<Self>, Failure> {
        let files = fields.texts("files")?;
        let kind = fields.text("kind")?;
        let labels = fields.table("labels")?;
        let exclude = fields.texts("exclude")?;
        let compression = fields.text("compression")?;
        let preserve = fields.switch("preserve_permissions")?;
        if files.is_empty() {
            let given =
                [("kind", kind.is_some()), ("labels", !labels.is_empty()), ("exclude", !exclude.is_empty())];
            return match given.iter().find(|(_, given)| *given) {
                Some((key, _)) => {
                    Err(fields.invalid(key, "it belongs to `params.files`, which is not given"))
                }
                None => Ok(None),
            };
        }
        let mut words: Vec<String> = Vec::new();
        if let Some(kind) = kind {
            words.push(kind_flag(&kind).map_err(|problem| fields.invalid("kind", problem))?);
        }
        words.extend(exclude.iter().map(|path| format!("--file-exclusion={path}")));
        words.extend(compression.iter().map(|text| format!("--compression={text}")));
        if preserve {
            words.push("--preserve-permissions".into());
        }
        let mut roots = Vec::new();
        for pattern in &files {
            let found = glob::find(folder, pattern)?;
            if found.is_empty() {
                return Err(fields.invalid("files", format!("`{pattern}` finds nothing")));
            }
            roots.extend(found);
        }
        Ok(Some(Self { roots, words, labels }))
    }

    /// Resolves everything; messages about flags are told in the caller's words.
    pub(super) fn request(&self, env: &Env, field: &dyn Fn(&str) -> String) -> Result<PackRequest, Failure> {
        let mut request = cli::pack_request(&self.words, env)
            .map_err(|failure| Failure { message: rename_flags(&failure.message, field), ..failure })?;
        if self.labels.contains_key(keys::BUNDLE_LABEL) {
            let labels = field("labels");
            return Err(Failure::misuse(format!("`{labels}`: label `{}` is reserved", keys::BUNDLE_LABEL)));
        }
        request.roots.clone_from(&self.roots);
        request.image.labels.clone_from(&self.labels);
        Ok(request)
    }
}

/// Puts another name in place of every `` `--flag` ``.
fn rename_flags(message: &str, field: &dyn Fn(&str) -> String) -> String {
    let mut parts = message.split("`--");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (flag, rest) = part.split_once('`').unwrap_or((part, ""));
        out.push_str(&format!("`{}`{rest}", field(flag)));
    }
    out
}

/// Returns the flag that chooses a kind.
pub(super) fn kind_flag(kind: &str) -> Result<String, String> {
    match kind {
        "bundle" => Ok("-b".to_owned()),
        "image" => Ok("-i".to_owned()),
        other => Err(format!("`{other}` is no kind, expected one of {}", text::quoted_list(KINDS))),
    }
}

/// Packs the files into a temporary file.
pub(super) fn pack(
    packing: &Packing,
    temporary: &Path,
    env: &Env,
    ui: &Arc<Ui>,
) -> Result<(PackedImage, PackedSource), Failure> {
    let field = |flag: &str| match flag {
        "file-exclusion" => "params.exclude".to_owned(),
        flag => format!("params.{}", flag.replace('-', "_")),
    };
    let request = packing.request(env, &field)?;
    Ok(reporter::watch(ui, Wording::Written, |observer| {
        transfer::pack_to_spool(&request, temporary, observer)
    })?)
}

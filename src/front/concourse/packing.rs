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
use crate::transfer::{self, PackRequest, PackedImage, PackedSource};

/// What can be made of files.
const KINDS: [&str; 2] = ["bundle", "image"];

/// What is packed, and how.
#[derive(Debug)]
pub(super) struct Packing {
    roots: Vec<PathBuf>,
    words: Vec<String>,
    labels: BTreeMap<String, String>,
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
        match kind.as_deref() {
            None => {}
            Some("bundle") => words.push("-b".into()),
            Some("image") => words.push("-i".into()),
            Some(other) => {
                let names = text::quoted_list(KINDS);
                return Err(fields.invalid("kind", format!("`{other}` is no kind, expected one of {names}")));
            }
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

    fn request(&self, env: &Env) -> Result<PackRequest, Failure> {
        let mut request = cli::pack_request(&self.words, env)
            .map_err(|failure| Failure { message: failure.message.replace("`--", "`params."), ..failure })?;
        request.roots.clone_from(&self.roots);
        request.image.labels.clone_from(&self.labels);
        Ok(request)
    }
}

/// Packs the files into a temporary file.
pub(super) fn pack(
    packing: &Packing,
    temporary: &Path,
    env: &Env,
    ui: &Arc<Ui>,
) -> Result<(PackedImage, PackedSource), Failure> {
    let request = packing.request(env)?;
    Ok(reporter::watch(ui, Wording::Written, |observer| {
        transfer::pack_to_spool(&request, temporary, observer)
    })?)
}

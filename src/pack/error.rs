//! Errors of making a layer.

use std::io;
use std::path::PathBuf;

use crate::stream::FileError;
use crate::tree::TreeError;

use super::AppError;

/// Begins names that delete what lower layers have (image-spec layer.md, "Whiteouts").
pub(super) const WHITEOUT: &str = ".wh.";

/// Why a layer could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// Reading the folder failed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The output could not be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The same path comes from two roots.
    #[error("`{}` is in more than one of the given paths, first in `{}`, then in `{}`", path.display(), first.display(), second.display())]
    Duplicate {
        /// Path inside the image.
        path: PathBuf,
        /// The root that had it first.
        first: PathBuf,
        /// The root that has it too.
        second: PathBuf,
    },
    /// A second `.imgpkg` folder.
    #[error("`{}` is a second bundle definition, expected only `{}`", found.display(), expected.display())]
    SecondBundle {
        /// The second one.
        found: PathBuf,
        /// The first one, which is the bundle's.
        expected: PathBuf,
    },
    /// A name that means "delete this" in a layer.
    #[error("`{}` would act as a whiteout: names that begin with `{WHITEOUT}` delete files of lower layers", path.display())]
    Whiteout {
        /// The file.
        path: PathBuf,
    },
    /// An entry would replace an entry of another kind.
    #[error(
        "`{}` would put {what} at `/{path}`, where {there} is, which {}",
        source_path.display(), comes_from(of.as_deref())
    )]
    Conflict {
        /// What is packed.
        source_path: PathBuf,
        /// What it is: `a file`.
        what: &'static str,
        /// Path in the image, made readable.
        path: String,
        /// What is there: `a folder`.
        there: &'static str,
        /// What was packed there before; none where the base has it.
        of: Option<PathBuf>,
    },
    /// Links of the base lead in a circle.
    #[error("`{}` cannot go to `/{path}`: links of the base lead in a circle there", source_path.display())]
    LinksInBase {
        /// What is packed.
        source_path: PathBuf,
        /// Path in the image, made readable.
        path: String,
    },
    /// A place behind what may be a link of a base that was not read.
    #[error(
        "`{}` would go below `/{link}`, which is a link in many bases, and the files of this one are not read",
        source_path.display()
    )]
    PerhapsLink {
        /// What is packed.
        source_path: PathBuf,
        /// Path in the image, made readable.
        link: String,
    },
    /// A folder or zip cannot become a source image.
    #[error(transparent)]
    App(Box<AppError>),
    /// The output could not be written; the caller knows its path.
    #[error("cannot write the layer: {0}")]
    Sink(#[from] io::Error),
}

fn comes_from(of: Option<&std::path::Path>) -> String {
    match of {
        Some(path) => format!("comes from `{}`", path.display()),
        None => "is in the base".to_owned(),
    }
}

impl From<AppError> for PackError {
    fn from(error: AppError) -> Self {
        Self::App(Box::new(error))
    }
}

//! Errors of folders and zips that cannot become a source image.

use std::path::PathBuf;

use crate::tree::{RefusedLinks, SymlinkPolicy};
use crate::zip::ZipError;

/// Why a folder or zip cannot become a source image.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The zip, or one of its entries, is not acceptable.
    #[error("`{}`: {source}", path.display())]
    Zip {
        /// The zip.
        path: PathBuf,
        /// Which entry, and why.
        source: ZipError,
    },
    /// Neither a folder nor a regular file.
    #[error("`{}` is neither a folder nor a file, expected a folder or a zip archive", path.display())]
    NotAnApp {
        /// The path.
        path: PathBuf,
    },
    /// More bytes than allowed.
    #[error("`{}` has more than {limit} bytes: {total} with `{entry}`", path.display())]
    TooLarge {
        /// The folder or zip.
        path: PathBuf,
        /// Most bytes allowed.
        limit: u64,
        /// Bytes up to and with the entry.
        total: u64,
        /// The entry that exceeded the limit.
        entry: String,
    },
    /// More entries than accepted.
    #[error("`{}` has more than {limit} files and folders, which is not accepted", path.display())]
    TooMany {
        /// The folder or zip.
        path: PathBuf,
        /// Most accepted.
        limit: usize,
    },
    /// A path that copied links made too long.
    #[error("`{}`: the path of `{entry}` has more than 4096 bytes", path.display())]
    LongPath {
        /// The folder or zip.
        path: PathBuf,
        /// The entry.
        entry: String,
    },
    /// Nothing to pack.
    #[error("`{}` has nothing that could be packed", path.display())]
    Empty {
        /// The folder or zip.
        path: PathBuf,
    },
    /// A name that means "delete this" in a layer.
    #[error("`{}`: `{entry}` would act as a whiteout: names that begin with `.wh.` delete files of lower layers", path.display())]
    Whiteout {
        /// The folder or zip.
        path: PathBuf,
        /// The entry.
        entry: String,
    },
    /// A path comes from both the upload and the earlier image.
    #[error("`{}`: `{entry}` is in it and in the list of resources too, expected one of the two", path.display())]
    Clash {
        /// The zip.
        path: PathBuf,
        /// The path.
        entry: String,
    },
    /// A list of resources was given with a folder; a client sends a zip.
    #[error("`{}` is a folder, but a list of resources completes a zip", path.display())]
    CompletedFolder {
        /// The folder.
        path: PathBuf,
    },
    /// Symbolic links in a zip that cannot be followed.
    #[error("`{}`: {links}", path.display())]
    Links {
        /// The zip.
        path: PathBuf,
        /// The links, with the reason for each.
        links: RefusedLinks,
        /// What was to be done with links.
        policy: SymlinkPolicy,
    },
    /// `.cfignore` is not valid.
    #[error("`.cfignore` in `{}`: {problem}", path.display())]
    Ignore {
        /// The folder or zip.
        path: PathBuf,
        /// Line and reason.
        problem: String,
    },
}

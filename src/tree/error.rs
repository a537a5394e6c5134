//! Why a folder cannot be read to its end, with the path that is at fault.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::{RefusedLinks, SymlinkPolicy};

/// Why a folder could not be read to the end.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The operating system refused.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file changed while it was read.
    #[error("`{}` changed while it was read: {how}", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// What changed, with both numbers.
        how: String,
    },
    /// Not a file, folder or link.
    #[error("`{}` is {found}, expected a regular file, directory or symbolic link", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// Symbolic links that cannot be packed.
    #[error("{links}")]
    Links {
        /// The links, with the reason for each.
        links: RefusedLinks,
        /// What was to be done with links.
        policy: SymlinkPolicy,
    },
    /// Folders inside folders beyond what can be extracted again.
    #[error("`{}` is nested too deeply: more than {limit} {what}", shortened(path))]
    TooDeep {
        /// The entry that is too deep.
        path: PathBuf,
        /// Most allowed.
        limit: usize,
        /// What is counted.
        what: &'static str,
    },
}

/// Returns the beginning of a path for a message, with `…` where it was cut.
pub(super) fn shortened(path: &Path) -> String {
    let text = path.display().to_string();
    match text.char_indices().nth(200) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

impl TreeError {
    pub(super) fn io(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { action, path: path.to_owned(), source: source.into() }
    }

    /// For a file that was listed before: its absence is a change, and not a wrong path.
    pub(super) fn listed(action: &'static str, path: &Path, error: Errno) -> Self {
        match error {
            Errno::NOENT => Self::Changed { path: path.to_owned(), how: "it vanished".into() },
            // O_NOFOLLOW met a link, O_DIRECTORY met something else.
            Errno::LOOP | Errno::NOTDIR => {
                Self::Changed { path: path.to_owned(), how: "it became another kind of file".into() }
            }
            error => Self::io(action, path, error),
        }
    }
}

pub(super) fn too_deep(path: &Path, limit: usize, what: &'static str) -> TreeError {
    TreeError::TooDeep { path: path.to_owned(), limit, what }
}

pub(super) fn kind_name(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "a named pipe (FIFO)",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::RegularFile => "a regular file",
        FileType::Unknown => "of an unknown kind",
    }
}

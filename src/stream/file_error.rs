//! Errors of files and folders, with the path.

use std::io;
use std::path::{Path, PathBuf};

/// Why a file could not be read, created, written or put in place.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The target exists and is not a regular file.
    #[error("cannot write `{}`: it is {found}, expected a regular file or nothing", path.display())]
    NotAFile {
        /// The target.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// A folder to write to has something in it.
    #[error("`{}` is not empty", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// A folder to replace has a mount in it, whose content would be removed too.
    #[error("cannot replace `{}`: `{}` in it is a mount point", path.display(), mount.display())]
    MountInside {
        /// The folder.
        path: PathBuf,
        /// The first mount below it.
        mount: PathBuf,
    },
    /// Another process exchanged a folder that was being written.
    #[error("`{}` was exchanged by another process while it was written", path.display())]
    Exchanged {
        /// The folder.
        path: PathBuf,
    },
    /// Another user may have made the file or folder under a predictable name.
    #[error("`{}` is {found}, expected what an earlier run of this user left", path.display())]
    NotOwn {
        /// The file or folder.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// A file to read is larger than allowed.
    #[error("`{}` has more than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Most bytes allowed.
        limit: u64,
    },
    /// A file to read as text is not UTF-8.
    #[error("`{}` is not UTF-8 text", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file it was tried on.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl FileError {
    /// Makes the error for an operation on a path.
    #[must_use]
    pub fn io(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { action, path: path.to_owned(), source: source.into() }
    }

    /// Returns the operating system's error, if it was one.
    #[must_use]
    pub fn io_error(&self) -> Option<&io::Error> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_file_and_what_was_tried() {
        let path = Path::new("/a/b");
        let io = FileError::io("read", path, io::ErrorKind::NotFound);
        assert_eq!(io.to_string(), "cannot read `/a/b`: entity not found");
        assert_eq!(io.io_error().map(io::Error::kind), Some(io::ErrorKind::NotFound));
        for (error, expected) in [
            (
                FileError::NotAFile { path: path.to_owned(), found: "a directory" },
                "cannot write `/a/b`: it is a directory, expected a regular file or nothing",
            ),
            (FileError::NotEmpty { path: path.to_owned() }, "`/a/b` is not empty"),
            (FileError::TooLarge { path: path.to_owned(), limit: 7 }, "`/a/b` has more than 7 bytes"),
            (FileError::NotText { path: path.to_owned() }, "`/a/b` is not UTF-8 text"),
        ] {
            assert_eq!(error.to_string(), expected);
            assert!(error.io_error().is_none(), "{error}");
        }
    }
}

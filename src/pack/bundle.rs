//! A bundle's own rules: where `.imgpkg` may be, and that its lock file is valid before anything is packed.
//!
//! imgpkg accepts an invalid `images.yml` and fails when the bundle is pulled; we refuse it here.

use std::path::{Path, PathBuf};

use crate::lock::{BUNDLE_FOLDER, IMAGES_LOCK_FILE, ImagesLock, LockError};
use crate::model::limits;
use crate::model::list::quoted_list;
use crate::stream::{FileError, read_text_file};
use crate::tree::Filter;

/// A bundle definition that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleLayout {
    /// The `.imgpkg` folder.
    pub folder: PathBuf,
    /// The lock file's content.
    pub images: ImagesLock,
}

/// Why folders are not a bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// No root has a `.imgpkg` folder.
    #[error("none of the given paths has a `{BUNDLE_FOLDER}/{IMAGES_LOCK_FILE}`: {}", list(roots))]
    Missing {
        /// The roots.
        roots: Vec<PathBuf>,
    },
    /// A valid bundle was to be packed as a plain image.
    #[error("`{}` makes this a bundle, which cannot be packed as a plain image", folder.display())]
    IsBundle {
        /// The `.imgpkg` folder.
        folder: PathBuf,
    },
    /// The folder is there, the file is not.
    #[error("`{}` does not exist, but every bundle needs it", path.display())]
    NoLockFile {
        /// The file.
        path: PathBuf,
    },
    /// More than one root has a `.imgpkg` folder.
    #[error("more than one bundle definition: {}", list(folders))]
    Several {
        /// The folders.
        folders: Vec<PathBuf>,
    },
    /// The `.imgpkg` folder itself, or something in it, was given as a path.
    #[error("`{}` is inside a `{BUNDLE_FOLDER}` folder, expected its parent", path.display())]
    NotAChild {
        /// The path given.
        path: PathBuf,
    },
    /// The lock file is not valid.
    #[error("`{}` is not a valid ImagesLock: {source}", path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// Line, field and reason.
        source: LockError,
    },
    /// The lock file is a folder, pipe or device.
    #[error("`{}` is not a regular file", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error(transparent)]
    File(#[from] FileError),
}

fn list(paths: &[PathBuf]) -> String {
    quoted_list(paths.iter().map(|path| path.display()))
}

/// Finds the `.imgpkg` folder that is a direct child of exactly one root, and reads its lock file.
///
/// Returns `None` when no root has one. Excluded folders do not count. Folders further down are found by the packing
/// walk, which visits every entry.
/// Errors: [`BundleError`], all before anything is written.
pub fn find_bundle(roots: &[PathBuf], filter: &Filter) -> Result<Option<BundleLayout>, BundleError> {
    let mut folders = Vec::new();
    for (number, root) in roots.iter().enumerate() {
        let absolute = std::path::absolute(root).unwrap_or_else(|_| root.clone());
        if absolute.components().any(|part| part.as_os_str() == BUNDLE_FOLDER) {
            return Err(BundleError::NotAChild { path: root.clone() });
        }
        let folder = root.join(BUNDLE_FOLDER);
        if folder.is_dir() && !filter.of_root(number).excludes(BUNDLE_FOLDER.as_bytes(), true) {
            folders.push(folder);
        }
    }
    match folders.as_slice() {
        [] => Ok(None),
        [folder] => Ok(Some(BundleLayout {
            folder: folder.clone(),
            images: read_lock(&folder.join(IMAGES_LOCK_FILE))?,
        })),
        _ => Err(BundleError::Several { folders }),
    }
}

fn read_lock(path: &Path) -> Result<ImagesLock, BundleError> {
    // Its type is checked first, because opening a pipe would wait for ever.
    if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(BundleError::NotAFile { path: path.to_owned() });
    }
    let text = read_text_file(path, limits::LOCK_BYTES).map_err(|error| match error.io_error() {
        Some(io) if io.kind() == std::io::ErrorKind::NotFound => {
            BundleError::NoLockFile { path: path.to_owned() }
        }
        _ => error.into(),
    })?;
    ImagesLock::parse(&text).map_err(|source| BundleError::Lock { path: path.to_owned(), source })
}

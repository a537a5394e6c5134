//! A layout folder: its files are opened relative to open handles, so that renaming the folder has no effect.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{self as rfs, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::model::{Algorithm, Digest};
use crate::stream::{FileError, TooLarge, read_bounded};
use crate::tar::display_name;

use super::super::{Remark, StoreError};

const ALGORITHMS: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];

/// A layout folder, held open while it is read.
#[derive(Debug)]
pub(in crate::store) struct Directory {
    path: PathBuf,
    root: OwnedFd,
    /// The folders `blobs/<algorithm>` that are there.
    algorithms: Vec<(Algorithm, OwnedFd)>,
}

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// `NONBLOCK` so that a pipe in place of a blob does not hang the open; regular files ignore it.
const BLOB: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

impl Directory {
    pub(super) fn open(root: OwnedFd, path: &Path) -> Result<Self, StoreError> {
        let mut algorithms = Vec::new();
        if let Some(blobs) = open_folder(&root, "blobs", &path.join("blobs"))? {
            for algorithm in ALGORITHMS {
                let path = path.join("blobs").join(algorithm.name());
                if let Some(folder) = open_folder(&blobs, algorithm.name(), &path)? {
                    algorithms.push((algorithm, folder));
                }
            }
        }
        Ok(Self { path: path.to_owned(), root, algorithms })
    }

    pub(super) fn read_small(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path.join(name);
        let Some(file) = open_file(&self.root, name, &path)? else { return Ok(None) };
        read_bounded(file, limit).map(Some).map_err(|error| match error {
            TooLarge::Limit { limit } => {
                StoreError::TooLarge { path: self.path.clone(), what: format!("`{name}`"), limit }
            }
            TooLarge::Io(error) => FileError::io("read", &path, error).into(),
        })
    }

    /// Lists the blobs with their sizes.
    pub(super) fn list(&self, remarks: &mut Vec<Remark>) -> Result<BTreeMap<Digest, u64>, StoreError> {
        let mut held = BTreeMap::new();
        for (algorithm, folder) in &self.algorithms {
            let path = self.path.join("blobs").join(algorithm.name());
            let failed = |error: Errno| StoreError::File(FileError::io("list", &path, error));
            for entry in rfs::Dir::read_from(folder).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let name: &CStr = entry.file_name();
                if matches!(name.to_bytes(), b"." | b"..") {
                    continue;
                }
                let shown = format!("blobs/{}/{}", algorithm.name(), display_name(name.to_bytes()));
                let digest =
                    name.to_str().ok().and_then(|hex| format!("{}:{hex}", algorithm.name()).parse().ok());
                let Some(digest) = digest else {
                    remarks.push(Remark::StrayBlob(shown));
                    continue;
                };
                let stat = rfs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                    let problem = format!(
                        "`{shown}` is not a regular file, but blobs of an OCI layout are; `cp -rL` copies what links lead to"
                    );
                    return Err(StoreError::damaged(&self.path, problem));
                }
                held.insert(digest, u64::try_from(stat.st_size).unwrap_or(0));
            }
        }
        Ok(held)
    }

    pub(in crate::store) fn open_blob(&self, digest: &Digest) -> Result<Box<dyn Read + Send>, StoreError> {
        Ok(Box::new(self.open_file_of(digest)?))
    }

    /// Opens the file of a blob.
    pub(in crate::store) fn open_file_of(&self, digest: &Digest) -> Result<File, StoreError> {
        let missing = || StoreError::Missing { path: self.path.clone(), digest: digest.clone() };
        let folder = self.algorithms.iter().find(|(algorithm, _)| *algorithm == digest.algorithm());
        let (_, folder) = folder.ok_or_else(missing)?;
        let path = self.path.join("blobs").join(digest.algorithm().name()).join(digest.hex());
        open_file(folder, digest.hex(), &path)?.ok_or_else(missing)
    }
}

fn open_folder(parent: &OwnedFd, name: &str, path: &Path) -> Result<Option<OwnedFd>, StoreError> {
    match rfs::openat(parent, name, FOLDER, Mode::empty()) {
        Ok(folder) => Ok(Some(folder)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(FileError::io("open directory", path, error).into()),
    }
}

/// Opens a regular file below a folder without following a link; `None` when there is nothing.
fn open_file(parent: &OwnedFd, name: &str, path: &Path) -> Result<Option<File>, StoreError> {
    let file = match rfs::openat(parent, name, BLOB, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(FileError::io("open", path, error).into()),
    };
    let metadata = file.metadata().map_err(|error| FileError::io("look at", path, error))?;
    if metadata.is_file() {
        Ok(Some(file))
    } else {
        Err(StoreError::damaged(path, "it is not a regular file"))
    }
}

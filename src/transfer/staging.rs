//! A folder that appears whole or not at all: filled under another name beside its place, then renamed.
//!
//! What was there is exchanged in one step and removed afterwards; after an error it is untouched.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{self as rfs, CWD, Mode, OFlags, RenameFlags};

use crate::stream::FileError;
use crate::stream::temporary::{Temporary, temporary_name};

use super::TransferError;

/// A folder being filled under a name nobody looks for; removed unless it is published.
#[derive(Debug)]
pub(super) struct Staging {
    path: PathBuf,
    target: PathBuf,
    /// The target existed when we began.
    replaces: bool,
    umask: u32,
    published: bool,
    _remembered: Temporary,
}

impl Staging {
    /// Makes the folder beside `target`.
    ///
    /// Errors: [`TransferError::NotEmpty`] unless `replace`.
    pub(super) fn create(target: &Path, replace: bool, umask: u32) -> Result<Self, TransferError> {
        let replaces = match std::fs::read_dir(target) {
            Ok(mut entries) => {
                if entries.next().is_some() && !replace {
                    return Err(TransferError::NotEmpty { path: target.to_owned() });
                }
                true
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(FileError::io("write to", target, error).into()),
        };
        // Resolved, so that a link is followed and `.` and `x/` have a name and a parent.
        let target = if replaces {
            target.canonicalize().map_err(|error| FileError::io("follow", target, error))?
        } else {
            std::path::absolute(target).map_err(|error| FileError::io("find", target, error))?
        };
        let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(TransferError::NotEmpty { path: target });
        };
        let path = parent.join(temporary_name(name));
        let remembered = Temporary::remember(path.clone());
        rfs::mkdir(&path, Mode::RWXU).map_err(|error| FileError::io("create a folder in", parent, error))?;
        Ok(Self { path, target, replaces, umask, published: false, _remembered: remembered })
    }

    /// Returns where the folder is being filled.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the folder being filled.
    pub(super) fn open(&self) -> Result<OwnedFd, TransferError> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rfs::open(&self.path, flags, Mode::empty())
            .map_err(|error| FileError::io("open", &self.path, error))?)
    }

    /// Gives the folder its name; an older one is exchanged in one step and removed afterwards.
    pub(super) fn publish(mut self) -> Result<(), TransferError> {
        let failed = |error: rustix::io::Errno| FileError::io("write to", &self.target, error);
        let mode = match std::fs::metadata(&self.target) {
            Ok(metadata) if self.replaces => metadata.permissions().mode() & 0o7777,
            _ => 0o777 & !self.umask,
        };
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&self.path, permissions)
            .map_err(|error| FileError::io("set the mode of", &self.path, error))?;
        if self.replaces {
            rfs::renameat_with(CWD, &self.path, CWD, &self.target, RenameFlags::EXCHANGE).map_err(failed)?;
            // What is now under the temporary name is the old folder.
            let _ = std::fs::remove_dir_all(&self.path);
        } else {
            rfs::renameat_with(CWD, &self.path, CWD, &self.target, RenameFlags::NOREPLACE).map_err(failed)?;
        }
        self.published = true;
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.published {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

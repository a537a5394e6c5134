//! Owner, attributes, mode and time of a file or folder, set through its handle.

use std::os::fd::OwnedFd;

use rustix::fs::{self as rfs, Mode, Timespec, Timestamps, UTIME_OMIT, XattrFlags};
use rustix::io::Errno;

use super::super::read::Entry;
use super::policy::{ExtractError, ExtractMode, Ownership};
use super::target::owner;

/// Makes the times of an entry; the time of last access is left alone.
pub(super) fn times(mtime: i64) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime, tv_nsec: 0 },
    }
}

/// A file that was just created.
pub(super) struct NewFile {
    pub(super) file: OwnedFd,
    /// It was created with the mode it is to have.
    pub(super) has_mode: bool,
}

/// Sets what a file has besides its data, which has to be written before.
pub(super) fn finish_file(how: ExtractMode, entry: &Entry, new: &NewFile) -> Result<(), ExtractError> {
    set_owner(how, entry, &new.file)?;
    if !new.has_mode {
        set_mode(entry, &new.file, how.file_mode(entry.mode))?;
    }
    // A user's files have the time of their extraction.
    if matches!(how, ExtractMode::Contents { .. }) {
        return Ok(());
    }
    rfs::futimens(&new.file, &times(entry.mtime))
        .map_err(|error| ExtractError::io("set the time", &entry.path, error))
}

/// Sets owner and attributes, before the mode: changing the owner clears setuid bits and capabilities.
pub(super) fn set_owner(how: ExtractMode, entry: &Entry, file: &OwnedFd) -> Result<(), ExtractError> {
    let ExtractMode::Rootfs { ownership } = how else { return Ok(()) };
    if ownership == Ownership::Apply {
        let (uid, gid) = owner(entry)?;
        rfs::fchown(file, Some(uid), Some(gid))
            .map_err(|error| ExtractError::io("set the owner", &entry.path, error))?;
    }
    for (name, value) in &entry.xattrs {
        // Others (`trusted.overlay.…`, `system.…`) mean something to the host, not to the container.
        if !name.starts_with(b"user.") && name != b"security.capability" {
            continue;
        }
        match rfs::fsetxattr(file, name.as_slice(), value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(Errno::PERM) if ownership == Ownership::Ignore => {}
            Err(error) => return Err(ExtractError::io("set an attribute", &entry.path, error)),
        }
    }
    Ok(())
}

/// Sets the mode of a file or folder.
pub(super) fn set_mode(entry: &Entry, file: &OwnedFd, mode: u32) -> Result<(), ExtractError> {
    rfs::fchmod(file, Mode::from_raw_mode(mode))
        .map_err(|error| ExtractError::io("set the mode", &entry.path, error))
}

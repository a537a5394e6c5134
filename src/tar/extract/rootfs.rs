//! What only the root file system of a container needs: times, named pipes.
//!
//! Contents for people get neither: there the time of extraction is the truth, and pipes are refused.

use rustix::fs::{self as rfs, AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use std::os::fd::OwnedFd;

use super::super::read::Entry;
use super::confined::Missing;
use super::policy::{ExtractError, Ownership, Treatment};
use super::{Extractor, owner, walk};

/// Makes the times of an entry; the time of last access is left alone.
fn times(mtime: i64) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime, tv_nsec: 0 },
    }
}

impl Extractor {
    fn is_rootfs(&self) -> bool {
        matches!(self.policy.treatment, Treatment::Rootfs { .. })
    }

    /// Sets the time of a file, last of all.
    pub(super) fn set_file_time(&self, entry: &Entry, file: &OwnedFd) -> Result<(), ExtractError> {
        if !self.is_rootfs() {
            return Ok(());
        }
        rfs::futimens(file, &times(entry.mtime))
            .map_err(|error| ExtractError::io("set the time", &entry.path, error))
    }

    /// Sets the time of a link or pipe in the current folder.
    pub(super) fn set_time_of(&self, entry: &Entry, name: &[u8]) -> Result<(), ExtractError> {
        if !self.is_rootfs() {
            return Ok(());
        }
        rfs::utimensat(self.root.here(), name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| ExtractError::io("set the time", &entry.path, error))
    }

    /// Remembers the time of a folder for the end.
    pub(super) fn note_folder_time(&mut self, entry: &Entry, name: &[u8]) {
        if self.is_rootfs() {
            self.times.insert(self.root.real_path(name), entry.mtime);
        }
    }

    /// Sets the times of folders that are still there.
    pub(super) fn settle_folder_times(&mut self) -> Result<(), ExtractError> {
        for (path, mtime) in std::mem::take(&mut self.times) {
            let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
            // An upper layer may have put a file, or nothing, in its place.
            let Ok(true) = self.root.enter(&parts, Missing::Report) else { continue };
            if self.root.real_path(b"").strip_suffix(b"/") != Some(&path) {
                continue;
            }
            let failed = |error| ExtractError::io("set the time", &path, error);
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let folder = rfs::openat(self.root.here(), ".", flags, Mode::empty()).map_err(failed)?;
            rfs::futimens(&folder, &times(mtime)).map_err(failed)?;
        }
        Ok(())
    }

    /// Makes a named pipe in the folder it belongs into.
    pub(super) fn fifo(&mut self, entry: &Entry, folder: &[&[u8]], name: &[u8]) -> Result<(), ExtractError> {
        let missing = Missing::Create(self.policy.treatment.implied_folder_mode());
        self.root.enter(folder, missing).map_err(|error| walk(&entry.path, error))?;
        let mode = Mode::from_raw_mode(entry.mode & 0o7777);
        self.replace(entry, name, "create the pipe", |root| rfs::mkfifoat(root.here(), name, mode))?;
        if self.policy.treatment == (Treatment::Rootfs { ownership: Ownership::Apply }) {
            let (uid, gid) = owner(entry)?;
            rfs::chownat(self.root.here(), name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| ExtractError::io("set the owner", &entry.path, error))?;
        }
        // The umask had its part in the mode above; what was just made here is no link.
        rfs::chmodat(self.root.here(), name, mode, AtFlags::empty())
            .map_err(|error| ExtractError::io("set the mode", &entry.path, error))?;
        self.set_time_of(entry, name)
    }
}

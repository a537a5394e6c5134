//! What only the root file system of a container gets: times, named pipes.
//!
//! A user's files have the time of their extraction, and pipes are refused.

use rustix::fs::{self as rfs, AtFlags, Mode};

use super::super::read::Entry;
use super::confined::{LIST, Missing};
use super::metadata::times;
use super::policy::{ExtractError, ExtractMode, Ownership};
use super::remembered::Deferred;
use super::target::{Target, owner, walk};

impl Target {
    fn is_rootfs(&self) -> bool {
        matches!(self.policy.mode, ExtractMode::Rootfs { .. })
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
            self.deferred(name).mtime = Some(entry.mtime);
        }
    }

    /// Sets what could not be set on a folder while it was written into, if it is still there.
    pub(super) fn settle_folder(&mut self, parts: &[&[u8]], deferred: Deferred) -> Result<(), ExtractError> {
        if deferred.mtime.is_none() && deferred.mode.is_none() {
            return Ok(());
        }
        let path = parts.join(&b'/');
        // Another process may have put a link, a file, or nothing, in its place.
        let Ok(true) = self.root.enter(parts, Missing::Report) else { return Ok(()) };
        if !self.root.is_at(parts) {
            return Ok(());
        }
        let opened = rfs::openat(self.root.here(), ".", LIST, Mode::empty());
        let folder = opened.map_err(|error| ExtractError::io("open the directory", &path, error))?;
        if let Some(mtime) = deferred.mtime {
            rfs::futimens(&folder, &times(mtime))
                .map_err(|error| ExtractError::io("set the time", &path, error))?;
        }
        if let Some(mode) = deferred.mode {
            rfs::fchmod(&folder, Mode::from_raw_mode(mode))
                .map_err(|error| ExtractError::io("set the mode", &path, error))?;
        }
        Ok(())
    }

    /// Makes a named pipe in the folder it belongs into.
    pub(super) fn fifo(&mut self, entry: &Entry, folder: &[&[u8]], name: &[u8]) -> Result<(), ExtractError> {
        let missing = Missing::Create(self.policy.mode.implied_folder_mode());
        self.root.enter(folder, missing).map_err(|error| walk(&entry.path, error))?;
        let mode = Mode::from_raw_mode(entry.mode & 0o7777);
        self.replace(entry, name, "create the pipe", |root| rfs::mkfifoat(root.here(), name, mode))?;
        if self.policy.mode == (ExtractMode::Rootfs { ownership: Ownership::Apply }) {
            let (uid, gid) = owner(entry)?;
            rfs::chownat(self.root.here(), name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| ExtractError::io("set the owner", &entry.path, error))?;
        }
        // The umask changed the mode of the call above; the new pipe is no link.
        rfs::chmodat(self.root.here(), name, mode, AtFlags::empty())
            .map_err(|error| ExtractError::io("set the mode", &entry.path, error))?;
        self.set_time_of(entry, name)
    }
}

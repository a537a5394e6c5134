//! Folders that appear complete or not at all: filled under a hidden name, then renamed.
//!
//! The hidden folder is beside the target where that is possible; then the rename is one step. A mount point, the
//! working directory, or a folder in whose parent nothing may be created is filled from inside. There the last step
//! is one rename for each entry at the top, after everything has been written and verified.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{self as rfs, AtFlags, CWD, Mode, OFlags, RenameFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::FileError;
use super::temporary::{Temporary, claim, remove_abandoned, temporary_name};

/// What to do with a target that has something in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// Fail with [`FileError::NotEmpty`].
    Refuse,
    /// Replace all of it, once the new content is complete.
    Replace,
}

/// A folder being filled; removed again unless it is published.
#[derive(Debug)]
pub struct StagedFolder {
    path: PathBuf,
    target: PathBuf,
    location: StagingLocation,
    umask: u32,
    published: bool,
    _remembered: Temporary,
    /// Open, and locked, for as long as this lives: tells other processes that the folder is in use.
    lock: Option<OwnedFd>,
}

/// Where the hidden folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StagingLocation {
    /// Beside a target that does not exist yet.
    New,
    /// Beside a target that exists.
    Beside,
    /// In the target itself.
    Inside,
}

impl StagedFolder {
    /// Makes the folder to fill; `umask` is a parameter, because the system call that reads it changes it.
    ///
    /// Folders that killed processes left for the same target are removed first.
    /// Errors: [`FileError::NotEmpty`]; the target is not a folder, or nothing can be created there.
    pub fn create(target: &Path, overwrite: Overwrite, umask: u32) -> Result<Self, FileError> {
        remove_abandoned(target, "".as_ref());
        let exists = match std::fs::read_dir(target) {
            Ok(mut entries) => {
                if entries.next().is_some() && overwrite == Overwrite::Refuse {
                    return Err(FileError::NotEmpty { path: target.to_owned() });
                }
                true
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(FileError::io("write to", target, error)),
        };
        // Resolved, so that a link is followed and `.` and `x/` have a name and a parent.
        let target = if exists { target.canonicalize() } else { std::path::absolute(target) }
            .map_err(|error| FileError::io("find", target, error))?;
        let location = if !exists { StagingLocation::New } else { location_for(&target) };
        if location != StagingLocation::Inside
            && let (Some(parent), Some(name)) = (target.parent(), target.file_name())
        {
            remove_abandoned(parent, name);
            let made = Self::at(|| parent.join(temporary_name(name)), &target, location, umask);
            match made {
                Err(error) if location == StagingLocation::New => {
                    return Err(FileError::io("create a folder in", parent, error));
                }
                // Beside the target nothing can be created; inside it may be possible.
                Err(_) => {}
                Ok(staged) => return Ok(staged),
            }
        }
        Self::at(|| target.join(temporary_name("".as_ref())), &target, StagingLocation::Inside, umask)
            .map_err(|error| FileError::io("create a folder in", &target, error))
    }

    fn at(
        name: impl Fn() -> PathBuf,
        target: &Path,
        location: StagingLocation,
        umask: u32,
    ) -> rustix::io::Result<Self> {
        const TRIES: usize = 10;
        for _ in 0..TRIES {
            let path = name();
            let remembered = Temporary::remember(path.clone());
            rfs::mkdir(&path, Mode::RWXU)?;
            // Until it is locked, another process may remove it as abandoned; then a new name is tried.
            if let Ok(lock) = open_folder(&path)
                && claim(&lock, &path)
            {
                let target = target.to_owned();
                return Ok(Self {
                    path,
                    target,
                    location,
                    umask,
                    published: false,
                    _remembered: remembered,
                    lock: Some(lock),
                });
            }
        }
        Err(Errno::AGAIN)
    }

    /// Returns where the folder to fill is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the folder to fill.
    pub fn open(&self) -> Result<OwnedFd, FileError> {
        open_folder(&self.path).map_err(|error| FileError::io("open", &self.path, error))
    }

    /// Puts the content in place; the old content of the target is removed afterwards.
    pub fn publish(mut self) -> Result<(), FileError> {
        let failed = |error: Errno| FileError::io("write to", &self.target, error);
        match self.location {
            StagingLocation::New => {
                self.set_mode(0o777 & !self.umask)?;
                // Also without that flag, a folder can replace only an empty folder.
                exchange(&self.path, &self.target, RenameFlags::NOREPLACE)
                    .or_else(|error| or_plain(error, || rfs::rename(&self.path, &self.target)))
                    .map_err(failed)?;
            }
            StagingLocation::Beside => {
                let old = std::fs::metadata(&self.target)
                    .map_err(|error| FileError::io("look at", &self.target, error))?;
                self.set_mode(old.permissions().mode() & 0o7777)?;
                exchange(&self.path, &self.target, RenameFlags::EXCHANGE)
                    .or_else(|error| or_plain(error, || exchange_in_steps(&self.path, &self.target)))
                    .map_err(failed)?;
                // The temporary name now belongs to the old folder.
                let _ = std::fs::remove_dir_all(&self.path);
            }
            StagingLocation::Inside => self.publish_from_inside()?,
        }
        self.published = true;
        Ok(())
    }

    fn set_mode(&self, mode: u32) -> Result<(), FileError> {
        std::fs::set_permissions(&self.path, std::fs::Permissions::from_mode(mode))
            .map_err(|error| FileError::io("set the mode of", &self.path, error))
    }

    /// Moves the old entries aside and the new ones up, then removes the old ones. If a move fails, the moves before it
    /// are undone.
    fn publish_from_inside(&self) -> Result<(), FileError> {
        let own = self.path.file_name().expect("a staging folder has a temporary name");
        // Not remembered as temporary: it holds the user's files until everything new is in place.
        let old = self.target.join(temporary_name("old".as_ref()));
        let old_entries: Vec<OsString> =
            names(&self.target)?.into_iter().filter(|name| name != own).collect();
        if !old_entries.is_empty() {
            rfs::mkdir(&old, Mode::RWXU)
                .map_err(|error| FileError::io("create a folder in", &self.target, error))?;
        }
        let away = old_entries.iter().map(|name| (self.target.join(name), old.join(name)));
        let new_entries = names(&self.path)?;
        let up = new_entries.iter().map(|name| (self.path.join(name), self.target.join(name)));
        let moves: Vec<(PathBuf, PathBuf)> = away.chain(up).collect();
        for (number, (from, to)) in moves.iter().enumerate() {
            if let Err(error) = std::fs::rename(from, to) {
                for (from, to) in moves.iter().take(number).rev() {
                    let _ = std::fs::rename(to, from);
                }
                let _ = std::fs::remove_dir(&old);
                return Err(FileError::io("move into place", to, error));
            }
        }
        let _ = std::fs::remove_dir_all(&old);
        let _ = std::fs::remove_dir(&self.path);
        Ok(())
    }
}

impl Drop for StagedFolder {
    fn drop(&mut self) {
        if !self.published {
            // Removal needs file descriptors, and the lock may hold the last free one.
            self.lock = None;
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

fn open_folder(path: &Path) -> rustix::io::Result<OwnedFd> {
    rfs::open(path, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Tells where an existing target is filled: inside if another folder cannot take its name.
fn location_for(target: &Path) -> StagingLocation {
    let device = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.dev()).ok();
    // A bind mount of a folder of the same file system is visible only in its attributes.
    let is_mounted = rfs::statx(CWD, target, AtFlags::empty(), StatxFlags::empty())
        .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
    let is_mount_point = is_mounted || target.parent().is_none_or(|parent| device(parent) != device(target));
    // The working directory of the calling shell would otherwise be the folder that is removed.
    let is_here = std::env::current_dir().is_ok_and(|here| here.starts_with(target));
    if is_mount_point || is_here { StagingLocation::Inside } else { StagingLocation::Beside }
}

fn names(folder: &Path) -> Result<Vec<OsString>, FileError> {
    let failed = |error| FileError::io("list", folder, error);
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    entries.map(|entry| entry.map(|entry| entry.file_name()).map_err(failed)).collect()
}

fn exchange(from: &Path, to: &Path, flags: RenameFlags) -> Result<(), Errno> {
    rfs::renameat_with(CWD, from, CWD, to, flags)
}

/// Runs `plain` where a file system (NFS, some FUSE) does not support the flags of a rename.
fn or_plain(error: Errno, plain: impl FnOnce() -> Result<(), Errno>) -> Result<(), Errno> {
    match error {
        Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP => plain(),
        error => Err(error),
    }
}

/// Exchanges two folders by three renames; for a moment no folder has the second name.
fn exchange_in_steps(new: &Path, target: &Path) -> Result<(), Errno> {
    let between = target.with_file_name(temporary_name("old".as_ref()));
    rfs::rename(target, &between)?;
    if let Err(error) = rfs::rename(new, target) {
        let _ = rfs::rename(&between, target);
        return Err(error);
    }
    rfs::rename(&between, new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("imgrelay-staging-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    fn listing(folder: &Path) -> Vec<OsString> {
        let mut names = names(folder).unwrap();
        names.sort();
        names
    }

    #[test]
    fn a_folder_appears_complete_in_every_location_and_replaces_only_when_asked() {
        for location in [StagingLocation::New, StagingLocation::Beside, StagingLocation::Inside] {
            let base = folder(&format!("{location:?}"));
            let target = base.join("out");
            if location != StagingLocation::New {
                std::fs::create_dir(&target).unwrap();
                std::fs::write(target.join("old"), "1").unwrap();
                let refused = StagedFolder::create(&target, Overwrite::Refuse, 0o022).unwrap_err();
                assert!(matches!(refused, FileError::NotEmpty { .. }), "{refused}");
            }
            let staged = match location {
                StagingLocation::Inside => {
                    StagedFolder::at(|| target.join(".imgrelay-test"), &target, location, 0o022).unwrap()
                }
                _ => StagedFolder::create(&target, Overwrite::Replace, 0o022).unwrap(),
            };
            assert_eq!(staged.location, location);
            std::fs::write(staged.path.join("new"), "2").unwrap();
            assert!(!target.join("new").exists(), "{location:?}: not visible before it is complete");
            staged.publish().unwrap();
            assert_eq!(listing(&target), ["new"], "{location:?}");
            assert_eq!(listing(&base), ["out"], "{location:?}");
            std::fs::remove_dir_all(base).unwrap();
        }
    }

    #[test]
    fn a_dropped_folder_leaves_the_old_one_as_it_was() {
        let base = folder("drop");
        let target = base.join("out");
        std::fs::create_dir(&target).unwrap();
        std::fs::write(target.join("old"), "1").unwrap();
        let staged = StagedFolder::create(&target, Overwrite::Replace, 0o022).unwrap();
        std::fs::write(staged.path.join("new"), "2").unwrap();
        drop(staged);
        assert_eq!(listing(&base), ["out"]);
        assert_eq!(listing(&target), ["old"]);
        std::fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn steps_do_what_an_exchange_does() {
        let base = folder("steps");
        std::fs::create_dir_all(base.join("target/old")).unwrap();
        std::fs::create_dir(base.join("new")).unwrap();
        exchange_in_steps(&base.join("new"), &base.join("target")).unwrap();
        assert_eq!(listing(&base.join("new")), ["old"]);
        assert_eq!(listing(&base), ["new", "target"]);
        assert!(exchange_in_steps(&base.join("none"), &base.join("new")).is_err());
        assert_eq!(listing(&base.join("new")), ["old"], "as it was");
        std::fs::remove_dir_all(base).unwrap();
    }
}

//! A folder that is filled where nobody looks, and then takes its place as a whole.
//!
//! Beside the target, so that one rename publishes it. A target that cannot be renamed, because it is a mount point
//! or the folder above it may not be written (a volume of a container is often both), is filled from a hidden
//! folder inside itself, entry by entry, once everything is complete.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{self as rfs, AtFlags, CWD, Mode, OFlags, RenameFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use crate::stream::FileError;
use crate::stream::temporary::{Temporary, temporary_name};

use super::TransferError;

/// A folder being filled under a name nobody looks for; removed unless it is published.
#[derive(Debug)]
pub(super) struct Staging {
    path: PathBuf,
    target: PathBuf,
    place: Place,
    umask: u32,
    published: bool,
    _remembered: Temporary,
}

/// Where the hidden folder is, and with it how it is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Beside the target, which does not exist: renamed.
    New,
    /// Beside the target, which exists: exchanged.
    Beside,
    /// In the target, which has to stay: its entries are moved.
    Inside,
}

impl Staging {
    /// Makes the hidden folder.
    ///
    /// Errors: [`TransferError::NotEmpty`] for a folder with something in it, unless it may be replaced.
    pub(super) fn create(target: &Path, replace: bool, umask: u32) -> Result<Self, TransferError> {
        let exists = match std::fs::read_dir(target) {
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
        let target = if exists {
            target.canonicalize().map_err(|error| FileError::io("follow", target, error))?
        } else {
            std::path::absolute(target).map_err(|error| FileError::io("find", target, error))?
        };
        let name = temporary_name(target.file_name().unwrap_or_default());
        let parent = target.parent().map(Path::to_owned);
        let made = match (&parent, exists) {
            (Some(parent), false) => Self::make(parent, &name, Place::New),
            (Some(parent), true) if !is_mount_point(&target, parent) => {
                match Self::make(parent, &name, Place::Beside) {
                    Err(Errno::ACCESS | Errno::PERM | Errno::ROFS) => {
                        Self::make(&target, &name, Place::Inside)
                    }
                    made => made,
                }
            }
            _ => Self::make(&target, &name, Place::Inside),
        };
        let (path, place, remembered) = made.map_err(|error| {
            let folder = parent.as_deref().filter(|_| !exists).unwrap_or(&target);
            FileError::io("create a folder in", folder, error)
        })?;
        Ok(Self { path, target, place, umask, published: false, _remembered: remembered })
    }

    fn make(folder: &Path, name: &OsString, place: Place) -> Result<(PathBuf, Place, Temporary), Errno> {
        let path = folder.join(name);
        let remembered = Temporary::remember(path.clone());
        rfs::mkdir(&path, Mode::RWXU)?;
        Ok((path, place, remembered))
    }

    /// Opens the hidden folder.
    pub(super) fn open(&self) -> Result<OwnedFd, TransferError> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rfs::open(&self.path, flags, Mode::empty())
            .map_err(|error| FileError::io("open", &self.path, error))?)
    }

    /// Gives the folder its name; an older one is exchanged in one step and removed afterwards.
    ///
    /// Atomicity: one step, except for a target that has to stay, where it is one rename for each entry.
    pub(super) fn publish(mut self) -> Result<(), TransferError> {
        let failed = |error: Errno| FileError::io("write to", &self.target, error);
        if self.place != Place::Inside {
            let mode = match std::fs::metadata(&self.target) {
                Ok(metadata) if self.place == Place::Beside => metadata.permissions().mode() & 0o7777,
                _ => 0o777 & !self.umask,
            };
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&self.path, permissions)
                .map_err(|error| FileError::io("set the mode of", &self.path, error))?;
        }
        match self.place {
            Place::New => {
                // Without that flag a folder can still replace nothing but an empty one.
                rename(&self.path, &self.target, RenameFlags::NOREPLACE)
                    .or_else(|error| or_plain(error, || rfs::rename(&self.path, &self.target)))
                    .map_err(failed)?;
            }
            Place::Beside => {
                rename(&self.path, &self.target, RenameFlags::EXCHANGE)
                    .or_else(|error| or_plain(error, || exchange_in_steps(&self.path, &self.target)))
                    .map_err(failed)?;
                // What is now under the temporary name is the old folder.
                let _ = std::fs::remove_dir_all(&self.path);
            }
            Place::Inside => self.move_entries()?,
        }
        self.published = true;
        Ok(())
    }

    /// Moves the old entries out of the target and the new ones into it, or nothing if one cannot be moved.
    fn move_entries(&self) -> Result<(), TransferError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error: io::Error| FileError::io("write to", &path, error)
        };
        let old = self.target.join(temporary_name("old".as_ref()));
        // Not remembered as temporary: what is in it is not ours until everything new is in place.
        std::fs::create_dir(&old).map_err(failed(&self.target))?;
        let result = (|| {
            let own = |path: &Path| path == old || path == self.path;
            let mut moves = Vec::new();
            for (from, to) in [(&self.target, &old), (&self.path, &self.target)] {
                for entry in std::fs::read_dir(from).map_err(failed(from))? {
                    let entry = entry.map_err(failed(from))?;
                    if !own(&entry.path()) {
                        moves.push((entry.path(), to.join(entry.file_name())));
                    }
                }
            }
            for (number, (from, to)) in moves.iter().enumerate() {
                if let Err(error) = std::fs::rename(from, to) {
                    for (from, to) in moves.iter().take(number).rev() {
                        let _ = std::fs::rename(to, from);
                    }
                    return Err(failed(from)(error));
                }
            }
            Ok(())
        })();
        let removed = if result.is_ok() {
            let _ = std::fs::remove_dir_all(&self.path);
            std::fs::remove_dir_all(&old)
        } else {
            // Only an empty one: whatever could not be moved back is not ours to remove.
            std::fs::remove_dir(&old)
        };
        result?;
        Ok(removed.map_err(failed(&old))?)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.published {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

fn rename(from: &Path, to: &Path, flags: RenameFlags) -> Result<(), Errno> {
    rfs::renameat_with(CWD, from, CWD, to, flags)
}

/// Does something simpler where a file system (NFS, some FUSE) does not know the flags of a rename.
fn or_plain(error: Errno, plain: impl FnOnce() -> Result<(), Errno>) -> Result<(), Errno> {
    match error {
        Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP => plain(),
        error => Err(error),
    }
}

/// Exchanges two folders by three renames; for a moment the second name is nobody's.
fn exchange_in_steps(new: &Path, target: &Path) -> Result<(), Errno> {
    let between = target.with_file_name(temporary_name("old".as_ref()));
    rfs::rename(target, &between)?;
    if let Err(error) = rfs::rename(new, target) {
        let _ = rfs::rename(&between, target);
        return Err(error);
    }
    rfs::rename(&between, new)
}

/// Tells whether a folder is where a file system is mounted, or the same one once more (a bind mount).
fn is_mount_point(folder: &Path, parent: &Path) -> bool {
    let device = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.dev()).ok();
    let root = || {
        rfs::statx(CWD, folder, AtFlags::empty(), StatxFlags::empty())
            .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
    };
    device(folder) != device(parent) || root()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("imgrelay-staging-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(path.join("target/old")).unwrap();
        path
    }

    fn names(folder: &Path) -> Vec<OsString> {
        let mut names: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    fn inside(folder: &Path) -> Staging {
        let target = folder.join("target");
        let (path, place, _remembered) =
            Staging::make(&target, &temporary_name("x".as_ref()), Place::Inside).unwrap();
        std::fs::write(path.join("new"), "new").unwrap();
        std::fs::create_dir(path.join("sub")).unwrap();
        Staging { path, target, place, umask: 0o022, published: false, _remembered }
    }

    #[test]
    fn a_folder_that_has_to_stay_gets_new_entries_and_loses_the_old() {
        let folder = folder("inside");
        let staging = inside(&folder);
        staging.publish().unwrap();
        assert_eq!(names(&folder.join("target")), ["new", "sub"]);
        drop(inside(&folder));
        assert_eq!(names(&folder.join("target")), ["new", "sub"], "not published");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn steps_do_what_an_exchange_does() {
        let folder = folder("steps");
        std::fs::create_dir(folder.join("new")).unwrap();
        exchange_in_steps(&folder.join("new"), &folder.join("target")).unwrap();
        assert_eq!(names(&folder.join("new")), ["old"]);
        assert_eq!(names(&folder), ["new", "target"]);
        assert!(exchange_in_steps(&folder.join("none"), &folder.join("new")).is_err());
        assert_eq!(names(&folder.join("new")), ["old"], "as it was");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn mount_points_are_told_from_folders() {
        assert!(is_mount_point(Path::new("/proc"), Path::new("/")));
        let folder = folder("mount");
        assert!(!is_mount_point(&folder.join("target"), &folder));
        std::fs::remove_dir_all(folder).unwrap();
    }
}

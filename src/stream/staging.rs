//! Folders that appear complete or not at all: filled under a hidden name, then renamed.
//!
//! The hidden folder is beside the target where that is possible; then the rename is one step. A mount point, the
//! working directory, or a folder in whose parent nothing may be created is filled from inside. There the last step
//! is one rename for each entry at the top, after everything has been written and verified.
//!
//! Another user may be able to rename entries of the folder around the target. All work is done on open handles, and
//! device and inode are compared before and after each rename (decision 0033).

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{self as rfs, AtFlags, CWD, Mode, OFlags, RenameFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::FileError;
use super::removal::{mount_below, names, remove_at};
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
    /// The folder that has the hidden folder in it.
    parent: OwnedFd,
    /// The hidden folder: open, and locked, for as long as this lives, which tells other processes that it is in use.
    folder: Option<OwnedFd>,
}

/// The old content of a published folder.
#[derive(Debug)]
#[must_use]
pub struct Published {
    /// Why a part of it could not be removed, with its path; the next run for the same target tries again.
    pub left_behind: Option<FileError>,
}

/// Device and inode.
type Identity = (u64, u64);

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
    /// Errors: [`FileError::NotEmpty`], [`FileError::MountInside`]; the target is not a folder, or nothing can be
    /// created there.
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
        if let Some(mount) = mount_below(&target).filter(|_| exists) {
            return Err(FileError::MountInside { path: target, mount });
        }
        let location = if !exists { StagingLocation::New } else { location_for(&target) };
        if location != StagingLocation::Inside
            && let (Some(parent), Some(name)) = (target.parent(), target.file_name())
        {
            remove_abandoned(parent, name);
            let made = Self::at(parent, || temporary_name(name), &target, location, umask);
            match made {
                Err(error) if location == StagingLocation::New => {
                    return Err(FileError::io("create a folder in", parent, error));
                }
                // Beside the target nothing can be created; inside it may be possible.
                Err(_) => {}
                Ok(staged) => return Ok(staged),
            }
        }
        Self::at(&target, || temporary_name("".as_ref()), &target, StagingLocation::Inside, umask)
            .map_err(|error| FileError::io("create a folder in", &target, error))
    }

    fn at(
        parent: &Path,
        name: impl Fn() -> OsString,
        target: &Path,
        location: StagingLocation,
        umask: u32,
    ) -> rustix::io::Result<Self> {
        const TRIES: usize = 10;
        let around = rfs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        for _ in 0..TRIES {
            let name = name();
            let path = parent.join(&name);
            let remembered = Temporary::remember(path.clone());
            rfs::mkdirat(&around, &name, Mode::RWXU)?;
            // Until it is locked, another process may remove it as abandoned; then a new name is tried.
            let opened = rfs::openat(&around, &name, FOLDER, Mode::empty());
            match opened {
                Ok(folder) if is_fresh(&folder) && claim(&folder, &path) => {
                    return Ok(Self {
                        path,
                        target: target.to_owned(),
                        location,
                        umask,
                        published: false,
                        _remembered: remembered,
                        parent: around,
                        folder: Some(folder),
                    });
                }
                // This removes only an empty folder, so a folder that another process put there stays.
                Ok(_) | Err(Errno::NOENT) => {
                    let _ = rfs::unlinkat(&around, &name, AtFlags::REMOVEDIR);
                }
                Err(error) => {
                    let _ = rfs::unlinkat(&around, &name, AtFlags::REMOVEDIR);
                    return Err(error);
                }
            }
        }
        Err(Errno::AGAIN)
    }

    fn folder(&self) -> &OwnedFd {
        self.folder.as_ref().expect("it is closed only when this is dropped")
    }

    fn name(&self) -> &OsStr {
        self.path.file_name().expect("a staging folder has a temporary name")
    }

    /// Returns where the folder to fill is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns another handle of the folder to fill.
    pub fn open(&self) -> Result<OwnedFd, FileError> {
        self.folder().try_clone().map_err(|error| FileError::io("open", &self.path, error))
    }

    /// Puts the content in place; the old content of the target is removed afterwards.
    ///
    /// Errors: [`FileError::Exchanged`] if another process renamed the hidden folder or the target meanwhile.
    pub fn publish(mut self) -> Result<Published, FileError> {
        let left_behind = match self.location {
            StagingLocation::New => {
                self.set_mode(0o777 & !self.umask)?;
                self.rename(|parent, name, target| {
                    // Also without that flag, a folder can replace only an empty folder.
                    rfs::renameat_with(parent, name, parent, target, RenameFlags::NOREPLACE)
                        .or_else(|error| or_plain(error, || rfs::renameat(parent, name, parent, target)))
                })?;
                None
            }
            StagingLocation::Beside => {
                let old = rfs::statat(&self.parent, self.target_name(), AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(|error| FileError::io("look at", &self.target, error))?;
                self.set_mode(old.st_mode & 0o7777)?;
                self.rename(|parent, name, target| {
                    rfs::renameat_with(parent, name, parent, target, RenameFlags::EXCHANGE)
                        .or_else(|error| or_plain(error, || exchange_in_steps(parent, name, target)))
                })?;
                // The temporary name now belongs to the old folder, unless another process renamed that.
                match identity_at(&self.parent, self.name()) {
                    Some(found) if found == (old.st_dev, old.st_ino) => {
                        remove_at(self.parent.as_fd(), self.name(), &self.path).err()
                    }
                    _ => Some(FileError::Exchanged { path: self.path.clone() }),
                }
            }
            StagingLocation::Inside => self.publish_from_inside()?,
        };
        self.published = true;
        Ok(Published { left_behind })
    }

    fn target_name(&self) -> &OsStr {
        self.target.file_name().expect("a target beside which there is a folder has a name")
    }

    /// Gives the hidden folder the target's name, and proves that this folder has it then.
    fn rename(
        &self,
        rename: impl FnOnce(BorrowedFd<'_>, &OsStr, &OsStr) -> Result<(), Errno>,
    ) -> Result<(), FileError> {
        let exchanged = || FileError::Exchanged { path: self.target.clone() };
        let own = identity(self.folder()).ok_or_else(exchanged)?;
        if identity_at(&self.parent, self.name()) != Some(own) {
            return Err(exchanged());
        }
        rename(self.parent.as_fd(), self.name(), self.target_name())
            .map_err(|error| FileError::io("write to", &self.target, error))?;
        if identity_at(&self.parent, self.target_name()) != Some(own) {
            return Err(exchanged());
        }
        Ok(())
    }

    fn set_mode(&self, mode: u32) -> Result<(), FileError> {
        rfs::fchmod(self.folder(), Mode::from_raw_mode(mode))
            .map_err(|error| FileError::io("set the mode of", &self.path, error))
    }

    /// Moves the old entries aside and the new ones up, then removes the old ones. If a move fails, the moves before it
    /// are undone. All of it happens between open folders.
    fn publish_from_inside(&self) -> Result<Option<FileError>, FileError> {
        let failed = |error: Errno| FileError::io("list", &self.target, error);
        let target = rfs::openat(&self.parent, ".", FOLDER, Mode::empty()).map_err(failed)?;
        let old_entries: Vec<OsString> =
            names(&target).map_err(failed)?.into_iter().filter(|name| name != self.name()).collect();
        let new_entries = names(self.folder()).map_err(failed)?;
        // Not on the list of temporary paths: it holds the user's files until everything new is in place.
        let old_name = temporary_name("old".as_ref());
        let old = if old_entries.is_empty() {
            None
        } else {
            rfs::mkdirat(&target, &old_name, Mode::RWXU)
                .and_then(|()| rfs::openat(&target, &old_name, FOLDER, Mode::empty()))
                .map(Some)
                .map_err(|error| FileError::io("create a folder in", &self.target, error))?
        };
        let mut moves: Vec<(&OsString, &OwnedFd, &OwnedFd)> = Vec::new();
        if let Some(old) = &old {
            moves.extend(old_entries.iter().map(|name| (name, &target, old)));
        }
        moves.extend(new_entries.iter().map(|name| (name, self.folder(), &target)));
        for (number, (name, from, to)) in moves.iter().enumerate() {
            if let Err(error) = rfs::renameat(from, *name, to, *name) {
                for (name, from, to) in moves.iter().take(number).rev() {
                    let _ = rfs::renameat(to, *name, from, *name);
                }
                let _ = rfs::unlinkat(&target, &old_name, AtFlags::REMOVEDIR);
                return Err(FileError::io("move into place", &self.target.join(name), error));
            }
        }
        let _ = rfs::unlinkat(&target, self.name(), AtFlags::REMOVEDIR);
        Ok(old.and_then(|_| remove_at(target.as_fd(), &old_name, &self.target.join(&old_name)).err()))
    }
}

impl Drop for StagedFolder {
    fn drop(&mut self) {
        if !self.published {
            // Only the folder made here is removed: after a failed exchange its name may belong to another one.
            let own = self.folder.as_ref().and_then(identity);
            // Removal needs file descriptors, and this may be the last free one.
            self.folder = None;
            if own.is_some() && identity_at(&self.parent, self.name()) == own {
                let _ = remove_at(self.parent.as_fd(), self.name(), &self.path);
            }
        }
    }
}

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn identity(folder: &OwnedFd) -> Option<Identity> {
    rfs::fstat(folder).ok().map(|stat| (stat.st_dev, stat.st_ino))
}

fn identity_at(parent: &OwnedFd, name: &OsStr) -> Option<Identity> {
    rfs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).ok().map(|stat| (stat.st_dev, stat.st_ino))
}

/// Tells whether a folder can be the one that was just made: another user could have put another one under its name.
fn is_fresh(folder: &OwnedFd) -> bool {
    let own = rfs::fstat(folder).is_ok_and(|stat| stat.st_uid == rustix::process::geteuid().as_raw());
    own && names(folder).is_ok_and(|names| names.is_empty())
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

/// Runs `plain` where a file system (NFS, some FUSE) does not support the flags of a rename.
fn or_plain(error: Errno, plain: impl FnOnce() -> Result<(), Errno>) -> Result<(), Errno> {
    match error {
        Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP => plain(),
        error => Err(error),
    }
}

/// Exchanges two folders by three renames; for a moment no folder has the second name.
fn exchange_in_steps(parent: BorrowedFd<'_>, new: &OsStr, target: &OsStr) -> Result<(), Errno> {
    let between = temporary_name("old".as_ref());
    rfs::renameat(parent, target, parent, &between)?;
    if let Err(error) = rfs::renameat(parent, new, parent, target) {
        let _ = rfs::renameat(parent, &between, parent, target);
        return Err(error);
    }
    rfs::renameat(parent, &between, parent, new)
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
        let mut names: Vec<OsString> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_plain_rename_replaces_only_flags_that_the_file_system_does_not_know() {
        for error in [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP] {
            assert_eq!(or_plain(error, || Ok(())), Ok(()), "{error:?}");
            assert_eq!(or_plain(error, || Err(Errno::IO)), Err(Errno::IO), "{error:?}");
        }
        for error in [Errno::EXIST, Errno::ACCESS, Errno::NOENT] {
            let plain = || panic!("{error:?} says that the rename was tried");
            assert_eq!(or_plain(error, plain), Err(error));
        }
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
                    StagedFolder::at(&target, || ".imgrelay-test".into(), &target, location, 0o022).unwrap()
                }
                _ => StagedFolder::create(&target, Overwrite::Replace, 0o022).unwrap(),
            };
            assert_eq!(staged.location, location);
            std::fs::write(staged.path.join("new"), "2").unwrap();
            assert!(!target.join("new").exists(), "{location:?}: not visible before it is complete");
            assert!(staged.publish().unwrap().left_behind.is_none());
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
        let parent = std::fs::File::open(&base).unwrap();
        let exchange =
            |new: &str, target: &str| exchange_in_steps(parent.as_fd(), new.as_ref(), target.as_ref());
        exchange("new", "target").unwrap();
        assert_eq!(listing(&base.join("new")), ["old"]);
        assert_eq!(listing(&base), ["new", "target"]);
        assert!(exchange("none", "new").is_err());
        assert_eq!(listing(&base.join("new")), ["old"], "as it was");
        std::fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn force_removes_old_folders_without_permissions() {
        use std::os::unix::fs::PermissionsExt as _;
        let base = folder("locked");
        let target = base.join("out");
        std::fs::create_dir_all(target.join("locked")).unwrap();
        std::fs::write(target.join("locked/f"), "1").unwrap();
        std::fs::set_permissions(target.join("locked"), std::fs::Permissions::from_mode(0o555)).unwrap();
        let staged = StagedFolder::create(&target, Overwrite::Replace, 0o022).unwrap();
        assert!(staged.publish().unwrap().left_behind.is_none());
        assert_eq!((listing(&base), listing(&target)), (vec!["out".into()], Vec::new()));
        std::fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn a_folder_that_was_exchanged_meanwhile_is_not_published_and_the_other_one_stays() {
        let base = folder("exchanged");
        let target = base.join("out");
        std::fs::create_dir(base.join("victim")).unwrap();
        std::fs::write(base.join("victim/secret"), "1").unwrap();
        for exists in [false, true] {
            if exists {
                std::fs::create_dir(&target).unwrap();
            }
            let staged = StagedFolder::create(&target, Overwrite::Replace, 0o022).unwrap();
            let hidden = staged.path.clone();
            std::fs::rename(&hidden, base.join("away")).unwrap();
            std::os::unix::fs::symlink("victim", &hidden).unwrap();
            std::fs::write(base.join("victim/secret"), "1").unwrap();
            let handle = staged.open().unwrap();
            assert_eq!(
                identity(&handle),
                identity_at(&staged.parent, "away".as_ref()),
                "work continues in the folder made here"
            );
            let error = staged.publish().unwrap_err();
            assert!(matches!(error, FileError::Exchanged { .. }), "{error}");
            assert_eq!(listing(&base.join("victim")), ["secret"]);
            assert!(hidden.symlink_metadata().is_ok(), "what another process put there stays");
            std::fs::remove_file(&hidden).unwrap();
            std::fs::remove_dir(base.join("away")).unwrap();
        }
        std::fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn a_new_folder_follows_the_umask_and_a_replaced_one_keeps_its_mode() {
        use std::os::unix::fs::PermissionsExt as _;
        let base = folder("mode");
        let target = base.join("out");
        let mode = || target.metadata().unwrap().permissions().mode() & 0o777;
        let publish = || {
            let staged = StagedFolder::create(&target, Overwrite::Replace, 0o027).unwrap();
            assert_eq!(staged.path().metadata().unwrap().permissions().mode() & 0o777, 0o700);
            staged.publish().unwrap()
        };
        assert!(publish().left_behind.is_none());
        assert_eq!(mode(), 0o750);
        std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o711)).unwrap();
        assert!(publish().left_behind.is_none());
        assert_eq!(mode(), 0o711);
        std::fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn what_cannot_be_made_is_named() {
        let base = folder("errors");
        std::fs::write(base.join("file"), "x").unwrap();
        let failed = |path: &str| {
            let error = StagedFolder::create(&base.join(path), Overwrite::Replace, 0o022).unwrap_err();
            error.to_string().replace(&base.display().to_string(), "")
        };
        assert!(failed("file").starts_with("cannot write to `/file`: "), "{}", failed("file"));
        let error = failed("absent/out");
        assert!(error.starts_with("cannot create a folder in `/absent`: "), "{error}");
        std::fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn a_mount_and_the_working_folder_are_filled_from_inside() {
        let base = folder("location");
        let here = std::env::current_dir().unwrap();
        assert_eq!(location_for(Path::new("/proc")), StagingLocation::Inside);
        assert_eq!(location_for(&here), StagingLocation::Inside);
        assert_eq!(location_for(&base), StagingLocation::Beside);
        std::fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn only_an_empty_folder_is_fresh_and_handles_are_not_inherited() {
        use rustix::io::{FdFlags, fcntl_getfd};
        let base = folder("fresh");
        let staged = StagedFolder::create(&base.join("out"), Overwrite::Refuse, 0o022).unwrap();
        assert!(is_fresh(staged.folder()));
        std::fs::write(staged.path().join("a"), "x").unwrap();
        assert!(!is_fresh(staged.folder()));
        assert_eq!(fcntl_getfd(&staged.parent).unwrap(), FdFlags::CLOEXEC);
        assert_eq!(fcntl_getfd(staged.folder()).unwrap(), FdFlags::CLOEXEC);
        assert!(rfs::fcntl_getfl(&staged.parent).unwrap().contains(OFlags::PATH), "needs no right to list");
        drop(staged);
        std::fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn where_nothing_can_be_created_beside_a_folder_it_is_tried_inside() {
        // Not even root can create anything in either folder.
        let target = Path::new("/proc/self/task").canonicalize().unwrap();
        assert_eq!(location_for(&target), StagingLocation::Beside);
        let error = StagedFolder::create(&target, Overwrite::Replace, 0o022).unwrap_err().to_string();
        let expected = format!("cannot create a folder in `{}`: ", target.display());
        assert!(error.starts_with(&expected), "{error}");
    }

    #[test]
    fn a_rename_that_did_nothing_is_noticed() {
        let base = folder("no-rename");
        let staged = StagedFolder::create(&base.join("out"), Overwrite::Refuse, 0o022).unwrap();
        let error = staged.rename(|_, _, _| Ok(())).unwrap_err();
        assert!(matches!(error, FileError::Exchanged { .. }), "{error}");
        drop(staged);
        assert_eq!(listing(&base), [""; 0]);
        std::fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn moves_are_undone_when_one_of_them_fails() {
        let base = folder("undone");
        for name in ["a", "b"] {
            std::fs::write(base.join(name), "old").unwrap();
        }
        let hidden = ".imgrelay-test";
        let staged =
            StagedFolder::at(&base, || hidden.into(), &base, StagingLocation::Inside, 0o022).unwrap();
        // A file cannot take the name of the hidden folder.
        for name in ["a", "b", "c", hidden] {
            std::fs::write(staged.path().join(name), "new").unwrap();
        }
        let error = staged.publish().unwrap_err().to_string();
        assert!(error.starts_with("cannot move into place `") && error.contains(hidden), "{error}");
        assert_eq!(listing(&base), ["a", "b"]);
        assert_eq!(std::fs::read(base.join("a")).unwrap(), b"old");
        std::fs::remove_dir_all(base).unwrap();
    }
}

//! Removing a folder with everything in it, on handles: links are never followed and mounts never entered.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{self as rfs, AtFlags, CWD, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::FileError;

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes a file, link or folder; a missing path is not an error.
///
/// Folders of the user first get the permissions that removing needs. A path that cannot be removed does not stop the
/// removal of the rest. Errors: the first path that could not be removed.
pub(super) fn remove_tree(path: &Path) -> Result<(), FileError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(FileError::io("remove", path, Errno::INVAL));
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    match rfs::openat(CWD, parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(parent) => remove_at(parent.as_fd(), name, path),
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(FileError::io("remove", path, error)),
    }
}

/// Removes a name in an open folder, as [`remove_tree`]; `path` is for messages.
pub(super) fn remove_at(parent: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<(), FileError> {
    let failed = |error: Errno| FileError::io("remove", path, error);
    match rfs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(failed(error)),
    }
    let folder = open_folder(parent, name).map_err(failed)?;
    if is_mount(folder.as_fd()).map_err(failed)? {
        let source = io::Error::other("it is a mount point");
        return Err(FileError::Io { action: "remove", path: path.to_owned(), source });
    }
    // Without these bits its entries cannot be removed; if setting them fails, the removal returns the error.
    let _ = rfs::fchmod(&folder, Mode::RWXU);
    let mut first: Result<(), FileError> = Ok(());
    for inner in names(&folder).map_err(failed)? {
        let removed = remove_at(folder.as_fd(), &inner, &path.join(&inner));
        first = first.and(removed);
    }
    first?;
    rfs::unlinkat(parent, name, AtFlags::REMOVEDIR).map_err(failed)
}

/// Lists an open folder.
pub(super) fn names(folder: &OwnedFd) -> rustix::io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in rfs::Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(names)
}

/// Opens a folder to list it; one that its owner may not read gets the permission first.
fn open_folder(parent: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    match rfs::openat(parent, name, FOLDER, Mode::empty()) {
        Err(Errno::ACCESS) => {
            let reached = rfs::openat(parent, name, FOLDER | OFlags::PATH, Mode::empty())?;
            // The only way to change the mode of exactly this folder: `fchmod` refuses such handles before Linux 6.6.
            rfs::chmod(format!("/proc/self/fd/{}", reached.as_raw_fd()), Mode::RWXU)?;
            rfs::openat(parent, name, FOLDER, Mode::empty())
        }
        opened => opened,
    }
}

/// Tells whether an open folder is the root of a mount, also of a bind mount on the same file system.
fn is_mount(folder: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    let found = rfs::statx(folder, "", AtFlags::EMPTY_PATH, StatxFlags::empty())?;
    Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Returns the first mount below a folder, given without links; mounts on the folder itself do not count.
///
/// Where `/proc` cannot be read there is none; [`remove_tree`] still does not enter mounts.
pub(super) fn mount_below(folder: &Path) -> Option<PathBuf> {
    let table = std::fs::read("/proc/self/mountinfo").ok()?;
    mount_in(&table, folder)
}

/// Finds the mount in the text of `mountinfo` (proc_pid_mountinfo(5): the fifth field, with octal escapes).
fn mount_in(table: &[u8], folder: &Path) -> Option<PathBuf> {
    let mounts =
        table.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    let mut below: Vec<PathBuf> = mounts
        .map(unescaped)
        .map(|path| PathBuf::from(OsStr::from_bytes(&path)))
        .filter(|path| path != folder && path.starts_with(folder))
        .collect();
    below.sort();
    below.into_iter().next()
}

fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let digits =
            after.first_chunk::<3>().filter(|digits| digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        match (first, digits) {
            (b'\\', Some([a, b, c])) => {
                out.push((a - b'0').wrapping_mul(64) | (b - b'0') << 3 | (c - b'0'));
                rest = &after[3..];
            }
            _ => out.push(*first),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("imgrelay-removal-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn folders_without_permissions_are_removed_and_links_are_not_followed() {
        let base = folder("locked");
        let tree = base.join("tree");
        std::fs::create_dir_all(tree.join("a/b")).unwrap();
        std::fs::write(base.join("kept"), "x").unwrap();
        std::fs::write(tree.join("a/b/f"), "x").unwrap();
        symlink("../../kept", tree.join("a/link")).unwrap();
        symlink("..", tree.join("a/up")).unwrap();
        for (path, mode) in [("a/b", 0o000), ("a", 0o555)] {
            std::fs::set_permissions(tree.join(path), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        remove_tree(&tree).unwrap();
        assert!(!tree.exists() && base.join("kept").exists());
        remove_tree(&tree).unwrap();
        remove_tree(&base.join("missing/inner")).unwrap();
        remove_tree(&base.join("kept")).unwrap();
        assert!(!base.join("kept").exists());
        std::fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn mounts_below_a_folder_are_found() {
        let line = |path: &str| format!("36 35 98:0 /mnt1 {path} rw,noatime master:1 - ext3 /dev/root rw\n");
        let table =
            ["/", "/out", "/out/z", "/out/with\\040space/m\\134n", "/outer", "/other"].map(line).concat();
        let found = |folder: &str| mount_in(table.as_bytes(), Path::new(folder));
        assert_eq!(found("/out"), Some("/out/with space/m\\n".into()), "the first in order of name");
        assert_eq!(found("/out/z"), None, "the folder itself");
        assert_eq!(found("/ou"), None);
        assert_eq!(found("/empty"), None);
        assert_eq!(mount_in(b"", Path::new("/out")), None);
        assert_eq!(unescaped(b"a\\04"), b"a\\04", "no escape");
    }

    #[test]
    fn a_real_mount_is_recognised() {
        let open = |path: &Path| std::fs::File::open(path).unwrap();
        assert_eq!(is_mount(open(Path::new("/proc")).as_fd()), Ok(true));
        assert!(mount_below(Path::new("/")).is_some_and(|path| path.is_absolute() && path != Path::new("/")));
        let base = folder("no-mount");
        assert_eq!(is_mount(open(&base).as_fd()), Ok(false));
        assert_eq!(mount_below(&base), None);
        std::fs::remove_dir_all(base).unwrap();
    }
}

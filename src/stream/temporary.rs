//! The temporary paths to remove if the process ends without unwinding.
//!
//! A blocked thread cannot clean up when a signal ends the process, so the thread that handles the signal calls
//! [`remove_all`]. Files without a name (see [`super::AtomicFile`]) need none of this. The list belongs to the process;
//! `docs/decisions/0004-process-wide-state.md` says why.
//!
//! A process that uses a temporary file or folder holds a lock on it (`claim`). An unlocked one is abandoned: its
//! process was killed, and the next process that writes to the same target removes it.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use rustix::fs::{self as rfs, CWD, FileType, FlockOperation, Mode, OFlags};

use super::lock;
use super::removal::remove_tree;

/// Most bytes of the target's name that are part of a temporary name.
const NAME_BYTES: usize = 200;

static PATHS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn paths() -> MutexGuard<'static, Vec<PathBuf>> {
    lock(&PATHS)
}

/// The path of a temporary file or folder; dropping this takes it off the list and removes nothing.
#[derive(Debug)]
#[must_use]
pub struct Temporary(PathBuf);

impl Temporary {
    /// Puts a path on the list; call it before the file or folder is made.
    pub fn remember(path: PathBuf) -> Self {
        paths().push(path.clone());
        Self(path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let mut paths = paths();
        if let Some(index) = paths.iter().position(|path| *path == self.0) {
            paths.swap_remove(index);
        }
    }
}

/// Removes everything on the list; the process must end right after.
///
/// Another thread may still be writing into a folder while it is removed, so the removal is tried three times.
pub fn remove_all() {
    for path in paths().iter() {
        for _ in 0..3 {
            if remove(path) {
                break;
            }
        }
    }
}

/// Removes a file, link or folder, and tells whether the path is free.
fn remove(path: &Path) -> bool {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => remove_tree(path).is_ok(),
        Ok(_) => std::fs::remove_file(path).is_ok(),
        Err(_) => true,
    }
}

/// Locks an open temporary file or folder for as long as it stays open; `false` if another process removes it.
///
/// On a file system without locks the result is `true`, and no process ever removes it as abandoned.
pub(super) fn claim(open: impl AsFd, path: &Path) -> bool {
    match rfs::flock(&open, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => return false,
        Err(_) => return true,
        Ok(()) => {}
    }
    // Between creation and lock, another process may have removed it as abandoned.
    match (rfs::fstat(&open), rfs::lstat(path)) {
        (Ok(open), Ok(named)) => (open.st_dev, open.st_ino) == (named.st_dev, named.st_ino),
        _ => false,
    }
}

/// Removes the temporary files and folders for `name` whose processes are gone.
///
/// An entry that cannot be listed, opened or removed stays; it disturbs no later run.
pub(super) fn remove_abandoned(folder: &Path, name: &OsStr) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if is_temporary_name_for(&entry.file_name(), name) {
            let path = entry.path();
            if let Some(_lock) = abandoned(&path) {
                remove(&path);
            }
        }
    }
}

/// Opens and locks a file or folder that no process has locked.
fn abandoned(path: &Path) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let open = rfs::openat(CWD, path, flags, Mode::empty()).ok()?;
    let found = rfs::fstat(&open).ok()?;
    let kind = FileType::from_raw_mode(found.st_mode);
    // Another user may have made something of such a name.
    let ours = matches!(kind, FileType::Directory | FileType::RegularFile)
        && found.st_uid == rustix::process::geteuid().as_raw();
    (ours && rfs::flock(&open, FlockOperation::NonBlockingLockExclusive).is_ok()).then_some(open)
}

const MARK: &[u8] = b".imgrelay-";

/// Tells whether a name is one that [`temporary_name`] gives for `name`.
fn is_temporary_name_for(found: &OsStr, name: &OsStr) -> bool {
    let rest = found.as_bytes().strip_prefix(b".").and_then(|rest| rest.strip_prefix(name.as_bytes()));
    let number = rest.and_then(|rest| rest.strip_prefix(MARK));
    number.is_some_and(|number| {
        number.len() == 16 && number.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Returns a hidden name that no other process uses: `.<name>.imgrelay-<16 hex>`.
pub(crate) fn temporary_name(name: &OsStr) -> OsString {
    let mut bytes = [0_u8; 8];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    // Random numbers are missing only in early boot; the process id still makes names of two processes differ.
    if filled.is_err() {
        bytes = u64::from(std::process::id()).to_le_bytes();
    }
    temporary_name_with(name, u64::from_le_bytes(bytes))
}

/// Returns the hidden name with a number of the caller's choice.
pub(super) fn temporary_name_with(name: &OsStr, number: u64) -> OsString {
    let mut temporary = OsString::from(".");
    // A file name has at most 255 bytes, so a long name of the target is cut.
    temporary.push(OsStr::from_bytes(name.as_bytes().get(..NAME_BYTES).unwrap_or(name.as_bytes())));
    temporary.push(format!(".imgrelay-{number:016x}"));
    temporary
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_on_the_list_can_be_removed_and_others_stay() {
        let folder = std::env::temp_dir().join(format!("imgrelay-temporary-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("kept/a")).unwrap();
        drop(Temporary::remember(folder.join("kept")));
        assert!(!paths().contains(&folder.join("kept")));
        let gone = Temporary::remember(folder.join("gone"));
        std::fs::create_dir_all(folder.join("gone/a")).unwrap();
        // Not `remove_all`: other tests of this process remember files too.
        assert!(paths().contains(&folder.join("gone")));
        assert!(remove(&gone.0) && !folder.join("gone").exists());
        assert!(remove(&gone.0), "a path where nothing is counts as removed");
        assert!(folder.join("kept/a").exists());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn only_own_names_are_taken_for_own() {
        let made = temporary_name("a.tar".as_ref());
        assert!(is_temporary_name_for(&made, "a.tar".as_ref()), "{made:?}");
        assert!(is_temporary_name_for(&temporary_name("".as_ref()), "".as_ref()));
        for (found, name) in [
            (".a.tar.imgrelay-0123456789abcde", "a.tar"),
            (".a.tar.imgrelay-0123456789abcdeg", "a.tar"),
            (".a.tar.imgrelay-0123456789abcdef0", "a.tar"),
            ("a.tar.imgrelay-0123456789abcdef", "a.tar"),
            (".b.tar.imgrelay-0123456789abcdef", "a.tar"),
            (".a.tar.imgrelay-0123456789abcdef", ""),
            (".a.tar", "a.tar"),
        ] {
            assert!(!is_temporary_name_for(found.as_ref(), name.as_ref()), "{found} for {name}");
        }
    }

    #[test]
    fn abandoned_temporaries_are_removed_and_locked_ones_stay() {
        let folder = std::env::temp_dir().join(format!("imgrelay-abandoned-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(folder.join("outside/inner")).unwrap();
        let name: &OsStr = "out".as_ref();
        let made = || folder.join(temporary_name(name));
        let (held, file, tree, link) = (made(), made(), made(), made());
        std::fs::create_dir(&held).unwrap();
        std::fs::write(&file, "x").unwrap();
        std::fs::create_dir_all(tree.join("a/b")).unwrap();
        std::os::unix::fs::symlink("outside", &link).unwrap();
        let foreign = folder.join(".other.imgrelay-0123456789abcdef");
        std::fs::write(&foreign, "x").unwrap();
        let lock = std::fs::File::open(&held).unwrap();
        assert!(claim(&lock, &held));
        let second = std::fs::File::open(&held).unwrap();
        assert!(!claim(&second, &held), "a lock is for one");
        remove_abandoned(&folder, name);
        let there = [&held, &file, &tree, &link, &foreign].map(|path| path.symlink_metadata().is_ok());
        assert_eq!(there, [true, false, false, true, true]);
        assert!(folder.join("outside/inner").exists());
        drop((lock, second));
        remove_abandoned(&folder, name);
        assert!(!held.exists());
        std::fs::create_dir(&held).unwrap();
        let lock = std::fs::File::open(&held).unwrap();
        std::fs::remove_dir(&held).unwrap();
        assert!(!claim(&lock, &held), "what was removed meanwhile cannot be claimed");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_pipe_of_such_a_name_stays() {
        let folder = std::env::temp_dir().join(format!("imgrelay-abandoned-pipe-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let pipe = folder.join(temporary_name("out".as_ref()));
        rfs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        remove_abandoned(&folder, "out".as_ref());
        assert!(pipe.symlink_metadata().is_ok());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_long_name_is_cut_to_200_bytes() {
        let name = "n".repeat(201);
        let expected = format!(".{}.imgrelay-00000000000000ff", "n".repeat(200));
        assert_eq!(temporary_name_with(name.as_ref(), 255), OsString::from(expected));
    }

    #[test]
    fn everything_on_the_list_is_removed_before_the_process_ends() {
        if !testkit::alone::is_alone(
            "stream::temporary::tests::everything_on_the_list_is_removed_before_the_process_ends",
        ) {
            return;
        }
        let scratch = testkit::scratch::Scratch::new("remove-all");
        let path = |name: &str| scratch.join(name);
        let _listed = ["file", "link", "folder", "never-made"].map(|name| Temporary::remember(path(name)));
        scratch.write("file", "x");
        scratch.write("folder/inner", "x");
        scratch.write("kept", "x");
        std::os::unix::fs::symlink("kept", path("link")).unwrap();
        remove_all();
        let left: Vec<_> =
            std::fs::read_dir(scratch.path()).unwrap().map(|one| one.unwrap().file_name()).collect();
        assert_eq!(left, ["kept"]);
    }
}

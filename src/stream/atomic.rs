//! Files that appear complete or not at all: written beside the target without a name, synced, then renamed.
//!
//! On Linux file systems with `O_TMPFILE`, `kill -9` and a power cut leave nothing behind. Elsewhere a hidden temporary
//! file is used and removed on every path that unwinds.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self as rfs, AtFlags, CWD, FlockOperation, Mode, OFlags};

use super::FileError;
use super::temporary::{Temporary, claim, remove_abandoned, temporary_name};

/// A file being written that is not visible under its name until [`AtomicFile::commit`].
///
/// Dropping it without `commit` leaves the target as it was.
#[derive(Debug)]
pub struct AtomicFile {
    file: File,
    directory: OwnedFd,
    target: PathBuf,
    name: OsString,
    /// Name of the temporary file in `directory`; none while the file has no name at all.
    temporary: Option<OsString>,
    /// Has the signal handler remove the temporary file if the process ends.
    _remembered: Option<Temporary>,
}

impl AtomicFile {
    /// Opens a new nameless file in the folder of `target`; `mode` is reduced by the umask.
    ///
    /// Files that killed processes left for the same target are removed first.
    /// Errors: [`FileError::NotAFile`] for folders, devices and pipes, so that `/dev/null` is never replaced.
    pub fn create(target: &Path, mode: u32) -> Result<Self, FileError> {
        let target = resolve(target)?;
        let name = target
            .file_name()
            .ok_or_else(|| FileError::NotAFile { path: target.clone(), found: "a directory" })?
            .to_owned();
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        let directory = rfs::open(parent, flags, Mode::empty())
            .map_err(|error| FileError::io("open directory", parent, error))?;
        remove_abandoned(parent, &name);
        let mode = Mode::from_raw_mode(mode);
        let nameless = rfs::openat(&directory, ".", OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode);
        // Publishing a nameless file needs /proc; without it a named temporary file is the only way.
        if let Ok(file) = nameless
            && Path::new("/proc/self/fd").exists()
        {
            let file = File::from(file);
            // The lock protects the temporary name that the file has just before the rename.
            let _ = rfs::flock(&file, FlockOperation::NonBlockingLockExclusive);
            return Ok(Self { file, directory, target, name, temporary: None, _remembered: None });
        }
        Self::create_named(directory, target, name, mode)
    }

    /// Opens a new file with a temporary name, for file systems without nameless files.
    fn create_named(
        directory: OwnedFd,
        target: PathBuf,
        name: OsString,
        mode: Mode,
    ) -> Result<Self, FileError> {
        loop {
            let temporary = temporary_name(&name);
            let path = target.with_file_name(&temporary);
            let remembered = Some(Temporary::remember(path.clone()));
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let file = rfs::openat(&directory, &temporary, flags, mode)
                .map_err(|error| FileError::io("create", &target, error))?;
            // Until it is locked, another process may remove it as abandoned; then a new name is tried.
            if claim(&file, &path) {
                let (file, temporary) = (File::from(file), Some(temporary));
                return Ok(Self { file, directory, target, name, temporary, _remembered: remembered });
            }
        }
    }

    /// Returns the open file, for positioned reads and writes.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Returns the path the file will have.
    #[must_use]
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Writes the data to disk and gives the file its name, replacing an older file of that name.
    ///
    /// Atomicity: readers see the old file or the complete new one, also after a crash.
    pub fn commit(mut self) -> Result<(), FileError> {
        let failed = |target: &Path| {
            let target = target.to_owned();
            move |error: rustix::io::Errno| FileError::io("write", &target, error)
        };
        self.file.sync_all().map_err(|error| FileError::io("write", &self.target, error))?;
        let temporary = match self.temporary.clone() {
            Some(temporary) => temporary,
            None => {
                let temporary = temporary_name(&self.name);
                let link = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                rfs::linkat(CWD, link, &self.directory, &temporary, AtFlags::SYMLINK_FOLLOW)
                    .map_err(failed(&self.target))?;
                self.temporary = Some(temporary.clone());
                temporary
            }
        };
        rfs::renameat(&self.directory, &temporary, &self.directory, &self.name)
            .map_err(failed(&self.target))?;
        self.temporary = None;
        // Some file systems cannot sync a directory; the rename itself is done.
        let _ = rfs::fsync(&self.directory);
        Ok(())
    }

    /// Writes a small file in one step.
    pub fn write_whole(target: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
        let file = Self::create(target, mode)?;
        file.file().write_all(bytes).map_err(|error| FileError::io("write", target, error))?;
        file.commit()
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if let Some(temporary) = self.temporary.take() {
            let _ = rfs::unlinkat(&self.directory, &temporary, AtFlags::empty());
        }
    }
}

/// Follows a symbolic link at the target, so that the file it names is replaced and not the link.
pub(super) fn resolve(target: &Path) -> Result<PathBuf, FileError> {
    let Ok(metadata) = std::fs::symlink_metadata(target) else { return Ok(target.to_owned()) };
    let (path, kind) = if metadata.file_type().is_symlink() {
        match std::fs::canonicalize(target) {
            Ok(path) => {
                let kind = std::fs::symlink_metadata(&path)
                    .map_err(|error| FileError::io("look at", &path, error))?
                    .file_type();
                (path, kind)
            }
            Err(error) => return Err(FileError::io("follow", target, error)),
        }
    } else {
        (target.to_owned(), metadata.file_type())
    };
    if kind.is_file() {
        return Ok(path);
    }
    let found = if kind.is_dir() { "a directory" } else { "a device, pipe or socket" };
    Err(FileError::NotAFile { path: target.to_owned(), found })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("imgrelay-atomic-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    fn names(folder: &Path) -> Vec<OsString> {
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn nothing_is_visible_before_commit_and_the_old_file_survives_a_drop() {
        let folder = folder("drop");
        let target = folder.join("out");
        std::fs::write(&target, "old").unwrap();
        let file = AtomicFile::create(&target, 0o644).unwrap();
        file.file().write_all(b"new").unwrap();
        drop(file);
        assert_eq!(std::fs::read(&target).unwrap(), b"old");
        AtomicFile::write_whole(&target, b"newer", 0o600).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"newer");
        assert_eq!(names(&folder), ["out"]);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_link_is_followed_and_a_device_is_refused() {
        let folder = folder("link");
        std::fs::write(folder.join("real"), "old").unwrap();
        std::os::unix::fs::symlink("real", folder.join("link")).unwrap();
        AtomicFile::write_whole(&folder.join("link"), b"new", 0o644).unwrap();
        assert_eq!(std::fs::read(folder.join("real")).unwrap(), b"new");
        assert!(folder.join("link").is_symlink());
        let error = AtomicFile::create(Path::new("/dev/null"), 0o644).unwrap_err().to_string();
        assert!(error.contains("a device, pipe or socket"), "{error}");
        assert!(AtomicFile::create(&folder, 0o644).unwrap_err().to_string().contains("a directory"));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_name_alone_is_a_file_of_the_working_folder() {
        let name = format!("imgrelay-never-written-{}", std::process::id());
        let file = AtomicFile::create(Path::new(&name), 0o600).unwrap();
        assert_eq!(file.target(), Path::new(&name));
        drop(file);
        assert!(!Path::new(&name).exists());
    }

    #[test]
    fn a_new_file_has_its_mode_and_is_not_inherited_by_other_programs() {
        use rustix::io::{FdFlags, fcntl_getfd};
        use std::os::unix::fs::PermissionsExt as _;
        let folder = folder("mode");
        let file = AtomicFile::create(&folder.join("out"), 0o640).unwrap();
        assert_eq!(file.file().metadata().unwrap().permissions().mode() & 0o777 & !0o077, 0o600);
        assert_eq!(fcntl_getfd(file.file()).unwrap(), FdFlags::CLOEXEC);
        assert_eq!(fcntl_getfd(&file.directory).unwrap(), FdFlags::CLOEXEC);
        file.commit().unwrap();
        assert_eq!(names(&folder), ["out"]);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_has_no_name_before_it_is_complete() {
        let folder = folder("nameless");
        let file = AtomicFile::create(&folder.join("out"), 0o644).unwrap();
        // The system's temporary folder is on a file system with nameless files.
        assert_eq!((&file.temporary, names(&folder)), (&None, vec![]));
        drop(file);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn without_nameless_files_a_hidden_one_is_renamed_or_removed() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = folder("named");
        let target = folder.join("out");
        let create = || {
            let directory = File::open(&folder).unwrap();
            let mode = Mode::from_raw_mode(0o600);
            AtomicFile::create_named(directory.into(), target.clone(), "out".into(), mode).unwrap()
        };
        let file = create();
        assert_eq!(file.file().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(rustix::io::fcntl_getfd(file.file()).unwrap(), rustix::io::FdFlags::CLOEXEC);
        let hidden = names(&folder);
        assert_eq!(hidden, [file.temporary.clone().unwrap()]);
        remove_abandoned(&folder, "out".as_ref());
        assert_eq!(names(&folder), hidden, "its lock tells others that it is in use");
        drop(file);
        assert_eq!(names(&folder), [""; 0]);
        let file = create();
        file.file().write_all(b"new").unwrap();
        file.commit().unwrap();
        assert_eq!((names(&folder), std::fs::read(&target).unwrap()), (vec!["out".into()], b"new".to_vec()));
        std::fs::remove_dir_all(folder).unwrap();
    }
}

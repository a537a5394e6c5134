//! A folder with a predictable name that one run makes and a later one uses again, on its handle.
//!
//! Another user may have put something else under that name: a link, a folder of theirs, files in it. So it has to be
//! a folder of this user that others cannot write to, and so does every file in it; links are not followed. All work
//! uses the open handle, so that renaming the folder later has no effect.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self as rfs, AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::FileError;
use super::removal::{names, remove_at};
use super::temporary::temporary_name;

/// Permissions of the folder and its files: only the user may read them.
const FOLDER_MODE: Mode = Mode::RWXU;
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// An open folder of this user's.
#[derive(Debug)]
pub struct OwnFolder {
    parent: OwnedFd,
    handle: OwnedFd,
    path: PathBuf,
}

impl OwnFolder {
    /// Opens the folder, which is made if it is not there.
    ///
    /// Errors: [`FileError::NotOwn`] for anything but a folder of this user's that others cannot write to.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let failed = |error: Errno| FileError::io("open", path, error);
        let name = path.file_name().ok_or_else(|| failed(Errno::INVAL))?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent =
            rfs::openat(CWD, parent.unwrap_or(Path::new(".")), flags, Mode::empty()).map_err(failed)?;
        match rfs::mkdirat(&parent, name, FOLDER_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(FileError::io("create", path, error)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = match rfs::openat(&parent, name, flags, Mode::empty()) {
            Ok(handle) => handle,
            Err(Errno::LOOP | Errno::NOTDIR) => {
                return Err(FileError::NotOwn { path: path.to_owned(), found: "no folder, or a link" });
            }
            Err(error) => return Err(failed(error)),
        };
        check_own(path, &rfs::fstat(&handle).map_err(failed)?)?;
        Ok(Self { parent, handle, path: path.to_owned() })
    }

    /// Opens a file for reading; `None` when there is none of this name.
    ///
    /// Errors: [`FileError::NotOwn`] for anything but a regular file of this user's that others cannot write to.
    pub fn read(&self, name: &str) -> Result<Option<File>, FileError> {
        let path = self.path.join(name);
        // A pipe must not make the program wait.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rfs::openat(&self.handle, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(FileError::NotOwn { path, found: "a link" }),
            Err(error) => return Err(FileError::io("open", &path, error)),
        };
        let stat = rfs::fstat(&file).map_err(|error| FileError::io("look at", &path, error))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(FileError::NotOwn { path, found: "no regular file" });
        }
        check_own(&path, &stat)?;
        Ok(Some(File::from(file)))
    }

    /// Returns the path it was opened under, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file, which gets its name when `write` has written it whole and it is on the disk.
    pub fn write<E: From<FileError>>(
        &self,
        name: &str,
        write: impl FnOnce(&File) -> Result<(), E>,
    ) -> Result<(), E> {
        let path = self.path.join(name);
        let failed = |error: Errno| E::from(FileError::io("write", &path, error));
        let temporary = temporary_name(OsStr::new(name));
        // Without a name nothing is left when the process is killed; some file systems cannot do that.
        let nameless = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let (file, is_named) = match rfs::openat(&self.handle, ".", nameless, FILE_MODE) {
            Ok(file) if Path::new("/proc/self/fd").exists() => (File::from(file), false),
            _ => (self.create_named(&temporary).map_err(failed)?, true),
        };
        let written = write(&file).and_then(|()| {
            file.sync_all().map_err(|error| E::from(FileError::io("write", &path, error)))?;
            if !is_named {
                let link = format!("/proc/self/fd/{}", file.as_raw_fd());
                rfs::linkat(CWD, link, &self.handle, &temporary, AtFlags::SYMLINK_FOLLOW).map_err(failed)?;
            }
            rfs::renameat(&self.handle, &temporary, &self.handle, name).map_err(failed)
        });
        if written.is_err() {
            let _ = rfs::unlinkat(&self.handle, &temporary, AtFlags::empty());
        }
        written
    }

    fn create_named(&self, temporary: &OsStr) -> Result<File, Errno> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rfs::openat(&self.handle, temporary, flags, FILE_MODE).map(File::from)
    }

    /// Removes a file.
    pub fn remove(&self, name: &str) -> Result<(), FileError> {
        remove_at(self.handle.as_fd(), OsStr::new(name), &self.path.join(name))
    }

    /// Removes the folder with all that is in it.
    ///
    /// Errors: [`FileError::Exchanged`] when another file or folder has its name now, which is left alone.
    pub fn remove_all(self) -> Result<(), FileError> {
        let failed = |error: Errno| FileError::io("remove", &self.path, error);
        for name in names(&self.handle).map_err(failed)? {
            remove_at(self.handle.as_fd(), &name, &self.path.join(&name))?;
        }
        let name = self.path.file_name().ok_or_else(|| failed(Errno::INVAL))?;
        let own = rfs::fstat(&self.handle).map_err(failed)?;
        match rfs::statat(&self.parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) if (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino) => {
                rfs::unlinkat(&self.parent, name, AtFlags::REMOVEDIR).map_err(failed)
            }
            _ => Err(FileError::Exchanged { path: self.path.clone() }),
        }
    }
}

/// Refuses what another user owns or may write to.
fn check_own(path: &Path, stat: &Stat) -> Result<(), FileError> {
    let found = if stat.st_uid != rustix::process::geteuid().as_raw() {
        "of another user"
    } else if Mode::from_raw_mode(stat.st_mode).intersects(Mode::WGRP | Mode::WOTH) {
        "writable by other users"
    } else {
        return Ok(());
    };
    Err(FileError::NotOwn { path: path.to_owned(), found })
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read as _, Write as _};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use testkit::scratch::Scratch;

    use super::*;

    fn put(folder: &OwnFolder, name: &str, text: &str) -> Result<(), FileError> {
        folder.write(name, |mut file: &File| {
            file.write_all(text.as_bytes()).map_err(|error| FileError::io("write", Path::new(name), error))
        })
    }

    fn text(folder: &OwnFolder, name: &str) -> Result<Option<String>, String> {
        let mut text = String::new();
        let file = folder.read(name).map_err(|error| error.to_string())?;
        Ok(file.map(|mut file| file.read_to_string(&mut text).map(|_| text).unwrap()))
    }

    #[test]
    fn files_appear_whole_and_the_folder_goes_away() {
        let scratch = Scratch::new("own-folder");
        let path = scratch.join("x.parts");
        let folder = OwnFolder::open(&path).unwrap();
        put(&folder, "a", "old").unwrap();
        put(&folder, "a", "new").unwrap();
        let failed: Result<(), FileError> =
            folder.write("b", |_| Err(FileError::io("write", &path, io::ErrorKind::Other)));
        assert!(failed.is_err());
        let again = OwnFolder::open(&path).unwrap();
        assert_eq!(text(&again, "a").unwrap().as_deref(), Some("new"));
        assert_eq!(text(&again, "b"), Ok(None));
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 1, "nothing else is left");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        again.remove("a").unwrap();
        put(&again, "c", "c").unwrap();
        again.remove_all().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn links_and_what_others_can_write_are_refused() {
        let scratch = Scratch::new("own-folder-links");
        std::fs::create_dir(scratch.join("elsewhere")).unwrap();
        scratch.write("file", "secret");
        let refused = |path: &Path| OwnFolder::open(path).unwrap_err().to_string();
        symlink("elsewhere", scratch.join("link.parts")).unwrap();
        assert!(refused(&scratch.join("link.parts")).contains("is no folder, or a link, expected"));
        assert!(refused(&scratch.join("file")).contains("is no folder, or a link, expected"));
        let open = scratch.join("open.parts");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(refused(&open).contains("is writable by other users, expected"));
        let folder = OwnFolder::open(&scratch.join("x.parts")).unwrap();
        let inside = |name: &str| scratch.join("x.parts").join(name);
        symlink("../file", inside("link")).unwrap();
        std::fs::create_dir(inside("folder")).unwrap();
        std::fs::write(inside("open"), "x").unwrap();
        std::fs::set_permissions(inside("open"), std::fs::Permissions::from_mode(0o666)).unwrap();
        for (name, expected) in
            [("link", "is a link"), ("folder", "is no regular file"), ("open", "is writable by other users")]
        {
            let error = text(&folder, name).unwrap_err();
            assert!(error.contains(expected), "{name}: {error}");
        }
        put(&folder, "link", "new").unwrap();
        assert_eq!(std::fs::read(scratch.join("file")).unwrap(), b"secret", "the link was replaced");
    }

    #[test]
    fn a_folder_that_was_exchanged_is_left_alone() {
        let scratch = Scratch::new("own-folder-exchanged");
        let path = scratch.join("x.parts");
        let folder = OwnFolder::open(&path).unwrap();
        std::fs::rename(&path, scratch.join("moved")).unwrap();
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("precious"), "x").unwrap();
        put(&folder, "a", "x").unwrap();
        assert!(scratch.join("moved/a").exists(), "the handle counts");
        assert!(matches!(folder.remove_all(), Err(FileError::Exchanged { .. })));
        assert!(path.join("precious").exists());
    }

    #[test]
    fn a_name_alone_is_a_folder_of_the_working_folder() {
        // It is there in every checkout, and nothing is written into it.
        let opened = OwnFolder::open(Path::new("src"));
        assert!(!matches!(opened, Err(FileError::Io { .. })), "{opened:?}");
    }

    #[test]
    fn handles_are_not_inherited_by_other_programs() {
        use rustix::io::{FdFlags, fcntl_getfd};
        let scratch = Scratch::new("own-folder-handles");
        let folder = OwnFolder::open(&scratch.join("x.parts")).unwrap();
        put(&folder, "a", "x").unwrap();
        let file = folder.read("a").unwrap().unwrap();
        let handles = [folder.parent.as_fd(), folder.handle.as_fd(), file.as_fd()];
        assert_eq!(handles.map(|handle| fcntl_getfd(handle).unwrap()), [FdFlags::CLOEXEC; 3]);
        assert!(rfs::fcntl_getfl(&folder.parent).unwrap().contains(OFlags::PATH), "needs no right to list");
    }

    #[test]
    fn a_pipe_in_the_folder_is_refused_without_waiting() {
        let scratch = Scratch::new("own-folder-pipe");
        let folder = OwnFolder::open(&scratch.join("x.parts")).unwrap();
        rfs::mknodat(&folder.handle, "pipe", FileType::Fifo, FILE_MODE, 0).unwrap();
        assert!(text(&folder, "pipe").unwrap_err().contains("is no regular file"));
    }

    #[test]
    fn a_file_with_a_temporary_name_is_new_and_private() {
        let scratch = Scratch::new("own-folder-named");
        let folder = OwnFolder::open(&scratch.join("x.parts")).unwrap();
        let mut file = folder.create_named("new".as_ref()).unwrap();
        file.write_all(b"x").unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(rustix::io::fcntl_getfd(&file).unwrap(), rustix::io::FdFlags::CLOEXEC);
        symlink("elsewhere", scratch.join("x.parts/link")).unwrap();
        for name in ["new", "link"] {
            assert_eq!(folder.create_named(name.as_ref()).unwrap_err(), Errno::EXIST, "{name}");
        }
    }

    #[test]
    fn a_file_that_is_being_written_has_no_name_and_can_be_read_again() {
        let scratch = Scratch::new("own-folder-nameless");
        let path = scratch.join("x.parts");
        let folder = OwnFolder::open(&path).unwrap();
        folder
            .write("a", |mut file| -> Result<(), FileError> {
                file.write_all(b"ab").unwrap();
                let mut found = [0; 2];
                std::os::unix::fs::FileExt::read_exact_at(file, &mut found, 0).unwrap();
                assert_eq!((&found, std::fs::read_dir(&path).unwrap().count()), (b"ab", 0));
                Ok(())
            })
            .unwrap();
    }
}

//! The lock on a file that is read, changed and replaced: one process after the other, or what one added would be lost.
//!
//! The file itself cannot hold the lock, because its successor is another file of the same name. So a file beside it
//! holds it, under a name that counts as temporary: what a killed process left is removed by the next run.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{self as rfs, CWD, FlockOperation, Mode, OFlags};

use super::FileError;
use super::atomic::resolve;
use super::cancel;
use super::temporary::{Temporary, claim, temporary_name_with};

/// Pause between two attempts to take a lock that another process holds.
const PAUSE: Duration = Duration::from_millis(50);

/// A lock on a path, held until it is dropped.
#[derive(Debug)]
pub struct FileLock {
    path: PathBuf,
    _file: File,
    _remembered: Temporary,
}

impl FileLock {
    /// Waits until no other process holds the lock on `target`, which need not exist, and takes it.
    ///
    /// `waiting` is called once if there is something to wait for. `None` is the result on a file system without locks.
    /// Errors: a folder that cannot be written to; a signal while it waits.
    pub fn take(target: &Path, waiting: impl FnOnce()) -> Result<Option<Self>, FileError> {
        let target = resolve(target)?;
        let name: OsString = target.file_name().unwrap_or_default().to_owned();
        // No random number: every process has to find the same name.
        let path = target.with_file_name(temporary_name_with(&name, 0));
        let remembered = Temporary::remember(path.clone());
        let failed = |error: io::Error| FileError::io("lock", &target, error);
        let mut waiting = Some(waiting);
        loop {
            let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let file = rfs::openat(CWD, &path, flags, Mode::from_raw_mode(0o644))
                .map_err(|error| failed(error.into()))?;
            match rfs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if claim(&file, &path) => {
                    return Ok(Some(Self { path, _file: File::from(file), _remembered: remembered }));
                }
                // The process before removed it after we opened it.
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    if let Some(waiting) = waiting.take() {
                        waiting();
                    }
                    std::thread::sleep(PAUSE);
                }
                Err(_) => {
                    let _ = std::fs::remove_file(&path);
                    return Ok(None);
                }
            }
            cancel::check().map_err(failed)?;
        }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // While it is still locked: a process that opened it finds out that it has no name any longer.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn each_holder_sees_what_the_one_before_wrote() {
        let folder = std::env::temp_dir().join(format!("imgrelay-file-lock-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let target = folder.join("count");
        std::fs::write(&target, "0").unwrap();
        std::os::unix::fs::symlink("count", folder.join("link")).unwrap();
        let waited = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for name in ["count", "link", "count", "link"] {
                let (path, target, waited) = (folder.join(name), &target, &waited);
                scope.spawn(move || {
                    for _ in 0..20 {
                        let wait = || {
                            waited.fetch_add(1, Ordering::SeqCst);
                        };
                        let held = FileLock::take(&path, wait).unwrap();
                        let count: u32 = std::fs::read_to_string(target).unwrap().parse().unwrap();
                        std::fs::write(target, (count + 1).to_string()).unwrap();
                        drop(held);
                    }
                });
            }
        });
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "80");
        let left: Vec<_> =
            std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
        let held = FileLock::take(&folder.join("new"), || ()).unwrap();
        assert!(held.is_some() && !folder.join("new").exists());
        drop(held);
        assert!(FileLock::take(&folder.join("absent/new"), || ()).is_err());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn who_waits_is_told_once_and_gets_the_lock_afterwards() {
        let scratch = testkit::scratch::Scratch::new("file-lock-waiting");
        let target = scratch.join("file");
        let held = FileLock::take(&target, || panic!("there is nothing to wait for")).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let second =
                scope.spawn(|| FileLock::take(&target, || tell.send(()).unwrap()).unwrap().is_some());
            told.recv().unwrap();
            std::thread::sleep(3 * PAUSE);
            assert!(told.try_recv().is_err() && !second.is_finished());
            drop(held);
            assert!(second.join().unwrap());
        });
    }

    #[test]
    fn a_lock_follows_no_link_and_is_not_inherited_by_other_programs() {
        let scratch = testkit::scratch::Scratch::new("file-lock-link");
        let target = scratch.join("file");
        let held = FileLock::take(&target, || ()).unwrap().unwrap();
        assert_eq!(rustix::io::fcntl_getfd(&held._file).unwrap(), rustix::io::FdFlags::CLOEXEC);
        let path = held.path.clone();
        drop(held);
        scratch.write("elsewhere", "x");
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        let error = FileLock::take(&target, || ()).unwrap_err().to_string();
        assert!(error.starts_with("cannot lock `"), "{error}");
    }
}

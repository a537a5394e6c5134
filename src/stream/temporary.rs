//! Names of what is to be removed if the process has to end without unwinding.
//!
//! A blocked thread cannot clean up when a signal ends the process; whoever ends it calls [`remove_all`]. Files
//! without a name (see [`super::AtomicFile`]) need none of this.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most bytes of the target's name that are part of a temporary name.
const NAME_BYTES: usize = 200;

static PATHS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn paths() -> MutexGuard<'static, Vec<PathBuf>> {
    PATHS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file or folder that exists for a while only; dropping this forgets it and removes nothing.
#[derive(Debug)]
#[must_use]
pub struct Temporary(PathBuf);

impl Temporary {
    /// Remembers a path; call it before the file or folder is made.
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

/// Removes all that is remembered; the process must end right after.
///
/// Threads that are still writing into a folder may win against the removal, so it is tried a few times.
pub fn remove_all() {
    for path in paths().iter() {
        for _ in 0..3 {
            if remove(path) {
                break;
            }
        }
    }
}

/// Removes a file, link or folder; tells whether nothing is there any more.
fn remove(path: &Path) -> bool {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(path).is_ok(),
        Ok(_) => std::fs::remove_file(path).is_ok(),
        Err(_) => true,
    }
}

/// Returns a hidden name that no other process uses: `.<name>.imgrelay-<16 hex>`.
pub(crate) fn temporary_name(name: &OsStr) -> OsString {
    let mut bytes = [0_u8; 8];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    // Early boot is the only time this can fail; the process id still keeps two processes apart.
    if filled.is_err() {
        bytes = u64::from(std::process::id()).to_le_bytes();
    }
    let mut temporary = OsString::from(".");
    // The whole must not be longer than a name may be (255 bytes), however long the target's is.
    temporary.push(OsStr::from_bytes(name.as_bytes().get(..NAME_BYTES).unwrap_or(name.as_bytes())));
    temporary.push(format!(".imgrelay-{:016x}", u64::from_le_bytes(bytes)));
    temporary
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forgotten_stays_and_what_is_remembered_can_be_removed() {
        let folder = std::env::temp_dir().join(format!("imgrelay-temporary-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("kept/a")).unwrap();
        drop(Temporary::remember(folder.join("kept")));
        assert!(!paths().contains(&folder.join("kept")));
        let gone = Temporary::remember(folder.join("gone"));
        std::fs::create_dir_all(folder.join("gone/a")).unwrap();
        // Not `remove_all`: other tests of this process remember files too.
        assert!(paths().contains(&folder.join("gone")));
        assert!(remove(&gone.0) && !folder.join("gone").exists());
        assert!(remove(&gone.0), "nothing there is as good");
        assert!(folder.join("kept/a").exists());
        std::fs::remove_dir_all(folder).unwrap();
    }
}

//! Folders that are removed at the end of the test.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

static NEXT: AtomicUsize = AtomicUsize::new(0);

/// A fresh folder, removed with everything in it when dropped.
///
/// Set `IMGRELAY_TEST_KEEP=1` to keep the folders of a test; their paths are then printed.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes a folder of its own under the system's temporary folder; `purpose` becomes part of its name.
    pub fn new(purpose: &str) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("imgrelay-test-{}-{number}-{purpose}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // A killed run with the same process id may have left a folder.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap_or_else(|e| panic!("cannot create `{}`: {e}", path.display()));
        Self { path }
    }

    /// Returns the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns a path inside the folder; nothing is created.
    pub fn join(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.path.join(relative)
    }

    /// Writes a file inside the folder, with the folders above it, and returns its path.
    pub fn write(&self, relative: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path.join(relative);
        let parent = path.parent().expect("a path inside the folder has a parent");
        std::fs::create_dir_all(parent)
            .unwrap_or_else(|e| panic!("cannot create `{}`: {e}", parent.display()));
        std::fs::write(&path, content).unwrap_or_else(|e| panic!("cannot write `{}`: {e}", path.display()));
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::env::var_os("IMGRELAY_TEST_KEEP").is_some_and(|value| !value.is_empty()) {
            eprintln!("kept: {}", self.path.display());
            return;
        }
        if std::fs::remove_dir_all(&self.path).is_err() {
            // Only root may enter folders without permission bits; other users have to set the bits first.
            let _ = std::process::Command::new("chmod").args(["-R", "u+rwX"]).arg(&self.path).output();
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

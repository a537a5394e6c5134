//! Reads and checks the registry's storage folder without the registry.

use crate::digest;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The storage folder of a registry with file storage (`docker/registry/v2` layout).
#[derive(Debug, Clone)]
pub struct Storage {
    root: PathBuf,
}

impl Storage {
    /// Opens the folder given as `rootdirectory`; it need not exist yet.
    pub fn new(rootdirectory: &Path) -> Self {
        Self { root: rootdirectory.join("docker/registry/v2") }
    }

    /// Returns every repository that has manifests or blobs.
    pub fn repositories(&self) -> BTreeSet<String> {
        let top = self.root.join("repositories");
        let mut found = BTreeSet::new();
        let mut open = vec![top.clone()];
        while let Some(folder) = open.pop() {
            for name in names(&folder) {
                if matches!(name.as_str(), "_manifests" | "_layers") {
                    let relative = folder.strip_prefix(&top).expect("the walk stays below the top");
                    found.insert(relative.display().to_string());
                } else if !name.starts_with('_') {
                    open.push(folder.join(name));
                }
            }
        }
        found
    }

    /// Returns the tags of a repository with the digests they point at.
    pub fn tags(&self, repository: &str) -> BTreeMap<String, String> {
        let folder = self.repository(repository).join("_manifests/tags");
        names(&folder)
            .into_iter()
            .filter_map(|tag| read_link(&folder.join(&tag).join("current/link")).map(|digest| (tag, digest)))
            .collect()
    }

    /// Returns the digests of all manifests and indexes of a repository.
    pub fn manifests(&self, repository: &str) -> BTreeSet<String> {
        self.linked(repository, "_manifests/revisions/sha256")
    }

    /// Returns the digests of all blobs a repository may serve.
    pub fn layers(&self, repository: &str) -> BTreeSet<String> {
        self.linked(repository, "_layers/sha256")
    }

    /// Returns the digests of everything stored, shared by all repositories.
    pub fn blobs(&self) -> BTreeSet<String> {
        let top = self.root.join("blobs/sha256");
        let folders = names(&top).into_iter().map(|prefix| top.join(prefix));
        folders.flat_map(|folder| names(&folder)).map(|hex| format!("sha256:{hex}")).collect()
    }

    /// Returns the bytes stored under a digest; not checked here, see [`Storage::problems`].
    pub fn blob(&self, digest: &str) -> Option<Vec<u8>> {
        std::fs::read(self.data(digest)?).ok()
    }

    /// Returns the bytes of a manifest by tag or digest.
    pub fn manifest(&self, repository: &str, reference: &str) -> Option<Vec<u8>> {
        let digest = match digest::hex(reference) {
            Ok(_) => self.manifests(repository).contains(reference).then(|| reference.to_owned())?,
            Err(_) => self.tags(repository).remove(reference)?,
        };
        self.blob(&digest)
    }

    /// Returns the number of open upload sessions of a repository.
    pub fn open_uploads(&self, repository: &str) -> usize {
        names(&self.repository(repository).join("_uploads")).len()
    }

    /// Computes every digest and follows every reference; returns the problems, one line each.
    ///
    /// There is no problem if stored bytes have the digests they are stored under; each tag points at a manifest of its
    /// repository; each manifest's configuration and layers, and each index's manifests, are linked into the same
    /// repository and have the sizes in their descriptors.
    pub fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        for expected in self.blobs() {
            let path = self.data(&expected).expect("a listed blob has a sound digest");
            if !path.is_file() {
                found.push(format!("{expected} is an empty place"));
            } else if digest::of_file(&path).0 != expected {
                found.push(format!("{expected} holds bytes with digest {}", digest::of_file(&path).0));
            }
        }
        for repository in self.repositories() {
            for (tag, target) in self.tags(&repository) {
                if !self.manifests(&repository).contains(&target) {
                    found.push(format!("{repository}:{tag} points at {target}, which is no manifest there"));
                }
            }
            for manifest in self.manifests(&repository) {
                self.follow(&repository, &manifest, &mut found);
            }
        }
        found
    }

    /// Panics with [`Storage::problems`] if there is any.
    #[track_caller]
    pub fn assert_sound(&self) {
        let problems = self.problems();
        assert!(problems.is_empty(), "the registry's storage is not sound:\n{}", problems.join("\n"));
    }

    fn follow(&self, repository: &str, digest: &str, found: &mut Vec<String>) {
        let place = format!("{repository}@{digest}");
        let Some(document) = self.blob(digest).and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok())
        else {
            found.push(format!("{place} is missing or not JSON"));
            return;
        };
        let list = |name: &str| document[name].as_array().cloned().unwrap_or_default();
        let is_index = document.get("manifests").is_some();
        let (descriptors, there) = if is_index {
            (list("manifests"), self.manifests(repository))
        } else {
            let all = std::iter::once(document["config"].clone()).chain(list("layers"));
            (all.collect(), self.layers(repository))
        };
        for descriptor in descriptors {
            let target = descriptor["digest"].as_str().unwrap_or("(no digest)");
            if !there.contains(target) {
                found.push(format!("{place} needs {target}, which is not in {repository}"));
                continue;
            }
            let size = self.data(target).and_then(|path| path.metadata().ok()).map(|data| data.len());
            if size != descriptor["size"].as_u64() {
                found.push(format!(
                    "{place} says {target} has {} bytes, stored are {size:?}",
                    descriptor["size"]
                ));
            }
        }
    }

    fn repository(&self, name: &str) -> PathBuf {
        self.root.join("repositories").join(name)
    }

    fn linked(&self, repository: &str, kind: &str) -> BTreeSet<String> {
        let folder = self.repository(repository).join(kind);
        names(&folder).into_iter().filter_map(|hex| read_link(&folder.join(hex).join("link"))).collect()
    }

    fn data(&self, digest: &str) -> Option<PathBuf> {
        let hex = digest::hex(digest).ok()?;
        Some(self.root.join("blobs/sha256").join(&hex[..2]).join(hex).join("data"))
    }
}

/// Returns the names in a folder, in order; none if there is no such folder.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}

/// Returns the digest in a link file; a deleted manifest has none.
fn read_link(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    digest::hex(&text).is_ok().then_some(text)
}

//! All images of a server: those of stores, and those that were pushed, which take precedence.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::model::{Descriptor, Digest, RawDocument, Target};
use crate::store::{Stamp, StoreError};

use super::collected::Collected;
use super::contents::Contents;
use super::held::Held;

/// The images of stores and those that were pushed.
#[derive(Debug)]
pub(super) struct Images {
    pub(super) contents: Contents,
    /// `None` for a server that is read-only.
    pub(super) collected: Option<Collected>,
}

impl Images {
    /// Tells whether there is a repository of this name.
    pub(super) fn has_repository(&self, name: &str) -> bool {
        self.contents.has_repository(name)
            || self.collected.as_ref().is_some_and(|collected| collected.has_repository(name))
    }

    /// Returns the repositories, in order.
    pub(super) fn repositories(&self) -> BTreeSet<String> {
        let pushed = self.collected.iter().flat_map(Collected::repositories);
        self.contents.repositories().map(ToOwned::to_owned).chain(pushed).collect()
    }

    /// Returns the tags of a repository, in order.
    pub(super) fn tags(&self, name: &str) -> BTreeSet<String> {
        let pushed = self.collected.iter().flat_map(|collected| collected.tags(name));
        self.contents.tags(name).map(ToOwned::to_owned).chain(pushed).collect()
    }

    /// Finds a manifest or index.
    pub(super) fn document(&self, name: &str, target: &Target) -> Option<RawDocument> {
        let pushed = self.collected.as_ref().and_then(|collected| collected.document(name, target));
        pushed.or_else(|| self.contents.document(name, target).cloned())
    }

    /// Tells whether there is a manifest or index with this digest.
    pub(super) fn has_document(&self, digest: &Digest) -> bool {
        self.document("", &Target::Digest(digest.clone())).is_some()
    }

    /// Returns the referrers of a manifest, each once.
    pub(super) fn referrers(&self, subject: &Digest) -> Vec<Descriptor> {
        let mut found = self.contents.referrers(subject).to_vec();
        for entry in self.collected.iter().flat_map(|collected| collected.referrers(subject)) {
            if found.iter().all(|known| known.digest != entry.digest) {
                found.push(entry);
            }
        }
        found
    }

    /// Finds the bytes of a blob.
    pub(super) fn held(&self, digest: &Digest) -> Result<Option<Held<'_>>, StoreError> {
        if let Some(collected) = &self.collected
            && let Some(pushed) = collected.blob(digest)
        {
            return Ok(Some(Held::Pushed(pushed, &collected.spool)));
        }
        Ok(self.contents.place(digest)?.map(Held::Stored))
    }

    /// Tells whether a blob was verified, and cannot have changed since.
    pub(super) fn is_sound(&self, digest: &Digest, stamp: Option<Stamp>) -> bool {
        stamp.is_none_or(|stamp| self.contents.is_sound(digest, stamp))
    }

    /// Records that a blob was verified.
    pub(super) fn remember_sound(&self, digest: &Digest, stamp: Option<Stamp>) {
        if let Some(stamp) = stamp {
            self.contents.remember_sound(digest, stamp);
        }
    }

    /// Returns the file or folder that holds a blob, for messages.
    pub(super) fn path_of(&self, digest: &Digest) -> PathBuf {
        let pushed = || self.collected.as_ref().map(|collected| collected.spool.folder().to_owned());
        self.contents.path_of(digest).map(ToOwned::to_owned).or_else(pushed).unwrap_or_default()
    }
}

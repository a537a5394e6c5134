//! One file of an app, where its bytes are, and what was requested.

use std::path::Path;

use crate::pack::EntryRules;
use crate::tree::{FileIdentity, SymlinkPolicy};

/// What is taken from a folder or zip.
#[derive(Clone, Debug)]
pub struct AppOptions {
    /// Exact paths that are left out, besides what `.cfignore` and cf's defaults leave out.
    pub exclusions: Vec<String>,
    /// What is done with links: [`SymlinkPolicy::Copy`] or [`SymlinkPolicy::Refuse`]; kpack drops links.
    pub symlinks: SymlinkPolicy,
    /// Most bytes of all files together.
    pub size_limit: u64,
    /// Keep permission bits, and add those without which the app could not be built.
    pub preserve_permissions: bool,
    /// Times and permissions of entries.
    pub rules: EntryRules,
    /// Device and inode of a file to leave out: the archive that is being replaced.
    pub skip: Option<(u64, u64)>,
}

/// One file, or one folder that has nothing in it.
#[derive(Clone, Debug)]
pub struct AppEntry {
    /// Path inside the image, `/`-separated bytes.
    pub path: Vec<u8>,
    /// Permission bits as they are written.
    pub mode: u32,
    pub(super) content: Content,
}

impl AppEntry {
    /// Returns the bytes of a file; 0 for a folder.
    #[must_use]
    pub fn size(&self) -> u64 {
        match &self.content {
            Content::Folder => 0,
            Content::Disk { size, .. } | Content::Zip { size, .. } | Content::Completed { size, .. } => *size,
        }
    }
}

/// Where an entry's bytes are.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Folder,
    Disk {
        size: u64,
        identity: FileIdentity,
        /// Its real path, if a link led there.
        real: Option<Box<Path>>,
    },
    Zip {
        size: u64,
        index: usize,
    },
    /// Taken from an earlier image.
    Completed {
        size: u64,
        index: usize,
    },
}

/// Files that were reached through symbolic links and are stored as copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopiedLinks {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub first: Vec<u8>,
}

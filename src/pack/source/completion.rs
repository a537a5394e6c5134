//! Files that an upload left out because an earlier image has them.

use std::fs::File;

use super::Resource;

/// Files out of an earlier image, in files without names.
#[derive(Debug, Default)]
pub struct Completion {
    /// The files without names.
    pub files: Vec<File>,
    /// What is in them.
    pub entries: Vec<CompletedFile>,
}

/// A file, and where its bytes are.
#[derive(Clone, Debug)]
pub struct CompletedFile {
    /// What was asked for; the bytes were compared with it.
    pub resource: Resource,
    /// In which of the files.
    pub file: usize,
    /// First byte there.
    pub offset: u64,
}

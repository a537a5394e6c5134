//! Files that an upload left out because an earlier image has them.

use std::fs::File;
use std::sync::Arc;

use super::Resource;

/// Files out of an earlier image, in files without names.
#[derive(Debug, Default)]
pub struct RestoredFiles {
    /// The files.
    pub entries: Vec<RestoredFile>,
}

/// A file, and where its bytes are.
#[derive(Clone, Debug)]
pub struct RestoredFile {
    /// The entry of the request; the bytes were compared with it.
    pub resource: Resource,
    /// The file without a name that it is in.
    pub file: Arc<File>,
    /// First byte there.
    pub offset: u64,
}

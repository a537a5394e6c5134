//! An entry of an archive, as the central directory has it.

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// Folder.
    Directory,
    /// Regular file.
    File,
    /// Symbolic link; its content is the target.
    Symlink,
}

/// One entry of the central directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path inside the archive: `/`-separated, relative, no `.` or `..`.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes of its content, as declared.
    pub size: u64,
    /// Unix permission bits; `None` where the archive was made on a system without them.
    pub mode: Option<u32>,
    pub(super) method: u16,
    pub(super) crc: u32,
    pub(super) compressed: u64,
    /// Where its local header begins, and what it must not reach into.
    pub(super) offset: u64,
    pub(super) limit: u64,
    /// Checksum of the name as written, to recognise the local header.
    pub(super) raw_name: u32,
}

//! Errors of a zip archive and of its entries.

use std::io;

/// Why an archive cannot be read. The caller knows its path.
#[derive(Debug, thiserror::Error)]
pub enum ZipError {
    /// The operating system refused.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// No end-of-central-directory record.
    #[error("has no end-of-central-directory record: it is not a zip archive, or it is not complete")]
    NotAZip,
    /// The records that describe the archive contradict one another or the file.
    #[error("is damaged: {0}")]
    Damaged(String),
    /// More entries than accepted.
    #[error("has {found} entries, at most {limit} are accepted")]
    TooMany {
        /// Entries the archive claims to have.
        found: u64,
        /// Most accepted.
        limit: usize,
    },
    /// One entry is not acceptable.
    #[error("entry `{name}` {problem}")]
    Entry {
        /// The entry's name, made readable.
        name: String,
        /// What is wrong with it.
        problem: Box<EntryProblem>,
    },
}

impl ZipError {
    /// Makes the error for an entry.
    #[must_use]
    pub fn entry(name: &[u8], problem: EntryProblem) -> Self {
        Self::Entry { name: String::from_utf8_lossy(name).into_owned(), problem: Box::new(problem) }
    }
}

/// What is wrong with an entry; the text continues after its name.
#[derive(Debug, thiserror::Error)]
pub enum EntryProblem {
    /// Needs a password.
    #[error("is encrypted")]
    Encrypted,
    /// Compressed in a way we cannot read.
    #[error("is compressed with {0}, expected stored or deflate")]
    Method(String),
    /// A name with `..`.
    #[error("leads out of the archive with `..`")]
    Outside,
    /// A name that begins at the root or with a drive.
    #[error("has an absolute path")]
    Absolute,
    /// The name is empty, or has only dots and slashes.
    #[error("has no name")]
    NoName,
    /// The systems that apps run on allow no file of this name.
    #[error("has a name that no file can have: {0}")]
    Name(&'static str),
    /// A path is there twice, with different contents.
    #[error("is there twice, with different contents")]
    Duplicate,
    /// A file or link where another entry needs a folder.
    #[error("lies below `{0}`, which is not a folder")]
    BelowFile(String),
    /// Not a file, folder or link.
    #[error("is {0}, expected a file, folder or symbolic link")]
    Kind(&'static str),
    /// A folder that has content.
    #[error("is a folder with {0} bytes of content")]
    FolderContent(u64),
    /// More bytes than the directory says.
    #[error("unpacks to more than the {0} bytes it declares")]
    Longer(u64),
    /// Fewer bytes than the directory says.
    #[error("unpacks to {found} bytes, but declares {declared}")]
    Shorter {
        /// What the directory says.
        declared: u64,
        /// What there is.
        found: u64,
    },
    /// Stored, but with two sizes.
    #[error("is stored in {stored} bytes, but declares {declared}")]
    StoredSize {
        /// Bytes in the archive.
        stored: u64,
        /// Bytes of the file.
        declared: u64,
    },
    /// The checksum of the content is wrong.
    #[error("has checksum {found:08x}, but declares {declared:08x}")]
    Checksum {
        /// What the directory says.
        declared: u32,
        /// What the content has.
        found: u32,
    },
    /// Two entries share bytes, as zip bombs do.
    #[error("shares its bytes with another entry or with the central directory")]
    Overlap,
    /// The header before the content is for something else.
    #[error("has another {what} in front of its content: {found}")]
    Local {
        /// Which part differs.
        what: &'static str,
        /// What is there.
        found: String,
    },
    /// The compressed stream is broken.
    #[error("cannot be unpacked: {0}")]
    Deflate(io::Error),
    /// The compressed stream ends before its bytes do.
    #[error("has {0} bytes after the end of its compressed content")]
    Trailing(u64),
}

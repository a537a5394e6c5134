//! Zip archives, read strictly: every local header has to agree with the central directory.
//!
//! Floor 1. Memory: the name and a few words for each entry; contents are streamed from their place in the file.
//! No file is written here, and links are data. The caller decides what goes into an image.
//! Source: PKWARE APPNOTE 6.3.10 (section numbers below are its), Info-ZIP's `extrafld.txt`.

mod backslashes;
mod bytes;
mod directory;
mod entry;
mod entry_names;
mod error;
mod reader;
#[cfg(test)]
mod tests;

pub use backslashes::Backslashes;
pub use directory::Archive;
pub use entry::{Entry, EntryKind};
pub use error::{EntryProblem, ZipError};
pub use reader::EntryReader;

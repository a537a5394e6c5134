//! Zip archives, read strictly: the central directory is the truth, and every entry has to agree with it.
//!
//! Floor 1. Memory is a few words and the name for each entry, whatever the sizes: contents are streamed from their
//! place in the file. Nothing is extracted here and links are data; what may go into an image is decided above.
//! Source: PKWARE APPNOTE 6.3.10 (section numbers below are its), Info-ZIP's `extrafld.txt`.

mod bytes;
mod directory;
mod entry;
mod entry_names;
mod error;
mod reader;

pub use directory::Archive;
pub use entry::{Entry, EntryKind};
pub use error::{EntryProblem, ZipError};
pub use reader::EntryReader;

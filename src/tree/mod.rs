//! A folder as an ordered stream of entries; a file that changes while it is read is an error.
//!
//! Floor 1. Reads the file system, writes nothing, knows no archive format.

mod error;
mod filter;
mod ignore_text;
mod links;
mod walk;

pub use error::TreeError;
pub use filter::Filter;
pub use ignore_text::ignore_text;
pub use links::{LinkProblem, RefusedLinks, SymlinkPolicy};
pub use walk::{Content, Entry, EntryKind, FileIdentity, FileReader, Visitor, reopen, walk};

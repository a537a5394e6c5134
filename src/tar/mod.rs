//! Tar: deterministic writing, strict reading, an index of files that can be seeked, confined
//! extraction, and the tree of files that layers make.
//!
//! Floor 1. Knows bytes, entries and handles, nothing of images; names stay bytes from end to end.

mod checksum;
mod error;
mod extract;
mod file_tree;
pub mod header;
mod header_read;
mod index;
pub mod paths;
mod pax;
mod read;
pub mod write;

pub use error::{TarError, display_name};
pub use extract::{ExtractError, ExtractMode, Extractor, Ownership, Policy, StrayLinks, Summary};
pub use file_tree::{FileContent, FileTree, LayerEntry, Node, NodeKind, TooManyLinks};
pub use index::{EndMark, index, is_tar_start};
pub use read::{Entry, EntryKind, Reader};

//! Tar archives: a strict reader, an index of files that can be seeked, and confined extraction.
//!
//! Floor 1. Knows bytes and names, nothing of images; names stay bytes from end to end.

mod error;
mod extract;
mod header_read;
mod index;
mod pax;
mod read;

pub use error::{TarError, display_name};
pub use extract::{ExtractError, Extractor, Ownership, Policy, StrayLinks, Summary, Treatment};
pub use index::{EndMark, index, is_tar_start};
pub use read::{Entry, EntryKind, Reader};

//! Tar: deterministic writing, strict reading, confined extraction.
//!
//! Floor 1. Knows bytes, entries and handles; nothing of images.

pub mod header;
pub mod write;

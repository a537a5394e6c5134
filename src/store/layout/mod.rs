//! OCI image layouts, as a tar or as a folder.
//!
//! Source: image-spec image-layout.md.

mod directory;
mod read;
mod write;

pub use super::slots::{BlobSlot, LayoutTarget, WrittenLayout};
pub(super) use directory::Directory;
pub(super) use read::{open_directory, open_tar};
pub use write::{DockerImage, LayoutIndex, LayoutTarWriter};

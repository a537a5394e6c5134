//! OCI image layouts, as a tar or as a folder.
//!
//! Source: image-spec image-layout.md.

mod directory;
mod read;
mod write;

pub use super::slots::{BlobSlot, LayoutTarget, WrittenLayout};
pub(super) use directory::Directory;
pub use read::check_version;
pub(super) use read::{Top, open_directory, open_tar, top_of_index};
pub use write::{DockerImage, LayoutIndex, LayoutTarWriter};

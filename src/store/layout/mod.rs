//! OCI image layouts, as a tar or as a folder.
//!
//! Source: image-spec image-layout.md.

mod read;
mod write;

pub(super) use read::{Directory, open_directory, open_tar};
pub use write::{BlobSlot, DockerImage, LayoutIndex, LayoutTarWriter, LayoutTarget, WrittenLayout};

//! OCI image layouts: as one tar, or as a folder.
//!
//! Source: image-spec image-layout.md.

mod write;

pub use write::{BlobSlot, DockerImage, LayoutIndex, LayoutTarWriter, LayoutTarget, WrittenLayout};

//! Image stores between jobs: an OCI layout in a bucket or a shared folder, with the history of each tag.
//!
//! Floor 3. `--store` and `--to-store` name one. Blobs are stored by digest; each push of a tag adds one small object,
//! the entry. Only entries define versions, so a store needs no locks and no conditional writes: docs/formats/store.md.
//! Opens images as [`crate::store::Store`]; `transfer` copies into a store.

mod address;
mod bucket;
mod error;
mod folder;
mod objects;
mod read;
mod version;
mod write;

pub use address::{Address, AddressError, StoreReference};
pub use bucket::BucketObjects;
pub use error::DepotError;
pub use folder::FolderObjects;
pub use objects::Objects;
pub use read::{Depot, OpenedImage};
pub use version::{Pushed, Version};
pub use write::Written;

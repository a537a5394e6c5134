//! Image stores between jobs: an OCI layout in a bucket or a shared folder, with the history of each tag.
//!
//! Floor 3. `--store` and `--to-store` name one. Blobs are stored by digest; each push of a tag adds one small object,
//! the entry. Only entries define versions, so a store needs no locks and no conditional writes: docs/formats/store.md.
//! Opens images as [`crate::store::Store`]; `transfer` copies into a store.

mod address;
mod bucket;
mod collect;
mod error;
mod folder;
#[doc(hidden)]
pub mod fuzzing;
mod marks;
mod objects;
mod protect;
mod reach;
mod read;
#[cfg(test)]
mod stress;
mod timing;
mod version;
mod web;
mod write;

pub use address::{Address, AddressError, StoreReference};
pub use bucket::BucketObjects;
pub use collect::{CollectReport, CollectRequest, SHORTEST_GRACE};
pub use error::DepotError;
pub use folder::FolderObjects;
pub use objects::Objects;
pub use protect::Protection;
pub use read::{Depot, OpenedImage};
pub use version::{PushTime, Version};
pub use web::WebObjects;
pub use write::WrittenEntry;

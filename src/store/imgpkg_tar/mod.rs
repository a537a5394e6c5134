//! What `imgpkg copy --to-tar` writes: manifests and configurations as strings in `manifest.json`, layers as files.
//!
//! The format is imgpkg's own. Source: its behaviour, see `docs/imgpkg-compatibility.md`.

mod read;
mod write;

pub(super) use read::{is_imgpkg_table, open};
pub use write::{ConfigItem, ImageItem, IndexItem, Item, LayerItem, ManifestItem, layer_name, table};

/// Label that imgpkg puts on the bundle a tar was made for; only its presence counts.
pub const ROOT_LABEL: &str = "dev.carvel.imgpkg.copy.root-bundle";

//! Carvel's YAML documents: text in, values out, and text again.
//!
//! Floor 0. No I/O. Strict as imgpkg is: unknown fields, other versions and tags in place of digests are errors,
//! each with its line; `package` alone is lenient, because it only advises. Source: Carvel imgpkg documentation,
//! "Bundle format", "Lock file".

mod bundle_lock;
mod images_lock;
mod locations;
mod package;
mod yaml;

pub use bundle_lock::BundleLock;
pub use images_lock::{ImagesLock, LockedImage};
pub use locations::{
    ImageLocations, LOCATIONS_FILE, cosign_subject, cosign_tag, default_tag, locations_tag,
    repository_based_tag,
};
pub use package::{
    KBLD_ID, PACKAGES_FOLDER, PACKAGING_API_VERSION, PackageRule, PackagingObject, read_packaging_objects,
};
pub use yaml::{LockError, image_name};

/// `apiVersion` of all of them.
pub const API_VERSION: &str = "imgpkg.carvel.dev/v1alpha1";
/// Folder of a bundle that holds its lock file.
pub const BUNDLE_FOLDER: &str = ".imgpkg";
/// Name of the lock file in that folder.
pub const IMAGES_LOCK_FILE: &str = "images.yml";

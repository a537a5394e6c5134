//! Images that belong together: a bundle, what it names, what those name, and what is attached to any of them.

mod attached;
mod bundle_lock;
mod gather;
mod locations;
mod locator;
mod member;
mod options;
mod push;

pub(super) use bundle_lock::read_images_lock;
pub use gather::gather;
pub(super) use gather::{bundle_lock, has_locations};
pub use locator::ImageLocator;
pub(super) use locator::is_absence;
pub use member::{Collection, Member, Role};
pub use options::{Attached, Gathering};
pub use push::{CollectionRequest, DefaultTags, push_collection};

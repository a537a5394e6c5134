//! Moves images from any source to any sink: decides what is moved and in which order, and sends events.
//!
//! Floor 4. The only place where stores and registries meet. A sink is a function that takes a source and the [`Graph`]
//! below a root; documents keep their bytes.

mod app_image;
mod app_push;
mod attached_counts;
mod blob_copy;
mod blob_push;
mod collection;
mod combined;
mod contents;
mod delta;
mod describe;
mod diff;
mod error;
pub mod events;
mod files;
mod graph;
mod image_files;
#[cfg(test)]
mod in_memory;
mod layer_files;
mod listed_platform;
mod listing;
mod one_file;
mod platform_table;
mod platforms;
mod produce;
mod pull_bundle;
mod read_ahead;
mod resume_cache;
mod root_names;
mod run_description;
mod runnable;
mod selection;
pub mod signatures;
mod source;
mod sparse;
mod to_archive;
mod to_depot;
mod to_folder;
mod to_layout;
mod to_registry;
mod unpacking;
pub mod verify;
mod workers;

pub use app_image::{AppRequest, Base, Resources, pack_app, pack_app_to_layout};
pub use app_push::{AppPush, Earlier, earlier_image, push_app};
pub use attached_counts::AttachedCounts;
pub use collection::{
    Attached, Collection, CollectionRequest, DefaultTags, Gathering, ImageLocator, Member, Role, gather,
    push_collection,
};
pub use combined::CombinedSource;
pub use contents::{
    PullReport, PullRequest, find_manifest, pull_contents, pull_rootfs, resolve_for, resolve_manifest,
};
pub use delta::{
    AtRegistry, find_at_registry, keep_needed, layers_of, left_out_below, those_in_repository, those_of,
};
pub use describe::{Description, DocumentKind, LayerDescription, describe, describe_collection};
pub use diff::{
    Aspect, DiffOptions, DiffSide, FieldChange, FileChange, FilesDiff, ImageDiff, ImagePair, SharedLayers,
    annotation_changes, compare_pair, pair_images,
};
pub use error::TransferError;
pub use files::{FileList, file_list, push_file_list};
pub use graph::Graph;
pub use listing::{ImageListing, copy_content, list_image};
pub use platform_table::{AttestationRow, PlatformRow, platform_rows};
pub use platforms::{
    JoinOptions, JoinSource, MadeIndex, join_index, names_of_roots, narrow_root, require_platforms_of,
};
pub use produce::{PackRequest, PackedImage, SpooledImage, check_expected, pack_to_layout, pack_to_spool};
pub use pull_bundle::pull_bundle;
pub use resume_cache::ResumeCache;
pub use root_names::is_attached;
pub use run_description::RunDescription;
pub use runnable::{
    BaseRoot, MadeRunnable, MadeSource, RunnableOrigin, RunnableRequest, UserName, make_runnable,
    write_runnable,
};
pub use selection::{select, selector_for};
pub use source::{ImageSource, RegistrySource};
pub use to_archive::{ArchiveRequest, copy_to_docker_tar, copy_to_imgpkg_tar};
pub use to_depot::{DepotImage, DepotReport, DepotRequest, copy_to_depot};
pub use to_folder::{SINGLE_IMAGE, copy_to_folder};
pub use to_layout::{LayoutReport, LayoutRequest, copy_delta_to_layout, copy_to_layout};
pub use to_registry::{PushRequest, confirm, push_to_registry};
pub use workers::{for_each, parallel_map};

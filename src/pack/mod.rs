//! Packs folders into an image: one layer in one pass, its configuration and manifest.
//!
//! Floor 3. What is packed is a value, a [`Profile`]: another packaging format is another value, not another path
//! through the code. Knows no registry.

mod app;
mod bundle;
mod entries;
mod error;
mod image;
mod index;
mod layer;
mod packages;
mod profile;
mod runnable;
#[cfg(test)]
mod tests;

pub use app::{
    AppEntry, AppError, AppOptions, AppTree, Backslashes, CopiedLinks, LayerSplit, MOST_LAYERS, MatchRequest,
    Resource, ResourceError, RestoredFile, RestoredFiles, parse_resources,
};
pub use bundle::{BundleError, BundleLayout, find_bundle};
pub use entries::{LayerEncoding, PackedLayer, UnpackedLayer};
pub use error::PackError;
pub use image::{ComposedImage, ImageOptions, compose};
pub use index::{
    IndexAttestation, IndexError, IndexImage, IndexParts, Narrowed, compose_index, narrow_index,
    require_platforms,
};
pub use layer::{LayerOptions, pack_layer};
pub use packages::{PackageChecks, PackageFault, PackageProblem, package_problems};
pub use profile::{Consumer, EntryRules, MediaTypes, ModeRule, Profile};
pub use runnable::{
    BaseListing, ComposedRunnable, ConfigEdits, Elf, LayerPlan, Layered, Modes, PlacedFiles, Plan,
    PlanOptions, PlannedProgram, RebaseError, Start, compose_runnable, plan_layers, rebase,
};

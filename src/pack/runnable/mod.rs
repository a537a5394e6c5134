//! Images that run: files on a base, with entrypoint, user and environment, and nothing executed.
//!
//! Three values make one: what it begins with ([`Start`]), the layers that are added ([`Plan`]) and what is changed in
//! the configuration ([`ConfigEdits`]). From scratch, on a base and on another base differ in the first one only.

mod compose;
mod config;
mod elf;
mod plan;
#[cfg(test)]
mod tests;

pub use compose::{ComposedRunnable, Layered, RebaseError, Start, compose_runnable, rebase};
pub use config::ConfigEdits;
pub use elf::Elf;
pub use plan::{BaseListing, LayerPlan, Modes, PlacedFiles, Plan, PlanOptions, PlannedProgram, plan_layers};

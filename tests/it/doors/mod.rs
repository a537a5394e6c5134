//! The other doors: GitHub, Tekton, and the examples for further CI systems.

pub(crate) mod examples;
pub(crate) mod gates;
pub(crate) mod github;
pub(crate) mod store_examples;
pub(crate) mod tekton;

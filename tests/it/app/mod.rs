//! Cloud Foundry apps: from folders and zips, in many layers, and with resource matching.

pub(crate) mod folder;
pub(crate) mod incremental;
pub(crate) mod matching;
mod names;
pub(crate) mod zip;

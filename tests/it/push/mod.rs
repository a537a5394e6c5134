//! `push`: folders packed into a tar or straight into a registry.

pub(crate) mod determinism;
pub(crate) mod failures;
pub(crate) mod ignore_files;
pub(crate) mod layer_vectors;
pub(crate) mod main_job;
pub(crate) mod registries;

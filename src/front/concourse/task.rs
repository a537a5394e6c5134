//! The build task: params from the environment, an image in the output folder.
//!
//! Placeholder.

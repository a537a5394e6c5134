//! The documentation, held to what the program does.

pub(crate) mod blocks;
mod yaml;

//! The documentation agrees with the program.

pub(crate) mod blocks;
mod yaml;

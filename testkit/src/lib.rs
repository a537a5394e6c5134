//! Test helpers: throw-away registries, folders from short descriptions, independent oracles.
//!
//! Nothing here may depend on `imgrelay`: an oracle that shares code with what it judges proves nothing.

pub mod fault;

//! Test helpers: throw-away registries, folders from short descriptions, independent oracles.
//!
//! Nothing here may depend on `imgrelay`: an oracle that shares code with what it judges proves nothing.
//! Helpers panic with a full account when the world is not as a test needs it; a tool that is not installed
//! is such a case, never a reason to skip.
#![allow(
    clippy::disallowed_methods,
    reason = "the bans keep the program pure; its tests live in the real world"
)]

pub mod bucket;
pub mod certificates;
pub mod cloud;
pub mod concourse;
pub mod container;
pub mod digest;
pub mod fault;
pub mod growth;
pub mod http;
pub mod judges;
pub mod kpack;
pub mod lab;
pub mod leash;
pub mod nginx;
pub mod oracle;
pub mod planted;
pub mod random;
pub mod readers;
pub mod registry;
pub mod scratch;
pub mod screen;
pub mod tarball;
pub mod tools;
pub mod tree;
pub mod zipfile;

//! Test helpers: throw-away registries, folders from short descriptions, independent oracles.
//!
//! Nothing here may depend on `imgrelay`: an oracle must not share code with the program that it checks. Helpers panic
//! with all details if the environment is not as a test needs it, also if a tool is not installed; no test is skipped
//! for that.
#![allow(
    clippy::disallowed_methods,
    reason = "the bans are for the program; tests use files, processes and clocks"
)]

pub mod alone;
pub mod bucket;
pub mod certificates;
pub mod cloud;
pub mod concourse;
pub mod container;
pub mod digest;
pub mod fake_bucket;
pub mod fault;
pub mod growth;
pub mod http;
pub mod kpack;
pub mod lab;
pub mod leash;
pub mod nginx;
pub mod oracle;
pub mod oracle_crates;
pub mod planted;
pub mod random;
pub mod readers;
pub mod registry;
pub mod scratch;
pub mod screen;
pub mod tarball;
pub mod tools;
pub mod tree;
pub mod web;
pub mod zipfile;

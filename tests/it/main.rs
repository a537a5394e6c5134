//! One test binary: the house rules, then every behaviour of the real executable.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on should stop, helpers included"
)]

mod deny;
mod docs_blocks;
mod house;
mod lab;

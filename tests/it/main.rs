//! One test binary: the house rules, then every behaviour of the real executable.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test fails by panicking")]

mod app;
mod carvel;
mod cli;
mod concourse;
mod copy;
mod crashes;
mod depot;
mod docs;
mod doors;
mod formats;
mod hostile;
mod house;
mod lab;
mod layouts;
mod look;
mod pull;
mod push;
mod registry;
mod release;
mod run;
mod samples;
mod serve;
mod signing;
mod store;
#[path = "../../fuzz/src/lib.rs"]
mod targets;

//! One test binary: the house rules, then every behaviour of the real executable.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test fails by panicking")]

mod cli_basics;
mod cli_signals;
mod crashes;
mod deny;
mod docs_blocks;
mod extraction;
mod fuzzing;
mod hostile;
mod house;
mod lab;
mod layouts;
mod limits;
mod registry_faults;
mod registry_real;
mod secrets;
mod store_interop;
mod store_reading;
mod tar_differential;
#[path = "../../fuzz/src/lib.rs"]
mod targets;
mod verifying;

//! One test binary: the house rules, then every behaviour of the real executable.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test fails by panicking")]

mod cli_basics;
mod cli_signals;
mod deny;
mod docs_blocks;
mod extraction;
mod house;
mod lab;
mod layouts;
mod registry_faults;
mod registry_real;
mod source_folder;
mod source_incremental;
mod source_zip;
mod store_interop;
mod store_reading;
mod verifying;

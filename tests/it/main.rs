//! One test binary: the house rules, then every behaviour of the real executable.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test fails by panicking")]

#[path = "../../fuzz/src/lib.rs"]

mod carvel;
mod carvel_copy;
mod carvel_pull;
mod carvel_tars;
mod cli_basics;
mod cli_signals;
mod deny;
mod determinism;
mod docs_blocks;
mod extraction;
mod failures_packing;
mod failures_reading;
mod fuzzing;
mod house;
mod interop_readers;
mod lab;
mod layer_vectors;
mod layouts;
mod push_registries;
mod registry_faults;
mod registry_real;
mod samples;
mod store_interop;
mod store_reading;
mod targets;
mod verifying;

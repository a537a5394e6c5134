//! One test binary: the house rules, then every behaviour of the real executable.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test fails by panicking")]

mod carvel;
mod carvel_copy;
mod carvel_kinds;
mod carvel_more;
mod carvel_pull;
mod carvel_tars;
mod ci_examples;
mod cli_basics;
mod cli_signals;
mod concourse;
mod deny;
mod determinism;
mod docs_blocks;
mod extraction;
mod failures_packing;
mod failures_reading;
mod fuzzing;
mod github;
mod house;
mod interop_readers;
mod lab;
mod layer_vectors;
mod layouts;
mod push_registries;
mod registry_cli;
mod registry_faults;
mod registry_real;
mod samples;
mod store_interop;
mod store_reading;
#[path = "../../fuzz/src/lib.rs"]
mod targets;
mod tekton;
mod verifying;

//! One test binary: the house rules, then every behaviour of the real executable.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test fails by panicking")]

mod carvel;
mod carvel_copy;
mod carvel_tars;
mod ci_examples;
mod cli_basics;
mod cli_signals;
mod concourse;
mod concourse_check;
mod concourse_container;
mod concourse_pipelines;
mod concourse_put;
mod concourse_task;
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
mod main_job;
mod push_registries;
mod registry_cli;
mod registry_cloud;
mod registry_faults;
mod registry_helpers;
mod registry_real;
mod release;
mod results;
mod samples;
mod store_interop;
mod store_reading;
#[path = "../../fuzz/src/lib.rs"]
mod targets;
mod tekton;
mod verifying;

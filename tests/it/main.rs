//! One test binary: the house rules, then every behaviour of the real executable.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test fails by panicking")]

mod carvel;
mod carvel_copy;
mod cli_basics;
mod cli_signals;
mod concourse;
mod concourse_check;
mod concourse_container;
mod concourse_pipelines;
mod concourse_put;
mod concourse_task;
mod deny;
mod docs_blocks;
mod extraction;
mod failures_packing;
mod failures_reading;
mod house;
mod lab;
mod layouts;
mod registry_faults;
mod registry_real;
mod samples;
mod store_interop;
mod store_reading;
mod verifying;

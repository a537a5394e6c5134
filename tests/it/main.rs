//! One test binary: the house rules, then every behaviour of the real executable.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test fails by panicking")]

mod ci_examples;
mod cli_basics;
mod cli_signals;
mod deny;
mod docs_blocks;
mod extraction;
mod github;
mod house;
mod lab;
mod layouts;
mod registry_faults;
mod registry_real;
mod store_interop;
mod store_reading;
mod tekton;
mod verifying;

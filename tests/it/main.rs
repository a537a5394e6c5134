//! One test binary: the house rules, then every behaviour of the real executable.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test fails by panicking")]

mod extraction;
mod house;
mod layouts;
mod store_reading;
mod verifying;

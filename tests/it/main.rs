//! One test binary: the house rules, then every behaviour of the real executable.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test fails by panicking, as the test does"
)]

mod extraction;
mod house;
mod layouts;
mod store_reading;

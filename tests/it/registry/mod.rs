//! The registry client and the program with correct and faulty registries.

pub(crate) mod cli;
pub(crate) mod cloud;
pub(crate) mod faults;
pub(crate) mod habits;
pub(crate) mod helpers;
pub(crate) mod layer_urls;
pub(crate) mod matrix;
pub(crate) mod other;
pub(crate) mod real;
pub(crate) mod tags;
mod weak_certificates;

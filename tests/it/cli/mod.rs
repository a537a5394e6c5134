//! The whole command line: help, exit codes, signals, output streams.

pub(crate) mod basics;
pub(crate) mod exit_codes;
pub(crate) mod json;
pub(crate) mod results;
pub(crate) mod signals;
pub(crate) mod terminal;

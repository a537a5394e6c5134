//! The command line as a whole: help, exit codes, signals, and what is printed where.

pub(crate) mod basics;
pub(crate) mod exit_codes;
pub(crate) mod json;
pub(crate) mod results;
pub(crate) mod signals;
pub(crate) mod terminal;

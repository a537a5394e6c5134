//! One test binary: the house rules, then every behaviour of the real executable.

mod cli_basics;
mod house;

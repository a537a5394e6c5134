//! One test binary: the house rules, then every behaviour of the real executable.

mod house;
mod registry_faults;

//! The rules of the house: floors, sizes, dependencies.

pub(crate) mod deny;
pub(crate) mod rules;

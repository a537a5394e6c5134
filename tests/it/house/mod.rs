//! The rules of the house: floors, sizes, dependencies, words.

pub(crate) mod deny;
pub(crate) mod rules;
mod words;

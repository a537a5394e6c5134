//! The rules of the house: floors, sizes, dependencies, words, and what visitors of the repository find.

pub(crate) mod deny;
mod habits;
pub(crate) mod rules;
mod words;

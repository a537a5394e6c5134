//! The rules of the house: floors, sizes, dependencies, words, links, and what visitors of the repository find.

pub(crate) mod deny;
mod habits;
mod links;
mod messages;
mod places;
pub(crate) mod rules;
mod words;

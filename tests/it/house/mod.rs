//! The rules of the source: floors, circles, sizes, dependencies, words, links, and files for contributors.

pub(crate) mod circles;
pub(crate) mod deny;
pub(crate) mod graph;
pub(crate) mod habits;
pub(crate) mod links;
pub(crate) mod messages;
pub(crate) mod places;
pub(crate) mod rules;
pub(crate) mod words;

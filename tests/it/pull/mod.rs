//! `pull`: layers extracted to a folder.

pub(crate) mod extraction;
mod replacing;

//! `copy` between tars and registries, with its flags.

pub(crate) mod append;
pub(crate) mod deltas;
mod failures;
pub(crate) mod index;
pub(crate) mod index_readers;
pub(crate) mod matrix;
pub(crate) mod names;
pub(crate) mod naming;
mod platforms;
pub(crate) mod referrers;
pub(crate) mod resume;
pub(crate) mod select;

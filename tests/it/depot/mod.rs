//! Image stores between jobs: `--store`, `--to-store`, `store list`.

pub(crate) mod bucket;
pub(crate) mod folder;
pub(crate) mod writers;

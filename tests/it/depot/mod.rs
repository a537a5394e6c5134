//! Image stores between jobs: `--store`, `--to-store`, `store list`.

pub(crate) mod bucket;
pub(crate) mod collect;
pub(crate) mod failing;
pub(crate) mod faults;
pub(crate) mod folder;
pub(crate) mod push;
pub(crate) mod tar_url;
pub(crate) mod web;
pub(crate) mod writers;

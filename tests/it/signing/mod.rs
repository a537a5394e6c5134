//! Signatures and attestations: made without a registry, copied with images, verified before an image is written.

mod carried;
mod cosign;
mod described;
mod doors;
mod hostile;
mod keys;
mod layouts;
pub(crate) mod limits;
mod other_tools;
mod registries;
pub(crate) mod seeds;

//! Signatures and attestations: made without a registry, carried along, checked before an image is believed.

mod cosign;
mod doors;
mod keys;
mod layouts;
pub(crate) mod limits;
mod registries;
pub(crate) mod seeds;

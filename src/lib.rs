//! imgrelay's engine: builds OCI images from folders, carries them as OCI layout tars, pushes and pulls them.
//!
//! The floors, lowest first; a module uses only those its row in `ARCHITECTURE.md` allows (checked by a test):
//!
//! | floor | modules |
//! |---|---|
//! | 0 values | [`model`], [`lock`] |
//! | 1 bytes | [`stream`], [`tree`], [`tar`], [`zip`] |
//! | 2 places | [`store`], [`registry`] |
//! | 3 packing | [`pack`] |
//! | 4 moving | [`transfer`] |
//! | 5 front | [`front`] |
//!
//! Everything below the front is silent: no output, no environment, no clock, no exit.

pub mod front;
pub mod lock;
pub mod model;
pub mod pack;
pub mod registry;
pub mod store;
pub mod stream;
pub mod tar;
pub mod transfer;
pub mod tree;
pub mod zip;

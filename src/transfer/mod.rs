//! Moving images from any source to any sink: what must move, in which order, and what happened.
//!
//! Floor 4. The only place where stores and registries meet.

pub mod events;
pub mod verify;

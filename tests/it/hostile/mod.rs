//! Hostile input: attacks, limits, fuzzing, secrets.

pub(crate) mod attacks;
pub(crate) mod fuzzing;
pub(crate) mod invisible;
pub(crate) mod led;
pub(crate) mod limits;
pub(crate) mod peers;
pub(crate) mod secrets;
pub(crate) mod two_readers;

//! Image archives at rest: read, verified, and compared with other readers.

pub(crate) mod facts;
pub(crate) mod interop;
pub(crate) mod reading;
pub(crate) mod sparse;
pub(crate) mod tar_differential;
pub(crate) mod verify;

//! The users of every registry in the tests.

/// The user who may do everything.
pub const USER: &str = "ci";
/// The password of [`USER`].
pub const PASSWORD: &str = "s3cret";
/// A user who may pull and push below `other/` only (with tokens; the password file has no such limits).
pub const OTHER_USER: &str = "other";
/// The password of [`OTHER_USER`].
pub const OTHER_PASSWORD: &str = "0ther";

//! Names with `\\` in archives that claim to be made on Unix.

/// What a `\\` in the names of an archive that claims to be made on Unix is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backslashes {
    /// No name has a `/`, so each `\\` was read as `/`. Tools on Windows write such archives.
    Separators {
        /// The first name.
        first: Vec<u8>,
    },
    /// Other names have `/`, so each `\\` stays a part of a file's name.
    InNames {
        /// The first name.
        first: Vec<u8>,
    },
}

impl Backslashes {
    /// Tells what they are from the first name with `\\`, and from whether any name has a `/`.
    pub(super) fn of(first: Vec<u8>, has_slashes: bool) -> Self {
        if has_slashes { Self::InNames { first } } else { Self::Separators { first } }
    }
}

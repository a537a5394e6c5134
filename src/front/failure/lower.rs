//! Errors of the lower floors as failures: which kind each is, and what helps against it.

use std::io;

use super::{Failure, Kind};
use crate::model::{DigestError, DocumentError, PlatformError, ReferenceError};
use crate::stream::{CompressionLevelError, FileError, cancel};
use crate::tree::TreeError;

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        let failure = Self::of(Kind::Refused, &error);
        match error.io_error() {
            Some(error) => failure.with_io_hint(error),
            None => failure,
        }
    }
}

impl Failure {
    /// Adds what usually helps against an error of the operating system.
    pub fn with_io_hint(self, error: &io::Error) -> Self {
        if cancel::is_cancelled() {
            return self;
        }
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                self.hint("free some space, or choose a path on another file system")
            }
            io::ErrorKind::ReadOnlyFilesystem => self.hint("choose a path on a writable file system"),
            io::ErrorKind::PermissionDenied => {
                self.hint("check the owner and mode of the file and of the folders above it")
            }
            _ => self,
        }
    }
}

/// Errors that are always about something the user typed or configured.
macro_rules! misuse_from {
    ($($error:ty),+) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::of(Kind::Misuse, &error)
            }
        })+
    };
}
misuse_from!(ReferenceError, DigestError, PlatformError, CompressionLevelError);

impl From<DocumentError> for Failure {
    fn from(error: DocumentError) -> Self {
        Self::of(Kind::Refused, &error)
    }
}

impl From<TreeError> for Failure {
    fn from(error: TreeError) -> Self {
        let failure = Self::of(Kind::Refused, &error);
        match &error {
            TreeError::Io { source, .. } => failure.with_io_hint(source),
            TreeError::Changed { .. } => failure.hint("let whatever writes there finish, then try again"),
            TreeError::Kind { .. } => failure.hint("remove it; it cannot be part of an image"),
            TreeError::Link { .. } => failure.hint(
                "change the link, or choose with `--symlinks copy` to pack what links inside the folder point at",
            ),
        }
    }
}

//! Opening what a command reads from: a tar, a folder, a lock file.

use std::path::Path;

use crate::front::context::Context;
use crate::front::failure::{Failure, message};
use crate::front::flag::Flag;
use crate::front::system;
use crate::model::{Digest, limits};
use crate::store::{self, Store, StoreKind};
use crate::stream::{FileError, TooLarge, read_bounded};

/// Opens a tar or folder of any known kind.
pub(super) fn open_store(context: &Context<'_>, path: &Path) -> Result<Store, Failure> {
    Ok(store::open(path, &system::temporary_folder(context.env))?)
}

/// Opens a tar or folder that has to be an OCI layout.
pub(super) fn open_oci(context: &Context<'_>, path: &Path) -> Result<Store, Failure> {
    let store = open_store(context, path)?;
    match store.kind() {
        StoreKind::OciLayoutTar | StoreKind::OciLayoutDirectory => Ok(store),
        other => {
            Err(Failure::refused(format!("`{}` is {}, expected an OCI layout", path.display(), other.name()))
                .hint(message!("use ", Flag::TAR, ", which takes every kind")))
        }
    }
}

/// Compares with the digest the user demands.
pub(super) fn check_expected(expected: Option<&Digest>, found: &Digest) -> Result<(), Failure> {
    match expected {
        Some(expected) if expected != found => {
            Err(Failure::difference(format!("the image has digest `{found}`, expected `{expected}`")))
        }
        _ => Ok(()),
    }
}

/// Reads the text of a lock file.
pub(super) fn read_lock(path: &Path) -> Result<String, Failure> {
    let failed = |error| Failure::from(FileError::io("read", path, error));
    let file = std::fs::File::open(path).map_err(failed)?;
    let bytes = read_bounded(file, limits::LOCK_BYTES).map_err(|error| match error {
        TooLarge::Io(error) => failed(error),
        TooLarge::Limit { limit } => Failure::refused(format!(
            "`{}` has more than {limit} bytes, which no lock file needs",
            path.display()
        )),
    })?;
    String::from_utf8(bytes)
        .map_err(|_| Failure::misuse(format!("`{}` is not UTF-8 text, expected a lock file", path.display())))
}

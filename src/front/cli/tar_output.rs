//! Where a command writes a tar: a file, or standard output by way of a file without a name.

use std::fs::File;
use std::io::{self, Seek as _};
use std::path::Path;

use super::resolve::TarTarget;
use crate::front::context::Context;
use crate::front::failure::Failure;
use crate::front::system;
use crate::store::layout::LayoutTarget;
use crate::stream::FileError;

/// Returns where a tar is written: its file, or a spool in the temporary folder for standard output.
pub(super) fn layout_target(context: &Context<'_>, target: &TarTarget) -> LayoutTarget {
    match target {
        TarTarget::File(path) => LayoutTarget::File(path.clone()),
        TarTarget::Stdout => LayoutTarget::Spool(system::temporary_folder(context.env)),
    }
}

/// Copies a finished tar to standard output.
///
/// Errors: also if the reader closed the pipe, because it does not have the whole tar then.
pub(super) fn send_to_stdout(mut spool: File) -> Result<(), Failure> {
    let failed = |error| FileError::io("write the tar to", Path::new("standard output"), error);
    spool.rewind().map_err(failed)?;
    let mut out = io::stdout().lock();
    io::copy(&mut spool, &mut out).map_err(failed)?;
    Ok(io::Write::flush(&mut out).map_err(failed)?)
}

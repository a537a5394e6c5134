//! An app from standard input: `push -s -f -` copies it into a temporary file without a name, because a zip is read
//! from its end.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use super::resolve::{PushKind, PushOptions};
use crate::front::context::Context;
use crate::front::failure::{Failure, message};
use crate::front::flag::Flag;
use crate::front::system;
use crate::model::limits;
use crate::stream::{FileError, cancel, nameless_file};

/// Copies standard input into a file if an app is packed from it; the file exists as long as it is open.
///
/// Errors: a terminal; more than [`limits::SPOOL_BYTES`].
pub(super) fn take(context: &Context<'_>, options: &mut PushOptions) -> Result<Option<File>, Failure> {
    let is_stdin = matches!(options.contents.roots.as_slice(), [only] if only == Path::new("-"));
    if options.kind != PushKind::App || !is_stdin {
        return Ok(None);
    }
    if io::stdin().is_terminal() {
        return Err(Failure::misuse("an app cannot be read from a terminal").hint(message!(
            "pipe a zip, jar or war to standard input, or name one: ",
            Flag::FILE.with("PATH").short()
        )));
    }
    let folder = system::temporary_folder(context.env);
    let mut file = nameless_file(&folder)?;
    let input = Path::new("standard input");
    let mut left = io::stdin().lock().take(limits::SPOOL_BYTES + 1);
    let copied = io::copy(&mut left, &mut file);
    let copied = copied.and_then(|copied| cancel::check().map(|()| copied));
    let copied = copied.map_err(|error| FileError::io("read", input, error))?;
    if copied > limits::SPOOL_BYTES {
        let limit = limits::SPOOL_BYTES;
        return Err(Failure::refused(format!("standard input has more than {limit} bytes")));
    }
    options.contents.roots = vec![PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))];
    Ok(Some(file))
}

//! `cat`: prints the content of one file of an image after its layer was verified.

use std::io::{self, Seek as _, Write as _};
use std::path::Path;

use super::look_args::CatArgs;
use super::looking::{look, shown, too_many_links};
use super::resolve;
use crate::front::context::Context;
use crate::front::failure::Failure;
use crate::front::outcome::Outcome;
use crate::front::system;
use crate::stream::{FileError, nameless_file};
use crate::tar::NodeKind;
use crate::transfer;

pub(in crate::front) fn run(context: &Context<'_>, args: &CatArgs, json: bool) -> Result<Outcome, Failure> {
    let options = resolve::cat(args, json)?;
    let temporary = system::temporary_folder(context.env);
    let mut spool = nameless_file(&temporary)?;
    look(context, &options.image, |listing, place, source| {
        let wanted = shown(&options.path);
        let found = listing.tree.follow(&options.path).map_err(|_| too_many_links(place, &options.path))?;
        let Some(node) = listing.tree.get(&found) else {
            return Err(super::looking::absent(place, &options.path));
        };
        let is = match &node.kind {
            NodeKind::File => {
                let failed = |error| FileError::io("write a temporary file in", &temporary, error);
                let content = &node.content;
                return Ok(transfer::copy_content(source, listing, content, &mut spool, &failed)?);
            }
            NodeKind::Directory => {
                return Err(Failure::refused(format!(
                    "`{wanted}` in `{place}` is a folder, expected a file"
                ))
                .hint("`imgrelay ls` lists what is in it"));
            }
            NodeKind::HardLink(_) => "a hard link to a missing file",
            NodeKind::Link(_) => "a link to a missing file",
            NodeKind::CharacterDevice | NodeKind::BlockDevice => "a device",
            NodeKind::Fifo => "a named pipe",
        };
        Err(Failure::refused(format!("`{wanted}` in `{place}` is {is}, expected a file")))
    })?;
    let failed = |error| FileError::io("write the file to", Path::new("standard output"), error);
    spool.rewind().map_err(failed)?;
    let mut out = io::stdout().lock();
    match io::copy(&mut spool, &mut out).and_then(|_| out.flush()) {
        // The reader closed the pipe, as `cat | head` does.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(failed(error).into()),
        _ => Ok(Outcome::Printed),
    }
}

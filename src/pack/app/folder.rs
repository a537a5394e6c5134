//! An app in a folder.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::collect::Collector;
use super::ignore::{IGNORE_FILE, filter, not_a_file};
use super::{AppError, AppOptions, Content, PackError};
use crate::model::limits;
use crate::stream::{FileError, read_file};
use crate::tree::{self, Entry, EntryKind, Visitor, walk};

pub(super) fn as_path(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}

pub(super) fn list(root: &Path, options: &AppOptions) -> Result<Collector, PackError> {
    let real_root = root.canonicalize().map_err(|error| FileError::io("follow", root, error))?;
    let own = own_patterns(root)?;
    let filter = filter(root, &options.exclusions, own.as_deref())?;
    let mut lister = Lister { collector: Collector::new(root, options), root: &real_root };
    walk(&real_root, &filter, options.symlinks, options.skip, &mut lister)?;
    Ok(lister.collector)
}

fn own_patterns(root: &Path) -> Result<Option<Vec<u8>>, PackError> {
    let path = root.join(IGNORE_FILE);
    // Its type is checked first, because opening a pipe would wait for ever. A dangling link does not count as absent.
    if std::fs::symlink_metadata(&path).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return Ok(None);
    }
    let metadata = std::fs::metadata(&path).map_err(|error| FileError::io("look at", &path, error))?;
    if !metadata.is_file() {
        return Err(not_a_file(root).into());
    }
    match read_file(&path, limits::IGNORE_BYTES) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error @ FileError::TooLarge { .. }) => {
            Err(AppError::Ignore { path: root.to_owned(), problem: error.to_string() }.into())
        }
        Err(error) => Err(error.into()),
    }
}

struct Lister<'a> {
    collector: Collector,
    root: &'a Path,
}

impl Visitor for Lister<'_> {
    type Error = PackError;

    fn entry(&mut self, entry: &Entry, content: tree::Content<'_>) -> Result<(), PackError> {
        let content = match (&entry.kind, content) {
            (EntryKind::Directory, _) if entry.path == b"." => return Ok(()),
            (EntryKind::File { size }, tree::Content::File(file)) => {
                let linked = file.path() != self.root.join(as_path(&entry.path));
                let real = linked.then(|| file.path().into());
                Content::Disk { size: *size, identity: file.identity(), real }
            }
            // Links are copied, left out or refused by the walk.
            _ => Content::Folder,
        };
        let linked = matches!(content, Content::Disk { real: Some(_), .. });
        Ok(self.collector.add(&entry.path, entry.mode, content, linked)?)
    }

    fn left_out(&mut self, _link: &Path) {
        self.collector.leave_out();
    }
}

//! The folder that is extracted into: what every kind of entry needs to make or replace a name in it.
//!
//! The kinds of entries are in the other files of this folder, and use this one.

use rustix::fs::{Gid, Uid};
use rustix::io::Errno;

use super::super::error::display_name;
use super::super::read::Entry;
use super::confined::{Confined, Missing, WalkError};
use super::policy::{ExtractError, Policy};
use super::remembered::{Deferred, Remembered};
use crate::model::limits;

/// What was extracted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Regular files written, also those that an upper layer replaced.
    pub files: u64,
    /// Directory entries.
    pub directories: u64,
    /// Symbolic and hard links.
    pub links: u64,
    /// Bytes of file data.
    pub bytes: u64,
    /// Entries left out: devices of a root file system, stray links if they are skipped.
    pub skipped: u64,
    /// Names of the first ten of them.
    pub skipped_names: Vec<String>,
    /// Paths of the policy's `include` for which there was nothing.
    pub unmatched: Vec<String>,
}

/// A folder that layers are extracted into.
pub(super) struct Target {
    pub(super) root: Confined,
    pub(super) policy: Policy,
    pub(super) summary: Summary,
    /// Layers that are done.
    pub(super) layers: u32,
    /// Names that the current layer wrote (from the second layer on), and what is left to do about names at the end.
    pub(super) remembered: Remembered,
}

impl Target {
    /// Enters the folder an entry belongs into, making what is missing of it.
    pub(super) fn open_folder(&mut self, entry: &Entry, folder: &[&[u8]]) -> Result<(), ExtractError> {
        let missing = Missing::Create(self.policy.mode.implied_folder_mode());
        self.root.enter(folder, missing).map_err(|error| walk(&entry.path, error))?;
        Ok(())
    }

    /// Remembers that the current layer wrote a name in the current folder; in the first one there is no need.
    pub(super) fn note(&mut self, name: &[u8]) {
        if self.layers > 0 {
            self.root.mark_written(name, &mut self.remembered, self.layers);
        }
    }

    /// Gives access to what is left to do about a name in the current folder.
    pub(super) fn deferred(&mut self, name: &[u8]) -> &mut Deferred {
        let folder = self.root.make(&mut self.remembered);
        let id = self.remembered.make(folder, name);
        self.remembered.deferred(id)
    }

    /// Runs a system call that makes a name, and once more after removing what had that name.
    pub(super) fn replace<T>(
        &mut self,
        entry: &Entry,
        name: &[u8],
        action: &'static str,
        make: impl Fn(&Confined) -> Result<T, Errno>,
    ) -> Result<T, ExtractError> {
        let failed = |error: Errno| ExtractError::io(action, &entry.path, error);
        let made = match make(&self.root) {
            Err(Errno::EXIST) => {
                self.root
                    .remove(name, &mut self.remembered)
                    .map_err(|error| ExtractError::io("replace the older file", &entry.path, error))?;
                make(&self.root).map_err(failed)?
            }
            made => made.map_err(failed)?,
        };
        self.note(name);
        Ok(made)
    }

    /// Counts an entry that is left out, and keeps the first names.
    pub(super) fn skip(&mut self, path: &[u8]) {
        const NAMED: usize = 10;
        self.summary.skipped += 1;
        if self.summary.skipped_names.len() < NAMED {
            self.summary.skipped_names.push(display_name(path));
        }
    }
}

/// Splits an entry's name; a `/` in front, `.` and doubled slashes mean nothing.
pub(super) fn components(path: &[u8]) -> Result<Vec<&[u8]>, String> {
    let parts: Vec<&[u8]> =
        path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    if parts.contains(&&b".."[..]) {
        return Err("`..` in its name leads out of the archive".to_owned());
    }
    if parts.len() > limits::FOLDER_DEPTH {
        return Err(format!(
            "it is {} levels deep, at most {} are accepted",
            parts.len(),
            limits::FOLDER_DEPTH
        ));
    }
    Ok(parts)
}

/// Returns the numbers of an entry's owner and group.
pub(super) fn owner(entry: &Entry) -> Result<(Uid, Gid), ExtractError> {
    let id = |what: &str, id: u64| {
        // All bits set means "leave as it is" to the system call.
        let id = u32::try_from(id).ok().filter(|id| *id != u32::MAX);
        id.ok_or_else(|| ExtractError::refused(&entry.path, format!("its {what} is not a valid number")))
    };
    Ok((Uid::from_raw(id("owner", entry.uid)?), Gid::from_raw(id("group", entry.gid)?)))
}

/// Turns the error of entering an entry's folder into the entry's error.
pub(super) fn walk(path: &[u8], error: WalkError) -> ExtractError {
    match error {
        WalkError::NotAFolder(name) => {
            ExtractError::refused(path, format!("`{name}` is not a directory, but has to be for this entry"))
        }
        WalkError::Outside(target) => ExtractError::refused(
            path,
            format!("its path has a link to `{target}`, outside the extracted tree"),
        ),
        WalkError::TooDeep => {
            let (links, depth) = (limits::LINKS, limits::FOLDER_DEPTH);
            let problem = format!("its path has more than {links} links or {depth} levels of directories");
            ExtractError::refused(path, problem)
        }
        WalkError::TooLong => {
            let (most, each) = (limits::FOLDER_OPENS, limits::FOLDER_OPENS_PER_ENTRY);
            let problem =
                format!("reaching the entries opens more than {most} folders and {each} for each entry");
            ExtractError::refused(path, problem)
        }
        WalkError::Io(action, source) => ExtractError::io(action, path, source),
    }
}

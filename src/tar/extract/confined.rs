//! A folder that nothing gets out of: paths are resolved inside it, component by component, on handles.
//!
//! The kernel is never asked to follow a link: each component is opened with `O_NOFOLLOW`, the targets of links
//! are walked here, and `..` goes back along the handles that led there. That works the same on every Linux and
//! in every sandbox; `openat2(RESOLVE_BENEATH)` would need this as its fallback and could differ from it.
//! The handles of the last folder are kept, so that the files of one folder cost one system call each to reach.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self as rfs, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::model::limits;

use super::super::error::display_name;

/// What absolute links, and `..` above the root, mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Boundary {
    /// They lead out and are refused.
    Refuse,
    /// They are seen from the root, as after `chroot`.
    Chroot,
}

/// What to do about folders of a path that are not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// Make them, with this mode.
    Create(u32),
    /// Say so.
    Report,
}

/// Why a folder could not be entered.
#[derive(Debug)]
pub(super) enum WalkError {
    /// A component is there but is no folder.
    NotAFolder(String),
    /// A link leads out of the root.
    Outside(String),
    /// Links that lead to links, or too many levels.
    TooDeep,
    /// The operating system refused.
    Io(&'static str, io::Error),
}

/// A component of the real path of the current folder.
struct Level {
    name: Vec<u8>,
    folder: OwnedFd,
}

/// The root folder, and the folder in it that was entered last.
pub(super) struct Confined {
    root: OwnedFd,
    levels: Vec<Level>,
    boundary: Boundary,
}

/// Handles are for reaching things only; they need no permission to read the folder.
const REACH: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const LIST: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Confined {
    pub(super) fn new(root: OwnedFd, boundary: Boundary) -> Self {
        Self { root, levels: Vec::new(), boundary }
    }

    /// Returns the current folder.
    pub(super) fn here(&self) -> BorrowedFd<'_> {
        self.levels.last().map_or(self.root.as_fd(), |level| level.folder.as_fd())
    }

    /// Returns how far below the root the current folder is.
    pub(super) fn depth(&self) -> usize {
        self.levels.len()
    }

    /// Returns the path from the root to a name in the current folder, without links.
    pub(super) fn real_path(&self, name: &[u8]) -> Vec<u8> {
        let mut path = Vec::new();
        for level in &self.levels {
            path.extend_from_slice(&level.name);
            path.push(b'/');
        }
        path.extend_from_slice(name);
        path
    }

    /// Makes the folder with these components the current one; `false` if it is not there.
    pub(super) fn enter(&mut self, parts: &[&[u8]], missing: Missing) -> Result<bool, WalkError> {
        // Levels are real folders, so equal names mean the same folder and no link on the way.
        let shared = self.levels.iter().zip(parts).take_while(|(level, part)| level.name == **part).count();
        self.levels.truncate(shared);
        let mut pending: Vec<Vec<u8>> = parts[shared..].iter().rev().map(|part| part.to_vec()).collect();
        let mut links = 0;
        while let Some(part) = pending.pop() {
            match part.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    if self.levels.pop().is_none() && self.boundary == Boundary::Refuse {
                        return Err(WalkError::Outside("..".to_owned()));
                    }
                    continue;
                }
                _ => {}
            }
            match rfs::openat(self.here(), part.as_slice(), REACH, Mode::empty()) {
                Ok(folder) => self.push(part, folder)?,
                Err(Errno::NOENT) => match missing {
                    Missing::Report => return Ok(false),
                    Missing::Create(mode) => {
                        let folder = make_folder(self.here(), &part, mode)?;
                        self.push(part, folder)?;
                    }
                },
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    links += 1;
                    if links > limits::LINKS {
                        return Err(WalkError::TooDeep);
                    }
                    let target = self.link_target(&part)?;
                    if target.starts_with(b"/") {
                        if self.boundary == Boundary::Refuse {
                            return Err(WalkError::Outside(display_name(&target)));
                        }
                        self.levels.clear();
                    }
                    pending.extend(target.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec));
                }
                Err(error) => return Err(WalkError::Io("open directory", error.into())),
            }
        }
        Ok(true)
    }

    fn push(&mut self, name: Vec<u8>, folder: OwnedFd) -> Result<(), WalkError> {
        if self.levels.len() >= limits::FOLDER_DEPTH {
            return Err(WalkError::TooDeep);
        }
        self.levels.push(Level { name, folder });
        Ok(())
    }

    fn link_target(&self, part: &[u8]) -> Result<Vec<u8>, WalkError> {
        match rfs::readlinkat(self.here(), part, Vec::new()) {
            Ok(target) => Ok(target.into_bytes()),
            Err(Errno::INVAL) => Err(WalkError::NotAFolder(display_name(&self.real_path(part)))),
            Err(error) => Err(WalkError::Io("read link", error.into())),
        }
    }

    /// Returns the type and identity of a name in the current folder, links not followed.
    pub(super) fn look(&self, name: &[u8]) -> io::Result<Option<(FileType, u64, u64)>> {
        match rfs::statat(self.here(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some((FileType::from_raw_mode(stat.st_mode), stat.st_dev, stat.st_ino))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a name in the current folder with everything below it; links are removed, not followed.
    pub(super) fn remove(&self, name: &[u8]) -> io::Result<()> {
        remove(self.here(), name)
    }

    /// Removes what is below a folder in the current folder, but not what `keep` says by its path from the root.
    ///
    /// Folders that are kept are looked through, so what `keep` does not know goes away at every depth.
    pub(super) fn sweep(&self, name: &[u8], keep: &dyn Fn(&[u8]) -> bool) -> io::Result<()> {
        let folder = match rfs::openat(self.here(), name, LIST, Mode::empty()) {
            Ok(folder) => folder,
            Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        sweep(&folder, &self.real_path(name), keep)
    }

    /// Removes what is below the current folder, as [`Confined::sweep`].
    pub(super) fn sweep_here(&self, keep: &dyn Fn(&[u8]) -> bool) -> io::Result<()> {
        let folder = rfs::openat(self.here(), ".", LIST, Mode::empty())?;
        let mut path = self.real_path(b"");
        path.pop();
        sweep(&folder, &path, keep)
    }
}

fn sweep(folder: &OwnedFd, path: &[u8], keep: &dyn Fn(&[u8]) -> bool) -> io::Result<()> {
    for name in names(folder)? {
        let child = if path.is_empty() { name.clone() } else { [path, b"/", &name].concat() };
        if !keep(&child) {
            remove(folder.as_fd(), &name)?;
            continue;
        }
        match rfs::openat(folder, name.as_slice(), LIST, Mode::empty()) {
            Ok(inner) => sweep(&inner, &child, keep)?,
            Err(Errno::NOTDIR | Errno::LOOP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn remove(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    match rfs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(error.into()),
    }
    let folder = rfs::openat(parent, name, LIST, Mode::empty())?;
    for inner in names(&folder)? {
        remove(folder.as_fd(), &inner)?;
    }
    rfs::unlinkat(parent, name, AtFlags::REMOVEDIR)?;
    Ok(())
}

fn names(folder: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in rfs::Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

/// Makes a folder and gives it exactly this mode, whatever the umask of the process is.
fn make_folder(parent: BorrowedFd<'_>, name: &[u8], mode: u32) -> Result<OwnedFd, WalkError> {
    let failed = |error: Errno| WalkError::Io("create directory", error.into());
    rfs::mkdirat(parent, name, Mode::RWXU).map_err(failed)?;
    let folder = rfs::openat(parent, name, LIST, Mode::empty()).map_err(failed)?;
    rfs::fchmod(&folder, Mode::from_raw_mode(mode)).map_err(failed)?;
    Ok(folder)
}

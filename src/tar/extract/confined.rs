//! Reaching folders below a root without ever leaving it: paths are resolved component by component, on handles.
//!
//! The kernel is never asked to follow a link: each component is opened with `O_NOFOLLOW`, the targets of links
//! are resolved here, and `..` goes back along the handles that led there. That works the same on every Linux and
//! in every sandbox; `openat2(RESOLVE_BENEATH)` would need this as its fallback and could differ from it.
//! The handles that lead to the current folder are kept, so that the files of one folder cost one system call each
//! to reach.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self as rfs, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::model::limits;

use super::super::error::display_name;
use super::remembered::{NameId, Remembered};

/// How absolute links, and `..` above the root, are resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Boundary {
    /// They leave the root and are refused.
    Refuse,
    /// They are resolved from the root, as after `chroot`.
    Chroot,
}

/// What to do about folders of a path that are not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// Make them, with this mode.
    Create(u32),
    /// Report that they are missing.
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
    /// More folders were opened on the way to entries than for any image that a tool makes.
    TooLong,
    /// The operating system refused.
    Io(&'static str, io::Error),
}

/// A component of the real path of the current folder.
struct Level {
    name: Vec<u8>,
    folder: OwnedFd,
    /// Its place in the tree of names, once it was looked up. What is forgotten lies below the current folder, so
    /// it stays valid as long as the level does.
    known_as: Option<NameId>,
}

/// The root folder, and the folder in it that was entered last.
pub(super) struct Confined {
    root: OwnedFd,
    levels: Vec<Level>,
    boundary: Boundary,
    /// The path that was requested last, if links led from it to the current folder and nothing was removed since.
    asked: Option<Vec<Vec<u8>>>,
    /// How many more folders may be opened.
    pub(super) opens_left: u64,
    /// Counts how often another folder was entered.
    pub(super) moves: u64,
}

/// Handles are for reaching things only; they need no permission to read the folder.
const REACH: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
pub(super) const LIST: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Confined {
    pub(super) fn new(root: OwnedFd, boundary: Boundary) -> Self {
        Self { root, levels: Vec::new(), boundary, asked: None, opens_left: limits::FOLDER_OPENS, moves: 0 }
    }

    /// Allows as many more folders to be opened as one more entry may need.
    pub(super) fn allow_entry(&mut self) {
        self.opens_left = self.opens_left.saturating_add(limits::FOLDER_OPENS_PER_ENTRY);
    }

    /// Returns the current folder.
    pub(super) fn here(&self) -> BorrowedFd<'_> {
        self.levels.last().map_or(self.root.as_fd(), |level| level.folder.as_fd())
    }

    /// Returns how far below the root the current folder is.
    pub(super) fn depth(&self) -> usize {
        self.levels.len()
    }

    /// Tells whether the current folder has this path, without links.
    pub(super) fn is_at(&self, parts: &[&[u8]]) -> bool {
        self.levels.len() == parts.len()
            && self.levels.iter().zip(parts).all(|(level, part)| level.name == *part)
    }

    /// Returns the path from the root to a name in the current folder, without links, for messages.
    fn real_path(&self, name: &[u8]) -> Vec<u8> {
        let levels = self.levels.iter().map(|level| level.name.as_slice());
        levels.chain([name]).collect::<Vec<_>>().join(&b'/')
    }

    /// Returns the current folder's place in the tree of names, if something is remembered below it.
    pub(super) fn find(&self, remembered: &Remembered) -> Option<NameId> {
        let known = self.levels.iter().rposition(|level| level.known_as.is_some());
        let (from, rest) = match known {
            Some(at) => (self.levels[at].known_as, &self.levels[at + 1..]),
            None => (Some(Remembered::ROOT), &self.levels[..]),
        };
        rest.iter().try_fold(from?, |folder, level| remembered.find(folder, &level.name))
    }

    /// Returns the current folder's place in the tree of names, made if it was not there.
    pub(super) fn make(&mut self, remembered: &mut Remembered) -> NameId {
        let known = self.levels.iter().rposition(|level| level.known_as.is_some());
        let mut folder = known.and_then(|at| self.levels[at].known_as).unwrap_or(Remembered::ROOT);
        for level in &mut self.levels[known.map_or(0, |at| at + 1)..] {
            folder = remembered.make(folder, &level.name);
            level.known_as = Some(folder);
        }
        folder
    }

    /// Marks a name in the current folder, and the folders above it, as written by a layer.
    pub(super) fn mark_written(&mut self, name: &[u8], remembered: &mut Remembered, layer: u32) {
        let folder = self.make(remembered);
        let written = remembered.make(folder, name);
        if !remembered.mark_written(written, layer) {
            return;
        }
        for level in self.levels.iter().rev() {
            let id = level.known_as.expect("`make` set it for every level");
            if !remembered.mark_written(id, layer) {
                return;
            }
        }
    }

    /// Makes the folder with these components the current one; `false` if it is not there.
    pub(super) fn enter(&mut self, parts: &[&[u8]], missing: Missing) -> Result<bool, WalkError> {
        if self.asked.as_ref().is_some_and(|asked| asked.iter().map(Vec::as_slice).eq(parts.iter().copied()))
        {
            return Ok(true);
        }
        self.asked = None;
        // Levels are real folders, so equal names mean the same folder and no link on the way.
        let shared = self.levels.iter().zip(parts).take_while(|(level, part)| level.name == **part).count();
        if shared < self.levels.len().max(parts.len()) {
            self.moves += 1;
        }
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
            self.opens_left = self.opens_left.checked_sub(1).ok_or(WalkError::TooLong)?;
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
        if links > 0 {
            self.asked = Some(parts.iter().map(|part| part.to_vec()).collect());
        }
        Ok(true)
    }

    fn push(&mut self, name: Vec<u8>, folder: OwnedFd) -> Result<(), WalkError> {
        if self.levels.len() >= limits::FOLDER_DEPTH {
            return Err(WalkError::TooDeep);
        }
        self.levels.push(Level { name, folder, known_as: None });
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

    /// Removes a name in the current folder with everything below it, from the tree of names too.
    ///
    /// Links are removed, not followed.
    pub(super) fn remove(&mut self, name: &[u8], remembered: &mut Remembered) -> io::Result<()> {
        // The path asked for last may have gone through this name.
        self.asked = None;
        if !remembered.is_empty()
            && let Some(folder) = self.find(remembered)
        {
            remembered.forget(folder, name);
        }
        remove(self.here(), name)
    }

    /// Removes what is below a folder in the current folder, but not what a layer wrote.
    ///
    /// Folders that are kept are looked through, so what the layer did not write goes away at every depth.
    pub(super) fn sweep(&mut self, name: &[u8], remembered: &mut Remembered, layer: u32) -> io::Result<()> {
        self.asked = None;
        let folder = match rfs::openat(self.here(), name, LIST, Mode::empty()) {
            Ok(folder) => folder,
            Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let known_as = self.find(remembered).and_then(|parent| remembered.find(parent, name));
        sweep(&folder, known_as, remembered, layer)
    }

    /// Removes what is below the current folder, as [`Confined::sweep`].
    pub(super) fn sweep_here(&mut self, remembered: &mut Remembered, layer: u32) -> io::Result<()> {
        self.asked = None;
        let folder = rfs::openat(self.here(), ".", LIST, Mode::empty())?;
        let known_as = self.find(remembered);
        sweep(&folder, known_as, remembered, layer)
    }
}

fn sweep(
    folder: &OwnedFd,
    known_as: Option<NameId>,
    remembered: &mut Remembered,
    layer: u32,
) -> io::Result<()> {
    for name in names(folder)? {
        let child = known_as.and_then(|folder| remembered.find(folder, &name));
        let Some(written) = child.filter(|child| remembered.is_written(*child, layer)) else {
            if let (Some(parent), Some(_)) = (known_as, child) {
                remembered.forget(parent, &name);
            }
            remove(folder.as_fd(), &name)?;
            continue;
        };
        match rfs::openat(folder, name.as_slice(), LIST, Mode::empty()) {
            Ok(inner) => sweep(&inner, Some(written), remembered, layer)?,
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

/// Makes a folder and gives it exactly this mode; the umask of the process does not count.
fn make_folder(parent: BorrowedFd<'_>, name: &[u8], mode: u32) -> Result<OwnedFd, WalkError> {
    let failed = |error: Errno| WalkError::Io("create directory", error.into());
    rfs::mkdirat(parent, name, Mode::RWXU).map_err(failed)?;
    let folder = rfs::openat(parent, name, LIST, Mode::empty()).map_err(failed)?;
    rfs::fchmod(&folder, Mode::from_raw_mode(mode)).map_err(failed)?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use testkit::scratch::Scratch;

    use super::*;

    fn root(scratch: &Scratch, boundary: Boundary) -> Confined {
        Confined::new(std::fs::File::open(scratch.path()).unwrap().into(), boundary)
    }

    fn enter(confined: &mut Confined, path: &str) -> Result<bool, WalkError> {
        let parts: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
        confined.enter(&parts, Missing::Report)
    }

    /// Folders `a/b` and `c`, links `to-b -> a/b`, `up -> ..`, `top -> /c`, `loop -> loop`, and a file `f`.
    fn tree() -> Scratch {
        let scratch = Scratch::new("confined");
        std::fs::create_dir_all(scratch.join("a/b")).unwrap();
        std::fs::create_dir(scratch.join("c")).unwrap();
        scratch.write("f", "");
        for (link, target) in [("to-b", "a/b"), ("up", ".."), ("top", "/c"), ("loop", "loop")] {
            symlink(target, scratch.join(link)).unwrap();
        }
        scratch
    }

    #[test]
    fn paths_are_resolved_inside_the_root_or_refused() {
        let scratch = tree();
        for (path, refused, chroot) in [
            ("a/b", "a/b", "a/b"),
            ("to-b", "a/b", "a/b"),
            ("to-b/../../c", "c", "c"),
            ("./a//.", "a", "a"),
            ("missing", "missing", "missing"),
            ("up", "outside", ""),
            ("up/c", "outside", "c"),
            ("..", "outside", ""),
            ("top", "outside", "c"),
            ("a/../top", "outside", "c"),
            ("loop", "too deep", "too deep"),
            ("f", "no folder", "no folder"),
        ] {
            for (boundary, expected) in [(Boundary::Refuse, refused), (Boundary::Chroot, chroot)] {
                let mut confined = root(&scratch, boundary);
                let found = match enter(&mut confined, path) {
                    Ok(true) => {
                        let path = confined.real_path(b"");
                        String::from_utf8(path).unwrap().trim_end_matches('/').to_owned()
                    }
                    Ok(false) => "missing".to_owned(),
                    Err(WalkError::Outside(_)) => "outside".to_owned(),
                    Err(WalkError::TooDeep) => "too deep".to_owned(),
                    Err(WalkError::NotAFolder(_)) => "no folder".to_owned(),
                    Err(other) => panic!("{path}: {other:?}"),
                };
                assert_eq!(found, expected, "{path} {boundary:?}");
            }
        }
    }

    #[test]
    fn the_current_folder_knows_its_path_without_links() {
        let scratch = tree();
        let mut confined = root(&scratch, Boundary::Refuse);
        assert!(confined.is_at(&[]));
        assert!(enter(&mut confined, "to-b").unwrap());
        assert!(confined.is_at(&[b"a", b"b"]) && confined.depth() == 2);
        for other in [&[&b"a"[..]][..], &[b"a", b"c"], &[b"a", b"b", b"c"], &[b"to-b"]] {
            assert!(!confined.is_at(other), "{other:?}");
        }
    }

    #[test]
    fn a_folder_reached_by_links_is_opened_once_until_something_is_removed() {
        let scratch = tree();
        let mut confined = root(&scratch, Boundary::Refuse);
        assert!(enter(&mut confined, "to-b").unwrap());
        let before = confined.opens_left;
        assert!(enter(&mut confined, "to-b").unwrap());
        assert_eq!(confined.opens_left, before, "no folder was opened");
        assert!(enter(&mut confined, "").unwrap());
        confined.remove(b"to-b", &mut Remembered::new()).unwrap();
        symlink("c", scratch.join("to-b")).unwrap();
        assert!(enter(&mut confined, "to-b").unwrap());
        assert!(confined.is_at(&[b"c"]));
    }

    #[test]
    fn each_entry_allows_some_more_folders_to_be_opened() {
        let scratch = tree();
        let mut confined = root(&scratch, Boundary::Refuse);
        assert_eq!(confined.opens_left, 1_000_000);
        confined.opens_left = 3;
        assert!(enter(&mut confined, "a/b").unwrap());
        assert!(enter(&mut confined, "c").unwrap());
        assert!(matches!(enter(&mut confined, "a"), Err(WalkError::TooLong)));
        confined.allow_entry();
        assert_eq!(confined.opens_left, 64);
        assert!(enter(&mut confined, "a").unwrap());
    }

    #[test]
    fn missing_folders_get_exactly_the_mode() {
        use std::os::unix::fs::PermissionsExt as _;
        let scratch = tree();
        let mut confined = root(&scratch, Boundary::Refuse);
        assert!(confined.enter(&[b"new", b"inner"], Missing::Create(0o777)).unwrap());
        for path in ["new", "new/inner"] {
            let mode = std::fs::metadata(scratch.join(path)).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o777, "{path}");
        }
    }

    #[test]
    fn a_sweep_keeps_what_the_layer_wrote_and_forgets_the_rest() {
        let scratch = tree();
        for path in ["d/old/x", "d/kept/old", "d/kept/new", "d/new"] {
            scratch.write(path, "");
        }
        let mut remembered = Remembered::new();
        let mut confined = root(&scratch, Boundary::Refuse);
        for (folder, name, layer) in [("d/kept", "new", 2), ("d", "new", 2), ("d/old", "x", 1)] {
            assert!(enter(&mut confined, folder).unwrap());
            confined.mark_written(name.as_bytes(), &mut remembered, layer);
        }
        assert!(enter(&mut confined, "").unwrap());
        confined.sweep(b"d", &mut remembered, 2).unwrap();
        let listed = |path: &str| {
            let mut names: Vec<String> = std::fs::read_dir(scratch.join(path))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        assert_eq!(listed("d"), ["kept", "new"]);
        assert_eq!(listed("d/kept"), ["new"]);
        let d = remembered.find(Remembered::ROOT, b"d").unwrap();
        assert!(remembered.find(d, b"old").is_none() && remembered.find(d, b"kept").is_some());
        for (name, why) in [(&b"f"[..], "a file"), (b"to-b", "a link"), (b"missing", "nothing")] {
            confined.sweep(name, &mut remembered, 2).unwrap_or_else(|error| panic!("{why}: {error}"));
        }
        assert!(scratch.join("f").exists() && scratch.join("to-b").exists(), "they have nothing below them");
        assert!(enter(&mut confined, "d").unwrap());
        confined.sweep_here(&mut remembered, 3).unwrap();
        assert_eq!(listed("d"), [""; 0]);
    }
}

//! Walking a folder depth first, names in byte order, through directory handles.
//!
//! Within a folder names are sorted as bytes and each is descended into before the next (so `b`, `b/c`, `b.txt`):
//! imgpkg's order, on which `diff_id`s depend. Files are opened relative to the handle of their folder, so that
//! renaming a folder during the walk cannot redirect it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{self as rfs, AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::model::limits;

use super::error::{TreeError, kind_name, too_deep};
use super::links::{LinkProblem, stays_inside};
use super::{Filter, RefusedLinks, SymlinkPolicy};

/// What an entry is, with what only that kind has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// Folder.
    Directory,
    /// Regular file of so many bytes.
    File {
        /// Size in bytes.
        size: u64,
    },
    /// Symbolic link.
    Symlink {
        /// Target as stored.
        target: Vec<u8>,
    },
}

/// One entry of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path relative to the root, `/`-separated bytes; `.` for a root that is a folder.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Unix permission bits, `0o7777` at most.
    pub mode: u32,
}

impl Entry {
    /// Returns the last component of the path.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.path.rsplit(|byte| *byte == b'/').next().unwrap_or(&self.path)
    }
}

/// The bytes that come with an entry.
#[derive(Debug)]
pub enum Content<'a> {
    /// A folder or link.
    None,
    /// A regular file, to be read to the end.
    File(FileReader<'a>),
}

/// Takes the entries of a walk.
pub trait Visitor {
    /// What stops the walk.
    type Error: From<TreeError>;

    /// Takes one entry; a file's content has to be read to the end and [`FileReader::finish`]ed.
    fn entry(&mut self, entry: &Entry, content: Content<'_>) -> Result<(), Self::Error>;

    /// Learns of a link that was left out because of [`SymlinkPolicy::Omit`].
    fn left_out(&mut self, _link: &Path) {}
}

/// Reads a regular file and detects a change of its size, or a write meanwhile.
#[derive(Debug)]
pub struct FileReader<'a> {
    file: File,
    path: &'a Path,
    before: Stat,
    size: u64,
    read: u64,
    at_end: bool,
}

/// Device, inode, size and times: they identify a file, and change when it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileIdentity {
    device: u64,
    inode: u64,
    size: i64,
    modified: (i64, u64),
    changed: (i64, u64),
}

impl FileIdentity {
    fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

/// Opens a file that a walk has visited before.
///
/// Errors: [`TreeError::Changed`] when the path is now another file, or the file was written to.
pub fn reopen(path: &Path, identity: FileIdentity) -> Result<FileReader<'_>, TreeError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let handle = rfs::openat(CWD.as_fd(), path, flags, Mode::empty())
        .map_err(|error| TreeError::listed("open", path, error))?;
    let stat = rfs::fstat(&handle).map_err(|error| TreeError::io("look at", path, error))?;
    if FileIdentity::of(&stat) != identity {
        let how = "it is not the file that was listed".to_owned();
        return Err(TreeError::Changed { path: path.to_owned(), how });
    }
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    Ok(FileReader { file: File::from(handle), path, before: stat, size, read: 0, at_end: false })
}

impl FileReader<'_> {
    /// Returns the file's real path, links followed.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.path
    }

    /// Returns what identifies the file when it is opened again.
    #[must_use]
    pub fn identity(&self) -> FileIdentity {
        FileIdentity::of(&self.before)
    }

    /// Reads into `buffer`, any number of bytes; `Ok(0)` at the end.
    ///
    /// A buffer larger than the file saves a system call: the end is seen in the same read.
    /// Errors: [`TreeError::Changed`] when the file has more or fewer bytes than when it was opened.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, TreeError> {
        if self.at_end {
            return Ok(0);
        }
        let offered = buffer.len();
        let n = loop {
            match rustix::io::read(&self.file, &mut *buffer) {
                Err(Errno::INTR) => {}
                Err(error) => return Err(TreeError::io("read", self.path, error)),
                Ok(n) => break n,
            }
        };
        self.read += n as u64;
        if self.read > self.size {
            return Err(self.changed(format!("it grew beyond the {} bytes it had", self.size)));
        }
        // A regular file gives less than was requested only at its end.
        if n < offered {
            self.at_end = true;
            if self.read < self.size {
                return Err(self.changed(format!("it shrank from {} to {} bytes", self.size, self.read)));
            }
        }
        Ok(n)
    }

    /// Checks that the file is still as it was when it was opened.
    pub fn finish(mut self) -> Result<(), TreeError> {
        let mut probe = [0_u8; 1];
        while !self.at_end {
            self.read(&mut probe)?;
        }
        let after = rfs::fstat(&self.file).map_err(|error| TreeError::io("look at", self.path, error))?;
        let times = |stat: &Stat| (stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec);
        if times(&after) != times(&self.before) || after.st_size != self.before.st_size {
            return Err(self.changed("it was written to".into()));
        }
        Ok(())
    }

    fn changed(&self, how: String) -> TreeError {
        TreeError::Changed { path: self.path.to_owned(), how }
    }
}

/// Walks one root and hands every entry to the visitor.
///
/// Shape: a folder gives `.` first, then everything below it; a file gives one entry with its own name. The root
/// itself may be a symbolic link, which is followed. Hard links are independent files.
/// Errors: [`TreeError`] or the visitor's own; special files, unreadable files and changes are errors. The visitor
/// gets nothing after the first link that cannot be packed; the walk continues, so that the error names all of them.
/// Cost: each folder and each file is opened once; five system calls for a small file; memory grows with the
/// largest folder's number of names.
/// `skip` is the device and inode of a file that is left out silently: the archive being replaced.
pub fn walk<V: Visitor>(
    root: &Path,
    filter: &Filter,
    symlinks: SymlinkPolicy,
    skip: Option<(u64, u64)>,
    visitor: &mut V,
) -> Result<(), V::Error> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let handle = rfs::open(root, flags, Mode::empty()).map_err(|error| TreeError::io("open", root, error))?;
    let stat = rfs::fstat(&handle).map_err(|error| TreeError::io("look at", root, error))?;
    // Copied links are checked at their real paths, so the root has to be a real path as well.
    let real_root = match symlinks {
        SymlinkPolicy::Copy => root.canonicalize().map_err(|error| TreeError::io("follow", root, error))?,
        _ => root.to_owned(),
    };
    let refused = RefusedLinks::default();
    let mut walk = Walk { root: &real_root, filter, symlinks, skip, visitor, ancestors: Vec::new(), refused };
    let walked = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => walk.directory(&handle, &stat, &real_root, b"."),
        FileType::RegularFile => {
            let name = root.file_name().unwrap_or(root.as_os_str()).as_bytes().to_vec();
            if filter.excludes(&name, false) {
                return Ok(());
            }
            walk.file(handle, stat, root, name)
        }
        other => Err(TreeError::Kind { path: root.to_owned(), found: kind_name(other) }.into()),
    };
    match walk.refused {
        links if links.is_empty() => walked,
        links => Err(TreeError::Links { links, policy: symlinks }.into()),
    }
}

struct Walk<'a, V> {
    root: &'a Path,
    filter: &'a Filter,
    symlinks: SymlinkPolicy,
    skip: Option<(u64, u64)>,
    visitor: &'a mut V,
    /// Device and inode of the folders around the current entry; a copied link back to one of them would never end.
    ancestors: Vec<(u64, u64)>,
    /// Links that cannot be packed; the work has failed when there is one.
    refused: RefusedLinks,
}

impl<V: Visitor> Walk<'_, V> {
    fn give(&mut self, entry: &Entry, content: Content<'_>) -> Result<(), V::Error> {
        if self.refused.is_empty() { self.visitor.entry(entry, content) } else { Ok(()) }
    }

    fn directory(
        &mut self,
        handle: &OwnedFd,
        stat: &Stat,
        path: &Path,
        relative: &[u8],
    ) -> Result<(), V::Error> {
        if self.filter.excludes(relative, true) {
            return Ok(());
        }
        let entry =
            Entry { path: relative.to_vec(), kind: EntryKind::Directory, mode: stat.st_mode & 0o7777 };
        self.give(&entry, Content::None)?;
        // Each level holds a handle and a stack frame, and extraction has the same limit.
        if self.ancestors.len() >= limits::FOLDER_DEPTH {
            return Err(too_deep(path, limits::FOLDER_DEPTH, "folders inside one another").into());
        }
        let mut names = Vec::new();
        let listing = rfs::Dir::read_from(handle).map_err(|error| TreeError::io("list", path, error))?;
        for item in listing {
            let item = item.map_err(|error| TreeError::io("list", path, error))?;
            let name = item.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push((name.to_vec(), item.file_type()));
            }
        }
        names.sort_unstable_by(|a: &(Vec<u8>, FileType), b| a.0.cmp(&b.0));
        self.ancestors.push((stat.st_dev, stat.st_ino));
        for (name, kind) in names {
            let relative = if relative == b"." { name.clone() } else { [relative, &name].join(&b'/') };
            let path = path.join(OsStr::from_bytes(&name));
            self.child(handle, &name, kind, &path, relative)?;
        }
        self.ancestors.pop();
        Ok(())
    }

    fn child(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        listed: FileType,
        path: &Path,
        relative: Vec<u8>,
    ) -> Result<(), V::Error> {
        let kind = match listed {
            FileType::Unknown => {
                let stat = rfs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(|error| TreeError::listed("look at", path, error))?;
                FileType::from_raw_mode(stat.st_mode)
            }
            known => known,
        };
        if self.filter.excludes(&relative, kind == FileType::Directory) {
            return Ok(());
        }
        if relative.len() > limits::PATH_BYTES {
            return Err(too_deep(path, limits::PATH_BYTES, "bytes of path").into());
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        match kind {
            FileType::Directory => {
                let handle = rfs::openat(parent, name, flags | OFlags::DIRECTORY, Mode::empty())
                    .map_err(|error| TreeError::listed("open directory", path, error))?;
                let stat = rfs::fstat(&handle).map_err(|error| TreeError::io("look at", path, error))?;
                self.directory(&handle, &stat, path, &relative)
            }
            FileType::RegularFile if !self.refused.is_empty() => Ok(()),
            FileType::RegularFile => {
                let handle = rfs::openat(parent, name, flags, Mode::empty())
                    .map_err(|error| TreeError::listed("open", path, error))?;
                let stat = rfs::fstat(&handle).map_err(|error| TreeError::io("look at", path, error))?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                    let how = "it became another kind of file".into();
                    return Err(TreeError::Changed { path: path.to_owned(), how }.into());
                }
                self.file(handle, stat, path, relative)
            }
            FileType::Symlink => self.symlink(parent, name, path, relative),
            other => Err(TreeError::Kind { path: path.to_owned(), found: kind_name(other) }.into()),
        }
    }

    fn file(&mut self, handle: OwnedFd, stat: Stat, path: &Path, relative: Vec<u8>) -> Result<(), V::Error> {
        if self.skip == Some((stat.st_dev, stat.st_ino)) {
            return Ok(());
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let entry = Entry { path: relative, kind: EntryKind::File { size }, mode: stat.st_mode & 0o7777 };
        let reader =
            FileReader { file: File::from(handle), path, before: stat, size, read: 0, at_end: false };
        self.give(&entry, Content::File(reader))
    }

    fn symlink(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: &Path,
        relative: Vec<u8>,
    ) -> Result<(), V::Error> {
        let target = rfs::readlinkat(parent, name, Vec::new())
            .map_err(|error| TreeError::listed("read link", path, error))?
            .into_bytes();
        let target = PathBuf::from(OsString::from_vec(target));
        if let Some(problem) = self.link(path, &target, relative)? {
            self.refused.add(path.display().to_string(), target.display().to_string(), problem);
        }
        Ok(())
    }

    /// Packs a link, or returns why it cannot be packed.
    fn link(
        &mut self,
        path: &Path,
        target: &Path,
        relative: Vec<u8>,
    ) -> Result<Option<LinkProblem>, V::Error> {
        let kept = || {
            let target = target.as_os_str().as_bytes().to_vec();
            Entry { path: relative.clone(), kind: EntryKind::Symlink { target }, mode: 0o777 }
        };
        match self.symlinks {
            SymlinkPolicy::Refuse => return Ok(Some(LinkProblem::Refused)),
            SymlinkPolicy::Verbatim => return self.give(&kept(), Content::None).map(|()| None),
            SymlinkPolicy::Omit => {
                self.visitor.left_out(path);
                return Ok(None);
            }
            SymlinkPolicy::Keep | SymlinkPolicy::Copy => {}
        }
        // A link reached through a copied folder is checked at its real path.
        let place = match self.symlinks {
            SymlinkPolicy::Copy => path.strip_prefix(self.root).unwrap_or(path).to_owned(),
            _ => PathBuf::from(OsStr::from_bytes(&relative)),
        };
        if let Err(problem) = stays_inside(self.root, &place, target) {
            return Ok(Some(problem));
        }
        if self.symlinks == SymlinkPolicy::Keep {
            return self.give(&kept(), Content::None).map(|()| None);
        }
        let real = match path.canonicalize() {
            Ok(real) => real,
            Err(error) => {
                return match error.raw_os_error().map(Errno::from_raw_os_error) {
                    Some(Errno::NOENT) => Ok(Some(LinkProblem::Dangling)),
                    Some(Errno::LOOP) => Ok(Some(LinkProblem::Cycle)),
                    _ => Err(TreeError::io("follow", path, error).into()),
                };
            }
        };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let handle = rfs::openat(CWD.as_fd(), &real, flags, Mode::empty())
            .map_err(|error| TreeError::listed("open", &real, error))?;
        let stat = rfs::fstat(&handle).map_err(|error| TreeError::io("look at", &real, error))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if self.ancestors.contains(&(stat.st_dev, stat.st_ino)) => {
                Ok(Some(LinkProblem::Cycle))
            }
            // What is in it is seen where it really is; behind links behind links there may be very many paths.
            FileType::Directory if !self.refused.is_empty() => Ok(None),
            FileType::Directory => self.directory(&handle, &stat, &real, &relative).map(|()| None),
            FileType::RegularFile => self.file(handle, stat, &real, relative).map(|()| None),
            other => Err(TreeError::Kind { path: real, found: kind_name(other) }.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::error::shortened;
    use super::*;

    struct Collect(Vec<String>, usize);

    impl Visitor for Collect {
        type Error = TreeError;

        fn entry(&mut self, entry: &Entry, content: Content<'_>) -> Result<(), TreeError> {
            let mut line = String::from_utf8_lossy(&entry.path).into_owned();
            if let Content::File(mut reader) = content {
                let mut data = Vec::new();
                let mut buffer = [0; 3];
                loop {
                    let n = reader.read(&mut buffer)?;
                    if n == 0 {
                        break;
                    }
                    data.extend_from_slice(&buffer[..n]);
                }
                reader.finish()?;
                line += &format!(" = {}", String::from_utf8_lossy(&data));
            }
            if let EntryKind::Symlink { target } = &entry.kind {
                line += &format!(" -> {}", String::from_utf8_lossy(target));
            }
            self.0.push(line);
            Ok(())
        }

        fn left_out(&mut self, _: &Path) {
            self.1 += 1;
        }
    }

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("imgrelay-walk-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    fn listing(root: &Path, symlinks: SymlinkPolicy) -> Result<Vec<String>, TreeError> {
        let mut visitor = Collect(Vec::new(), 0);
        walk(root, &Filter::exact([".git"]), symlinks, None, &mut visitor)?;
        if visitor.1 > 0 {
            visitor.0.push(format!("{} left out", visitor.1));
        }
        Ok(visitor.0)
    }

    #[test]
    fn the_name_of_an_entry_is_the_last_part_of_its_path() {
        for (path, name) in [("a/b.txt", "b.txt"), ("lone", "lone"), (".", "."), ("a/.imgpkg", ".imgpkg")] {
            let entry = Entry { path: path.into(), kind: EntryKind::Directory, mode: 0o755 };
            assert_eq!(entry.name(), name.as_bytes(), "{path}");
        }
    }

    #[test]
    fn children_come_before_the_next_sibling_and_names_sort_as_bytes() {
        let root = folder("order");
        for path in ["b/c", "b.txt", "a", "nested/.git/x", ".git/config", "ü", "B"] {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "12345").unwrap();
        }
        std::fs::create_dir(root.join("empty")).unwrap();
        let found = listing(&root, SymlinkPolicy::Keep).unwrap();
        let expected = [
            ".",
            "B = 12345",
            "a = 12345",
            "b",
            "b/c = 12345",
            "b.txt = 12345",
            "empty",
            "nested",
            "nested/.git",
            "nested/.git/x = 12345",
            "ü = 12345",
        ];
        assert_eq!(found, expected);
        assert_eq!(listing(&root.join("b.txt"), SymlinkPolicy::Keep).unwrap(), ["b.txt = 12345"]);
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn links_are_kept_copied_or_refused() {
        let root = folder("links");
        std::fs::create_dir(root.join("d")).unwrap();
        std::fs::write(root.join("d/f"), "x").unwrap();
        symlink("d", root.join("to-d")).unwrap();
        symlink("../d/f", root.join("d/up")).unwrap();
        let kept = listing(&root, SymlinkPolicy::Keep).unwrap();
        assert_eq!(kept, [".", "d", "d/f = x", "d/up -> ../d/f", "to-d -> d"]);
        let copied = listing(&root, SymlinkPolicy::Copy).unwrap();
        assert_eq!(copied, [".", "d", "d/f = x", "d/up = x", "to-d", "to-d/f = x", "to-d/up = x"]);
        let refused = listing(&root, SymlinkPolicy::Refuse).unwrap_err().to_string();
        assert!(
            refused.contains("d/up` -> `../d/f`: symbolic links are refused here; ")
                && refused.starts_with("2 symbolic links cannot be packed: "),
            "{refused}"
        );
        let omitted = listing(&root, SymlinkPolicy::Omit).unwrap();
        assert_eq!(omitted, [".", "d", "d/f = x", "2 left out"]);
        symlink(".", root.join("d/loop")).unwrap();
        let cycle = listing(&root, SymlinkPolicy::Copy).unwrap_err().to_string();
        assert!(cycle.contains("following it never ends"), "{cycle}");
        std::fs::remove_file(root.join("d/loop")).unwrap();
        for number in 0..12 {
            symlink(format!("/nowhere/{number}"), root.join(format!("d/x{number:02}"))).unwrap();
        }
        // `to-d` leads to them again, and what is refused once is not refused twice.
        for policy in [SymlinkPolicy::Keep, SymlinkPolicy::Copy] {
            let all = listing(&root, policy).unwrap_err().to_string();
            assert!(all.starts_with("12 symbolic links cannot be packed: `"), "{all}");
            assert!(all.contains("x00` -> `/nowhere/0`: its target is an absolute path; `"), "{all}");
            assert!(all.contains("x09` -> ") && !all.contains("x10`"), "{all}");
            assert!(all.ends_with("; and 2 more"), "{all}");
        }
        for number in 0..12 {
            std::fs::remove_file(root.join(format!("d/x{number:02}"))).unwrap();
        }
        symlink(".", root.join("d/loop")).unwrap();
        symlink("/etc/passwd", root.join("abs")).unwrap();
        let absolute = listing(&root, SymlinkPolicy::Keep).unwrap_err().to_string();
        assert!(
            absolute.contains("abs` -> `/etc/passwd` cannot be packed: its target is an absolute"),
            "{absolute}"
        );
        let verbatim = listing(&root, SymlinkPolicy::Verbatim).unwrap();
        let expected =
            [".", "abs -> /etc/passwd", "d", "d/f = x", "d/loop -> .", "d/up -> ../d/f", "to-d -> d"];
        assert_eq!(verbatim, expected);
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_link_that_escapes_through_another_link_is_refused() {
        let root = folder("escape");
        std::fs::create_dir_all(root.join("root/deep/x")).unwrap();
        std::fs::create_dir(root.join("root/top")).unwrap();
        symlink("../../top", root.join("root/deep/x/e")).unwrap();
        symlink("e/../..", root.join("root/deep/x/l")).unwrap();
        let error = listing(&root.join("root"), SymlinkPolicy::Keep).unwrap_err().to_string();
        assert!(error.contains("x/l` -> `e/../..` cannot be packed: its target is outside"), "{error}");
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn changes_under_our_feet_are_errors() {
        let root = folder("changes");
        let path = root.join("f");
        type Change = fn(&Path);
        let cases: [(Change, &str); 3] = [
            (|path| std::fs::write(path, "123456789").unwrap(), "it grew beyond the 5 bytes"),
            (|path| std::fs::write(path, "1").unwrap(), "it shrank from 5 to 1 bytes"),
            (|path| std::fs::write(path, "54321").unwrap(), "it was written to"),
        ];
        for (change, expected) in cases {
            struct Change1<'a>(&'a dyn Fn(), Vec<u8>);
            impl Visitor for Change1<'_> {
                type Error = TreeError;
                fn entry(&mut self, _: &Entry, content: Content<'_>) -> Result<(), TreeError> {
                    if let Content::File(mut reader) = content {
                        (self.0)();
                        while reader.read(&mut self.1)? > 0 {}
                        reader.finish()?;
                    }
                    Ok(())
                }
            }
            std::fs::write(&path, "12345").unwrap();
            // File times have the resolution of the kernel's tick.
            let old = File::options().write(true).open(&path).unwrap();
            old.set_modified(std::time::UNIX_EPOCH).unwrap();
            drop(old);
            let act = || change(&path);
            let mut visitor = Change1(&act, vec![0; 64]);
            let error = walk(&root, &Filter::default(), SymlinkPolicy::Keep, None, &mut visitor).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert!(error.to_string().contains("/f` changed while it was read"), "{error}");
        }
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn special_files_are_named_and_never_waited_for() {
        let root = folder("special");
        rfs::mknodat(CWD, root.join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        for start in [root.clone(), root.join("pipe")] {
            let error = listing(&start, SymlinkPolicy::Keep).unwrap_err().to_string();
            assert!(error.contains("pipe` is a named pipe (FIFO), expected a regular file"), "{error}");
        }
        std::fs::remove_dir_all(root).unwrap();
    }

    /// Notes paths, sizes and modes, and what identifies each file.
    #[derive(Default)]
    struct Look(Vec<(String, EntryKind, u32)>, Vec<FileIdentity>);

    impl Visitor for Look {
        type Error = TreeError;

        fn entry(&mut self, entry: &Entry, content: Content<'_>) -> Result<(), TreeError> {
            if let Content::File(reader) = content {
                assert!(reader.path().is_absolute());
                self.1.push(reader.identity());
            }
            let path = String::from_utf8_lossy(&entry.path).into_owned();
            self.0.push((path, entry.kind.clone(), entry.mode));
            Ok(())
        }
    }

    fn look(root: &Path, filter: &Filter, skip: Option<(u64, u64)>) -> Result<Look, TreeError> {
        let mut look = Look::default();
        walk(root, filter, SymlinkPolicy::Keep, skip, &mut look).map(|()| look)
    }

    #[test]
    fn entries_have_size_and_all_mode_bits() {
        use std::os::unix::fs::PermissionsExt as _;

        let root = folder("modes");
        std::fs::write(root.join("run"), "12345").unwrap();
        std::fs::set_permissions(root.join("run"), std::fs::Permissions::from_mode(0o4751)).unwrap();
        std::fs::create_dir(root.join("in")).unwrap();
        std::fs::set_permissions(root.join("in"), std::fs::Permissions::from_mode(0o1770)).unwrap();
        symlink("run", root.join("link")).unwrap();
        let found = look(&root, &Filter::exact([""; 0]), None).unwrap().0;
        let link = EntryKind::Symlink { target: b"run".to_vec() };
        assert_eq!(
            found[1..],
            [
                ("in".to_owned(), EntryKind::Directory, 0o1770),
                ("link".to_owned(), link, 0o777),
                ("run".to_owned(), EntryKind::File { size: 5 }, 0o4751),
            ]
        );
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_root_may_be_a_file_but_no_device_and_a_skipped_file_is_left_out() {
        use std::os::unix::fs::MetadataExt as _;

        let root = folder("roots");
        let file = root.join("one");
        std::fs::write(&file, "1").unwrap();
        std::fs::write(root.join("two"), "2").unwrap();
        let names = |look: Look| look.0.into_iter().map(|entry| entry.0).collect::<Vec<_>>();
        let none = || Filter::exact([""; 0]);
        assert_eq!(names(look(&file, &none(), None).unwrap()), ["one"]);
        assert_eq!(names(look(&file, &Filter::exact(["one"]), None).unwrap()), [""; 0]);
        let metadata = std::fs::metadata(&file).unwrap();
        let identity = (metadata.dev(), metadata.ino());
        assert_eq!(names(look(&root, &none(), Some(identity)).unwrap()), [".", "two"]);
        for other in [(identity.0, identity.1 + 1_000_000), (identity.0 + 1, identity.1)] {
            assert_eq!(names(look(&root, &none(), Some(other)).unwrap()), [".", "one", "two"]);
        }
        let error = look(Path::new("/dev/null"), &none(), None).map(drop).unwrap_err();
        assert!(matches!(error, TreeError::Kind { found: "a character device", .. }), "{error}");
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_listed_file_is_opened_again_only_if_it_is_the_same() {
        let root = folder("reopen");
        let file = root.join("file");
        std::fs::write(&file, "12345").unwrap();
        let identity = look(&root, &Filter::exact([""; 0]), None).unwrap().1.remove(0);
        let mut reader = reopen(&file, identity).unwrap();
        let mut data = [0; 9];
        assert_eq!(reader.read(&mut data).unwrap(), 5);
        assert_eq!(reader.identity(), identity);
        reader.finish().unwrap();
        let changed = |expected: &str| match reopen(&file, identity).map(drop) {
            Err(TreeError::Changed { how, .. }) => assert_eq!(how, expected),
            other => panic!("{other:?}"),
        };
        std::fs::rename(&file, root.join("old")).unwrap();
        changed("it vanished");
        std::fs::write(&file, "12345").unwrap();
        changed("it is not the file that was listed");
        std::fs::remove_file(&file).unwrap();
        symlink("old", &file).unwrap();
        changed("it became another kind of file");
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn copied_links_that_lead_nowhere_or_in_a_circle_are_refused() {
        for (target, expected) in [("gone", LinkProblem::Dangling), (".", LinkProblem::Cycle)] {
            let root = folder("circle");
            symlink(target, root.join("link")).unwrap();
            let error = listing(&root, SymlinkPolicy::Copy).unwrap_err().to_string();
            let expected = format!("link` -> `{target}` cannot be packed: {}", expected.text());
            assert!(error.ends_with(&expected), "{error}");
            std::fs::remove_dir_all(root).unwrap();
        }
    }

    #[test]
    fn folders_may_be_as_deep_as_can_be_extracted() {
        let root = folder("deep");
        let below = |depth: usize| root.join(vec!["d"; depth].join("/"));
        // Each level is a stack frame, and those of a test are large.
        let list = || {
            std::thread::scope(|scope| {
                let large = std::thread::Builder::new().stack_size(16 << 20);
                let listed = large.spawn_scoped(scope, || listing(&root, SymlinkPolicy::Keep));
                listed.unwrap().join().unwrap()
            })
        };
        std::fs::create_dir_all(below(limits::FOLDER_DEPTH - 1)).unwrap();
        assert_eq!(list().unwrap().len(), limits::FOLDER_DEPTH);
        std::fs::create_dir(below(limits::FOLDER_DEPTH)).unwrap();
        let error = list().unwrap_err();
        assert!(matches!(error, TreeError::TooDeep { limit: limits::FOLDER_DEPTH, .. }), "{error}");
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn long_paths_are_cut_in_messages() {
        let path = |length: usize| PathBuf::from("é".repeat(length));
        assert_eq!(shortened(&path(200)), "é".repeat(200));
        assert_eq!(shortened(&path(201)), format!("{}…", "é".repeat(200)));
    }
}

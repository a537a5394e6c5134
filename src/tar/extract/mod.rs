//! Extracting layers into a folder; nothing outside it is read, written or changed.
//!
//! Layers are given lowest first. Upper ones win, and their whiteouts remove what lower layers wrote (image-spec
//! layer.md); the order of entries inside a layer does not matter for that. Existing files are never opened for
//! writing: they are removed first, so that no link can redirect a write. Names are taken from the root of the
//! archive; a `/` in front is dropped, `..` is refused.

use std::io::{Read, Write as _};
use std::os::fd::OwnedFd;

use rustix::fs::{self as rfs, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::model::limits;
use crate::stream::cancel;

use self::behind::{Behind, write_behind};
use self::confined::{Boundary, Confined, LIST, Missing};
use self::metadata::{NewFile, finish_file, set_mode, set_owner};
use self::remembered::{Order, Remembered};
use self::target::{Target, components, walk};
use super::error::{TarError, display_name};
use super::paths::{Whiteout, whiteout};
use super::read::{Entry, EntryKind, Reader};

mod behind;
mod confined;
mod links;
mod metadata;
mod policy;
mod remembered;
mod rootfs;
mod target;

pub use policy::{ExtractError, ExtractMode, Ownership, Policy, StrayLinks};
pub use target::Summary;

/// Extracts the layers of one image, lowest first.
pub struct Extractor {
    target: Target,
    /// The policy's paths, and whether there was an entry for each.
    include: Vec<(Vec<Vec<u8>>, bool)>,
    /// Most entries of one layer.
    most_entries: u64,
    buffer: Vec<u8>,
    /// Most threads that write files behind the one that reads the tar.
    threads: usize,
    /// A folder, by [`Confined::moves`], in which files are created with exactly this mode.
    known_mode: Option<(u64, u32)>,
}

impl std::fmt::Debug for Extractor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Extractor")
            .field("policy", &self.target.policy)
            .field("summary", &self.target.summary)
            .finish_non_exhaustive()
    }
}

const NEW_FILE: OFlags =
    OFlags::CREATE.union(OFlags::EXCL).union(OFlags::WRONLY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Extractor {
    /// Begins to extract into a folder, given as an open handle; it should be empty.
    #[must_use]
    pub fn new(root: OwnedFd, policy: Policy) -> Self {
        let boundary = match policy.stray_links {
            StrayLinks::Refuse | StrayLinks::Skip => Boundary::Refuse,
            StrayLinks::Keep => Boundary::Chroot,
        };
        let parts = |path: &Vec<u8>| -> Vec<Vec<u8>> {
            let parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
            parts.map(<[u8]>::to_vec).collect()
        };
        Self {
            include: policy.include.iter().map(|path| (parts(path), false)).collect(),
            target: Target {
                root: Confined::new(root, boundary),
                policy,
                summary: Summary::default(),
                layers: 0,
                remembered: Remembered::new(),
            },
            most_entries: limits::LAYER_ENTRIES,
            buffer: vec![0; 128 * 1024],
            threads: behind::threads(),
            known_mode: None,
        }
    }

    /// Accepts at most so many entries of a layer; [`limits::LAYER_ENTRIES`] if this is not called.
    #[must_use]
    pub fn at_most(self, most_entries: u64) -> Self {
        Self { most_entries, ..self }
    }

    /// Extracts one uncompressed layer and reads its source to the end.
    ///
    /// `progress` gets the bytes of file data as they are written.
    /// Errors: the first entry that cannot be written ends the work; what was written stays.
    pub fn layer(&mut self, layer: impl Read, progress: &mut dyn FnMut(u64)) -> Result<(), ExtractError> {
        let mut reader = Reader::new(layer);
        write_behind(self.target.policy.mode, self.threads, |behind| {
            let mut entries = 0;
            while let Some(entry) = reader.next_entry()? {
                entries += 1;
                if entries > self.most_entries {
                    let problem = format!("the layer has more than {} entries", self.most_entries);
                    return Err(ExtractError::refused(&entry.path, problem));
                }
                cancel::check().map_err(|error| ExtractError::io("go on", &entry.path, error))?;
                self.target.root.allow_entry();
                if let Some(file) = self.entry(&entry)? {
                    self.contents(entry, file, &mut reader, behind, progress)?;
                }
            }
            Ok(reader.drain()?)
        })?;
        self.target.layers += 1;
        Ok(())
    }

    /// Ends the work: checks the links that could only be checked with everything in place, and sets the last times
    /// and modes.
    pub fn finish(mut self) -> Result<Summary, ExtractError> {
        let remembered = std::mem::replace(&mut self.target.remembered, Remembered::new());
        remembered.each_deferred(Order::OuterFirst, |parts, deferred| {
            self.target.root.allow_entry();
            if deferred.is_link { self.target.check_deferred_link(parts) } else { Ok(()) }
        })?;
        // Inner folders first: an outer one that gets a mode of 0 would hide them.
        remembered.each_deferred(Order::InnerFirst, |parts, deferred| {
            self.target.root.allow_entry();
            self.target.settle_folder(parts, deferred)
        })?;
        let unmatched = self.include.iter().filter(|(_, seen)| !seen);
        self.target.summary.unmatched =
            unmatched.map(|(parts, _)| display_name(&parts.join(&b'/'))).collect();
        Ok(self.target.summary)
    }

    /// Makes what an entry says; a file is returned empty, and gets its contents next.
    fn entry(&mut self, entry: &Entry) -> Result<Option<NewFile>, ExtractError> {
        let parts = components(&entry.path).map_err(|problem| ExtractError::refused(&entry.path, problem))?;
        let Some((name, folder)) = parts.split_last() else {
            // The root itself: it is the caller's, its mode and owner are not ours to change.
            return match entry.kind {
                EntryKind::Directory => Ok(None),
                _ => {
                    Err(ExtractError::refused(&entry.path, "only a directory can have the name of the root"))
                }
            };
        };
        if let Some(hidden) = whiteout(name) {
            return self.whiteout(entry, folder, hidden).map(|()| None);
        }
        if !self.is_included(&parts) {
            return Ok(None);
        }
        let made = match entry.kind {
            EntryKind::Fifo if matches!(self.target.policy.mode, ExtractMode::Rootfs { .. }) => {
                self.target.fifo(entry, folder, name)
            }
            EntryKind::CharacterDevice | EntryKind::BlockDevice | EntryKind::Fifo => self.device(entry),
            EntryKind::HardLink => self.target.hard_link(entry, folder, name),
            EntryKind::Symlink => {
                self.target.open_folder(entry, folder)?;
                self.target.symlink(entry, name, &entry.link)
            }
            EntryKind::Directory => {
                self.target.open_folder(entry, folder)?;
                self.directory(entry, name)
            }
            EntryKind::File => {
                self.target.open_folder(entry, folder)?;
                return self.new_file(entry, name).map(Some);
            }
        };
        made.map(|()| None)
    }

    fn is_included(&mut self, parts: &[&[u8]]) -> bool {
        let mut included = self.include.is_empty();
        for (wanted, seen) in &mut self.include {
            if wanted.len() <= parts.len() && wanted.iter().zip(parts).all(|(wanted, part)| wanted == part) {
                *seen = true;
                included = true;
            }
        }
        included
    }

    fn new_file(&mut self, entry: &Entry, name: &[u8]) -> Result<NewFile, ExtractError> {
        let wanted = self.target.policy.mode.file_mode(entry.mode);
        // Special bits are set after the data and the owner; a file without write permission for its owner cannot be
        // written on every network file system.
        let direct = wanted & 0o7000 == 0 && wanted & 0o600 == 0o600;
        let mode = Mode::from_raw_mode(if direct { wanted } else { 0o600 });
        let file = self
            .target
            .replace(entry, name, "create the file", |root| rfs::openat(root.here(), name, NEW_FILE, mode))?;
        self.target.summary.files += 1;
        let has_mode = direct && self.creation_gives(wanted, &file);
        Ok(NewFile { file, has_mode })
    }

    /// Tells whether a file that is created in the current folder with this mode gets exactly this mode.
    ///
    /// The umask and the folder's default ACL may change it, and stay the same from one file to the next.
    fn creation_gives(&mut self, mode: u32, file: &OwnedFd) -> bool {
        let asked = Some((self.target.root.moves, mode));
        if self.known_mode == asked {
            return true;
        }
        let exact = rfs::fstat(file).is_ok_and(|stat| stat.st_mode & 0o7777 == mode);
        if exact {
            self.known_mode = asked;
        }
        exact
    }

    /// Writes a new file's data and sets what else it has, or hands it to the threads behind.
    fn contents(
        &mut self,
        entry: Entry,
        new: NewFile,
        reader: &mut Reader<impl Read>,
        behind: &mut Behind<'_, '_>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), ExtractError> {
        self.target.summary.bytes += entry.size;
        if entry.size <= behind::LARGEST {
            progress(entry.size);
            return behind.take(entry, new, |entry, space| {
                reader.read_exact(space).map_err(|error| unreadable(entry, error))
            });
        }
        behind.settle(&entry)?;
        let mut file = std::fs::File::from(new.file);
        loop {
            let count = match reader.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable(&entry, error)),
            };
            cancel::check().map_err(|error| ExtractError::io("go on", &entry.path, error))?;
            let written = file.write_all(&self.buffer[..count]);
            written.map_err(|error| ExtractError::io("write the file", &entry.path, error))?;
            progress(count as u64);
        }
        let new = NewFile { file: file.into(), has_mode: new.has_mode };
        finish_file(self.target.policy.mode, &entry, &new)
    }

    fn directory(&mut self, entry: &Entry, name: &[u8]) -> Result<(), ExtractError> {
        let failed = |error: Errno| ExtractError::io("create the directory", &entry.path, error);
        match self
            .target
            .root
            .look(name)
            .map_err(|error| ExtractError::io("look at it", &entry.path, error))?
        {
            Some((FileType::Directory, ..)) => self.target.note(name),
            _ => self.target.replace(entry, name, "create the directory", |root| {
                rfs::mkdirat(root.here(), name, Mode::RWXU)
            })?,
        }
        self.target.summary.directories += 1;
        self.target.note_folder_time(entry, name);
        let folder = rfs::openat(self.target.root.here(), name, LIST, Mode::empty()).map_err(failed)?;
        let mode = self.target.policy.mode.folder_mode(entry.mode);
        // Files that come later could not be written into a folder without these bits.
        let locked = mode & 0o700 != 0o700;
        if locked || !self.target.remembered.is_empty() {
            self.target.deferred(name).mode = locked.then_some(mode);
        }
        set_owner(self.target.policy.mode, entry, &folder)?;
        set_mode(entry, &folder, mode | 0o700)
    }

    fn device(&mut self, entry: &Entry) -> Result<(), ExtractError> {
        match self.target.policy.mode {
            ExtractMode::Contents { .. } => {
                let what = if entry.kind == EntryKind::Fifo { "a named pipe" } else { "a device" };
                Err(ExtractError::refused(
                    &entry.path,
                    format!("it is {what}, expected files, directories and links"),
                ))
            }
            ExtractMode::Rootfs { .. } => {
                self.target.skip(&entry.path);
                Ok(())
            }
        }
    }

    /// Removes what lower layers wrote; in the lowest layer there is nothing to remove.
    fn whiteout(
        &mut self,
        entry: &Entry,
        folder: &[&[u8]],
        hidden: Whiteout<'_>,
    ) -> Result<(), ExtractError> {
        if self.target.layers == 0 {
            return Ok(());
        }
        let hidden = match hidden {
            Whiteout::Bookkeeping => return Ok(()),
            Whiteout::Nothing => {
                return Err(ExtractError::refused(&entry.path, "it is a whiteout that names nothing"));
            }
            Whiteout::Opaque => None,
            Whiteout::Hides(hidden) => Some(hidden),
        };
        if !self.target.root.enter(folder, Missing::Report).map_err(|error| walk(&entry.path, error))? {
            return Ok(());
        }
        let (root, remembered, layer) =
            (&mut self.target.root, &mut self.target.remembered, self.target.layers);
        let Some(hidden) = hidden else {
            let swept = root.sweep_here(remembered, layer);
            return swept.map_err(|error| ExtractError::io("remove what it hides", &entry.path, error));
        };
        let known_as = root.find(remembered).and_then(|folder| remembered.find(folder, hidden));
        let removed = if known_as.is_some_and(|id| remembered.is_written(id, layer)) {
            root.sweep(hidden, remembered, layer)
        } else {
            root.remove(hidden, remembered)
        };
        removed.map_err(|error| ExtractError::io("remove what it hides", &entry.path, error))
    }
}

fn unreadable(entry: &Entry, error: std::io::Error) -> ExtractError {
    match error.downcast::<TarError>() {
        Ok(error) => error.into(),
        Err(error) => ExtractError::io("read its data", &entry.path, error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    use std::path::Path;

    use testkit::scratch::Scratch;
    use testkit::tarball::{Header, Tarball};

    use super::target::owner;
    use super::*;

    const CONTENTS: ExtractMode = ExtractMode::Contents { umask: 0o022 };
    const ROOTFS: ExtractMode = ExtractMode::Rootfs { ownership: Ownership::Ignore };

    fn extractor(folder: &Path, mode: ExtractMode, stray_links: StrayLinks) -> Extractor {
        let root = std::fs::File::open(folder).unwrap();
        Extractor::new(root.into(), Policy { mode, stray_links, include: Vec::new() })
    }

    fn extract(
        folder: &Path,
        mode: ExtractMode,
        stray: StrayLinks,
        layers: &[Tarball],
    ) -> Result<Summary, String> {
        let mut extractor = extractor(folder, mode, stray);
        for layer in layers {
            let tar = layer.clone().finish();
            extractor.layer(&tar[..], &mut |_| {}).map_err(|error| error.to_string())?;
        }
        extractor.finish().map_err(|error| error.to_string())
    }

    /// Paths below a folder in order, folders with `/`, links with their targets.
    fn listed(folder: &Path) -> Vec<String> {
        fn walk(folder: &Path, prefix: &str, found: &mut Vec<String>) {
            let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()).collect();
            names.sort_by_key(std::fs::DirEntry::file_name);
            for entry in names {
                let path = format!("{prefix}{}", entry.file_name().to_str().unwrap());
                if entry.file_type().unwrap().is_symlink() {
                    let target = std::fs::read_link(entry.path()).unwrap();
                    found.push(format!("{path} -> {}", target.display()));
                } else if entry.file_type().unwrap().is_dir() {
                    found.push(format!("{path}/"));
                    walk(&entry.path(), &format!("{path}/"), found);
                } else {
                    found.push(path);
                }
            }
        }
        let mut found = Vec::new();
        walk(folder, "", &mut found);
        found
    }

    #[test]
    fn layers_replace_and_hide_what_is_below() {
        let new = Tarball::new;
        let lower = new().dir("d").file("d/a", "1").file("d/b", "1").dir("e").file("e/x", "1").file("f", "1");
        let cases: Vec<(&str, Tarball, &[&str])> = vec![
            ("a file replaced", new().file("d/a", "2"), &["d/", "d/a", "d/b", "e/", "e/x", "f"]),
            ("a whiteout", new().file("d/.wh.a", ""), &["d/", "d/b", "e/", "e/x", "f"]),
            ("a whiteout of a folder", new().file(".wh.d", ""), &["e/", "e/x", "f"]),
            (
                "a whiteout in a missing folder",
                new().file("g/.wh.a", ""),
                &["d/", "d/a", "d/b", "e/", "e/x", "f"],
            ),
            (
                "opaque",
                new().file("d/new", "2").file("d/.wh..wh..opq", ""),
                &["d/", "d/new", "e/", "e/x", "f"],
            ),
            (
                "opaque first",
                new().file("d/.wh..wh..opq", "").file("d/new", "2"),
                &["d/", "d/new", "e/", "e/x", "f"],
            ),
            ("opaque root", new().file("e/new", "2").file(".wh..wh..opq", ""), &["e/", "e/new"]),
            (
                "a whiteout and the same name",
                new().file("d/new", "2").file(".wh.d", ""),
                &["d/", "d/new", "e/", "e/x", "f"],
            ),
            ("a file in place of a folder", new().file("d", "2"), &["d", "e/", "e/x", "f"]),
            ("a folder in place of a file", new().dir("f"), &["d/", "d/a", "d/b", "e/", "e/x", "f/"]),
            ("a link in place of a folder", new().symlink("d", "e"), &["d -> e", "e/", "e/x", "f"]),
            ("bookkeeping of aufs", new().file(".wh..wh.plnk", ""), &["d/", "d/a", "d/b", "e/", "e/x", "f"]),
        ];
        for (what, upper, expected) in cases {
            for mode in [CONTENTS, ROOTFS] {
                let folder = Scratch::new("layers");
                extract(folder.path(), mode, StrayLinks::Refuse, &[lower.clone(), upper.clone()]).unwrap();
                assert_eq!(listed(folder.path()), expected, "{what}");
            }
        }
    }

    #[test]
    fn whiteouts_of_the_lowest_layer_hide_nothing_and_must_name_something() {
        let folder = Scratch::new("lowest");
        let lowest = Tarball::new().file("a", "").file(".wh.a", "").file(".wh..wh..opq", "");
        extract(folder.path(), CONTENTS, StrayLinks::Refuse, &[lowest]).unwrap();
        assert_eq!(listed(folder.path()), ["a"]);
        for name in [".wh.", ".wh..", ".wh..."] {
            let layers = [Tarball::new(), Tarball::new().file(name, "")];
            let error = extract(folder.path(), CONTENTS, StrayLinks::Refuse, &layers).unwrap_err();
            assert_eq!(error, format!("cannot extract `{name}`: it is a whiteout that names nothing"));
        }
    }

    #[test]
    fn what_was_extracted_is_counted() {
        let folder = Scratch::new("counted");
        let tar = Tarball::new()
            .dir("d")
            .file("d/f", "12345")
            .symlink("l", "d/f")
            .hardlink("h", "d/f")
            .entry(&Header::new("null", b'3', 0), b"");
        let mut extractor = extractor(folder.path(), ROOTFS, StrayLinks::Keep);
        let mut bytes = 0;
        extractor.layer(&tar.finish()[..], &mut |count| bytes += count).unwrap();
        let expected = Summary {
            files: 1,
            directories: 1,
            links: 2,
            bytes: 5,
            skipped: 1,
            skipped_names: vec!["null".to_owned()],
            unmatched: Vec::new(),
        };
        assert_eq!((extractor.finish().unwrap(), bytes), (expected, 5));
        assert_eq!(listed(folder.path()), ["d/", "d/f", "h", "l -> d/f"]);
        let inode = |path: &str| std::fs::metadata(folder.join(path)).unwrap().ino();
        assert_eq!(inode("h"), inode("d/f"));
    }

    #[test]
    fn only_the_first_ten_names_of_what_was_left_out_are_kept() {
        let folder = Scratch::new("ten");
        let tar =
            (0..12).fold(Tarball::new(), |tar, n| tar.entry(&Header::new(format!("dev{n}"), b'4', 0), b""));
        let summary = extract(folder.path(), ROOTFS, StrayLinks::Keep, &[tar]).unwrap();
        assert_eq!((summary.skipped, summary.skipped_names.len()), (12, 10));
    }

    #[test]
    fn links_out_of_the_root_are_refused_left_out_or_kept() {
        let links = || {
            Tarball::new()
                .dir("d")
                .symlink("d/s", "..")
                .symlink("absolute", "/etc/passwd")
                .symlink("above", "../x")
                .symlink("d/later", "s/../../x")
                .symlink("fine", "d/../d")
                .symlink("nowhere", "d/x/../y")
        };
        let folder = Scratch::new("refused");
        let error = extract(folder.path(), CONTENTS, StrayLinks::Refuse, &[links()]).unwrap_err();
        assert!(
            error.contains("it is a symbolic link to `/etc/passwd`, outside the extracted tree"),
            "{error}"
        );
        let folder = Scratch::new("later");
        let later = Tarball::new().dir("d").symlink("d/s", "..").symlink("d/later", "s/../x");
        let error = extract(folder.path(), CONTENTS, StrayLinks::Refuse, &[later]).unwrap_err();
        assert!(error.contains("`d/later`: it is a symbolic link to `s/../x`, outside"), "{error}");
        let folder = Scratch::new("skipped");
        let summary = extract(folder.path(), CONTENTS, StrayLinks::Skip, &[links()]).unwrap();
        assert_eq!(listed(folder.path()), ["d/", "d/s -> ..", "fine -> d/../d", "nowhere -> d/x/../y"]);
        assert_eq!(summary.skipped_names, ["absolute", "above", "d/later"]);
        for mode in [CONTENTS, ROOTFS] {
            let folder = Scratch::new("kept");
            let summary = extract(folder.path(), mode, StrayLinks::Keep, &[links()]).unwrap();
            let expected = [
                "above -> ../x",
                "absolute -> /etc/passwd",
                "d/",
                "d/later -> s/../../x",
                "d/s -> ..",
                "fine -> d/../d",
                "nowhere -> d/x/../y",
            ];
            assert_eq!((listed(folder.path()), summary.skipped), (expected.map(str::to_owned).to_vec(), 0));
        }
    }

    #[test]
    fn entries_below_a_kept_absolute_link_stay_inside_the_root() {
        let outside = Scratch::new("outside");
        let target = outside.path().to_str().unwrap();
        let folder = Scratch::new("kept-below");
        let lower = Tarball::new().dir("usr/bin").symlink("bin", "/usr/bin").symlink("out", target);
        let upper = Tarball::new().file("bin/tool", "x").file("out/file", "x");
        extract(folder.path(), CONTENTS, StrayLinks::Keep, &[lower, upper]).unwrap();
        assert_eq!(listed(outside.path()), [""; 0]);
        assert!(folder.join("usr/bin/tool").exists());
        assert!(folder.join(&target[1..]).join("file").exists(), "as after chroot");
    }

    #[test]
    fn a_deferred_link_that_was_replaced_is_not_checked() {
        let folder = Scratch::new("replaced");
        let lower = Tarball::new().dir("d").symlink("d/s", "..").symlink("d/l", "s/../x");
        let upper = Tarball::new().file("d/l", "");
        extract(folder.path(), CONTENTS, StrayLinks::Refuse, &[lower, upper]).unwrap();
        assert_eq!(listed(folder.path()), ["d/", "d/l", "d/s -> .."]);
    }

    #[test]
    fn hard_links_need_a_file_that_came_before() {
        let new = Tarball::new;
        for (tar, expected) in [
            (new().hardlink("h", "f"), "`f`, which was not extracted before it"),
            (new().hardlink("h", "d/f"), "`d/f`, which was not extracted before it"),
            (new().dir("d").hardlink("h", "d"), "it is a hard link to the directory `d`"),
            (new().file("f", "").hardlink("h", "../f"), "`..` in its name leads out"),
            (new().file("f", "").hardlink("h", "/"), "`/`, which was not extracted before it"),
        ] {
            let folder = Scratch::new("hard");
            let error = extract(folder.path(), CONTENTS, StrayLinks::Refuse, &[tar]).unwrap_err();
            assert!(error.contains(expected), "{expected}: {error}");
        }
        let folder = Scratch::new("hard-link");
        let tar =
            new().dir("d").symlink("d/l", "../f").file("f", "").hardlink("d/m", "d/l").hardlink("f", "f");
        extract(folder.path(), CONTENTS, StrayLinks::Refuse, &[tar]).unwrap();
        assert_eq!(listed(folder.path()), ["d/", "d/l -> ../f", "d/m -> ../f", "f"]);
        let moved = new().dir("d").symlink("d/l", "../f").hardlink("m", "d/l");
        let error = extract(folder.path(), CONTENTS, StrayLinks::Refuse, &[moved]).unwrap_err();
        assert!(error.contains("`m`: it is a symbolic link to `../f`, outside"), "{error}");
    }

    #[test]
    fn a_root_file_system_keeps_modes_times_and_pipes() {
        let folder = Scratch::new("rootfs");
        let at = |header: Header, mtime: &str| {
            let mut block = header.block();
            block[136..147].copy_from_slice(mtime.as_bytes());
            testkit::tarball::seal(&mut block);
            block
        };
        let tar = Tarball::new()
            .raw(&at(Header::new("locked", b'5', 0).mode(0o000), "00000000100"))
            .raw(&at(Header::new("locked/f", b'0', 0).mode(0o4755), "00000000007"))
            .raw(&at(Header::new("pipe", b'6', 0).mode(0o622), "00000000010"))
            .raw(&at(Header::new("l", b'2', 0).link("pipe"), "00000000011"));
        extract(folder.path(), ROOTFS, StrayLinks::Keep, &[tar]).unwrap();
        let metadata = |path: &str| {
            let metadata = std::fs::symlink_metadata(folder.join(path)).unwrap();
            (metadata.permissions().mode() & 0o7777, metadata.mtime())
        };
        assert_eq!(metadata("locked"), (0o000, 64));
        assert_eq!(metadata("pipe"), (0o622, 8));
        assert_eq!(metadata("l").1, 9);
        std::fs::set_permissions(folder.join("locked"), std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(metadata("locked/f"), (0o4755, 7));
    }

    #[test]
    fn the_last_entry_of_a_folder_decides_its_mode() {
        let folder = Scratch::new("last-mode");
        let mode = |mode| Tarball::new().entry(&Header::new("d", b'5', 0).mode(mode), b"").file("d/f", "");
        extract(folder.path(), ROOTFS, StrayLinks::Keep, &[mode(0o000), mode(0o755)]).unwrap();
        let found = std::fs::metadata(folder.join("d")).unwrap().permissions().mode() & 0o7777;
        assert_eq!(found, 0o755);
    }

    #[test]
    fn a_users_files_have_the_time_of_their_extraction_and_no_special_bits() {
        let folder = Scratch::new("contents");
        let tar = Tarball::new().entry(&Header::new("f", b'0', 0).mode(0o4700), b"");
        extract(folder.path(), CONTENTS, StrayLinks::Refuse, &[tar]).unwrap();
        let metadata = std::fs::metadata(folder.join("f")).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o755);
        assert!(metadata.mtime() > 1_000_000_000);
    }

    #[test]
    fn attributes_of_the_host_are_not_set() {
        let folder = Scratch::new("attributes");
        let tar = Tarball::new()
            .pax(&[("SCHILY.xattr.user.a", b"v"), ("SCHILY.xattr.trusted.overlay.opaque", b"y")])
            .file("f", "");
        extract(folder.path(), ROOTFS, StrayLinks::Keep, std::slice::from_ref(&tar)).unwrap();
        let attribute = |name: &str| {
            let mut value = [0; 16];
            rfs::getxattr(folder.join("f"), name, &mut value[..]).map(|length| value[..length].to_vec())
        };
        match attribute("user.a") {
            Ok(value) => assert_eq!(value, b"v"),
            // tmpfs before Linux 6.6.
            Err(error) => assert_eq!(error, Errno::NOTSUP),
        }
        assert!(attribute("trusted.overlay.opaque").is_err());
        let plain = Scratch::new("no-attributes");
        extract(plain.path(), CONTENTS, StrayLinks::Refuse, &[tar]).unwrap();
        let mut value = [0; 16];
        assert!(rfs::getxattr(plain.join("f"), "user.a", &mut value[..]).is_err());
    }

    #[test]
    fn devices_and_pipes_are_refused_among_a_users_files() {
        for (flag, what) in [(b'3', "a device"), (b'4', "a device"), (b'6', "a named pipe")] {
            let folder = Scratch::new("devices");
            let tar = Tarball::new().entry(&Header::new("n", flag, 0), b"");
            let error = extract(folder.path(), CONTENTS, StrayLinks::Refuse, &[tar]).unwrap_err();
            assert_eq!(
                error,
                format!("cannot extract `n`: it is {what}, expected files, directories and links")
            );
        }
    }

    #[test]
    fn only_what_is_included_is_extracted() {
        let folder = Scratch::new("include");
        let root = std::fs::File::open(folder.path()).unwrap();
        let include = ["d/a", "./e/", "missing"].map(|path| path.as_bytes().to_vec()).to_vec();
        let mut extractor = Extractor::new(root.into(), Policy { include, ..Policy::contents(0) });
        let tar =
            Tarball::new().file("d/a", "").file("d/ab", "").file("d/b", "").file("e/x/y", "").file("f", "");
        extractor.layer(&tar.finish()[..], &mut |_| {}).unwrap();
        assert_eq!(extractor.finish().unwrap().unmatched, ["missing"]);
        assert_eq!(listed(folder.path()), ["d/", "d/a", "e/", "e/x/", "e/x/y"]);
    }

    #[test]
    fn a_layer_with_more_entries_than_allowed_is_refused() {
        let folder = Scratch::new("many");
        let layer = |count: usize| {
            let tar = (0..count).fold(Tarball::new(), |tar, n| tar.file(n.to_string(), "")).finish();
            let mut extractor = extractor(folder.path(), CONTENTS, StrayLinks::Refuse).at_most(3);
            extractor.layer(&tar[..], &mut |_| {}).map_err(|error| error.to_string())
        };
        assert_eq!(layer(3), Ok(()));
        assert_eq!(layer(4).unwrap_err(), "cannot extract `3`: the layer has more than 3 entries");
    }

    #[test]
    fn folders_are_opened_a_bounded_number_of_times() {
        for (depth, expected) in [(64, Ok(())), (65, Err(()))] {
            let folder = Scratch::new("opens");
            let mut extractor = extractor(folder.path(), CONTENTS, StrayLinks::Refuse);
            extractor.target.root.opens_left = 0;
            let tar = Tarball::new().file(format!("{}f", "d/".repeat(depth)), "").finish();
            let found = extractor.layer(&tar[..], &mut |_| {});
            let message = "reaching the entries opens more than 1000000 folders and 64 for each entry";
            let found = found.map_err(|error| assert!(error.to_string().ends_with(message), "{error}"));
            assert_eq!(found, expected, "{depth}");
        }
    }

    #[test]
    fn names_are_split_or_refused() {
        let split = |path: &str| {
            let parts = components(path.as_bytes())?;
            Ok::<_, String>(
                parts.iter().map(|part| String::from_utf8_lossy(part).into_owned()).collect::<Vec<_>>(),
            )
        };
        assert_eq!(split("/a//./b/").unwrap(), ["a", "b"]);
        assert_eq!(split("./").unwrap(), [""; 0]);
        assert_eq!(split("..a/b..").unwrap(), ["..a", "b.."]);
        assert!(split("a/../b").unwrap_err().contains("leads out"));
        assert!(split(&"d/".repeat(512)).is_ok());
        assert_eq!(split(&"d/".repeat(513)).unwrap_err(), "it is 513 levels deep, at most 512 are accepted");
    }

    #[test]
    fn owners_that_no_system_has_are_refused() {
        let owned = |uid: &[u8], gid: &[u8]| {
            let tar = Tarball::new().pax(&[("uid", uid), ("gid", gid)]).file("f", "").finish();
            let entry = Reader::new(&tar[..]).next_entry().unwrap().unwrap();
            owner(&entry).map(|(uid, gid)| (uid.as_raw(), gid.as_raw())).map_err(|error| error.to_string())
        };
        assert_eq!(owned(b"1", b"4294967294"), Ok((1, 4_294_967_294)));
        assert_eq!(
            owned(b"4294967295", b"0").unwrap_err(),
            "cannot extract `f`: its owner is not a valid number"
        );
        assert_eq!(
            owned(b"0", b"4294967296").unwrap_err(),
            "cannot extract `f`: its group is not a valid number"
        );
    }

    #[test]
    fn an_existing_link_is_replaced_and_never_written_through() {
        let outside = Scratch::new("victim");
        let victim = outside.write("victim", "old");
        let folder = Scratch::new("through");
        symlink(&victim, folder.join("f")).unwrap();
        extract(folder.path(), CONTENTS, StrayLinks::Refuse, &[Tarball::new().file("f", "new")]).unwrap();
        assert_eq!(std::fs::read_to_string(victim).unwrap(), "old");
        assert_eq!(std::fs::read_to_string(folder.join("f")).unwrap(), "new");
    }
}

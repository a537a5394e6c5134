//! Extracting layers into a folder that nothing gets out of.
//!
//! Layers are given lowest first; upper ones win and their whiteouts take away what lies below (image-spec
//! layer.md), independent of the order of entries inside a layer. Existing files are never opened for writing:
//! they are removed first, so that no link can redirect a write. Names are taken from the root of the archive; a
//! `/` in front is dropped, `..` is refused.

use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Write as _};
use std::os::fd::OwnedFd;

use rustix::fs::{self as rfs, FileType, Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::Errno;

use crate::model::limits;
use crate::stream::cancel;

use self::confined::{Boundary, Confined, Missing, WalkError};
use super::error::{TarError, display_name};
use super::read::{Entry, EntryKind, Reader};

mod confined;
mod links;
mod policy;
mod rootfs;

pub use policy::{ExtractError, Ownership, Policy, StrayLinks, Treatment};

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

/// Extracts the layers of one image, lowest first.
pub struct Extractor {
    root: Confined,
    policy: Policy,
    include: Vec<(Vec<Vec<u8>>, bool)>,
    summary: Summary,
    /// Most entries of one layer.
    most_entries: u64,
    layers: usize,
    /// Real paths that the current layer wrote, with the folders above them; kept from the second layer on.
    written: HashSet<Vec<u8>>,
    /// Links whose target goes up again after going down; where that leads is known when all is there.
    winding: Vec<Vec<u8>>,
    /// Folders whose stored mode would lock even us out, and that mode.
    locked: BTreeMap<Vec<u8>, u32>,
    /// Times of folders, set at the end because writing into a folder changes them.
    times: BTreeMap<Vec<u8>, i64>,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Extractor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Extractor")
            .field("policy", &self.policy)
            .field("summary", &self.summary)
            .finish_non_exhaustive()
    }
}

const OPAQUE: &[u8] = b".wh..wh..opq";
const WHITEOUT: &[u8] = b".wh.";
/// aufs' own bookkeeping, which docker passes over as well.
const WHITEOUT_META: &[u8] = b".wh..wh.";
const NEW_FILE: OFlags =
    OFlags::CREATE.union(OFlags::EXCL).union(OFlags::WRONLY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Extractor {
    /// Begins to extract into a folder, given as an open handle; it should be empty.
    #[must_use]
    pub fn new(root: OwnedFd, policy: Policy) -> Self {
        let boundary = match policy.treatment {
            Treatment::Contents { .. } => Boundary::Refuse,
            Treatment::Rootfs { .. } => Boundary::Chroot,
        };
        let parts = |path: &Vec<u8>| -> Vec<Vec<u8>> {
            let parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
            parts.map(<[u8]>::to_vec).collect()
        };
        Self {
            root: Confined::new(root, boundary),
            include: policy.include.iter().map(|path| (parts(path), false)).collect(),
            policy,
            summary: Summary::default(),
            most_entries: limits::LAYER_ENTRIES,
            layers: 0,
            written: HashSet::new(),
            winding: Vec::new(),
            locked: BTreeMap::new(),
            times: BTreeMap::new(),
            buffer: vec![0; 128 * 1024],
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
        self.written.clear();
        let mut reader = Reader::new(layer);
        let mut entries = 0;
        while let Some(entry) = reader.next_entry()? {
            entries += 1;
            if entries > self.most_entries {
                let problem = format!("the layer has more than {} entries", self.most_entries);
                return Err(ExtractError::refused(&entry.path, problem));
            }
            cancel::check().map_err(|error| ExtractError::io("go on", &entry.path, error))?;
            self.entry(&entry, &mut reader, progress)?;
        }
        reader.drain()?;
        self.layers += 1;
        Ok(())
    }

    /// Ends the work: checks the links that could only be judged with everything in place, and sets last modes.
    pub fn finish(mut self) -> Result<Summary, ExtractError> {
        for link in std::mem::take(&mut self.winding) {
            self.check_winding(&link)?;
        }
        self.settle_folder_times()?;
        // Inner folders first, so that a locked outer one does not hide them.
        for (path, mode) in std::mem::take(&mut self.locked).into_iter().rev() {
            let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
            let entered = self.root.enter(&parts, Missing::Report).map_err(|error| walk(&path, error))?;
            if entered && self.root.real_path(b"").strip_suffix(b"/") == Some(&path) {
                let failed = |error| ExtractError::io("set the mode", &path, error);
                let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let folder = rfs::openat(self.root.here(), ".", flags, Mode::empty()).map_err(failed)?;
                rfs::fchmod(&folder, Mode::from_raw_mode(mode)).map_err(failed)?;
            }
        }
        let unmatched = self.include.iter().filter(|(_, seen)| !seen);
        self.summary.unmatched = unmatched.map(|(parts, _)| display_name(&parts.join(&b'/'))).collect();
        Ok(self.summary)
    }

    fn entry(
        &mut self,
        entry: &Entry,
        reader: &mut Reader<impl Read>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), ExtractError> {
        let parts = components(&entry.path).map_err(|problem| ExtractError::refused(&entry.path, problem))?;
        let Some((name, folder)) = parts.split_last() else {
            // The root itself: it is the caller's, its mode and owner are not ours to change.
            return match entry.kind {
                EntryKind::Directory => Ok(()),
                _ => {
                    Err(ExtractError::refused(&entry.path, "only a directory can have the name of the root"))
                }
            };
        };
        if name.starts_with(WHITEOUT) {
            return self.whiteout(entry, folder, name);
        }
        if !self.is_included(&parts) {
            return Ok(());
        }
        match entry.kind {
            EntryKind::Fifo if matches!(self.policy.treatment, Treatment::Rootfs { .. }) => {
                self.fifo(entry, folder, name)
            }
            EntryKind::CharacterDevice | EntryKind::BlockDevice | EntryKind::Fifo => self.device(entry),
            EntryKind::HardLink => self.hard_link(entry, folder, name),
            EntryKind::Symlink => {
                self.open_folder(entry, folder)?;
                self.symlink(entry, name, &entry.link)
            }
            EntryKind::Directory => {
                self.open_folder(entry, folder)?;
                self.directory(entry, name)
            }
            EntryKind::File => {
                self.open_folder(entry, folder)?;
                self.file(entry, name, reader, progress)
            }
        }
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

    /// Enters the folder an entry belongs into, making what is missing of it.
    fn open_folder(&mut self, entry: &Entry, folder: &[&[u8]]) -> Result<(), ExtractError> {
        let missing = Missing::Create(self.policy.treatment.implied_folder_mode());
        self.root.enter(folder, missing).map_err(|error| walk(&entry.path, error))?;
        Ok(())
    }

    /// Remembers that the current layer wrote a name in the current folder.
    fn note(&mut self, name: &[u8]) {
        if self.layers == 0 {
            return;
        }
        let mut path = self.root.real_path(name);
        loop {
            let parent = path.iter().rposition(|byte| *byte == b'/').map(|at| path[..at].to_vec());
            if !self.written.insert(path) {
                return;
            }
            let Some(parent) = parent else { return };
            path = parent;
        }
    }

    /// Runs a system call that makes a name, and once more after removing what had that name.
    fn replace<T>(
        &mut self,
        entry: &Entry,
        name: &[u8],
        action: &'static str,
        make: impl Fn(&Confined) -> Result<T, Errno>,
    ) -> Result<T, ExtractError> {
        let failed = |error: Errno| ExtractError::io(action, &entry.path, error);
        let made = match make(&self.root) {
            Err(Errno::EXIST) => {
                self.forget_below(name);
                self.root
                    .remove(name)
                    .map_err(|error| ExtractError::io("replace the older file", &entry.path, error))?;
                make(&self.root).map_err(failed)?
            }
            made => made.map_err(failed)?,
        };
        self.note(name);
        Ok(made)
    }

    /// Drops what was to be done later about a name that goes away.
    fn forget_below(&mut self, name: &[u8]) {
        if self.locked.is_empty() {
            return;
        }
        let path = self.root.real_path(name);
        let below = [&path, &b"/"[..]].concat();
        self.locked.retain(|known, _| *known != path && !known.starts_with(&below));
    }

    fn file(
        &mut self,
        entry: &Entry,
        name: &[u8],
        reader: &mut Reader<impl Read>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), ExtractError> {
        let mode = Mode::RUSR | Mode::WUSR;
        let file = self
            .replace(entry, name, "create the file", |root| rfs::openat(root.here(), name, NEW_FILE, mode))?;
        let mut file = std::fs::File::from(file);
        loop {
            let count = match reader.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable(entry, error)),
            };
            cancel::check().map_err(|error| ExtractError::io("go on", &entry.path, error))?;
            let written = file.write_all(&self.buffer[..count]);
            written.map_err(|error| ExtractError::io("write the file", &entry.path, error))?;
            self.summary.bytes += count as u64;
            progress(count as u64);
        }
        self.summary.files += 1;
        let file = OwnedFd::from(file);
        self.dress(entry, &file, self.policy.treatment.file_mode(entry.mode))?;
        self.set_file_time(entry, &file)
    }

    fn directory(&mut self, entry: &Entry, name: &[u8]) -> Result<(), ExtractError> {
        let failed = |error: Errno| ExtractError::io("create the directory", &entry.path, error);
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match self.root.look(name).map_err(|error| ExtractError::io("look at it", &entry.path, error))? {
            Some((FileType::Directory, ..)) => self.note(name),
            _ => self.replace(entry, name, "create the directory", |root| {
                rfs::mkdirat(root.here(), name, Mode::RWXU)
            })?,
        }
        self.summary.directories += 1;
        self.note_folder_time(entry, name);
        let folder = rfs::openat(self.root.here(), name, flags, Mode::empty()).map_err(failed)?;
        let mode = self.policy.treatment.folder_mode(entry.mode);
        self.forget_exactly(name);
        if mode & 0o700 != 0o700 {
            // Its files come later and have to be written first.
            self.locked.insert(self.root.real_path(name), mode);
        }
        self.dress(entry, &folder, mode | 0o700)
    }

    fn forget_exactly(&mut self, name: &[u8]) {
        if !self.locked.is_empty() {
            self.locked.remove(&self.root.real_path(name));
        }
    }

    /// Sets owner, attributes and mode, in this order: changing the owner clears setuid bits and capabilities.
    fn dress(&self, entry: &Entry, file: &OwnedFd, mode: u32) -> Result<(), ExtractError> {
        if let Treatment::Rootfs { ownership } = self.policy.treatment {
            if ownership == Ownership::Apply {
                let (uid, gid) = owner(entry)?;
                rfs::fchown(file, Some(uid), Some(gid))
                    .map_err(|error| ExtractError::io("set the owner", &entry.path, error))?;
            }
            for (name, value) in &entry.xattrs {
                // Others (`trusted.overlay.…`, `system.…`) mean something to the host, not to the container.
                if !name.starts_with(b"user.") && name != b"security.capability" {
                    continue;
                }
                match rfs::fsetxattr(file, name.as_slice(), value, XattrFlags::empty()) {
                    Ok(()) | Err(Errno::NOTSUP) => {}
                    Err(Errno::PERM) if ownership == Ownership::Ignore => {}
                    Err(error) => return Err(ExtractError::io("set an attribute", &entry.path, error)),
                }
            }
        }
        rfs::fchmod(file, Mode::from_raw_mode(mode))
            .map_err(|error| ExtractError::io("set the mode", &entry.path, error))
    }

    fn device(&mut self, entry: &Entry) -> Result<(), ExtractError> {
        match self.policy.treatment {
            Treatment::Contents { .. } => {
                let what = if entry.kind == EntryKind::Fifo { "a named pipe" } else { "a device" };
                Err(ExtractError::refused(
                    &entry.path,
                    format!("it is {what}, expected files, directories and links"),
                ))
            }
            Treatment::Rootfs { .. } => {
                self.skip(&entry.path);
                Ok(())
            }
        }
    }

    fn skip(&mut self, path: &[u8]) {
        const NAMED: usize = 10;
        self.summary.skipped += 1;
        if self.summary.skipped_names.len() < NAMED {
            self.summary.skipped_names.push(display_name(path));
        }
    }

    /// Takes away what a lower layer has; in the lowest layer there is nothing to take away.
    fn whiteout(&mut self, entry: &Entry, folder: &[&[u8]], name: &[u8]) -> Result<(), ExtractError> {
        let hidden = name.strip_prefix(WHITEOUT).unwrap_or_default();
        if name != OPAQUE && (name.starts_with(WHITEOUT_META) || self.layers == 0) {
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(ExtractError::refused(&entry.path, "it is a whiteout that names nothing"));
        }
        if self.layers == 0
            || !self.root.enter(folder, Missing::Report).map_err(|error| walk(&entry.path, error))?
        {
            return Ok(());
        }
        let failed = |error| ExtractError::io("remove what it hides", &entry.path, error);
        let written = &self.written;
        let keep = |path: &[u8]| written.contains(path);
        if name == OPAQUE {
            return self.root.sweep_here(&keep).map_err(failed);
        }
        if written.contains(&self.root.real_path(hidden)) {
            return self.root.sweep(hidden, &keep).map_err(failed);
        }
        self.root.remove(hidden).map_err(failed)?;
        self.forget_below(hidden);
        Ok(())
    }
}

/// Splits an entry's name; a `/` in front, `.` and doubled slashes mean nothing.
fn components(path: &[u8]) -> Result<Vec<&[u8]>, String> {
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

fn owner(entry: &Entry) -> Result<(Uid, Gid), ExtractError> {
    let id = |what: &str, id: u64| {
        // All bits set means "leave as it is" to the system call.
        let id = u32::try_from(id).ok().filter(|id| *id != u32::MAX);
        id.ok_or_else(|| ExtractError::refused(&entry.path, format!("its {what} is not a valid number")))
    };
    Ok((Uid::from_raw(id("owner", entry.uid)?), Gid::from_raw(id("group", entry.gid)?)))
}

fn unreadable(entry: &Entry, error: std::io::Error) -> ExtractError {
    match error.downcast::<TarError>() {
        Ok(error) => error.into(),
        Err(error) => ExtractError::io("read its data", &entry.path, error),
    }
}

fn walk(path: &[u8], error: WalkError) -> ExtractError {
    match error {
        WalkError::NotAFolder(name) => {
            ExtractError::refused(path, format!("`{name}` is not a directory, but has to be for this entry"))
        }
        WalkError::Outside(target) => ExtractError::refused(
            path,
            format!("on its way is a link to `{target}`, outside the extracted tree"),
        ),
        WalkError::TooDeep => {
            let (links, depth) = (limits::LINKS, limits::FOLDER_DEPTH);
            let problem = format!("on its way are more than {links} links or {depth} levels of directories");
            ExtractError::refused(path, problem)
        }
        WalkError::Io(action, source) => ExtractError::io(action, path, source),
    }
}

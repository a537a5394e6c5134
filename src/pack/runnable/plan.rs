//! What goes into the layers of an image, decided before a byte of it is written: every path, mode and conflict.
//!
//! Planning lists the files and looks at their first bytes; packing opens them again and notices a change. Two
//! platforms with the same plan share a layer.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::stream::FileError;
use crate::tar::header::{EntryType, Header, Owner};
use crate::tar::paths::{clean, join, name, parent};
use crate::tar::{FileTree, Node, NodeKind, display_name};
use crate::tree::{
    Content, Entry, EntryKind, FileIdentity, FileReader, Filter, SymlinkPolicy, Visitor, reopen, walk,
};

use super::super::entries::{LayerEncoding, PackedLayer, write_layer};
use super::super::error::{PackError, WHITEOUT};
use super::super::profile::ModeRule;
use super::elf::Elf;

/// Files and folders that make one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedFiles {
    /// What is packed, in this order, each with its number among all that was named.
    pub roots: Vec<(usize, PathBuf)>,
    /// Absolute path in the image. A folder's content goes into it; a file gets this name, or goes into the folder if
    /// the path ends with `/`.
    pub destination: Vec<u8>,
}

/// Which permissions files get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Modes {
    /// 0755 or 0644, by the owner's execute bit; 0755 for folders.
    #[default]
    Readable,
    /// Those that they have.
    Keep,
    /// These; folders can be entered besides by each who can read them.
    Fixed(u32),
}

impl Modes {
    fn folder(self, mode: u32) -> u32 {
        match self {
            Self::Readable => ModeRule::Readable.folder(),
            Self::Keep => mode,
            Self::Fixed(fixed) => fixed | (fixed & 0o444) >> 2,
        }
    }

    fn file(self, mode: u32) -> u32 {
        match self {
            Self::Readable => ModeRule::Readable.file(mode),
            Self::Keep => mode,
            Self::Fixed(fixed) => fixed,
        }
    }
}

/// Whether it is known which files the image has below the new layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BaseListing {
    /// All of them are in the tree.
    #[default]
    Read,
    /// They were not looked at: folders above a destination are left to the base, and places are refused that are
    /// usually behind a link.
    Unread,
}

/// Folders that are links in most distributions' images; a folder in their place would hide everything that the link leads to.
const USUAL_LINKS: [&[u8]; 8] =
    [b"bin", b"sbin", b"lib", b"lib32", b"lib64", b"libx32", b"var/run", b"var/lock"];

/// Returns the first folder of a path that is usually a link.
fn usual_link(path: &[u8]) -> Option<&'static [u8]> {
    USUAL_LINKS
        .into_iter()
        .find(|link| path.strip_prefix(*link).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/")))
}

/// How files are taken.
#[derive(Clone, Debug, Default)]
pub struct PlanOptions {
    /// What is left out; its roots are those of all layers, by number.
    pub filter: Filter,
    /// What becomes of symbolic links.
    pub symlinks: SymlinkPolicy,
    /// Which permissions entries get.
    pub modes: Modes,
    /// Who they belong to; folders above a destination belong to root.
    pub owner: Owner,
    /// Whether the files of the base are in the tree.
    pub listing: BaseListing,
    /// Device and inode of a file to leave out: the archive that is being replaced.
    pub skip: Option<(u64, u64)>,
}

/// An entry of a layer that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PlannedEntry {
    path: Vec<u8>,
    mode: u32,
    owner: Owner,
    content: PlannedContent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum PlannedContent {
    Directory,
    Symlink(Vec<u8>),
    File { source: PathBuf, identity: FileIdentity, size: u64 },
}

/// A layer that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerPlan {
    entries: Vec<PlannedEntry>,
    /// Absolute path in the image, for the history.
    pub destination: Vec<u8>,
}

impl LayerPlan {
    /// Returns the paths of its files in the image.
    pub fn files(&self) -> impl Iterator<Item = &[u8]> {
        let is_file = |entry: &&PlannedEntry| matches!(entry.content, PlannedContent::File { .. });
        self.entries.iter().filter(is_file).map(|entry| entry.path.as_slice())
    }

    /// Writes the layer; each file has to be the one that was planned.
    ///
    /// Errors: [`PackError`], also for a file that changed since it was listed.
    pub fn pack(
        &self,
        encoding: LayerEncoding,
        sink: &mut (dyn Write + Send),
        progress: &dyn Fn(u64),
    ) -> Result<PackedLayer, PackError> {
        write_layer(encoding, sink, progress, |writer| {
            for PlannedEntry { path, mode, owner, content } in &self.entries {
                let (kind, size, link) = match content {
                    PlannedContent::Directory => (EntryType::Directory, 0, &b""[..]),
                    PlannedContent::Symlink(text) => (EntryType::Symlink, 0, text.as_slice()),
                    PlannedContent::File { size, .. } => (EntryType::File, *size, &b""[..]),
                };
                let header = Header { path, kind, mode: *mode, size, link, mtime: 0, owner: *owner };
                let PlannedContent::File { source, identity, .. } = content else {
                    writer.entry(&header)?;
                    continue;
                };
                let mut file = reopen(source, *identity)?;
                writer.file(&header, |space| Ok(file.read(space)?))?;
                file.finish()?;
            }
            Ok(())
        })
    }
}

/// A program among the files of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedProgram {
    /// The file, for messages.
    pub source: PathBuf,
    /// Its path in the image.
    pub path: Vec<u8>,
    /// What its first bytes say.
    pub elf: Elf,
}

/// The layers that are to be written, and what is known of their files.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The layers, lowest first; one without a new entry is left out.
    pub layers: Vec<LayerPlan>,
    /// Programs and libraries in them.
    pub programs: Vec<PlannedProgram>,
    /// Symbolic links that were left out because that was requested.
    pub links_left_out: u64,
}

/// Plans layers over what is in `tree`, which gets their entries.
///
/// Folders that are there are not written again, so that their modes and owners stay. A path below a link of the
/// tree goes where the link leads.
/// Errors: [`PackError::Conflict`] for a file in the place of a folder or the reverse; those of walking.
pub fn plan_layers(
    layers: &[PlacedFiles],
    options: &PlanOptions,
    tree: &mut FileTree,
) -> Result<Plan, PackError> {
    let mut plan = Plan::default();
    let mut origins = HashMap::new();
    for (number, files) in layers.iter().enumerate() {
        let mut planner = Planner {
            options,
            tree,
            origins: &mut origins,
            number,
            files,
            root: Path::new(""),
            root_is_folder: false,
            entries: Vec::new(),
            plan: &mut plan,
        };
        for (root_number, root) in &files.roots {
            planner.root = root;
            planner.root_is_folder = root.is_dir();
            let filter = options.filter.of_root(*root_number);
            walk(root, &filter, options.symlinks, options.skip, &mut planner)?;
        }
        let (entries, destination) = (planner.entries, files.destination.clone());
        if !entries.is_empty() {
            plan.layers.push(LayerPlan { entries, destination });
        }
    }
    Ok(plan)
}

/// Where an entry of the tree comes from: the layer's number, and the file.
type Origins = HashMap<Vec<u8>, (usize, PathBuf)>;

struct Planner<'a> {
    options: &'a PlanOptions,
    tree: &'a mut FileTree,
    origins: &'a mut Origins,
    number: usize,
    files: &'a PlacedFiles,
    root: &'a Path,
    root_is_folder: bool,
    entries: Vec<PlannedEntry>,
    plan: &'a mut Plan,
}

impl Planner<'_> {
    /// Returns the path in the image, before links are followed.
    fn destination(&self, entry: &Entry) -> Vec<u8> {
        let destination = clean(&self.files.destination);
        match (self.root_is_folder, entry.path.as_slice()) {
            (true, b".") => destination,
            (true, path) => join(&destination, path),
            (false, path) if self.files.destination.ends_with(b"/") => join(&destination, path),
            (false, _) => destination,
        }
    }

    fn source(&self, entry: &Entry) -> PathBuf {
        match (self.root_is_folder, entry.path.as_slice()) {
            (true, b".") | (false, _) => self.root.to_owned(),
            (true, path) => self.root.join(OsStr::from_bytes(path)),
        }
    }

    fn conflict(&self, source: PathBuf, what: &'static str, path: &[u8], there: &'static str) -> PackError {
        let of = self.origins.get(path).map(|(_, origin)| origin.clone());
        PackError::Conflict { source_path: source, what, path: display_name(path), there, of }
    }

    fn links(&self, source: &Path, path: &[u8]) -> PackError {
        PackError::LinksInBase { source_path: source.to_owned(), path: display_name(path) }
    }

    /// Makes sure that a folder is there.
    fn ensure(&mut self, folder: &[u8], source: &Path) -> Result<(), PackError> {
        if self.tree.is_directory(folder) {
            return Ok(());
        }
        if self.tree.get(folder).is_some() {
            return Err(self.conflict(source.to_owned(), "something below it", folder, "a file"));
        }
        self.ensure(parent(folder), source)?;
        match self.options.listing {
            BaseListing::Read => self.add(folder.to_vec(), &Node::IMPLIED, PlannedContent::Directory, source),
            // An entry would take away the mode and owner that the base may have given the folder.
            BaseListing::Unread => self.tree.put(folder, Node::IMPLIED),
        }
        Ok(())
    }

    fn add(&mut self, path: Vec<u8>, node: &Node, content: PlannedContent, source: &Path) {
        self.origins.insert(path.clone(), (self.number, source.to_owned()));
        self.tree.put(&path, node.clone());
        self.entries.push(PlannedEntry { path, mode: node.mode, owner: node.owner, content });
    }

    fn folder(&mut self, entry: &Entry, path: &[u8], source: &Path) -> Result<(), PackError> {
        let place = self.tree.follow(path).map_err(|_| self.links(source, path))?;
        match self.tree.get(&place).map(|node| &node.kind) {
            Some(NodeKind::Directory) => Ok(()),
            Some(_) => Err(self.conflict(source.to_owned(), "a folder", &place, "a file")),
            None => {
                self.ensure(parent(&place), source)?;
                let mode = self.options.modes.folder(entry.mode);
                let owner = self.options.owner;
                let node = Node { kind: NodeKind::Directory, mode, owner, ..Node::IMPLIED };
                self.add(place, &node, PlannedContent::Directory, source);
                Ok(())
            }
        }
    }

    /// Returns where something that is no folder goes.
    fn place(&mut self, path: &[u8], source: &Path) -> Result<Vec<u8>, PackError> {
        let place = self.tree.place(path).map_err(|_| self.links(source, path))?;
        // A link to a folder stands for the folder.
        let end = self.tree.follow(path).unwrap_or_else(|_| place.clone());
        if self.tree.is_directory(&end) {
            return Err(self.conflict(source.to_owned(), "a file", &end, "a folder"));
        }
        match self.origins.get(&place) {
            Some((number, first)) if *number == self.number => {
                let path = PathBuf::from(OsStr::from_bytes(&place));
                return Err(PackError::Duplicate { path, first: first.clone(), second: source.to_owned() });
            }
            _ => {}
        }
        self.ensure(parent(&place), source)?;
        Ok(place)
    }
}

impl Visitor for Planner<'_> {
    type Error = PackError;

    fn entry(&mut self, entry: &Entry, content: Content<'_>) -> Result<(), PackError> {
        let source = self.source(entry);
        let path = self.destination(entry);
        if name(&path).starts_with(WHITEOUT.as_bytes()) {
            return Err(PackError::Whiteout { path: source });
        }
        if let (BaseListing::Unread, Some(link)) = (self.options.listing, usual_link(&path)) {
            return Err(PackError::PerhapsLink { source_path: source, link: display_name(link) });
        }
        let owner = self.options.owner;
        match (&entry.kind, content) {
            (EntryKind::Directory, _) => self.folder(entry, &path, &source),
            (EntryKind::Symlink { target }, _) => {
                let place = self.place(&path, &source)?;
                let kind = NodeKind::Link(target.clone());
                let node = Node { kind, mode: 0o777, owner, ..Node::IMPLIED };
                self.add(place, &node, PlannedContent::Symlink(target.clone()), &source);
                Ok(())
            }
            (EntryKind::File { size }, Content::File(mut file)) => {
                let place = self.place(&path, &source)?;
                let mode = self.options.modes.file(entry.mode);
                let node = Node { kind: NodeKind::File, mode, owner, ..Node::IMPLIED };
                if let Some(elf) = Elf::read(|space| file.read(space))? {
                    let program = PlannedProgram { source: source.clone(), path: place.clone(), elf };
                    self.plan.programs.push(program);
                }
                let content = reopened(&file, *size)?;
                self.add(place, &node, content, &source);
                Ok(())
            }
            (EntryKind::File { .. }, Content::None) => Ok(()),
        }
    }

    fn left_out(&mut self, _link: &Path) {
        self.plan.links_left_out += 1;
    }
}

/// Returns the file to be opened again; a root that is a link was followed.
fn reopened(file: &FileReader<'_>, size: u64) -> Result<PlannedContent, PackError> {
    let path = file.path();
    let is_link = path.symlink_metadata().is_ok_and(|found| found.is_symlink());
    let source = match is_link {
        true => path.canonicalize().map_err(|error| FileError::io("follow", path, error))?,
        false => path.to_owned(),
    };
    Ok(PlannedContent::File { source, identity: file.identity(), size })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("imgrelay-plan-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(path.join("d/sub")).unwrap();
        for (file, mode) in [("d/sub/a", 0o600), ("d/run", 0o711)] {
            std::fs::write(path.join(file), "x").unwrap();
            std::fs::set_permissions(path.join(file), PermissionsExt::from_mode(mode)).unwrap();
        }
        symlink("run", path.join("d/link")).unwrap();
        path
    }

    fn files(root: &Path, path: &str, destination: &str) -> PlacedFiles {
        PlacedFiles { roots: vec![(0, root.join(path))], destination: destination.into() }
    }

    /// Returns mode, owner and path of each entry, layer by layer.
    fn shown(plan: &Plan) -> Vec<Vec<String>> {
        let entry = |entry: &PlannedEntry| {
            let Owner { uid, gid } = entry.owner;
            format!("{:o} {uid}:{gid} {}", entry.mode, display_name(&entry.path))
        };
        plan.layers.iter().map(|layer| layer.entries.iter().map(entry).collect()).collect()
    }

    #[test]
    fn entries_go_where_links_lead_and_folders_that_are_there_are_left_out() {
        let root = folder("base");
        let mut tree = FileTree::default();
        tree.put(b"usr/bin", Node { mode: 0o700, ..Node::IMPLIED });
        tree.put(b"bin", Node { kind: NodeKind::Link(b"usr/bin".to_vec()), ..Node::IMPLIED });
        let layers =
            [files(&root, "d", "/bin"), files(&root, "d/run", "/new/deep/"), files(&root, "d", "/bin")];
        let options = PlanOptions { owner: Owner { uid: 1, gid: 2 }, ..PlanOptions::default() };
        let plan = plan_layers(&layers, &options, &mut tree).unwrap();
        let first =
            ["777 1:2 usr/bin/link", "755 1:2 usr/bin/run", "755 1:2 usr/bin/sub", "644 1:2 usr/bin/sub/a"];
        let second = ["755 0:0 new", "755 0:0 new/deep", "755 1:2 new/deep/run"];
        let third = ["777 1:2 usr/bin/link", "755 1:2 usr/bin/run", "644 1:2 usr/bin/sub/a"];
        assert_eq!(shown(&plan), [&first[..], &second, &third]);
        assert_eq!(tree.get(b"usr/bin").unwrap().mode, 0o700);
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn modes_are_kept_or_fixed_and_folders_can_be_entered_by_readers() {
        let root = folder("modes");
        let plan = |modes| {
            let options = PlanOptions { modes, ..PlanOptions::default() };
            let plan = plan_layers(&[files(&root, "d/sub", "/s")], &options, &mut FileTree::default());
            shown(&plan.unwrap()).concat()
        };
        assert_eq!(plan(Modes::Fixed(0o640)), ["750 0:0 s", "640 0:0 s/a"]);
        assert_eq!(plan(Modes::Keep)[1], "600 0:0 s/a");
        assert_eq!(plan(Modes::Readable), ["755 0:0 s", "644 0:0 s/a"]);
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn conflicts_and_repeated_files_are_errors_that_name_both() {
        let root = folder("conflicts");
        let failed = |layers: &[PlacedFiles]| {
            let planned = plan_layers(layers, &PlanOptions::default(), &mut FileTree::default());
            planned.unwrap_err().to_string()
        };
        let error = failed(&[files(&root, "d", "/x"), files(&root, "d/run", "/x/sub")]);
        assert!(
            error.contains("d/run` would put a file at `/x/sub`, where a folder is, which comes from"),
            "{error}"
        );
        let error = failed(&[files(&root, "d/run", "/x"), files(&root, "d", "/x/y")]);
        assert!(error.contains("would put something below it at `/x`, where a file is"), "{error}");
        let twice =
            PlacedFiles { roots: vec![(0, root.join("d")), (1, root.join("d"))], ..files(&root, "d", "/x") };
        let error = failed(&[twice]);
        assert!(error.contains("`x/link` is in more than one of the given paths"), "{error}");
        std::fs::remove_dir_all(root).unwrap();
    }
}

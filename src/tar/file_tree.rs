//! The files that an image has, without their content: what its layers give when they are laid over one another.
//!
//! It tells where a path leads, what is there and which layer brought it. Reads no file, and refuses nothing: a list
//! of an image's files may be wanted because the image cannot be extracted.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use crate::model::limits;

use super::header::Owner;
use super::paths::{Whiteout, clean, join, name, parent, parts, whiteout};
use super::read::{Entry, EntryKind};

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A folder.
    Directory,
    /// A regular file, or another name of one.
    File,
    /// A symbolic link with its text.
    Link(Vec<u8>),
    /// A hard link to this path, at which there is nothing.
    HardLink(Vec<u8>),
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
}

/// Where the bytes of a file are, and which they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileContent {
    /// Bytes.
    pub size: u64,
    /// The layer that has them, counted from 0, the lowest.
    pub layer: u32,
    /// Where they begin in that layer's tar.
    pub offset: u64,
    /// Their SHA-256, where it was computed.
    pub sha256: Option<[u8; 32]>,
}

/// An entry of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// The twelve Unix mode bits.
    pub mode: u32,
    /// Who it belongs to.
    pub owner: Owner,
    /// Modification time, seconds since 1970.
    pub mtime: i64,
    /// The layer that brought it, counted from 0, the lowest.
    pub layer: u32,
    /// The bytes of a file.
    pub content: FileContent,
}

impl Node {
    /// A folder that is in no layer but has something below it; engines create such folders.
    pub const IMPLIED: Self = Self {
        kind: NodeKind::Directory,
        mode: 0o755,
        owner: Owner::ROOT,
        mtime: 0,
        layer: 0,
        content: FileContent { size: 0, layer: 0, offset: 0, sha256: None },
    };

    /// Makes the node of an entry in a layer.
    #[must_use]
    pub fn of(entry: &Entry, layer: u32) -> Self {
        let kind = match entry.kind {
            EntryKind::Directory => NodeKind::Directory,
            EntryKind::File => NodeKind::File,
            EntryKind::HardLink => NodeKind::HardLink(entry.link.clone()),
            EntryKind::Symlink => NodeKind::Link(entry.link.clone()),
            EntryKind::CharacterDevice => NodeKind::CharacterDevice,
            EntryKind::BlockDevice => NodeKind::BlockDevice,
            EntryKind::Fifo => NodeKind::Fifo,
        };
        let id = |id: u64| u32::try_from(id).unwrap_or(u32::MAX);
        let owner = Owner { uid: id(entry.uid), gid: id(entry.gid) };
        let content = FileContent { size: entry.size, layer, offset: entry.offset_of_data, sha256: None };
        Self { kind, mode: entry.mode, owner, mtime: entry.mtime, layer, content }
    }
}

/// A path as a layer stores it, and what is there.
pub type LayerEntry = (Vec<u8>, Arc<Node>);

/// Links lead in a circle, or through too many others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyLinks;

/// The entries of an image by path: `/`-separated bytes without a `/` at either end; the root is the empty path.
///
/// Cost: a copy shares paths and nodes with what it is a copy of.
#[derive(Clone, Debug, Default)]
pub struct FileTree {
    nodes: BTreeMap<Arc<[u8]>, Arc<Node>>,
}

impl FileTree {
    /// Returns how many entries there are, the root not counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Tells whether there is nothing but the root.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Returns what is at a path, links not followed.
    #[must_use]
    pub fn get(&self, path: &[u8]) -> Option<&Node> {
        const ROOT: &Node = &Node::IMPLIED;
        if path.is_empty() { Some(ROOT) } else { self.nodes.get(path).map(AsRef::as_ref) }
    }

    /// Returns what is at a path, with the path as this tree has it; nothing for the root.
    #[must_use]
    pub fn entry(&self, path: &[u8]) -> Option<(&[u8], &Node)> {
        self.nodes.get_key_value(path).map(|(path, node)| (&**path, &**node))
    }

    /// Tells whether a folder is at a path, links not followed.
    #[must_use]
    pub fn is_directory(&self, path: &[u8]) -> bool {
        self.get(path).is_some_and(|node| node.kind == NodeKind::Directory)
    }

    /// Returns all entries, in the order of their paths' bytes.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Arc<Node>)> {
        self.nodes.iter().map(|(path, node)| (&**path, node))
    }

    /// Returns the entries below a path, in the order of their paths' bytes.
    pub fn below<'a>(&'a self, folder: &[u8]) -> impl Iterator<Item = (&'a [u8], &'a Node)> {
        let mut start = folder.to_vec();
        if !start.is_empty() {
            start.push(b'/');
        }
        let from = (Bound::Included(start.as_slice()), Bound::Unbounded);
        let below = self.nodes.range::<[u8], _>(from).map(|(path, node)| (&**path, &**node));
        below.take_while(move |(path, _)| path.starts_with(&start))
    }

    /// Returns where a path leads: every link on the way followed, the last part too.
    ///
    /// Shape: a path of this tree, at which there may be nothing. `..` does not lead above the root, as in a container.
    pub fn follow(&self, path: &[u8]) -> Result<Vec<u8>, TooManyLinks> {
        let mut left: VecDeque<Vec<u8>> = parts(path).map(<[u8]>::to_vec).collect();
        let mut found: Vec<u8> = Vec::new();
        let mut links = 0;
        while let Some(part) = left.pop_front() {
            if part == b".." {
                found.truncate(parent(&found).len());
                continue;
            }
            let next = join(&found, &part);
            match self.get(&next).map(|node| &node.kind) {
                Some(NodeKind::Link(text)) => {
                    links += 1;
                    if links > limits::LINKS {
                        return Err(TooManyLinks);
                    }
                    if text.starts_with(b"/") {
                        found.clear();
                    }
                    for part in parts(text).rev() {
                        left.push_front(part.to_vec());
                    }
                }
                _ => found = next,
            }
        }
        Ok(found)
    }

    /// Returns where an entry with this path is: links on the way to it followed, the last part not.
    pub fn place(&self, path: &[u8]) -> Result<Vec<u8>, TooManyLinks> {
        let folder = parent(path);
        let folder = if folder.is_empty() || self.is_directory(folder) {
            folder.to_vec()
        } else {
            self.follow(folder)?
        };
        Ok(join(&folder, name(path)))
    }

    /// Puts an entry at a path; a folder keeps what is below it, all else takes its place.
    pub fn put(&mut self, path: &[u8], node: Node) {
        self.put_shared(path, Arc::new(node));
    }

    fn put_shared(&mut self, path: &[u8], node: Arc<Node>) {
        if path.is_empty() {
            return;
        }
        let mut above = parent(path);
        // Nothing is below what is no folder, so that its place can be taken.
        while !above.is_empty() && !self.is_directory(above) {
            self.nodes.insert(above.into(), Arc::new(Node { layer: node.layer, ..Node::IMPLIED }));
            above = parent(above);
        }
        if node.kind != NodeKind::Directory {
            self.remove_below(path);
        }
        self.nodes.insert(path.into(), node);
    }

    fn remove(&mut self, path: &[u8]) {
        self.nodes.remove(path);
        self.remove_below(path);
    }

    fn remove_below(&mut self, path: &[u8]) {
        let below: Vec<Vec<u8>> = self.below(path).map(|(path, _)| path.to_vec()).collect();
        for path in below {
            self.nodes.remove(&*path);
        }
    }

    /// Applies a layer to the tree; `entries` are its paths as stored, in their order.
    ///
    /// Paths with `..` are left out, as every engine refuses them. A hard link becomes what it links to.
    /// Source: image-spec layer.md, "Applying Changesets".
    pub fn apply(&mut self, entries: &[LayerEntry]) {
        let is_safe = |path: &[u8]| !path.is_empty() && parts(path).all(|part| part != b"..");
        // A folder in the place of a lower layer's link comes first: what is deleted in it is not where the link leads.
        for (path, node) in entries.iter().filter(|(_, node)| node.kind == NodeKind::Directory) {
            let path = clean(path);
            let place = self.place(&path).ok().filter(|_| is_safe(&path) && whiteout(name(&path)).is_none());
            let is_link =
                |place: &Vec<u8>| matches!(self.get(place), Some(Node { kind: NodeKind::Link(_), .. }));
            if let Some(place) = place.filter(is_link) {
                self.put_shared(&place, Arc::clone(node));
            }
        }
        // Deletions are about lower layers, wherever they are in this one.
        for (path, _) in entries {
            let Some(hidden) = parts(path).next_back().and_then(whiteout) else { continue };
            let path = clean(path);
            let Some(folder) = self.follow(parent(&path)).ok().filter(|_| is_safe(&path)) else { continue };
            match hidden {
                Whiteout::Opaque => self.remove_below(&folder),
                Whiteout::Hides(hidden) => self.remove(&join(&folder, hidden)),
                Whiteout::Bookkeeping | Whiteout::Nothing => {}
            }
        }
        for (path, node) in entries {
            let path = clean(path);
            if !is_safe(&path) || whiteout(name(&path)).is_some() {
                continue;
            }
            let node = match &node.kind {
                NodeKind::HardLink(target) => self.linked(target, node),
                _ => Arc::clone(node),
            };
            if let Ok(place) = self.place(&path) {
                self.put_shared(&place, node);
            }
        }
    }

    /// Returns what a hard link makes at its own path.
    fn linked(&self, target: &[u8], link: &Arc<Node>) -> Arc<Node> {
        let found = self.place(&clean(target)).ok().and_then(|place| self.nodes.get(&*place));
        match found.filter(|found| found.kind != NodeKind::Directory) {
            Some(found) => Arc::new(Node { layer: link.layer, ..Node::clone(found) }),
            None => Arc::clone(link),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(kind: NodeKind) -> Node {
        Node { kind, ..Node::IMPLIED }
    }

    /// Makes a layer: `d/` is a folder, `l>t` a link, `h=t` a hard link, everything else a file.
    fn layer(lines: &[&str]) -> Vec<LayerEntry> {
        let entry = |line: &&str| match (line.split_once('>'), line.split_once('=')) {
            (Some((path, text)), _) => (path.into(), node(NodeKind::Link(text.into()))),
            (_, Some((path, text))) => (path.into(), node(NodeKind::HardLink(text.into()))),
            _ if line.ends_with('/') => (line.as_bytes().to_vec(), node(NodeKind::Directory)),
            _ => (line.as_bytes().to_vec(), node(NodeKind::File)),
        };
        lines.iter().map(entry).map(|(path, node)| (path, Arc::new(node))).collect()
    }

    fn tree(layers: &[&[&str]]) -> FileTree {
        let mut tree = FileTree::default();
        for lines in layers {
            tree.apply(&layer(lines));
        }
        tree
    }

    fn paths(tree: &FileTree) -> Vec<String> {
        tree.iter().map(|(path, _)| String::from_utf8_lossy(path).into_owned()).collect()
    }

    #[test]
    fn layers_are_laid_over_one_another_with_their_whiteouts() {
        let both: [&[&str]; 2] = [&["./a/x", "a/y", "b/", "b/z", "c"], &["a/.wh.x", "b/.wh..wh..opq", "b/n"]];
        assert_eq!(paths(&tree(&both)), ["a", "a/y", "b", "b/n", "c"]);
        assert_eq!(paths(&tree(&[&["d/e/f"], &["d/e"]])), ["d", "d/e"], "a file takes a folder's place");
        assert_eq!(paths(&tree(&[&["d/e"], &["d/e/f"]])), ["d", "d/e", "d/e/f"]);
        assert_eq!(paths(&tree(&[&["d/e/f/g"]])), ["d", "d/e", "d/e/f", "d/e/f/g"], "every folder is there");
        assert_eq!(paths(&tree(&[&["d"], &["d/e/f"]])), ["d", "d/e", "d/e/f"], "folders take a file's place");
        assert_eq!(paths(&tree(&[&["/", ".", "../x", "a/../../y", "/ok"]])), ["ok"]);
        assert_eq!(paths(&tree(&[&["ab", "a/c", "a.d"], &[".wh.a"]])), ["a.d", "ab"]);
    }

    #[test]
    fn what_a_folder_in_the_place_of_a_link_deletes_is_not_where_the_link_led() {
        let base: &[&str] = &["run/tool", "var/run>/run"];
        for layer in [
            &["var/run/", "var/run/.wh..wh..opq", "var/run/pid"][..],
            &["var/run/.wh.tool", "var/run/pid", "var/run/"],
        ] {
            let found = paths(&tree(&[base, layer]));
            assert_eq!(found, ["run", "run/tool", "var", "var/run", "var/run/pid"], "{layer:?}");
        }
        let through = paths(&tree(&[base, &["var/run/.wh.tool"]]));
        assert_eq!(through, ["run", "var", "var/run"], "without a folder the link stays");
    }

    #[test]
    fn a_whiteout_that_names_nothing_or_leads_out_removes_nothing() {
        for nothing in ["a/.wh.", "a/.wh..", "a/.wh...", "a/.wh..wh.plnk", "a/../.wh.a", "../.wh.a"] {
            assert_eq!(paths(&tree(&[&["a/x"], &[nothing]])), ["a", "a/x"], "{nothing}");
        }
    }

    #[test]
    fn a_hard_link_is_what_it_links_to_and_its_own_layer_brought_it() {
        let mut tree = tree(&[&["usr/lib/", "lib>usr/lib", "usr/lib/a", "s>a"]]);
        let file = Node {
            mode: 0o600,
            content: FileContent { size: 5, ..FileContent::default() },
            ..node(NodeKind::File)
        };
        tree.put(b"usr/lib/a", file.clone());
        let mut upper = layer(&["h=./lib/a", "i=s", "j=lib", "k=no", "l=../s"]);
        for (_, node) in &mut upper {
            Arc::get_mut(node).unwrap().layer = 1;
        }
        tree.apply(&upper);
        assert_eq!(tree.get(b"h"), Some(&Node { layer: 1, ..file }));
        let kind = |path: &[u8]| tree.get(path).map(|node| node.kind.clone());
        assert_eq!(kind(b"i"), Some(NodeKind::Link(b"a".to_vec())));
        assert_eq!(kind(b"j"), Some(NodeKind::Link(b"usr/lib".to_vec())));
        assert_eq!(kind(b"k"), Some(NodeKind::HardLink(b"no".to_vec())));
    }

    #[test]
    fn a_path_leads_where_links_lead() {
        let tree = tree(&[&["usr/bin/", "bin>usr/bin", "etc/l>/usr/./bin/x", "up>../../usr", "loop>loop"]]);
        for (path, place, end) in [
            ("bin/app", "usr/bin/app", "usr/bin/app"),
            ("bin", "bin", "usr/bin"),
            ("etc/l", "etc/l", "usr/bin/x"),
            ("up/bin/a", "usr/bin/a", "usr/bin/a"),
            ("new/a/b", "new/a/b", "new/a/b"),
        ] {
            let text = |found: Result<Vec<u8>, TooManyLinks>| String::from_utf8(found.unwrap()).unwrap();
            assert_eq!(text(tree.place(path.as_bytes())), place, "{path}");
            assert_eq!(text(tree.follow(path.as_bytes())), end, "{path}");
        }
        assert_eq!(tree.follow(b"loop/x"), Err(TooManyLinks));
        assert_eq!(tree.place(b"loop"), Ok(b"loop".to_vec()), "the link itself is there");
    }

    #[test]
    fn an_entry_of_a_base_that_is_below_a_link_goes_where_the_link_leads() {
        let tree = tree(&[&["usr/lib/", "lib>usr/lib"], &["lib/new"]]);
        assert_eq!(paths(&tree), ["lib", "usr", "usr/lib", "usr/lib/new"]);
    }

    #[test]
    fn what_is_below_a_folder_is_found_and_a_copy_changes_alone() {
        let tree = tree(&[&["a/x", "a/y/z", "a.b", "ab"]]);
        let below: Vec<&[u8]> = tree.below(b"a").map(|(path, _)| path).collect();
        assert_eq!(below, [&b"a/x"[..], b"a/y", b"a/y/z"]);
        let mut copy = tree.clone();
        copy.apply(&layer(&[".wh.a"]));
        assert_eq!((paths(&copy), tree.len()), (vec!["a.b".to_owned(), "ab".to_owned()], 6));
    }

    #[test]
    fn a_tree_of_the_root_alone_is_empty() {
        let (empty, one) = (tree(&[&["./"]]), tree(&[&["a"]]));
        assert!(empty.is_empty() && !one.is_empty());
        assert_eq!((empty.len(), one.len()), (0, 1));
    }
}

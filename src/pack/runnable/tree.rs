//! The files that an image has, without their content: what its layers give when they are laid over one another.
//!
//! It tells where a path leads, what is there, and which folders a new layer has to contain. Reads no file.

use std::collections::{BTreeMap, VecDeque};

use crate::model::limits;
use crate::tar::header::Owner;

use super::super::error::WHITEOUT;

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A folder.
    Directory,
    /// A regular file, or another name of one.
    File,
    /// A symbolic link with its text.
    Link(Vec<u8>),
    /// A device or pipe.
    Special,
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
}

impl Node {
    /// A folder that stands in no layer but has something below it; engines make it like this.
    pub const IMPLIED: Self = Self { kind: NodeKind::Directory, mode: 0o755, owner: Owner::ROOT };
}

/// Links lead in a circle, or through too many others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyLinks;

/// The entries of an image by path: `/`-separated bytes without a `/` at either end; the root is the empty path.
#[derive(Clone, Debug, Default)]
pub struct FileTree {
    nodes: BTreeMap<Vec<u8>, Node>,
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
        if path.is_empty() { Some(ROOT) } else { self.nodes.get(path) }
    }

    /// Tells whether a folder is at a path, links not followed.
    #[must_use]
    pub fn is_directory(&self, path: &[u8]) -> bool {
        self.get(path).is_some_and(|node| node.kind == NodeKind::Directory)
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
            match self.nodes.get(&next).map(|node| &node.kind) {
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
        if path.is_empty() {
            return;
        }
        let mut above = parent(path);
        while !above.is_empty() && !self.is_directory(above) {
            self.remove(above);
            self.nodes.insert(above.to_vec(), Node::IMPLIED);
            above = parent(above);
        }
        if node.kind != NodeKind::Directory {
            self.remove_below(path);
        }
        self.nodes.insert(path.to_vec(), node);
    }

    fn remove(&mut self, path: &[u8]) {
        self.nodes.remove(path);
        self.remove_below(path);
    }

    fn remove_below(&mut self, path: &[u8]) {
        let mut start = path.to_vec();
        if !start.is_empty() {
            start.push(b'/');
        }
        let below = self.nodes.range(start.clone()..).map(|(path, _)| path);
        let below: Vec<Vec<u8>> = below.take_while(|path| path.starts_with(&start)).cloned().collect();
        for path in below {
            self.nodes.remove(&path);
        }
    }

    /// Applies a layer to the tree; `entries` are its paths as stored, in any order.
    ///
    /// Paths with `..` are left out, as every engine refuses them. Source: image-spec layer.md, "Applying Changesets".
    pub fn apply(&mut self, entries: Vec<(Vec<u8>, Node)>) {
        // Deletions are about lower layers, wherever they stand in this one.
        for (path, _) in &entries {
            let path = clean(path);
            let (folder, name) = (parent(&path), name(&path));
            let Some(deleted) = name.strip_prefix(WHITEOUT.as_bytes()) else { continue };
            let Ok(folder) = self.follow(folder) else { continue };
            if deleted == b".wh..opq" {
                self.remove_below(&folder);
            } else {
                self.remove(&join(&folder, deleted));
            }
        }
        for (path, node) in entries {
            let path = clean(&path);
            let is_safe = !path.is_empty() && parts(&path).all(|part| part != b"..");
            if !is_safe || name(&path).starts_with(WHITEOUT.as_bytes()) {
                continue;
            }
            if let Ok(place) = self.place(&path) {
                self.put(&place, node);
            }
        }
    }
}

/// Returns a path as the tree has it: no `.`, no empty parts.
pub(super) fn clean(path: &[u8]) -> Vec<u8> {
    parts(path).collect::<Vec<_>>().join(&b'/')
}

/// Returns the parts of a path.
pub(super) fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}

/// Returns the path of the folder that something is in.
pub(super) fn parent(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    path.get(..end).unwrap_or_default()
}

/// Returns the last part of a path.
pub(super) fn name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// Joins a folder and what is below it.
pub(super) fn join(folder: &[u8], rest: &[u8]) -> Vec<u8> {
    match (folder.is_empty(), rest.is_empty()) {
        (true, _) => rest.to_vec(),
        (_, true) => folder.to_vec(),
        _ => [folder, rest].join(&b'/'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(kind: NodeKind) -> Node {
        Node { kind, ..Node::IMPLIED }
    }

    /// Makes a layer: `d/` is a folder, `l>t` a link, everything else a file.
    fn layer(lines: &[&str]) -> Vec<(Vec<u8>, Node)> {
        let entry = |line: &&str| match line.split_once('>') {
            Some((path, text)) => (path.into(), node(NodeKind::Link(text.into()))),
            None if line.ends_with('/') => (line.as_bytes().to_vec(), node(NodeKind::Directory)),
            None => (line.as_bytes().to_vec(), node(NodeKind::File)),
        };
        lines.iter().map(entry).collect()
    }

    fn tree(layers: &[&[&str]]) -> FileTree {
        let mut tree = FileTree::default();
        for lines in layers {
            tree.apply(layer(lines));
        }
        tree
    }

    fn paths(tree: &FileTree) -> Vec<String> {
        tree.nodes.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect()
    }

    #[test]
    fn layers_are_laid_over_one_another_with_their_whiteouts() {
        let both: [&[&str]; 2] = [&["./a/x", "a/y", "b/", "b/z", "c"], &["a/.wh.x", "b/.wh..wh..opq", "b/n"]];
        assert_eq!(paths(&tree(&both)), ["a", "a/y", "b", "b/n", "c"]);
        assert_eq!(paths(&tree(&[&["d/e/f"], &["d/e"]])), ["d", "d/e"], "a file takes a folder's place");
        assert_eq!(paths(&tree(&[&["d/e"], &["d/e/f"]])), ["d", "d/e", "d/e/f"]);
        assert_eq!(paths(&tree(&[&["/", ".", "../x", "a/../../y", "/ok"]])), ["ok"]);
        assert_eq!(paths(&tree(&[&["ab", "a/c", "a.d"], &[".wh.a"]])), ["a.d", "ab"]);
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
}

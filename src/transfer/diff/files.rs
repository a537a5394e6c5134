//! Files of two images that differ: by type, content, mode, owner and link target, not by time.
//!
//! Layers that both images begin with are read only if a tar has them or the comparison needs them: two images of a
//! registry mostly share their base, and the base has most of the bytes.

use std::cmp::{Ordering, Reverse};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use crate::model::{Descriptor, Digest};
use crate::stream::{into_value, lock};
use crate::tar::paths::{parts, whiteout};
use crate::tar::{FileTree, Node, NodeKind};

use super::super::events::Observer;
use super::super::image_files::{Budget, Contents, LayerList, Reading, announce, read_layer};
use super::super::{ImageSource, TransferError, workers};

/// Which property of a file differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aspect {
    /// A folder became a file, for example.
    Type,
    /// The bytes of a file, by their SHA-256.
    Content,
    /// The permissions.
    Mode,
    /// User or group.
    Owner,
    /// The text of a link.
    Target,
}

/// A file that differs; one node is missing where the file is new or gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChange {
    /// Its path, without a `/` in front.
    pub path: Vec<u8>,
    /// What it was.
    pub old: Option<Arc<Node>>,
    /// What it is.
    pub new: Option<Arc<Node>>,
}

impl FileChange {
    /// Returns by how many bytes the file grew; negative if it shrank.
    #[must_use]
    pub fn growth(&self) -> i64 {
        size(self.new.as_ref()) - size(self.old.as_ref())
    }

    /// Returns which properties of a file differ that is in both images.
    #[must_use]
    pub fn aspects(&self) -> Vec<Aspect> {
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => aspects(old, new),
            _ => Vec::new(),
        }
    }

    /// Orders changes by their size, the largest first, then by path.
    fn order(&self) -> (Reverse<u64>, Reverse<i64>, &[u8]) {
        let larger = size(self.new.as_ref()).max(size(self.old.as_ref()));
        (Reverse(self.growth().unsigned_abs()), Reverse(larger), &self.path)
    }
}

fn size(node: Option<&Arc<Node>>) -> i64 {
    node.map_or(0, |node| i64::try_from(node.content.size).unwrap_or(i64::MAX))
}

fn aspects(old: &Node, new: &Node) -> Vec<Aspect> {
    let mut found = Vec::new();
    if std::mem::discriminant(&old.kind) != std::mem::discriminant(&new.kind) {
        found.push(Aspect::Type);
    } else if old.kind != new.kind {
        found.push(Aspect::Target);
    } else if old.kind == NodeKind::File
        && (old.content.size, old.content.sha256) != (new.content.size, new.content.sha256)
    {
        found.push(Aspect::Content);
    }
    // A link has no permissions of its own.
    if old.mode != new.mode && !matches!(new.kind, NodeKind::Link(_)) {
        found.push(Aspect::Mode);
    }
    if old.owner != new.owner {
        found.push(Aspect::Owner);
    }
    found
}

/// The files of two images that differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilesDiff {
    /// The changes, largest first.
    pub changes: Vec<FileChange>,
    /// Whether the layers that both begin with were read. If not, a file that is in them too counts as added or gone.
    pub shared_read: bool,
}

/// One image with its layers, lowest first.
pub(super) struct LayeredImage<'a> {
    pub(super) source: &'a dyn ImageSource,
    pub(super) layers: &'a [Descriptor],
}

/// Whether layers that both images begin with are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedLayers {
    /// Where one of the images is in a tar, or where a layer above them hides something.
    WhereNeeded,
    /// In any case.
    Read,
}

/// Compares the files of two images.
///
/// Errors: those of reading; more entries than a list may have.
/// Cost: each layer is read once; one that both images have comes from a tar, if one of them is in a tar. Memory grows
/// with the number of entries; the nodes of shared layers are there once.
pub(super) fn compare(
    old: &LayeredImage<'_>,
    new: &LayeredImage<'_>,
    shared: SharedLayers,
    concurrency: usize,
    observer: &dyn Observer,
) -> Result<FilesDiff, TransferError> {
    let same = old.layers.iter().zip(new.layers).take_while(|(old, new)| old.digest == new.digest).count();
    let (base, old_own) = old.layers.split_at(same);
    let new_own = new.layers.get(same..).unwrap_or_default();
    let reading =
        Reading { wanted: &[], contents: Contents::Hash, concurrency, observer, budget: Budget::default() };
    let is_at_hand = |layer: &&Descriptor| [old, new].iter().any(|side| is_local(side.source, &layer.digest));
    let mut with_base = shared == SharedLayers::Read || base.iter().all(|layer| is_at_hand(&layer));
    let mut lists = Lists { sides: [old, new], reading, lists: HashMap::new() };
    lists.read(old_own.iter().chain(new_own).chain(base.iter().filter(|_| with_base)))?;
    if !with_base && lists.hide_something() {
        with_base = true;
        lists.read(base.iter())?;
    }
    let mut below = FileTree::default();
    if with_base {
        lists.apply(base, &mut below);
        lists.forget(base, old_own.iter().chain(new_own));
    }
    let mut before = below.clone();
    lists.apply(old_own, &mut before);
    let mut after = below;
    lists.apply(new_own, &mut after);
    drop(lists);
    let mut changes = changes(&before, &after);
    changes.sort_by(|one, other| one.order().cmp(&other.order()));
    Ok(FilesDiff { changes, shared_read: with_base })
}

fn is_local(source: &dyn ImageSource, digest: &Digest) -> bool {
    !source.lacks(digest) && source.repository_of(digest).is_none()
}

/// Lists of layers by digest: one that both images have is read once.
struct Lists<'a> {
    sides: [&'a LayeredImage<'a>; 2],
    reading: Reading<'a>,
    lists: HashMap<Digest, LayerList>,
}

impl Lists<'_> {
    fn read<'d>(&mut self, layers: impl Iterator<Item = &'d Descriptor>) -> Result<(), TransferError> {
        let mut seen = HashSet::new();
        let wanted: Vec<&Descriptor> = layers
            .filter(|layer| !self.lists.contains_key(&layer.digest) && seen.insert(layer.digest.clone()))
            .collect();
        announce(wanted.iter().copied(), &self.reading);
        let found: Mutex<Vec<(Digest, LayerList)>> = Mutex::default();
        workers::for_each(&wanted, self.reading.concurrency, |layer| {
            let list = read_layer(self.source_of(layer), layer, 0, &self.reading)?;
            lock(&found).push((layer.digest.clone(), list));
            Ok(())
        })?;
        self.lists.extend(into_value(found));
        Ok(())
    }

    /// Returns the source of the image that has a layer; a tar is preferred to a registry.
    fn source_of(&self, layer: &Descriptor) -> &dyn ImageSource {
        let has = |side: &&&LayeredImage<'_>| side.layers.iter().any(|one| one.digest == layer.digest);
        let having = || self.sides.iter().filter(has);
        let local = having().find(|side| is_local(side.source, &layer.digest));
        local.or_else(|| having().next()).map_or(self.sides[0].source, |side| side.source)
    }

    /// Tells whether a layer hides entries of the layers below it.
    fn hide_something(&self) -> bool {
        let mut entries = self.lists.values().flat_map(|list| &list.entries);
        entries.any(|(path, _)| parts(path).next_back().and_then(whiteout).is_some())
    }

    fn apply(&self, layers: &[Descriptor], tree: &mut FileTree) {
        for list in layers.iter().filter_map(|layer| self.lists.get(&layer.digest)) {
            tree.apply(&list.entries);
        }
    }

    /// Drops the lists of layers that are in the tree, except those that are needed once more.
    fn forget<'d>(&mut self, layers: &[Descriptor], but: impl Iterator<Item = &'d Descriptor>) {
        let but: HashSet<&Digest> = but.map(|layer| &layer.digest).collect();
        for layer in layers.iter().filter(|layer| !but.contains(&layer.digest)) {
            self.lists.remove(&layer.digest);
        }
    }
}

/// Compares two trees in the order of their paths and returns the differences.
fn changes(old: &FileTree, new: &FileTree) -> Vec<FileChange> {
    let mut changes = Vec::new();
    let (mut before, mut after) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (before.peek(), after.peek()) {
            (None, None) => return changes,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((old, _)), Some((new, _))) => old.cmp(new),
        };
        let old = if order.is_le() { before.next() } else { None };
        let new = if order.is_ge() { after.next() } else { None };
        let differs = match (&old, &new) {
            (Some((_, old)), Some((_, new))) => !Arc::ptr_eq(old, new) && !aspects(old, new).is_empty(),
            _ => true,
        };
        if let Some((path, _)) = old.as_ref().or(new.as_ref()).filter(|_| differs) {
            let node = |side: Option<(&[u8], &Arc<Node>)>| side.map(|(_, node)| Arc::clone(node));
            changes.push(FileChange { path: path.to_vec(), old: node(old), new: node(new) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::FileContent;
    use crate::tar::header::Owner;

    fn file(content: u8, size: u64) -> Node {
        let content = FileContent { size, sha256: Some([content; 32]), ..FileContent::default() };
        Node { kind: NodeKind::File, mode: 0o644, content, ..Node::IMPLIED }
    }

    fn tree(files: &[(&str, Node)]) -> FileTree {
        let mut tree = FileTree::default();
        for (path, node) in files {
            tree.put(path.as_bytes(), node.clone());
        }
        tree
    }

    #[test]
    fn files_of_one_size_are_told_apart_by_their_content_and_times_do_not_count() {
        let link = |target: &str| Node { kind: NodeKind::Link(target.into()), ..Node::IMPLIED };
        let old = tree(&[
            ("a", file(1, 10)),
            ("b", file(1, 10)),
            ("c", file(1, 10)),
            ("d", link("x")),
            ("e", link("x")),
            ("f", file(1, 10)),
            ("g/h", file(1, 10)),
            ("z", file(1, 5)),
        ]);
        let new = tree(&[
            ("a", Node { mtime: 9, layer: 3, ..file(1, 10) }),
            ("b", file(2, 10)),
            ("c", Node { mode: 0o600, owner: Owner { uid: 1, gid: 0 }, ..file(1, 10) }),
            ("d", link("y")),
            ("e", Node { mode: 0o700, ..link("x") }),
            ("f", Node::IMPLIED),
            ("y", file(3, 400)),
            ("z", file(1, 6)),
        ]);
        let found = changes(&old, &new);
        let shown: Vec<(&str, Vec<Aspect>, i64)> = found
            .iter()
            .map(|change| (std::str::from_utf8(&change.path).unwrap(), change.aspects(), change.growth()))
            .collect();
        assert_eq!(
            shown,
            [
                ("b", vec![Aspect::Content], 0),
                ("c", vec![Aspect::Mode, Aspect::Owner], 0),
                ("d", vec![Aspect::Target], 0),
                ("f", vec![Aspect::Type, Aspect::Mode], -10),
                ("g", vec![], 0),
                ("g/h", vec![], -10),
                ("y", vec![], 400),
                ("z", vec![Aspect::Content], 1),
            ]
        );
        let mut sorted = found;
        sorted.sort_by(|one, other| one.order().cmp(&other.order()));
        let paths: Vec<&[u8]> = sorted.iter().map(|change| change.path.as_slice()).collect();
        assert_eq!(paths, [&b"y"[..], b"f", b"g/h", b"z", b"b", b"c", b"d", b"g"]);
        assert_eq!(changes(&new, &new), []);
    }
}

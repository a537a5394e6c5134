//! An app in a zip, jar or war: the entries as the tree they stand for, with links followed inside it.
//!
//! What is checked here and how links are checked is the same as for folders (`tree::walk`), so that a folder and a zip
//! of it give the same list.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::collect::Collector;
use super::ignore::{IGNORE_FILE, filter, not_a_file};
use super::{AppError, AppOptions, Content, RestoredFile};
use crate::model::limits;
use crate::tar::display_name;
use crate::tree::{Filter, LinkProblem, RefusedLinks, SymlinkPolicy};
use crate::zip::{Archive, Entry, EntryKind, EntryProblem, ZipError};

/// Permissions of files from systems without them. cf's command line and registry-buddy make all of them executable
/// (0744 and 0777), and `mvnw` and its like depend on it.
const FOREIGN_MODE: u32 = 0o755;

/// One path of the tree.
#[derive(Clone, Copy, Debug)]
struct Node<'a> {
    path: &'a [u8],
    kind: EntryKind,
    /// Number of the entry, files of an earlier image after those of the zip; none for a folder that no entry
    /// stands for.
    index: Option<usize>,
}

/// Compares paths in walk order: a folder's content comes right after it.
fn walk_order(a: &[u8], b: &[u8]) -> Ordering {
    let rank = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    a.iter().map(rank).cmp(b.iter().map(rank))
}

fn parent(path: &[u8]) -> Option<&[u8]> {
    path.iter().rposition(|byte| *byte == b'/').and_then(|at| path.get(..at))
}

/// Lists a zip, or what an earlier image has of it, or both as one tree.
pub(super) fn list(
    path: &Path,
    archive: Option<&Archive>,
    restored: &[RestoredFile],
    options: &AppOptions,
) -> Result<Collector, AppError> {
    let entries = archive.map(Archive::entries).unwrap_or_default();
    let nodes = tree_of(path, archive, restored)?;
    let tree = Tree { path, archive, entries, restored, nodes: &nodes };
    let own = tree.own_patterns()?;
    let filter = filter(path, &options.exclusions, own.as_deref())?;
    let mut expansion = Expansion {
        tree: &tree,
        filter: &filter,
        symlinks: options.symlinks,
        collector: Collector::new(path, options),
        links: Vec::new(),
        followed: HashMap::new(),
        refused: RefusedLinks::default(),
    };
    expansion.expand(0, nodes.len(), b"", b"")?;
    let Expansion { collector, refused: links, .. } = expansion;
    if !links.is_empty() {
        return Err(AppError::Links { path: path.to_owned(), links, policy: options.symlinks });
    }
    Ok(collector)
}

/// Puts entries in walk order, and adds the folders that have no entry of their own.
///
/// An entry that is there twice with the same content is one file: Gradle writes `META-INF/LICENSE` once for each
/// dependency that has it.
fn tree_of<'a>(
    path: &Path,
    archive: Option<&'a Archive>,
    restored: &'a [RestoredFile],
) -> Result<Vec<Node<'a>>, AppError> {
    let entries = archive.map(Archive::entries).unwrap_or_default();
    let mut nodes: Vec<Node<'_>> = Vec::with_capacity(entries.len() + restored.len());
    let explicit = entries.iter().map(|entry| (entry.path.as_slice(), entry.kind));
    let left_out = restored.iter().map(|file| (file.resource.path.as_slice(), EntryKind::File));
    for (index, (path, kind)) in explicit.chain(left_out).enumerate() {
        nodes.push(Node { path, kind, index: Some(index) });
    }
    // Every folder above an entry; if one is known, so are those above it.
    let mut known: HashSet<&[u8]> = HashSet::new();
    for number in 0..nodes.len() {
        let mut folder = nodes.get(number).and_then(|node| parent(node.path));
        while let Some(path) = folder.filter(|path| known.insert(path)) {
            nodes.push(Node { path, kind: EntryKind::Directory, index: None });
            folder = parent(path);
        }
    }
    // Implied folders come after what is explicit.
    nodes.sort_by(|a, b| walk_order(a.path, b.path).then(a.index.is_none().cmp(&b.index.is_none())));
    let mut unique: Vec<Node<'_>> = Vec::with_capacity(nodes.len());
    for node in nodes {
        match unique.last() {
            Some(there) if there.path == node.path => {
                let folders = there.kind == EntryKind::Directory && node.kind == EntryKind::Directory;
                if folders || is_copy(path, archive, there, &node)? {
                    continue;
                }
                return Err(clash(path, entries, restored, &node));
            }
            _ => unique.push(node),
        }
    }
    Ok(unique)
}

/// Tells whether two nodes of one path are entries of the zip with the same content.
fn is_copy(path: &Path, archive: Option<&Archive>, a: &Node<'_>, b: &Node<'_>) -> Result<bool, AppError> {
    let Some(archive) = archive else { return Ok(false) };
    let entry = |node: &Node<'_>| node.index.and_then(|index| archive.entries().get(index));
    match (entry(a), entry(b)) {
        (Some(a), Some(b)) => {
            archive.is_same(a, b).map_err(|source| AppError::Zip { path: path.to_owned(), source })
        }
        _ => Ok(false),
    }
}

/// Tells why a path cannot be twice.
fn clash(path: &Path, entries: &[Entry], restored: &[RestoredFile], node: &Node<'_>) -> AppError {
    let zip = |source| AppError::Zip { path: path.to_owned(), source };
    if node.index.is_some_and(|index| index >= entries.len()) {
        return AppError::Clash { path: path.to_owned(), entry: display_name(node.path) };
    }
    if node.index.is_some() {
        return zip(ZipError::entry(node.path, EntryProblem::Duplicate));
    }
    // Something lies below a path that is a file or a link.
    let all = entries.iter().map(|entry| &entry.path).chain(restored.iter().map(|file| &file.resource.path));
    let mut all = all.map(Vec::as_slice);
    let below = all.find(|path| path.strip_prefix(node.path).is_some_and(|rest| rest.starts_with(b"/")));
    let problem = EntryProblem::BelowFile(display_name(node.path));
    zip(ZipError::entry(below.unwrap_or(node.path), problem))
}

struct Tree<'a> {
    path: &'a Path,
    archive: Option<&'a Archive>,
    entries: &'a [Entry],
    restored: &'a [RestoredFile],
    nodes: &'a [Node<'a>],
}

impl<'a> Tree<'a> {
    fn find(&self, path: &[u8]) -> Option<usize> {
        self.nodes.binary_search_by(|node| walk_order(node.path, path)).ok()
    }

    /// Returns the end of a folder's content.
    fn end_of(&self, folder: usize) -> usize {
        let Some(node) = self.nodes.get(folder) else { return folder };
        let below =
            |other: &Node<'_>| other.path.strip_prefix(node.path).is_some_and(|rest| rest.starts_with(b"/"));
        let rest = self.nodes.get(folder + 1..).unwrap_or_default();
        folder + 1 + rest.partition_point(below)
    }

    fn entry(&self, node: &Node<'_>) -> Option<&'a Entry> {
        self.entries.get(node.index?)
    }

    /// Returns a file that comes from an earlier image, with its number.
    fn restored(&self, node: &Node<'_>) -> Option<(usize, &'a RestoredFile)> {
        let index = node.index?.checked_sub(self.entries.len())?;
        Some((index, self.restored.get(index)?))
    }

    fn read(&self, node: &Node<'_>, limit: u64) -> Result<Option<Vec<u8>>, AppError> {
        let zip = |source| AppError::Zip { path: self.path.to_owned(), source };
        let (Some(entry), Some(archive)) = (self.entry(node), self.archive) else { return Ok(None) };
        archive.open_entry(entry).and_then(|reader| reader.read_whole(limit)).map_err(zip)
    }

    fn own_patterns(&self) -> Result<Option<Vec<u8>>, AppError> {
        let found = self.find(IGNORE_FILE.as_bytes()).and_then(|at| self.nodes.get(at));
        let Some(node) = found.filter(|node| self.entry(node).is_some()) else { return Ok(None) };
        if node.kind != EntryKind::File {
            return Err(not_a_file(self.path));
        }
        match self.read(node, limits::IGNORE_BYTES)? {
            Some(bytes) => Ok(Some(bytes)),
            None => Err(AppError::Ignore {
                path: self.path.to_owned(),
                problem: format!("it has more than {} bytes", limits::IGNORE_BYTES),
            }),
        }
    }

    /// Finds the file or folder that a link leads to in the end.
    fn follow(&self, link: &Node<'_>, target: &[u8]) -> Result<Result<usize, LinkProblem>, AppError> {
        if let Err(problem) = stays_inside(link.path, target) {
            return Ok(Err(problem));
        }
        let mut hops = limits::LINKS;
        let place = self.resolve(parent(link.path).unwrap_or_default(), target, &mut hops)?;
        Ok(place.and_then(|place| match (self.find(&place), place.is_empty()) {
            (Some(found), _) => Ok(found),
            (None, true) => Err(LinkProblem::Cycle),
            (None, false) => Err(LinkProblem::Dangling),
        }))
    }

    /// Resolves a target from a folder, links on the way included; the result is a path, the root is empty.
    fn resolve(
        &self,
        folder: &[u8],
        target: &[u8],
        hops: &mut usize,
    ) -> Result<Result<Vec<u8>, LinkProblem>, AppError> {
        let mut place = folder.to_vec();
        let mut open: Vec<Vec<u8>> = target.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec).collect();
        while let Some(component) = open.pop() {
            match component.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    if place.is_empty() {
                        return Ok(Err(LinkProblem::Outside));
                    }
                    place = parent(&place).unwrap_or_default().to_vec();
                    continue;
                }
                name => {
                    if !place.is_empty() {
                        place.push(b'/');
                    }
                    place.extend_from_slice(name);
                }
            }
            let Some(node) = self.find(&place).and_then(|at| self.nodes.get(at)) else {
                return Ok(Err(LinkProblem::Dangling));
            };
            match node.kind {
                EntryKind::Directory => {}
                EntryKind::File if open.iter().all(Vec::is_empty) => {}
                EntryKind::File => return Ok(Err(LinkProblem::Dangling)),
                EntryKind::Symlink => {
                    let Some(left) = hops.checked_sub(1) else { return Ok(Err(LinkProblem::Cycle)) };
                    *hops = left;
                    let next = self.read(node, limits::PATH_BYTES as u64)?.unwrap_or_default();
                    if let Err(problem) = stays_inside(node.path, &next) {
                        return Ok(Err(problem));
                    }
                    place = parent(node.path).unwrap_or_default().to_vec();
                    open.extend(next.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec));
                }
            }
        }
        Ok(Ok(place))
    }
}

/// Checks a link by its text alone, as `tree` does.
fn stays_inside(path: &[u8], target: &[u8]) -> Result<(), LinkProblem> {
    if target.starts_with(b"/") {
        return Err(LinkProblem::Absolute);
    }
    if target.is_empty() {
        return Err(LinkProblem::Dangling);
    }
    let mut depth = path.iter().filter(|byte| **byte == b'/').count();
    for component in target.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => depth = depth.checked_sub(1).ok_or(LinkProblem::Outside)?,
            _ => depth += 1,
        }
    }
    Ok(())
}

/// The tree as it is packed: filtered, links replaced by what they lead to.
struct Expansion<'a> {
    tree: &'a Tree<'a>,
    filter: &'a Filter,
    symlinks: SymlinkPolicy,
    collector: Collector,
    /// Links to the folders around the current entry; a link back to one of them would never end.
    links: Vec<&'a [u8]>,
    /// Targets of links, by number of entry: other links may lead to the same link many times.
    followed: HashMap<usize, usize>,
    /// Links that cannot be packed; the work has failed when there is one.
    refused: RefusedLinks,
}

impl<'a> Expansion<'a> {
    /// Adds nodes `from..to`, with the beginning of their paths replaced.
    fn expand(&mut self, from: usize, to: usize, real: &[u8], shown: &[u8]) -> Result<(), AppError> {
        let mut at = from;
        while at < to {
            let Some(node) = self.tree.nodes.get(at).copied() else { break };
            let path = [shown, node.path.get(real.len()..).unwrap_or_default()].concat();
            let is_folder = node.kind == EntryKind::Directory;
            if self.filter.excludes(&path, is_folder) {
                at = if is_folder { self.tree.end_of(at) } else { at + 1 };
                continue;
            }
            let linked = !shown.is_empty();
            match node.kind {
                EntryKind::Symlink => self.link(&node, &path)?,
                _ => self.add(&node, &path, linked)?,
            }
            at += 1;
        }
        Ok(())
    }

    fn add(&mut self, node: &Node<'_>, path: &[u8], linked: bool) -> Result<(), AppError> {
        if let Some((index, file)) = self.tree.restored(node) {
            let content = Content::Completed { size: file.resource.sum.size, index };
            return self.collector.add(path, file.resource.mode, content, linked);
        }
        let Some(entry) = self.tree.entry(node) else {
            return self.collector.add(path, 0o755, Content::Folder, linked);
        };
        let (content, mode) = match (node.kind, node.index, entry.mode) {
            // Some writers leave the permissions empty.
            (EntryKind::File, Some(index), Some(0)) => (Content::Zip { size: entry.size, index }, 0o644),
            (EntryKind::File, Some(index), mode) => {
                (Content::Zip { size: entry.size, index }, mode.unwrap_or(FOREIGN_MODE))
            }
            (_, _, mode) => (Content::Folder, mode.filter(|mode| *mode != 0).unwrap_or(0o755)),
        };
        self.collector.add(path, mode, content, linked)
    }

    fn link(&mut self, link: &Node<'a>, path: &[u8]) -> Result<(), AppError> {
        let tree = self.tree;
        let target_text =
            || Ok::<_, AppError>(tree.read(link, limits::PATH_BYTES as u64)?.unwrap_or_default());
        let number = link.index.unwrap_or_default();
        let found = match (self.symlinks, self.followed.get(&number)) {
            (SymlinkPolicy::Omit, _) => {
                self.collector.leave_out();
                return Ok(());
            }
            (SymlinkPolicy::Refuse, _) => {
                self.refuse(link, &target_text()?, LinkProblem::Refused);
                return Ok(());
            }
            (_, Some(found)) => *found,
            (_, None) => {
                let target = target_text()?;
                match self.tree.follow(link, &target)? {
                    Ok(found) => found,
                    Err(problem) => {
                        self.refuse(link, &target, problem);
                        return Ok(());
                    }
                }
            }
        };
        self.followed.insert(number, found);
        let Some(target) = self.tree.nodes.get(found).copied() else { return Ok(()) };
        if target.kind != EntryKind::Directory {
            return self.add(&target, path, true);
        }
        if self.filter.excludes(path, true) {
            return Ok(());
        }
        let inside = |link: &&[u8]| link.strip_prefix(target.path).is_some_and(|rest| rest.starts_with(b"/"));
        // Folders reached through several links have a limit on depth, as paths have one on length.
        let is_cycle =
            inside(&link.path) || self.links.iter().any(inside) || self.links.len() >= limits::LINKS;
        if is_cycle {
            self.refuse(link, &target_text()?, LinkProblem::Cycle);
            return Ok(());
        }
        // What is in it is seen where it really is.
        if !self.refused.is_empty() {
            return Ok(());
        }
        self.links.push(link.path);
        self.add(&target, path, true)?;
        self.expand(found + 1, self.tree.end_of(found), target.path, path)?;
        self.links.pop();
        Ok(())
    }

    fn refuse(&mut self, link: &Node<'_>, target: &[u8], problem: LinkProblem) {
        self.refused.add(display_name(link.path), display_name(target), problem);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_stays_inside_by_its_text_or_the_reason_is_known() {
        for (path, target, expected) in [
            ("link", "a", Ok(())),
            ("link", "a/..", Ok(())),
            ("d/link", "..", Ok(())),
            ("d/link", "../a", Ok(())),
            ("a/b/link", "../../c", Ok(())),
            ("a/b/link", ".././/..", Ok(())),
            ("link", "..", Err(LinkProblem::Outside)),
            ("link", "./../a", Err(LinkProblem::Outside)),
            ("link", "a//../..", Err(LinkProblem::Outside)),
            ("d/link", "../../a", Err(LinkProblem::Outside)),
            ("long-name/link", "../../long-name/a", Err(LinkProblem::Outside)),
            ("a/b/link", "../../../a", Err(LinkProblem::Outside)),
            ("link", "/a", Err(LinkProblem::Absolute)),
            ("link", "", Err(LinkProblem::Dangling)),
        ] {
            assert_eq!(stays_inside(path.as_bytes(), target.as_bytes()), expected, "{path} -> {target}");
        }
    }

    #[test]
    fn a_path_has_the_folder_before_its_last_name_as_parent() {
        for (path, expected) in
            [("a", None), ("a/b", Some("a")), ("a/b/c", Some("a/b")), ("/a", Some("")), ("", None)]
        {
            assert_eq!(parent(path.as_bytes()), expected.map(str::as_bytes), "{path}");
        }
    }

    #[test]
    fn a_folders_content_comes_right_after_it_and_ends_before_its_neighbours() {
        let node = |(index, path): (usize, &'static str)| Node {
            path: path.as_bytes(),
            kind: if path.len() == 1 { EntryKind::Directory } else { EntryKind::File },
            index: Some(index),
        };
        let paths = ["b", "b/c", "b/d/e", "b-", "b.txt", "c", "c/x"];
        let nodes: Vec<Node<'_>> = paths.into_iter().enumerate().map(node).collect();
        assert!(nodes.is_sorted_by(|a, b| walk_order(a.path, b.path) == Ordering::Less));
        let tree = Tree { path: Path::new(""), archive: None, entries: &[], restored: &[], nodes: &nodes };
        for (at, path) in paths.into_iter().enumerate() {
            assert_eq!(tree.find(path.as_bytes()), Some(at), "{path}");
        }
        assert_eq!(tree.find(b"b/"), None);
        assert_eq!([0, 1, 3, 5, 6, 7].map(|folder| tree.end_of(folder)), [3, 2, 4, 7, 7, 7]);
    }
}

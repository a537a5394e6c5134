//! Layers: nothing outside the folder changes when they are extracted, and what they have is a tree.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use imgrelay::tar::{Extractor, FileTree, Node, NodeKind, Ownership, Policy, Reader, StrayLinks};
use testkit::scratch::Scratch;

use super::recipe::{layers, sealed};

thread_local! {
    static PLACE: Scratch = {
        let place = Scratch::new("fuzz-extract");
        place.write("outside/victim", "safe");
        place.write("outside/dir/inner", "safe");
        place
    };
}

const OUTSIDE: [&str; 4] = ["outside", "outside/victim", "outside/dir", "outside/dir/inner"];

/// Everything about a place that an extraction could change.
fn state(place: &Path) -> Vec<(u32, u32, u64, i64, i64, usize)> {
    let one = |path: &str| {
        let path = place.join(path);
        let meta = std::fs::symlink_metadata(&path).expect("it is still there");
        let count = std::fs::read_dir(&path).map_or(0, Iterator::count);
        (meta.mode(), meta.uid(), meta.nlink(), meta.ctime(), meta.ctime_nsec(), count)
    };
    OUTSIDE.iter().map(|path| one(path)).collect()
}

fn clear(root: &Path) {
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let _ = std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o755));
        let inner = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        folders.extend(inner.filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()));
    }
    let _ = std::fs::remove_dir_all(root);
}

pub(super) fn extract(data: &[u8]) {
    let Some((how, rest)) = data.split_first() else { return };
    PLACE.with(|place| {
        let root = place.join("root");
        clear(&root);
        std::fs::create_dir(&root).expect("the folder was cleared");
        let absolute = place.join("outside");
        let layers = match how & 0x80 {
            0 => layers(rest, absolute.as_os_str().as_bytes()),
            _ => vec![sealed(rest)],
        };
        let policy = match how % 3 {
            0 => Policy::contents(0o022),
            1 => Policy { stray_links: StrayLinks::Skip, ..Policy::contents(0o077) },
            _ if rustix::process::geteuid().is_root() => Policy::rootfs(Ownership::Apply),
            _ => Policy::rootfs(Ownership::Ignore),
        };
        let before = state(place.path());
        let mut extractor = Extractor::new(OwnedFd::from(File::open(&root).unwrap()), policy);
        let done = layers.iter().try_for_each(|layer| extractor.layer(&layer[..], &mut |_| {}));
        let done = done.and_then(|()| extractor.finish().map(drop));
        assert_eq!(state(place.path()), before);
        assert_eq!(std::fs::read(place.join("outside/victim")).unwrap(), b"safe");
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 2, "something lies beside the folder");
        match done {
            Ok(()) if how % 3 != 2 => no_way_out(&root),
            Ok(()) => {}
            Err(error) => {
                let text = error.to_string();
                assert!(!text.chars().any(char::is_control), "{text:?}");
            }
        }
    });
}

/// The tree that `ls` and `diff` make of layers: every path leads where it says, for all layers.
pub(super) fn file_tree(data: &[u8]) {
    let Some((how, rest)) = data.split_first() else { return };
    let layers = match how & 0x80 {
        0 => layers(rest, b"/outside"),
        _ => vec![sealed(rest)],
    };
    let mut tree = FileTree::default();
    for (number, layer) in (0..).zip(&layers) {
        let (mut reader, mut entries) = (Reader::new(&layer[..]), Vec::new());
        while let Ok(Some(entry)) = reader.next_entry() {
            let node = Arc::new(Node::of(&entry, number));
            entries.push((entry.path, node));
        }
        let lower = tree.clone();
        tree.apply(&entries);
        is_a_tree(&tree);
        // What is at hand already is not changed by what is laid over it.
        is_a_tree(&lower);
    }
}

fn is_a_tree(tree: &FileTree) {
    assert_eq!(tree.iter().count(), tree.len());
    for (path, node) in tree.iter() {
        assert!(!path.is_empty());
        let mut above: &[u8] = b"";
        for part in path.split(|byte| *byte == b'/') {
            assert!(!part.is_empty() && part != b"." && part != b"..", "{path:?}");
            assert!(tree.is_directory(above), "{path:?} is below what is no folder");
            above = &path[..above.len() + usize::from(!above.is_empty()) + part.len()];
        }
        assert_eq!(tree.place(path).as_deref(), Ok(path), "nothing on the way is a link");
        assert_eq!(tree.get(path), Some(&**node));
        // A folder of such a name may be implied by what is below it.
        let is_whiteout =
            path.rsplit(|byte| *byte == b'/').next().is_some_and(|name| name.starts_with(b".wh."));
        assert!(!is_whiteout || node.kind == NodeKind::Directory, "{path:?} is a whiteout");
        if let Ok(end) = tree.follow(path) {
            assert!(!matches!(tree.get(&end).map(|node| &node.kind), Some(NodeKind::Link(_))), "{end:?}");
        }
    }
}

/// Fails if a link in an extracted tree leads to something outside, or a mode bit gives the rights of another user.
fn no_way_out(root: &Path) {
    let real = root.canonicalize().unwrap();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if let Ok(end) = path.canonicalize() {
                assert!(end.starts_with(&real), "{} leads to {}", path.display(), end.display());
            }
            let meta = std::fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                folders.push(path);
            } else if meta.is_file() {
                assert_eq!(meta.mode() & 0o7000, 0, "{}", path.display());
            }
        }
    }
}

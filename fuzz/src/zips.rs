//! Zip archives: what is listed lies inside the file, is a path below a folder, and reads the same every time.

use std::collections::BTreeSet;

use imgrelay::pack::{AppOptions, AppTree, EntryRules, ModeRule, PackError};
use imgrelay::tree::SymlinkPolicy;
use imgrelay::zip::{Archive, Entry, EntryKind};

use super::archives::memory;

/// Most bytes that are unpacked of one entry.
const ENOUGH: u64 = 1024 * 1024;

/// An archive that is the input.
pub(super) fn zip_read(data: &[u8]) {
    let (file, path) = memory(data);
    let archive = match Archive::open(file.try_clone().unwrap()) {
        Ok(archive) => archive,
        Err(error) => return drop(error.to_string()),
    };
    // A directory entry has 46 bytes at least.
    assert!(archive.entries().len() * 46 <= data.len());
    for entry in archive.entries() {
        plain_path(&entry.path);
        assert!(entry.mode.is_none_or(|mode| mode <= 0o7777), "{entry:?}");
        assert_eq!(read(&archive, entry, 4096), read(&archive, entry, 7), "{entry:?}");
    }
    list(&path, data.len());
}

fn plain_path(path: &[u8]) {
    assert!(!path.is_empty() && !path.starts_with(b"/") && !path.contains(&0), "{path:?}");
    for part in path.split(|byte| *byte == b'/') {
        assert!(!matches!(part, b"" | b"." | b".."), "{path:?}");
    }
}

/// Reads an entry in steps; `None` if it is refused.
fn read(archive: &Archive, entry: &Entry, step: usize) -> Option<Vec<u8>> {
    if entry.size > ENOUGH {
        return None;
    }
    let mut reader = archive.open_entry(entry).ok()?;
    let (mut content, mut buffer) = (Vec::new(), vec![0; step]);
    loop {
        match reader.read(&mut buffer).ok()? {
            0 => break,
            count => content.extend_from_slice(&buffer[..count]),
        }
        assert!(content.len() as u64 <= entry.size, "{entry:?}");
    }
    reader.finish().ok()?;
    assert_eq!(content.len() as u64, entry.size, "{entry:?}");
    assert!(entry.kind != EntryKind::Directory || content.is_empty(), "{entry:?}");
    Some(content)
}

/// What becomes of it as an app: each path once, none below a file.
fn list(path: &std::path::Path, length: usize) {
    for symlinks in [SymlinkPolicy::Copy, SymlinkPolicy::Refuse] {
        let options = AppOptions {
            exclusions: Vec::new(),
            symlinks,
            size_limit: 64 * 1024 * 1024,
            preserve_permissions: false,
            rules: EntryRules { mtime: 1, modes: ModeRule::Owner },
            skip: None,
        };
        let tree: Result<AppTree, PackError> = AppTree::list(path, &options);
        let Ok(tree) = tree else { continue };
        let mut seen = BTreeSet::new();
        for entry in tree.entries() {
            plain_path(&entry.path);
            assert!(entry.mode & !0o777 == 0, "{entry:?}");
            assert!(seen.insert(entry.path.clone()), "{entry:?} is there twice");
            let above = entry.path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
            for (at, _) in above {
                assert!(!seen.contains(&entry.path[..at]), "{entry:?} is below a file");
            }
        }
        // Followed links may repeat entries, and that is bounded by what the walk allows; nothing else may.
        if symlinks == SymlinkPolicy::Refuse {
            assert!(tree.entries().len() * 46 <= length, "{}", tree.entries().len());
        }
    }
}

//! Which entries a base has: the lists of its layers, read in one go and not unpacked.

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::sync::Mutex;

use crate::model::{Descriptor, limits};
use crate::pack::{FileTree, Node, NodeKind};
use crate::stream::{Blocks, Decoder, into_value, lock, read_ahead};
use crate::tar::header::Owner;
use crate::tar::{EntryKind, Reader};
use crate::transfer::{ImageSource, TransferError, workers};

/// Files of a base whose content is wanted to look up names.
pub(super) const ACCOUNTS: &[&[u8]] = &[PASSWD, GROUP];
/// Users by name.
pub(super) const PASSWD: &[u8] = b"etc/passwd";
/// Groups by name.
pub(super) const GROUP: &[u8] = b"etc/group";

/// What a base has.
#[derive(Clone, Debug, Default)]
pub(super) struct BaseFiles {
    /// Its entries.
    pub(super) tree: FileTree,
    /// The content of the files that list users and groups.
    pub(super) accounts: HashMap<Vec<u8>, Vec<u8>>,
}

/// The entries of one layer, in its order, and the wanted files among them.
#[derive(Default)]
struct LayerEntries {
    entries: Vec<(Vec<u8>, Node)>,
    accounts: HashMap<Vec<u8>, Vec<u8>>,
}

/// Reads the entries of layers, lowest first, and lays them over one another; also the content of `wanted` files.
///
/// Errors: those of reading; more than [`limits::ARCHIVE_ENTRIES`] entries in all.
/// Cost: reads and inflates every layer once; memory grows with the number of entries.
pub(super) fn read_files(
    source: &dyn ImageSource,
    layers: &[Descriptor],
    wanted: &[&[u8]],
    concurrency: usize,
) -> Result<BaseFiles, TransferError> {
    let numbered: Vec<(usize, &Descriptor)> = layers.iter().enumerate().collect();
    let found: Mutex<HashMap<usize, LayerEntries>> = Mutex::default();
    let count = Mutex::new(0_usize);
    workers::for_each(&numbered, concurrency, |(number, layer)| {
        let entries = read_layer(source, layer, wanted, &count)?;
        lock(&found).insert(*number, entries);
        Ok(())
    })?;
    let mut found = into_value(found);
    let mut files = BaseFiles::default();
    for number in 0..layers.len() {
        let LayerEntries { entries, accounts } = found.remove(&number).unwrap_or_default();
        files.tree.apply(entries);
        files.accounts.extend(accounts);
    }
    files.accounts.retain(|path, _| files.tree.get(path).is_some());
    Ok(files)
}

fn read_layer(
    source: &dyn ImageSource,
    layer: &Descriptor,
    wanted: &[&[u8]],
    count: &Mutex<usize>,
) -> Result<LayerEntries, TransferError> {
    let what = format!("layer `{}`", layer.digest);
    let broken = |error| TransferError::from_read(&source.place_of(&layer.digest), &what, error);
    let tar = |error: crate::tar::TarError| match error.into_io() {
        Ok(error) => broken(error),
        Err(source) => TransferError::Tar { layer: layer.digest.clone(), source },
    };
    let mut found = LayerEntries::default();
    let stored = source.open_blob(layer)?;
    std::thread::scope(|scope| {
        let mut stored = read_ahead(scope, stored, Blocks::Large).map_err(broken)?;
        {
            let mut reader = Reader::new(Decoder::new(Box::new(&mut stored)).map_err(broken)?);
            while let Some(entry) = reader.next_entry().map_err(tar)? {
                check_count(source, count)?;
                let wanted = wanted.iter().find(|path| is_path(&entry.path, path));
                if let Some(path) = wanted.filter(|_| entry.kind == EntryKind::File) {
                    let mut content = Vec::new();
                    let limit = limits::ACCOUNTS_BYTES;
                    (&mut reader).take(limit.saturating_add(1)).read_to_end(&mut content).map_err(broken)?;
                    if content.len() as u64 > limit {
                        let subject = format!("`/{}` in {what}", String::from_utf8_lossy(path));
                        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                        return Err(TransferError::TooMany { subject, what: "bytes", limit });
                    }
                    found.accounts.insert(path.to_vec(), content);
                }
                found.entries.push((entry.path.clone(), node(&entry)));
            }
        }
        // Only the whole layer proves its digest.
        io::copy(&mut stored, &mut io::sink()).map(drop).map_err(broken)
    })?;
    Ok(found)
}

fn check_count(source: &dyn ImageSource, count: &Mutex<usize>) -> Result<(), TransferError> {
    let mut count = lock(count);
    *count += 1;
    if *count > limits::ARCHIVE_ENTRIES {
        let (subject, limit) = (format!("`{}`", source.label()), limits::ARCHIVE_ENTRIES);
        return Err(TransferError::TooMany { subject, what: "files and folders", limit });
    }
    Ok(())
}

/// Tells whether a stored path is this one, as tools write it.
fn is_path(stored: &[u8], path: &[u8]) -> bool {
    let stored = stored.strip_prefix(b"./").or(stored.strip_prefix(b"/")).unwrap_or(stored);
    stored == path
}

fn node(entry: &crate::tar::Entry) -> Node {
    let kind = match entry.kind {
        EntryKind::Directory => NodeKind::Directory,
        EntryKind::File | EntryKind::HardLink => NodeKind::File,
        EntryKind::Symlink => NodeKind::Link(entry.link.clone()),
        EntryKind::CharacterDevice | EntryKind::BlockDevice | EntryKind::Fifo => NodeKind::Special,
    };
    let id = |id: u64| u32::try_from(id).unwrap_or(u32::MAX);
    Node { kind, mode: entry.mode, owner: Owner { uid: id(entry.uid), gid: id(entry.gid) } }
}

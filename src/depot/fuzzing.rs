//! Functions that give the fuzz targets access to private parsers; not part of the interface.

use super::marks::Marks;
use super::read::read_entry;
use super::version::Version;

/// Reads a key below `tags/` and its entry; returns the key again, and how many images the entry lists or what is said
/// about it. `None` for a key of another object.
#[must_use]
pub fn entry(key: &str, bytes: &[u8]) -> Option<(String, Result<usize, String>)> {
    let version = Version::of_key(key)?;
    let read = read_entry("store", &version, bytes.to_vec());
    let listed = read.map(|entry| entry.index().map_or(0, |index| index.manifests.len()));
    Some((version.key(), listed.map_err(|error| error.to_string())))
}

/// Reads names below `gc/`, a line each; returns how many of them are marks.
#[must_use]
pub fn marks(names: &str) -> usize {
    let mut marks = Marks::default();
    names.lines().for_each(|name| marks.add(name));
    marks.lists.len() + marks.kept.len() + marks.started.len()
}

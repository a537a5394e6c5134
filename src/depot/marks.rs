//! What is below `gc/` while something is to be deleted: lists, the objections of writers, and who deletes now.
//!
//! Source: docs/formats/store.md, "Deleting".

use std::collections::HashSet;
use std::ops::ControlFlow;

use crate::model::{Digest, limits};

use super::version::PushTime;
use super::{Depot, DepotError};

/// Folder of the marks.
const FOLDER: &str = "gc";
/// Digests in one list; what is unused beyond it comes into a later one.
pub(super) const LISTED: usize = 100_000;

/// A list of blobs that nothing referred to when it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct List {
    pub(super) id: String,
    pub(super) written: PushTime,
}

/// A collection that deletes what a list has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Started {
    pub(super) name: String,
    pub(super) since: PushTime,
}

/// All marks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) lists: Vec<List>,
    /// The list's id, and what is not to be deleted.
    pub(super) kept: Vec<(String, Digest)>,
    pub(super) started: Vec<Started>,
}

impl Marks {
    /// Adds the mark with this name; others are passed over.
    pub(super) fn add(&mut self, name: &str) {
        let Some((id, kind)) = name.split_once('.') else { return };
        let Some(written) = id.split_once('-').and_then(|(time, _)| PushTime::of_counted_down(time)) else {
            return;
        };
        if kind == "list" {
            self.lists.push(List { id: id.to_owned(), written });
        } else if let Some(digest) = kind.strip_prefix("keep-") {
            let digest = digest.split_once('-').and_then(|(name, hex)| format!("{name}:{hex}").parse().ok());
            self.kept.extend(digest.map(|digest| (id.to_owned(), digest)));
        } else if let Some(began) = kind.strip_prefix("started-") {
            let since = began.split_once('-').and_then(|(time, _)| PushTime::of_counted_down(time));
            self.started.extend(since.map(|since| Started { name: name.to_owned(), since }));
        }
    }
}

/// Makes the first part of a new mark's name: the time, and a random number in case two are written at once.
pub(super) fn new_id(now: PushTime) -> String {
    let mut bytes = [0; 8];
    // Without random bytes, two marks of the same millisecond replace each other, which are equal lists at worst.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    format!("{}-{:016x}", now.counted_down(), u64::from_ne_bytes(bytes))
}

pub(super) fn list_key(id: &str) -> String {
    format!("{FOLDER}/{id}.list")
}

pub(super) fn keep_key(id: &str, digest: &Digest) -> String {
    format!("{FOLDER}/{id}.keep-{}-{}", digest.algorithm().name(), digest.hex())
}

pub(super) fn started_key(id: &str, now: PushTime) -> String {
    format!("{FOLDER}/{id}.started-{}", new_id(now))
}

/// Returns the key of a mark by its name.
pub(super) fn key_of(name: &str) -> String {
    format!("{FOLDER}/{name}")
}

impl Depot {
    /// Lists all marks; usually there are none.
    pub(super) fn marks(&self) -> Result<Marks, DepotError> {
        let mut marks = Marks::default();
        self.objects.list(FOLDER, limits::LIST_ENTRIES, &mut |name| {
            marks.add(name);
            ControlFlow::Continue(())
        })?;
        Ok(marks)
    }

    /// Reads a list; `None` if it was deleted meanwhile. Lines that are no digests are passed over.
    pub(super) fn listed(&self, id: &str) -> Result<Option<HashSet<Digest>>, DepotError> {
        let Some(bytes) = self.objects.read(&list_key(id), limits::GC_LIST_BYTES)? else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes);
        Ok(Some(text.lines().filter_map(|line| line.parse().ok()).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_from_their_names() {
        let (now, digest) = (PushTime::of_milliseconds(1_764_423_047_582), Digest::sha256_of(b"x"));
        let id = new_id(now);
        let mut marks = Marks::default();
        for key in [list_key(&id), keep_key(&id, &digest), started_key(&id, now.next())] {
            marks.add(key.strip_prefix("gc/").unwrap());
        }
        assert_eq!(marks.lists, [List { id: id.clone(), written: now }]);
        assert_eq!(marks.kept, [(id.clone(), digest)]);
        assert_eq!((marks.started.len(), marks.started[0].since), (1, now.next()));
        assert!(id.starts_with("8235576952417-") && id.len() == 13 + 1 + 16, "{id}");
        for other in
            ["", "x", "x.list", "823557695241-1.list", "8235576952417-1.keep-md5-1", "8235576952417-1.x"]
        {
            let before = marks.clone();
            marks.add(other);
            assert_eq!(marks, before, "{other}");
        }
    }
}

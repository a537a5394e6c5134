//! Deletes what is no longer used: old entries, and blobs that nothing refers to.
//!
//! Blobs go in two phases. A first run lists what is unused; a later run, after the grace period, deletes what of that list is
//! still unused and what no writer objected to. Why that is safe beside writers: docs/formats/store.md, "Deleting".

use std::collections::HashSet;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::thread;
use std::time::Duration;

use crate::model::{Digest, Tag, limits};
use crate::stream::cancel;

use super::DepotError;
use super::marks::{LISTED, List, Marks, keep_key, key_of, list_key, new_id, started_key};
use super::reach::Known;
use super::read::{Depot, blob_key};
use super::version::{PushTime, Version};

/// Shortest grace: twice as long as a push may take between its first look and its entries.
pub const SHORTEST_GRACE: Duration = Duration::from_secs(2 * 60 * 60);

/// What is to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectRequest {
    /// The tags whose old versions are removed; all if none is named.
    pub tags: Vec<Tag>,
    /// How many of the newest versions of each tag stay in any case; the newest one always does.
    pub keep: Option<usize>,
    /// How long a version stays in any case.
    pub keep_for: Option<Duration>,
    /// How long an unused blob stays.
    pub grace: Duration,
    /// Nothing is changed.
    pub dry_run: bool,
}

/// What was deleted, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CollectReport {
    /// The versions that are removed.
    pub versions: Vec<Version>,
    /// How many blobs are deleted.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Unused blobs that wait until the grace is over.
    pub waiting: u64,
    /// Another collection is deleting, so that this one left the blobs alone.
    pub is_busy: bool,
}

impl Depot {
    /// Removes old versions, deletes blobs that were unused for the whole grace, and lists those that are unused now.
    ///
    /// Errors: nothing is deleted after an entry or document could not be read.
    /// Cost: reads each entry and document once, lists all blobs.
    pub fn collect(&self, request: &CollectRequest) -> Result<CollectReport, DepotError> {
        let now = self.objects.now()?;
        let versions = self.versions()?;
        let mut collected =
            CollectReport { versions: old_versions(&versions, request, now), ..CollectReport::default() };
        if versions.is_empty() {
            // Only `index.json` says what is in a layout of another tool.
            return Ok(collected);
        }
        if !request.dry_run {
            for version in &collected.versions {
                self.objects.delete(&version.key())?;
            }
        }
        let marks = self.marks()?;
        let (live, dead) = self.sweepers(&marks, self.objects.now()?);
        if live {
            collected.is_busy = true;
            return Ok(collected);
        }
        let mut known = Known::new();
        if request.dry_run {
            return self.preview(request, &marks, &mut known, collected);
        }
        for name in dead {
            self.objects.delete(&key_of(&name))?;
        }
        for list in marks.lists.iter().filter(|list| list.written.age(now) >= request.grace) {
            self.sweep(list, &mut known, &mut collected)?;
        }
        self.list_unused(&mut known, &mut collected)?;
        Ok(collected)
    }

    /// Tells whether a collection is deleting, and returns the marks of those that ended without removing theirs.
    fn sweepers(&self, marks: &Marks, now: PushTime) -> (bool, Vec<String>) {
        let is_live = |since: PushTime| since.age(now) < self.timing.started;
        let live = marks.started.iter().any(|started| is_live(started.since));
        let dead = marks.started.iter().filter(|started| !is_live(started.since));
        (live, dead.map(|started| started.name.clone()).collect())
    }

    /// Counts what would be deleted.
    fn preview(
        &self,
        request: &CollectRequest,
        marks: &Marks,
        known: &mut Known,
        mut collected: CollectReport,
    ) -> Result<CollectReport, DepotError> {
        let (now, reachable) = (self.objects.now()?, self.reachable(known, &collected.versions)?);
        let mut due = HashSet::new();
        for list in marks.lists.iter().filter(|list| list.written.age(now) >= request.grace) {
            due.extend(self.listed(&list.id)?.unwrap_or_default());
        }
        let kept: HashSet<&Digest> = marks.kept.iter().map(|(_, digest)| digest).collect();
        for digest in self.digests()?.iter().filter(|digest| !reachable.contains(digest)) {
            match due.contains(digest) && !kept.contains(digest) {
                true => {
                    collected.blobs += 1;
                    collected.bytes += self.objects.size(&blob_key(digest))?.unwrap_or(0);
                }
                false => collected.waiting += 1,
            }
        }
        Ok(collected)
    }

    /// Deletes what a list has and nothing refers to.
    fn sweep(&self, list: &List, known: &mut Known, collected: &mut CollectReport) -> Result<(), DepotError> {
        let began = self.objects.now()?;
        let started = started_key(&list.id, began);
        self.objects.write(&started, &[])?;
        let swept = self.sweep_as(&started, began, list, known, collected);
        let removed = self.objects.delete(&started);
        swept.and(removed)
    }

    fn sweep_as(
        &self,
        started: &str,
        began: PushTime,
        list: &List,
        known: &mut Known,
        collected: &mut CollectReport,
    ) -> Result<(), DepotError> {
        // Only what was written before may be behind in a list; from here on writers see the mark, and wait.
        self.wait(self.objects.delay())?;
        let marks = self.marks()?;
        if marks.started.iter().any(|other| key_of(&other.name) != started) {
            collected.is_busy = true;
            return Ok(());
        }
        let Some(listed) = self.listed(&list.id)? else { return Ok(()) };
        let kept = marks.kept.iter().filter(|(id, _)| *id == list.id).map(|(_, digest)| digest);
        let kept: HashSet<&Digest> = kept.collect();
        let reachable = self.reachable(known, &[])?;
        for digest in listed.iter().filter(|digest| !reachable.contains(*digest) && !kept.contains(digest)) {
            self.wait(Duration::ZERO)?;
            // The rest is for the next run: writers wait for this one no longer than that.
            if began.age(self.objects.now()?) > self.timing.sweep {
                return Ok(());
            }
            let key = blob_key(digest);
            if let Some(size) = self.objects.size(&key)? {
                self.objects.delete(&key)?;
                collected.blobs += 1;
                collected.bytes += size;
            }
        }
        self.objects.delete(&list_key(&list.id))?;
        for digest in kept {
            self.objects.delete(&keep_key(&list.id, digest))?;
        }
        Ok(())
    }

    /// Lists what is unused and in no list yet; tidies objections to lists that are gone.
    fn list_unused(&self, known: &mut Known, collected: &mut CollectReport) -> Result<(), DepotError> {
        let blobs = self.digests()?;
        let reachable = self.reachable(known, &[])?;
        let marks = self.marks()?;
        let mut listed = HashSet::new();
        for list in &marks.lists {
            listed.extend(self.listed(&list.id)?.unwrap_or_default());
        }
        for (id, digest) in marks.kept.iter().filter(|(id, _)| marks.lists.iter().all(|list| list.id != *id))
        {
            self.objects.delete(&keep_key(id, digest))?;
        }
        let unused: Vec<&Digest> = blobs.iter().filter(|digest| !reachable.contains(digest)).collect();
        collected.waiting = unused.len() as u64;
        let mut text = String::new();
        for digest in unused.into_iter().filter(|digest| !listed.contains(*digest)).take(LISTED) {
            writeln!(text, "{digest}").expect("writing to a String cannot fail");
        }
        if text.is_empty() {
            return Ok(());
        }
        self.objects.write(&list_key(&new_id(self.objects.now()?)), text.as_bytes())
    }

    /// Lists all blobs; other names are passed over.
    fn digests(&self) -> Result<Vec<Digest>, DepotError> {
        let mut blobs = Vec::new();
        self.objects.list("blobs", limits::LIST_ENTRIES, &mut |name| {
            let digest = name.split_once('/').and_then(|(name, hex)| format!("{name}:{hex}").parse().ok());
            blobs.extend(digest);
            ControlFlow::Continue(())
        })?;
        Ok(blobs)
    }

    fn wait(&self, time: Duration) -> Result<(), DepotError> {
        let mut left = time;
        loop {
            if cancel::is_cancelled() {
                return Err(DepotError::Cancelled);
            }
            if left.is_zero() {
                return Ok(());
            }
            let step = left.min(self.timing.pause);
            thread::sleep(step);
            left -= step;
        }
    }
}

/// Returns the versions that need not stay; `all` has those of a tag together, the newest first.
fn old_versions(all: &[Version], request: &CollectRequest, now: PushTime) -> Vec<Version> {
    if request.keep.is_none() && request.keep_for.is_none() {
        return Vec::new();
    }
    let keep = request.keep.unwrap_or(0).max(1);
    let mut old = Vec::new();
    for of_tag in all.chunk_by(|one, other| one.tag == other.tag) {
        let is_meant = |tag: &Tag| request.tags.is_empty() || request.tags.contains(tag);
        let beyond = of_tag.iter().skip(keep).filter(|version| is_meant(&version.tag));
        let is_young =
            |version: &&Version| request.keep_for.is_some_and(|time| version.pushed.age(now) < time);
        old.extend(beyond.filter(|version| !is_young(version)).cloned());
    }
    old
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_old_if_it_is_beyond_the_number_and_older_than_the_time() {
        let version = |tag: &str, age: u64| Version {
            tag: tag.parse().unwrap(),
            digest: Digest::sha256_of(b""),
            pushed: PushTime::of_milliseconds(100_000 - age * 1000),
        };
        let all = [version("a", 0), version("a", 5), version("a", 10), version("b", 50), version("b", 60)];
        let old = |tags: &[&str], keep, keep_for: Option<u64>| {
            let request = CollectRequest {
                tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
                keep,
                keep_for: keep_for.map(Duration::from_secs),
                grace: SHORTEST_GRACE,
                dry_run: false,
            };
            let old = old_versions(&all, &request, PushTime::of_milliseconds(100_000));
            old.iter()
                .map(|version| all.iter().position(|other| other == version).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(old(&[], None, None), [0; 0]);
        assert_eq!(old(&[], Some(1), None), [1, 2, 4]);
        assert_eq!(old(&[], Some(0), None), [1, 2, 4], "the newest version of a tag stays");
        assert_eq!(old(&[], Some(2), None), [2]);
        assert_eq!(old(&["b"], Some(1), None), [4]);
        assert_eq!(old(&[], None, Some(10)), [2, 4]);
        assert_eq!(old(&[], None, Some(11)), [4]);
        assert_eq!(old(&[], Some(2), Some(1)), [2], "both have to say that it is old");
    }
}

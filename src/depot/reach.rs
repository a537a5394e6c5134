//! Which blobs are in use: everything that an entry refers to, and what those documents refer to.

use std::collections::{HashMap, HashSet};
use std::num::NonZero;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::model::{Descriptor, Digest, RawDocument, limits, media_type};
use crate::store::StoreError;
use crate::stream::{cancel, into_value, lock};

use super::DepotError;
use super::read::{Depot, INDEX_FILE, blob_key, entries_of};
use super::version::{FOLDER, Version};

/// Documents that are read at the same time.
const AT_ONCE: NonZero<usize> = NonZero::new(8).unwrap();

/// What documents refer to, kept from one look to the next: a document never changes.
pub(super) type Known = HashMap<Digest, Vec<Descriptor>>;

impl Depot {
    /// Returns the versions of all tags, the newest of each tag first.
    pub(super) fn versions(&self) -> Result<Vec<Version>, DepotError> {
        let mut versions = Vec::new();
        self.objects.list(FOLDER, limits::LIST_ENTRIES, &mut |key| {
            versions.extend(Version::of_key(key));
            ControlFlow::Continue(())
        })?;
        Ok(versions)
    }

    /// Returns the digests of everything that is in use; `without` are versions that are about to be removed.
    ///
    /// Errors: an entry or document that cannot be read, because what it refers to is not known then. One that is not
    /// there refers to nothing.
    pub(super) fn reachable(
        &self,
        known: &mut Known,
        without: &[Version],
    ) -> Result<HashSet<Digest>, DepotError> {
        let mut versions = self.versions()?;
        versions.retain(|version| !without.contains(version));
        let entries = in_parallel(&versions, |version| self.entry(version))?;
        let mut next: Vec<Descriptor> = entries.iter().flatten().flat_map(entries_of).collect();
        // Another tool may have added images here only.
        if let Some(index) = self.objects.read(INDEX_FILE, limits::TABLE_OF_CONTENTS_BYTES)?
            && let Ok(index) = RawDocument::parse(index, Some(media_type::OCI_INDEX))
        {
            next.extend(entries_of(&index));
        }
        let mut reachable = HashSet::new();
        for _ in 0..=limits::NESTING {
            next.retain(|descriptor| reachable.insert(descriptor.digest.clone()));
            next.retain(|descriptor| descriptor.is_index() || descriptor.is_manifest());
            if next.is_empty() {
                break;
            }
            let new: Vec<_> = next.iter().filter(|found| !known.contains_key(&found.digest)).collect();
            let read = in_parallel(&new, |descriptor| self.children(descriptor))?;
            let digests = new.iter().map(|descriptor| descriptor.digest.clone());
            known.extend(digests.zip(read).collect::<Vec<_>>());
            next = next.iter().filter_map(|found| known.get(&found.digest)).flatten().cloned().collect();
        }
        Ok(reachable)
    }

    /// Reads what a document refers to.
    fn children(&self, descriptor: &Descriptor) -> Result<Vec<Descriptor>, DepotError> {
        let key = blob_key(&descriptor.digest);
        let Some(bytes) = self.objects.read(&key, limits::DOCUMENT_BYTES)? else { return Ok(Vec::new()) };
        let damaged = |problem: String| {
            DepotError::from(StoreError::Damaged {
                path: self.label().into(),
                problem: format!("`{key}` {problem}"),
            })
        };
        if !descriptor.digest.matches(&bytes) {
            return Err(damaged("has another digest".to_owned()));
        }
        let document = RawDocument::parse(bytes, Some(&descriptor.media_type))
            .map_err(|error| damaged(format!("is not valid: {error}")))?;
        Ok(document.document().children().into_iter().cloned().collect())
    }
}

/// Does the same for each item, several at a time; the results are in the order of the items.
fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<R, DepotError> + Sync,
) -> Result<Vec<R>, DepotError> {
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let failed: Mutex<Option<DepotError>> = Mutex::new(None);
    let run = || {
        while let Some((number, item)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|number| Some((number, items.get(number)?)))
        {
            let done = if cancel::is_cancelled() { Err(DepotError::Cancelled) } else { work(item) };
            match done {
                Ok(result) => lock(&results).push((number, result)),
                Err(error) => {
                    next.store(items.len(), Ordering::Relaxed);
                    *lock(&failed) = Some(error);
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..AT_ONCE.get().min(items.len()) {
            // With fewer threads it only takes longer.
            let _ = thread::Builder::new().spawn_scoped(scope, run);
        }
        run();
    });
    if let Some(error) = into_value(failed) {
        return Err(error);
    }
    let mut results = into_value(results);
    results.sort_unstable_by_key(|(number, _)| *number);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

//! Checks a whole store: the digest, size and `diff_id` of everything reachable; one run reports all problems.
//!
//! One thread reads the documents first, in order. Then several threads read all other blobs, each byte once: they hash
//! the stored bytes, unpack layers and hash them again. Problems that follow from another one are not reported: a blob
//! that does not match its digest is not unpacked.

mod advice;
mod blobs;
mod documents;
mod facts;
mod report;

use std::collections::{BTreeMap, BTreeSet};

use crate::model::Digest;
use crate::store::{LeftOut, Store};

use super::TransferError;
use super::events::Observer;

pub use advice::Advice;
pub use report::{Fault, Problem, RootReport, VerifyReport};

/// Checks everything reachable from the roots of a store, with at most `threads` threads.
///
/// Shape: problems of documents first, then of other blobs, each in the order they are referred to; the same for
/// every number of threads.
/// Errors: the server that the store is read from failed, which says nothing about the store.
/// Cost: reads each blob once; memory does not grow with the blobs. Stops early when the process is cancelled,
/// which the caller can ask [`crate::stream::cancel::is_cancelled`]; the report then says nothing about the rest.
pub fn verify(store: &Store, threads: usize, observer: &dyn Observer) -> Result<VerifyReport, TransferError> {
    let mut walk = documents::Walk::new(store, observer);
    walk.run()?;
    let documents::Walk {
        mut problems, mut tasks, seen, absent, sparse, documents, mut bytes, facts, ..
    } = walk;
    let referred = tasks.len() as u64;
    // If the user selected one image, the others are not checked.
    let all = if store.is_narrowed() { Vec::new() } else { store.blobs() };
    let unreferenced: BTreeSet<Digest> =
        all.into_iter().filter(|digest| !seen.contains_key(digest)).collect();
    tasks.extend(unreferenced.iter().map(|digest| documents::BlobTask::unreferenced(store, digest)));
    let (found, read) = blobs::check(store, &tasks, threads, observer)?;
    problems.extend(found);
    bytes += read;
    // A blob that was left out on purpose is no damage.
    let lacking: BTreeMap<&Digest, &LeftOut> = store.lacking().map(|blob| (&blob.digest, blob)).collect();
    let is_needed =
        |problem: &Problem| problem.fault == Fault::Missing && lacking.contains_key(&problem.blob);
    let (needed, problems): (Vec<Problem>, Vec<Problem>) = problems.into_iter().partition(is_needed);
    let needs =
        needed.iter().filter_map(|problem| lacking.get(&problem.blob)).map(|blob| (*blob).clone()).collect();
    let mut warnings = advice::about(store, &unreferenced, &absent);
    if let Some(advice) = Advice::of_sparse(sparse) {
        warnings.push(advice);
    }
    warnings.extend(facts.warnings);
    Ok(VerifyReport {
        path: store.path().display().to_string(),
        format: store.kind().name(),
        roots: store.roots().iter().map(|root| RootReport::of(store, root)).collect(),
        documents,
        blobs: referred,
        bytes,
        needs,
        problems,
        warnings,
    })
}

//! What a writer does so that nothing it needs is deleted before its entries are there: it looks at what a collection
//! is about to delete, objects where it needs that, and waits for one that deletes now.
//!
//! A writer objects and then looks for a collection; a collection says that it began and then looks for objections. One
//! of them sees the other, without locks, conditions or a clock of their own.

use std::collections::HashSet;
use std::thread;

use crate::model::Digest;
use crate::stream::cancel;

use super::marks::keep_key;
use super::version::PushTime;
use super::{Depot, DepotError};

/// How often a push that takes too long is begun again.
pub(super) const ATTEMPTS: u32 = 5;

/// Keeps the blobs that a writer needs until its entries are written.
#[derive(Clone, Copy, Debug)]
pub struct Protection {
    since: PushTime,
}

impl Depot {
    /// Makes sure that what is needed, and what is written from now on, stays until the entries are written.
    ///
    /// `waiting` is called when a collection is waited for. Has to be called before the writer asks what is there.
    /// Cost: one list where no collection is due.
    pub fn protect(&self, needed: &[&Digest], waiting: &dyn Fn()) -> Result<Protection, DepotError> {
        let since = self.objects.now()?;
        let mut known = HashSet::new();
        let mut waited = false;
        loop {
            let marks = self.marks()?;
            let now = self.objects.now()?;
            if marks.started.iter().any(|started| started.since.age(now) < self.timing.started) {
                if !waited {
                    waiting();
                }
                waited = true;
                thread::sleep(self.timing.pause);
                if cancel::is_cancelled() {
                    return Err(DepotError::Cancelled);
                }
                continue;
            }
            let new: Vec<_> = marks.lists.into_iter().filter(|list| known.insert(list.id.clone())).collect();
            if new.is_empty() {
                return Ok(Protection { since });
            }
            for list in new {
                let Some(listed) = self.listed(&list.id)? else { continue };
                for digest in needed.iter().filter(|digest| listed.contains(**digest)) {
                    self.objects.write(&keep_key(&list.id, digest), &[])?;
                }
            }
        }
    }

    /// Tells whether entries may be written: a push that took long has to look at everything again.
    ///
    /// Errors: [`DepotError::Slow`] after several attempts.
    pub fn is_protected(&self, protection: Protection, attempt: u32) -> Result<bool, DepotError> {
        let limit = self.timing.push;
        let is_protected = protection.since.age(self.objects.now()?) <= limit;
        match !is_protected && attempt >= ATTEMPTS {
            true => Err(DepotError::Slow { place: self.label(), attempts: attempt, limit }),
            false => Ok(is_protected),
        }
    }
}

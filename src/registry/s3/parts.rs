//! Bounds the memory of uploads in parts: each part is in memory while it is sent.

use std::sync::{Condvar, Mutex, PoisonError};

use crate::stream::lock;

/// Parts of all objects that are in memory at the same time.
const IN_MEMORY: usize = 16;

/// Bounds the parts that are in memory.
#[derive(Debug)]
pub(super) struct Parts {
    left: Mutex<usize>,
    more: Condvar,
}

/// The place of one part, until it is dropped.
pub(super) struct PartPermit<'a>(&'a Parts);

impl Default for Parts {
    fn default() -> Self {
        Self { left: Mutex::new(IN_MEMORY), more: Condvar::new() }
    }
}

impl Parts {
    /// Waits until there is a place. Each part that has one is sent without any other part, so that the wait ends.
    pub(super) fn take(&self) -> PartPermit<'_> {
        let mut left = lock(&self.left);
        while *left == 0 {
            left = self.more.wait(left).unwrap_or_else(PoisonError::into_inner);
        }
        *left -= 1;
        PartPermit(self)
    }
}

impl Drop for PartPermit<'_> {
    fn drop(&mut self) {
        *lock(&self.0.left) += 1;
        self.0.more.notify_one();
    }
}
